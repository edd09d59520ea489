"""Feudal Q-learning on grids: a manager that commands which block to enter, and workers that are paid for obeying."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, Share
from thorndike.envs.grid.grid_world import MOVES
from thorndike.envs.wrappers.base import layers
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import Epsilon, Softmax, choose_best, greedy, greedy_probabilities, legal
from thorndike.ops.returns import td_target
from thorndike.text import brief
from thorndike.types import Array, Clock, Look, Metrics, Rollout, Spec, Timestep, Transition


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Blocks:
    """A grid of cells, numbered row by row, cut into square blocks, numbered likewise."""

    rows: int
    columns: int
    size: int  # of a block's side, in cells

    @property
    def across(self) -> int:
        """How many blocks are in a row of them."""
        return -(-self.columns // self.size)

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return -(-self.rows // self.size) * self.across

    def of(self, cell: Array) -> Array:
        """The blocks of cells, of any shape."""
        row, column = cell // self.columns, cell % self.columns
        return row // self.size * self.across + column // self.size

    def command(self, before: Array, after: Array) -> Array:
        """The command that a way from one block to another carries out, of any shape; -1 where the two do not touch."""
        row, column = after // self.across - before // self.across, after % self.across - before % self.across
        fits = jnp.stack([(row == down) & (column == right) for down, right in MOVES], -1)
        return jnp.where(fits.any(-1), fits.argmax(-1), -1)


class Order(NamedTuple):
    """A command under way, [E] each."""

    command: Array  # 0 up, 1 right, 2 down, 3 left
    block: Array  # in which it was given
    steps: Array  # since then


class Account(NamedTuple):
    """What a command has earned so far, [E] each."""

    block: Array  # in which it was given
    earned: Array  # Σ_i γ^i r_i
    steps: Array  # n


class Actor(NamedTuple):
    """Both tables, the present ε or temperature, and the grid."""

    manager: Array  # [B, 4]
    worker: Array  # [S, 4, A]
    level: Array
    blocks: Blocks


class State(NamedTuple):
    """All that changes."""

    manager: Array  # of what commands are worth in blocks                     [B, 4]
    worker: Array  # of what actions are worth in cells, under each command    [S, 4, A]
    account: Account
    clock: Clock
    blocks: Blocks


@algorithm(
    name="feudal-q",
    summary="feudal Q-learning in grid worlds: a manager commands which block to enter, workers are paid for obeying",
    actions="Discrete, of GridWorld",
)
class FeudalQ:
    """Feudal Q-learning (Dayan & Hinton 1993) with one level of managers.

    The grid is cut into square blocks. The manager commands to enter the next block in one of four directions, and the
    command ends when the block is left, with the episode, or after `command_steps`: then another one follows. Rewards
    are hidden from workers, who learn to obey, and cells from the manager, who learns from rewards:

    worker:  Q(s, m, a) <- Q(s, m, a) + α [ 1(it entered the block of m) + γ_w C max_a' Q(s', m, a') - Q(s, m, a) ]
    manager: Q(b, m') <- Q(b, m') + α [ Σ_{i<n} γ^i r_i + γ^n (1 - terminated) max Q(b', ·) - Q(b, m') ]

    C is 0 where the block was left or the episode terminated. m' is the command that was carried out: the one that
    leads to the block which was entered, or the given one where none was. n counts the steps since the command.
    """

    block: int = 3  # cells of a block's side
    command_steps: int = 30  # steps after which a command that was not obeyed is given up
    learning_rate: Share = 0.5  # α
    discount: Fraction = 0.98  # γ, for each step
    worker_discount: Fraction = 0.9  # γ_w
    exploration: Epsilon | Softmax = Epsilon(start=0.1, end=None)  # of manager and workers
    num_envs: int = 1
    rollout_length: int = 1

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.block, self.command_steps, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "FeudalQ.block, command_steps, num_envs and rollout_length must be positive")

    def supports(self, spec: Spec) -> str | None:
        """Grids whose observation is the cell."""
        layout = getattr(layers(spec.model)[-1], "layout", None)
        cells = None if layout is None else layout.rows * layout.columns
        if not (isinstance(spec.observation, Discrete) and spec.observation.n == cells):
            return (
                "FeudalQ cuts a grid into blocks: it needs a GridWorld, such as LargeDynaMaze or FourRooms, whose "
                f"observation is the cell, not {spec.id or 'an environment'} with observations of "
                f"{brief(spec.observation)}"
            )
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """Tables of zeros."""
        layout, none = layers(spec.model)[-1].layout, jnp.zeros(self.num_envs, jnp.int32)
        blocks = Blocks(layout.rows, layout.columns, self.block)
        return State(
            jnp.zeros((blocks.count, len(MOVES))),
            jnp.zeros((layout.rows * layout.columns, len(MOVES), int(spec.action.n))),  # type: ignore[attr-defined]
            Account(none, jnp.zeros(self.num_envs), none),
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            blocks,
        )

    def actor(self, state: State) -> Actor:
        """Both tables and the level of exploration."""
        return Actor(state.manager, state.worker, self.exploration.level(state.clock.progress), state.blocks)

    def carry(self, actor: Actor, n: int) -> Order:
        """Commands that are over."""
        none = jnp.zeros(n, jnp.int32)
        return Order(none, none - 1, none)

    def over(self, order: Order, block: Array, first: Array) -> Array:
        """Whether a command is over, [E], where the agent is in these blocks."""
        return first | (block != order.block) | (order.steps >= self.command_steps)

    def open(self, order: Order, block: Array, first: Array) -> Array:
        """Which commands may be given next, [E, 4]: all, but for one that was given up in this block."""
        failed = ~first & (block == order.block) & (order.steps >= self.command_steps)
        return ~failed[:, None] | (jnp.arange(len(MOVES)) != order.command[:, None])

    def look(self, actor: Actor, carry: Order, now: Timestep, explore: bool) -> tuple[Look, Order]:
        """π(a | s), over all commands by how likely each is given, and what the best is worth."""
        block = actor.blocks.of(now.obs)
        values, below = actor.manager[block], actor.worker[now.obs]
        mask = self.open(carry, block, now.first)
        given = self.exploration.probabilities(values, actor.level, mask) if explore else greedy(values, mask)
        same = jax.nn.one_hot(carry.command, len(MOVES))
        commands = jnp.where(self.over(carry, block, now.first)[:, None], given, same)
        pi = self.exploration.probabilities(below, actor.level) if explore else greedy_probabilities(below, 0.0)
        return Look(Categorical(jnp.log((commands[..., None] * pi).sum(1))), values.max(-1)), carry

    def act(self, actor: Actor, carry: Order, now: Timestep, key: Array, explore: bool):
        """A new command where the last is over, and an action under it. Workers break ties at random; so does the
        manager while it explores."""
        block, (mkey, wkey) = actor.blocks.of(now.obs), jax.random.split(key)
        values, over = actor.manager[block], self.over(carry, block, now.first)
        mask = self.open(carry, block, now.first)
        given = self.exploration.choose(mkey, values, actor.level, mask) if explore else legal(values, mask).argmax(-1)
        order = Order(
            jnp.where(over, given, carry.command).astype(jnp.int32),
            jnp.where(over, block, carry.block),
            jnp.where(over, 0, carry.steps) + 1,
        )
        below = actor.worker.reshape(-1, actor.worker.shape[-1])[now.obs * len(MOVES) + order.command]
        action = self.exploration.choose(wkey, below, actor.level) if explore else choose_best(wkey, below)
        return action, order, {"command": order.command, "given": order.steps == 1}

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One update a step for workers, and one a command for the manager, in the order in which they happened."""

        def step(carry: tuple[Array, Array, Account], transition: Transition):
            manager, worker, account = carry
            worker, below = self.taught(state.blocks, worker, transition)
            account = self.paid(state.blocks, account, transition)
            manager, error, over = self.settled(state.blocks, manager, account, transition)
            mean = jnp.where(over, jnp.abs(error), 0.0).sum() / jnp.maximum(over.sum(), 1)
            told = {"td_error": mean, "q_value": manager[account.block].max(-1), "earned": account.earned} | below
            return (manager, worker, account), told

        start = (state.manager, state.worker, state.account)
        (manager, worker, account), metrics = jax.lax.scan(step, start, rollout.steps)
        return state._replace(manager=manager, worker=worker, account=account), jax.tree.map(jnp.mean, metrics)

    def wage(self, blocks: Blocks, steps: Transition) -> Array:
        """What the worker is paid, [E]: 1 for entering the block that it was commanded to."""
        entered = blocks.command(blocks.of(steps.obs), blocks.of(steps.next_obs))
        return (entered == steps.extras["command"]).astype(jnp.float32)

    def taught(self, blocks: Blocks, worker: Array, steps: Transition) -> tuple[Array, Metrics]:
        """The workers' table after a step [E], and how they fared."""
        s, after, m = steps.obs, steps.next_obs, steps.extras["command"]
        wage, ends = self.wage(blocks, steps), steps.terminated | (blocks.of(s) != blocks.of(after))
        at = (s, m, steps.action)
        error = td_target(wage, worker[after, m].max(-1), ends, self.worker_discount) - worker[at]
        return moved(worker, at, self.learning_rate * error), {"obeyed": wage, "worker_td_error": jnp.abs(error)}

    def paid(self, blocks: Blocks, account: Account, steps: Transition) -> Account:
        """The accounts with one more reward."""
        given, n = steps.extras["given"], jnp.where(steps.extras["given"], 0, account.steps)
        earned = jnp.where(given, 0.0, account.earned) + self.later(n) * steps.reward
        return Account(jnp.where(given, blocks.of(steps.obs), account.block), earned, n + 1)

    def later(self, n: Array) -> Array:
        """γ^n."""
        return jnp.float32(self.discount) ** n

    def carried_out(self, blocks: Blocks, account: Account, steps: Transition) -> Array:
        """The command that was carried out, [E]; the given one where no neighbouring block was entered."""
        entered = blocks.command(account.block, blocks.of(steps.next_obs))
        return jnp.where(entered >= 0, entered, steps.extras["command"])

    def settled(
        self, blocks: Blocks, manager: Array, account: Account, steps: Transition
    ) -> tuple[Array, Array, Array]:
        """The manager's table after a step, its errors [E], and whether a command was over, without which nothing
        moves."""
        block = blocks.of(steps.next_obs)
        over = (block != account.block) | (account.steps >= self.command_steps) | steps.ended
        target = td_target(account.earned, manager[block].max(-1), steps.terminated, self.later(account.steps))
        at = (account.block, self.carried_out(blocks, account, steps))
        error = target - manager[at]
        return moved(manager, at, self.learning_rate * error, over), error, over

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {"DynaMaze": {"steps": 20_000, "block": 2, "command_steps": 10}, "LargeDynaMaze": {"steps": 60_000}}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        exploring = Epsilon(start=0.9, end=0.1, fraction=0.9)
        few: dict[str, Any] = {"num_envs": 4, "rollout_length": 5, "block": 2, "command_steps": 3}
        return {"": (cls(**few, exploration=exploring), "GridWorld")}


def moved(table: Array, at: tuple[Array, ...], change: Array, used: Array | bool = True) -> Array:
    """A table with changes [E] added in its entries `at`; of environments that meet there, the mean. Those that are not
    `used` change nothing."""
    same = jnp.stack([x[:, None] == x for x in at]).all(0) & used
    return table.at[at].add(jnp.where(used, change, 0.0) / jnp.maximum(same.sum(1), 1))
