"""Small finished runs, and a way to only set one up."""

from __future__ import annotations

import jax
import pytest
import small_runs as small

import thorndike as td
from thorndike.drivers.scan import ScanDriver
from thorndike.runs.training.loop import Loop


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    """Runs that only numbers tell apart share their programs: they are about files, not about learning.

    A test that replaces what is compiled has to ask for an algorithm, or a size, of its own.
    """
    compile, programs = ScanDriver.compile, {}

    def shared(self, warm=False):
        leaves, structure = jax.tree.flatten((self.algorithm, self.world))
        key = structure, tuple(map(jax.typeof, leaves)), self.runs, warm, self.warmup
        if key not in programs:
            programs[key] = compile(self, warm)
        return programs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScanDriver, "compile", shared)
        yield


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
