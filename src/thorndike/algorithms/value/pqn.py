"""Q-learning from many environments at once, without a memory and without a target network."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.algorithms.value import known
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.nets.observations import shown
from thorndike.nets.q_network import QNetwork
from thorndike.nets.torso import Torso, example
from thorndike.nets.value import Mean
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import Epsilon, Softmax, greedy, legal
from thorndike.ops.minibatches import passes
from thorndike.ops.optimise import Optimiser, RAdam, begin, descend
from thorndike.ops.returns import lambda_returns
from thorndike.ops.statistics import counted, normalise_tree, running_tree, update_tree
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep


class Actor(NamedTuple):
    """What acting needs: Q, the present ε or temperature, and the statistics that observations are normalised with."""

    q: QNetwork
    level: Array
    statistics: PyTree


class State(NamedTuple):
    """All that changes."""

    q: QNetwork
    optimiser: Any
    clock: Clock
    statistics: PyTree  # of observations; () where they are not normalised


class Minibatch(NamedTuple):
    """What the loss reads, [B, ...]."""

    obs: PyTree
    action: Array
    target: Array


@algorithm(
    name="pqn",
    summary="parallelised Q-network: Q(λ) without replay or target network",
    actions="Discrete",
    aliases=("parallelised-q-network", "parallelized-q-network"),
)
class PQN:
    """Parallelised Q-network (Gallici et al. 2024): Q-learning made stable by layer normalisation.

    G_t = r_t + γ (1 - terminated_t) [ λ G_{t+1} + (1 - λ) max_a Q(s'_t, a) ],   L(θ) = E[½ (G - Q(s, a; θ))²]

    Where an episode ends, or the rollout, the bracket is max_a Q(s'_t, a). Targets are computed once for a rollout,
    which is then learned from in `epochs` passes of minibatches. Defaults are CleanRL's for classic control.
    """

    learning_rate: NonNegative = Linear(2.5e-4)  # step size
    discount: Fraction = 0.99  # γ
    trace: Fraction = 0.65  # λ
    epochs: int = 4  # passes over a rollout
    minibatch_size: int = 128  # transitions, or about so many: a rollout is cut into equal minibatches
    max_grad_norm: Positive = 10.0  # the gradient is scaled down to this norm
    normalize_observation: bool = False  # by running mean and variance, which are saved with the actor
    exploration: Epsilon | Softmax = Epsilon()  # how actions are chosen in training
    torso: Torso = Torso(widths=(120, 84), activation="relu", norm="layer")  # the network below the head
    optimiser: Optimiser = RAdam()
    num_envs: int = 4  # environments that are stepped side by side
    rollout_length: int = 128  # steps of each environment between two rounds of learning

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.epochs, self.minibatch_size, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "epochs, minibatch_size, num_envs and rollout_length must be positive")
        require(self.torso.dropout is None, "PQN does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions only: the maximum over actions is taken by enumeration."""
        if isinstance(spec.action, Discrete):
            return None
        return f"PQN takes the maximum over a list of actions, and {spec.action} is not one: it needs Discrete ones"

    def init(self, key: Array, spec: Spec) -> State:
        """One network."""
        spec = shown(spec, self.normalize_observation)
        q = QNetwork(key, self.torso, None, Mean(), False, None, spec)
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        statistics = running_tree(example(spec.observation)) if self.normalize_observation else ()
        return State(q, begin(self.descent, q), clock, statistics)  # type: ignore[arg-type]

    @property
    def descent(self):
        """The optimiser on the clipped gradient."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def actor(self, state: State) -> Actor:
        """Q, the level of exploration at this point of the run, and the observations' statistics."""
        return Actor(state.q, self.exploration.level(state.clock.progress), state.statistics)

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """Q(s, ·), its maximum, and what it is acted on with."""
        values, mask = values_of(actor.q, normalise_tree(actor.statistics, now.obs)), now.info.get("mask")
        pi = self.exploration.probabilities(values, actor.level, mask) if explore else greedy(values, mask)
        return Look(Categorical(jnp.log(pi)), legal(values, mask).max(-1), values), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Explore, or take the best legal action."""
        values, mask = self.look(actor, carry, now, explore)[0].q, now.info.get("mask")
        chosen = self.exploration.choose(key, values, actor.level, mask) if explore else legal(values, mask).argmax(-1)
        return chosen, carry, {}

    def loss(self, q: QNetwork, batch: Minibatch) -> tuple[Array, Metrics]:
        """½ (G - Q(s, a))², averaged."""
        values = values_of(q, batch.obs)
        chosen = jnp.where(batch.action[:, None] == jnp.arange(values.shape[-1]), values, 0.0).sum(-1)
        error = batch.target - chosen
        loss = 0.5 * (error**2).mean()
        return loss, {"loss": loss, "td_error": jnp.abs(error).mean(), "q_value": chosen.mean()}

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """Targets of the rollout [T, E], then `epochs` passes of minibatch descent over it."""
        steps = rollout.steps
        statistics = update_tree(state.statistics, steps.obs)
        obs, next_obs = (normalise_tree(statistics, x) for x in (steps.obs, steps.next_obs))
        next_value = legal(values_of(state.q, next_obs), steps.info.get("next_mask")).max(-1)
        target = lambda_returns(steps.reward, next_value, steps.terminated, steps.ended, self.discount, self.trace)
        flat = lambda x: x.reshape((-1, *x.shape[2:]))  # noqa: E731
        data = jax.tree.map(flat, Minibatch(obs, steps.action, target))
        count = max(1, round(self.num_envs * self.rollout_length / self.minibatch_size))

        def minibatch(carry, batch):
            q, optimiser = carry
            gradient, metrics = jax.grad(self.loss, has_aux=True)(q, batch)
            q, optimiser, norms = descend(self.descent, gradient, optimiser, q)
            return (q, optimiser), metrics | norms

        (q, optimiser), metrics = passes(minibatch, (state.q, state.optimiser), data, count, self.epochs, key)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        return State(q, optimiser, state.clock, statistics), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "CartPole-v1": {  # 500 in 4 seeds of 4; the defaults, which bootstrap less far, end at 176 in one of three
                "steps": 300_000, "num_envs": 32, "rollout_length": 64, "trace": 0.95, "discount": 0.98,
                "learning_rate": Linear(5e-4), "exploration": Epsilon(fraction=0.3),
            },
            **known.minatar_without_replay(),
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16), norm="layer"), "num_envs": 4, "rollout_length": 16}
        return {"": (cls(**few, minibatch_size=32), "CartPole-v1")}


def values_of(q: QNetwork, obs: PyTree) -> Array:
    """Q(s, ·), [..., A], of observations [...]."""
    return q.head(q.torso(obs))  # type: ignore[call-arg]
