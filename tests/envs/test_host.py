"""The host side: endings, parity with Gymnasium, seeds, spaces and legal actions."""

from functools import partial

import gymnasium as gym
import host_cases as cases
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from host_cases import LINE, Counter, Echo, Masked, Nested, Noise

from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.errors import ConfigError, EnvError, IncompatibleError

BACKENDS = ["serial", "process"]
ZERO = np.zeros(2, np.int32)


def flat(step):
    """All arrays of a timestep, for comparisons bit for bit."""
    return [step.obs, step.reward, step.terminated, step.truncated, step.final_obs, step.first]


def rollout(env, actions, workers, seed=0):
    with env.batch(actions.shape[1], seed, workers) as batch:
        return [flat(batch.reset())] + [flat(batch.step(action)) for action in actions]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


# --- endings and parity --------------------------------------------------------------------------------


def check_counter(batch, length=3, steps=14):
    """Time goes 1, 2, ..., length, 1, ...: no step is missing or invented, and final_obs tells the last."""
    now = batch.reset()
    assert now.first.all()
    assert not now.obs.any()
    for step in range(steps):
        now = batch.step(ZERO[: batch.num_envs])
        t, episode = step % length + 1, step // length
        end = t == length
        np.testing.assert_array_equal(now.final_obs, np.full((batch.num_envs, 1), t, np.float32))
        np.testing.assert_array_equal(now.obs, np.full((batch.num_envs, 1), 0 if end else t, np.float32))
        np.testing.assert_array_equal(now.reward, np.full(batch.num_envs, t, np.float32))
        assert (now.first == end).all()
        assert (now.terminated == (end and episode % 2 == 0)).all()
        assert (now.truncated == (end and episode % 2 == 1)).all()


@pytest.mark.parametrize("workers", BACKENDS)
def test_endings(workers):
    with GymnasiumEnvironment(Counter).batch(2, 0, workers) as batch:
        check_counter(batch)


def gymnasium_rollout(name, actions, seed=0):
    """The same by hand: plain Gymnasium environments and a reset where an episode ends."""
    envs, steps = [gym.make(name) for _ in range(actions.shape[1])], []
    obs = np.stack([env.reset(seed=seed * 10007 + i)[0] for i, env in enumerate(envs)]).astype(np.float32)
    no = np.zeros(len(envs), bool)
    steps.append([obs, np.zeros(len(envs), np.float32), no, no, obs, ~no])
    for action in actions:
        rows = []
        for env, a in zip(envs, action):
            final, reward, terminated, truncated, _ = env.step(a)
            ended = terminated or truncated
            obs = env.reset()[0] if ended else final
            rows.append([obs, reward, terminated, truncated and not terminated, final, ended])
        kinds = [np.float32, np.float32, bool, bool, np.float32, bool]
        steps.append([np.stack(column).astype(kind) for column, kind in zip(zip(*rows), kinds)])
    return steps


@pytest.mark.parametrize("workers", BACKENDS)
def test_parity_with_gymnasium(workers):
    actions = np.random.default_rng(0).integers(0, 2, (250, 3))
    ours = rollout(GymnasiumEnvironment("CartPole-v1"), actions, workers, seed=7)
    assert sum(step[-1].sum() for step in ours) > 10
    assert_same(ours, gymnasium_rollout("CartPole-v1", actions, seed=7))


def test_parity_of_continuous_control():
    pytest.importorskip("mujoco")
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 2, 6)).astype(np.float32)
    env = GymnasiumEnvironment("HalfCheetah-v5", max_episode_steps=15)
    assert (env.max_steps, env.observation_space.dtype) == (15, np.float32)
    ours = rollout(env, actions, "serial")
    assert sum(step[3].sum() for step in ours) == 4
    theirs = gymnasium_rollout("HalfCheetah-v5", actions[:14])
    assert_same(ours[:15], theirs)


@pytest.mark.parametrize("workers", BACKENDS)
def test_timesteps_are_the_callers_to_keep(workers):
    with GymnasiumEnvironment(Noise).batch(2, 0, workers) as batch:
        kept = [batch.reset()] + [batch.step(ZERO) for _ in range(12)]
        copies = [[np.copy(x) for x in flat(step)] for step in kept[:-1]]
        for _ in range(3):
            batch.step(ZERO)
        assert_same([flat(step) for step in kept[:-1]], copies)


# --- seeds --------------------------------------------------------------------------------


def test_seeds():
    actions = np.zeros((30, 3), int)
    env = GymnasiumEnvironment(Noise)
    one, same = (rollout(env, actions, workers, seed=5) for workers in BACKENDS)
    assert_same(one, same)
    other = rollout(env, actions, "serial", seed=6)
    assert not np.array_equal(one[0][0], other[0][0])
    assert len(np.unique(one[0][0][:, 0])) == 3
    expected = np.random.default_rng(5 * 10007 + 1).normal(size=2)
    np.testing.assert_array_equal(one[0][0][1], expected.astype(np.float32))


@pytest.mark.parametrize("workers", BACKENDS)
def test_several_seeds_share_the_environments(workers):
    env, actions = GymnasiumEnvironment(Noise), np.zeros((30, 6), int)
    together = np.stack([step[0] for step in rollout(env, actions, workers, seed=[5, 9])])
    for rows, seed in ((slice(0, 3), 5), (slice(3, 6), 9)):
        alone = np.stack([step[0] for step in rollout(env, actions[:, rows], "serial", seed=seed)])
        np.testing.assert_array_equal(together[:, rows], alone)
    for seed, text in (([], "whole number from 0"), ([1, -2], "whole number from 0"), ([1, 2, 3, 4], "cannot share 6")):
        with pytest.raises(ConfigError, match=text):
            env.batch(6, seed)


def test_a_second_reset_goes_on():
    with GymnasiumEnvironment(Noise).batch(1) as batch:
        assert not np.array_equal(batch.reset().obs, batch.reset().obs)


# --- spaces --------------------------------------------------------------------------------

SPACES = [
    (Discrete(3), np.array([0, 2], np.int32), [[0], [2]]),
    (Discrete(3, start=5), np.array([0, 2], np.int32), [[5], [7]]),
    (
        Box(-1, np.array([1, 2, 3], np.float32), (3,), np.float32),
        np.array([[-5, 0, 9], [0.5, 2, 1]]),
        [[-1, 0, 3], [0.5, 2, 1]],
    ),
    (Box(-1, 1, (1, 2), np.float64), np.array([[[0.5, 3]], [[0, 0]]], np.float32), [[0.5, 1], [0, 0]]),
    (MultiDiscrete([2, 3], start=[0, 1]), np.array([[1, 2], [0, 0]], np.int32), [[1, 3], [0, 1]]),
    (MultiBinary(3), np.array([[1, 0, 1], [0, 0, 1]], np.int32), [[1, 0, 1], [0, 0, 1]]),
]


@pytest.mark.parametrize(("space", "action", "seen"), SPACES, ids=lambda x: str(x) if hasattr(x, "sample") else "")
def test_action_spaces(space, action, seen):
    with GymnasiumEnvironment(Echo, space=space).batch(2, 0, "serial") as batch:
        batch.reset()
        np.testing.assert_array_equal(batch.step(action).obs, np.array(seen, np.float32))


def test_action_spaces_in_processes():
    for space, action, seen in SPACES[1:5:2]:
        with GymnasiumEnvironment(Echo, space=space).batch(2, 0, "process") as batch:
            batch.reset()
            np.testing.assert_array_equal(batch.step(action).obs, np.array(seen, np.float32))


def test_actions_of_a_wrong_kind():
    with GymnasiumEnvironment(Counter).batch(2) as batch:
        with pytest.raises(ConfigError, match="reset"):
            batch.step(ZERO)
        batch.reset()
        with pytest.raises(ConfigError, match=r"shape \(3,\)"):
            batch.step(np.zeros(3, int))
        with pytest.raises(ConfigError, match="float"):
            batch.step(np.zeros(2))


@pytest.mark.parametrize("workers", BACKENDS)
def test_nested_observations(workers):
    env = GymnasiumEnvironment(Nested)
    assert env.observation_space["wide"].dtype == np.float32
    with env.batch(2, 0, workers) as batch:
        batch.reset()
        for t in (1, 2, 3, 4):
            now = batch.step(ZERO)
            for obs, time_ in ((now.final_obs, t), (now.obs, t % 4)):
                assert obs["image"].dtype == np.uint8
                assert (obs["image"] == time_).all()
                assert obs["image"].shape == (2, 2, 3, 1)
                np.testing.assert_array_equal(obs["pair"][0], [3 + time_] * 2)
                np.testing.assert_array_equal(obs["pair"][1], [[time_ % 2, 1]] * 2)
                np.testing.assert_array_equal(obs["wide"], np.array([[time_, -time_]] * 2, np.float32))
        assert now.terminated.all()


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Dict({"a": gym.spaces.Text(3)}),
        gym.spaces.Tuple([gym.spaces.Sequence(Discrete(2))]),
        gym.spaces.Text(3),
    ],
)
def test_unsupported_actions(space):
    env = Counter()
    env.action_space = space
    with pytest.raises(IncompatibleError, match="action space"):
        GymnasiumEnvironment(env)


@pytest.mark.parametrize("space", [gym.spaces.Sequence(Discrete(2)), gym.spaces.Text(3)])
def test_unsupported_observations(space):
    env = Counter()
    env.observation_space = gym.spaces.Dict({"a": LINE, "b": space})
    with pytest.raises(IncompatibleError, match=r"observation\['b'\].*no fixed shape"):
        GymnasiumEnvironment(env)


@pytest.mark.parametrize(("dtype", "value"), [(np.int64, 2**33), (np.int64, -(2**33)), (np.uint64, 2**33)])
def test_whole_numbers_have_32_bits(dtype, value):
    class Big(Counter):
        observation_space = Box(np.iinfo(dtype).min, np.iinfo(dtype).max, (1,), dtype)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.array([7], dtype), {}

        def step(self, action):
            _, *rest = super().step(action)
            return np.array([value], dtype), *rest

    with GymnasiumEnvironment(Big).batch(1) as batch:
        batch.reset()
        with pytest.raises(EnvError, match="whole numbers have 32 bits here: give floats"):
            batch.step(ZERO[:1])


# --- legal actions --------------------------------------------------------------------------------


@pytest.mark.parametrize(("silent", "workers"), [(False, "serial"), (True, "process")])
def test_masks(silent, workers):
    env = GymnasiumEnvironment(Masked, silent=silent)
    assert env.masked
    with env.batch(2, 0, workers) as batch:
        now = batch.reset()
        for t in range(1, 13):
            assert set(now.info) == {"mask", "final_mask"}
            now = batch.step(now.info["mask"].argmax(-1))
            end = t % 5 == 0
            np.testing.assert_array_equal(now.info["mask"], [np.arange(3) == t % 5 % 3] * 2)
            final = np.full(3, silent) if end else np.arange(3) == t % 5 % 3
            np.testing.assert_array_equal(now.info["final_mask"], [final] * 2)


def test_taxi_tells_its_mask():
    env = GymnasiumEnvironment("Taxi")
    assert env.masked
    assert env.max_steps == 200
    with env.batch(2) as batch:
        assert batch.reset().info["mask"].shape == (2, 6)
    assert not GymnasiumEnvironment("CartPole-v1").masked


def test_masks_that_fail():
    space = gym.Wrapper(Masked())
    space.action_space = Discrete(4)
    with pytest.raises(IncompatibleError, match="action_mask"):
        GymnasiumEnvironment(space)
    for info, says in ((None, "info has no"), ({"action_mask": np.zeros(3)}, "no action")):
        batch = GymnasiumEnvironment(partial(Forgetful, info)).batch(1)
        with pytest.raises(EnvError, match=says):
            cases.play(batch, ZERO[:1])


@pytest.mark.parametrize("at", [1, 5])
def test_masks_that_come_late_are_refused(at):
    """In the first episode's step, or in the next episode's reset: nobody would look at them."""

    class Late(Masked):
        told = 0

        def _info(self):
            self.told += 1
            return super()._info() if self.told > at else {}

    with GymnasiumEnvironment(lambda: Late(silent=True)).batch(1) as batch:
        batch.reset()
        with pytest.raises(EnvError, match="an 'action_mask', though the first reset had none: give one each time"):
            [batch.step(np.array([t % 5 % 3])) for t in range(6)]


class Forgetful(Masked):
    def __init__(self, info):
        super().__init__()
        self.info = info or {}

    def step(self, action):
        return *super().step(action)[:4], self.info
