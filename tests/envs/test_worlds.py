"""Randomised physics and curricula, against Gymnasium's physics and loops over episodes."""

from __future__ import annotations

import math

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_wrappers import RANGES, SMALL, E, play

import thorndike as td
from thorndike.configuration import check, require
from thorndike.runs.results.video import filmable


def test_each_episode_has_a_world_of_its_own():
    """Gymnasium's CartPole with the drawn numbers makes the same steps; they stay for an episode and then change."""
    actions, times = play(td.Randomised(env=td.CartPole(), ranges=RANGES))
    theirs = gymnasium.make("CartPole-v1").unwrapped
    drawn = [now.sim.state.mine for now in times]
    for t, (action, now, later) in enumerate(zip(actions, times, times[1:])):
        for e in range(E):
            theirs.reset(seed=0)
            theirs.length, theirs.gravity = float(drawn[t][e][0]), float(drawn[t][e][1])
            theirs.polemass_length = theirs.masspole * theirs.length
            theirs.state = tuple(now.obs[e].astype(float))
            np.testing.assert_allclose(later.final_obs[e], theirs.step(int(action[e]))[0], atol=1e-5)
            assert (drawn[t + 1][e] != drawn[t][e]).all() == later.first[e]
    values = np.concatenate(drawn)
    assert (values >= [0.25, 5.0]).all()
    assert (values <= [1.0, 15.0]).all()
    assert values[:, 0].std() > 0.1
    assert abs(np.corrcoef(np.unique(values, axis=0).T)[0, 1]) < 0.5  # drawn one by one


def test_gymnaxs_parameters_are_drawn_too(tmp_path):
    """gymnax's own step with the drawn parameters is the same step."""
    gymnax = pytest.importorskip("gymnax")
    env = td.Randomised(env=td.make("gymnax/CartPole-v1"), ranges=(("gravity", 5.0, 15.0), ("force_mag", 5.0, 15.0)))
    actions, times = play(env)
    theirs, params = gymnax.make("CartPole-v1")
    step = jax.jit(theirs.step_env)
    worlds = set()
    for action, now, later in zip(actions, times, times[1:]):
        for e in range(E):
            inner, (gravity, force) = jax.tree.map(lambda x: x[e], now.sim.state)  # noqa: B023
            worlds.add((float(gravity), float(force)))
            obs, *_ = step(jax.random.key(0), inner, action[e], params.replace(gravity=gravity, force_mag=force))
            np.testing.assert_allclose(later.final_obs[e], obs, atol=1e-6)
    assert 5 <= min(gravity for gravity, _ in worlds) < max(gravity for gravity, _ in worlds) <= 15
    assert len(worlds) == E + sum(now.first.sum() for now in times[1:])
    assert "gravity" in td.make("gymnax/CartPole-v1", gravity=10).numbers
    twice = (
        td.Randomised(env=env, ranges=(("length", 1.0, 2.0),)).changed(np.array([1.5])).changed(np.array([6.0, 7.0]))
    )
    assert twice._loaded.params.replace(length=0.5) == params.replace(gravity=6.0, force_mag=7.0)
    assert twice._loaded.params.length == 1.5
    harder = td.Curriculum(env=env.env, ranges=(("gravity", 5.0, 9.8),))
    assert harder.evaluation._loaded.params.gravity == pytest.approx(9.8)
    run = td.train(SMALL, harder, 64, out=tmp_path / "run", progress=False)
    assert td.open_run(run.path).env == harder
    assert td.open_run(run.path).evaluate(3).returns.shape == (1, 3)
    with pytest.raises(td.ConfigError, match="Gymnax has no number 'g'; it has gravity, masscart"):
        check(td.Randomised(env=env.env, ranges=(("g", 1.0, 2.0),)))


def test_worlds_around_wrappers_are_those_inside_of_them():
    inside = td.FrameStack(env=td.Randomised(env=td.CartPole(), ranges=RANGES), frames=2)
    outside = td.Randomised(env=td.FrameStack(env=td.TimeLimit(env=td.CartPole(), steps=500), frames=2), ranges=RANGES)
    for one, other in zip(play(inside)[1], play(outside)[1]):
        np.testing.assert_array_equal(one.obs, other.obs)
    moved = td.Curriculum(env=outside.env, ranges=(("gravity", 1.0, 9.8), ("force", 10.0, 12.0))).changed(0.5)
    assert (float(moved.env.env.gravity), float(moved.env.env.force)) == pytest.approx((5.4, 11.0))
    assert moved.env.env.half_length == 0.5


def test_a_name_means_the_outermost_field():
    env = td.RewardScale(env=td.RewardScale(env=td.CartPole(), scale=2.0), scale=3.0)
    changed = td.Curriculum(env=env, ranges=(("scale", 5.0, 7.0),)).changed(1.0)
    assert (changed.scale, changed.env.scale) == (7.0, 2.0)


def test_what_is_drawn_is_the_innermost_state():
    env = td.RewardScale(env=td.FrameStack(env=td.StickyActions(env=td.CartPole()), frames=2))
    key = jax.random.key(0)
    wrapped, plain = env.reset(key).state, td.CartPole().reset(key).state
    np.testing.assert_array_equal(env.render(wrapped), td.CartPole().render(plain))
    assert not np.array_equal(env.render(wrapped), td.CartPole().render(plain._replace(x=plain.x + 1.0)))


def test_a_world_is_drawn_as_it_is():
    key, longer = jax.random.key(0), td.CartPole(half_length=2.0)
    for env in (
        td.Randomised(env=td.CartPole(), ranges=(("half_length", 2.0, 2.0),)),
        td.Curriculum(env=td.CartPole(), ranges=(("half_length", 2.0, 0.5),)),
        td.RewardScale(env=td.Randomised(env=td.CartPole(), ranges=(("half_length", 2.0, 2.0),))),
    ):
        state = env.reset(key).state
        np.testing.assert_array_equal(env.render(state), longer.render(state.inner))
        assert not np.array_equal(env.render(state), td.CartPole().render(state.inner))
    assert not filmable(td.Randomised(env=td.make("gymnax/CartPole-v1"), ranges=()))


def test_a_number_has_one_wrapper_that_draws_it():
    inner = td.Randomised(env=td.CartPole(), ranges=(("gravity", 8.0, 12.0),))
    for outer in (td.Randomised, td.Curriculum):
        check(outer(env=inner, ranges=(("force", 8.0, 12.0),)))
        with pytest.raises(td.ConfigError, match="gravity is drawn anew by a wrapper inside"):
            check(outer(env=td.RewardScale(env=inner), ranges=(("gravity", 8.0, 12.0),)))


@td.config
class Heavy(td.CartPole):
    """A CartPole whose cart has to outweigh its pole."""

    def check(self):
        require(self.cart_mass > self.pole_mass, "the cart is too light")


@pytest.mark.parametrize("outer", [td.Randomised, td.Curriculum])
@pytest.mark.parametrize(
    ("env", "ranges", "text"),
    [
        (td.GridWorld(), (("slip", 0.0, 5.0),), "slip = 5.0: GridWorld.slip is a probability, got 5.0"),
        (td.GridWorld(), (("goal_reward", 1.0, 2.0), ("slip", -1.0, 1.0)), "slip = -1.0: GridWorld.slip is a"),
        (td.FrameStack(env=td.StickyActions(env=td.CartPole())), (("probability", 0.0, 3.0),), "probability = 3.0: St"),
        (Heavy(), (("cart_mass", 1.0, 2.0), ("pole_mass", 0.5, 2.5)), "cart_mass = 2.0, pole_mass = 2.5: the cart is"),
    ],
)
def test_the_environment_can_be_what_its_ranges_reach(outer, env, ranges, text):
    with pytest.raises(td.ConfigError, match=f"the ranges of {outer.__name__} reach .*{text}"):
        check(outer(env=env, ranges=ranges))


def test_what_ranges_reach_together_is_what_is_looked_at():
    """Beside the cart as it is, of 1 kg, such poles would be too heavy."""
    for outer in (td.Randomised, td.Curriculum):
        check(outer(env=Heavy(), ranges=(("cart_mass", 4.0, 5.0), ("pole_mass", 2.0, 3.0))))
    check(td.Curriculum(env=td.GridWorld(), ranges=(("slip", 1.0, 0.0),)))
    with pytest.raises(td.ConfigError, match=r"slip = 5.0: GridWorld.slip is a probability"):
        check(td.Curriculum(env=td.GridWorld(), ranges=(("slip", 5.0, 0.0),)))


def test_numbers_that_are_drawn_apart_are_looked_at_apart():
    """A heavy pole may come with a light cart, which a curriculum never makes of these ranges."""
    ranges = (("cart_mass", 1.0, 5.0), ("pole_mass", 0.5, 2.5))
    check(td.Curriculum(env=Heavy(), ranges=ranges))
    with pytest.raises(td.ConfigError, match=r"Randomised reach cart_mass = 1.0, pole_mass = 2.5: the cart is too lig"):
        check(td.Randomised(env=Heavy(), ranges=ranges))


def levels(env, steps=400):
    _, times = play(env, steps)
    return np.stack([now.sim.state.mine.level for now in times]), np.stack([now.first for now in times])


def test_a_schedule_moves_with_every_episode():
    env = td.Curriculum(env=td.CartPole(), ranges=(("gravity", 1.0, 9.8),), threshold=0.0, rate=0.25)
    level, first = levels(env)
    episodes = np.cumsum(first, 0) - 1
    np.testing.assert_allclose(level, np.minimum(0.25 * episodes, 1.0), atol=1e-6)
    assert float(env.changed(jnp.float32(0.5)).gravity) == pytest.approx(5.4)


def test_the_usual_rule_rises_with_every_sixteenth_success():
    """The least n with 1 - 0.9ⁿ of at least 0.8; a rate that does not divide 1 ends at 1 too."""
    needed = math.ceil(math.log(1 - 0.8) / math.log(0.9))
    assert needed == 16
    env = td.Curriculum(env=td.CartPole(max_steps=1), ranges=(("gravity", 1.0, 9.8),), success=1.0, rate=0.4)
    level, _ = levels(env, 60)
    rises = np.arange(61) // needed
    np.testing.assert_allclose(level, np.broadcast_to(np.minimum(0.4 * rises, 1.0)[:, None], level.shape), atol=1e-6)


def test_a_curriculum_is_evaluated_at_its_hardest(tmp_path):
    """Episodes of MountainCar whose flag is behind the car, or out of an untrained agent's reach."""
    assert (
        td.train(SMALL, td.MountainCar(goal_position=-1.3), 32, out=tmp_path / "easy", progress=False)
        .evaluate(3)
        .returns.min()
        > -200
    )
    never = td.Curriculum(env=td.MountainCar(), ranges=(("goal_position", -1.3, 0.5),), success=1e9)
    run = td.train(SMALL, never, 32, out=tmp_path / "run", progress=False)
    assert run.evaluate(3).returns.max() == -200
    assert run.record(episodes=1).returns == [-200]
    assert run.watch().returns == [-200]


def test_a_success_rule_waits_for_success():
    """Against a loop over episodes: the running mean of returns of at least 15 has to reach 0.3."""
    env = td.Curriculum(env=td.CartPole(), ranges=(("force", 10.0, 12.0),), success=15.0, threshold=0.3, memory=0.8)
    level, first = levels(env)
    for e in range(E):
        expected, mean, length = 0.0, 0.0, 0
        for t in range(1, len(level)):
            length += 1
            if first[t, e]:
                mean = 0.8 * mean + 0.2 * (length >= 15)
                if mean >= 0.3:
                    expected, mean = min(1.0, expected + 0.1), 0.0
                length = 0
            assert level[t, e] == pytest.approx(expected, abs=1e-5)
    assert level[-1].max() > 0
    never = td.Curriculum(env=td.CartPole(), ranges=(("force", 10.0, 12.0),), success=1e9)
    assert levels(never, 100)[0].max() == 0
