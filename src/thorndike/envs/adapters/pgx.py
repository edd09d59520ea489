"""Games of pgx (Koyamada et al. 2023), compiled: board games in which two players take turns, and MinAtar."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary

from thorndike.configuration import config
from thorndike.errors import MissingExtraError, UnknownNameError
from thorndike.names import did_you_mean
from thorndike.types import Array, PyTree, Step


@cache
def load(name: str) -> Any:
    """pgx's own game; raises `MissingExtraError` and `UnknownNameError`."""
    with jax.ensure_compile_time_eval():  # pgx makes arrays when it is imported: they must not belong to a trace
        try:
            import pgx
        except ImportError:
            raise MissingExtraError('board games need pgx: pip install "thorndike[boards]"') from None
        known = pgx.available_envs()
        if name not in known:
            raise UnknownNameError(f"pgx has no game {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}")
        try:
            return pgx.make(name)  # type: ignore[arg-type]
        except ImportError:
            raise MissingExtraError(f'pgx\'s {name} needs another package: pip install "thorndike[minatar]"') from None


def make(name: str, **fields: Any) -> PgxGame:
    """The game, known to be there; raises `MissingExtraError` and `UnknownNameError`."""
    load(name)
    return PgxGame(name=name, **fields)


@config
class PgxGame:
    """The game `name`. Observations are the mover's view, the reward is the mover's; `info["mask"]`: legal moves."""

    name: str = "tic_tac_toe"
    max_steps: int = 100_000  # the games' own rules end them long before

    @property
    def players(self) -> int:
        """How many take turns."""
        return load(self.name).num_players

    @property
    def perfect(self) -> bool:
        """Whether both players see everything, nothing is left to chance, and a result is 1, 0 or -1."""
        return self.name not in ("backgammon", "kuhn_poker", "leduc_holdem")

    @property
    def masked(self) -> bool:
        """Always: `info["mask"]` says which moves are legal."""
        return True

    @property
    def observation_space(self) -> Space:
        """Planes of 0 and 1, or numbers; of one position as its mover sees it."""
        seen = jax.eval_shape(load(self.name).init, jax.random.key(0)).observation
        return MultiBinary(seen.shape) if seen.dtype == bool else Box(-np.inf, np.inf, seen.shape)

    @property
    def action_space(self) -> Discrete:
        """Moves."""
        return Discrete(load(self.name).num_actions)

    def reset(self, key: Array) -> Step:
        """The position that a game begins with."""
        return self._show(load(self.name).init(key))

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """The position after a move, and what the move brought the one who made it."""
        after = load(self.name).step(state, action, key)  # the dice of backgammon, the enemies of MinAtar
        return self._show(after, after.rewards[state.current_player])

    def player(self, state: PyTree) -> Array:
        """Whose move it is: 0 or 1."""
        return state.current_player

    def _show(self, state: PyTree, reward: Any = 0.0) -> Step:
        obs = jnp.asarray(state.observation, self.observation_space.dtype)
        return Step(state, obs, reward, state.terminated | state.truncated, {"mask": state.legal_action_mask})
