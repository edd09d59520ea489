"""Heads that learn the distribution of returns, on a task whose distributions are known; and what bugs make of them.

Two states, one after the other, and a last reward of 1 or -1 with equal chances: with γ = 1/2 the return from the
second state is 1 or -1, and from the first 1/2 or -1/2. Both have a mean of 0.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.nets import value
from thorndike.ops import distributional
from thorndike.ops.losses import huber
from thorndike.ops.munchausen import Munchausen

SPEC = td.Spec(Box(0, 1, (2,), np.float32), Discrete(2), 1000)
B = 64


def learned(algorithm, updates, batch=None, spec=SPEC, seed=0):
    """The agent after so many updates, each on a batch that `batch(key)` draws; the step size falls to 0."""
    batch = batch or chain

    @jax.jit
    def run(key):
        ikey, ukey = jax.random.split(key)

        def step(state, now):
            left, key = now
            bkey, key = jax.random.split(key)
            present = dataclasses.replace(algorithm, learning_rate=left * algorithm.learning_rate)
            return present.update(state, batch(bkey), key)[0], None

        times = jnp.linspace(1.0, 0.0, updates), jax.random.split(ukey, updates)
        return jax.lax.scan(step, algorithm.init(ikey, spec), times)[0]

    return run(jax.random.key(seed))


def chain(key):
    """Transitions [B, ...] from both states, whatever the action."""
    skey, akey, rkey = jax.random.split(key, 3)
    second = jax.random.bernoulli(skey, 0.5, (B,))
    reward = jnp.where(second, jax.random.rademacher(rkey, (B,)), 0).astype(jnp.float32)
    obs, after = jax.nn.one_hot(second.astype(int), 2), jax.nn.one_hot(jnp.ones(B, int), 2)
    none = jnp.zeros(B, bool)
    return td.Transition(obs, none, jax.random.randint(akey, (B,), 0, 2), {}, reward, second, none, after, {})


def returns(algorithm, state):
    """Returns and their probabilities at both states, of action 0, [2, N] each."""
    obs, no = jnp.eye(2), jnp.zeros(2, bool)
    now = td.Timestep(obs, jnp.zeros(2), no, no, obs, no, {})
    look, _ = algorithm.look(algorithm.actor(state), (), now, False)
    return (np.asarray(x)[:, 0] for x in look.returns)


def simple(head, **more):
    """A learner of the two states: each has numbers of its own."""
    fields = {"learning_rate": 0.03, "target_period": 10, "torso": td.Torso(widths=()), "discount": 0.5, **more}
    return td.DQN(head=head, normalize_observation=False, **fields)


C51 = simple(td.Categorical(atoms=17, low=-2.0, high=2.0))


def check_categorical():
    for seed in range(2):
        atoms, mass = returns(C51, learned(C51, 800, seed=seed))
        for state, end in ((1, 1.0), (0, 0.5)):
            for side in (-end, end):
                assert mass[state][atoms[state] == side].sum() == pytest.approx(0.5, abs=0.06), (state, mass[state])


def test_c51_learns_the_distribution():
    check_categorical()


def floor_is_ceiling(values, probabilities, atoms):
    """Mass that falls on an atom is lost, as where both neighbours are weighed by their distance."""
    place = (jnp.clip(values, atoms[0], atoms[-1]) - atoms[0]) / (atoms[1] - atoms[0])
    low, high = jnp.floor(place), jnp.ceil(place)
    each = lambda at, p: (jax.nn.one_hot(at.astype(int), len(atoms)) * (probabilities * p)[..., None]).sum(-2)  # noqa: E731
    return each(low, high - place) + each(high, place - low)


def of_the_mean(values, probabilities, atoms):
    """The mean's place alone: a learner of expectations."""
    mean = (values * probabilities).sum(-1, keepdims=True)
    return distributional.project(mean, jnp.ones_like(mean), atoms)


def ignores_endings(values, reward, terminated, discount):
    return reward[..., None] + discount * values


@pytest.mark.parametrize(
    ("name", "wrong"), [("project", floor_is_ceiling), ("project", of_the_mean), ("_shifted", ignores_endings)]
)
def test_wrong_projections_are_noticed(name, wrong, monkeypatch):
    monkeypatch.setattr(value, name, wrong)
    with pytest.raises(AssertionError):
        check_categorical()


def huber_quantiles(fractions):
    """The minimum at κ = 1 where y = ±1: for τ < 1/2 the slopes τ and (1 - τ) (θ + 1) are equal there."""
    low = np.minimum(fractions, 1 - fractions)
    return np.sign(fractions - 0.5) * (1 - low / (1 - low))


def check_quantiles(kappa):
    algorithm = simple(td.Quantiles(n=10, kappa=kappa))
    fractions = (np.arange(10) + 0.5) / 10
    found, _ = returns(algorithm, learned(algorithm, 3000))
    if kappa == 1.0:
        np.testing.assert_allclose(found[1], huber_quantiles(fractions), atol=0.2)
    else:
        np.testing.assert_allclose(found[1], np.sign(fractions - 0.5), atol=0.15)
        np.testing.assert_allclose(found[0], 0.5 * np.sign(fractions - 0.5), atol=0.15)


@pytest.mark.parametrize("kappa", [0.02, 1.0])
def test_quantiles_are_those_of_the_return(kappa):
    check_quantiles(kappa)


RARE = 0.02  # the probability of a return of 0 in the place of 10


def rarely(key):
    """The end from the second state, with 10 and seldom with 0."""
    steps = chain(key)
    reward = jnp.where(jax.random.bernoulli(key, RARE, (B,)), 0.0, 10.0)
    return steps._replace(reward=reward, terminated=jnp.ones(B, bool), obs=jnp.broadcast_to(jnp.eye(2)[1], (B, 2)))


def test_what_is_rarer_than_a_quantile_needs_a_wide_kappa():
    """The lowest of ten quantiles is at 0.05. With κ = 1 their mean is above that of returns, 9.8; with κ = 10 the loss
    is nowhere linear, and they are expectiles (Newey & Powell 1987), τ (1 - p) (10 - e) = (1 - τ) p e."""
    means = {}
    for kappa in (1.0, 10.0):
        algorithm = simple(td.Quantiles(n=10, kappa=kappa))
        found, _ = returns(algorithm, learned(algorithm, 1500, rarely))
        means[kappa] = found[1].mean()
    fractions = (np.arange(10) + 0.5) / 10
    expectiles = 10 / (1 + (1 - fractions) * RARE / (fractions * (1 - RARE)))
    assert means[10.0] == pytest.approx(expectiles.mean(), abs=0.1)
    assert means[1.0] > 10 * (1 - RARE) + 0.05


def mirrored(quantiles, fractions, target, kappa):
    """τ in the place of 1 - τ."""
    return distributional.quantile_huber(quantiles, 1 - fractions, target, kappa)


def by_the_targets(quantiles, fractions, target, kappa):
    """Weights along the axis of y, not of θ."""
    error = target[..., None, :] - quantiles[..., :, None]
    return (jnp.abs(fractions - (error < 0)) * huber(error, kappa)).mean(-1).sum(-1)


@pytest.mark.parametrize("wrong", [mirrored, by_the_targets])
def test_wrong_quantile_losses_are_noticed(wrong, monkeypatch):
    monkeypatch.setattr(value, "quantile_huber", wrong)
    with pytest.raises(AssertionError):
        check_quantiles(1.0)


def check_implicit():
    algorithm = simple(
        td.Implicit(samples=8, acting=10, waves=16), torso=td.Torso(widths=(32,), activation="relu"),
        learning_rate=5e-3,
    )  # fmt: skip
    found, _ = returns(algorithm, learned(algorithm, 2000))
    fractions = (np.arange(10) + 0.5) / 10
    np.testing.assert_allclose(found[1], huber_quantiles(fractions), atol=0.25)


def test_implicit_quantiles_are_those_of_the_return():
    check_implicit()


@pytest.mark.slow
def test_implicit_quantiles_that_are_not_told_their_fractions_are_noticed(monkeypatch):
    others = lambda q, tau, *rest: distributional.quantile_huber(q, jnp.roll(tau, 3, -1), *rest)  # noqa: E731
    monkeypatch.setattr(value, "quantile_huber", others)
    with pytest.raises(AssertionError):
        check_implicit()


ARMS = 3


def bandit(key):
    """Every arm of three with rewards 1, 0 and -1, and the end."""
    action = jnp.arange(12) % ARMS
    none, obs = jnp.zeros(12, bool), jnp.ones((12, 1))
    return td.Transition(obs, none, action, {}, (1 - action).astype(jnp.float32), ~none, none, obs, {})


def check_munchausen():
    """Gaps between actions grow to (r_a - r_b) / (1 - α) = 2 (Vieillard et al. 2020, theorem 1)."""
    spec = td.Spec(Box(0, 1, (1,), np.float32), Discrete(ARMS), 1000)
    algorithm = simple(td.Mean(), munchausen=Munchausen(scale=0.5, temperature=0.5, low=-100.0), target_period=1)
    state = learned(algorithm, 1500, bandit, spec)
    q = state.q(jnp.ones((1, 1, 1)), jnp.zeros((1, 1), bool), ())[0][0, 0]
    np.testing.assert_allclose(q[:2] - q[1:], [2, 2], atol=0.05)


def test_munchausen_widens_gaps_between_actions():
    check_munchausen()


def forgets_the_temperature(self, values, mask):
    return jax.nn.log_softmax(values)


@pytest.mark.parametrize("name", ["no bonus", "no temperature"])
def test_wrong_bonuses_are_noticed(name, monkeypatch):
    if name == "no bonus":
        monkeypatch.setattr(Munchausen, "bonus", lambda self, values, *rest: 0.0 * values[..., 0])
    else:
        monkeypatch.setattr(Munchausen, "log_policy", forgets_the_temperature)
    with pytest.raises(AssertionError):
        check_munchausen()
