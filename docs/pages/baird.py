"""Baird's counterexample (Baird 1995; Sutton & Barto 2018, section 11.2): the deadly triad, and what takes one of its
three away.

    python docs/pages/baird.py baird.png
"""

from __future__ import annotations

import sys

import numpy as np

STATES, DISCOUNT, RATE = 7, 0.99, 0.01
START = np.array([1.0] * 6 + [10.0, 1.0])  # w


def features() -> np.ndarray:
    """φ(s) [7, 8]: v(s) = 2 w_s + w_8 of the six upper states, w_7 + 2 w_8 of the lower one."""
    phi = np.zeros((STATES, 8))
    phi[:6, :6], phi[:6, 7] = 2 * np.eye(6), 1.0
    phi[6, 6], phi[6, 7] = 1.0, 2.0
    return phi


def norms(case: str, sweeps: int = 1000) -> np.ndarray:
    """||w|| after each sweep of expected updates. The target policy always goes to the lower state; rewards are 0.

    w <- w + α Σ_s d(s) (γ v(s') - v(s)) ∇v(s)

    `case`: "triad" (linear values, bootstrapped, states as the behaviour meets them: uniformly), or one of its parts
    replaced: "on-policy" (the states that the target policy meets), "no bootstrapping" (returns, which are 0, in the
    place of γ v(s')), "table" (a weight for each state), or "gradient" (TDC, Sutton et al. 2009: the true gradient of
    the projected error, with a second vector of weights).
    """
    phi = np.eye(STATES) if case == "table" else features()
    w = START[:STATES].copy() if case == "table" else START.copy()
    d = np.zeros(STATES) if case == "on-policy" else np.full(STATES, 1 / STATES)
    d[6] = 1.0 if case == "on-policy" else d[6]
    second, history = np.zeros_like(w), []
    for _ in range(sweeps):
        value = phi @ w
        ahead = 0.0 if case == "no bootstrapping" else DISCOUNT * value[6]
        error = ahead - value
        step = phi.T @ (d * error)
        if case == "gradient":
            known = phi @ second
            step = step - DISCOUNT * phi[6] * (d * known).sum()
            second = second + 5 * RATE * STATES * phi.T @ (d * (error - known))
        w = w + RATE * STATES * step
        history.append(float(np.linalg.norm(w)))
    return np.array(history)


CASES = ("triad", "on-policy", "no bootstrapping", "table", "gradient")


def main(path: str) -> None:
    """Draw all cases."""
    from thorndike.figures import new_figure, save

    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    for case in CASES:
        axes.plot(norms(case), label=case, linewidth=2.2 if case == "triad" else 1.2)
    axes.set(xlabel="sweeps over the states", ylabel="||w||", yscale="log", title="Baird's counterexample")
    axes.legend(frameon=False)
    save(figure, path)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "baird.png")
