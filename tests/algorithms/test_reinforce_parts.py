"""REINFORCE's gradient against the exact one, by enumeration of all episodes, and what its baselines do to it."""

from __future__ import annotations

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.algorithms.policy import reinforce
from thorndike.algorithms.policy.reinforce import Mean, Steps
from thorndike.nets.actor_critic import Params
from thorndike.ops.returns import returns_to_go
from thorndike.types import Rollout, Timestep, Transition

H = 3  # steps of an episode; its observation is which step it is
SPEC = td.Spec(Discrete(H), Discrete(2), 1000, horizon=H)
PAY = np.array([[1.0, 3.0], [10.0, 8.0], [12.0, 14.0]])  # of each action at each step
EPISODES = np.array(list(itertools.product(range(2), repeat=H))).T  # [H, 2^H], every episode that there is
N = EPISODES.shape[1]
PLAIN = td.REINFORCE(
    torso=td.Torso(widths=(4,)), learning_rate=1e-2, num_envs=N, rollout_length=H, discount=1.0,
    normalize_observation=False, normalize_reward=False, value_coefficient=0.0,
)  # fmt: skip


def start(algorithm):
    """A policy that is no longer uniform."""
    state = algorithm.init(jax.random.key(0), SPEC)
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), state.params)
    return state._replace(params=params)


def policy(params: Params):
    """log π of every action at every step, [H, 2]."""
    return params(jnp.arange(H)[:, None], None, jnp.zeros((H, 1), bool), reinforce.Carry((), ()))[0].log_probs[:, 0]


def likelihood(params: Params):
    """The probability of every episode, [N]."""
    return jnp.exp(policy(params)[np.arange(H)[:, None], EPISODES].sum(0))


def exact(params: Params):
    """∇ Σ_τ p(τ) R(τ), by enumeration."""
    total = PAY[np.arange(H)[:, None], EPISODES].sum(0)
    return flat(jax.grad(lambda p: (likelihood(p) * total).sum())(params))


def flat(tree):
    return np.asarray(jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)]), np.float64)


def gradients(algorithm, b=0.0, value=None):
    """What the loss of each episode alone says of the gradient ∇J, [N, parameters], and p(τ)."""
    state = start(algorithm)
    if value is not None:  # a critic that says this in every state
        where = lambda p: (p.critic.head.weight, p.critic.head.bias)  # noqa: E731
        weight, bias = where(state.params)
        told = (0 * weight, jnp.full_like(bias, value))
        state = state._replace(params=eqx.tree_at(where, state.params, told))
    reward = jnp.asarray(PAY[np.arange(H)[:, None], EPISODES], jnp.float32)
    first, ended = (jnp.broadcast_to(jnp.arange(H)[:, None] == t, (H, N)) for t in (0, H - 1))
    returns, at = returns_to_go(reward, 0 * reward, ended, first, algorithm.discount)
    whole = at >= 0
    steps = Steps(jnp.broadcast_to(jnp.arange(H)[:, None], (H, N)), None, first, jnp.asarray(EPISODES), reward, ended)

    def one(i):
        mine = whole & (jnp.arange(N) == i)
        gradient = jax.grad(algorithm.loss, has_aux=True)(state.params, steps, returns, mine, jnp.float32(b))[0]
        return jax.tree.map(lambda g: -H * N * g, gradient)  # the loss is per step of a rollout

    tree = jax.vmap(one)(jnp.arange(N))
    rows = np.concatenate([np.asarray(x, np.float64).reshape(N, -1) for x in jax.tree.leaves(tree)], 1)
    return rows, np.asarray(likelihood(state.params), np.float64), exact(state.params)


BASELINES = {"none": (dataclasses.replace(PLAIN, baseline="none"), 0.0, None)}
BASELINES["mean"] = (dataclasses.replace(PLAIN, baseline="mean"), float(PAY.mean()) * 2, None)
BASELINES["learned"] = (PLAIN, 0.0, float(PAY.mean()) * 2)


def moments(name):
    rows, p, right = gradients(*BASELINES[name])
    mean = p @ rows
    return mean, float(p @ ((rows - mean) ** 2).sum(1)), right


@pytest.mark.parametrize("name", BASELINES)
def test_the_mean_of_the_gradient_is_exact(name):
    mean, _, right = moments(name)
    assert np.abs(right).max() > 0.1
    np.testing.assert_allclose(mean, right, atol=1e-3 * np.abs(right).max())


def test_baselines_make_the_variance_smaller():
    variances = {name: moments(name)[1] for name in BASELINES}
    assert variances["mean"] < 0.5 * variances["none"]
    assert variances["learned"] < 0.5 * variances["none"]


def test_a_value_of_each_state_makes_it_smaller_than_their_mean(monkeypatch):
    """V(s) in the place of one number: the last gap to the exact value function."""
    state = start(PLAIN)
    pay = (np.exp(np.asarray(policy(state.params))) * PAY).sum(1)
    exact_value = jnp.asarray(np.cumsum(pay[::-1])[::-1].copy(), jnp.float32)
    call = Params.__call__

    def knowing(self, obs, mask, first, carry):
        pi, value, carry = call(self, obs, mask, first, carry)
        return pi, exact_value[obs] + 0 * value, carry

    mean, with_mean, _ = moments("mean")
    monkeypatch.setattr(Params, "__call__", knowing)
    rows, p, right = gradients(PLAIN)
    np.testing.assert_allclose(p @ rows, mean, atol=1e-3 * np.abs(right).max())
    assert float(p @ ((rows - p @ rows) ** 2).sum(1)) < 0.7 * with_mean


def test_a_baseline_that_depends_on_the_action_is_noticed(monkeypatch):
    """Mutant: less the return itself, in the action's own place, shifts the mean."""
    algorithm = dataclasses.replace(PLAIN, baseline="mean")
    loss = td.REINFORCE.loss
    leaky = lambda self, params, steps, returns, whole, b: loss(  # noqa: E731
        self, params, steps, returns, whole, 5.0 * steps.action
    )
    monkeypatch.setattr(td.REINFORCE, "loss", leaky)
    rows, p, right = gradients(algorithm)
    assert np.abs(p @ rows - right).max() > 0.1 * np.abs(right).max()


def test_the_value_of_the_baseline_has_no_gradient_from_the_policy():
    """With no loss of its own the critic does not move."""
    state = start(PLAIN)
    rows, *_ = gradients(PLAIN)
    policy_size = flat(state.params.policy).size
    assert np.abs(rows[:, policy_size:]).max() == 0
    assert np.abs(rows[:, :policy_size]).max() > 0


def loop(reward, after, ended, first, discount):
    """Returns and ends by their definition."""
    length, n = reward.shape
    returns, at = np.zeros((length, n)), np.full((length, n), -1)
    for e in range(n):
        for t in range(length):
            total, k = 0.0, t
            while True:
                total += discount ** (k - t) * reward[k, e]
                if ended[k, e]:
                    total, at[t, e] = total + discount ** (k - t + 1) * after[k, e], k
                    break
                if k + 1 == length or first[k + 1, e]:
                    break
                k += 1
            returns[t, e] = total
    return returns, at


def test_returns_to_go_against_a_loop():
    """With episodes that end, begin without an end before, and go on beyond the last step."""
    rng = np.random.default_rng(0)
    reward, after = rng.normal(size=(2, 30, 5)).astype(np.float32)
    ended = rng.random((30, 5)) < 0.15
    first = np.roll(ended, 1, 0) | (rng.random((30, 5)) < 0.1)
    found = returns_to_go(*map(jnp.asarray, (reward, after, ended, first)), 0.9)
    expected = loop(reward, after, ended, first, 0.9)
    assert (expected[1] < 0).sum() > 20
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)


LONG, T, E = 40, 8, 3  # steps, of a rollout, environments
REAL = dataclasses.replace(
    PLAIN, num_envs=E, rollout_length=T, discount=0.9, normalize_reward=False, value_coefficient=0.5
)
WIDE = td.Spec(Box(-1, 1, (2,)), Discrete(2), 1000, horizon=20)


def stream():
    """Steps whose episodes have 1 to 19 steps, some of them cut, as rollouts; and the whole of it."""
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(LONG + 1, E, 2)).astype(np.float32)
    ended = np.zeros((LONG, E), bool)
    for e in range(E):
        for t in np.cumsum(rng.integers(1, 19, 20)):
            if t < LONG:
                ended[t, e] = True
    cut = ended & (rng.random((LONG, E)) < 0.5)
    first = np.concatenate([np.ones((1, E), bool), ended[:-1]])
    reward = rng.normal(size=(LONG, E)).astype(np.float32)
    action = rng.integers(0, 2, (LONG, E))
    steps = Transition(obs[:-1], first, action, {}, reward, ended & ~cut, cut, obs[1:] + 1, {})
    return jax.tree.map(jnp.asarray, steps)


def learned(monkeypatch, steps, algorithm=REAL):
    """What the loss was handed for each rollout: steps, returns and which of them are learned from."""
    handed = []
    loss = td.REINFORCE.loss

    def told(self, params, steps, returns, whole, b):
        handed.append((steps, returns, whole))
        return loss(self, params, steps, returns, whole, b)

    monkeypatch.setattr(td.REINFORCE, "loss", told)
    frozen = dataclasses.replace(algorithm, learning_rate=0.0)
    state = frozen.init(jax.random.key(0), WIDE)
    now = Timestep(None, None, None, None, None, None, {})
    for i in range(0, LONG, T):
        chunk = jax.tree.map(lambda x, i=i: x[i : i + T], steps)
        state, _ = frozen.learn(state, Rollout(chunk, frozen.carry(None, E), now), jax.random.key(1))
    return state, handed


def check_every_step_once(monkeypatch, algorithm=REAL):
    """Each step of an episode that ended is learned from once, with the return of its own episode."""
    steps = stream()
    state, handed = learned(monkeypatch, steps, algorithm)
    value = state.params.ahead(steps.next_obs.reshape(-1, 2), algorithm.carry(None, LONG * E)).reshape(LONG, E)
    after = np.where(steps.truncated, value, 0.0)
    expected, at = loop(*map(np.asarray, (steps.reward, after, steps.ended, steps.first)), 0.9)
    seen = {}
    for kept, returns, whole in handed:
        for t, e in np.argwhere(np.asarray(whole)):
            key = float(kept.obs[t, e, 0])
            assert key not in seen
            seen[key] = float(returns[t, e])
    right = {float(steps.obs[t, e, 0]): expected[t, e] for t, e in np.argwhere(at >= 0)}
    assert len(right) > 60
    assert seen.keys() == right.keys()
    np.testing.assert_allclose([seen[k] for k in right], list(right.values()), atol=1e-4)


def test_every_step_is_learned_from_once_with_its_own_return(monkeypatch):
    check_every_step_once(monkeypatch)


@pytest.mark.parametrize("bug", ["episodes run into each other", "unfinished episodes are dropped", "returns reversed"])
def test_bugs_are_noticed(bug, monkeypatch):
    go = returns_to_go

    def wrong(reward, after, ended, first, discount):
        returns, at = go(reward, after, ended, first, discount)
        if bug == "episodes run into each other":
            return go(reward, after, ended & False, first & False, discount)[0], at
        if bug == "returns reversed":
            return returns[::-1], at
        return returns, jnp.where(jnp.arange(len(reward))[:, None] < len(reward) - T, -1, at)  # those begun before

    monkeypatch.setattr(reinforce, "returns_to_go", wrong)
    with pytest.raises(AssertionError):
        check_every_step_once(monkeypatch)


def test_without_an_end_nothing_moves():
    """Neither the parameters nor the optimiser: momentum alone is no reason for a step."""
    steps = stream()
    steps = steps._replace(terminated=steps.terminated & False, truncated=steps.truncated & False)
    chunk = jax.tree.map(lambda x: x[:T], steps)
    state = REAL.init(jax.random.key(0), WIDE)
    state = state._replace(optimiser=jax.tree.map(lambda x: x + jnp.ones_like(x), state.optimiser))
    now = Timestep(None, None, None, None, None, None, {})
    after, metrics = REAL.learn(state, Rollout(chunk, REAL.carry(None, E), now), jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, (state.params, state.optimiser), (after.params, after.optimiser))
    assert metrics["learned_steps"] == 0


def test_the_running_mean():
    """Against its definition, from the first value on."""
    mean, x = Mean(jnp.float32(0), jnp.float32(0)), np.random.default_rng(0).normal(5, 1, (6, 4)).astype(np.float32)
    weights, values = [], []
    for i, row in enumerate(x):
        where = np.arange(4) < i  # the first row has nothing to say
        mean = mean.update(jnp.asarray(row), jnp.asarray(where), 0.8)
        if i:
            weights, values = [0.8 * w for w in weights] + [0.2], [*values, row[:i].mean()]
            np.testing.assert_allclose(mean.value, np.average(values, weights=weights), rtol=1e-5)
        else:
            assert mean.value == 0


def test_refusals():
    with pytest.raises(td.ConfigError, match="horizon"):
        dataclasses.replace(PLAIN, horizon=0).check()
    assert "horizon=1000" in td.REINFORCE().supports(dataclasses.replace(SPEC, horizon=None))
    assert td.REINFORCE(horizon=5).supports(dataclasses.replace(SPEC, horizon=None)) is None


ARMS = np.array([0.0, 0.5, 1.0, -0.5], np.float32)  # mean rewards, less an offset of 10
RUNS, PLAYS = 500, 400


def best_arm(algorithm):
    """The probability of the best arm at the end of each run, [RUNS]."""
    spec = td.Spec(Box(1, 1, (1,)), Discrete(4), 1000, horizon=1)
    obs, no, yes = jnp.ones((1, 1, 1)), jnp.zeros((1, 1), bool), jnp.ones((1, 1), bool)
    now = Timestep(None, None, None, None, None, None, {})
    pi = lambda state: state.params(obs, None, yes, reinforce.Carry((), ()))[0]  # noqa: E731

    def play(state, key):
        akey, rkey = jax.random.split(key)
        action = pi(state).sample(akey)
        reward = 10 + jnp.asarray(ARMS)[action] + 0.1 * jax.random.normal(rkey, (1, 1))
        steps = Transition(obs, yes, action, {}, reward, yes, no, obs, {})
        return algorithm.learn(state, Rollout(steps, reinforce.Carry((), ()), now), key)[0], None

    def run(key):
        state = jax.lax.scan(play, algorithm.init(key, spec), jax.random.split(key, PLAYS))[0]
        return jnp.exp(pi(state).log_probs)[0, 0, ARMS.argmax()]

    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), RUNS)))


def test_a_bandit_whose_rewards_are_all_large():
    """With the running mean nearly every run finds the best of four arms; without a baseline many never do."""
    bandit = dataclasses.replace(
        REAL, baseline="mean", num_envs=1, rollout_length=1, torso=td.Torso(widths=()), optimiser=td.SGD(),
        learning_rate=0.1, max_grad_norm=1e9,
    )  # fmt: skip
    found = {name: (best_arm(dataclasses.replace(bandit, baseline=name)) > 0.9).mean() for name in ("mean", "none")}
    print(found)
    assert found["mean"] >= 0.95
    assert found["none"] <= 0.8
