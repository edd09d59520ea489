"""The pages in docs/pages: what they claim, computed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import thorndike as td

PAGES = Path(__file__).parents[1] / "docs" / "pages"


def page(name):
    spec = importlib.util.spec_from_file_location(name, PAGES / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where a config of the page finds its types
    spec.loader.exec_module(module)
    return module


def test_bairds_counterexample():
    """All three together diverge; without any one of them the weights stay bounded."""
    baird = page("baird")
    start = np.linalg.norm(baird.START)
    assert baird.norms("triad")[-1] > 20 * start
    for case in baird.CASES[1:]:
        assert baird.norms(case, 5000).max() < 3 * start, case
    # the update matrix has an eigenvalue above 1, which no step size takes away
    phi = baird.features()
    a = phi.T @ (baird.DISCOUNT * np.tile(phi[6], (7, 1)) - phi) / 7
    assert np.linalg.eigvals(a).real.max() > 0.1


def test_the_value_of_the_counterexample_is_exact_somewhere():
    """All rewards are 0 and w = 0 says so: divergence is not for want of a right answer."""
    baird = page("baird")
    assert (baird.features() @ np.zeros(8) == 0).all()


@pytest.mark.parametrize("name", ["baird", "empowerment"])
def test_pictures(name, tmp_path):
    page(name).main(str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").stat().st_size > 5_000


@pytest.mark.slow
def test_a_maximum_over_noise_is_too_high():
    """All arms are worth 0, and every run of both expects more."""
    for double in (False, True):
        assert page("overestimation").expected(double)[1][-1].min() > 0.1, double


def best(env, discount=0.99):
    p, r, terminal = env.transitions()
    value = np.zeros(len(p))
    for _ in range(3000):
        value = np.where(terminal, 0.0, (r + discount * p @ value).max(1))
    return value, (r + discount * p @ value).argmax(1), p


def arrives(env):
    _, policy, p = best(env)
    at = 0
    for _ in range(env.max_steps):
        at = int(p[at, policy[at]].argmax())
        if env.transitions()[2][at]:
            return True
    return False


def test_the_best_policy_of_the_boat_race_never_arrives():
    """By dynamic programming: buoys pay more than the finish, and without them the boat sails home."""
    assert not arrives(td.BoatRace())
    assert arrives(td.BoatRace(buoy_reward=0.0))
    assert best(td.BoatRace())[0][0] > 20


def test_returns_rise_while_success_falls(tmp_path):
    """Q-learning: of early episodes some arrive; at the end hardly any do, and returns are at their highest."""
    run = td.train(
        td.preset("q-learning", "BoatRace"), "BoatRace", 60_000, seeds=3, out=tmp_path / "run", progress=False
    )
    metrics = run.metrics()
    returns, success = (np.asarray(metrics[name]).mean(1) for name in ("rollout/ep_rew_mean", "rollout/success_rate"))
    seen = np.isfinite(success)
    assert success[seen].max() > 0.3
    assert success[seen][-3:].mean() < 0.2  # rows are shorter on a slow machine, and one alone is noise
    assert returns[-1] > returns[seen][0] + 15
    honest = td.BoatRace(buoy_reward=0.0)
    run = td.train(td.preset("q-learning", "BoatRace"), honest, 60_000, out=tmp_path / "honest", progress=False)
    assert run.evaluate(20).earned["success"].mean() == 1.0
