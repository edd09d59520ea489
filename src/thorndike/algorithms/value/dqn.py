"""Deep Q-networks."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.memory.replay import Uniform
from thorndike.nets.mlp import Linear
from thorndike.nets.torso import Network, Torso
from thorndike.ops.exploration import Epsilon, Softmax, legal
from thorndike.ops.losses import huber
from thorndike.ops.optimise import adam, descend, every, polyak
from thorndike.ops.returns import td_target
from thorndike.types import Array, Clock, Metrics, PyTree, Spec, Timestep, Transition


class QNetwork(eqx.Module):
    """Q(s, ·), [..., A]."""

    torso: Network
    head: Linear

    def __init__(self, key: Array, torso: Torso, spec: Spec):
        tkey, hkey = jax.random.split(key)
        self.torso = torso.build(tkey, spec.observation)
        self.head = Linear(hkey, self.torso.features, int(spec.action.n), init=torso.init)  # type: ignore[attr-defined]

    def __call__(self, obs: PyTree) -> Array:
        return self.head(self.torso(obs))


class Actor(NamedTuple):
    """What acting needs: Q and the present ε or temperature."""

    q: QNetwork
    level: Array


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    q: QNetwork  # θ
    target: QNetwork  # θ⁻
    optimiser: Any
    clock: Clock
    updates: Array


@config
class DQN:
    """Deep Q-network (Mnih et al. 2015), with double targets (van Hasselt et al. 2016) as a field.

    L(θ) = E[ huber( r + γ (1 - terminated) max_a' Q(s', a'; θ⁻) - Q(s, a; θ) ) ]
    """

    learning_rate: float = 5e-4  # Adam's step size
    anneal_learning_rate: bool = False  # linearly to zero over the run
    discount: float = 0.99  # γ
    double: bool = False  # choose a' with θ, value it with θ⁻
    target_period: int = 50  # updates between copies θ⁻ <- θ⁻ + τ (θ - θ⁻)
    tau: float = 1.0  # 1 is a hard copy; for a soft one 0.005 with target_period 1
    gradient_steps: int = 4  # updates per rollout; replay ratio = gradient_steps / (num_envs x rollout_length)
    huber: float = 100.0  # |δ| beyond which the loss is linear; the paper's 1 is for rewards clipped to [-1, 1]
    max_grad_norm: float = 1000.0
    exploration: Epsilon | Softmax = Epsilon()
    replay: Uniform = Uniform(capacity=10_000, batch_size=64, warmup=1_000)
    torso: Torso = Torso(widths=(64, 64), activation="relu", init="uniform")
    num_envs: int = 8
    rollout_length: int = 1

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.target_period, self.gradient_steps, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "target_period, gradient_steps, num_envs and rollout_length must be positive")

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions only: the maximum over actions is taken by enumeration."""
        if isinstance(spec.action, Discrete):
            return None
        return f"DQN takes the maximum over a list of actions, and {spec.action} is not one: it needs Discrete actions"

    def init(self, key: Array, spec: Spec) -> State:
        """Two equal networks."""
        q = QNetwork(key, self.torso, spec)
        copy = jax.tree.map(jnp.copy, q)
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        return State(q, copy, self.optimiser(clock).init(q), clock, jnp.int32(0))  # type: ignore[arg-type]

    def optimiser(self, clock: Clock):
        """Adam on the clipped gradient."""
        rate = self.learning_rate * (1.0 - clock.progress) if self.anneal_learning_rate else self.learning_rate
        return adam(rate, self.max_grad_norm)

    def actor(self, state: State) -> Actor:
        """Q and the level of exploration at this point of the run."""
        return Actor(state.q, self.exploration.level(state.clock.progress))

    def carry(self, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Explore, or take the best legal action."""
        values, mask = actor.q(now.obs), now.info.get("mask")
        if explore:
            return self.exploration.choose(key, values, actor.level, mask), carry, {}
        return legal(values, mask).argmax(-1), carry, {}

    def target(self, q: QNetwork, target: QNetwork, batch: Transition) -> Array:
        """r + γ (1 - terminated) max_a' Q(s', a'; θ⁻), [B]."""
        next_values = legal(target(batch.next_obs), batch.info.get("next_mask"))
        if self.double:
            best = legal(q(batch.next_obs), batch.info.get("next_mask")).argmax(-1)
            next_value = select(next_values, best)
        else:
            next_value = next_values.max(-1)
        return td_target(batch.reward, next_value, batch.terminated, self.discount)

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """One gradient step on a batch [B, ...], and the target's copy when it is due."""
        target = self.target(state.q, state.target, batch)

        def loss(q: QNetwork):
            chosen = select(q(batch.obs), batch.action)  # Q(s, a; θ)
            error = target - chosen  # δ
            return huber(error, self.huber).mean(), {"td_error": jnp.abs(error).mean(), "q_value": chosen.mean()}

        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.q)
        q, optimiser, norms = descend(self.optimiser(state.clock), gradient, state.optimiser, state.q)
        updates = state.updates + 1
        target_q = every(updates, self.target_period, polyak(state.target, q, self.tau), state.target)
        return State(q, target_q, optimiser, state.clock, updates), {"loss": value, **metrics, **norms}


def select(values: Array, action: Array) -> Array:
    """values[..., action], [...]."""
    return jnp.where(action[..., None] == jnp.arange(values.shape[-1]), values, 0.0).sum(-1)
