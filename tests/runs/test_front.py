"""Fronts of sweeps over weights, in a task whose best agents for every weight are known."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import thorndike as td
from thorndike.cli import main

PLACE = Path(__file__).parents[2] / "examples" / "pareto.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("pareto", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(example, tmp_path_factory):
    """Three agents: of time alone, of both, and of the treasure nearly alone."""
    weights = np.array([0.1, 0.6, 0.9])
    env = td.Weighted(env=example.Treasure(), weights={"treasure": weights, "time": 1 - weights})
    agent = td.QLearning(learning_rate=1.0, discount=1.0, initial_value=25.0, num_envs=4)
    return td.train(agent, env, 20_000, out=tmp_path_factory.mktemp("front") / "run", progress=False)


def test_the_way_to_every_treasure_is_open(example):
    """Breadth-first search through the environment's own steps reaches each in the steps that `best` counts."""
    env, far, frontier = example.Treasure(), {(0, 0): 0}, [(0, 0)]
    earned = {}
    while frontier:
        at = frontier.pop(0)
        for action in range(4):
            step = env.step(example.Boat(*map(np.int32, at)), action, None)
            there = int(step.state.row), int(step.state.column)
            if bool(step.terminated):
                earned.setdefault(there[1], (float(step.info["terms"]["treasure"]), -(far[at] + 1)))
            elif there not in far:
                far[there] = far[at] + 1
                frontier.append(there)
    counted = [(value, -(c + depth)) for c, (value, depth) in enumerate(zip(example.VALUES, example.DEPTHS))]
    np.testing.assert_allclose([earned[c] for c in range(10)], counted, rtol=1e-6)


def test_agents_are_on_the_front(run, example, tmp_path):
    front = run.front(("treasure", "time"), tmp_path / "front.png", episodes=1)
    np.testing.assert_allclose(front.points, [example.best(weight) for weight in (0.1, 0.6, 0.9)], rtol=1e-6)
    assert front.efficient.all()
    assert [label.partition(", ")[2] for label in front.labels] == [
        "time=0.9, treasure=0.1",
        "time=0.4, treasure=0.6",
        "time=0.1, treasure=0.9",
    ]
    assert (tmp_path / "front.png").stat().st_size > 5_000
    (axes,) = front.figure.axes
    drawn = np.concatenate([np.asarray(dots.get_offsets()).reshape(-1, 2) for dots in axes.collections])
    assert {tuple(point) for point in drawn.tolist()} == {tuple(point) for point in front.points.tolist()}
    assert str(front).count("*") == 4


def test_dominated_agents_are_open_circles(run, tmp_path):
    """The return of these weights and the time: one of the three is beaten in both by another."""
    front = td.front([run, run], ("treasure", "time"), episodes=1)
    assert front.efficient.all()  # equal points do not dominate each other
    assert len(front.labels) == 6
    front = run.front(("return", "time"), episodes=1)
    assert front.efficient.tolist() == [
        not any((q >= p).all() and (q > p).any() for q in front.points) for p in front.points
    ]


def test_what_is_no_objective(run):
    with pytest.raises(td.ConfigError, match="did you mean 'treasure'"):
        run.front(("treasur", "time"), episodes=1)
    with pytest.raises(td.ConfigError, match=r"nothing called 'height', only .*: td\.Weighted tells"):
        run.front(("height", "time"), episodes=1)
    with pytest.raises(td.ConfigError, match="two different"):
        run.front(("time", "time"), episodes=1)


def test_kinds_of_pictures_are_not_mixed(run, capsys):
    words = ["picture", str(run.path)]
    assert main([*words, "--film", "--actions"]) == 2
    assert "--film and --actions are different pictures" in capsys.readouterr().err
    assert main([*words, "--front", "treasure", "time", "--over", "0", "1"]) == 2
    assert "--over is a plane" in capsys.readouterr().err
