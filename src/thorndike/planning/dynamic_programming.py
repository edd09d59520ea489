"""Dynamic programming in finite Markov decision processes, in NumPy and float64 (Bellman 1957; Puterman 1994).

    Q(s, a) = R(s, a) + γ Σ_s' P(s' | s, a) V(s'),   V*(s) = max_a Q*(s, a),   V(terminal) = 0

`model_of(env)` reads the model of a JAX environment or of a Gymnasium one with a table `P`; `value_iteration`,
`policy_iteration` and `evaluate_policy` solve it. Axes: S states, A actions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from thorndike.errors import ConfigError, IncompatibleError, require

ENDLESS = (
    "a policy that never ends has no value without a discount: take a discount below 1, or an environment in which "
    "every state can reach the end"
)


class Model(NamedTuple):
    """All that is to know of a finite Markov decision process."""

    probability: np.ndarray  # P(s' | s, a)                  [S, A, S']
    reward: np.ndarray  # expected reward R(s, a)            [S, A]
    terminal: np.ndarray  # which states end an episode      [S], bool


class Solution(NamedTuple):
    """Values, and how many sweeps or rounds it took to find them."""

    v: np.ndarray  # [S]
    q: np.ndarray  # [S, A]
    rounds: int


def model_of(env: Any) -> Model:
    """The exact model of an environment, in float64.

    Args:
        env: a JAX environment with `transitions()` (see `td.FiniteMDP`), or one of Gymnasium whose `unwrapped.P[s][a]`
            lists (probability, next state, reward, terminated).

    Raises:
        IncompatibleError: the environment has neither.
        ConfigError: some P(· | s, a) is no distribution.
    """
    if hasattr(env, "transitions"):
        model = Model(*(np.asarray(part) for part in env.transitions()))
    elif hasattr(getattr(env, "unwrapped", None), "P"):
        model = _from_table(env.unwrapped.P)
    else:
        raise IncompatibleError(
            f"{type(env).__name__} does not say its transition probabilities: dynamic programming needs an environment "
            "with a method transitions(), such as GridWorld or FrozenLake-v1, or Gymnasium's table P"
        )
    probability = model.probability
    wrong = (probability < 0).any(-1) | (np.abs(probability.sum(-1) - 1) > 1e-6)
    if wrong.any():
        s, a = np.argwhere(wrong)[0]
        raise ConfigError(
            f"{type(env).__name__}: the probabilities of what follows action {a} in state {s} sum to "
            f"{probability[s, a].sum():g} or are negative; they have to be a distribution"
        )
    return model


def q_of(model: Model, v: np.ndarray, discount: float) -> np.ndarray:
    """R(s, a) + γ Σ_s' P(s' | s, a) V(s') of values v [S], terminal states being worth 0: [S, A]."""
    q = model.reward + discount * model.probability @ np.where(model.terminal, 0.0, v)
    return np.where(model.terminal[:, None], 0.0, q)


def evaluate_policy(model: Model, policy: np.ndarray, discount: float) -> np.ndarray:
    """V of a policy, [S], by a linear solve: (I - γ P_π) V = R_π over the states that do not end an episode.

    Args:
        model: the process.
        policy: the probabilities π(a | s) [S, A], or one action for each state [S].
        discount: γ in [0, 1].

    Raises:
        ConfigError: with γ = 1, the policy never ends from some state where it goes on earning.
    """
    policy = np.eye(model.reward.shape[1])[policy] if np.ndim(policy) == 1 else np.asarray(policy)
    chain, reward = np.einsum("sa,sat->st", policy, model.probability), (policy * model.reward).sum(-1)
    resting = (chain[np.arange(len(chain)), np.arange(len(chain))] == 1) & (reward == 0)  # walls, for one
    open_ = np.flatnonzero(~(model.terminal | resting))
    v = np.zeros(len(chain))
    try:
        v[open_] = np.linalg.solve(np.eye(len(open_)) - discount * chain[np.ix_(open_, open_)], reward[open_])
    except np.linalg.LinAlgError:
        raise ConfigError(ENDLESS) from None
    require(bool((np.abs(v) < 1e13 * max(1.0, np.abs(reward).max())).all()), ENDLESS)
    return v


def value_iteration(model: Model, discount: float, tolerance: float = 1e-8, most: int = 100_000) -> Solution:
    """V* by V <- max_a [R + γ P V], from 0.

    Args:
        model: the process.
        discount: γ in [0, 1].
        tolerance: how far V may be from V*, anywhere: it stops where max abs ΔV < tolerance (1 - γ) / γ (Puterman 1994,
            theorem 6.3.1). With γ = 1 there is no such bound, and max abs ΔV < tolerance ends it.
        most: sweeps.

    Raises:
        ConfigError: it has not converged after `most` sweeps: with γ = 1 values may grow without end.
    """
    enough = tolerance * (1 - discount) / discount if 0 < discount < 1 else tolerance
    v = np.zeros(len(model.terminal))
    for sweep in range(1, most + 1):
        after = q_of(model, v, discount).max(-1)
        change, v = np.abs(after - v).max(), after
        if change < enough:
            return Solution(v, q_of(model, v, discount), sweep)
    raise ConfigError(
        f"no convergence after {most:,} sweeps, the last of which changed values by {change:g}: take a larger "
        "tolerance, more sweeps, or a discount below 1"
    )


def policy_iteration(model: Model, discount: float, most: int = 1_000) -> Solution:
    """V* by rounds of `evaluate_policy` and greedy improvement (Howard 1960), from the uniformly random policy.

    A state's policy changes only where another action is better, not where it is as good: with γ = 1 a policy that ends
    then stays one that ends.

    Raises:
        ConfigError: with γ = 1, a state cannot reach the end; or the policy still changes after `most` rounds.
    """
    actions = model.reward.shape[1]
    policy = np.full(model.reward.shape, 1 / actions)
    for rounds in range(1, most + 1):
        v = evaluate_policy(model, policy, discount)
        q = q_of(model, v, discount)
        better = q.max(-1) > v + 1e-9 * np.maximum(1.0, np.abs(v))
        better &= ~model.terminal
        if not better.any():
            return Solution(v, q, rounds)
        policy[better] = np.eye(actions)[q[better].argmax(-1)]
    raise ConfigError(f"the policy still changes after {most:,} rounds: is the model finite?")


def outcomes(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """The successors that each pair can have, [S, A, K], and their probabilities, [S, A, K]: a sweep over them costs
    S·A·K and not S·A·S. Pairs with fewer than K have some of probability 0."""
    most = int((model.probability > 0).sum(-1).max())
    successor = np.argsort(-model.probability, -1, kind="stable")[..., :most]
    return successor, np.take_along_axis(model.probability, successor, -1)


def _from_table(table: Any) -> Model:
    """Gymnasium's P[s][a]: a state that is entered with `terminated` ends the episode."""
    states, actions = len(table), len(table[0])
    probability, reward = np.zeros((states, actions, states)), np.zeros((states, actions))
    terminal = np.zeros(states, bool)
    for s in range(states):
        for a in range(actions):
            for p, after, r, ends in table[s][a]:
                probability[s, a, after] += p
                reward[s, a] += p * r
                terminal[after] |= bool(ends and p > 0)
    probability[terminal], reward[terminal] = np.eye(states)[terminal][:, None], 0.0
    return Model(probability, reward, terminal)
