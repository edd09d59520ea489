"""Noise, delays and missing readings, against the plain environment stepped by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.configuration import check
from thorndike.envs.batched import Batched
from thorndike.envs.wrappers.sensors import neutral, zero
from thorndike.ops.keys import random_key
from thorndike.types import Step

E, T = 6, 60
SHORT = td.TimeLimit(env=td.CartPole(), steps=13)


def play(env, steps=T, seed=0):
    """Random play: actions [T, E], and the timesteps at 0 ... T."""
    check(env)
    world, key = Batched(env, E), random_key(seed)
    step = jax.jit(world.step)
    times, actions = [jax.jit(world.reset)(key)], []
    for _ in range(steps):
        key, akey, skey = jax.random.split(key, 3)
        space = env.action_space
        if isinstance(space, Discrete):
            legal = times[-1].info.get("mask", jnp.ones((E, int(space.n))))
            actions.append(jax.random.categorical(akey, jnp.log(legal)))
        else:
            actions.append(jax.random.uniform(akey, (E, *space.shape), minval=space.low, maxval=space.high))
        times.append(step(times[-1], actions[-1], skey))
    return np.stack(actions), jax.device_get(times)


def truths(times, see=lambda state: np.stack(state, -1)):
    """True observations [E, ...] of the states that the innermost environment is in at each time."""

    def innermost(state):
        return innermost(state.inner) if hasattr(state, "inner") else state

    return [np.asarray(see(innermost(now.sim.state))) for now in times]


@td.config
class Picture:
    """Grey bytes, a choice and a float, which tell the time."""

    max_steps: int = 50

    @property
    def observation_space(self):
        return Dict({"eye": Box(0, 255, (8, 8), np.uint8), "hour": Discrete(51), "heat": Box(0.0, 1.0, (3,))})

    @property
    def action_space(self):
        return Discrete(2)

    def seen(self, time):
        return {
            "eye": (jnp.arange(64, dtype=jnp.uint8) * 4).reshape(8, 8),
            "hour": jnp.int32(time),
            "heat": jnp.full(3, 0.5),
        }

    def reset(self, key):
        return Step(jnp.int32(0), self.seen(0))

    def step(self, state, action, key):
        return Step(state + 1, self.seen(state + 1))


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noise_is_gaussian_and_independent():
    env = td.ObservationNoise(env=SHORT, std=0.5)
    _, times = play(env, 200)
    truth = truths(times)
    noise = np.stack([now.obs - true for now, true in zip(times, truth)])[..., 1::2]  # of what has no bounds
    assert scipy.stats.kstest(noise.ravel(), scipy.stats.norm(0, 0.5).cdf).pvalue > 1e-3
    for a, b in [(noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05  # over time, environments and numbers
    ended = np.stack([now.first for now in times[1:]])
    final = np.stack([now.final_obs for now in times[1:]])
    shown = np.stack([now.obs for now in times[1:]])
    np.testing.assert_array_equal(final[~ended], shown[~ended])
    assert ended.any()
    assert (final[ended] != shown[ended])[:, 1::2].all()  # another state, and other noise


def test_noise_leaves_the_world_alone():
    """Rewards and endings are those of the plain environment in the same states, and the time limit holds."""
    actions, times = play(td.ObservationNoise(env=SHORT, std=3.0))
    plain = jax.jit(jax.vmap(lambda state, action: td.CartPole().step(state, action, None)))
    for action, now, later in zip(actions, times, times[1:]):
        step = plain(now.sim.state.inner, action)
        np.testing.assert_array_equal(later.reward, step.reward)
        np.testing.assert_array_equal(later.terminated, step.terminated)
        np.testing.assert_array_equal(later.truncated, ~later.terminated & (now.sim.steps == 12))
        going = ~later.first
        np.testing.assert_allclose(np.stack(later.sim.state.inner, -1)[going], np.asarray(step.obs)[going], atol=1e-6)


def test_noise_stays_in_the_space():
    """Bytes are rounded and cut at 0 and 255, floats at their bounds; what is no Box is left alone."""
    env = td.ObservationNoise(env=Picture(), std=40.0)
    _, times = play(env)
    space = env.observation_space
    seen = [now.obs for now in times]
    for obs in seen:
        for e in range(E):
            assert space.contains({name: np.asarray(part[e], space[name].dtype) for name, part in obs.items()})
    eye = np.stack([obs["eye"] for obs in seen]).astype(float)
    true = np.arange(64).reshape(8, 8) * 4
    middle = (eye - true)[..., 3:5, :]  # 96 to 156: far from both bounds
    assert abs(middle.std() - 40) < 1
    assert abs(middle.mean()) < 1
    assert abs((eye[..., 0, 0] == 0).mean() - 0.5) < 0.1  # half of the noise is below 0
    heat = np.stack([obs["heat"] for obs in seen])
    assert set(np.unique(heat)) >= {0.0, 1.0}
    np.testing.assert_array_equal(
        np.stack([obs["hour"] for obs in seen]), np.stack([now.sim.state.inner for now in times])
    )


def test_no_noise_shows_the_truth():
    _, times = play(td.ObservationNoise(env=SHORT, std=0.0), 20)
    for now, true in zip(times, truths(times)):
        np.testing.assert_allclose(now.obs, true, atol=1e-6)


def test_noise_may_differ_from_episode_to_episode():
    env = td.Randomised(env=td.ObservationNoise(env=td.TimeLimit(env=td.CartPole(), steps=60)), ranges=(("std", 0, 2),))
    _, times = play(env, 9)
    levels, noise = times[0].sim.state.mine[:, 0], np.stack([n.obs - t for n, t in zip(times, truths(times))])
    alive = np.cumsum([now.first for now in times[1:]], 0)[-1] == 0
    assert np.corrcoef(levels[alive], noise[:, alive].std((0, 2)))[0, 1] > 0.9


# --- delays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "behind"), [(0, 2), (3, 0), (2, 1)])
def test_delays(late, behind):
    """Actions `behind` steps late, of which the first are 0, and observations `late` steps late."""
    env = td.Delay(env=SHORT, observations=late, actions=behind)
    actions, times = play(env)
    plain = jax.jit(jax.vmap(lambda state, action: td.CartPole().step(state, action, None)))
    history = [[np.asarray(obs)] for obs in times[0].obs]  # true observations of this episode, for each environment
    chosen = [[0] * behind for _ in range(E)]
    ends = set()
    for action, now, later in zip(actions, times, times[1:]):
        for e in range(E):
            chosen[e].append(action[e])
        step = plain(now.sim.state.inner, np.array([line[-1 - behind] for line in chosen]))
        np.testing.assert_array_equal(later.reward, step.reward)
        np.testing.assert_array_equal(later.terminated, step.terminated)
        np.testing.assert_array_equal(later.truncated, ~later.terminated & (now.sim.steps == 12))
        for e in range(E):
            history[e].append(np.asarray(step.obs[e]))
            shown = history[e][max(0, len(history[e]) - 1 - late)]
            np.testing.assert_allclose(later.final_obs[e], shown, atol=1e-6)
            if later.first[e]:
                ends.add("terminated" if later.terminated[e] else "truncated")
                history[e], chosen[e] = [np.stack(later.sim.state.inner, -1)[e]], [0] * behind
                shown = history[e][0]
            np.testing.assert_allclose(later.obs[e], shown, atol=1e-6)
    assert ends == {"terminated", "truncated"}


def test_delayed_boxes_wait_at_zero():
    """Pendulum's torque: nothing for two steps, then the first action."""
    env = td.Delay(env=td.Pendulum(), actions=2)
    state = env.reset(random_key(0)).state
    plain = state.inner
    for t, torque in enumerate([1.0, -2.0, 0.5, 0.0]):
        state = env.step(state, jnp.array([torque]), random_key(1)).state
        plain = td.Pendulum().step(plain, jnp.array([[0.0, 0.0, 1.0, -2.0][t]]), random_key(1)).state
        for a, b in zip(jax.tree.leaves(state.inner), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_late_action_that_is_illegal_is_replaced():
    """pgx takes an illegal move for a loss: -1 and the end. All that 2048 pays else is positive."""
    game = td.make("pgx/2048")
    actions, times = play(td.Delay(env=game, actions=1), 100)
    late = replaced = 0
    paid = jax.jit(jax.vmap(lambda state, action: game.step(state, action, random_key(0)).reward))
    for action, now, later in zip(actions, times, times[1:]):
        due = jax.tree.leaves(now.sim.state.mine[1])[0][:, 0]
        legal = now.info["mask"][np.arange(E), due]
        np.testing.assert_array_equal(legal, now.sim.state.mine[2])
        np.testing.assert_array_equal(later.reward, paid(now.sim.state.inner, np.where(legal, due, action)))
        late, replaced = late + legal.sum(), replaced + (~legal).sum()
    assert min(late, replaced) > 20
    assert min(now.reward.min() for now in times) == 0


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (Discrete(3), 0),
        (Discrete(3, start=-1), -1),
        (MultiDiscrete([2, 3], start=[4, -2]), [4, -2]),
        (MultiBinary(3), [0, 0, 0]),
        (Box(-2, 2, (2,)), [0, 0]),
        (Box(np.float32([1, -3]), np.float32([2, -2])), [1, -2]),
        (Box(2, 5, (1,), np.int32), [2]),
    ],
)
def test_neutral_actions(space, action):
    np.testing.assert_array_equal(neutral(space), action)
    assert space.contains(np.asarray(neutral(space), space.dtype))


# --- missing readings -------------------------------------------------------------------------------------------------


def gone(env, steps=200):
    """What is shown and what is true [T, E, 4], and where episodes begin [T, E]."""
    _, times = play(env, steps)
    true = np.stack(truths(times))
    shown = np.stack([now.obs for now in times])
    first = np.stack([now.first for now in times])
    return shown, true, first


@pytest.mark.parametrize("what", ["numbers", "observation"])
def test_missing_numbers_are_zero(what):
    shown, true, _ = gone(td.SensorDropout(env=SHORT, probability=0.3, what=what))
    missing = shown == 0
    np.testing.assert_allclose(shown[~missing], true[~missing], atol=1e-6)
    assert abs(missing.mean() - 0.3) < 0.04
    together = (missing.all(-1) | ~missing.any(-1)).all()
    assert together == (what == "observation")
    if what == "numbers":
        correlations = np.corrcoef(missing.reshape(-1, 4).T) - np.eye(4)
        assert np.abs(correlations).max() < 0.1


@pytest.mark.parametrize("what", ["numbers", "observation"])
def test_missing_numbers_are_held(what):
    """Each is the truth of now or what was shown a step ago; the first of an episode is complete."""
    shown, true, first = gone(td.SensorDropout(env=SHORT, probability=0.4, what=what, shown="last"))
    np.testing.assert_allclose(shown[first], true[first], atol=1e-6)
    later = ~first[1:]
    fresh = np.isclose(shown[1:], true[1:], atol=1e-6)[later]
    held = (shown[1:] == shown[:-1])[later]
    assert (fresh | held).all()
    assert abs((~fresh).mean() - 0.4) < 0.05
    together = (held.all(-1) | fresh.all(-1)).all()
    assert together == (what == "observation")
    assert (held[:, 0][1:] & ~fresh[:, 0][1:]).any()


def test_missing_parts_of_a_dict_stay_in_their_space():
    env = td.SensorDropout(env=Picture(), probability=1.0)
    obs = env.reset(random_key(0)).obs
    assert {name: float(np.max(part)) for name, part in obs.items()} == {"eye": 0, "hour": 0, "heat": 0}
    np.testing.assert_array_equal(zero(Box(np.float32([1, -4]), np.float32([2, -3]))), [1, -3])
    np.testing.assert_array_equal(zero(Discrete(3, start=5)), 5)
    np.testing.assert_array_equal(zero(MultiDiscrete([2, 2], start=[-5, 0])), [-4, 0])
    whole = td.SensorDropout(env=Picture(), probability=0.5, what="observation")
    seen = jax.vmap(lambda key: whole.reset(key).obs)(jax.random.split(random_key(0), 200))
    dark, cold = (np.asarray(seen[name]).reshape(200, -1).max(1) == 0 for name in ("eye", "heat"))
    np.testing.assert_array_equal(dark, cold)
    assert 0.4 < dark.mean() < 0.6


# --- in a run ---------------------------------------------------------------------------------------------------------

SMALL = td.PPO(num_envs=2, rollout_length=8, minibatch_size=16, epochs=1, torso=td.Torso(widths=(4,)))
WRAPPED = td.ObservationNoise(
    env=td.SensorDropout(env=td.Delay(env=td.CartPole(max_steps=20), observations=1, actions=1), shown="last"), std=0.05
)


def test_a_run_is_described_and_resumed(tmp_path):
    whole = td.train(SMALL, WRAPPED, 96, out=tmp_path / "whole", progress=False)
    td.train(SMALL, WRAPPED, 48, out=tmp_path / "half", progress=False)
    assert td.open_run(tmp_path / "half").env == WRAPPED
    half = td.resume(tmp_path / "half", 96, progress=False)
    for a, b in zip(jax.tree.leaves(whole.actors()), jax.tree.leaves(half.actors())):
        np.testing.assert_array_equal(a, b)
    assert whole.evaluate(3).lengths.max() <= 20


def test_frames_are_drawn_through_all_of_them():
    env = td.Delay(env=td.ObservationNoise(env=td.Randomised(env=td.CartPole(), ranges=())), actions=1)
    state = jax.device_get(env.reset(random_key(0)).state)
    frame = env.render(state)
    np.testing.assert_array_equal(frame, td.CartPole().render(state.inner.inner.inner))


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (td.ObservationNoise(env=td.CartPole(), std=-0.1), "ObservationNoise.std must not be negative, got -0.1"),
        (td.ObservationNoise(env=td.GridWorld()), "ObservationNoise needs observations with a Box, got Discrete"),
        (td.Delay(env=td.CartPole()), "Delay needs observations or actions that are at least one step late"),
        (td.Delay(env=td.CartPole(), observations=-1, actions=2), "none early: -1 and 2"),
        (td.SensorDropout(env=td.CartPole(), probability=1.5), r"probability must lie in \[0, 1\]"),
        (td.SensorDropout(env=td.CartPole(), shown="nothing"), "SensorDropout.shown should be"),
        (td.Delay(env=td.PgxGame(), actions=1), "Delay is for environments of one player"),
        (td.ObservationNoise(env=td.Curriculum(env=td.CartPole(), ranges=())), "Curriculum has to be outermost"),
    ],
)
def test_what_cannot_be_wrapped_is_said(env, text, tmp_path):
    with pytest.raises(td.ConfigError, match=text):
        td.train(SMALL, env, 32, out=tmp_path / "run", progress=False)
