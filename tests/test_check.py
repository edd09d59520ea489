"""`td.check`: sound things pass, and each broken one fails the question that asks for it."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td

SMALL = {"num_envs": 2, "rollout_length": 8, "minibatch_size": 16, "torso": td.Torso(widths=(4,))}


def failed(report):
    return [line.question for line in report.lines if not line.ok]


def test_sound_things_pass():
    for thing in (td.CartPole(), td.Pendulum, td.Reactor(), "gymnasium/CartPole-v1", td.PPO(**SMALL), td.QLearning):
        report = td.check(thing)
        assert report.ok, report
        assert str(report).startswith(f"{report.name}: all holds")


@td.config
class Unkeyed(td.PPO):
    """Its start does not depend on the key."""

    def init(self, key, spec):
        return super().init(jax.random.key(3), spec)

    def act(self, actor, carry, now, key, explore):
        return super().act(actor, carry, now, key, False)


@td.config
class Silent(td.PPO):
    """It tells one metric, which says nothing."""

    def learn(self, state, rollout, key):
        return super().learn(state, rollout, key)[0], {"loss": jnp.float32(0)}


@td.config
class OneBatch(td.PPO):
    """It acts for as many environments as it trains in, and for no others."""

    def act(self, actor, carry, now, key, explore):
        action, carry, extras = super().act(actor, carry, now, key, explore)
        return jnp.zeros(self.num_envs, action.dtype), carry, extras


@td.config
class Growing(td.PPO):
    """Its state is another after learning."""

    def learn(self, state, rollout, key):
        state, metrics = super().learn(state, rollout, key)
        return state._replace(statistics=(jnp.zeros(3),)), metrics


@pytest.mark.parametrize(
    ("algorithm", "question"),
    [
        (Silent, "NaN in its parameters shows in its metrics"),
        (OneBatch, "what `actor` gives is enough to act"),
        (Growing, "its methods answer what drivers expect"),
    ],
)
def test_broken_algorithms(algorithm, question):
    report = td.check(algorithm(**SMALL))
    assert any(question in asked for asked in failed(report)), report


def test_fields_out_of_range():
    assert failed(td.check(td.PPO(discount=1.5)))[0].startswith("its fields have the types and ranges")


@td.config
class Odd:
    """A JAX environment with one fault of choice."""

    fault: str = ""
    max_steps: int = 20
    action_space = Discrete(2)

    @property
    def observation_space(self):
        return Box(-1, 1, (2,))

    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.zeros(2))

    def step(self, t, action, key):
        obs = jnp.zeros(3 if self.fault == "shape" else 2)
        obs = obs + jnp.where(t == 7, {"nan": jnp.nan, "far": 40.0}.get(self.fault, 0.0), 0.0)
        return td.Step(t + 1, obs, 1.0)


@pytest.mark.parametrize(
    ("fault", "question"),
    [
        ("", None),
        ("shape", "reset and step give what its spaces say"),
        ("nan", "random steps of 4 copies are finite"),
        ("far", "observations stay near their space"),
    ],
)
def test_broken_jax_environments(fault, question):
    found = failed(td.check(Odd(fault=fault)))
    assert found == [] if question is None else len(found) == 1 and question in found[0]


class Unseeded(gymnasium.Env):
    """Its episodes do not follow the seed."""

    observation_space, action_space = Box(-1, 1, (1,)), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.float32(np.random.default_rng().uniform(-1, 1, 1)), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_host_environments_that_ignore_their_seed():
    report = td.check(Unseeded)
    assert "the same seed gives the same episodes" in failed(report)
    assert any("no episode ended" in text for text in report.advice)
    assert any("never earned a reward" in text for text in report.advice)


def test_neither():
    with pytest.raises(td.ConfigError, match="neither an environment nor an algorithm"):
        td.check(5)
