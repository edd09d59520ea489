"""The U-shaped maze: its wall, its goal, and how far random actions get."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import thorndike as td
from thorndike.envs.continuous.point_maze import PointState, blocked

ENV = td.PointMaze()
STEP = jax.jit(ENV.step)


def walk(position, actions):
    """The steps from a position."""
    state, found = PointState(jnp.asarray(position)), []
    for action in actions:
        found.append(STEP(state, jnp.asarray(action, jnp.float32), jax.random.key(0)))
        state = found[-1].state
    return found


def test_around_the_wall_in_twelve_steps():
    """And each step but the last costs 1. A search over steps of full, half and no length finds no shorter way."""
    found = walk((-3.0, -3.0), 6 * [(1, 1)] + [(0, 1)] + 5 * [(-1, 1)])
    np.testing.assert_array_equal([x.reward for x in found], 11 * [-1] + [0])
    np.testing.assert_array_equal([x.terminated for x in found], 11 * [False] + [True])
    assert bool(found[-1].info["success"])
    np.testing.assert_allclose(found[-1].obs, (-2.5, 3.0), atol=1e-6)
    parts = np.linspace(-1, 1, 5, dtype=np.float32)
    actions = jnp.asarray(np.stack(np.meshgrid(parts, parts), -1).reshape(-1, 2))
    spread = jax.jit(
        jax.vmap(jax.vmap(lambda p, a: ENV.step(PointState(p), a, jax.random.key(0)), (None, 0)), (0, None))
    )
    places, steps, reached = np.array([[-3.0, -3.0]], np.float32), 0, False
    while not reached:
        padded = np.concatenate([places, np.broadcast_to(places[:1], (33 * 33 - len(places), 2))])  # one shape
        after = spread(padded, actions)
        places, steps = np.unique(np.asarray(after.obs).reshape(-1, 2), axis=0), steps + 1
        reached = bool(after.terminated.any())
    assert steps == 12


def test_nothing_goes_through_the_wall():
    """Straight up ends below it; and 100 environments of random actions are never inside of it, nor outside."""
    assert float(walk((-3.0, -3.0), 30 * [(0, 1)])[-1].obs[1]) <= -0.4
    positions = jnp.stack(jnp.meshgrid(jnp.linspace(-4, 4, 41), jnp.linspace(-4, 4, 41)), -1).reshape(-1, 2)
    positions = positions[~np.asarray(blocked(positions))]
    key = jax.random.key(1)
    for k in jax.random.split(key, 30):
        actions = jax.random.uniform(k, positions.shape, minval=-1, maxval=1)
        after = jax.vmap(lambda p, a, k=k: ENV.step(PointState(p), a, k).obs)(positions, actions)
        assert not np.asarray(blocked(after)).any()
        assert float(jnp.abs(after).max()) <= 4.0
        crossed = (np.sign(after[:, 1]) != np.sign(positions[:, 1])) & (np.asarray(positions[:, 1]) != 0)
        assert (np.asarray(jnp.maximum(positions[:, 0], after[:, 0]))[crossed] > -0.5).all()
        positions = after


def test_random_actions_do_not_get_there():
    def episode(key):
        rkey, *keys = jax.random.split(key, 101)

        def step(carry, key):
            state, reached = carry
            akey, skey = jax.random.split(key)
            found = ENV.step(state, jax.random.uniform(akey, (2,), minval=-1.0, maxval=1.0), skey)
            return (found.state, reached | found.terminated), None

        start = ENV.reset(rkey).state, jnp.bool_(False)
        return jax.lax.scan(step, start, jnp.stack(keys))[0][1]

    reached = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 1000))
    assert reached.mean() < 0.01


def test_a_frame_shows_goal_and_point():
    frame = ENV.render(PointState(jnp.array([2.0, 0.0])))
    assert frame.shape == (320, 320, 3)
    assert {(63, 157, 93), (217, 130, 43)} <= {tuple(x) for x in frame.reshape(-1, 3).tolist()}
