"""Policy distillation: a small student does what its teachers do."""

from __future__ import annotations

import pytest

import thorndike as td


@td.config
class Swapped(td.CartPole):
    """CartPole whose two actions have changed places."""

    def step(self, state, action, key):
        return super().step(state, 1 - action, key)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    algorithm, folder = td.preset("ppo", "CartPole-v1"), tmp_path_factory.mktemp("teachers")
    worlds = {"plain": td.CartPole(), "swapped": Swapped()}
    return [td.train(algorithm, env, 100_000, out=folder / name, progress=False) for name, env in worlds.items()]


@pytest.mark.slow
def test_a_student_of_16_units(teachers, tmp_path):
    """500 and a divergence of 0.0001 to 0.0002 were measured in three seeds."""
    given = {"teacher": teachers[0]}
    run = td.train("distillation", "CartPole-v1", seeds=3, given=given, out=tmp_path / "run", progress=False)
    assert min(run.evaluate(50).per_run) >= 475
    assert run.metrics()["train/kl"][-1].max() <= 0.02


@pytest.mark.slow
def test_two_teachers_in_one_student(teachers, tmp_path):
    """500 in each task, in three seeds, were measured. Taught by the first alone it fails in the second task."""
    tasks = td.Tasks([td.CartPole(), Swapped()])
    how = {"steps": 40_000, "progress": False}
    run = td.train(td.Distillation(), tasks, seeds=3, given={"teacher": teachers}, out=tmp_path / "run", **how)
    for i in range(2):
        assert min(run.evaluate(50, env=tasks.only(i)).per_run) >= 450
    alone = td.train(td.Distillation(), tasks, given={"teacher": teachers[0]}, out=tmp_path / "alone", **how)
    assert alone.evaluate(50, env=tasks.only(1)).mean < 50
