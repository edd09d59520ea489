"""Hindsight: tasks with sparse rewards that are learned with it, and not without."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from trained import trained

import thorndike as td
from thorndike.memory import hindsight
from thorndike.runs.training.setup import choose


def success(run, episodes=200):
    """The share of greedy episodes that end at the goal, of each run."""
    return np.asarray(run.evaluate(episodes).earned["success"]).mean(1)


def without(algorithm):
    return dataclasses.replace(algorithm, replay=dataclasses.replace(algorithm.replay, k=0.0))


@pytest.mark.slow
def test_15_bits(tmp_path):
    """Andrychowicz et al. (2017), figure 1: solved with hindsight, never without."""
    algorithm, _ = choose("dqn", "BitFlip", None)
    assert (success(trained(tmp_path, algorithm, "BitFlip", 50_000, seeds=3)) >= 0.9).all()
    assert (success(trained(tmp_path, without(algorithm), "BitFlip", 50_000, seeds=3)) <= 0.05).all()


RELABELLED = hindsight.relabelled
MUTANTS = {
    "rewards of the old goal": lambda rows, goals, change, goal: RELABELLED(rows, goals, change, goal)._replace(
        reward=rows.reward, terminated=rows.terminated
    ),
    "the goal of the past": lambda rows, goals, change, goal: RELABELLED(rows, rows.obs["achieved_goal"], change, goal),
    "the old goal is seen": lambda rows, goals, change, goal: RELABELLED(rows, goals, change, goal)._replace(
        obs=rows.obs, next_obs=rows.next_obs
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", MUTANTS)
def test_mutants_do_not_learn_10_bits(bug, tmp_path, monkeypatch):
    algorithm, _ = choose("dqn", "BitFlip", None)
    monkeypatch.setattr(hindsight, "relabelled", MUTANTS[bug])
    assert (success(trained(tmp_path, algorithm, td.BitFlip(n=10), 20_000, seeds=2)) <= 0.2).all()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_10_bits_with_each_strategy(strategy, tmp_path):
    algorithm, _ = choose("dqn", "BitFlip", None)
    algorithm = dataclasses.replace(algorithm, replay=dataclasses.replace(algorithm.replay, strategy=strategy))
    assert (success(trained(tmp_path, algorithm, td.BitFlip(n=10), 20_000, seeds=2)) >= 0.9).all()


@pytest.mark.slow
def test_reach_with_sac(tmp_path):
    algorithm, _ = choose("sac", "Reach", None)
    assert (success(trained(tmp_path, algorithm, "Reach", 20_000, seeds=2)) >= 0.9).all()


def test_goals_of_reach_by_hand():
    env = td.Reach()
    there = jnp.array([0.3, 0.4])
    near, far = there + jnp.array([0.03, 0.03]), there + jnp.array([0.04, 0.04])
    assert (env.compute_reward(there, near, {}), env.compute_reward(there, far, {})) == (0, -1)
