"""State-dependent exploration in PPO: what acts is drawn from the distribution that learning sees."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import thorndike as td
from thorndike.configuration import check
from thorndike.drivers.scan import rollout
from thorndike.envs.batched import Batched
from thorndike.nets import policy as policies
from thorndike.types import Timestep

ENV = td.Pendulum()
SPEC = td.Spec(ENV.observation_space, ENV.action_space, 1000)
FEW = {"torso": td.Torso(widths=(8,)), "num_envs": 4, "rollout_length": 16, "minibatch_size": 64, "epochs": 1}
ALGORITHM = td.PPO(**FEW, exploration=td.StateDependent(every=4, log_std=-0.7), normalize_observation=False)
ACTOR = ALGORITHM.actor(ALGORITHM.init(jax.random.key(0), SPEC))
STATES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
MANY = 20_000


def acted(obs, carry, key, first=False, algorithm=ALGORITHM):
    """Actions in network units [E], their log-probabilities, and the carry."""
    n = len(obs)
    no = jnp.zeros(n, bool)
    now = Timestep(jnp.asarray(obs), jnp.zeros(n), no, no, jnp.asarray(obs), no | first, {})
    action, carry, extras = algorithm.act(ACTOR, carry, now, jax.random.key(key), True)
    return np.asarray(action)[:, 0] / 2.0, np.asarray(extras["log_prob"]), carry


def check_variance(row):
    """a ~ N(μ(s), Σ_i φ_i(s)² σ_i²), over many draws of ε, and log π is the log of that density."""
    a, log_prob, _ = acted(np.repeat(STATES[row : row + 1], MANY, 0), ALGORITHM.carry(ACTOR, MANY), 0)
    features, linear = np.asarray(ACTOR.policy.torso(STATES[row])), ACTOR.policy.head.linear
    mean = (features @ np.asarray(linear.weight) + np.asarray(linear.bias)).item()
    due = scipy.stats.norm(mean, np.sqrt((features**2 * np.exp(2 * -0.7)).sum()))
    assert scipy.stats.kstest(a, due.cdf).pvalue > 1e-3
    np.testing.assert_allclose(log_prob, due.logpdf(a), atol=1e-3)


@pytest.mark.parametrize("row", range(3))
def test_the_variance_is_the_closed_form(row):
    check_variance(row)


WRONG = {
    "deviations are summed": lambda x, log_std: jnp.log(jnp.abs(x) @ jnp.exp(log_std)),
    "features are not looked at": lambda x, log_std: 0.5 * jnp.log(jnp.ones_like(x) @ jnp.exp(2 * log_std)),
}


@pytest.mark.parametrize("mutant", WRONG)
def test_another_density_is_noticed(mutant, monkeypatch):
    monkeypatch.setattr(policies, "spread", WRONG[mutant])
    with pytest.raises(AssertionError):
        check_variance(0)


def test_noise_that_is_not_scaled_is_noticed(monkeypatch):
    bare = lambda self, features, noise: self.linear(features) + jnp.einsum("ef,efd->ed", features, noise)  # noqa: E731
    monkeypatch.setattr(policies.PolicyHead, "explored", bare)
    with pytest.raises(AssertionError):
        check_variance(0)


def check_draws():
    """The same state gives the same action for `every` steps, whatever the keys, and another after a draw."""
    carry, actions = ALGORITHM.carry(ACTOR, 5), []
    for t in range(9):
        a, _, carry = acted(STATES, carry, t, first=t == 0)
        actions.append(a)
    assert [np.array_equal(a, b) for a, b in itertools.pairwise(actions)] == [t % 4 != 3 for t in range(8)]
    a, _, _ = acted(STATES, carry, 9, first=jnp.arange(5) == 2)  # an episode begins in one of five
    assert (a == actions[-1]).tolist() == [True, True, False, True, True]


def test_between_two_draws_an_action_is_a_function_of_the_state(monkeypatch):
    check_draws()
    right = td.StateDependent.draw
    monkeypatch.setattr(
        td.StateDependent, "draw", lambda self, key, carry, first: right(self, key, carry, True | first)
    )
    with pytest.raises(AssertionError):
        check_draws()


@pytest.mark.parametrize("core", [None, td.GRU(width=6)])
def test_learning_sees_the_probabilities_that_acting_had(core):
    """Ratios are 1 in the first minibatch of a rollout that was played, with memory and without."""
    algorithm = td.PPO(**FEW, core=core, exploration=ALGORITHM.exploration)
    state, world = algorithm.init(jax.random.key(0), SPEC), Batched(ENV, 4)
    actor = algorithm.actor(state)
    now, carry = world.reset(jax.random.key(1)), algorithm.carry(actor, 4)
    played = rollout(algorithm, world, actor, carry, now, jax.random.key(2), "explore", 16)[0]
    after, metrics = jax.jit(algorithm.learn)(state, played, jax.random.key(3))
    assert abs(float(metrics["approx_kl"])) < 1e-6
    assert float(metrics["clip_fraction"]) == 0
    assert (after.params.policy.head.log_std != state.params.policy.head.log_std).any()


def reached():
    """The gradient of log π with respect to features, where the mean's layer is 0: what comes through the variance."""
    head = ACTOR.policy.head
    flat = jax.tree.map(jnp.zeros_like, head.linear)
    features = jnp.linspace(-1, 1, 8)

    def log_prob(features, log_std):
        log_std = policies.spread(features, log_std)
        return policies.distribution(head.actions, flat(features), log_std, None).log_prob(jnp.ones(1))

    return [float(jnp.abs(g).max()) for g in jax.grad(log_prob, (0, 1))(features, head.log_std)]


def test_the_variance_teaches_the_deviations_and_not_the_features():
    features, log_std = reached()
    assert features == 0
    assert log_std > 1e-3


def test_where_it_does_not_fit():
    told = ALGORITHM.supports(td.Spec(td.CartPole().observation_space, td.CartPole().action_space))
    assert "exploration is of Box actions" in told
    with pytest.raises(td.ConfigError, match="every"):
        check(td.PPO(exploration=td.StateDependent(every=0)))
