"""Asynchronous advantage actor-critic."""

from __future__ import annotations

from typing import Any

from thorndike.algorithms.policy.a2c import A2C, State
from thorndike.configuration import algorithm, require
from thorndike.ops.statistics import update_tree
from thorndike.types import Array, Metrics, Rollout, Spec


@algorithm(
    name="a3c",
    summary="asynchronous advantage actor-critic: actors on the host whose gradients are applied as they come",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these",
    aliases=("asynchronous-advantage-actor-critic",),
)
class A3C(A2C):
    """Asynchronous advantage actor-critic (Mnih et al. 2016, algorithm S3): each of several actors takes the newest
    parameters, acts for a rollout, and the gradient at those parameters is applied to what is newest then, by one
    optimiser for all of them.

    Actors are threads with `num_envs` environments each, on the host; without any (`actors=0`) it is A2C.
    """

    actors: int = 4  # threads that act, each with environments of its own

    def check(self) -> None:
        """Positive sizes."""
        super().check()
        require(0 <= self.actors <= 256, f"A3C.actors must lie between 0 and 256, got {self.actors}")

    def supports(self, spec: Spec) -> str | None:
        """A2C's actions, in host environments."""
        return super().supports(spec) or compiled(self, spec)

    def learn_late(self, state: State, then: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One step along the gradient of a rollout [T, E] at the parameters `then`, which acted."""
        gradient, after, metrics = self.gradient(
            state._replace(params=then.params, statistics=then.statistics), rollout
        )
        statistics = update_tree(state.statistics, rollout.steps.obs)
        state, norms = self.apply(state._replace(statistics=statistics, scaling=after.scaling), gradient)
        return state, metrics | norms

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """None: those of A2C are for JAX environments."""
        return {}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        return {name: (cls(**fields(case), actors=0), env) for name, (case, env) in A2C.small().items()}


def compiled(algorithm: Any, spec: Spec) -> str | None:
    """Why actors in threads of their own cannot serve a JAX environment; None where they can."""
    if algorithm.actors == 0 or spec.model is None:
        return None
    name = type(algorithm).__name__
    return (
        f"{name}'s actors are threads that step environments on the host, and this is a JAX environment, stepped in "
        f'the compiled loop: take Gymnasium\'s (such as "gymnasium/CartPole-v1"), or {name}(actors=0)'
    )


def fields(value: Any) -> dict[str, Any]:
    """The fields of a config by name."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__ if name != "actors"}
