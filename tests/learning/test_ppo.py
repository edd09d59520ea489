"""PPO on CartPole and Pendulum, with the bugs that a weaker test would let pass."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import pytest
from trained import greedy, trained

import thorndike as td
from thorndike.algorithms.policy import ppo
from thorndike.runs.training.setup import choose

CARTPOLE = td.PPO()
PENDULUM = td.PPO(
    num_envs=8, rollout_length=256, minibatch_size=128, epochs=10, discount=0.95, learning_rate=td.Linear(1e-3),
)  # fmt: skip


@pytest.mark.parametrize("seeds", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_cartpole_in_100k_steps(seeds, tmp_path):
    run = trained(tmp_path, CARTPOLE, "CartPole-v1", 100_000, seeds=seeds)
    evaluation = run.evaluate(100)
    assert evaluation.iqm >= 475
    assert min(evaluation.per_run) >= 450, evaluation.per_run


def test_the_preset_is_what_is_tested_here():
    algorithm, steps = choose("ppo", "CartPole-v1", None)
    assert (algorithm, steps) == (CARTPOLE, 100_000)


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["broken pairs", "GAE through ends", "ratio upside down"])
def test_bugs_do_not_reach_475(bug, tmp_path, monkeypatch):
    if bug == "broken pairs":
        descend = td.PPO.descend
        shift = lambda data: data._replace(advantage=jnp.flip(data.advantage, (0, 1)))  # noqa: E731
        monkeypatch.setattr(td.PPO, "descend", lambda self, s, data, k: descend(self, s, shift(data), k))
    elif bug == "GAE through ends":
        gae = ppo.gae
        monkeypatch.setattr(ppo, "gae", lambda r, v, n, t, e, d, k: gae(r, v, n, t & False, e & False, d, k))
    else:
        loss = td.PPO.loss
        flip = lambda b: b._replace(advantage=-b.advantage)  # noqa: E731
        monkeypatch.setattr(td.PPO, "loss", lambda self, p, batch, clip: loss(self, p, flip(batch), clip))
    run = trained(tmp_path, CARTPOLE, "CartPole-v1", 100_000, seeds=2)
    assert run.evaluate(50).iqm < 475


def test_the_first_ratio_is_one(tmp_path):
    """On the first minibatch the new policy is the old one: KL and clip fraction are 0, whatever the action space."""
    for env in ("CartPole-v1", "Pendulum-v1"):
        once = dataclasses.replace(PENDULUM, epochs=1, minibatch_size=2048)
        run = trained(tmp_path, once, env, 2048, log_every=2048)
        columns = run.metrics()
        assert abs(columns["train/approx_kl"][0, 0]) < 1e-6
        assert columns["train/clip_fraction"][0, 0] == 0


@pytest.mark.slow
def test_pendulum_in_300k_steps(tmp_path):
    run = trained(tmp_path, PENDULUM, "Pendulum-v1", 300_000, seeds=4)
    returns = greedy(run)
    assert (returns >= -250).all(), returns


@pytest.mark.slow
@pytest.mark.parametrize(("env", "least"), [("LunarLander-v3", 200), ("InvertedPendulum-v5", 900)])
def test_the_host_environments_of_the_presets(env, least, tmp_path):
    """LunarLander in a million steps, InvertedPendulum in half a million."""
    algorithm, steps = choose("ppo", env, None)
    run = trained(tmp_path, algorithm, env, steps)
    evaluation = run.evaluate(100)
    print(env, steps, evaluation, run.status)
    assert evaluation.mean >= least
