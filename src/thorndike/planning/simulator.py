"""The environment as the model of a planner, inside an algorithm's state."""

from __future__ import annotations

from typing import Any

import equinox as eqx


class Rules(eqx.Module):
    """The environment that an algorithm looks ahead with, as a constant of the state's structure.

    Its numbers are not learned, and no file of an agent holds them.
    """

    env: Any = eqx.field(static=True)
