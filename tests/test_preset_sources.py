"""Presets and defaults that name a source agree with it in what that source is known for."""

from __future__ import annotations

import pytest

import thorndike as td

HOPPER = {"target_entropy": -1.0, "replay_ratio": 20.0, "delay": 20, "replay.warmup": 5_000}
SOURCES = {
    # Chen et al. 2021 and Hiraoka et al. 2022 take the target entropies of Janner et al. 2019: Hopper's is -1
    ("redq", "Hopper-v5"): {**HOPPER, "critics": 10, "subset": 2},
    ("droq", "Hopper-v5"): {**HOPPER, "critics": 2, "critic_torso.dropout": 0.01},
    # Kuznetsov et al. 2020, table 3
    ("tqc", "HalfCheetah-v5"): {
        "critic_torso.widths": (512, 512, 512), "torso.widths": (256, 256), "critics": 5, "quantiles": 25, "drop": 0,
    },
    # Kostrikov et al. 2021 on Atari with 100,000 steps, as Dopamine has them; 5,000 of these steps for ε
    ("drq", ""): {
        "target_period": 1, "replay_ratio": 1.0, "optimiser.eps": 1.5e-4, "learning_rate": 1e-4, "exploration.end": 0.1,
        "exploration.fraction": 0.05, "replay.n_step": 10, "replay.warmup": 1_600, "replay.batch_size": 32,
    },
    # rl-baselines3-zoo
    ("td3", "HalfCheetah-v5"): {"torso.widths": (400, 300), "replay.warmup": 10_000, "replay.batch_size": 256},
    ("td3", "MountainCarContinuous-v0"): {"torso.widths": (400, 300), "replay.warmup": 100, "exploration.sigma": 0.5},
}  # fmt: skip


def read(value, path):
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("name", "env"), SOURCES)
def test_a_preset_has_the_numbers_of_its_source(name, env):
    algorithm, expected = td.preset(name, env), SOURCES[name, env]
    assert {path: read(algorithm, path) for path in expected} == expected
