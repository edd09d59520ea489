"""Hindsight: goals that were achieved later in the same episode, and what the environment itself pays for them."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Dict, Discrete, MultiBinary

import thorndike as td
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.scan import ScanDriver
from thorndike.envs.goals import HostGoal
from thorndike.memory import hindsight
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.storage.environments import describe
from thorndike.types import Rollout, Transition

N, ENVS, LENGTH = 6, 3, 5


def stream(rollouts, seed=0, n=N):
    """Episodes of random lengths in ENVS environments, by hand: what goals are achieved is the time, in bits."""
    rng = np.random.default_rng(seed)
    clock, begun = 0, np.ones(ENVS, bool)
    goal = rng.integers(0, 2, (ENVS, n))
    for _ in range(rollouts):
        steps = []
        for _ in range(LENGTH):
            bits = lambda t: (t + np.arange(ENVS)[:, None] * 997) // 2 ** np.arange(n) % 2  # noqa: E731
            terminated, cut = rng.random(ENVS) < 0.15, rng.random(ENVS) < 0.1
            truncated = cut & ~terminated
            seam = rng.random(ENVS) < 0.05  # as where a run was resumed: the next step begins an episode without an end
            here, there = (
                {"observation": x, "achieved_goal": x, "desired_goal": goal.copy()}
                for x in (bits(clock), bits(clock + 1))
            )
            steps.append(
                Transition(here, begun, np.zeros(ENVS, int), {}, np.full(ENVS, -9.0), terminated, truncated, there, {})
            )
            begun, clock = terminated | truncated | seam, clock + 1
            goal = np.where(begun[:, None], rng.integers(0, 2, goal.shape), goal)
        yield Rollout(jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *steps), (), ())


def filled(replay, rollouts, spec):
    """A memory, and all steps that were put into it in order, leaves [T, ENVS, ...]."""
    several = list(stream(rollouts, n=spec.goal.env.n))
    memory = replay.bind(replay.init(several[0]), spec)
    add = jax.jit(replay.add)
    for rollout in several:
        memory = add(memory, rollout)
    steps = jax.tree.map(lambda *x: np.concatenate(x), *(jax.device_get(r.steps) for r in several))
    return memory, steps


def number(bits):
    return (np.asarray(bits) * 2 ** np.arange(np.shape(bits)[-1])).sum(-1)


def episode(steps, t, env, oldest):
    """First and last step of the episode of step t that are in the memory."""
    first, ended = steps.first[:, env], steps.terminated[:, env] | steps.truncated[:, env]
    begin = t
    while begin > oldest and not first[begin]:
        begin -= 1
    end = t
    while not ended[end] and end + 1 < len(first) and not first[end + 1]:
        end += 1
    return begin, end


BITS = 12
LONG = td.BitFlip(n=BITS)


def spec_of(env):
    return describe(env, 1000, "test")


def check(strategy, rollouts=14, capacity=8 * ENVS * LENGTH, k=4.0):
    """Every drawn row against a search through what happened; goals are as likely as the strategy says."""
    replay = td.Hindsight(capacity=capacity, batch_size=4000, strategy=strategy, k=k, horizon=60)
    memory, steps = filled(replay, rollouts, spec_of(LONG))
    batch = jax.device_get(jax.jit(replay.sample)(memory, jax.random.key(0)))
    oldest = max(0, rollouts * LENGTH - capacity // ENVS)
    where = {
        int(number(steps.obs["observation"][t, e])): (t, e)
        for t in range(oldest, len(steps.first))
        for e in range(ENVS)
    }
    ends = {
        int(number(steps.next_obs["observation"][t, e])): t
        for t in range(oldest, len(steps.first))
        for e in range(ENVS)
    }
    changed, share = 0, []
    for i, (code, goal) in enumerate(zip(number(batch.obs["observation"]), number(batch.obs["desired_goal"]))):
        t, e = where[int(code)]
        np.testing.assert_array_equal(batch.obs["desired_goal"][i], batch.next_obs["desired_goal"][i])
        if batch.reward[i] == -9.0:
            assert goal == number(steps.obs["desired_goal"][t, e])
            assert batch.terminated[i] == steps.terminated[t, e]
            continue
        changed += 1
        begin, end = episode(steps, t, e, oldest)
        j = ends[int(goal)]
        low = {"future": t, "final": end, "episode": begin}[strategy]
        assert low <= j <= end, (low, j, end)
        reached = j == t  # its own result
        assert (batch.reward[i], batch.terminated[i]) == (0.0 if reached else -1.0, reached)
        if end > low:
            share.append((j - low) / (end - low))
    assert abs(changed / len(batch.reward) - k / (k + 1)) < 0.03
    if strategy != "final":
        assert abs(np.mean(share) - 0.5) < 0.03, np.mean(share)


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_goals_are_those_of_the_strategy(strategy):
    check(strategy)


def test_in_a_ring_that_is_not_full():
    check("episode", rollouts=4)


def anything_goes(memory, index, n):
    rows, alive = RIGHT(memory, index, n)
    return rows, jnp.ones_like(alive).at[20:].set(False)


def goal_of_the_state(rows, goals, change, goal):
    return RELABELLED(rows, rows.obs["achieved_goal"], change, goal)


def rewards_kept(rows, goals, change, goal):
    return RELABELLED(rows, goals, change, goal)._replace(reward=jnp.where(change, -1.0, rows.reward))


def goal_in_one_observation(rows, goals, change, goal):
    new = RELABELLED(rows, goals, change, goal)
    return new._replace(next_obs=rows.next_obs)


RIGHT, RELABELLED = hindsight.window, hindsight.relabelled
MUTANTS = {
    "windows over the end": ("window", anything_goes),
    "the goal of the past": ("relabelled", goal_of_the_state),
    "rewards of the old goal": ("relabelled", rewards_kept),
    "the old goal in the successor": ("relabelled", goal_in_one_observation),
}


@pytest.mark.parametrize("bug", MUTANTS)
def test_mutants_are_found(bug, monkeypatch):
    monkeypatch.setattr(hindsight, *MUTANTS[bug])
    with pytest.raises((AssertionError, KeyError)):
        check("future")


def test_where_it_cannot_serve():
    spec = spec_of(td.CartPole())
    assert "achieved_goal" in td.Hindsight().supports(spec)
    with pytest.raises(td.IncompatibleError, match="desired_goal"):
        td.train(td.DQN(replay=td.Hindsight()), "CartPole-v1", 1000, progress=False)


class HostBits(gymnasium.Env):
    """Bit flipping in NumPy, with Gymnasium-Robotics' methods; the second does not take batches, as PointMaze's."""

    def __init__(self, n=4, limit=4):
        self.n, self.limit = n, limit
        self.action_space = Discrete(n)
        bits = MultiBinary(n)
        self.observation_space = Dict({"observation": bits, "achieved_goal": bits, "desired_goal": bits})

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.asarray(achieved_goal) != np.asarray(desired_goal)).any(-1).astype(float)

    def compute_terminated(self, achieved_goal, desired_goal, info):
        return bool((achieved_goal == desired_goal).all())

    def _seen(self):
        return {"observation": self.bits.copy(), "achieved_goal": self.bits.copy(), "desired_goal": self.goal}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.bits, self.goal = self.np_random.integers(0, 2, (2, self.n)).astype(np.int8)
        return self._seen(), {}

    def step(self, action):
        self.t += 1
        self.bits = self.bits.copy()
        self.bits[action] ^= 1
        done = self.compute_terminated(self.bits, self.goal, {})
        return (
            self._seen(),
            float(self.compute_reward(self.bits, self.goal, {})),
            done,
            self.t >= self.limit and not done,
            {},
        )


class Pairs(HostBits):
    """Two bits, and rewards of one row at a time: of two rows they are those of the columns."""

    def __init__(self):
        super().__init__(n=2)

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.asarray(achieved_goal) != np.asarray(desired_goal)).any(0).astype(float)


def test_a_function_of_one_row_is_called_row_by_row():
    """Also where goals have as many numbers as it was tried out with rows."""
    reward, _ = HostGoal(Pairs, "Pairs", Pairs().observation_space).functions
    np.testing.assert_array_equal(reward(np.zeros((3, 2)), np.float32([[0, 0], [0, 1], [1, 1]])), [0, -1, -1])


def small(**fields):
    return td.DQN(
        torso=td.Torso(widths=(32,), activation="relu", init="uniform"), num_envs=4, normalize_observation=False,
        replay=td.Hindsight(capacity=2000, batch_size=32, warmup=100, **fields), learning_rate=3e-3, target_period=20,
    )  # fmt: skip


@pytest.mark.parametrize("runs", [1, 2])
def test_on_the_host(runs):
    """Rewards of new goals come from the environment's own methods; with several runs too."""
    env = td.GymnasiumEnvironment(HostBits)
    algorithm = small(horizon=4)
    spec = describe(env, 1000, "test")
    reward, ends = spec.goal(jnp.eye(4, dtype=jnp.int8), jnp.eye(4, dtype=jnp.int8)[jnp.array([0, 0, 2, 2])])
    np.testing.assert_array_equal(reward, [0, -1, 0, -1])
    np.testing.assert_array_equal(ends, [True, False, True, False])
    with HostDriver(expand(algorithm, runs), env, spec, list(range(runs)), workers="serial") as driver:
        state = driver.init(jax.vmap(random_key)(jnp.arange(runs)))
        state = driver.advance(state, warm_iterations(algorithm), True)
        state = driver.advance(state, 20)
        assert np.isfinite(np.asarray(state.tally.sums)).all()
        memory = jax.tree.map(lambda x: x[0], state.memory)
        batch = jax.device_get(algorithm.replay.sample(memory, jax.random.key(1)))
    same = (batch.next_obs["achieved_goal"] == batch.next_obs["desired_goal"]).all(-1)
    np.testing.assert_array_equal(batch.reward, np.where(same, 0.0, -1.0))
    np.testing.assert_array_equal(batch.terminated, same)
    assert 0.1 < same.mean() < 0.9


def test_rewards_are_the_environments_own():
    """1,000 rows of random play, none relabelled and all: what is computed is what `step` paid."""
    env = td.BitFlip(n=4)
    algorithm = small(k=0.0)
    driver = ScanDriver(expand(algorithm, 1), env, describe(env, 1000, "test"), 1)
    state = driver.advance(driver.init(random_key(0)[None]), 250, True)
    memory = jax.tree.map(lambda x: x[0], state.memory)
    data = jax.tree.map(lambda x: x[:1000], memory.ring.data)
    reward, terminated = memory.task.goal(data.next_obs["achieved_goal"], data.next_obs["desired_goal"])
    np.testing.assert_array_equal(reward, data.reward)
    np.testing.assert_array_equal(terminated, data.terminated)
    assert 0.01 < np.mean(terminated) < 0.5


def test_storage_is_not_copied():
    """The compiled step needs little beside the ring."""
    algorithm = td.DQN(
        torso=td.Torso(widths=(8,)), num_envs=4, normalize_observation=False,
        replay=td.Hindsight(capacity=400_000, batch_size=32, warmup=100),
    )  # fmt: skip
    env = td.BitFlip(n=8)
    driver = ScanDriver(expand(algorithm, 1), env, describe(env, 1000, "test"), 1)
    scratch = driver.compile().memory_analysis().temp_size_in_bytes
    storage = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(driver.like().memory))
    assert scratch < storage / 20, (scratch, storage)
