"""PETS: planning at every step in an ensemble of learned models."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Box

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Static
from thorndike.memory.replay import Uniform
from thorndike.nets import dynamics as models
from thorndike.nets.dynamics import Dynamics, unmodelled
from thorndike.nets.ensemble import Gaussians
from thorndike.nets.policy import Actions
from thorndike.ops.keys import random_key
from thorndike.planning.shooting import CEM, ICEM, MPPI, RandomShooting, shifted
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Spec, Timestep, Transition


class Actor(NamedTuple):
    """What planning needs: the models with their statistics, and the action space."""

    dynamics: Dynamics
    actions: Actions


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    dynamics: Dynamics
    optimiser: Any
    clock: Clock
    actions: Actions


@algorithm(
    name="pets",
    summary="planning with an ensemble of learned models: few environment steps, some milliseconds for each",
    actions="Box (and observations that are a vector of floats)",
)
class PETS:
    """Probabilistic ensembles with trajectory sampling, TS∞ (Chua et al. 2018, algorithm 1).

    a_0, ..., a_{H-1} = argmax of the mean over members and particles of   Σ_{t<H} γ^t r̂_t Π_{i<t} (1 - term̂_i)

    Each member follows every sequence of actions to its end by its own samples, so a sequence is good where most
    members think so. The first action is made, and the rest is what the planner begins with at the next step. Rewards
    and terminations are learned as well. The members learn at every step, not between trials, each from its own part
    of the experience. Without exploration the planner's random numbers are always the same. An action without bounds is
    sought in [-1, 1].
    """

    online = True  # `act` draws which members learn from a step: no dataset says it

    learning_rate: NonNegative = 1e-3  # step size
    model: Gaussians = Gaussians()  # the ensemble
    planner: CEM | ICEM | MPPI | RandomShooting = CEM()
    horizon: int = 20  # H, actions in a sequence
    particles: int = 1  # of each member, for each sequence
    discount: Fraction = 1.0  # γ
    replay_ratio: Static = 4.0  # updates for each environment step
    replay: Uniform = Uniform(capacity=20_000, batch_size=256, warmup=200)  # the memory of transitions
    num_envs: int = 1  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes, and single steps in the memory."""
        sizes = (self.horizon, self.particles, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "horizon, particles, replay_ratio, num_envs and rollout_length must be positive")
        require(self.replay.n_step == 1, "PETS models single steps: leave replay.n_step at 1")

    def supports(self, spec: Spec) -> str | None:
        """Continuous actions, and vectors of floats to predict."""
        if not isinstance(spec.action, Box):
            return f"PETS searches sequences of continuous actions, a Box, not {spec.action}"
        return unmodelled("PETS", spec)

    def init(self, key: Array, spec: Spec) -> State:
        """Models that know nothing yet."""
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        return State(*models.create(self.model, key, spec, self.learning_rate), clock, Actions.of(spec.action))

    def actor(self, state: State) -> Actor:
        """Models and action space."""
        return Actor(state.dynamics, state.actions)

    def carry(self, actor: Actor, n: int) -> Array:
        """The plans, [n, H, D]: at first all actions are in the middle of their range."""
        return jnp.zeros((n, self.horizon, actor.actions.dimensions))

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """Nothing is known before a plan is made."""
        return Look(), carry

    def act(self, actor: Actor, carry: Array, now: Timestep, key: Array, explore: bool):
        """The first actions of the best plans, and which members will learn from what follows."""
        n = now.reward.shape[0]
        pkey, mkey = jax.random.split(key if explore else random_key(0))
        best = actor.dynamics.best(self.model.predicting)
        start = jnp.where(now.first[:, None, None], 0.0, carry)
        plans = jax.vmap(partial(self.plan, best))(now.obs, start, jax.random.split(pkey, n))
        later = shifted(plans, jnp.zeros_like(now.first))
        return actor.actions.to_environment(plans[:, 0]), later, {"members": self.model.masks(mkey, n)}

    def plan(self, dynamics: Dynamics, obs: Array, start: Array, key: Array) -> Array:
        """A plan [H, D] from a state [N]; all sequences are compared under the same random numbers."""
        pkey, nkey = jax.random.split(key)
        members = dynamics.errors.shape[0]
        noise = jax.random.normal(nkey, (self.horizon, members, self.particles, 1, obs.shape[-1] + 1))
        return self.planner.plan(partial(self.returns, dynamics, obs, noise), start, pkey)

    def returns(self, dynamics: Dynamics, obs: Array, noise: Array, sequences: Array) -> Array:
        """What sequences [P, H, D] are expected to earn from a state [N], [P]; noise [H, K, particles, 1, N + 1]."""
        rows = (*noise.shape[1:3], sequences.shape[0])  # K, particles, P

        def step(carry: tuple[Array, Array, Array], x: tuple[Array, Array]):
            (obs, weight, total), (action, noise) = carry, x
            spread = [jnp.broadcast_to(y, (*rows, y.shape[-1])) for y in (action, noise)]
            found = dynamics.step(obs, *spread)
            total = total + weight * found.reward
            return (found.obs, weight * self.discount * (1.0 - found.end), total), None

        start = jnp.broadcast_to(obs, (*rows, obs.shape[-1])), jnp.ones(rows), jnp.zeros(rows)
        return jax.lax.scan(step, start, (sequences.swapaxes(0, 1), noise))[0][2].mean((0, 1))

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """One step of the models on a batch."""
        action = state.actions.from_environment(batch.action)
        dynamics, optimiser, metrics = models.learn(state.dynamics, state.optimiser, batch, action, self.learning_rate)
        return state._replace(dynamics=dynamics, optimiser=optimiser), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "Pendulum-v1": {"steps": 1_800},
            "Reactor": {"steps": 4_000, "horizon": 10, "planner": CEM(std=0.3)},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        return {
            "": (
                cls(
                    model=Gaussians(members=3, widths=(16,), keep=0.7, elites=2),
                    planner=CEM(population=8, iterations=2, elites=2, momentum=0.3),
                    horizon=4, particles=2, discount=0.9, replay_ratio=1.0, num_envs=4,
                    replay=Uniform(capacity=200, batch_size=16, warmup=32),
                ),
                "Pendulum-v1",
            ),
        }  # fmt: skip
