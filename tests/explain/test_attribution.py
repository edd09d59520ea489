"""Attributions: closed forms of linear networks, completeness, all subsets, and what a network cannot have seen."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import linear_agents as linear
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from linear_agents import MEAN, OBS, STD, U, W

import thorndike as td
from thorndike.errors import IncompatibleError
from thorndike.explain import attribution as by
from thorndike.explain import explanation, score
from thorndike.explain.baseline import Layout, blurred

Z = (OBS - MEAN) / STD
LOGITS = Z @ W + np.float32([0.3, -0.2, 0.1])


def relative(weights, chosen, legal=None):
    """The weights [D] of each chosen action, less the mean of those of legal ones."""
    legal = np.ones((len(chosen), weights.shape[1])) if legal is None else legal
    return weights.T[chosen] - (legal @ weights.T) / legal.sum(1, keepdims=True)


def of_choice(**more):
    return linear.ppo().explain(OBS, **more).values


ADDED = Z * relative(W, LOGITS.argmax(1))  # what each feature adds to the chosen logit


@pytest.mark.parametrize("method", ["integrated", "gradient-x-input", "occlusion", "shapley"])
def test_of_a_linear_network_all_methods_are_exact(method):
    found = linear.ppo().explain(OBS, method=method)
    np.testing.assert_allclose(found.values, ADDED, atol=1e-5)
    assert found.incompleteness < 1e-5
    assert found.kind == "choice"


def test_gradients_are_those_of_the_observation_as_it_is_seen(monkeypatch):
    """Not of the normalised one that the network reads: 1 / STD tells them apart."""
    expected = relative(W, LOGITS.argmax(1)) / STD
    np.testing.assert_allclose(of_choice(method="gradient"), expected, rtol=1e-4)
    plain = by.gradient
    monkeypatch.setattr(by, "gradient", lambda f, x: plain(f, x) * STD)
    jax.clear_caches()
    assert np.abs(of_choice(method="gradient") - expected).max() > 0.2
    monkeypatch.undo()
    jax.clear_caches()


def test_the_choice_and_the_value_are_different_questions(monkeypatch):
    found = linear.ppo().explain(OBS, of="value")
    np.testing.assert_allclose(found.values, Z * U[:, 0], atol=1e-5)
    monkeypatch.setattr(explanation, "kind_of", lambda *_: "value")
    assert np.abs(of_choice() - ADDED).max() > 0.5


def test_values_of_actions_decide_where_an_agent_acts_by_them():
    agent = linear.dqn()
    found = agent.explain(OBS, against=np.zeros(5, np.float32))
    assert found.kind == "q"
    np.testing.assert_allclose(found.values, OBS * relative(W, (OBS @ W).argmax(1)), atol=1e-5)
    np.testing.assert_allclose(agent.explain(OBS, of="value").score, (OBS @ W).max(1), rtol=1e-4)


def test_only_legal_actions_are_chosen_and_compared(monkeypatch):
    legal = np.random.default_rng(1).random((len(OBS), 3)) < 0.6
    legal[~legal.any(1), 1] = True
    expected = Z * relative(W, np.where(legal, LOGITS, -np.inf).argmax(1), legal)
    agent = linear.ppo(masked=True)
    np.testing.assert_allclose(agent.explain(OBS, legal).values, expected, atol=1e-4)
    plain = score.now_of
    monkeypatch.setattr(score, "now_of", lambda scene, obs: plain(scene._replace(mask=None), obs))
    jax.clear_caches()
    assert np.abs(agent.explain(OBS, legal).values - expected).max() > 0.5
    monkeypatch.undo()
    jax.clear_caches()


@pytest.fixture(scope="module")
def curved():
    """A network with hidden layers, and observations far from the mean."""
    agent = linear.ppo(widths=(16, 16))
    weights = jax.tree.map(lambda x: x * 3 if x.ndim == 2 else x, agent.actor.policy)
    return td.Agent(agent.algorithm, agent.spec, agent.actor._replace(policy=weights))


def test_completeness(curved):
    """They add up to F(x) - F(x₀): integrated gradients to 1 %, Shapley values exactly, products of gradients not."""
    found = {m: curved.explain(OBS, method=m) for m in ("integrated", "shapley", "gradient-x-input", "occlusion")}
    assert found["integrated"].incompleteness < 0.01
    assert found["shapley"].incompleteness < 1e-4
    assert found["gradient-x-input"].incompleteness > 0.05
    assert found["occlusion"].incompleteness > 0.02


def f(x):
    """Features that matter together."""
    return jnp.tanh(x @ jnp.float32([1.0, -2.0, 0.5, 0.8])) * x[:, 1] + x[:, 0] * x[:, 2] ** 2


X = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
X0 = np.zeros_like(X) + 0.1


def test_gradients_by_finite_differences():
    eps = 1e-2 * np.eye(4, dtype=np.float32)
    numeric = np.stack([(f(X + e) - f(X - e)) / 2e-2 for e in eps], 1)
    np.testing.assert_allclose(by.gradient(f, X), numeric, atol=5e-3)


def by_orders(f, x, x0):
    """Shapley values as they are defined by orders: what a feature adds when it comes, averaged over all orders."""
    found, orders = np.zeros_like(x, float), [*itertools.permutations(range(x.shape[1]))]
    for order in orders:
        here = x0.copy()
        for i in order:
            before = np.asarray(f(here))
            here[:, i] = x[:, i]
            found[:, i] += np.asarray(f(here)) - before
    return found / len(orders)


def test_shapley_values_by_all_orders(monkeypatch):
    groups, expected = by.each_element([(4,)])[0], by_orders(f, X, X0)
    np.testing.assert_allclose(by.shapley(f, X, X0, groups), expected, atol=1e-5)
    signs = lambda subsets: np.where(subsets.T, 1.0, -1.0).astype(np.float32) / 2**3  # noqa: E731  # Banzhaf's index
    monkeypatch.setattr(by, "shapley_weights", signs)
    assert np.abs(by.shapley(f, X, X0, groups) - expected).max() > 0.02


def test_of_sums_of_functions_shapley_values_are_integrated_gradients():
    def additive(x):
        return jnp.sin(x[:, 0]) + x[:, 1] ** 2 + jnp.exp(x[:, 2]) - 3 * x[:, 3]

    groups = by.each_element([(4,)])[0]
    found = by.integrated_gradients(additive, X, X0)
    np.testing.assert_allclose(found, by.shapley(additive, X, X0, groups), atol=1e-3)
    np.testing.assert_allclose(found, by.occlusion(additive, X, X0, groups), atol=1e-3)


def test_pushes_to_and_fro_do_not_cancel(monkeypatch):
    """A feature that speaks for the choice as often as against it counts; the signed sum over steps would hide it."""
    values = np.stack([np.tile([5.0, -5.0], 10), np.full(20, 0.5)], 1)
    layout = Layout(((2,),), (False,), ("",))
    zero = np.zeros(20)
    found = explanation.Explanation(
        "", "integrated", "q", layout, ["swings", "stays"], zero, [], [values], zero, zero, None
    )
    assert found.shares["swings"] == pytest.approx(10 / 11)
    monkeypatch.setattr(Layout, "by_feature", lambda self, maps: (maps[0], maps[0]))
    assert found.shares["swings"] == pytest.approx(0)


def test_parts_of_dicts_and_choices():
    """Choices have no gradient, but can be missing."""
    space = Dict(
        {"goal": Discrete(4), "place": Box(-1, 1, (2,), np.float32), "pair": Tuple([Discrete(2), Discrete(3)])}
    )
    agent = linear.agent(td.PPO(torso=td.Torso(widths=(8,))), linear.spec(observation=space))
    rows = [space.sample() for _ in range(7)]
    obs = jax.tree.map(lambda *xs: np.stack(xs), *rows)
    with pytest.raises(IncompatibleError, match="choices have no gradient: use occlusion"):
        agent.explain(obs)
    found = agent.explain(obs, method="shapley")
    assert found.names == ["goal", "pair/0", "pair/1", "place 0", "place 1"]
    assert found.values.shape == (7, 5)
    assert found.incompleteness < 1e-3
    assert found.changes.shape == (5,)


@pytest.mark.parametrize("shape", [(6, 9, 2), (2, 6, 9), (3, 6, 9, 2)])
def test_patches_of_images(shape):
    """Of a linear network each patch has what its pixels add, over all channels; blurring leaves plain images alone."""
    space = Box(0, 255, shape, np.uint8)
    algorithm = td.PPO(torso=td.Torso(widths=(), images="none"))
    agent = linear.agent(algorithm, linear.spec(observation=space))
    weight = np.asarray(agent.actor.policy.head.linear.weight)  # [pixels, A]
    obs = np.random.default_rng(3).integers(0, 256, (4, *shape)).astype(np.uint8)
    x0 = np.asarray(blurred(jnp.asarray(obs, jnp.float32), shape))
    added = ((obs - x0) / 255).reshape(4, -1) * relative(weight, agent.act(obs))
    pixels = agent.explain(obs)
    np.testing.assert_allclose(pixels.maps[0].reshape(4, -1), added, atol=1e-6)
    (groups,) = Layout.of(space).groups("shapley")
    sums = np.stack([(added.reshape(4, *shape) * (groups == g)).reshape(4, -1).sum(1) for g in range(9)], 1)
    found = agent.explain(obs, method="shapley").maps[0]
    np.testing.assert_allclose(
        np.stack([(found * (groups == g)).reshape(4, -1).sum(1) for g in range(9)], 1), sums, atol=1e-5
    )
    np.testing.assert_allclose(blurred(jnp.full((1, *shape), 7.0), shape), 7.0, rtol=1e-5)
    assert pixels.changes is None


def test_of_an_agent_with_memory_each_step_is_seen_with_what_came_before(monkeypatch):
    algorithm = td.PPO(torso=td.Torso(widths=(4,)), core=td.GRU(width=4))
    agent = linear.agent(algorithm, linear.spec())
    stepped = []
    for obs in OBS[:9]:
        stepped.append(float(agent.look(obs)["value"]))
        agent.act(obs)
    found = agent.explain(OBS[:9], of="value", episode=True)
    np.testing.assert_allclose(found.score, stepped, rtol=1e-4, atol=1e-6)
    assert np.abs(agent.explain(OBS[:9], of="value").score - stepped).max() > 1e-3  # each the first of an episode
    stepped.append(float(agent.look(OBS[9])["value"]))  # its memory is as it was
    assert agent.explain(OBS[:10], of="value", episode=True).score[-1] == pytest.approx(stepped[-1], rel=1e-4)


@pytest.mark.parametrize("algorithm", [td.SAC(), td.TD3(), td.BC(), td.DiscreteSAC()], ids=lambda a: type(a).__name__)
def test_other_algorithms(algorithm):
    """Of continuous actions one dimension is explained."""
    discrete = isinstance(algorithm, td.DiscreteSAC)
    action = Discrete(3) if discrete else Box(-2, 2, (2,), np.float32)
    algorithm = dataclasses.replace(algorithm, torso=td.Torso(widths=(8,), init="uniform"))
    agent = linear.agent(algorithm, linear.spec(action))
    found = agent.explain(OBS[:5], part=0 if discrete else 1)
    assert (
        found.kind == {"SAC": "mean", "TD3": "action", "BC": "mean", "DiscreteSAC": "choice"}[type(algorithm).__name__]
    )
    assert found.incompleteness < 0.02
    if found.kind == "action":
        np.testing.assert_allclose(found.score, agent.act(OBS[:5])[:, 1], rtol=1e-5)
    if found.kind == "mean":
        np.testing.assert_allclose(found.score, agent.look(OBS[:5])["mean"][:, 1], rtol=1e-5)


def test_mistakes():
    agent = linear.ppo()
    with pytest.raises(td.ConfigError, match="method is one of integrated"):
        agent.explain(OBS, method="magic")
    with pytest.raises(td.ConfigError, match="of is action or value"):
        agent.explain(OBS, of="q")
    with pytest.raises(td.ConfigError, match="there are 5 features, and names has 1"):
        agent.explain(OBS, names=("one",))
    with pytest.raises(td.IncompatibleError, match="expected an observation"):
        agent.explain(OBS[:, :3])
    with pytest.raises(td.IncompatibleError, match="BC learns no values"):
        linear.agent(td.BC(torso=td.Torso(widths=())), linear.spec()).explain(OBS, of="value")
    wide = linear.spec(observation=Box(-1, 1, (13,), np.float32))
    with pytest.raises(td.IncompatibleError, match="at most 12 parts, and there are 13"):
        linear.agent(td.BC(torso=td.Torso(widths=())), wide).explain(np.zeros(13, np.float32), method="shapley")
    box = linear.spec(Box(-1, 1, (2,), np.float32))
    with pytest.raises(td.ConfigError, match="part is one of the 2 of an action, from 0, got 2"):
        linear.agent(td.BC(torso=td.Torso(widths=())), box).explain(OBS, part=2)
