"""Model predictive control: at every step the next actions are optimised in the environment's own simulator."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Box

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction
from thorndike.envs.batched import to_environment
from thorndike.errors import IncompatibleError
from thorndike.nets.policy import Actions
from thorndike.ops.keys import random_key
from thorndike.planning.shooting import CEM, ICEM, MPPI, RandomShooting, shifted
from thorndike.planning.simulator import Rules
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Step, Timestep


class Actor(NamedTuple):
    """The simulator and the action space, constants both, and the steps that were made: what tells two runs apart."""

    rules: Rules
    actions: Actions
    steps: Array


class State(NamedTuple):
    """Nothing changes but the clock."""

    clock: Clock
    rules: Rules
    actions: Actions


@algorithm(
    name="mpc",
    summary="model predictive control with the environment as the model: random shooting, CEM, iCEM or MPPI",
    actions="Box, of JAX environments",
)
class MPC:
    """Model predictive control (Camacho & Bordons 2007) by sampling: nothing is learned.

    a_0, ..., a_{H-1} = argmax Σ_{t<H} γ^t r_t   in the simulator, from the state that the environment is in

    The first action is made, and the rest, shifted by one, is what the planner begins with at the next step. Sequences
    are compared under the same random numbers; where the environment has chance, they are planned for these. After H
    steps nothing counts, so H has to be long enough to see what an action leads to.

    It plans with the environment itself, so it acts where that is a simulator: in training, evaluations and films. The
    file of an agent has no simulator, and cannot act.
    """

    looks_ahead = True  # the environment itself is the model

    planner: CEM | ICEM | MPPI | RandomShooting = CEM()
    horizon: int = 20  # H, actions in a sequence
    discount: Fraction = 1.0  # γ
    num_envs: int = 8
    rollout_length: int = 50

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.horizon, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "MPC.horizon, num_envs and rollout_length must be positive")

    def supports(self, spec: Spec) -> str | None:
        """JAX environments with continuous actions."""
        if spec.model is None:
            return (
                "MPC plans in a simulator that it can set to any state: it needs a JAX environment, such as "
                "Pendulum-v1 or brax/ant"
            )
        if not isinstance(spec.action, Box):
            return f"MPC searches sequences of continuous actions, a Box, not {spec.action}"
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """The environment, as a constant."""
        return State(Clock(jnp.int32(0), jnp.int32(spec.steps)), Rules(spec.model), Actions.of(spec.action))

    def actor(self, state: State) -> Actor:
        """Simulator and action space."""
        return Actor(state.rules, state.actions, state.clock.steps)

    def carry(self, actor: Actor, n: int) -> Array:
        """The plans, [n, H, D]: at first all actions are in the middle of their range."""
        return jnp.zeros((n, self.horizon, actor.actions.dimensions))

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """Nothing is known before a plan is made."""
        return Look(), carry

    def act(self, actor: Actor, carry: Array, now: Timestep, key: Array, explore: bool):
        """The first actions of the best plans; without exploration the planner's random numbers are always the same."""
        if isinstance(now.sim, tuple) and not now.sim:
            raise IncompatibleError(
                "MPC plans in the environment's simulator, and an agent alone has none: use the run (evaluate, watch, "
                "record), or an algorithm that learns, such as sac"
            )
        keys = jax.random.split(key if explore else random_key(0), now.reward.shape[0])
        start = jnp.where(now.first[:, None, None], 0.0, carry)
        plan, seen = jax.vmap(partial(self.plan, actor))(now.sim.state, start, keys)
        return actor.actions.to_environment(plan[:, 0]), shifted(plan, jnp.zeros_like(now.first)), seen

    def plan(self, actor: Actor, state: PyTree, start: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        """A plan [H, D] from a state, and what it is expected to earn in its first step and over H steps."""
        pkey, nkey = jax.random.split(key)
        noise = jax.random.split(nkey, self.horizon)
        score = partial(self.returns, actor, state, noise)
        plan = self.planner.plan(score, start, pkey)
        first = step_by(actor, state, plan[0], noise[0]).reward
        return plan, {"reward": jnp.float32(first), "return": score(plan[None])[0]}

    def returns(self, actor: Actor, state: PyTree, noise: Array, sequences: Array) -> Array:
        """Σ_t γ^t r_t [P] of sequences [P, H, D], up to where an episode terminates."""

        def one(sequence: Array):
            def step(carry: tuple[PyTree, Array, Array], x: tuple[Array, Array]):
                state, weight, total = carry
                found = step_by(actor, state, *x)
                total = total + jnp.where(weight > 0, weight * found.reward, 0.0)
                return (found.state, jnp.where(found.terminated, 0.0, weight * self.discount), total), None

            start = state, jnp.float32(1), jnp.float32(0)
            return jax.lax.scan(step, start, (sequence, noise))[0][2]

        return jax.vmap(one)(sequences)

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """Nothing; how what was expected of the next step compares with what it earned."""
        seen = rollout.steps.extras
        miss = seen["reward"] - rollout.steps.reward
        return state, {"model_loss": (miss**2).mean(), "return": seen["return"].mean()}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "Pendulum-v1": {"steps": 3_200, "num_envs": 16},
            "Reactor": {"steps": 3_200, "num_envs": 16, "horizon": 10, "planner": CEM(std=0.3)},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"horizon": 4, "num_envs": 2, "rollout_length": 5, "discount": 0.9}
        planners: dict[str, Any] = {
            "": CEM(population=6, elites=2, iterations=2, momentum=0.3),
            "icem": ICEM(population=6, elites=2, iterations=2, momentum=0.3),
            "mppi": MPPI(population=6, iterations=2),
            "shooting": RandomShooting(population=6),
        }
        return {name: (cls(planner=planner, **few), "Pendulum-v1") for name, planner in planners.items()}


def step_by(actor: Actor, state: PyTree, action: Array, key: Array) -> Step:
    """A step of the simulator by an action in network units [D]."""
    env = actor.rules.env
    return env.step(state, to_environment(env.action_space, actor.actions.to_environment(action)), key)
