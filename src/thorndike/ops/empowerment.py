"""Empowerment: how much an agent can make of where it is, in bits (Klyubin, Polani & Nehaniv 2005)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from thorndike.configuration import require

MOST = 100_000  # sequences of actions


def empowerment(world: Any, horizon: int = 1, tolerance: float = 1e-6) -> np.ndarray:
    """E_n(s) = max_p(a_1 ... a_n) I(A_1 ... A_n ; S_n | s), in bits, of every state [S].

    What can be told about the actions from the state n steps later: the capacity of the channel from sequences of
    actions to states. Where the world is deterministic it is log2 of how many states can be reached in n steps.

    Args:
        world: an environment with `transitions()` (`td.FiniteMDP`), or P(s' | s, a) itself, [S, A, S'].
        horizon: n.
        tolerance: bits by which the result may be too small.

    Raises:
        ConfigError: there are more than 100,000 sequences of n actions, or `world` is neither of these.
    """
    p = np.asarray(world.transitions()[0] if hasattr(world, "transitions") else world, float)
    require(
        p.ndim == 3 and p.shape[0] == p.shape[2],
        f"empowerment needs P(s' | s, a) [S, A, S'], or an environment with transitions(), not an array {p.shape}",
    )
    require(horizon > 0, f"empowerment looks at least one step ahead, not {horizon}")
    sequences = p.shape[1] ** horizon
    require(sequences <= MOST, f"there are {sequences:,} sequences of {horizon} actions, and {MOST:,} are the most")
    ahead = np.stack([_after(p, actions) for actions in itertools.product(range(p.shape[1]), repeat=horizon)], 1)
    return np.array([capacity(np.unique(channel, axis=0), tolerance) for channel in ahead])


def _after(p: np.ndarray, actions: tuple[int, ...]) -> np.ndarray:
    """P(s' | s) of a sequence of actions, [S, S']."""
    out = np.eye(len(p))
    for action in actions:
        out = out @ p[:, action]
    return out


def capacity(channel: np.ndarray, tolerance: float = 1e-6, most: int = 100_000) -> float:
    """max_p I(X; Y) in bits of a channel P(y | x) [X, Y], by Blahut's and Arimoto's algorithm (1972).

    q(x) <- q(x) 2^D(x) / Σ,   D(x) = Σ_y P(y | x) log2( P(y | x) / Σ_x q(x) P(y | x) );   Σ q D <= C <= max D
    """
    q = np.full(len(channel), 1 / len(channel))
    low = 0.0
    for _ in range(most):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(channel > 0, np.log2(channel / (q @ channel)), 0.0)
        gain = (channel * ratio).sum(1)
        weight = q * 2.0**gain
        low = float(np.log2(weight.sum()))
        if gain.max() - low < tolerance:
            break
        q = weight / weight.sum()
    return max(low, 0.0)
