"""V-trace against rlax, against returns without any correction, and against the value function that it is to find."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from thorndike.ops import vtrace as module
from thorndike.ops.returns import gae, td_target
from thorndike.ops.vtrace import vtrace

T, E = 12, 5


def experience(seed=0, ends=True):
    """A window with both kinds of endings inside, and ratios on both sides of 1."""
    rng = np.random.default_rng(seed)
    over = rng.random((T, E)) if ends else np.full((T, E), 0.5)
    terminated, truncated = over < 0.12, over > 0.88
    reward, value, after, log_ratio = rng.normal(size=(4, T, E)).astype(np.float32)
    ended = terminated | truncated
    after[:-1] = np.where(ended[:-1], after[:-1], value[1:])  # within an episode V(s') is the next step's V(s)
    after = np.where(terminated, np.float32(1e6), after)  # what must never be read
    return {
        "log_ratio": log_ratio, "reward": reward, "value": value, "next_value": after, "terminated": terminated,
        "ended": ended,
    }  # fmt: skip


def segments(ended):
    """The parts (environment, from, to) of a window that belong to one episode each."""
    for e in range(E):
        start = 0
        for t in range(T):
            if ended[t, e] or t == T - 1:
                yield e, start, t + 1
                start = t + 1


@pytest.mark.parametrize("rho", [0.7, 1.0, 3.0])
def test_each_episode_is_rlaxs(rho):
    """Its discount is 0 where the episode terminates; episodes are handed to it one by one."""
    x = experience()
    target, advantage = vtrace(**x, discount=0.9, rho=rho)
    parts = list(segments(x["ended"]))
    assert len(parts) > E + 5
    for e, a, b in parts:
        y = {name: jnp.asarray(value[a:b, e]) for name, value in x.items()}
        discount = jnp.where(y["terminated"], 0.0, 0.9)
        after = jnp.where(y["terminated"], 0.0, y["next_value"])
        expected = rlax.vtrace_td_error_and_advantage(
            y["value"], after, y["reward"], discount, jnp.exp(y["log_ratio"]),
            clip_rho_threshold=rho, clip_pg_rho_threshold=rho,
        )  # fmt: skip
        np.testing.assert_allclose(target[a:b, e], expected.errors + y["value"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(advantage[a:b, e], expected.pg_advantage, rtol=1e-4, atol=1e-4)


def test_on_policy_it_is_the_lambda_return():
    """With ratios of 1 targets are V + A of generalised advantages, and advantages those of n steps."""
    x = experience()
    x["log_ratio"] = np.zeros((T, E), np.float32)
    given = [x[name] for name in ("reward", "value", "next_value", "terminated", "ended")]
    for trace in (0.0, 0.7, 1.0):
        target, advantage = vtrace(**x, discount=0.9, trace=trace)
        np.testing.assert_allclose(target, x["value"] + gae(*given, 0.9, trace), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(advantage, gae(*given, 0.9, 1.0), rtol=1e-4, atol=1e-4)


# Two states, two actions; π and μ differ much. P[s, a, s'], R[s, a].
P = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]]])
R = np.array([[0.0, 1.0], [-1.0, 3.0]])
PI, MU = np.array([[0.2, 0.8], [0.1, 0.9]]), np.array([[0.7, 0.3], [0.5, 0.5]])
GAMMA, DRAWS, STEPS = 0.8, 60_000, 4


def value_of(policy):
    """V of a policy, by a linear solve."""
    matrix = np.einsum("sa,sat->st", policy, P)
    return np.linalg.solve(np.eye(2) - GAMMA * matrix, (policy * R).sum(1))


def limited(rho):
    """The policy whose values V-trace finds: π_ρ ∝ min(ρ μ, π) (Espeholt et al. 2018, equation 3)."""
    policy = np.minimum(rho * MU, PI)
    return policy / policy.sum(1, keepdims=True)


def gap(rho, function=vtrace):
    """At the exact values of π_ρ, how many standard errors the mean target of each first state is from them."""
    rng, exact = np.random.default_rng(0), value_of(limited(rho))
    state, rows = np.repeat([0, 1], DRAWS // 2), []
    for _ in range(STEPS):
        action = (rng.random(DRAWS) < MU[state, 1]).astype(int)
        after = (rng.random(DRAWS) < P[state, action, 1]).astype(int)
        ratio = np.log(PI[state, action] / MU[state, action])
        rows.append((ratio, R[state, action], exact[state], exact[after]))
        state = after
    columns = [jnp.asarray(np.stack(column), jnp.float32) for column in zip(*rows)]
    no = jnp.zeros((STEPS, DRAWS), bool)
    target = np.asarray(jax.jit(lambda *xs: function(*xs, no, no, GAMMA, 1.0, rho, 1.0)[0])(*columns))[0]
    halves = target.reshape(2, -1)
    return np.abs(halves.mean(1) - exact) / (halves.std(1) / np.sqrt(halves.shape[1]))


@pytest.mark.parametrize("rho", [0.5, 1.0, 100.0])
def test_the_values_of_the_limited_policy_are_its_fixed_point(rho):
    """Of μ's experience alone: from nearly μ's own values to those of π."""
    assert gap(rho).max() < 4
    assert np.abs(value_of(limited(100.0)) - value_of(PI)).max() < 1e-9
    assert np.abs(value_of(limited(0.5)) - value_of(PI)).max() > 0.5


@pytest.mark.parametrize("bug", ["no ratios", "inverted", "not limited", "errors not weighted"])
def test_bugs_have_another_fixed_point(bug, monkeypatch):
    def wrong(log_ratio, reward, value, after, terminated, ended, discount, trace, rho, c):
        if bug == "no ratios":
            log_ratio = 0 * log_ratio
        elif bug == "inverted":
            log_ratio = -log_ratio
        elif bug == "not limited":
            rho = c = 1e9
        else:
            unweighted = td_target(reward, after, terminated, discount) - value
            monkeypatch.setattr(
                module, "td_target", lambda *_: value + unweighted / jnp.minimum(rho, jnp.exp(log_ratio))
            )
        return vtrace(log_ratio, reward, value, after, terminated, ended, discount, trace, rho, c)

    assert gap(1.0, wrong).max() > 8


def test_the_next_episode_is_not_read():
    """Other numbers after an end change nothing before it."""
    x = experience()
    t, e = next((int(t) + 2, int(e)) for t, e in np.argwhere(x["ended"][2:-3]))
    other = {name: array.copy() for name, array in x.items()}
    for name in ("log_ratio", "reward", "value", "next_value"):
        other[name][t + 1 :, e] += 7
    for a, b in zip(vtrace(**x, discount=0.9), vtrace(**other, discount=0.9)):
        np.testing.assert_array_equal(a[: t + 1], b[: t + 1])
        assert (a[t + 1 :, e] != b[t + 1 :, e]).all()
