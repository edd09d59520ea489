"""Numbers of an environment from its transitions: least squares in closed form, coverage, and what cannot be told."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.envs.batched import Batched
from thorndike.envs.identify import transitions
from thorndike.errors import ConfigError
from thorndike.ops.keys import random_key

HEAVY = td.CartPole(pole_mass=0.3, half_length=0.8)


def logged(env, steps, noise=0.0, seed=0, n=20):
    """Observations, random actions, and the observations after them, with Gaussian noise on what comes out."""
    world, rng = Batched(env, n), np.random.default_rng(seed)
    step, now, rows = jax.jit(world.step), world.reset(random_key(seed)), []
    for t in range(steps // n):
        space = env.action_space
        action = (
            np.stack([rng.uniform(space.low, space.high) for _ in range(n)]).astype(np.float32)
            if hasattr(space, "low")
            else rng.integers(0, space.n, n)
        )
        later = step(now, jnp.asarray(action), random_key(1000 * seed + t))
        rows.append((np.asarray(now.obs), action, np.asarray(later.final_obs)))
        now = later
    obs, action, after = (np.concatenate(x) for x in zip(*rows))
    return obs, action, after + rng.normal(0.0, noise, after.shape).astype(np.float32)


def test_a_linear_model_is_fitted_as_in_closed_form():
    """The car's velocity is linear in force and gravity: ordinary least squares, its interval by Student's t."""
    env, rng = td.MountainCar(force=0.0013, gravity=0.0021), np.random.default_rng(1)
    obs = np.stack([rng.uniform(-1.0, 0.3, 600), rng.uniform(-0.03, 0.03, 600)], 1).astype(np.float32)
    action = rng.integers(0, 3, 600)
    after = jax.vmap(lambda o, a: env.step(env.state_of(o), a, None).obs)(jnp.asarray(obs), jnp.asarray(action))
    noise = rng.normal(0.0, 1e-3, 600)
    after = np.array(after)
    after[:, 1] += noise
    after[:, 0] = 0.0  # a dimension that says nothing: its residual does not count beside the other's
    found = td.identify(td.MountainCar(), (obs, action, after), {"force": (0.0005, 0.003), "gravity": (0.001, 0.004)})
    design = np.stack([action - 1.0, -np.cos(3 * obs[:, 0].astype(float))], 1)
    expected, cost, *_ = np.linalg.lstsq(design, after[:, 1].astype(float) - obs[:, 1], rcond=None)
    np.testing.assert_allclose(list(found.values.values()), expected, rtol=0.02)
    covariance = np.linalg.inv(design.T @ design) * cost[0] / 598
    half = [(high - low) / 2 for low, high in found.intervals.values()]
    np.testing.assert_allclose(half, 1.963 * np.sqrt(np.diag(covariance)), rtol=0.1)


def test_the_poles_mass_and_length():
    """From 1,000 noisy steps of a cart whose pole is three times as heavy and half as long again."""
    data = logged(HEAVY, 1000, noise=0.002)
    found = td.identify("CartPole-v1", data, {"pole_mass": (0.02, 1.0), "half_length": (0.2, 1.5)})
    assert found.values["half_length"] == pytest.approx(0.8, rel=0.03)
    assert found.values["pole_mass"] == pytest.approx(0.3, rel=0.15)
    for name, truth in (("pole_mass", 0.3), ("half_length", 0.8)):
        low, high = found.intervals[name]
        assert low < truth < high
        assert high - low < 0.5 * truth
    assert found.residual.max() < found.before.max()
    assert "pole_mass" in str(found)
    ranges = dict((name, (low, high)) for name, low, high in found.randomised(2.0).ranges)
    assert ranges["half_length"][1] - ranges["half_length"][0] == pytest.approx(
        2 * np.diff(found.intervals["half_length"])[0], rel=1e-4
    )


def test_intervals_cover_the_truth():
    """A 90% interval of mass and length, over 40 logs: a right one is there 29 times or less in 5 of 1,000 cases."""
    covered = {"mass": 0, "length": 0}
    for seed in range(40):
        data = logged(td.Pendulum(mass=1.3, length=0.9), 200, noise=0.02, seed=seed)
        found = td.identify(td.Pendulum(), data, {"mass": (0.5, 2.0), "length": (0.5, 1.5)}, 0.9, starts=1)
        for name, truth in (("mass", 1.3), ("length", 0.9)):
            low, high = found.intervals[name]
            covered[name] += low < truth < high
    assert min(covered.values()) >= 30


def test_what_the_data_do_not_tell():
    """Only the ratio of gravity and length moves a pendulum without torque."""
    obs, _, _ = logged(td.Pendulum(), 400)
    action = np.zeros((400, 1), np.float32)
    after = jax.vmap(lambda o, a: td.Pendulum().step(td.Pendulum().state_of(o), a, None).obs)(obs, action)
    found = td.identify(td.Pendulum(), (obs, action, after), {"gravity": (5.0, 15.0), "length": (0.5, 2.0)}, starts=1)
    assert not np.isfinite(list(found.intervals.values())).any()
    assert found.values["gravity"] / found.values["length"] == pytest.approx(10.0, rel=1e-3)
    with pytest.raises(ConfigError, match="say nothing about gravity"):
        found.randomised()
    assert "do not tell" in str(found)


@pytest.mark.parametrize("env", [td.CartPole(), td.Pendulum(), td.Acrobot(), td.MountainCar()])
def test_a_state_is_what_its_observation_shows(env):
    """A step from the state that was seen is the step that was taken."""
    obs, action, after = logged(env, 200)
    again = jax.vmap(lambda o, a: env.step(env.state_of(o), a, random_key(0)).obs)(
        jnp.asarray(obs), jnp.asarray(action)
    )
    np.testing.assert_allclose(again, after, atol=2e-4)


def test_data_sets_and_arrays(tmp_path):
    obs, action, after = logged(td.Pendulum(), 20)
    row = obs[:3], action[:2], after[:2]
    with pytest.raises(ConfigError, match="observations have the shape"):
        transitions(td.Pendulum(), (obs[:, :2], action, after))
    with pytest.raises(ConfigError, match="actions have the shape"):
        transitions(td.Pendulum(), row)
    spoilt = after.copy()
    spoilt[3] = np.nan
    assert len(transitions(td.Pendulum(), (obs, action, spoilt))[0]) == 19
    episodes = [td.Episode(np.r_[obs[:1], after[:1]], action[:1], [0.0], [False], [True])] * 30
    data = td.Dataset.write(tmp_path / "log", episodes)
    found, _, later = transitions(td.Pendulum(), data)
    np.testing.assert_array_equal(found, np.repeat(obs[:1], 30, 0))
    np.testing.assert_array_equal(later, np.repeat(after[:1], 30, 0))


def test_what_it_cannot_do():
    data = logged(td.Pendulum(), 40)
    with pytest.raises(ConfigError, match="no number 'weight'"):
        td.identify(td.Pendulum(), data, {"weight": (0.5, 2.0)})
    with pytest.raises(ConfigError, match="state_of"):
        td.identify(td.TMaze(), data, {"mass": (0.5, 2.0)})
    with pytest.raises(ConfigError, match="has none that it can move"):
        td.identify("gymnasium/Pendulum-v1", data, {"mass": (0.5, 2.0)})
    with pytest.raises(ConfigError, match="range of mass is empty"):
        td.identify(td.Pendulum(), data, {"mass": (2.0, 1.0)})
    with pytest.raises(ConfigError, match="which numbers"):
        td.identify(td.Pendulum(), data, {})
    with pytest.raises(ConfigError, match="no transitions"):
        td.identify(td.Pendulum(), tuple(x[:0] for x in data), {"mass": (0.5, 2.0)})
    for confidence in (95, 0.0):
        with pytest.raises(ConfigError, match="confidence is a probability"):
            td.identify(td.Pendulum(), data, {"mass": (0.5, 2.0)}, confidence=confidence)
    with pytest.raises(ConfigError, match="too few"):
        td.identify(td.Pendulum(), tuple(x[:3] for x in data), {"mass": (0.5, 2.0)})
    with pytest.raises(ConfigError, match="does not show its state"):
        td.identify(
            td.CartPole(velocities=False),
            tuple(np.zeros((40, *s)) for s in ((2,), (), (2,))),
            {"pole_mass": (0.05, 1.0)},
        )
