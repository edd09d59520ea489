"""AlphaGo: a policy from recorded games, a policy gradient against its past, a value network, and search with both."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from thorndike.algorithms.offline.bc import Policy
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.nets.mlp import Dense
from thorndike.nets.policy import PolicyHead
from thorndike.nets.torso import Network, Torso
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import legal
from thorndike.ops.losses import explained_variance
from thorndike.ops.optimise import Adam, Optimiser, begin, descend
from thorndike.planning.puct import puct
from thorndike.planning.simulator import Rules
from thorndike.planning.turns import playout, position, results, unplayable
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Step, Timestep, Transition


class Value(eqx.Module):
    """v(s) in [-1, 1]: the result that the player to move may expect."""

    torso: Network
    head: Dense

    def __init__(self, key: Array, torso: Torso, spec: Spec):
        tkey, hkey = jax.random.split(key)
        self.torso = torso.build(tkey, spec.observation)
        self.head = Dense(hkey, self.torso.features, 1, gain=0.1)

    def __call__(self, obs: PyTree) -> Array:
        """Values [B]."""
        return jnp.tanh(self.head(self.torso(obs))[..., 0])


class Actor(NamedTuple):
    """What acting needs."""

    policy: Policy  # ρ
    prior: Policy  # σ
    value: Value  # v
    rival: Policy  # the earlier ρ that plays the other side in training
    estimating: Array  # whether games are those that v learns from
    rules: Rules


class State(NamedTuple):
    """All that changes."""

    policy: Policy  # ρ
    prior: Policy  # σ, as ρ was at the start
    value: Value  # v
    pool: Policy  # earlier ρ, leaves [K, ...]
    rival: Array  # which of them plays
    iterations: Array
    optimisers: tuple[Any, Any]  # of ρ and of v
    clock: Clock
    rules: Rules


class Game(NamedTuple):
    """What is drawn at the start of each game, and its moves so far; leading axis [E]."""

    side: Array  # the learner's: 0 or 1
    turn: Array  # moves so far
    branch: Array  # the turn of the random move, one before the position that v learns from; -1: that is the first


@algorithm(
    name="alphago",
    summary="AlphaGo: recorded games, then a policy gradient, a value network and search",
    actions="moves of games of two players",
)
class AlphaGo:
    """The pipeline of AlphaGo (Silver et al. 2016), from a policy σ that was cloned from recorded games:

    `td.train(td.AlphaGo(), game, start=run, parts=("policy",))`, with `run` of `td.BC`.

    The torso has to be that of the clone: `td.train` says what it took. Without a start σ is uniform. There are two
    stages.

    1. ρ, which begins as σ, plays against members of a pool of its own past. With the result z of the game for whoever
       moved, ∇J = E[ (z - v(s)) ∇ log ρ(a | s) ] over the learner's own moves. v learns along, as a baseline.
    2. From `value_from` of the steps on ρ is fixed, and v(s) regresses z on **one position of each game**: σ plays up
       to a random turn, a random move is made, ρ plays both sides to the end, and the position after the random move
       is learned from. Positions of one game share its result; a network that sees them all remembers games.

    Play is a tree search by PUCT with priors σ. A leaf is worth (1 - λ) v(s) + λ z', where z' is the result of one game
    that σ plays out from there: σ takes the place of the paper's fast policy. With `simulations=0` ρ plays alone.

    A file of an agent holds the networks without the game: it plays by the best move of ρ, without search.
    """

    players = 2

    learning_rate: NonNegative = 1e-3  # step size of ρ
    value_learning_rate: NonNegative = 1e-3  # step size of v
    value_from: Fraction = 0.5  # of all steps, those after which ρ is fixed and v learns alone
    pool: int = 8  # K, earlier policies that are kept
    pool_period: int = 20  # rollouts between two of them
    depth: int = 30  # the position that v learns from is one of the first so many of its game
    simulations: int = 64  # of each search: positions that it evaluates; 0: no search
    mixing: Fraction = 0.5  # λ: 0 values positions by v alone, 1 by playouts alone
    exploration: NonNegative = 2.0  # weight of the priors in the search, for values in [0, 1]
    max_grad_norm: Positive = 1.0  # each network's gradient is scaled down to this norm
    torso: Torso = Torso()  # of each of the networks; that of `td.BC`, which it starts from
    optimiser: Optimiser = Adam()
    num_envs: int = 64  # games that are played side by side
    rollout_length: int = 64  # moves in each game between two gradient steps

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.pool, self.pool_period, self.depth, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "pool, pool_period, depth, num_envs and rollout_length must be positive")
        require(self.simulations >= 0, f"simulations must be 0 (no search) or more, got {self.simulations}")
        require(self.torso.dropout is None, "AlphaGo does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Games of two players whose rules can be compiled."""
        return unplayable("AlphaGo", spec)

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, a pool of copies of the first policy, and the game."""
        tkey, hkey, vkey = jax.random.split(key, 3)
        torso = self.torso.build(tkey, spec.observation)
        policy = Policy(torso, PolicyHead(hkey, torso.features, spec.action))
        value = Value(vkey, self.torso, spec)
        how = self.descents
        return State(
            policy,
            jax.tree.map(jnp.copy, policy),
            value,
            self.copies(policy),
            jnp.int32(0),
            jnp.int32(0),
            (begin(how[0], policy), begin(how[1], value)),  # type: ignore[arg-type]
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            Rules(spec.model),
        )

    def copies(self, policy: Policy) -> Policy:
        """A pool of copies, leaves [K, ...]."""
        return jax.tree.map(lambda x: jnp.repeat(x[None], self.pool, 0), policy)

    def adopted(self, state: State) -> State:
        """A state whose ρ came from elsewhere: it is σ too, and all of the pool. Leading axis [R]."""
        return state._replace(prior=jax.tree.map(jnp.copy, state.policy), pool=jax.vmap(self.copies)(state.policy))

    @property
    def descents(self) -> tuple[Any, Any]:
        """The optimisers of ρ and v, on clipped gradients."""
        rates = (self.learning_rate, self.value_learning_rate)
        return tuple(self.optimiser.build(rate, self.max_grad_norm) for rate in rates)  # type: ignore[return-value]

    def estimating(self, state: State) -> Array:
        """Whether this is the second stage, in which v alone learns."""
        return state.clock.progress >= self.value_from

    def actor(self, state: State) -> Actor:
        """Networks and rules."""
        rival = jax.tree.map(lambda x: x[state.rival], state.pool)
        return Actor(state.policy, state.prior, state.value, rival, self.estimating(state), state.rules)

    def carry(self, actor: Actor, n: int) -> Game:
        """Drawn anew at the first move of each game."""
        none = jnp.zeros(n, jnp.int32)
        return Game(none, none, none)

    def look(self, actor: Actor, carry: Game, now: Timestep, explore: bool) -> tuple[Look, Game]:
        """ρ(· | s) and v(s), before any search."""
        return Look(actor.policy(now.obs, now.info.get("mask")), actor.value(now.obs)), carry

    def act(self, actor: Actor, carry: Game, now: Timestep, key: Array, explore: bool):
        """The move that the search chooses; to explore, that of a training game. Without a simulator (an exported
        agent) or simulations, a move of ρ: its best one, or to explore any."""
        pi = actor.policy(now.obs, now.info.get("mask"))
        simulated = not (isinstance(now.sim, tuple) and not now.sim)
        if explore and simulated:
            return self.train(actor, carry, now, key, pi)
        if explore or not simulated or self.simulations == 0:
            return pi.sample(key) if explore else pi.mode(), carry, {}
        return self.search(actor, position(now), key).action, carry, {}

    def train(self, actor: Actor, game: Game, now: Timestep, key: Array, pi: Categorical):
        """A move of a training game, and what learning has to know of it."""
        skey, bkey, akey = jax.random.split(key, 3)
        n, mask = now.reward.shape[0], now.info.get("mask")
        fresh = Game(
            jax.random.randint(skey, (n,), 0, 2),
            jnp.zeros(n, jnp.int32),
            jax.random.randint(bkey, (n,), -1, self.depth - 1),
        )
        game = jax.tree.map(partial(jnp.where, now.first), fresh, game)
        player = jax.vmap(actor.rules.env.player)(now.sim.state)
        mine = (player == game.side) & ~actor.estimating
        choose = lambda where, a, b: jnp.where(where[:, None], a, b)  # noqa: E731
        against = choose(mine, pi.logits, actor.rival(now.obs, mask).logits)
        anything = legal(jnp.zeros_like(pi.logits), mask)
        opening = choose(game.turn < game.branch, actor.prior(now.obs, mask).logits, anything)
        alone = choose(game.turn <= game.branch, opening, pi.logits)
        action = Categorical(jnp.where(actor.estimating, alone, against)).sample(akey)
        chosen = game.turn == game.branch + 1
        seen = {"mine": mine, "chosen": chosen, "value": actor.value(now.obs), "player": player}
        return action, game._replace(turn=game.turn + 1), seen

    def search(self, actor: Actor, at: Step, key: Array):
        """PUCT from positions [B, ...], with priors σ: mctx's `PolicyOutput`."""
        judge = lambda at, key: (actor.prior(at.obs, at.info.get("mask")).logits, self.worth(actor, at, key))  # noqa: E731
        return puct(actor.rules.env, at, key, judge, self.simulations, self.exploration)

    def worth(self, actor: Actor, at: Step, key: Array) -> Array:
        """(1 - λ) v(s) + λ z' for whoever is to move at positions [B, ...]; 0 where the game is over."""
        choose = lambda step, key: actor.prior(step.obs, step.info.get("mask")).sample(key)  # noqa: E731
        z = playout(actor.rules.env, at, key, choose)
        return jnp.where(at.terminated, 0.0, (1 - self.mixing) * actor.value(at.obs) + self.mixing * z)

    def policy_loss(self, policy: Policy, steps: Transition, z: Array) -> tuple[Array, Categorical]:
        """-Σ (z - v(s)) log ρ(a | s) over the learner's own moves, by their number; with it ρ at all steps [T, E]."""
        pi = policy(steps.obs, steps.info.get("mask"))
        mine = steps.extras["mine"]
        gain = jnp.where(mine, (z - steps.extras["value"]) * pi.log_prob(steps.action), 0.0)
        return -gain.sum() / jnp.maximum(mine.sum(), 1), pi

    def value_loss(self, value: Value, steps: Transition, z: Array) -> tuple[Array, Array]:
        """Σ (v(s) - z)² over one position of each game, by their number; with it v at all steps [T, E]."""
        v = value(steps.obs)
        chosen = steps.extras["chosen"]
        return jnp.where(chosen, (v - z) ** 2, 0.0).sum() / jnp.maximum(chosen.sum(), 1), v

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One gradient step of v, in the first stage also of ρ, on a rollout [T, E, ...]."""
        steps, fixed = rollout.steps, self.estimating(state)
        seen = steps.extras
        z = results(steps.reward, steps.terminated, steps.truncated, seen["player"], seen["value"])

        (loss, pi), gradient = jax.value_and_grad(self.policy_loss, has_aux=True)(state.policy, steps, z)
        moved_to = descend(self.descents[0], gradient, state.optimisers[0], state.policy)
        policy, popt = jax.tree.map(partial(jnp.where, fixed), (state.policy, state.optimisers[0]), moved_to[:2])
        (value_loss, v), gradient = jax.value_and_grad(self.value_loss, has_aux=True)(state.value, steps, z)
        value, vopt, norms = descend(self.descents[1], gradient, state.optimisers[1], state.value)

        iterations = state.iterations + 1
        due = (iterations % self.pool_period == 0) & ~fixed
        slot = jnp.where(due, iterations // self.pool_period % self.pool, self.pool)  # K is none, and dropped
        pool = jax.tree.map(lambda all, x: all.at[slot].set(x, mode="drop"), state.pool, policy)
        apart = optax.tree.norm(jax.tree.map(lambda all, x: all - x, state.pool, state.policy)) / self.pool**0.5
        mine = jnp.where(seen["mine"], z, 0.0).sum() / jnp.maximum(seen["mine"].sum(), 1)
        metrics = {
            "loss": loss + value_loss,
            "policy_gradient_loss": loss,
            "value_loss": value_loss,
            "explained_variance": explained_variance(v, z),
            "entropy": pi.entropy().mean(),
            "value": v.mean(),
            "result": mine,  # against the pool
            "kl_from_start": pi.kl(state.prior(steps.obs, steps.info.get("mask"))).mean(),
            "pool_distance": apart,  # of parameters
            "policy_step": jnp.where(fixed, 0.0, moved_to[2]["update_norm"]),
            **norms,
        }
        rival = jax.random.randint(key, (), 0, self.pool)
        nets = (policy, state.prior, value, pool, rival, iterations, (popt, vopt))
        return State(*nets, state.clock, state.rules), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "tic_tac_toe": {"steps": 2_000_000, "depth": 8, "num_envs": 128, "rollout_length": 32},
            "connect_four": {"steps": 4_000_000, "torso": Torso(widths=(256, 256)), "learning_rate": 3e-4},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {
            "torso": Torso(widths=(16, 16)),
            "simulations": 4,
            "depth": 6,
            "pool": 3,
            "pool_period": 2,
            "num_envs": 4,
            "rollout_length": 8,
        }
        return {"": (cls(**few), "pgx/tic_tac_toe")}
