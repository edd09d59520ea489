"""Wrappers of JAX environments, against loops and what their libraries count."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.configuration import check
from thorndike.envs.batched import Batched, is_masked
from thorndike.envs.wrappers import base as wrappers
from thorndike.nets.cnn import is_image, sides
from thorndike.ops.keys import random_key
from thorndike.types import Step

E = 5
RANGES = (("half_length", 0.25, 1.0), ("gravity", 5.0, 15.0))


@td.config
class Pictures:
    """Images that tell the time."""

    max_steps: int = 10

    @property
    def observation_space(self):
        return Box(0, 255, (4, 5, 2), np.uint8)

    @property
    def action_space(self):
        return Discrete(2)

    def reset(self, key):
        return Step(jnp.uint8(7), self.picture(7))

    def step(self, state, action, key):
        return Step(state + 1, self.picture(state + 1))

    def picture(self, time):
        return (jnp.arange(40, dtype=jnp.uint8).reshape(4, 5, 2) + time).astype(jnp.uint8)


def play(env, steps=60, seed=0, num_envs=E):
    """Random legal play: actions [T, E], timesteps at 0 ... T, and the simulators' states."""
    check(env)
    world, key = Batched(env, num_envs), random_key(seed)
    step = jax.jit(world.step)
    times, actions = [jax.jit(world.reset)(key)], []
    for _ in range(steps):
        key, akey, skey = jax.random.split(key, 3)
        legal = times[-1].info.get("mask", jnp.ones((num_envs, 2)))
        actions.append(jax.random.categorical(akey, jnp.log(legal)))
        times.append(step(times[-1], actions[-1], skey))
    return np.stack(actions), jax.device_get(times)


def test_a_time_limit_truncates():
    _, times = play(td.TimeLimit(env=td.CartPole(), steps=4), 8)
    assert times[4].truncated.all()
    assert not times[3].truncated.any()
    assert td.TimeLimit(env=td.CartPole(max_steps=3), steps=4).max_steps == 3


def test_images_are_stacked_behind_each_other():
    """[H, W, C] becomes [H, W, frames·C], which a network takes for an image."""
    env = td.FrameStack(env=Pictures(), frames=2)
    check(env)
    assert env.observation_space.shape == (4, 5, 4)
    assert is_image(env.observation_space)
    first = env.reset(jax.random.key(0))
    second = env.step(first.state, jnp.int32(0), jax.random.key(1))
    np.testing.assert_array_equal(first.obs, np.tile(first.state.mine[0], 2))
    np.testing.assert_array_equal(second.obs[..., :2], first.obs[..., 2:])
    np.testing.assert_array_equal(second.obs[..., 2:], first.obs[..., :2] + 1)


@td.config
class ChannelsFirst(Pictures):
    """The same pictures, [C, H, W], and larger."""

    @property
    def observation_space(self):
        return Box(0, 255, (2, 8, 9), np.uint8)

    def picture(self, time):
        return jnp.moveaxis(jnp.pad(super().picture(time), ((0, 4), (0, 4), (0, 0))), -1, 0)


def test_images_whose_channels_come_first_stay_so():
    env = td.FrameStack(env=ChannelsFirst(), frames=3)
    check(env)
    assert env.observation_space.shape == (6, 8, 9)
    first = env.reset(jax.random.key(0))
    second = env.step(first.state, jnp.int32(0), jax.random.key(1))
    np.testing.assert_array_equal(first.obs, np.concatenate([first.state.mine[0]] * 3))
    np.testing.assert_array_equal(second.obs, np.concatenate([*first.state.mine[1:], second.state.mine[-1]]))
    assert not np.array_equal(second.obs[4:], second.obs[:2])


@td.config
class Heat(ChannelsFirst):
    """And in floats."""

    @property
    def observation_space(self):
        return Box(0, 255, (2, 8, 9))

    def picture(self, time):
        return super().picture(time).astype(float)


def test_images_of_floats_are_stacked_as_those_of_bytes_are():
    floats, picture = td.FrameStack(env=Heat(), frames=3), td.FrameStack(env=ChannelsFirst(), frames=3)
    assert sides(floats.observation_space.shape) == (8, 9, 6)
    np.testing.assert_array_equal(floats.reset(jax.random.key(0)).obs, picture.reset(jax.random.key(0)).obs)


def test_planes_are_stacked_and_masks_passed_on():
    env = td.FrameStack(env=td.make("pgx/minatar-breakout"), frames=3)
    assert env.observation_space == MultiBinary((10, 10, 12))
    assert is_masked(env)
    assert not is_masked(td.FrameStack(env=td.CartPole()))
    first = env.reset(jax.random.key(0))
    second = env.step(first.state, jnp.int32(1), jax.random.key(1))
    assert env.observation_space.contains(np.asarray(second.obs, np.int8))
    np.testing.assert_array_equal(second.obs[..., :8], first.obs[..., 4:])
    np.testing.assert_array_equal(second.obs[..., 8:], env.env.step(first.state.inner, 1, jax.random.key(1)).obs)


@pytest.mark.parametrize(("scale", "clip", "expected"), [(3, None, 3), (3, 2.0, 2), (-3, None, -3), (-3, 2.0, -2)])
def test_rewards_are_scaled_and_clipped(scale, clip, expected):
    _, times = play(td.RewardScale(env=td.CartPole(), scale=scale, clip=clip), 3)
    assert (times[1].reward == expected).all()


def test_frames_are_stacked_newest_last():
    """Against the plain environment played with the same keys; no frame of the last episode is left in a new one."""
    _, plain = play(td.CartPole())
    _, stacked = play(td.FrameStack(env=td.CartPole(), frames=3))
    history = None
    assert any(now.first.any() for now in plain[1:])
    for now, seen in zip(plain, stacked):
        before = np.repeat(now.obs[:, None], 3, 1) if history is None else history
        shifted = np.concatenate([before[:, 1:], now.final_obs[:, None]], 1)
        if history is not None:
            np.testing.assert_array_equal(seen.final_obs, shifted)
        history = np.where(now.first[:, None, None], np.repeat(now.obs[:, None], 3, 1), shifted)
        np.testing.assert_array_equal(seen.obs, history)
    assert td.FrameStack(env=td.CartPole(), frames=3).observation_space.shape == (3, 4)
    assert td.FrameStack(env=td.CartPole(), frames=3).observation_space.contains(stacked[0].obs[0])


def test_actions_are_repeated_until_the_episode_ends():
    env = td.ActionRepeat(env=td.CartPole(), times=4)
    actions, times = play(env)
    for action, now, later in zip(actions, times, times[1:]):
        for e in range(E):
            state, reward = jax.tree.map(lambda x, e=e: x[e], now.sim.state.inner), 0.0
            for _ in range(4):
                step = env.env.step(state, action[e], None)
                state, reward = step.state, reward + step.reward
                if step.terminated:
                    break
            assert later.reward[e] == reward
            assert later.terminated[e] == step.terminated
            np.testing.assert_allclose(later.final_obs[e], step.obs, atol=1e-6)
    assert {1, 2, 3, 4} & {int(r) for now in times[1:] for r in now.reward} >= {4}
    assert any(0 < r < 4 for now in times[1:] for r in now.reward)
    assert env.max_steps == 125


def test_a_repeated_action_stops_at_the_inner_time_limit():
    """Five steps in two long ones: CartPole pays one for each, and is where its own fifth step led."""
    env = td.ActionRepeat(env=td.TimeLimit(env=td.CartPole(), steps=5), times=4)
    _, times = play(env, 2)
    np.testing.assert_array_equal(times[1].reward, 4.0)
    np.testing.assert_array_equal(times[2].reward, 1.0)
    assert times[2].truncated.all()
    stepped = jax.vmap(lambda state: env.env.step(state, 0, None).obs)(times[1].sim.state.inner)
    other = jax.vmap(lambda state: env.env.step(state, 1, None).obs)(times[1].sim.state.inner)
    matches = [np.isclose(times[2].final_obs, x, atol=1e-6).all(1) for x in (stepped, other)]
    assert (matches[0] | matches[1]).all()


def test_each_repeat_has_a_key_of_its_own():
    """Two steps that always slip lead from the middle of a room wherever two random moves lead."""
    room = (".....", ".....", "..S..", ".....", "....G")
    env = td.ActionRepeat(env=td.GridWorld(map=room, slip=1.0), times=2)
    state = env.reset(random_key(0)).state
    ends = jax.vmap(lambda key: env.step(state, 0, key).obs)(jax.random.split(random_key(1), 300))
    assert set(np.asarray(ends).tolist()) == {2, 6, 8, 10, 12, 14, 16, 18, 22}


def sticky_share(probability, seed=0):
    """How often an action that differs from the last one taken is not the one that is taken."""
    env = td.StickyActions(env=td.GridWorld(slip=0.0), probability=probability)
    actions, times = play(env, 300, seed)
    led_by = jax.jit(jax.vmap(lambda state, action: env.env.step(state, action, random_key(0)).obs))
    kept = asked = 0
    for action, now, later in zip(actions, times, times[1:]):
        last, any_yet = now.sim.state.mine
        taken, _ = later.sim.state.mine
        fresh = later.first  # a new episode has done nothing yet
        assert not any_yet[now.first].any()
        differs = any_yet & (action != last) & ~fresh
        kept, asked = kept + (taken == last)[differs].sum(), asked + differs.sum()
        assert (taken == action)[~any_yet & ~fresh].all()
        taken = np.where(fresh, np.where(any_yet & (action != last), -1, action), taken)  # -1: the end hides which
        led = led_by(now.sim.state.inner, taken)
        np.testing.assert_array_equal(np.asarray(led)[taken >= 0], later.final_obs[taken >= 0])
    return kept / asked


@td.config
class Tosses(td.CartPole):
    """Pays 1 when its own coin shows heads."""

    def step(self, state, action, key):
        return super().step(state, action, key)._replace(reward=jax.random.bernoulli(key).astype(float))


def test_what_sticks_says_nothing_of_the_environments_own_chance():
    env = td.StickyActions(env=Tosses(), probability=0.5)
    start = env.reset(random_key(0)).state._replace(mine=(jnp.int32(0), jnp.bool_(True)))
    after = jax.vmap(lambda key: env.step(start, 1, key))(jax.random.split(random_key(1), 2000))
    stuck = np.asarray(after.state.mine[0]) == 0
    assert 0.45 < stuck.mean() < 0.55
    assert abs(np.corrcoef(stuck, after.reward)[0, 1]) < 0.1


def test_sticky_actions():
    assert sticky_share(0.25) == pytest.approx(0.25, abs=0.06)
    assert sticky_share(0.0) == 0
    assert sticky_share(1.0) == 1


# --- legal actions ----------------------------------------------------------------------------------------------------


def test_what_sticks_is_legal():
    """pgx takes an illegal action for a loss: -1 and the end of the episode, where 2048 pays what tiles add up to."""
    actions, times = play(td.StickyActions(env=td.make("pgx/2048"), probability=1.0), 100)
    kept = changed = 0
    for action, now, later in zip(actions, times, times[1:]):
        last, taken = now.sim.state.mine[0], later.sim.state.mine[0]
        mask = now.sim.state.inner.legal_action_mask
        sticks = mask[np.arange(E), last] & ~now.first
        assert (taken == np.where(sticks, last, action))[~later.first].all()
        kept, changed = kept + sticks.sum(), changed + (~sticks & ~now.first).sum()
    assert min(kept, changed) > 20
    assert min(now.reward.min() for now in times) == 0


def test_what_is_repeated_is_legal():
    """As many steps by pgx's own count as the action stays legal; all that 2048 pays is even, but for the -1."""
    actions, times = play(td.ActionRepeat(env=td.make("pgx/2048"), times=4))
    seen = set()
    for action, now, later in zip(actions, times, times[1:]):
        before, after = now.sim.state.inner, later.sim.state.inner
        steps = (after._step_count - before._step_count)[~later.first]
        legal = after.legal_action_mask[np.arange(E), action][~later.first]
        assert ((steps == 4) | ((steps > 0) & ~legal)).all()
        assert (later.reward % 2 == 0).all()
        seen |= set(steps.tolist())
    assert seen == {1, 2, 3, 4}


@pytest.mark.parametrize("space", [Discrete(4, start=3), MultiDiscrete([2, 3]), MultiDiscrete([2, 3], start=[5, -1])])
def test_actions_and_masks(space):
    """Where one action is legal it is the one that Gymnasium samples under that mask."""
    sizes = np.ravel(space.nvec if isinstance(space, MultiDiscrete) else space.n)
    every = [np.reshape(parts, space.shape) + space.start for parts in np.ndindex(*sizes)]
    for parts in np.ndindex(*sizes):
        mask = tuple(np.eye(n, dtype=np.int8)[part] for n, part in zip(sizes, parts))
        legal = space.sample(mask if isinstance(space, MultiDiscrete) else mask[0])
        told = {"mask": jnp.asarray(np.concatenate(mask), bool)}
        for action in every:
            assert wrappers.allowed(space, told, action) == np.array_equal(action, legal)


# --- in a run ---------------------------------------------------------------------------------------------------------

ALL = td.RewardScale(
    env=td.FrameStack(
        env=td.StickyActions(env=td.TimeLimit(env=td.Randomised(env=td.CartPole(), ranges=RANGES), steps=20)), frames=2
    ),
    scale=0.5,
)
SMALL = td.PPO(num_envs=2, rollout_length=8, minibatch_size=16, epochs=1, torso=td.Torso(widths=(4,)))


def test_a_run_on_a_wrapped_environment_is_described_and_resumed(tmp_path):
    whole = td.train(SMALL, ALL, 96, out=tmp_path / "whole", progress=False)
    td.train(SMALL, ALL, 48, out=tmp_path / "half", progress=False)
    assert td.open_run(tmp_path / "half").env == ALL
    half = td.resume(tmp_path / "half", 96, progress=False)
    for a, b in zip(jax.tree.leaves(whole.actors()), jax.tree.leaves(half.actors())):
        np.testing.assert_array_equal(a, b)
    assert whole.evaluate(3).returns.max() <= 10


def test_a_curriculum_goes_on_where_it_was(tmp_path):
    env = td.Curriculum(env=td.CartPole(max_steps=5), ranges=(("gravity", 1.0, 9.8),), threshold=0.0, rate=0.01)
    whole = td.train(SMALL, env, 96, out=tmp_path / "whole", progress=False)
    td.train(SMALL, env, 48, out=tmp_path / "half", progress=False)
    half = td.resume(tmp_path / "half", 96, progress=False)
    for a, b in zip(jax.tree.leaves(whole.actors()), jax.tree.leaves(half.actors())):
        np.testing.assert_array_equal(a, b)


def test_a_function_cannot_be_described_and_has_to_be_given_again(tmp_path):
    env = td.Shaping(env=td.CartPole(), potential=lambda obs: obs[0])
    run = td.train(SMALL, env, 32, out=tmp_path / "run", progress=False)
    with pytest.raises(td.ConfigError, match="give it again, as env="):
        _ = td.open_run(run.path).env
    assert td.open_run(run.path, env=env).evaluate(2).lengths.min() > 0


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (td.TimeLimit(env=td.CartPole(), steps=0), "TimeLimit.steps must be positive"),
        (td.FrameStack(env=Pictures(), frames=3), r"makes \(4, 5, 2\) into \(4, 5, 6\), and channels look like"),
        (td.FrameStack(env=ChannelsFirst()), r"makes \(2, 8, 9\) into \(8, 8, 9\), and channels look like"),
        (td.FrameStack(env=td.GridWorld()), "FrameStack needs Box or MultiBinary observations"),
        (td.StickyActions(env=td.CartPole(), probability=1.5), r"must lie in \[0, 1\]"),
        (td.Randomised(env=td.CartPole(), ranges=(("length", 0.1, 1.0),)), "CartPole has no number 'length'; it has"),
        (td.Randomised(env=td.CartPole(), ranges=(("force", 2.0, 1.0),)), "the range of force is empty"),
        (td.Randomised(env=td.CartPole(), ranges=(("force", 2.0),)), "Randomised.ranges should be"),
        (td.Curriculum(env=td.CartPole(), ranges=(("length", 0.1, 1.0),)), "CartPole has no number 'length'"),
        (td.Curriculum(env=td.CartPole(), ranges=(), threshold=80.0), "threshold must be at least 0 and less than 1"),
        (td.Curriculum(env=td.CartPole(), ranges=(), threshold=1 - 1e-9), "threshold must be at least 0 and less"),
        (td.Curriculum(env=td.CartPole(), ranges=(), threshold=-0.1), "threshold must be at least 0 and less than 1"),
        (td.Curriculum(env=td.CartPole(), ranges=(), memory=1.0), "memory must be at least 0 and less than 1, got 1.0"),
        (td.Curriculum(env=td.CartPole(), ranges=(), memory=-0.5), "memory must be at least 0 and less than 1"),
        (td.Curriculum(env=td.CartPole(), ranges=(), rate=-0.1), "Curriculum.rate must not be negative, got -0.1"),
        (td.RewardScale(env="CartPole-v1"), "RewardScale.env should be"),
        (td.ActionRepeat(env=td.CartPole(), times=0), "ActionRepeat.times must be positive"),
        (td.RewardScale(env=td.CartPole(), clip=-1.0), "RewardScale.clip must be above 0"),
        (td.TimeLimit(env=td.Curriculum(env=td.CartPole(), ranges=()), steps=9), "Curriculum has to be outermost"),
        (td.TimeLimit(env=td.PgxGame(), steps=9), "TimeLimit is for environments of one player"),
    ],
)
def test_what_cannot_be_wrapped_is_said(env, text, tmp_path):
    with pytest.raises(td.ConfigError, match=text):
        td.train(SMALL, env, 32, out=tmp_path / "run", progress=False)
