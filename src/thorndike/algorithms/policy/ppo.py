"""Proximal policy optimisation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.envs.conformance import difference
from thorndike.nets.actor_critic import Actor, Carry, Core, Params, act, blank, look, networks, values
from thorndike.nets.auxiliary import RewardPrediction, SelfPrediction, Told, below, misfit
from thorndike.nets.curiosity import ICM, RND
from thorndike.nets.frozen import Frozen
from thorndike.nets.observations import shown
from thorndike.nets.policy import SPACES
from thorndike.nets.recurrent import GRU, LSTM
from thorndike.nets.torso import Torso, example
from thorndike.ops.consolidation import anchored, penalty
from thorndike.ops.keys import permutation
from thorndike.ops.losses import explained_variance, standardise
from thorndike.ops.optimise import Adam, Optimiser, begin, clip_norm, descend
from thorndike.ops.penalty import KLPenalty
from thorndike.ops.returns import gae
from thorndike.ops.rewards import Scaling, scaled, scaling
from thorndike.ops.statistics import counted, normalise_tree, running_tree, update_tree
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep


class State(NamedTuple):
    """All that changes."""

    params: Params
    optimiser: Any
    clock: Clock
    statistics: PyTree  # of observations; () where they are not normalised
    scaling: Scaling | tuple[()]  # of rewards; () where they are left as they are
    beta: Any = ()  # weight of the KL penalty; () without one
    curiosity: PyTree = ()  # of intrinsic rewards; () without any
    auxiliary: Any = ()  # the layers of an auxiliary loss; () without one


class Minibatch(NamedTuple):
    """What the loss reads, [T, B, ...]: whole sequences for networks with memory, else T = 1."""

    obs: PyTree
    mask: Array | None
    first: Array
    action: Array
    log_prob: Array
    value: Array
    advantage: Array
    target: Array
    carry: Carry  # before the first step, [1, B, ...]
    old: PyTree = ()  # the distribution before the rollout's first update, where there is a penalty
    beta: Any = ()  # the weight of that, in every row
    told: Any = ()  # what an auxiliary loss reads; () without one


@algorithm(
    name="ppo",
    summary="proximal policy optimisation with GAE; with a core it remembers",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these",
    aliases=("proximal-policy-optimization", "recurrent-ppo"),
)
class PPO:
    """Proximal policy optimisation with a clipped objective (Schulman et al. 2017) and GAE (Schulman et al. 2016).

    L(θ) = E[ min( ρ A, clip(ρ, 1 - ε, 1 + ε) A ) ],   ρ = π_θ(a | s) / π_old(a | s),   plus an entropy bonus;
    the critic regresses A + V_old. Details follow Huang et al., "The 37 Implementation Details of PPO" (2022).
    With a `penalty` it is E[ ρ A - β KL(π_old || π_θ) ] without clipping, and β adapts (equation 8 of the paper).
    With `dual_clip` c > 1 the objective is at least c A where A < 0 (Ye et al. 2020, equation 5).
    With `consolidation` λ the loss has λ ½ Σ F (θ - θ*)² over the policy's parameters (Kirkpatrick et al. 2017), of an
    "anchor" θ* and its "importance" F, which are given; of several, a sum.
    """

    learning_rate: NonNegative = 3e-4  # step size
    discount: Fraction = 0.99  # γ
    trace: Fraction = 0.95  # λ of the advantage estimates
    clip: Positive = 0.2  # ε
    penalty: KLPenalty | None = None  # a penalty on the KL divergence in the place of clipping
    dual_clip: Positive | None = None  # c, above 1: limit of ratios where the advantage is negative; None: no limit
    value_clip: Positive | None = None  # clip the value's change as the ratio is clipped; None: do not
    epochs: int = 10  # passes over a rollout
    minibatch_size: int = 256  # transitions, or about so many: a rollout is cut into equal minibatches
    normalize_advantage: bool = True  # per minibatch
    entropy_coefficient: NonNegative = 0.0  # weight of the entropy bonus
    value_coefficient: NonNegative = 0.5  # weight of the critic's loss
    max_grad_norm: Positive = 0.5  # the gradients of policy and critic are each scaled down to this norm
    target_kl: Positive | None = None  # stop a rollout's updates once the KL divergence passes 1.5 times this
    normalize_observation: bool = True  # floats, by running mean and variance, which are saved with the actor
    normalize_reward: bool = True  # divide by the running standard deviation of the discounted return
    shared_torso: bool = False  # one network below both heads
    log_std: float = 0.0  # initial log standard deviation of continuous actions, in units of half the range
    consolidation: NonNegative | None = None  # λ: hold an earlier policy where it matters; None: do not
    curiosity: RND | ICM | None = None  # a bonus for what is new, beside the rewards
    auxiliary: RewardPrediction | SelfPrediction | None = None  # a loss that teaches a shared torso's features more
    torso: Torso = Torso()  # the network below the heads
    critic_torso: Torso | None = None  # that of the critic, where it has its own; None: as the policy's
    core: Core | None = None  # memory behind the torso; minibatches are then whole rollouts of some environments
    optimiser: Optimiser = Adam(eps=1e-5)
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 128  # steps of each environment between two rounds of learning

    def check(self) -> None:
        """Positive sizes, and minibatches that have something to compare."""
        sizes = (self.num_envs, self.rollout_length, self.epochs, self.minibatch_size)
        require(min(sizes) > 0, "num_envs, rollout_length, epochs and minibatch_size must be positive")
        dropped = [torso for torso in (self.torso, self.critic_torso) if torso and torso.dropout is not None]
        require(not dropped, "PPO does not use Torso.dropout: leave it out")
        require(
            self.critic_torso is None or not self.shared_torso,
            "shared_torso is one network below both heads: leave critic_torso out, or shared_torso",
        )
        low = self.dual_clip is not None and bool((np.asarray(self.dual_clip) <= 1).any())
        require(not low, f"PPO.dual_clip must be above 1, got {self.dual_clip}")
        require(
            self.penalty is None or self.dual_clip is None, "dual_clip belongs to clipping: with a penalty leave it out"
        )
        require(
            self.auxiliary is None or self.shared_torso,
            "auxiliary teaches the features that both heads read: it needs shared_torso=True",
        )
        alone = self.cut[1] * (1 if self.core is None else self.rollout_length) == 1
        require(
            not (alone and self.normalize_advantage),
            "one advantage less the mean of its minibatch is 0: with minibatches of 1 set normalize_advantage to False",
        )
        require(
            self.core is None or self.rollout_length > 1,
            "with a core, rollout_length must be above 1: it is how far learning goes back in time",
        )

    @property
    def takes(self) -> tuple[str, ...]:
        """What it has to be given beside its settings."""
        return () if self.consolidation is None else ("anchor", "importance")

    def accepts(self, given: dict[str, tuple[Frozen, ...]], spec: Spec) -> str | None:
        """None, or one sentence that says why these agents are no anchors."""
        anchors, importance = given["anchor"], given["importance"]
        if len(anchors) != len(importance):
            return f"each anchor has its importance: given are {len(anchors)} and {len(importance)}"
        ours = jax.eval_shape(lambda: self.init(jax.random.key(0), spec).params.policy)  # type: ignore[attr-defined]
        for one in (*anchors, *importance):
            theirs = getattr(one.actor, "policy", ())
            if difference(ours, jax.eval_shape(lambda theirs=theirs: theirs)) is not None:
                return "an anchor has to have the policy's own network: start from it, with the same torso"
        return None

    @property
    def cut(self) -> tuple[int, int]:
        """How many minibatches a rollout is cut into, and how many transitions (with a core, environments) each has.

        They are as near to `minibatch_size` as equal ones can be; what is left over is another part in each epoch.
        """
        whole = self.num_envs if self.core else self.num_envs * self.rollout_length
        wanted = self.minibatch_size / self.rollout_length if self.core else self.minibatch_size
        count = min(max(1, round(whole / wanted)), whole)
        return count, whole // count

    def supports(self, spec: Spec) -> str | None:
        """Discrete, MultiDiscrete, MultiBinary and Box actions, and Dict or Tuple of these."""
        if isinstance(spec.action, SPACES):
            strange = misfit(spec) if self.auxiliary else None
            return strange or (self.curiosity.supports(spec) if self.curiosity else None)
        return f"PPO does not know how to act in {spec.action}"

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, optimiser, statistics."""
        given, spec = spec, shown(spec, self.normalize_observation)
        key, ckey = jax.random.split(key) if self.curiosity else (key, key)
        params = networks(key, spec, self.torso, self.core, self.shared_torso, self.log_std, self.critic_torso)
        more: Any = ()
        if self.auxiliary:
            more = self.auxiliary.build(jax.random.fold_in(key, 4), below(params.policy.torso).features, spec)
        return State(
            params,
            begin(self.descent, (params, more)),  # type: ignore[arg-type]
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            running_tree(example(spec.observation)) if self.normalize_observation else (),
            scaling(self.num_envs) if self.normalize_reward else (),
            jnp.float32(self.penalty.start) if self.penalty else (),
            self.curiosity.init(ckey, given, self.num_envs) if self.curiosity else (),
            more,
        )

    @property
    def descent(self):
        """The optimiser; gradients are clipped before it."""
        return self.optimiser.build(self.learning_rate)

    def actor(self, state: State) -> Actor:
        """Policy and critic with their observation statistics."""
        return Actor(*state.params, state.statistics, state.scaling.scale if state.scaling else jnp.float32(1))

    def carry(self, actor: Actor, n: int) -> Carry:
        """Zeros for every network that remembers."""
        return blank(self.core, self.shared_torso, n)

    def look(self, actor: Actor, carry: Carry, now: Timestep, explore: bool) -> tuple[Look, Carry]:
        """π(· | s) and V(s)."""
        return look(actor, carry, now)

    def act(self, actor: Actor, carry: Carry, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its mode."""
        return act(actor, carry, now, key, explore)

    def loss(self, params: Params, batch: Minibatch) -> tuple[Array, Metrics]:
        """The clipped objective, negated, with the critic's loss and the entropy bonus."""
        carry = jax.tree.map(lambda c: c[0], batch.carry)
        pi, value, _ = params(batch.obs, batch.mask, batch.first, carry)
        log_ratio = pi.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)  # ρ
        advantage = standardise(batch.advantage) if self.normalize_advantage else batch.advantage
        if self.penalty is None:
            clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
            objective = jnp.minimum(ratio * advantage, clipped * advantage)
            if self.dual_clip is not None:
                objective = jnp.where(advantage < 0, jnp.maximum(objective, self.dual_clip * advantage), objective)
        else:
            objective = ratio * advantage - batch.beta * batch.old.kl(pi)
        policy_loss = -objective.mean()

        error = (value - batch.target) ** 2
        if self.value_clip is not None:
            near = batch.value + jnp.clip(value - batch.value, -self.value_clip, self.value_clip)
            error = jnp.maximum(error, (near - batch.target) ** 2)
        value_loss, entropy = error.mean(), pi.entropy().mean()

        loss = policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
        return loss, {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": ((ratio - 1) - log_ratio).mean(),  # Schulman's estimator k3
            "clip_fraction": (jnp.abs(ratio - 1) > self.clip).mean(),
        }

    def learn(
        self, state: State, rollout: Rollout, key: Array, given: dict[str, tuple[Frozen, ...]] | None = None
    ) -> tuple[State, Metrics]:
        """Estimate advantages on the rollout [T, E], then `epochs` passes of minibatch descent over it."""
        steps = rollout.steps
        reward, scaling = scaled(state.scaling, steps, self.discount)
        value, next_value = values(state.params, state.statistics, rollout)
        advantage = gae(reward, value, next_value, steps.terminated, steps.ended, self.discount, self.trace)
        target = advantage + value

        obs, mask, first = normalise_tree(state.statistics, steps.obs), steps.info.get("mask"), steps.first
        action = state.params.policy.head.actions.from_environment(steps.action)
        curiosity, told = state.curiosity, Metrics()
        if self.curiosity:
            key, ckey = jax.random.split(key)
            curiosity, intrinsic, told = self.curiosity.learn(curiosity, rollout, action, self.trace, ckey)
            advantage += intrinsic
        carry = jax.tree.map(lambda c: c[None], rollout.carry)
        data = Minibatch(obs, mask, first, action, steps.extras["log_prob"], value, advantage, target, carry)
        if self.penalty is not None:
            old, _, _ = state.params(obs, mask, first, rollout.carry)
            whole = lambda x: x if x.ndim > 2 else jnp.broadcast_to(x, (*first.shape, *x.shape))  # noqa: E731
            data = data._replace(old=jax.tree.map(whole, old), beta=jnp.broadcast_to(state.beta, first.shape))
        if self.auxiliary:
            next_obs = normalise_tree(state.statistics, steps.next_obs)
            data = data._replace(told=Told(obs, action, steps.reward, next_obs))
        how = {} if given is None else {"given": given}
        (params, more), optimiser, metrics = self.descend(state, data, key, **how)
        beta = state.beta
        if self.penalty is not None:
            kl = old.kl(params(obs, mask, first, rollout.carry)[0]).mean()
            beta = self.penalty.adapted(beta, kl)
            metrics |= {"kl": kl, "penalty": beta}

        statistics = update_tree(state.statistics, steps.obs)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        metrics |= {"explained_variance": explained_variance(value, target), "value": value.mean(), **told}
        return State(params, optimiser, state.clock, statistics, scaling, beta, curiosity, more), metrics

    def whole(self, learned: tuple[Params, Any], batch: Minibatch) -> tuple[Array, Metrics]:
        """The loss with the auxiliary one, where there is one."""
        params, more = learned
        loss, metrics = self.loss(params, batch)
        if self.auxiliary is None:
            return loss, metrics
        error, said = self.auxiliary.loss(more, below(params.policy.torso), batch.told)
        return loss + error, metrics | said

    def descend(
        self, state: State, data: Minibatch, key: Array, given: dict[str, tuple[Frozen, ...]] | None = None
    ) -> tuple[tuple[Params, Any], Any, Metrics]:
        """Shuffled minibatches of `data` [T, E, ...], `epochs` times over."""
        count, each = self.cut
        units = self.num_envs * (1 if self.core else self.rollout_length)  # what is shuffled: sequences, or transitions
        rows = jax.tree.map(lambda x: x.reshape((-1, units, *x.shape[2:])).swapaxes(0, 1), data)
        both = zip(given["anchor"], given["importance"]) if given else ()
        held = [(anchor.actor.policy, importance.actor.policy) for anchor, importance in both]

        def epoch(carry, key):
            order = permutation(key, units)[: count * each].reshape(count, each)
            shuffled = jax.tree.map(lambda x: x[order], rows)
            return jax.lax.scan(minibatch, carry, shuffled)

        def minibatch(carry, batch):
            learned, opt_state, going = carry
            batch = jax.tree.map(lambda x: x.swapaxes(0, 1), batch)
            (gradient, extra), metrics = jax.grad(self.whole, has_aux=True)(learned, batch)
            for anchor, importance in held:
                now = learned[0].policy
                pulled = anchored(gradient.policy, now, anchor, importance, self.consolidation)  # type: ignore[arg-type]
                gradient = gradient._replace(policy=pulled)
                metrics["consolidation"] = metrics.get("consolidation", 0.0) + penalty(now, anchor, importance)
            policy, critic, more = (clip_norm(part, self.max_grad_norm) for part in (*gradient, extra))
            stepped, stepped_opt, norms = descend(self.descent, (Params(policy, critic), more), opt_state, learned)
            norms |= {"gradient_norm": optax.tree.norm((gradient, extra))}
            if self.target_kl is not None:
                going = going & (metrics["approx_kl"] <= 1.5 * self.target_kl)
                keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(going, n, o), new, old)  # noqa: E731
                stepped, stepped_opt = keep(stepped, learned), keep(stepped_opt, opt_state)
                norms = keep(norms, jax.tree.map(jnp.zeros_like, norms))
            return (stepped, stepped_opt, going), metrics | norms

        carry = ((state.params, state.auxiliary), state.optimiser, jnp.bool_(True))
        (learned, opt_state, _), metrics = jax.lax.scan(epoch, carry, jax.random.split(key, self.epochs))
        return learned, opt_state, jax.tree.map(jnp.mean, metrics)

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment. "zoo" is rl-baselines3-zoo's hyperparams."""
        raw = {"normalize_observation": False, "normalize_reward": False}
        remembering = {
            **raw,
            "epochs": 4,
            "num_envs": 16,
            "rollout_length": 64,
            "minibatch_size": 256,
            "learning_rate": Linear(2e-3),
            "trace": 0.98,
            "entropy_coefficient": 0.01,
            "core": GRU(),
        }
        lander = {  # zoo
            **raw, "steps": 1_000_000, "num_envs": 16, "rollout_length": 1024, "minibatch_size": 64, "epochs": 4,
            "discount": 0.999, "trace": 0.98, "entropy_coefficient": 0.01,
        }  # fmt: skip
        return {
            "CartPole-v1": {"steps": 100_000},
            "Acrobot-v1": {"steps": 100_000},
            "MountainCar-v0": {  # rl-baselines3-zoo's; -109 to -125 in four seeds
                "steps": 1_000_000, "num_envs": 16, "rollout_length": 16, "minibatch_size": 64, "epochs": 4,
                "learning_rate": 3e-4, "clip": 0.2, "trace": 0.98,
            },
            "Pendulum-v1": {
                **raw, "steps": 300_000, "num_envs": 8, "rollout_length": 256, "minibatch_size": 128,
                "discount": 0.95, "learning_rate": Linear(1e-3),
            },
            "CartPoleNoVel-v1": {
                "steps": 100_000, "num_envs": 8, "rollout_length": 128, "minibatch_size": 256, "epochs": 10,
                "discount": 0.98, "trace": 0.98, "learning_rate": Linear(1e-3), "core": GRU(),
            },
            "TMaze": {"steps": 200_000, **remembering},
            "RepeatPrevious": {"steps": 300_000, **remembering},
            "LunarLander-v3": lander,
            "LunarLanderContinuous-v3": lander,
            "InvertedPendulum-v5": {
                "steps": 500_000, "num_envs": 8, "rollout_length": 256, "minibatch_size": 64, "epochs": 10,
                "learning_rate": Linear(3e-4),
            },
            "envpool/Pong-v5": {  # Huang et al. 2022, but 128 environments x 32 steps for 8 x 128
                **raw, "steps": 5_000_000, "num_envs": 128, "rollout_length": 32, "minibatch_size": 256, "epochs": 4,
                "learning_rate": Linear(2.5e-4), "clip": 0.1, "entropy_coefficient": 0.01,
                "shared_torso": True, "torso": Torso(widths=(512,)),
            },
            "simple_spread_v3": {  # eight worlds of three agents; the norm is MAPPO's (Yu et al. 2022)
                **raw, "steps": 100_000, "num_envs": 24, "rollout_length": 50, "minibatch_size": 240, "epochs": 8,
                "learning_rate": Linear(1e-3), "max_grad_norm": 10.0,
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {
            "torso": Torso(widths=(16, 16)),
            "num_envs": 4,
            "rollout_length": 16,
            "minibatch_size": 32,
        }
        return {
            "": (cls(**few, critic_torso=Torso(widths=(8,))), "CartPole-v1"),
            "with memory": (cls(**few, core=LSTM(width=8)), "Pendulum-v1"),
        }
