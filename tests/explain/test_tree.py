"""Trees that do as an agent does: exact descent, a budget of leaves, and weights by what is at stake."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import linear_agents as linear
import numpy as np
import pytest
import sklearn.tree
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.explain import tree as trees
from thorndike.explain.planted import LEAF, Nodes, TreePolicy, planted

NAMES = ("place", "speed", "angle", "spin")


@pytest.fixture(scope="module")
def balancing():
    """A linear policy that balances CartPole's pole for ever: force towards where it falls, and back to the middle."""
    env = td.CartPole()
    algorithm = td.PPO(torso=td.Torso(widths=()), normalize_observation=False)
    spec = td.Spec(env.observation_space, env.action_space, 1, "CartPole-v1", horizon=500)
    agent = linear.agent(algorithm, spec)
    right = jnp.float32([0.1, 0.3, 3.0, 1.0])[:, None] * jnp.float32([[0.0, 5.0]])
    actor = eqx.tree_at(lambda a: a.policy.head.linear.weight, agent.actor, right)
    return td.Agent(algorithm, spec, actor), env


@pytest.fixture(scope="module")
def tree(balancing):
    agent, env = balancing
    return trees.distil(agent, env, 15, rounds=5, episodes=40, names=NAMES)


def test_a_tree_balances_as_the_agent_does(tree):
    assert tree.teacher.mean == 500
    assert tree.leaves <= 15
    assert tree.evaluation.mean >= 475
    assert tree.fidelity > 0.8


def test_its_forms_act_alike(tree, tmp_path):
    """The array, the compiled policy, the rules in Python, and the exported file."""
    obs = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32) * [1.0, 1.0, 0.1, 1.0]
    obs = obs.astype(np.float32)
    expected = tree.nodes.decide(obs)
    assert {*expected} == {0, 1}
    np.testing.assert_array_equal(tree.agent.act(obs), expected)
    np.testing.assert_array_equal([tree(x) for x in obs], expected)
    names = {}
    exec(tree.save(tmp_path / "tree.py").read_text(), names)
    np.testing.assert_array_equal([names["act"](x) for x in obs], expected)
    assert tree.agent.export(tmp_path / "policy.py").difference == 0
    assert all(name in tree.text() for name in ("angle", "spin"))
    assert tree.text().count("action") == tree.leaves


@pytest.mark.parametrize("leaves", [2, 7, 30])
def test_descent_is_that_of_scikit_learn(leaves):
    """Also at the thresholds themselves, which are float64 between two float32."""
    rng = np.random.default_rng(leaves)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    fitted = sklearn.tree.DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0).fit(x, rng.integers(0, 4, 400))
    nodes = Nodes.of(fitted)
    edges = fitted.tree_.threshold[fitted.tree_.feature >= 0].astype(np.float32)
    near = np.concatenate([edges, np.nextafter(edges, np.float32(9)), np.nextafter(edges, np.float32(-9))])
    x = np.concatenate([x, np.stack([near] * 3, 1), rng.normal(size=(400, 3)).astype(np.float32)])
    np.testing.assert_array_equal(nodes.decide(x), fitted.predict(x))
    spec = linear.spec(Discrete(4), observation=Box(-9, 9, (3,), np.float32))
    agent = td.Agent(TreePolicy(), spec, planted(nodes, leaves + 3, spec))
    np.testing.assert_array_equal(agent.act(x), fitted.predict(x))
    assert (nodes.feature == LEAF).sum() <= leaves
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "nextafter", lambda x, _: x)  # thresholds rounded to the nearest float32
        rounded = Nodes.of(fitted)
    if leaves == 30:
        assert (rounded.decide(x) != fitted.predict(x)).any()


class Gate:
    """A task on [0, 1): an intricate pattern whose mistakes cost 0.01, and a narrow gate where one costs 100.

    Q(s, a) is known, so the loss of a tree is too: the mean over a grid of what its mistakes cost.
    """

    X = (np.arange(4000, dtype=np.float32)[:, None] + 0.5) / 4000

    def __init__(self):
        x = self.X[:, 0]
        inside = (x > 0.705) & (x < 0.715)
        self.best = np.where(inside, 2, (np.floor(x * 40) % 2).astype(int))
        self.stake = np.where(inside, 100.0, 0.01)

    def loss(self, nodes):
        return float((self.stake * (nodes.decide(self.X) != self.best)).mean())

    def leaves_needed(self, weighted):
        weight = self.stake if weighted else np.ones_like(self.stake)
        data = trees.Lesson(self.X, self.best, weight)
        return next(n for n in range(2, 80) if self.loss(trees._fitter(n)(data)) < 0.01)


def test_weights_spend_leaves_where_much_is_at_stake():
    gate = Gate()
    assert gate.leaves_needed(weighted=True) <= 4
    assert gate.leaves_needed(weighted=False) >= 8


def test_what_is_at_stake(balancing):
    agent = linear.dqn()
    q = linear.OBS @ linear.W
    found = trees.lesson(agent, linear.OBS)
    np.testing.assert_allclose(found.weight, q.max(1) - q.min(1), atol=1e-4)
    np.testing.assert_array_equal(found.action, q.argmax(1))
    obs = np.float32([[0, 0, 0.05, 0], [0, 0, 0.001, 0]])
    gap = 15 * obs[:, 2]  # of the logits
    np.testing.assert_allclose(trees.lesson(balancing[0], obs).weight, gap, rtol=1e-3)


def test_mistakes(balancing):
    agent, env = balancing
    with pytest.raises(td.ConfigError, match="a tree has at least 2 leaves"):
        trees.distil(agent, env, 1)
    with pytest.raises(td.ConfigError, match="there are 4 features, and names has 1"):
        trees.distil(agent, env, names=("one",))
    with pytest.raises(td.IncompatibleError, match="a tree knows no mask"):
        trees.check(linear.ppo(masked=True))
    with pytest.raises(td.IncompatibleError, match="a tree chooses among actions by an array of numbers"):
        trees.check(linear.agent(td.BC(), linear.spec(Box(-1, 1, (2,), np.float32))))
    remembers = td.PPO(torso=td.Torso(widths=(4,)), core=td.GRU(width=4))
    with pytest.raises(td.IncompatibleError, match="this PPO remembers"):
        trees.check(linear.agent(remembers, linear.spec()))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_trees_of_trained_agents(seed, tmp_path):
    run = td.train("ppo", "CartPole-v1", 100_000, seed=seed, out=tmp_path / "run", progress=False)
    found = run.tree(15)
    assert found.leaves <= 15
    assert found.evaluation.mean >= 475
    assert found.fidelity > 0.7
