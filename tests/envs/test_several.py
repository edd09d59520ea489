"""Several environments at once: each episode is one of them to the bit, and says of itself what it was."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.configuration import check, from_json, to_json
from thorndike.drivers.earned import mean_known
from thorndike.envs.batched import Batched
from thorndike.errors import ConfigError
from thorndike.exports import known_configs
from thorndike.ops.keys import random_key

HEAVY = td.CartPole(gravity=30.0)
TASKS = td.Tasks([td.CartPole(), HEAVY, td.Randomised(env=td.CartPole(), ranges=(("half_length", 0.2, 1.0),))])


def test_an_episode_is_that_of_its_environment_but_for_the_scale():
    """To the bit, in each of them; a mutant that steps the first one in every episode is not."""
    tasks = dataclasses.replace(TASKS, reward_scales=(1.0, 0.5, -2.0))
    check(tasks)
    for i, (env, scale) in enumerate(zip(tasks.envs, tasks.reward_scales)):
        key = random_key(i)
        ours, theirs = tasks.begin(jnp.int32(i), key), env.reset(jax.random.split(key, 3)[i])
        step, alone, total, first = jax.jit(tasks.step), jax.jit(env.step), 0.0, theirs
        for t in range(12):
            assert int(ours.obs["task"]) == int(tasks.task_of(ours.state)) == i
            np.testing.assert_array_equal(ours.obs["obs"], theirs.obs)
            assert tasks.observation_space.contains(jax.tree.map(np.asarray, ours.obs) | {"task": np.int64(i)})
            key = random_key(100 + t)
            ours, theirs = step(ours.state, jnp.int32(t % 2), key), alone(theirs.state, jnp.int32(t % 2), key)
            total += float(theirs.reward)
            assert ours.reward == theirs.reward * scale
            assert ours.terminated == theirs.terminated
            known = [float(ours.info["log"][f"return_{j}"]) for j in range(3)]
            np.testing.assert_equal(known, [total if j == i else np.nan for j in range(3)])
        if i == 1:
            for t in range(12):
                first = jax.jit(tasks.envs[0].step)(first.state, jnp.int32(t % 2), random_key(100 + t))
            assert np.abs(first.obs - ours.obs["obs"]).max() > 1e-3


def played(tasks, steps=400, n=16):
    """Steps in each task of n copies whose actions are random."""
    world, step = Batched(tasks, n), jax.jit(Batched(tasks, n).step)
    now, counts = world.reset(random_key(0)), np.zeros((n, len(tasks.envs)), int)
    first = np.asarray(now.obs["task"])
    for t in range(steps):
        counts[np.arange(n), np.asarray(now.obs["task"])] += 1
        now = step(now, jax.random.bernoulli(random_key(t), 0.5, (n,)).astype(int), random_key(t + 1))
    return counts, first, np.asarray(now.sim.state.steps)


@td.config(kw_only=False)
class Drawn(td.Tasks):
    """A mutant: each episode's task is drawn."""

    def again(self, state, key):
        return self.reset(key)


@td.config
class Long(td.CartPole):
    """Nothing ends an episode but the clock."""

    def step(self, state, action, key):
        return super().step(state, action, key)._replace(terminated=False)


@pytest.mark.parametrize("mutant", [False, True])
def test_tasks_have_equal_steps_though_their_episodes_are_longer(mutant):
    tasks = (Drawn if mutant else td.Tasks)([td.CartPole(max_steps=100), Long(max_steps=100)])
    counts, first, told = played(tasks)
    assert {0, 1} == set(first.tolist())
    if not mutant:
        assert (told == counts).all()
    apart = np.abs(counts[:, 0] - counts[:, 1])
    # Of an episode more, at most.
    assert (apart.max() <= 100) != mutant
    assert (counts.sum(0).min() > 0.4 * counts.sum()) != mutant


def test_some_of_them_alone():
    counts, *_ = played(TASKS.only(2, 0), 100)
    assert counts[:, 1].sum() == 0
    assert (counts[:, [0, 2]].sum(0) > 0).all()
    assert played(TASKS.only(1), 100)[0][:, [0, 2]].sum() == 0
    assert TASKS.only(1).observation_space == TASKS.observation_space
    drawn = jax.vmap(TASKS.only(0, 2).task)(jax.random.split(random_key(0), 4000))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, [0.5, 0, 0.5], atol=0.03)


def test_settings_survive_json_and_are_numbers_of_the_program():
    again = from_json(to_json(TASKS), known_configs())
    assert again == TASKS
    assert jax.tree.leaves(TASKS)[0] == 9.8
    assert len({jax.tree.structure(x) for x in (TASKS, td.Tasks([td.CartPole(gravity=1.0), *TASKS.envs[1:]]))}) == 1


def test_what_is_known_of_some_episodes():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_equal(mean_known(values, 1), [2.0, np.nan])
    assert mean_known(values) == 2.0
    assert mean_known(np.array([1.0, 2.0])) == np.array([1.0, 2.0]).mean()


def test_a_run_reports_each_task(tmp_path):
    """The mean of each task's own episodes; evaluations too, and those in one task know nothing of the others."""
    tasks = td.Tasks([td.CartPole(max_steps=20), Long(max_steps=20)], reward_scales=(1.0, 10.0))
    ppo = td.PPO(num_envs=4, rollout_length=40, torso=td.Torso(widths=(4,)), epochs=1)
    run = td.train(ppo, tasks, 1600, out=tmp_path / "run", log_every=800, evaluate_every=1600, progress=False)
    row = {name: x[-1, 0] for name, x in run.metrics().items() if x.ndim == 2}
    assert row["rollout/ep_return_1_mean"] == row["eval/ep_return_1_mean"] == 20.0
    assert 8 < row["rollout/ep_return_0_mean"] <= 20
    found = run.evaluate(6, env=tasks.only(0))
    assert found.earned_mean["return_0"] == found.mean
    assert np.isnan(found.earned_mean["return_1"])
    assert "return_0" in str(found)
    assert "return_1" not in str(found)
    assert found.to_json()["earned"]["return_1"] is None
    assert td.open_run(run.path, classes=[Long]).env == tasks


@pytest.mark.parametrize(("tasks", "text"), [
    (td.Tasks([]), "needs environments"),
    (td.Tasks([td.CartPole(), td.Acrobot()]), r"observation_space of Tasks.envs\[1\]"),
    (td.Tasks([td.CartPole(), td.CartPole(max_steps=20)]), "one time limit, by td.TimeLimit"),
    (td.Tasks([td.CartPole(), td.CartPole(gravity="much")]), r"Tasks.envs\[1\].gravity should be a finite float"),
    (td.Tasks([td.CartPole()], reward_scales=(1.0, 2.0)), "reward_scales needs 1 numbers"),
    (td.Tasks([td.CartPole()]).only(1), "names tasks from 0 to 0"),
    (td.Tasks([td.CartPole()]).only(), "names tasks from 0 to 0"),
    (td.Tasks(["CartPole-v1"]), "should be tuple"),
    (td.Tasks([td.Curriculum(env=td.CartPole(), ranges=(("gravity", 1.0, 9.8),))]), "has to be outermost"),
])  # fmt: skip
def test_what_is_refused(tasks, text):
    with pytest.raises(ConfigError, match=text):
        check(tasks)
