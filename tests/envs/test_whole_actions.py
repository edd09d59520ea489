"""Box actions of whole numbers: each has an equal share of what networks say, and what was done is learned from.

And Boxes of which a bound is missing, or no bound in truth.
"""

from __future__ import annotations

import collections

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Box

import thorndike as td
from thorndike.drivers.host import HostDriver, Packed
from thorndike.drivers.learner import random_action
from thorndike.drivers.scan import rollout
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.batched import Batched, to_environment
from thorndike.nets.policy import Actions, bounds
from thorndike.types import Timestep

INF = np.inf
WHOLE = {
    "bits": Box(0, 1, (2,), np.int32),
    "signs": Box(-1, 1, (2,), np.int32),
    "wide type": Box(0, 3, (2,), np.int64),
    "bytes": Box(0, 255, (2,), np.uint8),
    "unsigned": Box(7, 9, (2,), np.uint32),
    "matrix": Box(-2, 2, (2, 2), np.int8),
    "booleans": Box(np.zeros(2, bool), np.ones(2, bool), dtype=bool),
    "of unequal sides": Box(np.array([-5, 0]), np.array([200, 3]), dtype=np.int16),
}


def now(n):
    none = np.zeros(n, bool)
    return Timestep(none, np.zeros(n, np.float32), none, none, none, none, {})


def executed(space, action, on_host):
    """What the environment gets, as both paths hand it over."""
    return np.asarray(to_environment(space, np.asarray(action) if on_host else jnp.asarray(action)))


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_random_actions_are_uniform(name, on_host):
    """A chi-squared test over all whole numbers of each dimension, both ends among them."""
    space, n = WHOLE[name], 20_000
    taken = executed(space, random_action(space, now(n), jax.random.key(0)), on_host)
    assert taken.dtype == space.dtype if on_host else taken.dtype.kind == space.dtype.kind
    for column, low, high in zip(taken.reshape(n, -1).T, space.low.ravel(), space.high.ravel()):
        counts = np.bincount(column.astype(int) - int(low), minlength=int(high) - int(low) + 1)
        assert len(counts) == int(high) - int(low) + 1
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_every_whole_number_is_what_its_middle_stands_for(name, on_host):
    """The network's units of a whole number lie inside of [-1, 1], evenly, and lead back to it."""
    space = WHOLE[name]
    actions = Actions.of(space)
    low, high = space.low.astype(float), space.high.astype(float)
    for number in range(int(low.min()), int(high.max()) + 1):
        action = np.clip(np.full((1, *space.shape), number), low, high)
        units = actions.from_environment(jnp.asarray(action, jnp.float32))
        expected = 2 * (action - low + 0.5) / (high - low + 1) - 1
        np.testing.assert_allclose(units, expected.reshape(1, -1), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(executed(space, actions.to_environment(units), on_host), action)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_between_and_outside_goes_to_the_nearest(name, on_host):
    space = WHOLE[name]
    action = np.random.default_rng(0).uniform(-300, 300, (5000, *space.shape)).astype(np.float32)
    low, high = space.low.astype(int), space.high.astype(int)
    options = [np.arange(a, b + 1) for a, b in zip(low.ravel(), high.ravel())]
    nearest = np.stack([o[np.abs(x[:, None] - o).argmin(1)] for x, o in zip(action.reshape(5000, -1).T, options)], -1)
    np.testing.assert_array_equal(executed(space, action, on_host), nearest.reshape(action.shape).astype(space.dtype))


@pytest.mark.parametrize(
    ("dtype", "on_host"), [(np.int32, False), (np.uint32, False), (np.int64, True), (np.uint64, True)]
)
def test_the_largest_whole_numbers_do_not_overflow(dtype, on_host):
    """Rounded to floats they are more than the type holds."""
    limits = np.iinfo(dtype)
    least, *most = executed(Box(limits.min, limits.max, (3,), dtype), np.float32([-1e30, 1e30, 2e19]), on_host).tolist()
    assert least == limits.min
    assert all(limits.max * (1 - 2e-7) <= x <= limits.max for x in most)
    near = Box(limits.max - 10, limits.max - 3, (1,), dtype)
    assert near.contains(executed(near, np.float32([1e30]), on_host))
    assert near.contains(executed(near, np.float32([0]), on_host))


def test_whole_numbers_that_are_whole_already_stay():
    space, action = Box(-(2**60), 2**60, (1,), np.int64), np.array([2**59 + 1])
    assert executed(space, action, True)[0] == 2**59 + 1
    assert executed(Box(-(2**30), 2**30, (1,), np.int32), np.array([2**29 + 1], np.int32), False)[0] == 2**29 + 1


# --- on the way through a run ----------------------------------------------------------------------------------------


class Told(gymnasium.Env):
    """Shows which action it got, and is paid for its greatest one."""

    observation_space, action_space = Box(-9, 9, (2,), np.float32), Box(-1, 2, (2,), np.int32)
    seen: collections.Counter = collections.Counter()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.seen.update(action.tolist())
        self.t += 1
        return action.astype(np.float32), float((action == 2).mean()), False, self.t == 10, {}


@td.config
class JaxTold:
    """The same in JAX."""

    max_steps: int = 10
    observation_space, action_space = Told.observation_space, Told.action_space

    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.zeros(2))

    def step(self, t, action, key):
        assert action.dtype == jnp.int32
        return td.Step(t + 1, action.astype(jnp.float32), (action == 2).mean())


TORSO = td.Torso(widths=(8,))
PPO = td.PPO(num_envs=16, rollout_length=32, minibatch_size=512, torso=TORSO)
SAC = td.SAC(
    num_envs=16, rollout_length=32, torso=TORSO, replay=td.Uniform(capacity=2000, batch_size=16, warmup=512),
)  # fmt: skip
SPEC = td.Spec(Told.observation_space, Told.action_space, 1000)


@pytest.mark.parametrize("how", ["explore", "random"])
@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("algorithm", [PPO, SAC], ids=["ppo", "sac"])
def test_what_is_learned_from_is_what_was_done(algorithm, on_host, how):
    """In the algorithm's units an action is within half a step of the one that the environment got; all are got."""
    state = algorithm.init(jax.random.key(0), SPEC)
    if on_host:
        with HostDriver(algorithm, GymnasiumEnvironment(Told), SPEC, [0], workers="serial") as driver:
            first = lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree)  # noqa: E731
            carry, key, warm = first(algorithm.carry(None, 16)), jax.random.split(jax.random.key(2), 1), how == "random"
            agent = Packed(first(state))
            move = driver._act[warm](driver.settings, agent, carry, driver.observe(), key, None)
            steps = driver.rollout(agent, carry, key, None, move, warm)[0].steps
        steps = jax.tree.map(lambda x: jnp.asarray(x)[0], steps)
    else:
        world = Batched(JaxTold(), 16)
        start = (algorithm.actor(state), algorithm.carry(None, 16), world.reset(jax.random.key(1)), jax.random.key(2))
        steps = rollout(algorithm, world, *start, how)[0].steps
    units = np.asarray(Actions.of(SPEC.action).from_environment(steps.action))
    bins = np.clip(np.floor((units + 1) / 2 * 4), 0, 3) - 1  # [-1, 1] in four equal parts
    np.testing.assert_array_equal(bins, steps.next_obs)
    counts = np.bincount(np.asarray(steps.next_obs).astype(int).ravel() + 1, minlength=4)
    assert counts.min() > 0.1 * counts.sum()
    if how == "random":
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("env", [JaxTold(), Told], ids=["jax", "host"])
def test_greatest_actions_are_learned_played_recorded_and_cloned(env, tmp_path):
    """Where actions are cut off instead of rounded, 2 is played by hardly any policy; the return is then below 5."""
    ppo = td.PPO(num_envs=8, rollout_length=32, minibatch_size=64, learning_rate=1e-2, discount=0.5, torso=TORSO)
    run = td.train(ppo, env, 8 * 32 * 24, out=tmp_path / "run", progress=False, workers="serial")
    assert run.evaluate(5).mean > 9
    run.agent().save(tmp_path / "agent.td")
    agent = td.load(tmp_path / "agent.td")
    assert agent.act(np.full(2, 2.0)).tolist() == [2, 2]
    assert SPEC.action.contains(agent.act(np.full(2, 2.0)))
    data = run.record(8, tmp_path / "data")
    assert data.actions.dtype == np.int32
    assert (data.actions == 2).mean() > 0.9
    batch = data.fit(SPEC)[np.arange(len(data))]
    np.testing.assert_array_equal(batch.action, batch.next_obs)
    assert batch.action.dtype == np.float32
    bc = td.BC(torso=TORSO, learning_rate=1e-2)
    cloned = td.train(bc, env, 200, dataset=data, out=tmp_path / "bc", progress=False, workers="serial")
    assert cloned.evaluate(5).mean > 9


def test_sticky_actions_stay_whole():
    env = td.StickyActions(env=JaxTold(), probability=0.5)
    world = Batched(env, 64)
    later = world.reset(jax.random.key(0))
    for i in range(3):
        later = world.step(later, jnp.full((64, 2), 1.7), jax.random.key(i))
    np.testing.assert_array_equal(later.obs, np.full((64, 2), 2.0))


# --- bounds ----------------------------------------------------------------------------------------------------------


def limit(dtype, sign):
    info = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    return info.min if sign < 0 else info.max


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("fake", [False, True])
def test_a_new_policy_is_clipped_in_a_sixth_of_its_actions(dtype, fake):
    """With one bound, true infinity or the type's largest number on the other side: P(z < -1), or with z < -1/2 where
    actions are rounded."""
    below, above = (limit(dtype, -1), limit(dtype, 1)) if fake else (-INF, INF)
    n = 20_000
    for low, high in ((5, above), (below, -3), (0, above)):
        space = Box(low, high, (1,), dtype)
        spec = td.Spec(Box(-1, 1, (2,)), space, 100)
        assert td.SAC().supports(spec)
        ppo = td.PPO(torso=TORSO)
        state, step = ppo.init(jax.random.key(0), spec), now(n)
        step = step._replace(obs=np.zeros((n, 2), np.float32), first=np.ones(n, bool))
        taken = executed(space, ppo.act(ppo.actor(state), ppo.carry(None, n), step, jax.random.key(1), True)[0], True)
        at_bound = (taken == (low if low in (5, 0) else high)).mean()
        expected = scipy.stats.norm.cdf(-0.5 if np.dtype(dtype).kind == "i" else -1)
        assert at_bound == pytest.approx(expected, abs=0.02)
        assert len(np.unique(taken)) > (3 if np.dtype(dtype).kind == "i" else 500)


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [
        (Box(-INF, INF, (1,), np.int64), -INF, INF),
        (Box(0, np.iinfo(np.uint32).max, (1,), np.uint32), 0, INF),
        (Box(0, 255, (1,), np.uint8), 0, 255),
        (Box(-128, 127, (1,), np.int8), -128, 127),
        (Box(-32768, 32767, (1,), np.int16), -32768, 32767),
        (Box(-65504, 65504, (1,), np.float16), -INF, INF),
        (Box(-3.4e38, 3.4e38, (1,), np.float64), -INF, INF),
        (Box(-1e29, 1e10, (1,), np.float64), -1e29, 1e10),
        (Box(np.zeros(1, bool), np.ones(1, bool), dtype=bool), 0, 1),
    ],
)
def test_what_is_a_bound(space, low, high):
    assert [float(bound[0]) for bound in bounds(space)] == [low, high]
    served = td.SAC().supports(td.Spec(Box(-1, 1), space)) is None
    assert served == bool(np.isfinite([low, high]).all())
