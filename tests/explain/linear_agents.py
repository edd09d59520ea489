"""Agents that nobody trained, whose networks are linear: their attributions are known in closed form."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.ops.keys import random_key
from thorndike.ops.statistics import Running
from thorndike.schedules import settled

FEATURES, ACTIONS = 5, 3
RNG = np.random.default_rng(0)
W, U = RNG.normal(size=(FEATURES, ACTIONS)).astype(np.float32), RNG.normal(size=(FEATURES, 1)).astype(np.float32)
MEAN, STD = RNG.normal(size=FEATURES).astype(np.float32), np.float32([0.5, 2.0, 1.0, 3.0, 0.7])
OBS = (MEAN + STD * RNG.normal(size=(40, FEATURES))).astype(np.float32)


def spec(action=None, masked=False, observation=None):
    observation = Box(-np.inf, np.inf, (FEATURES,), np.float32) if observation is None else observation
    return td.Spec(observation, Discrete(ACTIONS) if action is None else action, 1, "linear", masked)


def agent(algorithm, spec, seed=0):
    """An untrained agent."""
    algorithm = settled(algorithm, 0, 1, 0)
    return td.Agent(algorithm, spec, algorithm.actor(algorithm.init(random_key(seed), spec)))


def ppo(masked=False, widths=()):
    """logits = W (x - MEAN) / STD + b, V = U (x - MEAN) / STD."""
    made = agent(td.PPO(torso=td.Torso(widths=widths)), spec(masked=masked))
    statistics = Running(jnp.asarray(MEAN), jnp.asarray(STD**2), jnp.float32(100))
    actor = made.actor._replace(statistics=statistics)
    if not widths:
        where = lambda a: (a.policy.head.linear.weight, a.critic.head.weight, a.policy.head.linear.bias)  # noqa: E731
        actor = eqx.tree_at(where, actor, (jnp.asarray(W), jnp.asarray(U), jnp.float32([0.3, -0.2, 0.1])))
    return td.Agent(made.algorithm, made.spec, actor)


def dqn(widths=(), **fields):
    """Q = W x."""
    made = agent(td.DQN(torso=td.Torso(widths=widths), **fields), spec())
    weights = [x for x in jax.tree.leaves(made.actor) if x.shape == W.shape]
    assert len(weights) == 1 or widths
    actor = made.actor if widths else jax.tree.map(lambda x: jnp.asarray(W) if x.shape == W.shape else x, made.actor)
    return td.Agent(made.algorithm, made.spec, actor)
