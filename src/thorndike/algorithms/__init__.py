"""Every algorithm: the list of their modules, and what each says of itself, read without importing any of them."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

MODULES = (  # the order in which algorithms are listed; families are folders
    "tabular.td_control",
    "tabular.dyna",
    "planning.value_iteration",
    "value.dqn",
    "value.variants",
    "value.pqn",
    "value.bootstrapped",
    "policy.reinforce",
    "policy.a2c",
    "policy.a3c",
    "policy.ppo",
    "policy.variants",
    "policy.trpo",
    "policy.impala",
    "actor_critic.sac",
    "actor_critic.discrete_sac",
    "actor_critic.redq",
    "actor_critic.tqc",
    "actor_critic.crossq",
    "actor_critic.td3",
    "exploration.go_explore",
    "planning.mpc",
    "model_based.pets",
    "model_based.mbpo",
    "hierarchical.option_critic",
    "hierarchical.feudal",
    "hierarchical.hiro",
    "model_based.dreamer",
    "search.alphazero",
    "search.alphago",
    "search.muzero",
    "meta.rl2",
    "meta.maml",
    "transfer.distillation",
    "offline.bc",
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the decorator `@algorithm(...)` of a class says, and where the class is."""

    name: str  # on the command line
    class_name: str
    module: str  # below `thorndike.algorithms`
    summary: str  # one line
    actions: str  # the action spaces it serves, in words
    aliases: tuple[str, ...] = ()  # other names that people use for it

    @property
    def family(self) -> str:
        """The folder that it is in."""
        return self.module.partition(".")[0]


_DECORATED = re.compile(r"^@algorithm\((.*?)\)\nclass (\w+)", re.MULTILINE | re.DOTALL)


@cache
def entries() -> dict[str, Entry]:
    """All algorithms by name. The arguments of `@algorithm` are literals, so the source tells them: naming an algorithm
    wrongly, or listing all of them, need not import JAX."""
    found = {}
    for module in MODULES:
        text = files(__name__).joinpath(*module.split(".")[:-1], module.split(".")[-1] + ".py").read_text("utf-8")
        for arguments, class_name in _DECORATED.findall(text):
            call: Any = ast.parse(f"algorithm({arguments})", mode="eval").body
            said = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            found[said["name"]] = Entry(class_name=class_name, module=module, **said)
    return found


def entry_of(name: str) -> Entry:
    """The algorithm called `name`, by its name, its class or an alias, in any spelling; raises `UnknownNameError`."""
    from thorndike.errors import UnknownNameError
    from thorndike.names import did_you_mean

    known: dict[str, Entry] = {}
    for entry in entries().values():
        known |= {_plain(word): entry for word in (*entry.aliases, entry.class_name)}
    known |= {_plain(entry.name): entry for entry in entries().values()}
    if _plain(name) not in known:
        names = list(entries())
        raise UnknownNameError(f"no algorithm {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}")
    return known[_plain(name)]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9+]", "", name.lower())


def algorithm_class(name: str) -> Any:
    """The class of the algorithm called `name`, or "my_module:MyClass"; raises `UnknownNameError`."""
    if ":" in name:
        from thorndike.own_modules import own_algorithm

        return own_algorithm(name)
    entry = entry_of(name)
    return getattr(importlib.import_module(f"thorndike.algorithms.{entry.module}"), entry.class_name)
