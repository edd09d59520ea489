"""EnvPool: its endings in the terms of `HostBatch`, and what it refuses."""

from __future__ import annotations

import warnings

import gymnasium
import jax
import numpy as np
import pytest
from envpool_cases import COPIES, LIMIT, check_endings, walk

import thorndike as td


def test_every_transition_is_gymnasiums():
    """CartPole: `final_obs` follows from `obs` by Gymnasium's own dynamics, also with an episode's last step."""
    times, actions = walk(td.make("envpool/CartPole-v1", max_episode_steps=LIMIT))
    check_endings(times, LIMIT)
    assert times.terminated.any()
    assert times.truncated.any()
    world = gymnasium.make("CartPole-v1").unwrapped
    for t in range(len(actions)):
        for i in range(COPIES):
            world.reset()
            world.state = times.obs[t, i].astype(np.float64)
            obs, reward, terminated, _, _ = world.step(int(actions[t, i]))
            np.testing.assert_allclose(times.final_obs[t + 1, i], obs, rtol=1e-4, atol=1e-4)
            assert times.reward[t + 1, i] == reward
            assert times.terminated[t + 1, i] == terminated
    going = ~times.first
    np.testing.assert_array_equal(times.obs[going], times.final_obs[going])
    assert (np.abs(times.obs[times.first]) <= 0.05).all()  # Gymnasium's first states
    assert len(np.unique(times.obs[times.first], axis=0)) == times.first.sum()


def spaces_of(space):
    return dict(space.spaces) if hasattr(space, "spaces") else space


@pytest.mark.parametrize("name", ["HalfCheetah-v4", "CheetahRun-v1", "Pendulum-v1"])
def test_other_families(name):
    env = td.make(f"envpool/{name}", max_episode_steps=LIMIT)
    times, _ = walk(env, steps=30)
    check_endings(times, LIMIT)
    shapes = jax.tree.map(lambda space: (space.shape, space.dtype), spaces_of(env.observation_space))
    assert jax.tree.map(lambda x: (x.shape[2:], x.dtype), times.obs) == shapes
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(times.obs))


def test_a_hopper_that_falls_has_ended():
    """Gymnasium's rule: height above 0.7, angle within 0.2."""
    times, _ = walk(td.make("envpool/Hopper-v4", max_episode_steps=40), steps=60)
    check_endings(times, 40)
    height, angle = times.final_obs[..., 0], times.final_obs[..., 1]
    np.testing.assert_array_equal(times.terminated[1:], ((height <= 0.7) | (np.abs(angle) >= 0.2))[1:])
    assert times.terminated.any()


def test_a_task_without_a_limit():
    """Three steps to the right and off the cliff, without an end: EnvPool's limit is the largest number there is."""
    for options in ({}, {"max_episode_steps": 2**31 - 1}):
        with td.make("envpool/CliffWalking-v0", **options).batch(2) as batch:
            batch.reset()
            rewards = [batch.step(np.array([0, 1])).reward for _ in range(3)]
        np.testing.assert_array_equal(rewards, [[-1, -100], [-1, -100], [-1, -100]])


def test_seeds():
    env = td.make("envpool/Pendulum-v1", max_episode_steps=LIMIT)
    (first, _), (again, _), (other, _) = (walk(env, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.obs, again.obs)
    assert not np.array_equal(first.obs, other.obs)


def test_several_seeds_share_the_environments():
    env = td.make("envpool/CartPole-v1")
    together = walk(env, seed=[1, 2], copies=4)[0]
    for rows, seed in ((slice(0, 2), 1), (slice(2, 4), 2)):
        with env.batch(2, seed=seed) as batch:
            np.testing.assert_array_equal(batch.reset().obs, together.obs[0, rows])


def test_a_fall_at_the_time_limit_is_a_fall():
    """EnvPool itself calls it a truncation."""
    times, _ = walk(td.make("envpool/CartPole-v1", max_episode_steps=9), steps=9, copies=16, action=1)
    fallen = np.abs(times.final_obs[9, :, 2]) > 12 * np.pi / 180
    assert fallen.any()
    assert not fallen.all()
    np.testing.assert_array_equal(times.terminated[9], fallen)
    np.testing.assert_array_equal(times.truncated[9], ~fallen & ~times.terminated[:9].any(0))


def test_ppo_learns(tmp_path):
    """Random play scores about 22."""
    run = td.train(td.PPO(), "envpool/CartPole-v1", 30_000, out=tmp_path / "run", progress=False)
    assert run.evaluate(episodes=8).mean > 100
    assert td.open_run(tmp_path / "run").env.id == "CartPole-v1"


def test_says_no_more_than_it_should():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        td.make("envpool/Pendulum-v1").batch(1).reset()


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: td.make("envpool/Pog-v5"), td.UnknownNameError, "did you mean 'Pong-v5'"),
        (lambda: td.make("envpool/Pong-v5", skip=3), td.ConfigError, "no option skip; it has .*frame_skip"),
        (lambda: td.make("envpool/Pong-v5", frame_skip="a"), td.ConfigError, "frame_skip should be a whole number"),
        (lambda: td.make("envpool/Pong-v5", stack_num=0), td.ConfigError, "stack_num should be .* from 1"),
        (lambda: td.make("envpool/CartPole-v1", num_threads=-1), td.ConfigError, "num_threads should be .* from 0"),
        (lambda: td.make("envpool/CartPole-v1", num_envs=3), td.ConfigError, "no option num_envs"),
        (lambda: td.make("envpool/Pong-v5", img_height="84"), td.ConfigError, "img_height"),
        (lambda: td.make("envpool/CartPole-v1").batch(0), td.ConfigError, "num_envs must be positive"),
        (
            lambda: td.train(td.PPO(), "envpool/CartPole-v1", 100, on_env_error="restart"),
            td.ConfigError,
            "cannot be restarted",
        ),
        (lambda: td.make("envpool/Pong-v5").batch(1, on_error="restart"), td.ConfigError, "on_env_error"),
        (lambda: td.make("envpool/CartPole-v1").batch(2).step(np.zeros(3, int)), td.ConfigError, "needs \\(2,\\)"),
    ],
)
def test_refusals(monkeypatch, tmp_path, act, error, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"(?i){says}"):
        act()
    assert not list(tmp_path.iterdir())  # before anything started
