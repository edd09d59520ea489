"""Rewards that are a weighted sum of named terms: the trade-off between several objectives."""

from __future__ import annotations

import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.envs.wrappers.base import Wrapper, refuse
from thorndike.types import Array, PyTree, Step


@config
class Weighted(Wrapper):
    """The reward is Σ_i w_i term_i over the terms that a step names in `info["terms"]`; those without a weight count 0.

    `Weighted(env=env, weights={"speed": 1.0, "energy": 0.1})`. Each weight is a number that may be swept: with
    `{"speed": 1.0, "energy": np.linspace(0, 1, 8)}` one program trains for eight trade-offs.
    """

    weights: dict[str, float]

    def check(self) -> None:
        """At least one term."""
        refuse(self)
        require(len(self.weights) > 0, 'Weighted needs weights by the names of terms, like weights={"speed": 1.0}')

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """The inner step, with the sum of its terms as its reward."""
        step, name = self.env.step(state, action, key), type(self.env).__name__
        terms = step.info.get("terms", {})
        require(len(terms) > 0, f'{name} names no terms of its reward: its step has no info["terms"]')
        unknown = self.weights.keys() - terms.keys()
        require(not unknown, f"{name} has no term {', '.join(sorted(unknown))}; it has {', '.join(sorted(terms))}")
        reward = sum(weight * jnp.float32(terms[term]) for term, weight in sorted(self.weights.items()))
        return step._replace(reward=reward)
