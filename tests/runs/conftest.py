"""Small finished runs, and a way to only set one up."""

from __future__ import annotations

import pytest
import small_runs as small

import thorndike as td
from thorndike.runs.loop import Loop


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One finished run of each algorithm, made when first asked for."""
    made = {}

    def get(name: str) -> td.Run:
        if name not in made:
            made[name] = small.train(name, tmp_path_factory.mktemp("runs") / name)
        return made[name]

    return get


@pytest.fixture
def ppo(runs):
    return runs("PPO")


@pytest.fixture
def no_training(monkeypatch):
    """Runs are set up and not started."""
    monkeypatch.setattr(Loop, "__init__", lambda self, *args: None)
    monkeypatch.setattr(Loop, "go", lambda self: None)
