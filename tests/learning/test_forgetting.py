"""Two tasks one after the other: what is forgotten, and that elastic weight consolidation and distillation keep it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from thorndike.runs.results import importance


@pytest.fixture(scope="module")
def forgetting():
    path = Path(__file__).parents[2] / "benchmarks" / "forgetting.py"
    spec = importlib.util.spec_from_file_location("forgetting_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_the_mean_gradient(log_prob, params, samples):
    """A mutant of the Fisher information, which is nearly 0 over the policy's own actions."""
    mean = lambda params: jax.vmap(log_prob, (None, 0))(params, samples).mean()  # noqa: E731
    return jax.tree.map(lambda g: jnp.square(g), jax.grad(mean)(params))


@pytest.mark.slow
def test_a_second_task_takes_the_first_and_cures_keep_it(forgetting, tmp_path, monkeypatch):
    """Returns are 1 at the goal and -1 in the trap; see the table of `docs/transfer.md`."""
    corners = forgetting.SEQUENCES["corners"]
    found = {cure: forgetting.learned(corners, cure, 0, tmp_path) for cure in ("naive", "ewc", "distillation")}
    monkeypatch.setattr(importance, "fisher", of_the_mean_gradient)
    (tmp_path / "mutant").mkdir()
    found["mutant"] = forgetting.learned(corners, "ewc", 0, tmp_path / "mutant")
    print(found)
    assert all(matrix[0, 0] >= 0.9 for matrix in found.values())
    assert all(found[cure][1, 1] >= 0.8 for cure in ("naive", "ewc", "distillation"))
    for cure in ("ewc", "distillation"):
        assert found[cure][1, 0] >= found["naive"][1, 0] + 0.6  # of 2: 0.3 of the episodes
    assert found["mutant"][1, 0] <= found["ewc"][1, 0] - 0.6
