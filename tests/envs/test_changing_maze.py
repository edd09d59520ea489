"""Mazes that change: the first one before the time, the second one after it, over all episodes."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import thorndike as td
from thorndike.configuration import check
from thorndike.envs.batched import Batched
from thorndike.errors import ConfigError
from thorndike.planning import dynamic_programming as dp


def steps_to_the_goal(maze):
    """The shortest way from the start, from V* = γ^(steps - 1)."""
    v = dp.value_iteration(dp.model_of(maze), 0.5).v[maze.layout.starts[0]]
    return 1 - round(np.log2(v))


def test_the_ways_are_as_long_as_in_the_book():
    assert [steps_to_the_goal(maze) for maze in td.make("BlockingMaze").mazes] == [10, 16]
    assert [steps_to_the_goal(maze) for maze in td.make("ShortcutMaze").mazes] == [16, 10]
    assert steps_to_the_goal(td.make("DynaMaze")) == 14


def test_the_maze_changes_at_its_time_and_not_with_the_episode():
    """Against a wall that opens at step 5: up moves from the sixth step on, in whichever episode."""
    env = td.ChangingMaze(before=("G..", "###", ".S."), after=("G..", "...", ".S."), change=5, max_steps=3)
    check(env)
    world, moved = Batched(env, 2), []
    now = world.reset(jax.random.key(0))
    for _ in range(9):
        later = world.step(now, np.zeros(2, int), jax.random.key(1))
        moved.append(int(later.final_obs[0]) != int(now.obs[0]))
        now = later
    assert moved == [False] * 5 + [True, True, True, False]  # an episode's last step; two moves up, and the border
    assert int(now.sim.state.time[0]) == 9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"after": ("G.S",)}, "as many rows"),
        ({"before": ("GCS",), "after": ("G.S",)}, "no cliffs"),
        ({"change": -1}, "must not be negative"),
    ],
)
def test_what_is_no_pair_of_mazes_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        check(td.ChangingMaze(**fields))
