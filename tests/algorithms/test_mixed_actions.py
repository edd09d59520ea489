"""Actions of several kinds at once: a Dict or Tuple of choices and numbers, on both drivers."""

from __future__ import annotations

import dataclasses

import distrax
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

import thorndike as td
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import random_action
from thorndike.drivers.scan import ScanDriver
from thorndike.envs.batched import Batched, to_environment
from thorndike.envs.mixed import Mixed
from thorndike.nets.policy import Actions, PolicyHead
from thorndike.ops.distributions import Joint
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.storage.environments import describe
from thorndike.runs.storage.spaces import space_from_json, space_to_json
from thorndike.types import Step

LENGTH = 10
ACTIONS = Dict({"gear": Discrete(3, start=1), "throttle": Box(0.0, 10.0, (2,))})
AIMS = np.array([[2.0, 8.0], [8.0, 8.0], [5.0, 1.0]], np.float32)  # the throttle that each gear needs


@td.config
class Car:
    """The observation says which gear is needed; a step pays up to 1 for the right gear and the throttle for it."""

    masked: bool = False
    max_steps: int = LENGTH

    @property
    def observation_space(self):
        return Discrete(3)

    @property
    def action_space(self):
        return ACTIONS

    def _show(self, key, reward=0.0):
        want = jax.random.randint(key, (), 0, 3)
        info = {"mask": jnp.arange(3) == want} if self.masked else {}
        return Step(want, want, reward, False, info)

    def reset(self, key):
        return self._show(key)

    def step(self, want, action, key):
        assert set(action) == {"gear", "throttle"}
        assert action["throttle"].shape == (2,)
        near = 1 - jnp.abs(action["throttle"] - jnp.asarray(AIMS)[want]).mean() / 5
        return self._show(key, jnp.where(action["gear"] - 1 == want, jnp.maximum(near, 0.0), 0.0))


class HostCar(gymnasium.Env):
    """The same on the host, its actions a Tuple; it insists on actions of its space."""

    observation_space = Discrete(3)
    action_space = Tuple([ACTIONS["throttle"], ACTIONS["gear"]])
    masked = False

    def _show(self):
        self.want = int(self.np_random.integers(3))
        return self.want, {"action_mask": np.arange(3) == self.want} if self.masked else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._show()

    def step(self, action):
        assert isinstance(action, tuple)
        throttle, gear = action
        assert self.action_space.contains(action), action
        assert not self.masked or gear - 1 == self.want
        self.t += 1
        near = max(0.0, 1 - np.abs(throttle - AIMS[self.want]).mean() / 5)
        reward = near * (gear - 1 == self.want)
        obs, info = self._show()
        return obs, float(reward), False, self.t == LENGTH, info


class MaskedHostCar(HostCar):
    masked = True


MANY = Tuple(
    [
        Discrete(3),
        Dict({"b": Box(np.float32([0, -4]), np.float32([10, 4])), "a": MultiBinary(2)}),
        MultiDiscrete([2, 4]),
    ]
)


def test_vectors_and_nested_actions_are_the_same():
    space = Mixed(MANY)
    space.seed(0)
    MANY.seed(0)
    assert space.shape == (1 + 2 + 2 + 2,)
    for _ in range(20):
        vector = space.sample()
        assert space.contains(vector)
        nested = space.nested(vector)
        assert MANY.contains(nested), nested
        np.testing.assert_allclose(space.flat(nested), vector)
        np.testing.assert_allclose(space.flat(MANY.sample()).shape, space.shape)
    several = space.nested(np.stack([space.sample() for _ in range(4)]))
    assert several[1]["b"].shape == (4, 2)
    assert space_from_json(space_to_json(space)) == space
    for bad in (vector[:-1], vector + 0.5, list(vector), np.where(np.arange(7) == 0, 3, vector)):
        assert not space.contains(bad)


@pytest.mark.parametrize("xp", [np, jnp])
def test_what_an_algorithm_says_is_brought_into_the_space(xp):
    """Choices are counted from their start and whole, numbers are clipped, in the order of the parts."""
    space = Mixed(ACTIONS)
    found = to_environment(space, xp.asarray([[2.0, -3.0, 4.5], [0.0, 11.0, 10.0]]))
    np.testing.assert_allclose(found, [[3, 0, 4.5], [1, 10, 10]])
    assert found.dtype == np.float32


def test_bounds_that_float32_rounds_are_kept():
    """What was clipped to them is still in the space, whose numbers are float64."""
    space = Tuple([Box(-0.1, 0.1, (2,), np.float64), Discrete(2)])
    vector = to_environment(Mixed(space), np.float32([-9, 9, 1]))
    assert float(vector[1]) > 0.1
    assert space.contains(Mixed(space).nested(vector))


def test_spaces_that_are_refused():
    for space, why in (
        (Dict({"a": gymnasium.spaces.Text(4)}), "parts may be"),
        (Dict({}), "no parts"),
        (Tuple([Box(0, 2**30, (1,), np.int32)]), "whole numbers beyond"),
    ):
        with pytest.raises(td.ThorndikeError, match=why):
            Mixed(space)
    spec = describe(td.make(Car()), 100, "car")
    for other in (td.DQN(), td.SAC()):
        assert other.supports(spec)


def test_the_joint_distribution_is_distraxs():
    """Log-density, entropy and divergence of parts that distrax joins; modes and samples lie in the space."""
    space = Mixed(MANY)
    head = PolicyHead(jax.random.key(0), 4, space, -0.3)
    pi, other = (head(20 * jax.random.normal(jax.random.key(k), (5, 4))) for k in (1, 2))
    assert isinstance(pi, Joint)

    def reference(pi):
        choice, bits, normal, several = pi.parts
        return distrax.Joint([
            distrax.Categorical(choice.logits),
            distrax.Independent(distrax.Bernoulli(bits.logits), 1),
            distrax.MultivariateNormalDiag(normal.mean, jnp.broadcast_to(jnp.exp(normal.log_std), normal.mean.shape)),
            distrax.Independent(distrax.Categorical(several.logits), 1),
        ])  # fmt: skip

    action = pi.sample(jax.random.key(3))
    split = [action[:, 0].astype(int), action[:, 1:3].astype(int), action[:, 3:5], action[:, 5:].astype(int)]
    np.testing.assert_allclose(pi.log_prob(action), reference(pi).log_prob(split), rtol=1e-4)
    np.testing.assert_allclose(pi.entropy(), reference(pi).entropy(), rtol=1e-4)
    np.testing.assert_allclose(pi.kl(other), reference(pi).kl_divergence(reference(other)), rtol=1e-3)
    assert (pi.kl(other) > 1e-3).all()
    actions = Actions.of(space)
    for vector in (action, pi.mode()):
        for row in np.asarray(to_environment(space, actions.to_environment(vector))):
            assert space.contains(row)
    np.testing.assert_allclose(actions.from_environment(actions.to_environment(action)), action, atol=1e-5)


def test_numbers_in_the_middle_keep_their_scale():
    """-1 and 1 are the bounds of the Box, and choices stay as they are."""
    actions = Actions.of(Mixed(MANY))
    vector = jnp.asarray([2.0, 1.0, 0.0, -1.0, 1.0, 1.0, 3.0])
    np.testing.assert_allclose(actions.to_environment(vector), [2, 1, 0, 0, 4, 1, 3])


def test_masks_are_those_of_the_choices():
    """A mask is of the gears alone; random and drawn actions obey it, and numbers are free."""
    env = td.make(Car(masked=True))
    world = Batched(env, 300)
    now = world.reset(random_key(0))
    want = np.asarray(now.obs)
    for k in range(3):
        drawn = np.asarray(random_action(env.action_space, now, random_key(k)))
        np.testing.assert_array_equal(drawn[:, 0], want)
        assert drawn[:, 1:].min() < 1
        assert drawn[:, 1:].max() > 9
        pi = PolicyHead(jax.random.key(0), 3, env.action_space)(jnp.ones((300, 3)), now.info["mask"])
        np.testing.assert_array_equal(np.asarray(pi.sample(random_key(k)))[:, 0], want)


def learner(kind="ppo"):
    torso = td.Torso(widths=(32,))
    if kind == "ppo":
        return td.PPO(
            torso=torso, learning_rate=td.Linear(1e-2), num_envs=16, rollout_length=20, minibatch_size=80, epochs=4,
            discount=0.0, log_std=-0.5,
        )  # fmt: skip
    if kind == "a2c":
        return td.A2C(
            torso=torso, learning_rate=td.Linear(1e-2), num_envs=16, rollout_length=20, discount=0.0, log_std=-0.5
        )
    return td.REINFORCE(
        torso=torso, learning_rate=td.Linear(1e-2), num_envs=16, rollout_length=20, discount=0.0, log_std=-0.5
    )


def share(run):
    """The greedy return, of the best that there is."""
    return run.evaluate(50).mean / LENGTH


def trained(tmp_path, algorithm, env, steps=40_000):
    return td.train(algorithm, env, steps, out=tmp_path / "run", progress=False)


@pytest.mark.parametrize("kind", ["ppo", *(pytest.param(k, marks=pytest.mark.slow) for k in ("a2c", "reinforce"))])
def test_both_parts_are_learned_on_jax(kind, tmp_path):
    run = trained(tmp_path, learner(kind), Car())
    assert share(run) >= 0.9, share(run)
    agent = td.load(run.agent().save(tmp_path / "agent.safetensors"))
    action = agent.act(np.int32(1))
    assert ACTIONS.contains(action), action
    assert action["gear"] == 2
    assert np.abs(action["throttle"] - AIMS[1]).max() < 2
    assert agent.act(np.arange(3, dtype=np.int32))["throttle"].shape == (3, 2)


@pytest.mark.slow
def test_both_parts_are_learned_on_the_host(tmp_path):
    run = trained(tmp_path, learner(), HostCar)
    assert share(run) >= 0.9, share(run)


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_a_policy_gradient_of_one_part_alone_is_not_enough(part, tmp_path, monkeypatch):
    monkeypatch.setattr(Joint, "log_prob", lambda self, action: self.parts[part].log_prob(self.split(action)[part]))
    run = trained(tmp_path, learner(), Car())
    assert share(run) <= 0.6, share(run)


@pytest.mark.parametrize("env", [HostCar, MaskedHostCar])
def test_the_host_environment_gets_its_own_kind_of_action(env):
    """It asserts that itself; with a mask, also in the warm-up of random actions and where it is compiled."""
    made = td.make(env)
    assert made.action_space.shape == (3,)
    spec = describe(made, 1000, "car")
    assert spec.masked == (env is MaskedHostCar)
    algorithm = dataclasses.replace(learner(), learning_rate=1e-2)
    with HostDriver(algorithm, made, spec, [0], workers="serial") as driver:
        state = driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))
        state = driver.advance(state, 3)
    assert int(state.iterations[0]) == 3
    assert np.isfinite(state.tally.sums).all()


def test_the_compiled_driver_hands_on_masks():
    env = td.make(Car(masked=True))
    algorithm = expand(dataclasses.replace(learner(), learning_rate=1e-2), 1)
    driver = ScanDriver(algorithm, env, describe(env, 1000, "car"), 1)
    state = driver.advance(driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32))), 2)
    assert np.isfinite(state.tally.sums).all()
