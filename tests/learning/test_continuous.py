"""What SAC's and TD3's relatives learn: to follow a number, Pendulum, and a hill that needs exploration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box
from trained import greedy, trained

import thorndike as td
from thorndike.runs.training.setup import choose
from thorndike.types import Step, Timestep


@td.config
class Follow:
    """One step: the action, from -2 to 2, should be the number x that the observation shows. Reward -(a - x)²."""

    max_steps: int = 1

    @property
    def observation_space(self):
        return Box(-1, 1, (1,))

    @property
    def action_space(self):
        return Box(-2, 2, (1,))

    def reset(self, key):
        x = jax.random.uniform(key, (1,), minval=-1)
        return Step(x, x)

    def step(self, x, action, key):
        return Step(x, x, -((action[0] - x[0]) ** 2), True)


SMALL = td.Torso(widths=(32, 32), activation="relu", init="uniform")
FAST = {"torso": SMALL, "num_envs": 8, "replay": td.Uniform(capacity=8192, batch_size=64, warmup=512)}
FOLLOWERS = {
    "td3": td.TD3(**FAST, learning_rate=3e-3, tau=0.05, replay_ratio=0.5),
    "sac": td.SAC(**FAST, learning_rate=3e-3, tau=0.05, replay_ratio=0.5, temperature=0.01),
    "tqc": td.TQC(**FAST, learning_rate=3e-3, tau=0.05, replay_ratio=0.5, temperature=0.01, critics=2),
    "crossq": td.CrossQ(**FAST, critic_torso=SMALL, learning_rate=3e-3, replay_ratio=0.5, temperature=0.01),
}


def distance(run):
    """The mean of |a - x| in evaluation, of each run."""
    x = jnp.linspace(-0.9, 0.9, 50)[:, None]
    no = jnp.zeros(50, bool)
    now = Timestep(x, jnp.zeros(50), no, no, x, no, {})

    def one(actor):
        carry = run.algorithm.carry(actor, 50)
        return jnp.abs(run.algorithm.act(actor, carry, now, jax.random.key(0), False)[0] - x).mean()

    return np.asarray(jax.vmap(one)(run.actors()))


@pytest.mark.parametrize("name", ["td3", *(pytest.param(n, marks=pytest.mark.slow) for n in FOLLOWERS if n != "td3")])
def test_the_action_follows_the_observation(name, tmp_path):
    """A policy that ignores it is 0.46 away."""
    found = distance(trained(tmp_path, FOLLOWERS[name], Follow(), 8_000, seeds=2))
    assert (found < 0.12).all(), found


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["actions as the environment has them", "the actor of a fixed critic"])
def test_bugs_do_not_follow(bug, tmp_path, monkeypatch):
    if bug == "actions as the environment has them":
        monkeypatch.setattr("thorndike.nets.policy.Actions.from_environment", lambda self, action: action)
    else:
        monkeypatch.setattr("thorndike.algorithms.actor_critic.td3.values", lambda *args: jnp.zeros((2, 64)))
    found = distance(trained(tmp_path, FOLLOWERS["td3"], Follow(), 8_000, seeds=2))
    assert (found > 0.15).all(), found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seeds"), [("tqc", 3), ("crossq", 3), ("redq", 1), ("droq", 2)])
def test_pendulum(name, seeds, tmp_path):
    """At 20,000 steps, and with twenty updates a step at 5,000."""
    algorithm, steps = choose(name, "Pendulum-v1", None)
    assert steps == (5_000 if algorithm.replay_ratio > 1 else 20_000)
    returns = greedy(trained(tmp_path, algorithm, "Pendulum-v1", steps, seeds=seeds))
    print(name, returns)
    assert (returns >= -250).all(), returns


@pytest.mark.slow
def test_noise_that_lasts_reaches_the_flag(tmp_path):
    """Of MountainCarContinuous: 90 is solved, a policy that stands still has 0."""
    algorithm, steps = choose("sac", "MountainCarContinuous-v0", None)
    returns = greedy(trained(tmp_path, algorithm, "MountainCarContinuous-v0", steps, seeds=2))
    print("state-dependent", returns)
    assert (returns >= 90).all(), returns


@pytest.mark.slow
def test_discrete_sac_balances_a_pole(tmp_path):
    algorithm, steps = choose("discrete-sac", "CartPole-v1", None)
    returns = greedy(trained(tmp_path, algorithm, "CartPole-v1", steps, seeds=4))
    print("discrete-sac", returns)
    assert (returns >= 450).all(), returns
