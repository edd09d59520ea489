"""Auxiliary losses against their closed forms; their gradients reach the torso and nothing else of the agent."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from scipy.special import log_softmax
from scipy.stats import norm

import thorndike as td
from thorndike.algorithms.policy import ppo
from thorndike.algorithms.value import dqn
from thorndike.configuration import check
from thorndike.envs.mixed import Mixed
from thorndike.nets import auxiliary, taught
from thorndike.nets.actor_critic import Carry
from thorndike.nets.auxiliary import Told
from thorndike.nets.rssm import normed
from thorndike.ops.statistics import update_tree

B, D, F = 24, 5, 4
SPEC = td.Spec(Box(-np.inf, np.inf, (D,)), Discrete(3), 1000)
RNG = np.random.default_rng(0)
LOSSES = {
    "reward": td.RewardPrediction(weight=3.0), "self": td.SelfPrediction(weight=3.0),
    "inverse": td.InverseDynamics(weight=3.0), "reconstruction": td.Reconstruction(weight=3.0),
}  # fmt: skip


def told(rewards):
    obs, after = (jnp.asarray(RNG.normal(size=(B, D)), jnp.float32) for _ in range(2))
    return Told(obs, jnp.asarray(RNG.integers(0, 3, B)), jnp.asarray(rewards, jnp.float32), after)


MIXED = np.where(np.arange(B) < 5, np.resize([2.0, -0.5], B), 0.0)  # three of 2, two of -0.5, and zeros
WEIGHT = jnp.asarray(RNG.normal(size=(D, F)), jnp.float32)


def layers_of(loss):
    return loss.build(jax.random.key(1), F, SPEC)


def said_by_hand(layers, steps):
    """What the layers say of the features tanh(obs W) and the actions, in NumPy."""
    x = np.concatenate([np.tanh(np.asarray(steps.obs) @ np.asarray(WEIGHT)), np.eye(3)[np.asarray(steps.action)]], -1)
    return dense(np.maximum(dense(x, layers.hidden), 0), layers.last)


def torso(obs):
    return jnp.tanh(obs @ WEIGHT)


def check_reward(rewards):
    loss, steps = LOSSES["reward"], told(rewards)
    layers = layers_of(loss)
    surprise = -log_softmax(said_by_hand(layers, steps), -1)[np.arange(B), 1 + np.sign(rewards).astype(int)]
    kinds = [surprise[kind] for kind in (rewards == 0, rewards != 0) if kind.any()]
    expected = np.mean([kind.mean() for kind in kinds])  # as if both were drawn equally often
    got, metrics = loss.loss(layers, torso, steps)
    np.testing.assert_allclose(got, 3 * expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["auxiliary_loss"], expected, rtol=1e-5)


def check_self():
    loss, steps = LOSSES["self"], told(MIXED)
    layers = layers_of(loss)
    a, b = said_by_hand(layers, steps), np.tanh(np.asarray(steps.next_obs) @ np.asarray(WEIGHT))
    cosine = (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-6)
    np.testing.assert_allclose(loss.loss(layers, torso, steps)[0], 3 * (1 - cosine).mean(), rtol=1e-5)


@pytest.mark.parametrize("rewards", [MIXED, np.zeros(B), np.full(B, -7.0)], ids=["mixed", "nothing", "all"])
def test_reward_prediction(rewards):
    check_reward(rewards)


def test_self_prediction():
    check_self()
    for of, expected in ((jnp.eye(3), 0.0), (-jnp.eye(3), 2.0), (5 * jnp.eye(3), 0.0)):  # the same, opposite, longer
        steps = Told(jnp.eye(3), jnp.zeros(3, int), jnp.zeros(3), jnp.eye(3))
        got, _ = td.SelfPrediction().loss(lambda x, action, of=of: x @ of, lambda x: x, steps)
        np.testing.assert_allclose(got, expected, atol=1e-5)


def features_by_hand(obs):
    return np.tanh(np.asarray(obs) @ np.asarray(WEIGHT))


def dense(x, layer):
    return x @ np.asarray(layer.weight) + np.asarray(layer.bias)


def surprise_by_hand(layers, steps, weight):
    """-log p(a | φ(s), φ(s')), in NumPy."""
    both = np.concatenate([np.tanh(np.asarray(obs) @ weight) for obs in (steps.obs, steps.next_obs)], -1)
    logits = dense(np.maximum(dense(both, layers.hidden), 0), layers.head.linear)
    return -log_softmax(logits, -1)[np.arange(B), np.asarray(steps.action)].mean()


def check_inverse():
    """-log p(a | φ(s), φ(s')) of a softmax, in NumPy, with a head that is not indifferent."""
    loss, steps = LOSSES["inverse"], told(MIXED)
    layers = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), layers_of(loss))
    expected = surprise_by_hand(layers, steps, np.asarray(WEIGHT))
    got, metrics = loss.loss(layers, torso, steps)
    np.testing.assert_allclose(got, 3 * expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["auxiliary_loss"], expected, rtol=1e-5)


def test_inverse_dynamics():
    check_inverse()


def test_inverse_dynamics_of_numbers():
    """A Gaussian's density, in SciPy, of actions in network units."""
    spec = td.Spec(SPEC.observation, Box(-2, 2, (2,)), 1000)
    steps = told(MIXED)._replace(action=jnp.asarray(RNG.uniform(-1, 1, (B, 2)), jnp.float32))
    layers = td.InverseDynamics().build(jax.random.key(1), F, spec)
    both = np.concatenate([features_by_hand(steps.obs), features_by_hand(steps.next_obs)], -1)
    mean = dense(np.maximum(dense(both, layers.hidden), 0), layers.head.linear)
    expected = -norm.logpdf(np.asarray(steps.action), mean, np.exp(np.asarray(layers.head.log_std))).sum(-1).mean()
    np.testing.assert_allclose(td.InverseDynamics().loss(layers, torso, steps)[0], expected, rtol=1e-5)


def check_reconstruction():
    """The mean squared error of symlog numbers, by the layers in NumPy."""
    loss, steps = LOSSES["reconstruction"], told(MIXED)
    layers = layers_of(loss)
    x = features_by_hand(steps.obs)
    for layer in layers.vector.layers:
        x = np.asarray(jax.nn.silu(normed(jnp.asarray(dense(x, layer)))))
    obs = np.asarray(steps.obs)
    expected = ((dense(x, layers.vector.last) - np.sign(obs) * np.log1p(np.abs(obs))) ** 2).mean()
    got, metrics = loss.loss(layers, torso, steps)
    np.testing.assert_allclose(got, 3 * expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["auxiliary_loss"], expected, rtol=1e-5)


def test_reconstruction():
    check_reconstruction()


def test_reconstruction_of_pictures_and_numbers():
    """Pixels [8, 8, 2] of 0 to 255 are learned as [0, 1], in one mean with the numbers beside them."""
    space = Dict({"eye": Box(0, 255, (8, 8, 2), np.uint8), "arm": Box(-1, 1, (3,))})
    layers = td.Reconstruction(depth=4).build(jax.random.key(0), F, td.Spec(space, Discrete(3), 1000))
    obs = {"eye": jnp.asarray(RNG.integers(0, 256, (2, B, 8, 8, 2)), jnp.uint8), "arm": jnp.zeros((2, B, 3))}
    features = jnp.asarray(RNG.normal(size=(2, B, F)), jnp.float32)
    steps = Told(obs, None, None, None)
    picture, arm = layers.images[0](features), layers.vector(features)
    squares = [((np.asarray(picture) - np.asarray(obs["eye"]) / 255) ** 2).reshape(2, B, -1), np.asarray(arm) ** 2]
    expected = np.concatenate(squares, -1).mean()
    got, _ = td.Reconstruction().loss(layers, lambda seen: features, steps)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def mutated(name, change, monkeypatch):
    """A loss that sees other steps, or another torso, than it is given."""
    kind = type(LOSSES[name])
    right = kind.loss
    monkeypatch.setattr(kind, "loss", lambda self, layers, torso, steps: right(*change(self, layers, torso, steps)))


SEES = {
    "obs twice": lambda self, layers, torso, steps: (self, layers, torso, steps._replace(next_obs=steps.obs)),
    "next for obs": lambda self, layers, torso, steps: (self, layers, torso, steps._replace(obs=steps.next_obs)),
    "other action": lambda self, layers, torso, steps: (self, layers, torso, steps._replace(action=steps.action[::-1])),
    "no weight": lambda self, layers, torso, steps: (type(self)(), layers, torso, steps),
}
CHECKS = {"inverse": check_inverse, "reconstruction": check_reconstruction, "self": check_self}


@pytest.mark.parametrize(
    ("name", "mutant"),
    [(n, m) for n in CHECKS for m in SEES if n != "reconstruction" or m in ("next for obs", "no weight")],
)
def test_a_loss_of_other_steps_is_noticed(name, mutant, monkeypatch):
    mutated(name, SEES[mutant], monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[name]()


@pytest.mark.parametrize("mutant", ["no balance", "swapped kinds"])
def test_other_weights_are_noticed(mutant, monkeypatch):
    right = auxiliary.balance
    wrong = {"no balance": lambda rare: jnp.ones(rare.shape), "swapped kinds": lambda rare: right(~rare)[::-1]}
    monkeypatch.setattr(auxiliary, "balance", wrong[mutant])
    with pytest.raises(AssertionError):
        check_reward(MIXED)


def test_features_that_are_not_of_length_1_are_noticed(monkeypatch):
    monkeypatch.setattr(auxiliary, "unit", lambda x: x)
    with pytest.raises(AssertionError):
        check_self()


def check_target():
    """The gradient is that of the same loss where φ(s') are numbers that stand still."""
    loss, steps = LOSSES["self"], told(MIXED)
    layers = layers_of(loss)
    found = jax.grad(lambda w: loss.loss(layers, lambda x: jnp.tanh(x @ w), steps)[0])(WEIGHT)
    still = jnp.tanh(steps.next_obs @ WEIGHT)

    def value(w):
        return loss.loss(layers, lambda x: still if x is steps.next_obs else jnp.tanh(x @ w), steps)[0]

    np.testing.assert_allclose(found, jax.grad(value)(WEIGHT), rtol=1e-4, atol=1e-6)


def test_no_gradient_goes_to_the_features_at_the_next_step(monkeypatch):
    check_target()
    lax = SimpleNamespace(**{**vars(jax.lax), "stop_gradient": lambda x: x})
    monkeypatch.setattr(auxiliary, "jax", SimpleNamespace(**{**vars(jax), "lax": lax}))
    with pytest.raises(AssertionError):
        check_target()


PLAIN = {"optimiser": td.SGD(), "learning_rate": 1.0, "normalize_observation": False, "max_grad_norm": 1e9}
SMALL = td.Torso(widths=(6,))


def batch(shape):
    rng = np.random.default_rng(1)
    obs, after = (jnp.asarray(rng.normal(size=(*shape, D)), jnp.float32) for _ in range(2))
    no, reward = jnp.zeros(shape, bool), jnp.asarray(rng.integers(-1, 2, shape), jnp.float32)
    extras = {"log_prob": jnp.full(shape, -1.0)}
    return td.Transition(obs, no, jnp.asarray(rng.integers(0, 3, shape)), extras, reward, no, no, after, {})


def learned_dqn(loss):
    algorithm = td.DQN(torso=SMALL, auxiliary=loss, **PLAIN)
    state = algorithm.init(jax.random.key(0), SPEC)
    after = jax.jit(algorithm.update)(state, batch((16,)), jax.random.key(0))[0]
    return state.auxiliary, after.q.torso, after.q.head, after.auxiliary


def learned_ppo(loss):
    algorithm = td.PPO(
        torso=SMALL, shared_torso=True, auxiliary=loss, num_envs=4, rollout_length=8, minibatch_size=32, epochs=1,
        normalize_reward=False, **PLAIN,
    )  # fmt: skip
    state, steps = algorithm.init(jax.random.key(0), SPEC), batch((8, 4))
    no = jnp.zeros(4, bool)
    last = td.Timestep(steps.next_obs[-1], None, None, None, None, no, {})
    carry = algorithm.carry(algorithm.actor(state), 4)
    after = jax.jit(algorithm.learn)(state, td.Rollout(steps, carry, last), jax.random.key(0))[0]
    heads = (after.params.policy.head, after.params.critic.head)
    return state.auxiliary, after.params.policy.torso, heads, after.auxiliary


def apart(a, b):
    return max(np.abs(np.subtract(x, y)).max() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def check_reach(learned, loss):
    """One step of gradient descent with the loss and without: the torso moves, the heads are the same."""
    before, torso, heads, layers = learned(loss)
    _, plain_torso, plain_heads, nothing = learned(None)
    assert nothing == ()
    assert apart(torso, plain_torso) > 1e-3
    assert apart(heads, plain_heads) < 1e-6
    assert apart(layers, before) > 1e-3


@pytest.mark.parametrize("learned", [learned_dqn, learned_ppo])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_reach_the_torso_and_not_the_heads(learned, loss):
    check_reach(learned, LOSSES[loss])


@pytest.mark.parametrize("name", ["reward", "inverse"])
def test_a_torso_that_is_not_reached_is_noticed(name, monkeypatch):
    blind = lambda self, layers, torso, steps: (self, layers, lambda x: jax.lax.stop_gradient(torso(x)), steps)  # noqa: E731
    mutated(name, blind, monkeypatch)
    with pytest.raises(AssertionError):
        check_reach(learned_dqn, LOSSES[name])


def check_both_features():
    """The inverse model's gradient by finite differences: it goes to the features at s and to those at s'."""
    loss, steps = LOSSES["inverse"], told(MIXED)
    layers = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), layers_of(loss))
    gradient = jax.grad(lambda w: loss.loss(layers, lambda x: jnp.tanh(x @ w), steps)[0])(WEIGHT)
    along, weight = RNG.normal(size=(D, F)), np.asarray(WEIGHT, np.float64)
    ahead, behind = (surprise_by_hand(layers, steps, weight + h * along) for h in (1e-5, -1e-5))
    np.testing.assert_allclose((np.asarray(gradient) * along).sum(), 3 * (ahead - behind) / 2e-5, rtol=1e-2, atol=1e-4)


def test_the_gradient_goes_to_both_features(monkeypatch):
    check_both_features()
    right = auxiliary.Between.__call__
    stopped = lambda self, here, there: right(self, here, jax.lax.stop_gradient(there))  # noqa: E731
    monkeypatch.setattr(auxiliary.Between, "__call__", stopped)
    with pytest.raises(AssertionError):
        check_both_features()


@td.config
class Own:
    """The mean feature is the reward."""

    weight: float = 1.0

    def build(self, key, features, spec):
        return {"scale": jnp.ones(features)}

    def loss(self, layers, torso, steps):
        error = (((layers["scale"] * torso(steps.obs)).mean(-1) - steps.reward) ** 2).mean()
        return self.weight * error, {"own": error}


def check_several():
    pair, steps = (Own(weight=2.0), LOSSES["self"]), told(MIXED)
    layers = taught.layers(pair, jax.random.key(0), SimpleNamespace(features=F), SPEC)
    total, metrics = taught.losses(pair, layers, torso, steps)
    own = ((features_by_hand(steps.obs).mean(-1) - np.asarray(steps.reward)) ** 2).mean()
    other = LOSSES["self"].loss(layers[1], torso, steps)[0]
    np.testing.assert_allclose(total, 2 * own + other, rtol=1e-5)
    np.testing.assert_allclose(metrics["own_0"], own, rtol=1e-5)
    np.testing.assert_allclose(3 * metrics["auxiliary_loss_1"], other, rtol=1e-5)


def test_several_losses_are_a_sum(monkeypatch):
    check_several()
    right = taught.answered
    first = lambda one, *rest: right(one, *rest) if isinstance(one, Own) else (0.0, right(one, *rest)[1])  # noqa: E731
    monkeypatch.setattr(taught, "answered", first)
    with pytest.raises(AssertionError):
        check_several()


@pytest.mark.parametrize("learned", [learned_dqn, learned_ppo])
def test_losses_of_ones_own_reach_the_torso(learned):
    check_reach(learned, (Own(weight=3.0), LOSSES["inverse"]))
    with pytest.raises(AssertionError):
        check_reach(learned, (Own(weight=0.0),))


@td.config
class Telling:
    """Nothing but the sums of what it is told, by which steps can be told apart."""

    def build(self, key, features, spec):
        return jnp.zeros(1)

    def loss(self, layers, torso, steps):
        named = {f"sum of {name}": (x * jnp.arange(1, x.shape[-1] + 1)).sum() for name, x in steps._asdict().items()}
        return 0.0 * layers.sum(), named


def check_told_dqn():
    """The transitions of the batch, normalised by the statistics that have seen it."""
    algorithm = td.DQN(torso=SMALL, auxiliary=Telling(), learning_rate=1e-3)
    after, metrics = algorithm.update(algorithm.init(jax.random.key(0), SPEC), batch((16,)), jax.random.key(0))
    check_told(metrics, after.statistics, batch((16,)))


def check_told_ppo():
    """The steps of the rollout, normalised by the statistics that have acted."""
    few = {"num_envs": 4, "rollout_length": 8, "minibatch_size": 32, "epochs": 1}
    algorithm = td.PPO(torso=SMALL, shared_torso=True, auxiliary=Telling(), **few)
    state, steps, no = algorithm.init(jax.random.key(0), SPEC), batch((8, 4)), jnp.zeros(4, bool)
    state = state._replace(statistics=update_tree(state.statistics, 3.0 * steps.next_obs + 2.0))
    last = td.Timestep(steps.next_obs[-1], None, None, None, None, no, {})
    carry = algorithm.carry(algorithm.actor(state), 4)
    _, metrics = jax.jit(algorithm.learn)(state, td.Rollout(steps, carry, last), jax.random.key(0))
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (steps.obs, steps.next_obs))
    check_told(metrics, state.statistics, steps._replace(obs=rows[0], next_obs=rows[1]), ("obs", "next_obs"))


def check_told(metrics, statistics, steps, names=("obs", "next_obs", "action", "reward")):
    mean, std = np.asarray(statistics.mean), np.asarray(statistics.std)
    for name in names:
        x = np.asarray(getattr(steps, name))
        x = (x - mean) / std if name.endswith("obs") else x
        due = (x * np.arange(1, x.shape[-1] + 1)).sum()
        np.testing.assert_allclose(metrics[f"sum of {name}"], due, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("check_it", [check_told_dqn, check_told_ppo])
def test_what_a_loss_is_told(check_it, monkeypatch):
    """Observations at s and at s', as the torso sees them; mutants: those at s twice, and s' as it came."""
    check_it()
    module = dqn if check_it is check_told_dqn else ppo
    for wrong in (lambda *x: Told(*x[:3], x[0]), lambda *x: Told(*x[:3], 2.0 * x[3])):
        monkeypatch.setattr(module, "Told", wrong)
        with pytest.raises(AssertionError):
            check_it()


@td.config
class Renaming(Telling):
    """It tells numbers by names that the algorithms have."""

    def loss(self, layers, torso, steps):
        return 0.0 * layers.sum(), dict.fromkeys(("td_error", "entropy", "own"), jnp.float32(7))


def test_the_algorithms_metrics_keep_their_names():
    """Priorities are made of them."""
    algorithm = td.DQN(torso=SMALL, auxiliary=Renaming(), learning_rate=1e-3)
    _, metrics = algorithm.update(algorithm.init(jax.random.key(0), SPEC), batch((16,)), jax.random.key(0))
    assert metrics["td_error"].size == 16
    assert metrics["own"] == 7
    algorithm = td.PPO(torso=SMALL, shared_torso=True, auxiliary=Renaming())
    params, carry, steps = algorithm.init(jax.random.key(0), SPEC).params, Carry((), ()), batch((1, 16))
    zero = jnp.zeros((1, 16))
    rows = Told(steps.obs, steps.action, steps.reward, steps.next_obs)
    data = ppo.Minibatch(steps.obs, None, steps.first, steps.action, zero, zero, zero, zero, carry, (rows,))
    _, metrics = algorithm.loss(params, data, jnp.zeros(1), taught.taught(Renaming(), rows))
    assert metrics["entropy"] < np.log(3) + 1e-5
    assert metrics["own"] == 7


def test_the_guide_says_how_to_write_ones_own(tmp_path):
    """Its example learns, is saved with the run, and is opened with its class."""
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "steps.obs" in b)
    scope = {"td": td}
    exec(block, scope)
    few = {"num_envs": 2, "rollout_length": 8, "minibatch_size": 16, "epochs": 1, "torso": SMALL}
    learner = dataclasses.replace(scope["learner"], **few)
    run = td.train(learner, "CartPole-v1", steps=32, out=tmp_path / "run", progress=False)
    metrics = run.metrics()
    assert np.isfinite(metrics["train/position_error_0"]).all()
    assert np.isfinite(metrics["train/auxiliary_loss_1"]).all()
    file = run.agent().save(tmp_path / "agent.td")
    assert td.load(file, classes=[scope["Position"]]).algorithm.auxiliary == learner.auxiliary
    with pytest.raises(td.CheckpointError, match="Position is a class of your own"):
        td.load(file)


def test_with_memory_it_is_the_torso_below_that_learns():
    """A GRU behind the torso: PPO's loss is that of the torso's own features, and its layers have their width."""
    algorithm = td.PPO(
        torso=SMALL, core=td.GRU(width=9), shared_torso=True, auxiliary=td.SelfPrediction(), num_envs=4,
        rollout_length=8, minibatch_size=32, epochs=1,
    )  # fmt: skip
    state = algorithm.init(jax.random.key(0), SPEC)
    assert state.auxiliary.last.weight.shape == (6, 6)
    steps = batch((8, 4))
    carry = algorithm.carry(algorithm.actor(state), 4)
    last = td.Timestep(steps.next_obs[-1], None, None, None, None, jnp.zeros(4, bool), {})
    _, metrics = jax.jit(algorithm.learn)(state, td.Rollout(steps, carry, last), jax.random.key(0))
    told = Told(steps.obs, steps.action, steps.reward, steps.next_obs)
    expected, _ = td.SelfPrediction().loss(state.auxiliary, state.params.policy.torso.torso, told)
    np.testing.assert_allclose(metrics["auxiliary_loss"], expected, rtol=1e-4)


def test_what_does_not_fit_is_said():
    with pytest.raises(td.ConfigError, match=r"n_step 1"):
        check(td.DQN(auxiliary=td.RewardPrediction(), replay=td.Uniform(n_step=3)))
    with pytest.raises(td.ConfigError, match="shared_torso=True"):
        check(td.PPO(auxiliary=td.SelfPrediction()))
    space = Mixed(Dict({"a": Discrete(2), "b": Box(-1, 1, (1,))}))
    told = td.PPO(shared_torso=True, auxiliary=td.SelfPrediction()).supports(td.Spec(SPEC.observation, space, 1000))
    assert "read actions of" in told
    assert td.PPO(shared_torso=True, auxiliary=td.InverseDynamics()).supports(td.Spec(SPEC.observation, space)) is None


@td.config
class Unfinished:
    """No loss."""

    def build(self, key, features, spec):
        return ()


@td.config
class Unsummed(Own):
    """A loss for each row, or no metrics."""

    metrics: bool = True

    def loss(self, layers, torso, steps):
        error = torso(steps.obs).sum(-1)
        return (error, {}) if self.metrics else error.mean()


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (Unfinished(), r"DQN.auxiliary takes losses with build and loss: Unfinished has no method loss\(layers, torso"),
        ((td.SelfPrediction(), td.Adam()), r"Adam has no method loss"),
        (td.SelfPrediction, r"write SelfPrediction\(\) and not SelfPrediction"),
        ((), "DQN.auxiliary is empty"),
        (lambda layers, torso, steps: 0.0, "DQN.auxiliary should be RewardPrediction or"),
        (td.Reconstruction(depth=0), "Reconstruction.layers and depth must be positive"),
    ],
)
def test_what_is_no_loss_is_said(losses, said):
    with pytest.raises(td.ConfigError, match=said):
        check(td.DQN(auxiliary=losses))


@pytest.mark.parametrize(("metrics", "said"), [(True, "a loss of shape"), (False, "something else")])
def test_what_a_loss_returns_is_looked_at(metrics, said):
    with pytest.raises(td.ConfigError, match=f"Unsummed.loss has to return a scalar and a dict .* it returned {said}"):
        learned_dqn(Unsummed(metrics=metrics))
