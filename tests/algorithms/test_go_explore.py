"""Go-Explore: ways in the archive lead where they say, seldom seen cells are preferred, and its plain mutants."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import thorndike as td
from thorndike.algorithms.exploration import go_explore
from thorndike.algorithms.exploration.cells import Cells
from thorndike.algorithms.exploration.go_explore import Archive, GoExplore, Way
from thorndike.drivers.scan import ScanDriver
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.storage.environments import describe


def explored(env, iterations, seeds=1, **fields):
    """The states [R] after so many rollouts."""
    algorithm = GoExplore(**{"num_envs": 4, "rollout_length": 6, **fields})
    driver = ScanDriver(expand(algorithm, seeds), env, describe(env, iterations * 24, "test"), seeds)
    return driver.advance(driver.init(jax.vmap(random_key)(jnp.arange(seeds))), iterations)


@pytest.mark.parametrize(
    "env", [td.DeepSea(size=6, seed=1), td.GridWorld(map=("S..#", ".#..", "...G"), max_steps=9)], ids=["sea", "grid"]
)
def test_ways_lead_where_they_say(env):
    """Each way of the archive, played step by step in the environment itself: cell, score and length."""
    state = jax.device_get(explored(env, 150).agent)
    step = jax.jit(env.step)
    score, cells = state.archive.way.score[0], 0
    for cell in np.flatnonzero(np.isfinite(score)):
        now, total = env.reset(jax.random.key(0)), 0.0
        for action in state.archive.way.actions[0, cell, : state.archive.way.length[0, cell]]:
            assert not now.terminated
            now = step(now.state, jnp.int32(action), jax.random.key(0))
            total += float(now.reward)
        assert int(now.obs) == cell
        assert total == pytest.approx(float(score[cell]), abs=1e-5)
        assert state.archive.open[0, cell] == (not now.terminated)
        cells += 1
    assert cells > 8
    best = state.best.score[0]
    assert best == pytest.approx(score[np.isfinite(score)].max(), abs=1e-6)


def test_the_grid_is_solved_by_the_shortest_way():
    """-1 a step and 10 at the goal, five steps away: 6 at most."""
    state = explored(td.GridWorld(map=("S..#", ".#..", "...G"), max_steps=9), 300)
    assert float(state.agent.best.score[0]) == 6.0
    assert int(state.agent.best.length[0]) == 5


def test_one_step_of_the_archive():
    """More earned wins; as much in fewer steps too; else the old way stays. Visits count all."""
    way = lambda score, length: Way(jnp.array([length] * 3, jnp.int32), jnp.float32(score), jnp.int32(length))  # noqa: E731
    old = Archive(
        Way(jnp.zeros((2, 3), jnp.int32), jnp.array([1.0, -jnp.inf]), jnp.array([2, 0])),
        jnp.zeros(2, jnp.int32), jnp.array([True, False]),
    )  # fmt: skip
    for score, length, wins in ((2.0, 3, True), (1.0, 1, True), (1.0, 2, False), (1.0, 3, False), (0.5, 1, False)):
        (archive, best), fresh = go_explore.kept(
            (old, way(1.5, 3)), (way(score, length), jnp.int32(0), jnp.bool_(True))
        )
        assert (int(archive.way.actions[0, 0]) == length) == wins
        assert not fresh
        assert archive.visits.tolist() == [1, 0]
        assert float(best.score) == max(1.5, score)
    (archive, _), fresh = go_explore.kept((old, way(1.5, 3)), (way(-9.0, 3), jnp.int32(1), jnp.bool_(False)))
    assert fresh
    assert float(archive.way.score[1]) == -9.0
    assert archive.open.tolist() == [True, False]


def test_a_way_that_ends_never_replaces_one_that_goes_on():
    """Nothing could be explored from where it leads; one that goes on replaces it, whatever it earns."""
    way = lambda score, length: Way(jnp.array([length] * 3, jnp.int32), jnp.float32(score), jnp.int32(length))  # noqa: E731
    for is_open, goes_on, score, wins in ((True, False, 9.0, False), (False, True, -9.0, True)):
        archive = Archive(
            Way(jnp.zeros((1, 3), jnp.int32), jnp.array([1.0]), jnp.array([2])), jnp.array([1]), jnp.array([is_open])
        )
        (archive, best), _ = go_explore.kept((archive, way(0.0, 1)), (way(score, 3), jnp.int32(0), jnp.bool_(goes_on)))
        assert (float(archive.way.score[0]) == score) == wins
        assert archive.open.tolist() == [True]
        assert float(best.score) == max(score, 0.0)


def test_ways_that_do_not_fit_are_not_kept():
    """Episodes of 9 steps, ways of 4 at most: each of the archive leads where it says."""
    env = td.GridWorld(map=("S..#", ".#..", "...G"), max_steps=9)
    state = jax.device_get(explored(env, 100, horizon=4).agent)
    length, score = state.archive.way.length[0], state.archive.way.score[0]
    assert length.max() <= 4
    assert 5 < np.isfinite(score).sum() < 10  # the goal is five steps away
    assert float(state.best.score[0]) < 0


def test_cells_are_chosen_by_their_visits():
    """P ∝ 1 / √(1 + visits) of open cells to which a way is known."""
    way = Way(jnp.zeros((4, 2), jnp.int32), jnp.array([0.0, 1.0, -jnp.inf, 0.0]), jnp.zeros(4, jnp.int32))
    archive = Archive(way, jnp.array([0, 8, 0, 0]), jnp.array([True, True, True, False]))
    p = jax.nn.softmax(GoExplore().preference(archive))
    np.testing.assert_allclose(p, [0.75, 0.25, 0, 0], atol=1e-6)


def test_cells_of_floats():
    cells = Cells.of(Dict({"a": Box(0, 1, (1,)), "b": Box(-1, 1, (1,))}), 2, 4)
    assert cells.count == 16
    obs = {"a": jnp.array([[0.0], [0.3], [1.0]]), "b": jnp.array([[-1.0], [0.1], [5.0]])}
    assert cells.number(obs).tolist() == [0, 1 * 4 + 2, 15]
    assert Cells.of(Box(-np.inf, 1, (1,)), 2, 4) is None


def test_what_it_cannot_serve():
    spec = describe(td.CartPole(), 100, "test")
    assert "bounds" in GoExplore().supports(spec)
    assert "horizon" in GoExplore().supports(td.Spec(Discrete(3), Discrete(2)))
    assert "not Discrete" in GoExplore().supports(describe(td.Pendulum(), 100, "test"))


def found(tmp_path=None, iterations=400, **fields):
    """Which of five seeds found the treasure of DeepSea 12, one dive of 4,096, in 800 dives."""
    state = explored(td.DeepSea(size=12), iterations, seeds=5, sticky=0.0, **fields)
    return np.asarray(state.agent.best.score) > 0.5


def test_the_treasure_is_found():
    """At random each dive finds it with probability 2^-12."""
    assert found().all()


@pytest.mark.parametrize("bug", ["it does not return", "cells seen often are preferred", "only the start is chosen"])
def test_mutants_do_not(bug, monkeypatch):
    if bug == "it does not return":
        monkeypatch.setattr(go_explore, "next_action", lambda carry: jnp.zeros_like(carry.step))
    elif bug == "cells seen often are preferred":
        monkeypatch.setattr(
            GoExplore, "preference", lambda self, archive: jnp.where(archive.visits > 0, archive.visits, -1e9)
        )
    else:
        monkeypatch.setattr(
            GoExplore, "preference", lambda self, archive: -1e9 * jnp.arange(len(archive.visits), dtype=jnp.float32)
        )
    assert found().sum() <= 2


@pytest.mark.slow
def test_deep_sea_20_in_4000_episodes():
    """One dive in a million is right."""
    state = explored(td.DeepSea(size=20), 3340, seeds=5, sticky=0.0)
    assert (np.asarray(state.agent.best.score) > 0.5).all()
