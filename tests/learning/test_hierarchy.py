"""Hierarchies learn what they are for: where they help, against what is flat, and with their bugs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from trained import trained

import thorndike as td
from thorndike.envs.grid.grid_world import dyna_maze

FIRM = dataclasses.replace(td.four_rooms(), slip=0.0, max_steps=1000)  # the rooms without chance: 7.6 steps at best
TABLE = {k: v for k, v in td.OptionCritic.presets()["FourRooms"].items() if k != "steps"}


def rooms(tmp_path, seeds=8):
    """Steps of the last 100 episodes of training, and of greedy ones, each [R]; options of a finished run."""
    run = trained(tmp_path, td.OptionCritic(**TABLE), FIRM, 15_000, seeds=seeds)
    return np.asarray(run.metrics()["rollout/ep_len_mean"])[-1], run.evaluate(50).lengths.mean(1)


@pytest.mark.slow
def test_options_find_the_way_through_four_rooms(tmp_path):
    training, greedy = rooms(tmp_path)
    assert training.mean() <= 12.5, training
    assert greedy.max() <= 9, greedy


@pytest.mark.slow
def test_terminations_that_climb_the_wrong_way_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(td.OptionCritic, "termination_objective", lambda self, beta, advantage: beta * advantage)
    _, greedy = rooms(tmp_path)
    assert greedy.min() > 100, greedy


def lengths(run, first, last):
    """The mean length of training episodes from the first to the last, counted from 1, of each run [R]."""
    episodes, found = run.episodes(), []
    for member in range(run.seeds):
        own = episodes["length"][episodes["member"] == member]
        assert len(own) >= last, "too few episodes"
        found.append(own[first - 1 : last].mean())
    return np.array(found)


FLAT = td.QLearning(learning_rate=0.5, discount=0.98)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "steps", "flat_steps"), [(3, 60_000, 300_000), (5, 150_000, 1_000_000)])
def test_commands_find_the_goal_of_large_mazes_sooner(scale, steps, flat_steps, tmp_path):
    """Episodes 15 to 20, which still explore: a factor of 8 and more to flat Q-learning, in every seed."""
    env = dyna_maze(scale)
    feudal = lengths(trained(tmp_path, td.FeudalQ(block=scale), env, steps, seeds=4), 15, 20)
    flat = lengths(trained(tmp_path, FLAT, env, flat_steps, seeds=4), 15, 20)
    print(scale, feudal, flat)
    assert (flat / feudal >= 8).all(), (feudal, flat)


@pytest.mark.slow
def test_a_worker_who_is_paid_by_the_environment_does_not(tmp_path, monkeypatch):
    env = dyna_maze(3)
    right = lengths(trained(tmp_path, td.FeudalQ(), env, 60_000, seeds=4), 15, 20)
    monkeypatch.setattr(td.FeudalQ, "wage", lambda self, blocks, steps: steps.reward)
    wrong = lengths(trained(tmp_path, td.FeudalQ(), env, 300_000, seeds=4), 15, 20)
    print(right, wrong)
    assert wrong.min() > 2 * right.max(), (right, wrong)


LEVEL = {"torso": td.Torso(widths=(64, 64), activation="relu", init="uniform"), "learning_rate": 1e-3, "tau": 0.01}


@pytest.mark.slow
def test_goals_lead_around_the_wall(tmp_path):
    """The U-shaped maze, which random actions do not leave: HIRO with 60,000 steps, SAC not with 100,000."""
    run = trained(tmp_path, td.HIRO(), td.PointMaze(), 60_000, seeds=2)
    reached = (run.evaluate(50).lengths < 100).mean(1)
    flat = td.SAC(
        **LEVEL, target_entropy=0.8, num_envs=8, rollout_length=10, replay_ratio=0.125,
        replay=td.Uniform(capacity=200_000, batch_size=128, warmup=2_000),
    )  # fmt: skip
    alone = (trained(tmp_path, flat, td.PointMaze(), 100_000, seeds=2).evaluate(50).lengths < 100).mean(1)
    print(reached, alone)
    assert (reached >= 0.9).all(), reached
    assert (alone <= 0.1).all(), alone
