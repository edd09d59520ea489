"""An environment of which there are recorded episodes and nothing to step in."""

from __future__ import annotations

from typing import Any, NoReturn

from gymnasium import Space

from thorndike.errors import ConfigError


class Recorded:
    """The spaces of recorded episodes: enough to learn from a dataset, and to act."""

    recorded = True  # it cannot be stepped
    draws = False
    max_steps: int | None = None

    def __init__(self, observation_space: Space, action_space: Space, id: str = "recorded", masked: bool = False):
        self.observation_space, self.action_space, self.id, self.masked = observation_space, action_space, id, masked

    def batch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `ConfigError`."""
        raise ConfigError(
            f"{self.id} is known by its spaces alone, so there is nothing to play in: to evaluate, record or film its "
            "agents give an environment with these spaces, td.open_run(path, env=...)"
        )
