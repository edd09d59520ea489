"""Distillation's steps against gradients worked out by hand, and what its teachers see and say."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from scipy.special import rel_entr, softmax

import thorndike as td
from thorndike.algorithms.transfer import distillation
from thorndike.errors import ConfigError, IncompatibleError
from thorndike.nets.frozen import Frozen
from thorndike.nets.policy import Actions
from thorndike.ops.distributions import Bernoulli, Categorical, MultiCategorical, Normal
from thorndike.ops.keys import random_key
from thorndike.ops.statistics import update_tree
from thorndike.runs.results.given import bound
from thorndike.types import Rollout, Spec, Transition

OBS, ACTIONS = Box(-np.inf, np.inf, (4,), np.float32), Discrete(3)
ALONE = Spec(OBS, ACTIONS, 100, "one")
BOTH = Spec(Dict(obs=OBS, task=Discrete(2)), ACTIONS, 100, "both")
# A student whose logits are linear in what it sees, one step of which is one of gradient descent on the whole rollout.
LINEAR = td.Distillation(
    learning_rate=1.0, epochs=1, num_envs=5, rollout_length=6, minibatch_size=30, max_grad_norm=1e9,
    normalize_observation=False, torso=td.Torso(widths=()), optimiser=td.SGD(), temperature=0.5,
)  # fmt: skip


def teacher(seed: int, algorithm=None, spec: Spec = ALONE) -> td.Agent:
    """An agent that is not indifferent; its observations are normalised by a mean of 3 and a deviation of 2."""
    algorithm = algorithm or td.PPO(torso=td.Torso(widths=(8,)))
    state = algorithm.init(random_key(seed), spec)
    actor = jax.tree.map(
        lambda x: x + 0.3 * jnp.sin(seed + jnp.arange(x.size)).reshape(x.shape), algorithm.actor(state)
    )
    if hasattr(actor, "statistics"):
        actor = actor._replace(statistics=shifted(actor.statistics))
    return td.Agent(algorithm, spec, actor)


def shifted(statistics):
    drawn = np.random.default_rng(0).normal(3, 2, (50, 20, 4)).astype(np.float32)
    return update_tree(jax.tree.map(jnp.zeros_like, statistics), jnp.asarray(drawn))


def rollout(spec: Spec, algorithm=LINEAR) -> Rollout:
    rng, shape = np.random.default_rng(1), (algorithm.rollout_length, algorithm.num_envs)
    obs = jnp.asarray(rng.normal(3, 2, (*shape, 4)), jnp.float32)
    if isinstance(spec.observation, Dict):
        obs = {"obs": obs, "task": jnp.asarray(rng.integers(0, 2, shape), jnp.int32)}
    no, zero = jnp.zeros(shape, bool), jnp.zeros(shape)
    steps = Transition(obs, no, jnp.zeros(shape, jnp.int32), {}, zero, no, no, obs, {})
    return Rollout(steps, (), ())


def probabilities(agent: td.Agent, obs) -> np.ndarray:
    """By the agent's own interface."""
    return np.asarray(agent.probabilities(np.asarray(obs).reshape(-1, 4)), np.float64)


def step_of(algorithm, agents, spec=ALONE) -> tuple[np.ndarray, np.ndarray, dict]:
    """How far one round of learning moves the biases of the logits; the student's probabilities before; metrics."""
    state, found = algorithm.init(random_key(3), spec), rollout(spec, algorithm)
    told = bound(algorithm, {"teacher": agents}, spec)
    after, metrics = told.learn(state, found, random_key(4))
    flat = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), found.steps.obs)
    student = np.asarray(jnp.exp(state.policy(flat).log_probs), np.float64)
    return np.asarray(after.policy.head.linear.bias - state.policy.head.linear.bias), student, metrics


def by_hand(direction: str, taught: np.ndarray, student: np.ndarray) -> np.ndarray:
    """Minus the mean gradient of the divergence with respect to the student's logits."""
    if direction == "forward":  # d KL(p_T || p) / dz = p - p_T
        return -(student - taught).mean(0)
    log = np.log(student / taught)  # d KL(p || p_T) / dz = p (log(p / p_T) - KL)
    return -(student * (log - (student * log).sum(1, keepdims=True))).mean(0)


def sharp(p: np.ndarray, temperature: float = 0.5) -> np.ndarray:
    return p ** (1 / temperature) / (p ** (1 / temperature)).sum(-1, keepdims=True)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_step_is_down_the_divergence(direction, monkeypatch):
    agent, algorithm = teacher(0), dataclasses.replace(LINEAR, direction=direction)
    taught = sharp(probabilities(agent, rollout(ALONE).steps.obs))
    moved, student, metrics = step_of(algorithm, (agent,))
    expected = by_hand(direction, taught, student)
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    kl = rel_entr(taught, student).sum(1).mean()
    assert metrics["kl"] == pytest.approx(kl, rel=1e-4)
    loss = kl if direction == "forward" else rel_entr(student, taught).sum(1).mean()
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)

    def mutant(name, value, of=distillation):
        with monkeypatch.context() as patch:
            patch.setattr(of, name, value)
            return np.abs(step_of(algorithm, (agent,))[0] - expected).max()

    straight, sharpened = td.Distillation.divergence, distillation.sharpened
    swapped = lambda self, teacher, student: straight(self, student, teacher)  # noqa: E731
    assert mutant("divergence", swapped, td.Distillation) > 0.01
    assert mutant("sharpened", lambda pi, temperature, lead: sharpened(pi, 1.0, lead)) > 0.01
    plain = lambda one, now: one.algorithm.look(  # noqa: E731  # without the teacher's normaliser
        one.actor._replace(statistics=()), one.algorithm.carry(one.actor, len(now.first)), now, False
    )[0]
    assert mutant("look", plain, Frozen) > 0.01


def test_each_task_has_its_teacher(monkeypatch):
    """One of them sees the whole observation, the other the part "obs"."""
    whole = teacher(5, td.PPO(torso=td.Torso(widths=(8,)), normalize_observation=False), BOTH)
    agents, found = (teacher(1), whole), rollout(BOTH).steps.obs
    task = np.asarray(found["task"]).ravel()
    obs = np.asarray(found["obs"]).reshape(-1, 4)
    each = probabilities(agents[0], obs), np.asarray(whole.probabilities({"obs": obs, "task": task}), np.float64)
    moved, student, _ = step_of(LINEAR, agents, BOTH)
    expected = by_hand("forward", sharp(np.where(task[:, None] == 0, *each)), student)
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    other = by_hand("forward", sharp(np.where(task[:, None] == 1, *each)), student)
    assert np.abs(other - expected).max() > 0.01
    target = distillation.target_of
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "target_of", lambda teachers, *rest: target(teachers[::-1], *rest))
        assert np.abs(step_of(LINEAR, agents, BOTH)[0] - expected).max() > 0.01
        patch.setattr(distillation, "target_of", lambda teachers, *rest: target(teachers[:1], *rest))
        assert np.abs(step_of(LINEAR, agents, BOTH)[0] - expected).max() > 0.01


def test_who_has_values_alone_teaches_by_their_softmax():
    agent = teacher(2, td.DQN(torso=td.Torso(widths=(8,)), learning_rate=1e-3))
    obs = np.asarray(rollout(ALONE).steps.obs).reshape(-1, 4)
    taught = softmax(np.asarray(agent.values(obs), np.float64) / 0.5, axis=1)
    moved, student, _ = step_of(LINEAR, (agent,))
    np.testing.assert_allclose(moved, by_hand("forward", taught, student), atol=1e-5)


def test_temperatures():
    """π^(1/τ), normalised, whatever the distribution: log-probabilities are divided by τ, up to a constant."""
    rng, tau = np.random.default_rng(0), 0.3

    def constant(pi, actions, lead=(6,)):
        found = distillation.sharpened(pi, tau, lead)
        off = np.array([found.log_prob(a) - pi.log_prob(a) / tau for a in actions])
        np.testing.assert_allclose(off, np.broadcast_to(off[:1], off.shape), atol=2e-4)
        return found

    logits = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)
    constant(Categorical(logits), [jnp.full(6, i) for i in range(3)])
    constant(MultiCategorical(logits[:, None]), [jnp.full((6, 1), i) for i in range(3)])
    constant(Bernoulli(logits), [jnp.full((6, 3), i) for i in range(2)])
    normal = constant(Normal(logits, jnp.full(3, 0.4)), [jnp.full((6, 3), x) for x in (-1.0, 0.2, 3.0)])
    np.testing.assert_allclose(normal.log_std, 0.4 + 0.5 * np.log(tau), rtol=1e-5)


def refused(agents, spec=ALONE, algorithm=LINEAR) -> str:
    with pytest.raises(IncompatibleError) as raised:
        bound(algorithm, {"teacher": agents}, spec)
    return str(raised.value)


def test_who_cannot_teach():
    assert "Discrete(2)" in refused((teacher(0), teacher(1)))
    assert "knows observations of" in refused(
        (teacher(0, spec=ALONE),), dataclasses.replace(ALONE, observation=ACTIONS)
    )
    assert "acts in Discrete(3)" in refused((teacher(0),), dataclasses.replace(ALONE, action=Discrete(2)))
    remembering = td.PPO(torso=td.Torso(widths=(8,)), core=td.GRU(width=4))
    assert "has a memory" in refused((teacher(0, remembering),))
    arm = Spec(OBS, Box(-1, 1, (2,), np.float32), 100, "arm")
    sac = td.SAC(torso=td.Torso(widths=(8,)))
    squashed = td.Agent(sac, arm, sac.actor(sac.init(random_key(0), arm)))
    assert "SAC has a TanhNormal" in refused((squashed,), arm)
    masked = dataclasses.replace(ALONE, masked=True)
    ppo = td.PPO(torso=td.Torso(widths=(8,)))
    legal = td.Agent(ppo, masked, ppo.actor(ppo.init(random_key(0), masked)))
    assert "legal actions" in refused((legal,))
    broken = td.Agent(ppo, ALONE, jax.tree.map(lambda x: x * jnp.nan, legal.actor))
    with pytest.raises(ConfigError, match="is not finite"):
        bound(LINEAR, {"teacher": (broken,)}, ALONE)


def check_units(algorithm):
    """Actions are in the environment's units, and the policy's in halves of the range: of Pendulum [-2, 2]."""
    env = td.Pendulum()
    actor = algorithm.actor(algorithm.init(random_key(0), Spec(env.observation_space, env.action_space, 100)))
    obs, no = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32), jnp.zeros(5, bool)
    now = td.Timestep(obs, jnp.zeros(5), no, no, obs, no, {})
    action, _, _ = algorithm.act(actor, (), now, random_key(1), False)
    network = actor.policy.torso(obs) @ np.asarray(actor.policy.head.linear.weight)
    np.testing.assert_allclose(action, 2.0 * network, rtol=1e-4, atol=1e-7)
    assert np.abs(np.asarray(action)).max() > 1e-4


def test_who_imitates_acts_in_the_environments_units(monkeypatch):
    both = td.BC(normalize_observation=False), td.Distillation(normalize_observation=False)
    for one in both:
        check_units(one)
    monkeypatch.setattr(Actions, "to_environment", lambda self, action: action)
    for one in both:
        with pytest.raises(AssertionError):
            check_units(one)
