"""AlphaZero, with Gumbel search."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.configuration import algorithm, require
from thorndike.domains import NonNegative, Positive, Static
from thorndike.memory.replay import Uniform
from thorndike.nets.mlp import Dense
from thorndike.nets.torso import Network, Torso
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import legal
from thorndike.ops.losses import explained_variance
from thorndike.ops.optimise import Adam, Optimiser, begin, descend
from thorndike.planning.simulator import Rules
from thorndike.planning.turns import mctx_package, moved, results, unplayable
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition


class PolicyValue(eqx.Module):
    """Logits of p(a | s), and v(s) in [-1, 1]: the result that the player to move may expect."""

    torso: Network
    policy: Dense
    value: Dense

    def __init__(self, key: Array, torso: Torso, spec: Spec):
        tkey, pkey, vkey = jax.random.split(key, 3)
        self.torso = torso.build(tkey, spec.observation)
        self.policy = Dense(pkey, self.torso.features, int(spec.action.n), gain=0.01)  # type: ignore[attr-defined]
        self.value = Dense(vkey, self.torso.features, 1, gain=0.1)

    def __call__(self, obs: PyTree, mask: Array | None) -> tuple[Array, Array]:
        """Logits [B, A], pushed down for illegal moves, and values [B]."""
        features = self.torso(obs)
        return legal(self.policy(features), mask), jnp.tanh(self.value(features)[..., 0])


class Actor(NamedTuple):
    """What acting needs."""

    network: PolicyValue
    rules: Rules


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    network: PolicyValue  # θ
    optimiser: Any
    clock: Clock
    rules: Rules


@algorithm(
    name="alphazero",
    summary="AlphaZero with Gumbel search, for games of two players",
    actions="moves of games of two players",
)
class AlphaZero:
    """AlphaZero (Silver et al. 2018) with the search of Gumbel AlphaZero (Danihelka et al. 2022, "full Gumbel"): it
    learns from games against itself.

    L(θ) = -Σ_a π(a | s) log p(a | s; θ) + c (v(s; θ) - z)²

    π is the search's improved policy, z the game's result for the player to move at s. A game that is cut is
    scored by the search's own value at the cut. Games and their moves count as the environment's episodes and steps;
    the return of a game against itself is the result of whoever moved last.

    A file of an agent holds its network alone, without the game: it plays by the network's best move, without search.
    """

    players = 2

    learning_rate: NonNegative = 1e-3  # step size
    simulations: int = 32  # of each search: positions that it evaluates
    considered: int = 16  # most moves that a search's root looks at
    temperature: NonNegative = 1.0  # in training, of the root's Gumbel noise: 1 draws moves from π, 0 takes the best
    value_coefficient: NonNegative = 1.0  # c
    max_grad_norm: Positive = 1.0  # the gradient is scaled down to this norm
    replay_ratio: Static = 1 / 64  # updates for each move
    replay: Uniform = Uniform(capacity=100_000, batch_size=256, warmup=1)  # the window of positions to learn from
    torso: Torso = Torso(widths=(128, 128), activation="relu", images="none")  # the network below both heads
    optimiser: Optimiser = Adam()
    num_envs: int = 64  # games that are played side by side
    rollout_length: int = 16  # moves in each game between two rounds of updates

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.simulations, self.considered, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "simulations, considered, replay_ratio, num_envs and rollout_length must be positive")
        require(self.torso.dropout is None, "AlphaZero does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Games of two players whose rules can be compiled."""
        return unplayable("AlphaZero", spec)

    def init(self, key: Array, spec: Spec) -> State:
        """A network, and the game."""
        network = PolicyValue(key, self.torso, spec)
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        return State(network, begin(self.descent, network), clock, Rules(spec.model))  # type: ignore[arg-type]

    @property
    def descent(self):
        """The optimiser on the clipped gradient."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def actor(self, state: State) -> Actor:
        """Network and rules."""
        return Actor(state.network, state.rules)

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory: each search begins anew."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """p(· | s) and v(s) of the network alone, before any search."""
        logits, value = actor.network(now.obs, now.info.get("mask"))
        return Look(Categorical(logits), value), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """The move that the search chooses; without a simulator (an exported agent), the network's best move."""
        mask = now.info.get("mask")
        if isinstance(now.sim, tuple) and not now.sim:
            return self.look(actor, carry, now, explore)[0].pi.mode(), carry, {}
        state = now.sim.state
        found = self.search(actor, now.obs, mask, state, key, self.temperature if explore else 0.0)
        seen = {
            "policy": found.action_weights,
            "value": improved_value(found),
            "player": jax.vmap(actor.rules.env.player)(state),
        }
        return found.action, carry, seen

    def search(self, actor: Actor, obs: PyTree, mask: Array | None, state: PyTree, key: Array, noise: Array | float):
        """Gumbel search from positions [B, ...]: mctx's `PolicyOutput`.

        Moves not looked at yet are taken to be worth v(s). Completed by the "mixed value", which leans on their
        siblings, a winning reply next to losing ones can stay unseen however long the search.
        """
        mctx = mctx_package()
        logits, value = actor.network(obs, mask)
        return mctx.gumbel_muzero_policy(
            actor,
            key,
            mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state),
            self.imagine,
            self.simulations,
            None if mask is None else ~mask,
            max_num_considered_actions=self.considered,
            gumbel_scale=noise,
            qtransform=partial(mctx.qtransform_completed_by_mix_value, use_mixed_value=False),
        )

    def imagine(self, actor: Actor, key: Array, action: Array, state: PyTree):
        """One move further in the search; what is good for the other player is bad for this one."""
        after, discount = moved(actor.rules.env, state, action, key)
        logits, value = actor.network(after.obs, after.info.get("mask"))
        step = mctx_package().RecurrentFnOutput(
            reward=after.reward,
            discount=discount,
            prior_logits=logits,
            value=jnp.where(after.terminated, 0.0, value),
        )
        return step, after.state

    def experience(self, rollout: Rollout) -> Rollout:
        """What is remembered of a rollout [T, E]: with each position, how its game went on for its mover."""
        steps = rollout.steps
        seen = steps.extras
        z = results(steps.reward, steps.terminated, steps.truncated, seen["player"], seen["value"])
        return rollout._replace(steps=steps._replace(extras={"policy": steps.extras["policy"], "result": z}))

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """One gradient step on a batch of positions [B, ...]."""
        policy, result = batch.extras["policy"], batch.extras["result"]

        def loss(network: PolicyValue):
            logits, value = network(batch.obs, batch.info.get("mask"))
            log_p = jax.nn.log_softmax(logits)
            policy_loss = -jnp.where(policy > 0, policy * log_p, 0.0).sum(-1).mean()
            value_loss = ((value - result) ** 2).mean()
            entropy = -jnp.where(logits > -1e8, jnp.exp(log_p) * log_p, 0.0).sum(-1).mean()
            return policy_loss + self.value_coefficient * value_loss, {
                "policy_loss": policy_loss,
                "value_loss": value_loss,
                "entropy": entropy,
                "value": value.mean(),
                "explained_variance": explained_variance(value, result),
            }

        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.network)
        network, optimiser, norms = descend(self.descent, gradient, state.optimiser, state.network)
        return State(network, optimiser, state.clock, state.rules), {"loss": value, **metrics, **norms}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "tic_tac_toe": {"steps": 200_000, "temperature": 2.0, "learning_rate": Linear(1e-3)},
            "connect_four": {
                "steps": 1_000_000, "temperature": 3.0, "learning_rate": Linear(1e-3), "num_envs": 128,
                "torso": Torso(widths=(256, 256), activation="relu", images="none"),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {
            "torso": Torso(widths=(16, 16)),
            "simulations": 4,
            "considered": 4,
            "num_envs": 4,
            "rollout_length": 6,
        }
        replay = Uniform(capacity=240, batch_size=16, warmup=24)
        return {"": (cls(**few, replay_ratio=1 / 12, replay=replay), "pgx/tic_tac_toe")}


def improved_value(found: Any) -> Array:
    """Σ_a π(a) q(a) at the roots of a search [B]: q as found, and v(s) for moves that were not looked at.

    The mean over visits would count what sequential halving visits only in order to rule it out: with perfect values
    its sign is wrong in up to a third of the positions of tic-tac-toe that are decided.
    """
    root = found.search_tree.summary()
    q = jnp.where(root.visit_counts > 0, root.qvalues, found.search_tree.raw_values[:, :1])
    return (found.action_weights * q).sum(-1)
