"""A2C against PPO with one pass over one minibatch, which is the same gradient (Huang et al. 2022)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms.policy import a2c
from thorndike.nets.actor_critic import Params
from thorndike.ops.statistics import normalise_tree, update_tree
from thorndike.types import Rollout, Timestep, Transition

T, E = 6, 4
SHARED = {
    "torso": td.Torso(widths=(8,)), "num_envs": E, "rollout_length": T, "learning_rate": 1e-2, "discount": 0.9,
    "entropy_coefficient": 0.3, "value_coefficient": 0.7, "optimiser": td.RMSProp(), "max_grad_norm": 0.05,
}  # fmt: skip
SPECS = {
    name: td.Spec(env.observation_space, env.action_space, 1000)
    for name, env in (("CartPole", td.CartPole()), ("Pendulum", td.Pendulum()))
}


def rollout(algorithm, state, spec, seed=0):
    """Random experience with terminations, truncations and successors of its own, and the densities of its actions."""
    rng = np.random.default_rng(seed)
    obs, after = (jnp.asarray(rng.normal(size=(T, E, *spec.observation.shape)), jnp.float32) for _ in range(2))
    discrete = spec.action.shape == ()
    action = jnp.asarray(rng.integers(0, 2, (T, E)) if discrete else rng.normal(size=(T, E, 1)).astype(np.float32))
    over = rng.random((T, E))
    terminated, truncated = jnp.asarray(over < 0.2), jnp.asarray(over > 0.8)
    first = jnp.concatenate([jnp.ones((1, E), bool), (terminated | truncated)[:-1]])
    reward = jnp.asarray(rng.normal(1, 2, (T, E)), jnp.float32)
    carry = algorithm.carry(None, E)
    pi = state.params(normalise_tree(state.statistics, obs), None, first, carry)[0]
    extras = {"log_prob": pi.log_prob(state.params.policy.head.actions.from_environment(action))}
    last = Timestep(after[-1], reward[-1], terminated[-1], truncated[-1], after[-1], first[-1], {})
    following = jnp.where((terminated | truncated)[:-1, :, None], after[:-1], obs[1:])
    steps = Transition(
        obs, first, action, extras, reward, terminated, truncated, jnp.concatenate([following, after[-1:]]), {}
    )
    return Rollout(steps, carry, last)


def distance(name, core=None, trace=1.0, normalised=False):
    """How far the parameters of both are apart after three rollouts, and how far they went."""
    spec, shared = SPECS[name], {**SHARED, "core": core, "trace": trace, "normalize_advantage": normalised}
    ours = td.A2C(**shared)
    theirs = td.PPO(**shared, epochs=1, minibatch_size=T * E, clip=1e9)
    begun = ours.init(jax.random.key(0), spec)
    found = []
    for algorithm in (ours, theirs):
        state = algorithm.init(jax.random.key(0), spec)
        for seed in range(3):
            data = rollout(algorithm, state, spec, seed)
            state, _ = jax.jit(algorithm.learn)(state, data, jax.random.key(seed))
        found.append(state)
    apart = lambda a, b: max(float(jnp.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))  # noqa: E731
    return apart(found[0].params, found[1].params), apart(found[0].params, begun.params)


CASES = {
    "discrete": ("CartPole",),
    "continuous": ("Pendulum",),
    "memory": ("CartPole", td.GRU(width=4)),
    "traces, normalised": ("CartPole", None, 0.8, True),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_ppo_with_one_pass_over_one_minibatch(case):
    apart, moved = distance(*CASES[case])
    assert apart < 2e-6
    assert moved > 1e-3


@pytest.mark.parametrize("bug", ["the target moves", "the entropy's sign", "bootstrap through an end"])
def test_bugs_are_noticed(bug, monkeypatch):
    if bug == "the target moves":

        def loss(self, params, rollout, obs, advantage, target):
            moving = params(obs, None, rollout.steps.first, rollout.carry)[1]
            return LOSS(self, params, rollout, obs, advantage, target - jax.lax.stop_gradient(moving) + moving)

        monkeypatch.setattr(td.A2C, "loss", loss)
    elif bug == "the entropy's sign":
        loss = lambda self, *args: LOSS(  # noqa: E731
            dataclasses.replace(self, entropy_coefficient=-self.entropy_coefficient), *args
        )
        monkeypatch.setattr(td.A2C, "loss", loss)
    else:
        gae = a2c.gae
        monkeypatch.setattr(a2c, "gae", lambda r, v, n, t, e, d, k: gae(r, v, n, t & False, e, d, k))
    assert distance("CartPole")[0] > 1e-4


LOSS = td.A2C.loss


def test_advantages_are_n_step_returns():
    """With a trace of 1: Σ γⁱ r + γᵏ V up to the end of the rollout or of the episode, by a loop."""
    algorithm = td.A2C(**SHARED, normalize_observation=False, normalize_reward=False)
    state = algorithm.init(jax.random.key(0), SPECS["CartPole"])
    data, handed = rollout(algorithm, state, SPECS["CartPole"]), []

    def loss(self, params, rollout, obs, advantage, target):
        handed.append((advantage, target))
        return LOSS(self, params, rollout, obs, advantage, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(td.A2C, "loss", loss)
        algorithm.learn(state, data, jax.random.key(0))
    value = lambda x: float(state.params.ahead(x[None], algorithm.carry(None, 1))[0])  # noqa: E731
    steps, (advantage, target) = data.steps, handed[0]
    for e in range(E):
        for t in range(T):
            total, k = 0.0, t
            while True:
                total += 0.9 ** (k - t) * float(steps.reward[k, e])
                if steps.terminated[k, e]:
                    break
                if steps.truncated[k, e] or k == T - 1:
                    total += 0.9 ** (k - t + 1) * value(steps.next_obs[k, e])
                    break
                k += 1
            np.testing.assert_allclose(target[t, e], total, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(advantage[t, e], total - value(steps.obs[t, e]), rtol=1e-3, atol=1e-3)


def test_gradient_and_apply_are_learn():
    algorithm = td.A2C(**SHARED)
    state = algorithm.init(jax.random.key(0), SPECS["CartPole"])
    data = rollout(algorithm, state, SPECS["CartPole"])
    gradient, later, metrics = algorithm.gradient(state, data)
    assert isinstance(gradient, Params)
    applied, norms = algorithm.apply(later, gradient)
    whole, told = algorithm.learn(state, data, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, applied, whole)
    assert told.keys() == {*metrics, *norms}


def test_refusals():
    with pytest.raises(td.ConfigError, match="normalize_advantage to False"):
        td.A2C(num_envs=1, rollout_length=1, normalize_advantage=True).check()
    with pytest.raises(td.ConfigError, match="rollout_length must be above 1"):
        td.A2C(rollout_length=1, core=td.GRU()).check()


def late(state, then, data):
    return td.A3C(**SHARED).learn_late(state, then, data, jax.random.key(0))[0]


def test_a_gradient_that_is_not_late_is_a2cs():
    algorithm = td.A3C(**SHARED)
    state = algorithm.init(jax.random.key(0), SPECS["CartPole"])
    data = rollout(algorithm, state, SPECS["CartPole"])
    jax.tree.map(np.testing.assert_array_equal, late(state, state, data), algorithm.learn(state, data, None)[0])


def test_a_late_gradient_is_that_of_the_parameters_that_acted():
    """It is applied to the newest, whose optimiser and statistics go on; at the newest it would be another."""
    algorithm, spec = td.A3C(**SHARED), SPECS["CartPole"]
    then = algorithm.init(jax.random.key(0), spec)
    now, _ = algorithm.learn(then, rollout(algorithm, then, spec, 1), jax.random.key(0))
    data = rollout(algorithm, then, spec, 2)
    found = late(now, then, data)
    gradient = algorithm.gradient(now._replace(params=then.params, statistics=then.statistics), data)[0]
    expected = algorithm.apply(now, gradient)[0]
    jax.tree.map(np.testing.assert_array_equal, (found.params, found.optimiser), (expected.params, expected.optimiser))
    jax.tree.map(np.testing.assert_array_equal, found.statistics, update_tree(now.statistics, data.steps.obs))
    at_the_newest = algorithm.apply(now, algorithm.gradient(now, data)[0])[0]
    both = zip(*map(jax.tree.leaves, (found.params, at_the_newest.params)))
    assert max(float(jnp.abs(a - b).max()) for a, b in both) > 1e-4
