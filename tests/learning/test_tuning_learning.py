"""A tuned setting against the default, on new seeds, and what finding it costs beside one trial after the other."""

from __future__ import annotations

import dataclasses
import resource
from time import perf_counter

import numpy as np
import pytest

import thorndike as td

PPO_OVER = {
    "learning_rate": td.LogRange(1e-4, 1e-2),
    "clip": td.Range(0.1, 0.4),
    "trace": td.Range(0.8, 1.0),
    "discount": td.Range(0.9, 0.999),
}
TABLE_OVER = {"learning_rate": td.LogRange(0.02, 1.0), "discount": td.Range(0.9, 0.999)}
CASES = [  # algorithm, environment, ranges, steps, trials, seeds, gain
    (td.PPO(), "Pendulum-v1", PPO_OVER, 50_000, 64, 1, 400.0),
    (td.QLearning(), "Taxi-v3", TABLE_OVER, 20_000, 32, 4, 80.0),
]


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def late_returns(run):
    """The mean return of the last quarter of training, of each seed."""
    episodes, steps = run.episodes(), run.info["steps"]
    late = episodes["step"] > 0.75 * steps
    return np.array([episodes["return"][late & (episodes["member"] == i)].mean() for i in range(run.runs)])


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "env", "over", "steps", "trials", "seeds", "more"), CASES)
def test_a_tuned_setting_earns_more_on_new_seeds(algorithm, env, over, steps, trials, seeds, more, tmp_path):
    before, began = processor_seconds(), perf_counter()
    found = td.tune(
        algorithm, env, over, trials=trials, seeds=seeds, steps=steps, out=tmp_path / "tune", progress=False
    )
    spent, waited = processor_seconds() - before, perf_counter() - began
    print(found)
    results = {}
    for name, setting in (("default", algorithm), ("tuned", found.best)):
        run = td.train(setting, env, steps, seeds=8, seed=1000, out=tmp_path / name, progress=False)
        results[name] = late_returns(run)
    before, began = processor_seconds(), perf_counter()
    for trial in found.trials[:4]:
        setting = dataclasses.replace(algorithm, **trial.settings)
        out = tmp_path / f"alone-{trial.number}"
        td.train(setting, env, steps, seeds=seeds, out=out, progress=False)
    each, alone = (processor_seconds() - before) / 4, (perf_counter() - began) / 4
    print(f"{env}: { ({name: returns.round(1).tolist() for name, returns in results.items()}) }")
    print(f"{spent:.0f} s of processor, {waited:.0f} s; one by one {trials * each:.0f} and {trials * alone:.0f} s")
    assert results["tuned"].mean() > results["default"].mean() + more
    assert spent < trials * each / 3
