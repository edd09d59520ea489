"""`thorndike list`: algorithms and environments."""

from __future__ import annotations

import dataclasses
from json import dumps
from typing import Any, Literal

from thorndike.algorithms import entries
from thorndike.commands.opening import parse
from thorndike.own_modules import arguments, on_path


def list_(
    what: Literal["all", "algorithms", "environments"] = "all",
    /,
    env: str | None = None,
    env_kwargs: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """List algorithms, and environments that are built in or that Gymnasium has here.

    Args:
        what: algorithms or environments; both by default
        env: an environment: list which algorithms can learn in it, which to try first, and why not the others
        env_kwargs: arguments of that environment: --env-kwargs size=5 name=big
        json: print JSON
    """
    if env is not None:
        _for_environment(env, arguments(env_kwargs), json)
        return
    import gymnasium

    from thorndike.envs import ADAPTERS, BUILT_IN

    algorithms = {name: entry.summary for name, entry in entries().items()}
    registered = sorted(name for name in gymnasium.registry if not name.startswith(("phys2d/", "tabular/", "GymV")))
    if json:
        found = {"algorithms": algorithms, "environments": {"built in": list(BUILT_IN), "gymnasium": registered}}
        print(dumps(found if what == "all" else found[what]))
        return
    if what != "environments":
        print("algorithms")
        for name, line in algorithms.items():
            print(f"  {name:16} {line}")
    if what != "algorithms":
        print("environments, built in (JAX)\n  " + "\n  ".join(BUILT_IN))
        print("environments, Gymnasium's (prefix gymnasium/ to force it)")
        print("  " + "\n  ".join(name for name in registered if name not in BUILT_IN))
        print("environments of other libraries, by their prefix\n  " + "\n  ".join(f"{name}/" for name in ADAPTERS))


def _for_environment(env: str, kwargs: dict[str, Any], json: bool) -> None:
    """Every algorithm for one environment."""
    from thorndike.choosing import choices
    from thorndike.envs import full_id, make
    from thorndike.text import columns, wrapped

    id = full_id(on_path(env))
    world = make(id, **kwargs)
    found = choices(world, id)
    if json:
        print(dumps([dataclasses.asdict(choice) for choice in found]))
        return
    limit = getattr(world, "max_steps", None)
    seen, done = (short(space) for space in (world.observation_space, world.action_space))
    time = f"at most {limit} steps an episode" if limit else "no time limit"
    print(f"{env}: observations {seen}, actions {done}, {time}")
    groups = {
        "try first: settings for it are known": [x for x in found if x.preset and not x.problem],
        "can learn it, with their defaults": [x for x in found if not (x.preset or x.problem or x.offline)],
        "from recorded episodes (--dataset DIR)": [x for x in found if x.offline and not (x.preset or x.problem)],
    }
    for title, group in groups.items():
        if group:
            print(f"\n{title}")
            print(columns([(x.name, x.summary) for x in group]))
    reasons: dict[str, list[str]] = {}
    for x in found:
        if x.problem:
            reason = x.problem
            for space in (world.observation_space, world.action_space):
                reason = reason.replace(str(space), short(space))
            reasons.setdefault(reason, []).append(x.name)
    if reasons:
        print("\ncannot\n" + wrapped([f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]))
    first = next((x.name for x in found if not x.problem), None)
    if first:
        print(f"\nthorndike train {first} {env}")


def short(space: Any) -> str:
    """A space without its bounds, where it has many."""
    text = " ".join(str(space).split())
    return text if len(text) <= 60 else f"{type(space).__name__}{list(space.shape or ())}"


def main(words: list[str]) -> None:
    """The command."""
    parse(list_, words, "list")
