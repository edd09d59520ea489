"""λ-returns beside a double loop over what follows, and beside rlax."""

from __future__ import annotations

import numpy as np
import pytest
import rlax

from thorndike.ops.returns import lambda_returns

T, E, DISCOUNT = 12, 6, 0.9


def case(ends=True):
    rng = np.random.default_rng(0)
    reward, value = np.float32(rng.normal(size=(2, T, E)))
    terminated = (rng.random((T, E)) < 0.15) & ends
    ended = terminated | ((rng.random((T, E)) < 0.15) & ends)
    return reward, value, terminated, ended


def by_hand(reward, value, terminated, ended, trace):
    """(1 - λ) Σ_n λ^(n-1) G^(n), with all that is left on the longest one that there is."""
    found = np.zeros((T, E))
    for e in range(E):
        for t in range(T):
            last = next((j for j in range(t, T) if ended[j, e]), T - 1)
            total, earned = 0.0, 0.0
            for j in range(t, last + 1):
                earned += DISCOUNT ** (j - t) * reward[j, e]
                ahead = 0.0 if terminated[j, e] else DISCOUNT ** (j - t + 1) * value[j, e]
                weight = trace ** (j - t) * (1 if j == last else 1 - trace)
                total += weight * (earned + ahead)
            found[t, e] = total
    return found


@pytest.mark.parametrize("trace", [0.0, 0.65, 1.0])
def test_with_episodes_that_end(trace):
    found = lambda_returns(*case(), DISCOUNT, trace)
    np.testing.assert_allclose(found, by_hand(*case(), trace), rtol=1e-4, atol=1e-5)


def test_rlax_agrees_where_nothing_ends():
    reward, value, *rest = case(ends=False)
    found = lambda_returns(reward, value, *rest, DISCOUNT, 0.65)
    for e in range(E):
        expected = rlax.lambda_returns(reward[:, e], np.full(T, DISCOUNT, np.float32), value[:, e], 0.65)
        np.testing.assert_allclose(found[:, e], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bug", ["traces over an end", "time limits end the task", "off by one"])
def test_mutants_differ(bug):
    reward, value, terminated, ended = case()
    if bug == "traces over an end":
        found = lambda_returns(reward, value, terminated, ended & False, DISCOUNT, 0.65)
    elif bug == "time limits end the task":
        found = lambda_returns(reward, value, ended, ended, DISCOUNT, 0.65)
    else:
        found = lambda_returns(reward, np.roll(value, 1, 0), terminated, ended, DISCOUNT, 0.65)
    assert np.abs(found - by_hand(reward, value, terminated, ended, 0.65)).max() > 0.1
