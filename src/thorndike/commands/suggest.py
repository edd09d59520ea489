"""`thorndike suggest`: which algorithm for an environment, and why."""

from __future__ import annotations

from thorndike.commands.opening import parse
from thorndike.own_modules import arguments, on_path


def suggest(
    env: str,
    /,
    steps: int | None = None,
    env_kwargs: tuple[str, ...] = (),
    memory: bool = False,
    dataset: bool = False,
    json: bool = False,
) -> None:
    """Say which algorithm to try on an environment, and why; a few hundred random steps are played to find out.

    Args:
        env: an id, or one of your own: ./my_env.py:MyEnv
        steps: how many environment steps can be afforded; by default many in JAX, and few on the host
        env_kwargs: arguments of that environment: --env-kwargs size=5 name=big
        memory: what was seen before has to be remembered
        dataset: there are recorded episodes, and nothing can be tried out
        json: print JSON
    """
    import dataclasses
    from json import dumps

    from thorndike.runs.training.setup import prepare_jax
    from thorndike.suggestion import suggest as ask

    prepare_jax()
    found = ask(on_path(env), steps, arguments(env_kwargs), memory, dataset)
    print(dumps(dataclasses.asdict(found)) if json else found)


def main(words: list[str]) -> None:
    """The command."""
    parse(suggest, words)
