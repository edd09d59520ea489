"""MuZero: search in a model that is learned."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Static
from thorndike.memory.trajectories import Windows
from thorndike.nets.latent import Dynamics, Prediction, Representation, halved
from thorndike.nets.torso import Torso
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import legal
from thorndike.ops.keys import random_key
from thorndike.ops.losses import explained_variance
from thorndike.ops.optimise import Adam, Optimiser, begin, descend
from thorndike.ops.returns import searched_returns
from thorndike.ops.twohot import Bins
from thorndike.planning.turns import mctx_package
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition

NOISE, ALPHA = 0.25, 0.3  # the part of Dirichlet noise in the root's prior, and its parameter: PUCT alone has it


class Model(eqx.Module):
    """What is learned: h sees, g goes on, f judges."""

    represent: Representation  # h
    dynamics: Dynamics  # g
    predict: Prediction  # f
    actions: int = eqx.field(static=True)
    sign: int = eqx.field(static=True)  # -1 where two players take turns: what is good for one is bad for the other

    def step(self, z: Array, action: Array) -> tuple[Array, Array]:
        """z' [..., Z] and logits of the reward, of z and actions [...]."""
        return self.dynamics(z, jax.nn.one_hot(action, self.actions))


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    model: Model  # θ
    optimiser: Any
    clock: Clock


class Targets(NamedTuple):
    """What the model should say of a window's first K + 1 steps, [K + 1, B, ...]."""

    policy: Array  # π
    value: Array  # z
    reward: Array  # u
    here: Array  # whether a step is of the episode that the window begins in: there π is known
    known: Array  # the same, or the episode has terminated before: then value and reward are 0


@algorithm(
    name="muzero",
    summary="MuZero: Gumbel or PUCT search in a learned model, for one player or two",
    actions="Discrete; moves of games of two players",
)
class MuZero:
    """MuZero (Schrittwieser et al. 2020) with the search of Gumbel MuZero (Danihelka et al. 2022, "full Gumbel").

    A window of steps is followed in latent space: z⁰ = h(o_t), and u^k, z^k = g(z^{k-1}, a_{t+k-1}), p^k, v^k = f(z^k).

        L(θ) = Σ_{k=0..K} w_k [ CE(π_{t+k}, p^k) + c CE(z_{t+k}, v^k) + CE(u_{t+k-1}, u^k) ],   w_0 = 1, w_k = 1 / K

    π is the improved policy that the search found when the step was made. Values and rewards are distributions over
    bins, and z is a λ-return over the rest of the window, made anew in each update from the values that today's network
    gives to what was seen (of Reanalyse, Schrittwieser et al. 2021, the part without a search). Values that the search
    found when the step was made would be those of the worse players of long ago: with them learning is slow, and fails
    in some seeds. The gradient that g hands back is halved, and latent states are normalised.

    After a terminal step states are absorbing: their reward and value are 0. Of what comes after a truncated step
    nothing is known, and nothing is learned.

    Two players take turns: -γ stands in the place of γ. The rules are not needed to act, so the file of an agent
    searches too.
    """

    players = None  # any number that `supports` allows

    learning_rate: NonNegative = Linear(2e-3, 2e-4)  # step size
    discount: Fraction = 0.997  # γ
    trace: Fraction = 1.0  # λ: 0 for values of the next step, 1 for what was earned in the rest of the window
    simulations: int = 16  # of each search: latent states that it makes
    considered: int = 16  # most actions that a Gumbel search's root looks at
    search: Literal["gumbel", "puct"] = "gumbel"  # "puct": the search of the first MuZero, which learns visit counts
    temperature: NonNegative = 1.0  # in training, of the root's Gumbel noise, or of the visit counts; 0 takes the best
    unroll: int = 5  # K: steps that the model is followed for
    value_coefficient: NonNegative = 0.25  # c
    consistency: NonNegative = 0.0  # weight of ‖z^k - h(o_{t+k})‖² / Z, with no gradient for h
    max_grad_norm: Positive = 5.0  # the gradient is scaled down to this norm
    replay_ratio: Static = 1 / 8  # updates for each step
    replay: Windows = Windows(capacity=100_000, batch_size=128, length=16, warmup=1_000)
    torso: Torso = Torso(widths=(64,), activation="elu")  # the network that sees, below z
    widths: tuple[int, ...] = (64,)  # of the dense layers of g and of f
    latent: int = 32  # Z: numbers in a latent state
    bins: Bins = Bins(low=-20.0, high=20.0, count=41, scale="squashed")  # of values and rewards
    optimiser: Optimiser = Adam()
    num_envs: int = 16  # environments that are stepped side by side
    rollout_length: int = 16  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes, and windows that go on for a step more than the model is followed."""
        sizes = (self.simulations, self.considered, self.unroll, self.replay_ratio, self.latent, *self.widths)
        require(
            min(*sizes, self.num_envs, self.rollout_length) > 0 and len(self.widths) > 0,
            "simulations, considered, unroll, replay_ratio, latent, widths, num_envs and rollout_length must be "
            "positive, and widths at least one",
        )
        require(self.latent > 1, "latent must be 2 or more: a single number, normalised, says nothing")
        require(
            self.replay.length >= self.unroll + 2,
            f"replay.length must be unroll + 2 or more ({self.unroll + 2}), got {self.replay.length}",
        )
        require(self.torso.dropout is None, "MuZero does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions of one player, or of two who take turns in a game without chance."""
        if not isinstance(spec.action, Discrete):
            return f"MuZero searches through a list of actions, and {spec.action} is not one: it needs Discrete ones"
        if spec.players > 2:
            return f"MuZero plays alone or against one other, and this game has {spec.players} players"
        if spec.players == 2 and not getattr(spec.model, "perfect", True):
            return "MuZero plays games without chance, hidden cards or stakes, like pgx/tic_tac_toe"
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """One model; raises `MissingExtraError` where there is nothing to search with."""
        mctx_package()
        hkey, gkey, fkey = jax.random.split(key, 3)
        actions = int(spec.action.n)  # type: ignore[attr-defined]
        activation = self.torso.activation or "relu"
        model = Model(
            Representation(hkey, self.torso, spec.observation, self.latent),
            Dynamics(gkey, self.latent, actions, self.widths, activation, self.bins.count),
            Prediction(fkey, self.latent, actions, self.widths, activation, self.bins.count),
            actions,
            -1 if spec.players == 2 else 1,
        )
        return State(model, begin(self.descent, model), Clock(jnp.int32(0), jnp.int32(spec.steps)))

    @property
    def descent(self):
        """The optimiser on the clipped gradient."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def actor(self, state: State) -> Model:
        """The model is all that acting needs."""
        return state.model

    def carry(self, actor: Model, n: int) -> tuple[()]:
        """No acting memory: each search begins anew."""
        return ()

    def look(self, actor: Model, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """p⁰ and v⁰, before any search."""
        logits, value = actor.predict(actor.represent(now.obs))
        return Look(Categorical(legal(logits, now.info.get("mask"))), self.bins.decode(value)), carry

    def act(self, actor: Model, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """The action that the search chooses, and its improved policy."""
        found = self.found(actor, now.obs, now.info.get("mask"), key, explore)
        return found.action, carry, {"policy": found.action_weights}

    def found(self, actor: Model, obs: PyTree, mask: Array | None, key: Array, explore: bool) -> Any:
        """A search from what is seen [B, ...]: mctx's `PolicyOutput`. Only at its root illegal actions are known.

        Actions not looked at yet are taken to be worth v(z): see `AlphaZero.search`.
        """
        mctx = mctx_package()
        z = actor.represent(obs)
        logits, value = actor.predict(z)
        root = mctx.RootFnOutput(prior_logits=legal(logits, mask), value=self.bins.decode(value), embedding=z)
        invalid = None if mask is None else ~mask
        given = (actor, key if explore else random_key(0), root, self.imagine, self.simulations, invalid)
        level = self.temperature if explore else 0.0
        if self.search == "puct":
            noise = NOISE if explore else 0.0
            return mctx.muzero_policy(*given, dirichlet_fraction=noise, dirichlet_alpha=ALPHA, temperature=level)
        complete = partial(mctx.qtransform_completed_by_mix_value, use_mixed_value=False)
        limits = {"max_num_considered_actions": self.considered, "gumbel_scale": level}
        return mctx.gumbel_muzero_policy(*given, qtransform=complete, **limits)

    def imagine(self, actor: Model, key: Array, action: Array, z: Array):
        """One step further in the search."""
        after, reward = actor.step(z, action)
        logits, value = actor.predict(after)
        step = mctx_package().RecurrentFnOutput(
            reward=self.bins.decode(reward),
            discount=jnp.full(action.shape, actor.sign * self.discount),
            prior_logits=logits,
            value=self.bins.decode(value),
        )
        return step, after

    def experience(self, rollout: Rollout) -> Rollout:
        """What is remembered of a rollout: no successors, which are the next steps' observations."""
        return rollout._replace(steps=rollout.steps._replace(next_obs=(), info={}))

    def targets(self, steps: Transition, value: Array, sign: int) -> Targets:
        """The targets of windows [T, B, ...], where `value` [T, B] is v of what was seen."""
        n = self.unroll + 1
        z = searched_returns(steps.reward, value, steps.terminated, steps.truncated, sign * self.discount, self.trace)
        before = lambda x: jnp.concatenate([jnp.zeros_like(x[:1]), x[: n - 1]])  # noqa: E731
        here = jnp.cumsum(before(steps.ended), 0) == 0
        over = jnp.cumsum(before(steps.terminated & (jnp.cumsum(steps.truncated, 0) == 0)), 0) > 0
        known = here | over
        cut = lambda x: jnp.where(here, x[:n], 0.0)  # noqa: E731
        return Targets(steps.extras["policy"][:n], cut(z), cut(steps.reward), here, known)

    def update(self, state: State, batch: Rollout, key: Array) -> tuple[State, Metrics]:
        """One gradient step on a batch of windows [T, B, ...]."""
        steps = batch.steps
        seen = state.model.represent(steps.obs)
        targets = self.targets(steps, self.bins.decode(state.model.predict(seen)[1]), state.model.sign)

        def loss(model: Model):
            z = model.represent(jax.tree.map(lambda x: x[0], steps.obs))
            total = reward_losses = drifts = jnp.float32(0.0)
            for k in range(self.unroll + 1):
                at = jax.tree.map(lambda x, k=k: x[k], targets)
                logits, value = model.predict(z)
                policy_loss = (at.here * -(at.policy * jax.nn.log_softmax(logits)).sum(-1)).mean()
                value_loss = (at.known * self.bins.loss(value, at.value)).mean()
                weight = 1.0 if k == 0 else 1.0 / self.unroll
                total = total + weight * (policy_loss + self.value_coefficient * value_loss)
                if k == 0:
                    first = {"policy_loss": policy_loss, "value_loss": value_loss}
                    pi, v = Categorical(logits), self.bins.decode(value)
                if k == self.unroll:
                    break
                z, reward = model.step(halved(z), steps.action[k])
                reward_loss = (at.known * self.bins.loss(reward, at.reward)).mean()
                distance = ((z - jax.lax.stop_gradient(seen[k + 1])) ** 2).mean(-1)
                drift = (targets.here[k + 1] * distance).mean()
                total = total + (reward_loss + self.consistency * drift) / self.unroll
                reward_losses, drifts = reward_losses + reward_loss, drifts + drift
            return total, {
                **first,
                "reward_loss": reward_losses / self.unroll,
                "drift": drifts / self.unroll,
                "entropy": pi.entropy().mean(),
                "value": v.mean(),
                "explained_variance": explained_variance(v, targets.value[0]),
            }

        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.model)
        model, optimiser, norms = descend(self.descent, gradient, state.optimiser, state.model)
        return State(model, optimiser, state.clock), {"loss": value, **metrics, **norms}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "CartPole-v1": {"steps": 80_000},
            "tic_tac_toe": {
                "steps": 120_000, "learning_rate": Linear(5e-3, 2e-4), "discount": 1.0, "simulations": 25, "unroll": 4,
                "temperature": 3.0, "replay_ratio": 1 / 16,
                "replay": Windows(capacity=120_000, batch_size=256, length=14, warmup=1_000),
                "torso": Torso(widths=(128,), activation="relu", images="none"), "widths": (128,), "latent": 64,
                "bins": Bins(low=-1.0, high=1.0, count=3, scale="linear"), "num_envs": 64, "rollout_length": 12,
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {
            "torso": Torso(widths=(16,)), "widths": (16,), "latent": 8, "simulations": 4, "considered": 4,
            "num_envs": 4, "rollout_length": 6, "unroll": 2, "replay_ratio": 1 / 12,
            "replay": Windows(capacity=240, batch_size=16, length=5, warmup=24),
        }  # fmt: skip
        bins = Bins(low=-1.0, high=1.0, count=3, scale="linear")
        return {
            "": (cls(**few, consistency=0.5), "CartPole-v1"),
            "game": (cls(**few, bins=bins), "pgx/tic_tac_toe"),
            "puct": (cls(**few, search="puct"), "CartPole-v1"),
        }
