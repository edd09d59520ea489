"""Hindsight experience replay (Andrychowicz et al. 2017): failures relabelled as successes at what they achieved."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.domains import NonNegative
from thorndike.envs.goals import ACHIEVED, DESIRED, has_goals
from thorndike.memory.ring import Memory, check_sizes, empty_ring, write_rows
from thorndike.memory.windows import earlier, window
from thorndike.text import brief
from thorndike.types import Array, PyTree, Rollout, Spec, Transition


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Task:
    """What relabelling has to know of the environment; no array, so no file holds it."""

    goal: Any  # (achieved, desired) -> rewards, terminations; see `thorndike.envs.goals`
    horizon: int  # steps of an episode at most


class HindsightMemory(NamedTuple):
    """A ring of transitions as they happened, and the task."""

    ring: Memory
    task: Task | tuple[()]


@config
class Hindsight:
    """Uniform replay in which k of k + 1 transitions are drawn with another goal, one that was achieved.

    g' = achieved(s_{j+1}) of a step j of the same episode; r' and terminated' are those of (s_{t+1}, g'). Goals are
    changed as batches are drawn, so nothing is stored twice. What is drawn from an episode that is still under way
    knows the steps so far.
    """

    capacity: int = 100_000  # transitions, rounded up to a multiple of what one rollout brings
    batch_size: int = 128
    warmup: int = 1_000  # transitions gathered by uniformly random actions before the first update
    strategy: Literal["future", "final", "episode"] = "future"  # j: at t or later; the last step; any step
    k: NonNegative = 4.0  # relabelled transitions for each that is left as it was; 0: none
    horizon: int | None = None  # steps of an episode at most; None: the environment's time limit

    def check(self) -> None:
        """Sizes are positive, and the warm-up fits in."""
        check_sizes(self.capacity, self.batch_size, self.warmup)
        require(self.horizon is None or self.horizon > 0, f"replay.horizon must be positive, got {self.horizon}")

    def supports(self, spec: Spec) -> str | None:
        """Goals that can be exchanged, and episodes of a known length at most."""
        if not has_goals(spec.observation):
            return (
                "Hindsight changes goals, and needs observations that are a Dict with observation, achieved_goal and "
                f"desired_goal, not {brief(spec.observation)}"
            )
        if spec.goal is None:
            return (
                "Hindsight needs an environment with a method compute_reward(achieved_goal, desired_goal, info), "
                "and, where goals end episodes, compute_terminated"
            )
        if self.horizon is None and spec.horizon is None:
            return "Hindsight needs to know how long episodes are: set replay.horizon to their most steps"
        return None

    def init(self, example: Rollout) -> HindsightMemory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...]); `bind` tells it the task."""
        ring = empty_ring(jax.eval_shape(_rows, example.steps), self.capacity)
        return HindsightMemory(ring._replace(stride=jnp.int32(example.steps.reward.shape[1])), ())

    def bind(self, memory: HindsightMemory, spec: Spec) -> HindsightMemory:
        """The memory of an environment; raises `ConfigError` where that has no goals to exchange."""
        problem = self.supports(spec)
        require(problem is None, str(problem))
        return memory._replace(task=Task(spec.goal, self.horizon or spec.horizon))  # type: ignore[arg-type]

    def add(self, memory: HindsightMemory, rollout: Rollout) -> HindsightMemory:
        """Write a rollout [T, E, ...] over the oldest rows."""
        return memory._replace(ring=write_rows(memory.ring, _rows(rollout.steps)))

    def sample(self, memory: HindsightMemory, key: Array) -> Transition:
        """A batch [B, ...], uniform with replacement, with goals changed."""
        ring, task = memory
        assert isinstance(task, Task)
        pick, when, coin = jax.random.split(key, 3)
        index = jax.random.randint(pick, (self.batch_size,), 0, ring.size)
        source = (index + self.shift(ring, index, task.horizon, when) * ring.stride) % ring.data.reward.shape[0]
        rows: Transition = jax.tree.map(lambda x: x[index], ring.data)
        change = jax.random.uniform(coin, index.shape) < self.k / (self.k + 1.0)
        return relabelled(rows, ring.data.next_obs[ACHIEVED][source], change, task.goal)

    def shift(self, ring: Memory, index: Array, horizon: int, key: Array) -> Array:
        """How many steps after the rows `index` [B] the step is whose result becomes the goal, [B]."""
        left = window(ring, index, horizon)[1].sum(0)  # steps to the episode's end
        if self.strategy == "final":
            return left
        gone = earlier(ring, index, horizon) if self.strategy == "episode" else 0
        u = jax.random.uniform(key, index.shape)
        return jnp.floor(u * (gone + left + 1)).astype(jnp.int32) - gone


def relabelled(rows: Transition, goals: PyTree, change: Array, goal: Any) -> Transition:
    """Transitions [B, ...] with the `goals` [B, ...] where `change` [B] says so, and with what those are worth."""
    reward, terminated = goal(rows.next_obs[ACHIEVED], goals)
    wide = change.reshape(change.shape + (1,) * (goals.ndim - 1))
    desired = jnp.where(wide, goals, rows.obs[DESIRED])
    return rows._replace(
        obs={**rows.obs, DESIRED: desired},
        next_obs={**rows.next_obs, DESIRED: desired},
        reward=jnp.where(change, reward, rows.reward),
        terminated=rows.terminated if terminated is None else jnp.where(change, terminated, rows.terminated),
        first=(),  # type: ignore[arg-type]
        truncated=(),  # type: ignore[arg-type]
    )


def _rows(steps: Transition) -> PyTree:
    """A rollout's transitions one below the other, [T·E, ...]."""
    return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), steps)
