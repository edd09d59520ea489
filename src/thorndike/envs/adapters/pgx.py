"""Games of pgx (Koyamada et al. 2023), compiled: board games in which two players take turns, and MinAtar."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary

from thorndike.configuration import check, config, require
from thorndike.errors import ConfigError, UnknownNameError
from thorndike.extras import importing
from thorndike.names import did_you_mean
from thorndike.types import Array, PyTree, Step


@cache
def load(name: str, options: tuple = ()) -> Any:
    """pgx's own game; raises `MissingExtraError`, `UnknownNameError` and `ConfigError`."""
    with jax.ensure_compile_time_eval():  # pgx makes arrays when it is imported: they must not belong to a trace
        if name.startswith("minatar"):  # these are a package of their own, which brings pgx
            with importing("pgx_minatar", f"pgx/{name}"):
                import pgx_minatar  # noqa: F401
        with importing("pgx", f"pgx/{name}"):
            import pgx
        known = pgx.available_envs()
        if name not in known:
            raise UnknownNameError(f"pgx has no game {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}")
        try:
            game = pgx.make(name)  # type: ignore[arg-type]
            if not options:
                return game
            if type(game)().observation_shape != game.observation_shape:  # go_9x9 is Go with a size
                raise ConfigError(f"pgx's {name} takes no options: its id is what they would say")
            return type(game)(**dict(options))
        except TypeError as error:
            raise ConfigError(f"pgx's {name} cannot be made with {dict(options)}: {error}") from None


def make(name: str, /, max_steps: int | None = None, **options: Any) -> PgxGame:
    """The game, known to be there; raises `MissingExtraError`, `UnknownNameError` and `ConfigError`.

    Options are arguments of pgx's class: MinAtar's `sticky_action_prob` (0.1) and `use_minimal_action_set` (True).
    """
    limit = 10_000 if name.startswith("minatar") else 100_000
    pairs = tuple(sorted(options.items()))
    game = PgxGame(name=name, options=pairs, max_steps=limit if max_steps is None else max_steps)
    check(game)
    return game


@config
class PgxGame:
    """The game `name`. Observations are the mover's view, the reward is the mover's; `info["mask"]`: legal moves."""

    name: str = "tic_tac_toe"
    options: tuple = ()  # pairs of name and value, for pgx's class
    max_steps: int = 100_000  # board games end long before by their rules; MinAtar may not, but for Freeway's own clock

    def check(self) -> None:
        """pgx has it, and an episode has at least one step."""
        require(self.max_steps > 0, f"max_steps must be positive, got {self.max_steps}")
        for key, value in self.options:
            require(
                isinstance(value, (bool, int, float)), f"{key} of pgx's {self.name} must be a number, got {value!r}"
            )
        self._game  # noqa: B018  # raises for what pgx has not

    @property
    def _game(self) -> Any:
        return load(self.name, self.options)

    @property
    def players(self) -> int:
        """How many take turns."""
        return self._game.num_players

    @property
    def perfect(self) -> bool:
        """Whether both players see everything, nothing is left to chance, and a result is 1, 0 or -1."""
        return self.name not in ("backgammon", "kuhn_poker", "leduc_holdem")

    @property
    def observation_space(self) -> Space:
        """Planes of 0 and 1, or numbers; of one position as its mover sees it."""
        seen = jax.eval_shape(self._game.init, jax.random.key(0)).observation
        return MultiBinary(seen.shape) if seen.dtype == bool else Box(-np.inf, np.inf, seen.shape)

    @property
    def action_space(self) -> Discrete:
        """Moves."""
        return Discrete(self._game.num_actions)

    def reset(self, key: Array) -> Step:
        """The position that a game begins with."""
        return self._show(self._game.init(key))

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """The position after a move, and what the move brought the one who made it."""
        after = self._game.step(state, action, key)  # the dice of backgammon, the enemies of MinAtar
        return self._show(after, after.rewards[state.current_player])

    def player(self, state: PyTree) -> Array:
        """Whose move it is: 0 or 1."""
        return state.current_player

    def _show(self, state: PyTree, reward: Any = 0.0) -> Step:
        obs = jnp.asarray(state.observation, self.observation_space.dtype)
        return Step(state, obs, reward, state.terminated | state.truncated, {"mask": state.legal_action_mask})
