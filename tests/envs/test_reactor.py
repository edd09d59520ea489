"""The stirred tank against SciPy's integrator and root finding, closed forms of its drift, and wrong versions of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import thorndike as td
from thorndike.envs.control import reactor
from thorndike.envs.control.reactor import CENTRE, ReactorState
from thorndike.ops.keys import random_key

ENV = td.Reactor()
STEP = jax.jit(ENV.step)


def rates(c, temperature, coolant, feed):
    """ċ and Ṫ of Seborg et al. (2011, example 2.5): q = V = 100, ρ c_p = 239, ΔH = -5e4, UA = 5e4, E/R = 8750."""
    r = 7.2e10 * np.exp(-8750 / temperature) * c
    return 1 - c - r, feed - temperature + 5e4 / 239 * r + 5e4 / 23900 * (coolant - temperature)


def worlds(low, high, n=40):
    """c, T, T_c and T_f, [n] each."""
    rng = np.random.default_rng(0)
    return rng.uniform((low[0], low[1], 280, 340), (high[0], high[1], 320, 360), (n, 4)).T


def missed(env=ENV, low=(0.35, 340), high=(0.6, 356)):
    """The largest differences of c (mol/L) and T (K) from SciPy's LSODA after a step."""
    start = worlds(low, high)
    found = np.stack(jax.vmap(env.advanced)(*map(jnp.float32, start)), 1)
    solved = [
        scipy.integrate.solve_ivp(
            lambda _, y, u=u: rates(*y, *u), (0, 0.1), y, method="LSODA", rtol=1e-9, atol=1e-11
        ).y[:, -1]
        for *y, a, b in start.T
        for u in [(a, b)]
    ]
    return np.abs(found - solved).max(0)


def test_steps_are_those_of_a_stiff_solver():
    assert (missed() < (1e-4, 0.015)).all()
    assert (missed(low=(0.5, 330), high=(1.0, 400)) < (0.015, 3.0)).all()  # from here it ignites: 540 K and more


def test_the_error_falls_with_the_square_of_the_substep(monkeypatch):
    errors = []
    for n in (3, 6):
        monkeypatch.setattr(reactor, "SUBSTEPS", n)
        errors.append(missed()[1])
    assert 3.5 < errors[0] / errors[1] < 4.5


@pytest.mark.parametrize("wrong", ["heat of the wrong sign", "no coolant", "degrees Celsius", "a feed as cold as ice"])
def test_wrong_reactors_miss_them(wrong, monkeypatch):
    right, env = td.Reactor.advanced, ENV
    if wrong == "heat of the wrong sign":
        env = td.Reactor(enthalpy=5e4)
    elif wrong == "no coolant":
        monkeypatch.setattr(td.Reactor, "advanced", lambda self, c, t, coolant, feed: right(self, c, t, t, feed))
    elif wrong == "degrees Celsius":
        rate = td.Reactor.rate
        monkeypatch.setattr(td.Reactor, "rate", lambda self, t: rate(self, t - 273.15))
    else:
        monkeypatch.setattr(
            td.Reactor, "advanced", lambda self, c, t, coolant, feed: right(self, c, t, coolant, feed - 77)
        )
    assert (missed(env) > (1e-3, 0.3)).any()


def steady_states(coolant):
    """All (c, T) at which nothing changes, by bisection of what c leaves of Ṫ = 0."""

    def excess(temperature):
        c = 1 / (1 + 7.2e10 * np.exp(-8750 / temperature))
        return rates(c, temperature, coolant, 350.0)[1]

    grid = np.linspace(300, 450, 1501)
    signs = np.flatnonzero(np.diff(np.sign([excess(t) for t in grid])))
    found = [scipy.optimize.brentq(excess, grid[i], grid[i + 1]) for i in signs]
    return [(1 / (1 + 7.2e10 * np.exp(-8750 / t)), t) for t in found]


def test_of_three_steady_states_the_middle_one_is_a_saddle():
    """A step of dt grows as exp(λ dt), λ from the equations' own derivatives. The cold state is stable; the hot one
    is a focus that the tank leaves, to oscillate."""
    found = steady_states(300.0)
    assert len(found) == 3
    np.testing.assert_allclose(found[1], (0.5, 350.0), rtol=1e-3)
    grows = []
    for c, temperature in found:
        jump = jax.jacfwd(lambda y: jnp.stack(ENV.advanced(y[0], y[1], 300.0, 350.0)))(jnp.array([c, temperature]))
        eigenvalues = np.linalg.eigvals(np.asarray(jump, float))
        grows.append(eigenvalues)
        k, slope = (1 - c) / c, 8750 / temperature**2 * (1 - c)
        linear = np.array([[-1 - k, -slope], [5e4 / 239 * k, -1 - 5e4 / 23900 + 5e4 / 239 * slope]])
        expected = np.exp(0.1 * np.linalg.eigvals(linear))
        np.testing.assert_allclose(np.sort(np.abs(eigenvalues)), np.sort(np.abs(expected)), rtol=0.01)
    cold, middle, hot = grows
    assert np.abs(cold).max() < 1
    np.testing.assert_allclose(np.sort(middle), np.exp(0.1 * np.array([-0.454, 2.83])), rtol=0.01)
    assert np.iscomplex(hot).all()
    assert np.abs(hot).min() > 1


def test_setpoints_are_the_unstable_ones():
    """`steady` is the middle root of its own coolant, all over the range of setpoints."""
    for c in np.linspace(*reactor.SETPOINTS, 5):
        temperature, coolant = map(float, ENV.steady(jnp.float32(c)))
        roots = steady_states(coolant)
        assert len(roots) == 3
        np.testing.assert_allclose(roots[1], (c, temperature), rtol=1e-3)
        assert reactor.COOLANT[0] < coolant < reactor.COOLANT[1]
        assert temperature < ENV.limit


def state(**changes):
    return jax.tree.map(jnp.float32, CENTRE._replace(**{"due": 5.0, **changes}))


def test_left_alone_it_goes_cold_or_ignites():
    ends = []
    for kick in (-1.0, 1.0):
        now = state(temperature=350.0 + kick)
        for t in range(60):
            now = STEP(now._replace(feed=jnp.float32(350)), jnp.array([300.0]), random_key(t)).state
            if kick > 0 and now.temperature > ENV.limit:
                break
        ends.append(float(now.temperature))
    assert ends[0] < 330
    assert ends[1] > ENV.limit


def test_what_a_step_earns():
    """By hand: the concentration that it leads to, against the setpoint that was shown before."""
    before = state(setpoint=0.45, following=0.6, due=0.1)
    found = STEP(before, jnp.array([290.0]), random_key(0))
    c = float(found.state.concentration)
    assert float(found.reward) == pytest.approx(-(((c - 0.45) / 0.1) ** 2) - 0.05, rel=1e-5)
    assert float(found.state.setpoint) == pytest.approx(0.6)
    assert float(found.state.integral) == pytest.approx(0.1 * (0.45 - c), rel=1e-4)
    assert float(found.state.coolant) == 290.0
    assert float(found.state.due) == ENV.hold
    assert float(STEP(before, jnp.array([500.0]), random_key(0)).state.coolant) == 320.0  # the warmest


def late(step):
    """A step whose cost is that of the state before."""
    return lambda s, a, k: step(s, a, k)._replace(info={"cost": jnp.float32(s.temperature > ENV.limit)})


@pytest.mark.parametrize("right", [True, False])
def test_the_cost_is_of_the_state_that_a_step_leads_to(right):
    step = STEP if right else late(STEP)
    over = step(state(temperature=364.9, concentration=0.45), jnp.array([320.0]), random_key(0))
    under = step(state(temperature=365.1, concentration=0.3), jnp.array([280.0]), random_key(0))
    assert over.state.temperature > ENV.limit > under.state.temperature
    assert ((float(over.info["cost"]), float(under.info["cost"])) == (1.0, 0.0)) is right


def walk(steps, seed=0):
    """States [steps] at the steady state's coolant."""

    def step(now, key):
        after = ENV.step(now, jnp.array([300.0]), key).state
        return after, after

    return jax.jit(lambda k: jax.lax.scan(step, ENV.reset(k).state, jax.random.split(k, steps))[1])(random_key(seed))


def test_the_feed_drifts_and_setpoints_come_as_announced():
    """An autoregression: deviation 3 K, and correlation e^(-t / 5 min)."""
    seen = walk(60_000)
    feed = np.asarray(seen.feed, float) - 350
    assert feed.std() == pytest.approx(3.0, rel=0.1)
    for lag in (10, 50):
        assert np.corrcoef(feed[:-lag], feed[lag:])[0, 1] == pytest.approx(np.exp(-lag / 50), abs=0.06)
    setpoint, following = np.asarray(seen.setpoint)[:500], np.asarray(seen.following)[:500]
    changes = np.flatnonzero(np.diff(setpoint)) + 1
    np.testing.assert_array_equal(changes, np.arange(49, 500, 50))
    np.testing.assert_array_equal(setpoint[changes], following[changes - 1])
    assert setpoint.min() >= 0.4
    assert setpoint.max() <= 0.6


def cascade():
    path = Path(__file__).parents[2] / "examples" / "reactor.py"
    spec = importlib.util.spec_from_file_location("reactor_example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.cascade


def settled(rule):
    """|c - r| after 15 minutes without drift or another setpoint, from the steady state of 0.5 mol/L."""
    now = state(setpoint=0.47)._replace(due=jnp.float32(1e6))
    for t in range(150):
        obs = np.array([(x - m) / s for x, m, s in zip(now, CENTRE, reactor.SCALE)])
        now = STEP(now._replace(feed=jnp.float32(350)), jnp.asarray(rule(obs), jnp.float32), random_key(t)).state
    return abs(float(now.concentration) - 0.47)


def test_the_cascade_settles_and_a_pi_controller_alone_does_not():
    """The sum of the closed loop's poles is 2.38 /min, whatever the gains of a PI controller on the concentration."""
    assert settled(cascade()) < 2e-3
    integral = 2.0

    def alone(obs, gain):
        now = ENV.state_of(obs)
        return np.clip([300 + gain * (now.setpoint - now.concentration + now.integral / integral)], 280, 320)

    assert min(settled(lambda obs, g=g: alone(obs, g)) for g in (-400, -100, 100, 400)) > 0.05
    k, slope, gain = 1.0, 8750 / 350**2 * 0.5, 5e4 / 23900
    for p in np.linspace(-500, 500, 21):
        for i in np.linspace(-500, 500, 21):
            loop = [  # of c, T and the integral
                [-1 - k, -slope, 0],
                [5e4 / 239 * k - gain * p, -1 - gain + 5e4 / 239 * slope, gain * i],
                [-1, 0, 0],
            ]
            assert np.linalg.eigvals(loop).sum().real == pytest.approx(2.38, abs=0.02)


def test_identified_from_logged_steps():
    """Heat transfer and heat of reaction of a fouled reactor, from 600 steps."""
    env, rng = td.Reactor(transfer=4.2e4, enthalpy=-5.4e4), np.random.default_rng(0)
    start = ReactorState(
        *rng.uniform((0.4, 340, 290, 345, 0.4, 0.4, 1, -0.1), (0.6, 356, 310, 355, 0.6, 0.6, 4, 0.1), (600, 8)).T
    )
    obs = np.stack([(x - m) / s for x, m, s in zip(start, CENTRE, reactor.SCALE)], 1).astype(np.float32)
    action = rng.uniform(285, 315, (600, 1)).astype(np.float32)
    step = lambda o, a, k: env.step(env.state_of(o), a, k).obs  # noqa: E731
    after = jax.vmap(step)(obs, action, jax.random.split(random_key(1), 600))
    after = after + 0.002 * rng.normal(size=after.shape)
    found = td.identify(ENV, (obs, action, after), {"transfer": (2e4, 8e4), "enthalpy": (-8e4, -3e4)}, starts=1)
    assert found.values["transfer"] == pytest.approx(4.2e4, rel=0.03)
    assert found.values["enthalpy"] == pytest.approx(-5.4e4, rel=0.03)


@pytest.mark.parametrize("name", ["flow", "volume", "frequency", "activation", "enthalpy", "capacity", "transfer"])
def test_finite_in_other_physics(name):
    """Every number a fifth lower and higher, ignition included, with the coolant as warm as it gets."""
    for factor in (0.8, 1.2):
        env = td.Reactor(**{name: factor * getattr(ENV, name)})
        c, temperature, coolant, feed = map(jnp.float32, worlds((0.0, 280), (1.0, 500)))
        for _ in range(5):
            c, temperature = jax.vmap(env.advanced)(c, temperature, coolant, feed)
        assert np.isfinite(np.asarray([c, temperature])).all()
        assert float(c.min()) >= 0
        assert float(c.max()) <= 1.0001
        assert float(temperature.max()) < 1000


def test_a_state_is_what_its_observation_shows():
    seen = ENV.reset(random_key(3))
    for found, expected in zip(ENV.state_of(seen.obs), seen.state):
        assert float(found) == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


def test_a_frame_is_redder_when_hot():
    frames = [ENV.render(state(temperature=t)) for t in (335.0, 365.0)]
    assert frames[0].shape == (320, 480, 3)
    red = [frame[100, 100].astype(int) for frame in frames]  # in the tank
    assert red[1][0] > red[0][0]
    assert red[1][2] < red[0][2]
