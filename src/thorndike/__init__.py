"""Thorndike: deep reinforcement learning in JAX.

    import thorndike as td

    run = td.train("ppo", "CartPole-v1", steps=100_000)
    print(run.evaluate(episodes=100))
    run.watch()

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import Any

from thorndike.exports import VERSION as __version__
from thorndike.exports import find, homes

__all__ = sorted(homes())  # `__init__.pyi` spells them out for editors and type checkers


def __getattr__(name: str) -> Any:
    value = find(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
