"""PPO and DQN with and without curiosity, where one reward is at the end of a long way that turns."""

from __future__ import annotations

import pytest
from trained import greedy, trained

import thorndike as td

SNAKE = td.GridWorld(
    map=("S........", "########.", ".........", ".########", "........G"),
    step_reward=0.0,
    goal_reward=1.0,
    max_steps=60,
)  # 28 steps, of which a random walk of 60 covers five or six


def run(tmp_path, curiosity, steps=80_000):
    algorithm = td.PPO(
        num_envs=16, rollout_length=64, minibatch_size=256, epochs=4, learning_rate=1e-3, entropy_coefficient=0.01,
        normalize_observation=False, normalize_reward=False, curiosity=curiosity,
    )  # fmt: skip
    return greedy(trained(tmp_path, algorithm, SNAKE, steps, seeds=3), 20)


@pytest.mark.slow
def test_what_is_new_leads_to_the_reward(tmp_path):
    found = run(tmp_path, td.RND())
    assert (found >= 0.9).all(), found
    without = run(tmp_path, None)
    assert (without <= 0.05).all(), without


def valued(tmp_path, curiosity, steps=40_000):
    algorithm = td.DQN(
        num_envs=16, learning_rate=1e-3, discount=0.97, target_period=50, replay_ratio=0.25,
        normalize_observation=False, exploration=td.Epsilon(end=0.05, fraction=0.3), curiosity=curiosity,
        replay=td.Uniform(capacity=40_000, batch_size=64, warmup=500),
    )  # fmt: skip
    return greedy(trained(tmp_path, algorithm, SNAKE, steps, seeds=3), 20)


@pytest.mark.slow
def test_values_of_what_is_new_lead_to_the_reward(tmp_path):
    found = valued(tmp_path, td.RND())
    assert (found >= 0.9).all(), found
    without = valued(tmp_path, None)
    assert (without <= 0.05).all(), without
