"""One user of an agent among several: a memory and random numbers of its own, safe to call from any thread."""

from __future__ import annotations

import copy
import threading
from typing import Any


class Session:
    """What `Agent.session` gives. Calls of one session wait for each other; sessions do not."""

    def __init__(self, agent: Any, seed: int = 0):
        self._agent, self._lock = copy.copy(agent), threading.Lock()
        self._agent.reset(seed)

    def act(self, obs: Any, explore: bool = False, mask: Any = None, first: Any = False) -> Any:
        """As `Agent.act`."""
        with self._lock:
            return self._agent.act(obs, explore, mask, first)

    def look(self, obs: Any, mask: Any = None, first: Any = False, explore: bool = False) -> dict[str, Any]:
        """As `Agent.look`."""
        with self._lock:
            return self._agent.look(obs, mask, first, explore)

    def reset(self, seed: int = 0) -> None:
        """Forget what was seen, and restart the random numbers."""
        with self._lock:
            self._agent.reset(seed)

    def __repr__(self) -> str:
        return f"Session({self._agent!r})"
