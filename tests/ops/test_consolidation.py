"""The diagonal of the Fisher information against its closed form, and PPO held by it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.errors import ConfigError, IncompatibleError
from thorndike.ops import consolidation
from thorndike.ops.keys import random_key
from thorndike.runs.results.given import bound
from thorndike.runs.storage.environments import describe
from thorndike.types import Rollout, Timestep, Transition

PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.25, 0.125, 0.625]])  # in two states, in eighths


def softmax_layer():
    """Weights whose logits are log-probabilities, and every action of both states as often as it is probable."""
    states = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    weights = jnp.asarray(np.log(PROBABILITIES) / np.array([[1.0], [2.0]]), jnp.float32)
    actions = [np.repeat(np.arange(3), (8 * p).astype(int)) for p in PROBABILITIES]
    samples = jnp.repeat(states, 8, 0), jnp.asarray(np.concatenate(actions))
    return weights, samples


def log_prob(weights, sample):
    x, action = sample
    return jax.nn.log_softmax(x @ weights)[action]


def test_of_a_softmax_layer(monkeypatch):
    """F_ik = E[x_i² p_k (1 - p_k)]; the mutant that squares the mean gradient finds none at all."""
    weights, samples = softmax_layer()
    expected = 0.5 * np.array([[1.0], [4.0]]) * PROBABILITIES * (1 - PROBABILITIES)
    for size in (128, 8, 4):
        monkeypatch.setattr(consolidation, "CHUNK", size)
        np.testing.assert_allclose(consolidation.fisher(log_prob, weights, samples), expected, rtol=1e-5)
    gradients = jax.vmap(jax.grad(log_prob), in_axes=(None, 0))(weights, samples)
    assert np.abs((gradients.mean(0)) ** 2).max() < 1e-10


def test_the_pull_of_the_penalty():
    """Its gradient is F (θ - θ*)."""
    rng = np.random.default_rng(0)
    draw = lambda: {"a": jnp.asarray(rng.normal(size=(3, 2))), "b": jnp.asarray(rng.uniform(size=4))}  # noqa: E731
    params, anchor, importance = draw(), draw(), draw()
    found = jax.grad(consolidation.penalty)(params, anchor, importance)
    for name in params:
        expected = importance[name] * (params[name] - anchor[name])
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6)
    by_hand = 0.5 * sum((importance[k] * (params[k] - anchor[k]) ** 2).sum() for k in params)
    assert consolidation.penalty(params, anchor, importance) == pytest.approx(float(by_hand), rel=1e-5)


SMALL = td.PPO(
    learning_rate=1.0, epochs=1, num_envs=4, rollout_length=4, minibatch_size=16, torso=td.Torso(widths=(4,)),
    max_grad_norm=1e9, optimiser=td.SGD(), normalize_observation=False, normalize_reward=False,
)  # fmt: skip
SPEC = describe(td.CartPole(), 100, "test")


def agent(seed: int) -> td.Agent:
    return td.Agent(SMALL, SPEC, SMALL.actor(SMALL.init(random_key(seed), SPEC)))


def learned(algorithm, given):
    state, rng = algorithm.init(random_key(0), SPEC), np.random.default_rng(0)
    obs = jnp.asarray(rng.normal(size=(4, 4, 4)), jnp.float32)
    no, action = jnp.zeros((4, 4), bool), jnp.asarray(rng.integers(0, 2, (4, 4)))
    steps = Transition(obs, no, action, {"log_prob": jnp.full((4, 4), -0.7)}, jnp.ones((4, 4)), no, no, obs, {})
    last = Timestep(obs[0], jnp.ones(4), no[0], no[0], obs[0], no[0], {})
    rollout = Rollout(steps, algorithm.carry(algorithm.actor(state), 4), last)
    after, metrics = bound(algorithm, given, SPEC).learn(state, rollout, random_key(1))
    return state.params.policy, after.params.policy, metrics


def test_ppo_is_held_by_each_of_its_anchors(monkeypatch):
    """One step of gradient descent differs from a free one by -λ Σ F (θ - θ*), and the critic is free."""
    anchors, importance = (agent(1), agent(2)), (agent(3), agent(4))
    squared = [td.Agent(SMALL, SPEC, jax.tree.map(lambda x: x**2, one.actor)) for one in importance]
    holding = dataclasses.replace(SMALL, consolidation=0.3)
    given = {"anchor": anchors, "importance": tuple(squared)}
    before, free, _ = learned(SMALL, {})
    _, held, metrics = learned(holding, given)
    pull = lambda x, *rest: sum(f * (x - old) for old, f in zip(rest[:2], rest[2:]))  # noqa: E731
    expected = jax.tree.map(pull, before, *(one.actor.policy for one in (*anchors, *squared)))
    found = jax.tree.map(lambda a, b: a - b, free, held)
    leaves = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (found, expected)]
    np.testing.assert_allclose(leaves[0], 0.3 * leaves[1], atol=2e-6)
    assert np.abs(leaves[0]).max() > 1e-3
    assert metrics["consolidation"] > 0
    with monkeypatch.context() as patch:  # a mutant: importance is not looked at
        right = consolidation.penalty
        patch.setattr(consolidation, "penalty", lambda x, old, f: right(x, old, jax.tree.map(jnp.ones_like, f)))
        moved = jax.tree.map(lambda a, b: a - b, free, learned(holding, given)[1])
        assert np.abs(np.ravel(jax.tree.leaves(moved)[0]) - np.ravel(jax.tree.leaves(found)[0])).max() > 1e-3


def test_importance_of_an_agent(tmp_path):
    """Of the biases of the head, by the agent's own probabilities; what plays no part has none."""
    one = agent(1)
    moved = jax.tree.map(lambda x: x + 0.5 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), one.actor)
    one = td.Agent(SMALL, SPEC, moved)
    found = td.importance(one, td.CartPole(), 4096)
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(found.actor.critic))
    bias = np.asarray(found.actor.policy.head.linear.bias)
    assert bias[0] == pytest.approx(bias[1], rel=1e-3)  # the two gradients are opposite
    # E[p (1 - p)] over its own states, played again by hand.
    env, key, seen = td.CartPole(), random_key(9), []
    step = env.reset(key)
    for t in range(600):
        seen.append(one.look(np.asarray(step.obs))["probabilities"][0])
        action = int(np.random.default_rng(t).random() > seen[-1])
        step = env.step(step.state, jnp.int32(action), key)
        step = env.reset(random_key(t)) if bool(step.terminated) else step
    seen = np.array(seen)
    assert bias[0] == pytest.approx((seen * (1 - seen)).mean(), rel=0.15)
    assert td.load(found.save(tmp_path / "f.td")).actor.policy.head.linear.bias.tolist() == bias.tolist()


def test_what_is_refused():
    holding = dataclasses.replace(SMALL, consolidation=1.0)
    with pytest.raises(ConfigError, match="PPO learns from 'anchor'"):
        bound(holding, {}, SPEC)
    with pytest.raises(IncompatibleError, match="given are 2 and 1"):
        bound(holding, {"anchor": (agent(0), agent(1)), "importance": (agent(0),)}, SPEC)
    other = td.PPO(torso=td.Torso(widths=(5,)))
    wide = td.Agent(other, SPEC, other.actor(other.init(random_key(0), SPEC)))
    with pytest.raises(IncompatibleError, match="the policy's own network"):
        bound(holding, {"anchor": (wide,), "importance": (wide,)}, SPEC)
    dqn = td.DQN(torso=td.Torso(widths=(4,)), learning_rate=1e-3)
    q = td.Agent(dqn, SPEC, dqn.actor(dqn.init(random_key(0), SPEC)))
    with pytest.raises(IncompatibleError, match="importance is of the parameters of a policy"):
        td.importance(q, td.CartPole())
    with pytest.raises(IncompatibleError, match="this one is on the host"):
        td.importance(agent(0), "gymnasium/CartPole-v1")
