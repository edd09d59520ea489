"""Proximal policy optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from gymnasium.spaces import Box

from thorndike.algorithms.policy.ppo_presets import presets
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.nets.actor_critic import Actor, Carry, Core, Params, act, blank, look, networks, values
from thorndike.nets.auxiliary import Told
from thorndike.nets.curiosity import ICM, RND
from thorndike.nets.frozen import Frozen
from thorndike.nets.observations import shown
from thorndike.nets.policy import SPACES
from thorndike.nets.recurrent import LSTM
from thorndike.nets.taught import Auxiliary, check_losses, layers, misfit, taught
from thorndike.nets.torso import Torso, example
from thorndike.ops.consolidation import held, misplaced
from thorndike.ops.losses import Added, explained_variance, standardise
from thorndike.ops.minibatches import passes
from thorndike.ops.noise import StateDependent
from thorndike.ops.optimise import Adam, Optimiser, begin, clip_norm, descend
from thorndike.ops.penalty import KLPenalty, penalised, renewed
from thorndike.ops.returns import gae
from thorndike.ops.rewards import Scaling, scaled, scaling
from thorndike.ops.statistics import counted, normalise_tree, running_tree, update_tree
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
    added: tuple[PyTree, ...] = ()  # what each of the added losses reads


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
    exploration: StateDependent | None = None  # gSDE: noise that is a function of the state; None: of each step anew
    consolidation: NonNegative | None = None  # λ: hold an earlier policy where it matters; None: do not
    curiosity: RND | ICM | None = None  # a bonus for what is new, beside the rewards
    auxiliary: Auxiliary | None = None  # a loss, or several, that teaches a shared torso's features more
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
        clipping = self.penalty is None or self.dual_clip is None
        require(clipping, "dual_clip belongs to clipping: with a penalty leave it out")
        require(
            self.auxiliary is None or self.shared_torso,
            "auxiliary teaches the features that both heads read: it needs shared_torso=True",
        )
        check_losses(self.auxiliary, "PPO.auxiliary")
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
        ours = jax.eval_shape(lambda: self.init(jax.random.key(0), spec).params.policy)  # type: ignore[attr-defined]
        return misplaced(given["anchor"], given["importance"], ours)

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
        if self.exploration is not None and not isinstance(spec.action, Box):
            return f"state-dependent exploration is of Box actions, not of {spec.action}: leave exploration out"
        if isinstance(spec.action, SPACES):
            return misfit(self.auxiliary, spec) or (self.curiosity.supports(spec) if self.curiosity else None)
        return f"PPO does not know how to act in {spec.action}"

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, optimiser, statistics."""
        given, spec = spec, shown(spec, self.normalize_observation)
        key, ckey = jax.random.split(key) if self.curiosity else (key, key)
        params = networks(
            key, spec, self.torso, self.core, self.shared_torso, self.log_std, self.critic_torso, self.exploration
        )
        more = layers(self.auxiliary, jax.random.fold_in(key, 4), params.policy.torso, spec)
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
        """Zeros for every network that remembers, and for state-dependent noise."""
        carry = blank(self.core, self.shared_torso, n)
        if self.exploration is None:
            return carry
        return carry._replace(noise=self.exploration.carry(n, *actor.policy.head.log_std.shape))  # type: ignore[union-attr]

    def look(self, actor: Actor, carry: Carry, now: Timestep, explore: bool) -> tuple[Look, Carry]:
        """π(· | s) and V(s)."""
        return look(actor, carry, now)

    def act(self, actor: Actor, carry: Carry, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its mode."""
        return act(actor, carry, now, key, explore, self.exploration)

    def loss(
        self, params: Params, batch: Minibatch, more: PyTree = (), added: Sequence[Added] = ()
    ) -> tuple[Array, Metrics]:
        """The clipped objective, negated, with the critic's loss and the entropy bonus, and what is added to these.

        `more` are layers that learn from added losses alone.
        """
        carry = jax.tree.map(lambda c: c[0], batch.carry)
        pi, value, _ = params(batch.obs, batch.mask, batch.first, carry)
        log_ratio = pi.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)  # ρ
        advantage = standardise(batch.advantage) if self.normalize_advantage else batch.advantage
        objective = ratio * advantage
        if self.penalty is None:
            objective = jnp.minimum(objective, jnp.clip(ratio, 1 - self.clip, 1 + self.clip) * advantage)
        if self.dual_clip is not None:
            objective = jnp.where(advantage < 0, jnp.maximum(objective, self.dual_clip * advantage), objective)
        policy_loss = -objective.mean()

        error = (value - batch.target) ** 2
        if self.value_clip is not None:
            near = batch.value + jnp.clip(value - batch.value, -self.value_clip, self.value_clip)
            error = jnp.maximum(error, (near - batch.target) ** 2)
        value_loss, entropy = error.mean(), pi.entropy().mean()

        loss = policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
        metrics = {
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": ((ratio - 1) - log_ratio).mean(),  # Schulman's estimator k3
            "clip_fraction": (jnp.abs(ratio - 1) > self.clip).mean(),
        }
        for one, rows in zip(added, batch.added):
            error, said = one.loss(params, more, pi, rows)
            loss, metrics = loss + error, said | metrics
        return loss, metrics | {"loss": loss}

    def learn(
        self, state: State, rollout: Rollout, key: Array, given: dict[str, tuple[Frozen, ...]] | None = None
    ) -> tuple[State, Metrics]:
        """Estimate advantages on the rollout [T, E], then `epochs` passes of minibatch descent over it."""
        steps, rollout = rollout.steps, rollout._replace(carry=rollout.carry._replace(noise=()))
        reward, scaling = scaled(state.scaling, steps, self.discount)
        value, next_value = values(state.params, state.statistics, rollout)
        advantage = gae(reward, value, next_value, steps.terminated, steps.ended, self.discount, self.trace)
        target = advantage + value

        obs, next_obs = (normalise_tree(state.statistics, x) for x in (steps.obs, steps.next_obs))
        mask, first = steps.info.get("mask"), steps.first
        action = state.params.policy.head.actions.from_environment(steps.action)
        curiosity, told = state.curiosity, Metrics()
        if self.curiosity:
            key, ckey = jax.random.split(key)
            curiosity, intrinsic, told = self.curiosity.learn(curiosity, rollout, action, self.trace, ckey)
            advantage += intrinsic

        policy = lambda params: params(obs, mask, first, rollout.carry)[0]  # noqa: E731
        added = (
            *penalised(self.penalty, state.beta, policy, state.params, first.shape),
            *taught(self.auxiliary, Told(obs, action, steps.reward, next_obs)),
            *held(self.consolidation, given),
        )
        carry, rows = jax.tree.map(lambda c: c[None], rollout.carry), tuple(one.rows for one in added)
        data = Minibatch(obs, mask, first, action, steps.extras["log_prob"], value, advantage, target, carry, rows)
        (params, more), optimiser, metrics = self.descend(state, data, key, added)
        beta, moved = renewed(self.penalty, state.beta, policy, state.params, params)

        statistics = update_tree(state.statistics, steps.obs)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        metrics |= {"explained_variance": explained_variance(value, target), "value": value.mean(), **told, **moved}
        return State(params, optimiser, state.clock, statistics, scaling, beta, curiosity, more), metrics

    def descend(
        self, state: State, data: Minibatch, key: Array, added: Sequence[Added] = ()
    ) -> tuple[tuple[Params, Any], Any, Metrics]:
        """Shuffled minibatches of `data` [T, E, ...], `epochs` times over."""
        units = self.num_envs * (1 if self.core else self.rollout_length)  # what is shuffled: sequences, or transitions
        rows = jax.tree.map(lambda x: x.reshape((-1, units, *x.shape[2:])).swapaxes(0, 1), data)

        def minibatch(carry, batch):
            learned, opt_state, going = carry
            batch = jax.tree.map(lambda x: x.swapaxes(0, 1), batch)
            gradients, metrics = jax.grad(self.loss, (0, 2), has_aux=True)(learned[0], batch, learned[1], added)
            policy, critic, more = (clip_norm(part, self.max_grad_norm) for part in (*gradients[0], gradients[1]))
            stepped, stepped_opt, norms = descend(self.descent, (Params(policy, critic), more), opt_state, learned)
            norms |= {"gradient_norm": optax.tree.norm(gradients)}
            if self.target_kl is not None:
                going = going & (metrics["approx_kl"] <= 1.5 * self.target_kl)
                keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(going, n, o), new, old)  # noqa: E731
                stepped, stepped_opt = keep(stepped, learned), keep(stepped_opt, opt_state)
                norms = keep(norms, jax.tree.map(jnp.zeros_like, norms))
            return (stepped, stepped_opt, going), metrics | norms

        start = ((state.params, state.auxiliary), state.optimiser, jnp.bool_(True))
        (learned, opt_state, _), metrics = passes(minibatch, start, rows, self.cut[0], self.epochs, key)
        return learned, opt_state, metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return presets()

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4}
        few |= {"rollout_length": 16, "minibatch_size": 32}
        return {
            "": (cls(**few, critic_torso=Torso(widths=(8,))), "CartPole-v1"),
            "with memory": (cls(**few, core=LSTM(width=8)), "Pendulum-v1"),
        }
