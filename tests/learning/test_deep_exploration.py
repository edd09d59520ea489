"""Exploration that has to be consistent over a whole episode: DeepSea, where one dive of 2^N pays."""

from __future__ import annotations

import numpy as np
import pytest
from trained import trained

import thorndike as td

N, EPISODES = 15, 1_500


def solved(tmp_path, algorithm, seeds=5):
    """Whether at least half of the last 100 dives of each run found the treasure."""
    run = trained(tmp_path, algorithm, td.DeepSea(size=N), N * EPISODES, seeds=seeds)
    episodes = run.episodes()
    last = [episodes["return"][episodes["member"] == seed][-100:] for seed in range(seeds)]
    return np.array([(returns > 0.5).mean() >= 0.5 for returns in last])


def bootstrapped(**fields):
    return td.preset("bootstrapped-dqn", "DeepSea", **fields)


@pytest.mark.slow
def test_thompson_sampling_finds_the_treasure(tmp_path):
    """Osband et al. (2018): by 1,500 dives of 32,768. ε-greedy does not."""
    assert solved(tmp_path, bootstrapped()).all()
    greedy = td.DQN(
        torso=td.Torso(widths=(50, 50), activation="relu", init="uniform"), learning_rate=1e-3, target_period=4,
        replay_ratio=0.25, replay=bootstrapped().replay, normalize_observation=False,
    )  # fmt: skip
    assert not solved(tmp_path, greedy).any()
