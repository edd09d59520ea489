"""Gymnasium's environments whose rules are a table, compiled: FrozenLake, Taxi and the slippery cliff.

The table is Gymnasium's own, `unwrapped.P[state][action] = [(probability, next state, reward, terminated), ...]`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.draw import Canvas
from thorndike.envs.grid.grid_world import GridState, GridWorld, cliff_walking
from thorndike.errors import ConfigError
from thorndike.types import Array, Step


class TableState(NamedTuple):
    """The state that the environment is in, 0 to S - 1."""

    state: Array


class Table(NamedTuple):
    """The outcomes k of every action in every state [S, A, K]; those that a pair lacks have probability 0."""

    probability: np.ndarray  # [S, A, K], float64
    successor: np.ndarray  # [S, A, K], int32
    reward: np.ndarray  # [S, A, K], float64
    terminated: np.ndarray  # [S, A, K], bool
    start: np.ndarray  # probability that an episode begins in each state  [S]
    mask: np.ndarray | None  # legal actions, where the environment says which those are  [S, A]


@config
class GymnasiumTable:
    """An environment of Gymnasium whose rules are a table. The observation is the number of the state.

    `td.make("FrozenLake-v1", is_slippery=False)` makes one, with the options of Gymnasium's class.
    """

    name: Literal["FrozenLake", "Taxi", "CliffWalking"] = "FrozenLake"
    options: tuple = ()  # pairs of name and value, for Gymnasium's class
    max_steps: int = 100

    def check(self) -> None:
        """Gymnasium can make it, and an episode has at least one step."""
        require(self.max_steps > 0, f"max_steps must be positive, got {self.max_steps}")
        _ = self.table

    @property
    def table(self) -> Table:
        """The rules; raises `ConfigError` where Gymnasium cannot make the environment."""
        return _load(self.name, self.options)[1]

    @property
    def observation_space(self) -> Discrete:
        """The number of the state."""
        return Discrete(len(self.table.start))

    @property
    def action_space(self) -> Discrete:
        """Gymnasium's actions."""
        return Discrete(self.table.reward.shape[1])

    @property
    def masked(self) -> bool:
        """Whether `info["mask"]` says which actions are legal: Taxi's, those that change the state."""
        return self.table.mask is not None

    @property
    def render_fps(self) -> int:
        """Steps a second in films."""
        return 4

    def reset(self, key: Array) -> Step:
        """In a state drawn from Gymnasium's initial distribution."""
        states = np.flatnonzero(self.table.start)
        k = _draw(_cumulative(self.table.start[states]), key) if len(states) > 1 else 0
        state = jnp.asarray(states, jnp.int32)[k]
        return Step(TableState(state), state, info=self._info(state))

    def step(self, state: TableState, action: Array, key: Array) -> Step:
        """One of the outcomes of the action in the state."""
        table, at = self.table, (state.state, action)
        several = table.probability.shape[-1] > 1
        k = _draw(jnp.asarray(_cumulative(table.probability))[at], key) if several else 0
        rewards = table.reward.astype(np.float32)
        after, reward, terminated = (jnp.asarray(x)[at][k] for x in (table.successor, rewards, table.terminated))
        return Step(TableState(after), after, reward, terminated, self._info(after))

    def _info(self, state: Array) -> dict[str, Array]:
        return {} if self.table.mask is None else {"mask": jnp.asarray(self.table.mask)[state]}

    def transitions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The exact model: P [S, A, S'], expected reward R [S, A], terminal [S]; see `thorndike.types.FiniteMDP`.

        What actions do is the same whether they are legal or not, as in Gymnasium.
        """
        table, n = self.table, len(self.table.start)
        probability = np.zeros((*table.reward.shape[:2], n))
        s, a = np.ogrid[:n, : table.reward.shape[1]]
        np.add.at(probability, (s[..., None], a[..., None], table.successor), table.probability)
        reward = (table.probability * table.reward).sum(-1)
        terminal = np.zeros(n, bool)
        terminal[table.successor[table.terminated & (table.probability > 0)]] = True
        probability[terminal], reward[terminal] = np.eye(n)[terminal][:, None], 0.0
        return probability, reward, terminal

    @property
    def grid(self) -> GridWorld | None:
        """The map of FrozenLake (its holes are cliffs) or of the cliff; None for Taxi, whose states are no cells: the
        passenger and the destination are part of them."""
        if self.name == "FrozenLake":
            known = {"S": "S", "G": "G", "H": "C"}
            rows = [bytes(row).decode() for row in _load(self.name, self.options)[0].desc]
            return GridWorld(map=tuple("".join(known.get(char, ".") for char in row) for row in rows), cliff_ends=True)
        return cliff_walking() if self.name == "CliffWalking" else None

    def render(self, state: TableState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        if self.grid is not None:
            return self.grid.render(GridState(state.state))
        return _draw_taxi(_load(self.name, self.options)[0], int(state.state))

    def picture(self, q: np.ndarray, path: str | Path | None = None, limits: tuple[float, float] | None = None) -> Any:
        """Values and greedy actions of a table q [S, A] as a figure; raises `ConfigError` for Taxi."""
        from thorndike.envs.grid.picture import draw_values

        grid = self.grid
        if grid is None:
            raise ConfigError(f"{self.name}'s states are no cells of a grid: there is nothing to draw them on")
        if self.name == "CliffWalking":
            return draw_values(grid, q, path, limits)
        order = [3, 2, 1, 0]  # FrozenLake's actions are left, down, right, up; GridWorld's are up, right, down, left
        return draw_values(grid, np.asarray(q)[:, order], path, limits, cliff="hole")


def _cumulative(probability: np.ndarray) -> np.ndarray:
    """P(outcome <= k), [..., K]; exactly 1 from the last possible outcome on, so that rounding adds no other."""
    total = probability.cumsum(-1)
    last = probability.shape[-1] - 1 - (probability[..., ::-1] > 0).argmax(-1)
    return np.where(np.arange(probability.shape[-1]) >= last[..., None], 1.0, total).astype(np.float32)


def _draw(cumulative: Any, key: Array) -> Array:
    """An outcome k by its probability, for P(outcome <= k) [K]."""
    return (jax.random.uniform(key) >= cumulative).sum()


@functools.lru_cache(maxsize=64)
def _load(name: str, options: tuple) -> tuple[Any, Table]:
    """Gymnasium's environment and its table."""
    from gymnasium.envs import toy_text

    given = dict(options)
    require(
        not given.get("fickle_passenger"),
        "Taxi's fickle passenger is not in Gymnasium's table of its rules: take gymnasium/Taxi-v4",
    )
    require(
        given.get("map_name", "4x4") is not None or given.get("desc") is not None,
        "FrozenLake without map_name and desc is another map each time: give it one, such as "
        "desc=gymnasium.envs.toy_text.frozen_lake.generate_random_map(size=8, seed=0)",
    )
    try:
        with np.errstate(invalid="ignore"):
            host: Any = getattr(toy_text, f"{name}Env")(render_mode=None, **given)
        pairs = [[host.P[s][a] for a in range(host.action_space.n)] for s in range(host.observation_space.n)]
    except Exception as error:  # whatever it says of such options
        raise ConfigError(f"Gymnasium's {name} cannot be made with {given}: {type(error).__name__}: {error}") from None
    start = np.asarray(host.initial_state_distrib, float)
    require(bool(np.isclose(start.sum(), 1)), f"{name} has no start: mark a cell with S")
    most = max(len(outcomes) for row in pairs for outcomes in row)
    padded = [[[*outcomes, *[(0.0, 0, 0.0, False)] * (most - len(outcomes))] for outcomes in row] for row in pairs]
    table = np.asarray(padded, float)  # [S, A, K, 4]
    masks = [host.action_mask(s) for s in range(len(pairs))] if hasattr(host, "action_mask") else None
    return host, Table(
        table[..., 0],
        table[..., 1].astype(np.int32),
        table[..., 2],
        table[..., 3].astype(bool),
        start,
        None if masks is None else np.asarray(masks, bool),
    )


def _draw_taxi(host: Any, state: int) -> np.ndarray:
    """The four places in their colours, the destination in a frame, the passenger (blue), the taxi and the walls."""
    row, column, passenger, destination = host.decode(state)
    rows, columns = host.desc.shape[0] - 2, host.desc.shape[1] // 2
    canvas = Canvas(x=(-0.1, columns + 0.1), y=(-0.1, rows + 0.1), width=400)

    def square(at: tuple[int, int], side: float, colour: str) -> None:
        x, y, d = at[1] + 0.5, rows - at[0] - 0.5, side / 2
        canvas.polygon([(x - d, y - d), (x + d, y - d), (x + d, y + d), (x - d, y + d)], colour)

    for i, place in enumerate(host.locs):
        if i == destination:
            square(place, 1.0, "#2b3a55")
        square(place, 0.8, "#" + "".join(f"{part // 2 + 127:02x}" for part in host.locs_colors[i]))
    square((row, column), 0.55, "#e0b62c")
    at = host.locs[passenger] if passenger < len(host.locs) else (row, column)
    canvas.circle((at[1] + 0.5, rows - at[0] - 0.5), 0.16, "#3b6fb6")
    for r in range(rows):
        for c in range(columns + 1):
            wall = host.desc[1 + r, 2 * c] == b"|"
            canvas.line((c, rows - r), (c, rows - r - 1), "#2b3a55" if wall else "#e9edf2", 0.08 if wall else 0.02)
    for r in (0, rows):
        canvas.line((0, r), (columns, r), "#2b3a55", 0.08)
    return canvas.frame()


def _frozen(value: Any) -> Any:
    """Lists and arrays as tuples, which can be hashed."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _made(name: Any, max_steps: int, options: dict[str, Any]) -> GymnasiumTable:
    env = GymnasiumTable(name=name, options=_frozen(sorted(options.items())), max_steps=max_steps)
    env.check()
    return env


def frozen_lake(max_steps: int = 100, **options: Any) -> GymnasiumTable:
    """FrozenLake-v1: cross the ice to the goal, reward 1, without falling into a hole.

    Options are Gymnasium's: `map_name` ("4x4" or "8x8"), `is_slippery`, and a map of your own as rows of text, `desc`.
    """
    return _made("FrozenLake", max_steps, {"map_name": "4x4", **options})


def frozen_lake_8x8(max_steps: int = 200, **options: Any) -> GymnasiumTable:
    """FrozenLake8x8-v1."""
    return frozen_lake(max_steps, **{"map_name": "8x8", **options})


def taxi(max_steps: int = 200, **options: Any) -> GymnasiumTable:
    """Taxi-v4: fetch a passenger and bring them where they want to go (Dietterich 2000).

    Options are Gymnasium's: `is_rainy`, for one; not its fickle passenger, which its table does not know of.
    """
    return _made("Taxi", max_steps, options)


def taxi_v3(max_steps: int = 200) -> GymnasiumTable:
    """Taxi-v3, whose rules are those of Taxi-v4 without options."""
    return taxi(max_steps)


def slippery_cliff(max_steps: int = 500) -> GymnasiumTable:
    """CliffWalkingSlippery-v1: a move goes where it should, or to either side, each with 1/3.

    Gymnasium sets no time limit; the 500 steps here are ours.
    """
    return _made("CliffWalking", max_steps, {"is_slippery": True})
