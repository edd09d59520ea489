"""`thorndike check`: whether an environment or an algorithm keeps its contract."""

import sys

from thorndike.commands.opening import parse
from thorndike.own_modules import arguments, on_path


def check(thing: str, /, env_kwargs: tuple[str, ...] = ()) -> None:
    """Try an environment or an algorithm of your own, and say line by line whether it does what training relies on.

    Args:
        thing: ./my_env.py:MyEnv, ./my_algorithm.py:MyAlgorithm, an id such as CartPole-v1, or a name such as ppo
        env_kwargs: arguments of the environment: --env-kwargs size=5 name=big
    """
    from thorndike.checks import check as ask
    from thorndike.runs.training.setup import prepare_jax

    found = _found(on_path(thing))
    prepare_jax()
    report = ask(found, **arguments(env_kwargs))
    print(report)
    if not report.ok:
        sys.exit(1)


def _found(name: str) -> object:
    """The algorithm's class, or the environment's id."""
    from thorndike.algorithms import algorithm_class, entry_of
    from thorndike.envs import known, make
    from thorndike.errors import UnknownNameError

    if ":" in name:
        from thorndike.envs.adapters.gymnasium import own_module

        thing = getattr(own_module(name), name.rpartition(":")[2], None)
        return thing if hasattr(thing, "act") else name
    try:
        return algorithm_class(entry_of(name).name)
    except UnknownNameError:
        if not known(name):
            make(name)  # which says what may be meant
        return name


def main(words: list[str]) -> None:
    """The command."""
    parse(check, words)
