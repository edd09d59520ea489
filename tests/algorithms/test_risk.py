"""Actions by the worst returns, on a gamble: a safe arm with little to lose, and a risky one that pays more on average.

safe: 0.9 or 1.1, mean 1.0;   risky: -0.6 or 3.0, mean 1.2;   all with chances of 1/2, so CVaR_α for α <= 1/2 is 0.9 of
the safe arm and -0.6 of the risky one.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete

import thorndike as td
from thorndike.configuration import check
from thorndike.ops import distributional
from thorndike.ops.distributional import cvar

SAFE, RISKY, B = 0, 1, 64
SPEC = td.Spec(Discrete(2), Discrete(2), 1000)
PAYS = jnp.asarray([[0.9, 1.1], [-0.6, 3.0]])
RNG = np.random.default_rng(0)

FEW = {
    "learning_rate": 1e-2, "normalize_observation": False, "torso": td.Torso(widths=(32,), activation="relu"),
    "exploration": td.Epsilon(start=0.0, end=None),
}  # fmt: skip
AGENTS = {
    "c51": td.C51(**FEW, head=td.Categorical(low=-1.0, high=4.0, atoms=51)),
    "qr-dqn": td.QRDQN(**FEW, head=td.Quantiles(n=16, kappa=1e-3)),
    "iqn": td.IQN(**FEW, head=td.Implicit(samples=16, acting=16, waves=16, kappa=1e-3)),
}


def gamble(key):
    """Pulls of both arms [B], which end the episode."""
    akey, rkey = jax.random.split(key)
    action = jax.random.randint(akey, (B,), 0, 2)
    reward = PAYS[action, jax.random.randint(rkey, (B,), 0, 2)]
    place, no = jnp.zeros(B, int), jnp.zeros(B, bool)
    return td.Transition(place, no, action, {}, reward, ~no, no, place, {})


@pytest.fixture(scope="module")
def states():
    """What each agent has learned of the gamble, without a risk measure: there is nothing behind it."""

    def of(algorithm):
        @jax.jit
        def run(key):
            def step(state, key):
                bkey, ukey = jax.random.split(key)
                return algorithm.update(state, gamble(bkey), ukey)[0], None

            return jax.lax.scan(step, algorithm.init(key, SPEC), jax.random.split(key, 600))[0]

        return run(jax.random.key(0))

    return {name: of(algorithm) for name, algorithm in AGENTS.items()}


def chosen(name, state, risk, explore=False):
    """The arm that is pulled; what `look` says agrees with it."""
    algorithm = dataclasses.replace(AGENTS[name], risk=risk)
    actor, obs, no = algorithm.actor(state), jnp.zeros(1, int), jnp.zeros(1, bool)
    now = td.Timestep(obs, jnp.zeros(1), no, no, obs, no, {})
    arm = int(algorithm.act(actor, (), now, jax.random.key(0), explore)[0][0])
    seen = algorithm.look(actor, (), now, explore)[0]
    assert int(seen.pi.mode()[0]) == arm
    assert float(seen.value[0]) == float(seen.q[0, arm])  # Q of what is done, not the best Q
    np.testing.assert_allclose(seen.q[0], [1.0, 1.2], atol=0.15)
    return arm


def check_arms(states, name):
    for explore in (False, True):
        assert chosen(name, states[name], None, explore) == RISKY
        assert chosen(name, states[name], td.CVaR(level=1.0), explore) == RISKY
        assert chosen(name, states[name], td.CVaR(level=0.25), explore) == SAFE


@pytest.mark.parametrize("name", AGENTS)
def test_the_mean_takes_the_risky_arm_and_the_worst_returns_the_safe_one(name, states):
    check_arms(states, name)


MUTANTS = {  # `cvar` here is the right one
    "upper tail": lambda values, p, level: -cvar(-values, p, level),
    "mean of all": lambda values, p, level: (values * p).sum(-1),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_other_parts_of_the_distribution_take_the_risky_arm(mutant, states, monkeypatch):
    monkeypatch.setattr(distributional, "cvar", MUTANTS[mutant])
    for name in AGENTS:
        with pytest.raises(AssertionError):
            check_arms(states, name)


@pytest.mark.parametrize("level", [0.05, 0.25, 0.6, 1.0])
def test_cvar_is_the_best_of_rockafellar_and_uryasev(level):
    """max_v v - E[(v - Z)₊] / α (Rockafellar & Uryasev 2000), whose maximum is at one of the values."""
    z, p = RNG.normal(size=(30, 9)), RNG.dirichlet(np.full(9, 0.5), 30)
    bound = z - (p[:, None] * np.maximum(z[:, :, None] - z[:, None], 0)).sum(-1) / level
    np.testing.assert_allclose(cvar(jnp.float32(z), jnp.float32(p), level), bound.max(-1), rtol=1e-3, atol=1e-4)


def test_targets_follow_the_actions_that_are_chosen():
    """a' is what a cautious agent would do at s' (Dabney et al. 2018b, section 3.1): the target is of the safe arm."""
    steps = jax.tree.map(lambda x: x[:4], gamble(jax.random.key(0)))._replace(terminated=jnp.zeros(4, bool))
    after = jnp.broadcast_to(PAYS, (4, 2, 2))
    for risk, arm in ((None, RISKY), (td.CVaR(level=0.5), SAFE)):
        algorithm = td.QRDQN(head=td.Quantiles(n=2), risk=risk, discount=0.5)
        expected = np.asarray(steps.reward)[:, None] + 0.5 * np.asarray(PAYS[arm])
        np.testing.assert_allclose(algorithm.target(after, after, steps), expected, rtol=1e-5)


def test_a_mean_has_no_worst_part():
    with pytest.raises(td.ConfigError, match=r"give td\.Quantiles\(\)"):
        check(td.DQN(risk=td.CVaR()))
    with pytest.raises(td.ConfigError, match="level"):
        check(td.QRDQN(risk=td.CVaR(level=0.0)))
