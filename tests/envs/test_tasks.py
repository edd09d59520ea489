"""Families of tasks and trials in them: what they show is enough to learn a task, and the task stays the same."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.configuration import check, config
from thorndike.envs.batched import Batched
from thorndike.errors import ConfigError
from thorndike.ops.keys import random_key
from thorndike.types import Step

FAMILIES = {
    "bandit": td.Bandit(),
    "doors": td.Doors(),
    "dark room": td.DarkRoom(max_steps=9),
    "random MDP": td.RandomMDP(),
    "navigation": td.Navigation2D(max_steps=9),
    "randomised": td.Randomised(env=td.Pendulum(max_steps=9), ranges=(("gravity", 5.0, 15.0),)),
}


@config
class Redrawn(td.Trials):
    """A mutant: each episode of a trial is in a task of its own."""

    def step(self, state, action, key):
        step = super().step(state, action, key)
        other = self.env.begin(self.env.task(jax.random.fold_in(key, 1)), key).state
        swap = lambda a, b: jnp.where(step.obs["ended"][0] > 0, a, b)  # noqa: E731
        return step._replace(state=step.state._replace(inner=jax.tree.map(swap, other, step.state.inner)))


@config
class Silent(td.Trials):
    """A mutant: rewards are not shown."""

    def shown(self, obs, action, reward, ended):
        return super().shown(obs, action, 0.0, ended)


@config
class Blind(td.Trials):
    """A mutant: the action that is shown is always the first."""

    def shown(self, obs, action, reward, ended):
        return super().shown(obs, None if action is None else jnp.zeros_like(action), reward, ended)


def eliminating(trials, n=400):
    """Mean return of n trials with doors, by crossing out doors that were seen not to pay."""
    world, step = Batched(trials, n), jax.jit(Batched(trials, n).step)
    now = world.reset(random_key(0))
    doors = trials.env.doors
    out, taken, total = np.zeros((n, doors)), np.zeros(n, int), np.zeros(n)
    for t in range(trials.episodes * (trials.env.corridor + 1)):
        at_doors = np.asarray(now.obs["obs"]) == 0
        action = np.where(at_doors, out.argmax(1), 0)
        now = step(now, jnp.asarray(action), random_key(t + 1))
        seen = jax.tree.map(np.asarray, now.final_obs)
        shown = seen["action"].argmax(1)
        taken = np.where(at_doors, shown, taken)
        over, paid = seen["ended"][:, 0] > 0, seen["reward"][:, 0]
        out[np.arange(n)[over], taken[over]] += np.where(paid[over] > 0, 1.0, -1.0)
        total += np.asarray(now.reward)
        assert np.asarray(now.terminated).all() == (t + 1 == trials.episodes * (trials.env.corridor + 1))
        assert not np.asarray(now.truncated).any()
    return total.mean()


def test_what_is_shown_is_enough_to_find_the_door():
    """Crossing doors out earns 3.5 of 5: the right one is found at try 1 to 4, each with probability 1/4."""
    assert eliminating(td.Trials(env=td.Doors(), episodes=5)) == pytest.approx(3.5, abs=0.17)  # three deviations


@pytest.mark.parametrize("mutant", [Redrawn, Silent, Blind])
def test_mutants_are_not_enough(mutant):
    assert eliminating(mutant(env=td.Doors(), episodes=5)) < 2.0


@pytest.mark.parametrize("name", FAMILIES)
def test_a_task_stays_over_the_episodes_of_a_trial_and_of_a_copy(name):
    """Tasks differ between copies; within a trial, and in `SameTask`, they are one, bit for bit."""
    family = FAMILIES[name]
    for env in (td.Trials(env=family, episodes=3), td.SameTask(env=family)):
        check(env)
        world = Batched(env, 8)
        now, step = world.reset(random_key(0)), jax.jit(world.step)
        task_of = jax.vmap(getattr(env, "task_of", family.task_of))
        tasks, lasting = [task_of(now.sim.state)], 0
        for t in range(3 * family.max_steps - 1):
            action = jnp.zeros((8, *env.action_space.shape), jnp.int32 if env.action_space.shape == () else jnp.float32)
            now = step(now, action, random_key(t))
            if not np.asarray(now.first).any() or isinstance(env, td.SameTask):
                tasks.append(task_of(now.sim.state))
                lasting += 1
            else:
                break
        assert lasting >= min(2, family.max_steps)
        for other in tasks[1:]:
            for a, b in zip(jax.tree.leaves(tasks[0]), jax.tree.leaves(other)):
                np.testing.assert_array_equal(a, b)
        assert any((leaf[0] != leaf[1:]).any() for leaf in map(np.asarray, jax.tree.leaves(tasks[0])))


def test_a_bandit_pays_what_its_task_says():
    env = td.Bandit(arms=3)
    chances = env.task(random_key(1))
    state = env.begin(chances, random_key(2)).state
    keys = jax.random.split(random_key(3), 4000)
    for arm in range(3):
        paid = jax.vmap(lambda key, arm=arm: env.step(state, jnp.int32(arm), key).reward)(keys).mean()
        assert float(paid) == pytest.approx(float(chances[arm]), abs=0.03)


def test_a_random_process_is_what_its_task_says():
    env = td.RandomMDP(states=4, actions=2)
    transitions, mean = env.task(random_key(1))
    np.testing.assert_allclose(transitions.sum(-1), 1.0, rtol=1e-5)
    state = env.begin((transitions, mean), random_key(2)).state
    found = jax.vmap(lambda key: env.step(state, jnp.int32(1), key))(jax.random.split(random_key(3), 8000))
    frequency = np.bincount(np.asarray(found.obs), minlength=4) / 8000
    np.testing.assert_allclose(frequency, transitions[0, 1], atol=0.02)
    assert float(found.reward.mean()) == pytest.approx(float(mean[0, 1]), abs=0.05)
    assert float(found.reward.std()) == pytest.approx(1.0, abs=0.05)


def test_the_way_in_the_dark_and_in_the_plane():
    room, goal = td.DarkRoom(size=5), jnp.array([0, 4])
    step = room.begin(goal, random_key(0))
    for action, paid in ((1, 0.0), (1, 0.0), (4, 0.0), (4, 1.0), (0, 1.0), (4, 1.0), (2, 0.0)):
        step = room.step(step.state, jnp.int32(action), random_key(0))
        assert float(step.reward) == paid
    plane = td.Navigation2D()
    step = plane.step(plane.begin(jnp.array([0.3, -0.1]), random_key(0)).state, jnp.array([0.5, -0.1]), random_key(0))
    assert float(step.reward) == pytest.approx(-0.2)
    assert not step.terminated
    step = plane.step(plane.step(step.state, jnp.array([0.1, 0.0]), None).state, jnp.array([0.1, 0.0]), None)
    assert step.terminated


def test_what_cannot_be_wrapped():
    with pytest.raises(ConfigError, match="has no \\['task'\\]"):
        check(td.Trials(env=td.CartPole()))
    with pytest.raises(ConfigError, match="has no \\['task'\\]"):
        check(td.SameTask(env=td.CartPole()))
    with pytest.raises(ConfigError, match="outermost"):
        check(td.Trials(env=td.SameTask(env=td.Bandit())))
    with pytest.raises(ConfigError, match="positive"):
        check(td.Trials(env=td.Bandit(), episodes=0))


class Runner:
    """In the place of Brax's robot: its velocity is its first action, and control costs 0.1 |a|²."""

    def reset(self, key):
        return Step(SimpleNamespace(metrics={}), jnp.zeros(3))

    def step(self, state, action, key):
        metrics = {"x_velocity": action[0], "reward_ctrl": -0.1 * (action**2).sum()}
        return Step(SimpleNamespace(metrics=metrics), jnp.zeros(3), jnp.float32(99))


def test_what_a_cheetah_is_paid_for(monkeypatch):
    """By hand, in both families; the simulator's own reward, for running forward, is not paid."""
    monkeypatch.setattr(td.CheetahTask, "robot", Runner())
    key, action = jax.random.key(0), jnp.array([1.5, 1.0])
    for kind, task, expected in (("direction", -1.0, -1.5), ("direction", 1.0, 1.5), ("velocity", 0.5, -1.0)):
        env = td.CheetahTask(kind=kind)
        step = env.step(env.begin(jnp.float32(task), key).state, action, key)
        assert float(step.reward) == pytest.approx(expected - 0.325)
        assert float(env.task_of(step.state)) == task
    keys = jax.random.split(key, 200)
    assert set(np.asarray(jax.vmap(td.CheetahTask().task)(keys)).tolist()) == {-1.0, 1.0}
    speeds = np.asarray(jax.vmap(td.CheetahTask(kind="velocity").task)(keys))
    assert speeds.min() >= 0
    assert 1.8 < speeds.max() <= 2


@pytest.mark.slow
def test_braxs_cheetah_is_paid_by_the_task():
    """Its own reward, 1 · v - 0.1 |a|², is that of running forward; backward pays the opposite of v."""
    env, key = td.CheetahTask(backend="spring"), jax.random.key(0)
    state, step, own = env.begin(jnp.float32(-1), key).state, jax.jit(env.step), jax.jit(env.robot.step)
    for t in range(5):
        action = jnp.sin(jnp.arange(6.0) + t)
        found, forward = step(state, action, key), own(state.place, action, key)
        control = -0.1 * float((action**2).sum())
        assert float(found.reward) - control == pytest.approx(-(float(forward.reward) - control), abs=1e-4)
        state = found.state
    assert env.observation_space.shape == (17,)
