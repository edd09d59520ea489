"""HIRO: a manager that sets goals in the space of observations, and a worker that is paid for reaching them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from thorndike.algorithms.actor_critic.sac import SAC
from thorndike.algorithms.actor_critic.sac import Actor as Level
from thorndike.algorithms.actor_critic.sac import State as LevelState
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, Static
from thorndike.memory.sequences import Sequences
from thorndike.nets.continuous import unsuited
from thorndike.nets.torso import Torso
from thorndike.text import brief
from thorndike.types import Array, Look, Metrics, Rollout, Spec, Timestep, Transition

SMALL: dict[str, Any] = {
    "torso": Torso(widths=(64, 64), activation="relu", init="uniform"), "learning_rate": 1e-3, "discount": 0.95,
    "tau": 0.01,
}  # fmt: skip


class Aim(NamedTuple):
    """What the worker is to reach, and for how long it has been."""

    target: Array  # p, where the observation should be  [E, G]
    steps: Array  # since the start of the rollout       [E]


class Actor(NamedTuple):
    """Both levels."""

    worker: Level
    manager: Level


class State(NamedTuple):
    """Both levels; each has a clock of its own."""

    worker: LevelState
    manager: LevelState


@algorithm(
    name="hiro",
    summary="HIRO: a manager sets goals for a worker, both off policy by SAC, goals relabelled as the worker changes",
    actions="Box with finite bounds",
)
class HIRO:
    """HIRO, data-efficient hierarchical reinforcement learning (Nachum et al. 2018), with SAC on both levels.

    Every c steps the manager sees s and says g, how far the goal part of the observation should move. The worker sees
    s_t and what is left of that, h_t = p - s_t where p = s + g, and is paid for how near it comes, whatever the task:

    worker:  r = -‖p - s_{t+1}‖, and no episode ends for it
    manager: (s, g̃, Σ_{i<k} r_i, s_{t+k}, terminated), one decision of k = c steps, fewer where the episode ended

    What the manager said long ago was carried out by another worker. Its goal is therefore replaced by g̃, the one
    under which the present worker would most likely have done what was done (the off-policy correction):

    g̃ = argmin_g Σ_i ‖a_i - μ(s_i, s + g - s_i)‖²   over g itself, s_{t+k} - s, and `candidates` draws around the latter

    Because p is kept, and not the difference, what is left of a goal is right by construction as the worker moves. The
    discount of the manager is for c steps. Batches are whole rollouts of one environment, from the place where it was
    given a goal; from each the worker learns one random step.
    """

    worker: SAC = SAC(target_entropy=-1.0, **SMALL)  # its replay and numbers of environments are not used
    manager: SAC = SAC(target_entropy=0.8, **SMALL)  # likewise; much entropy, as its actions are what explores
    reach: Static = 3.0  # the greatest |g| in each dimension, in units of the observation
    goal: tuple[int, ...] = ()  # the indices of the observation that goals are about; (): all
    correct: bool = True  # whether goals are relabelled
    candidates: int = 8  # goals that are drawn for it
    random_goals: Fraction = 0.3  # share of goals that are drawn uniformly while exploring
    replay_ratio: Static = 0.125  # updates of both levels for each environment step
    replay: Sequences = Sequences(capacity=200_000, batch_size=128, warmup=2_000)
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 10  # c, steps between two goals, and of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes, and a replay that shows decisions as they were made."""
        sizes = (self.reach, self.candidates, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "HIRO.reach, candidates, replay_ratio, num_envs and rollout_length must be positive")
        plain = self.replay.burn_in == 0 and self.replay.n_step == 1
        require(plain, "HIRO learns from the steps of one goal: leave replay.burn_in at 0 and replay.n_step at 1")
        require(min(self.goal, default=0) >= 0, "HIRO.goal has indices of the observation, from 0")
        fixed = self.worker.exploration is None and self.manager.exploration is None
        require(fixed, "HIRO's levels explore by their entropy: leave out worker.exploration and manager.exploration")

    def supports(self, spec: Spec) -> str | None:
        """Vectors of observations, and what SAC can serve."""
        if not isinstance(spec.observation, Box) or len(spec.observation.shape) != 1:
            seen = brief(spec.observation)
            return f"HIRO's goals are points in the space of observations, vectors of numbers, not {seen}"
        if max(self.goal, default=0) >= spec.observation.shape[0]:
            return f"HIRO.goal = {self.goal} names indices that observations of {spec.observation.shape[0]} lack"
        return unsuited("HIRO", "a squashed Gaussian", spec)

    def specs(self, spec: Spec) -> tuple[Spec, Spec]:
        """What worker and manager see and do."""
        n = spec.observation.shape[0]  # type: ignore[index]
        g = len(self.goal) or n
        seen = Box(-np.inf, np.inf, (n + g,))
        goals = Box(-self.reach, self.reach, (g,))
        return Spec(seen, spec.action, spec.steps), Spec(spec.observation, goals, spec.steps)

    def init(self, key: Array, spec: Spec) -> State:
        """Both levels."""
        wkey, mkey = jax.random.split(key)
        below, above = self.specs(spec)
        return State(self.worker.init(wkey, below), self.manager.init(mkey, above))

    def actor(self, state: State) -> Actor:
        """Both levels' networks."""
        return Actor(self.worker.actor(state.worker), self.manager.actor(state.manager))

    def carry(self, actor: Actor, n: int) -> Aim:
        """At the start of a rollout."""
        return Aim(jnp.zeros((n, actor.manager.policy.actions.dimensions)), jnp.zeros(n, jnp.int32))

    def part(self, obs: Array) -> Array:
        """What of observations [..., D] goals are about, [..., G]."""
        return obs[..., list(self.goal)] if self.goal else obs

    def aimed(self, carry: Aim, now: Timestep, said: Array) -> Aim:
        """The goal of this step: at the start of a rollout or an episode what the manager says, else the last one."""
        given = now.first | (carry.steps == 0)
        target = jnp.where(given[:, None], self.part(now.obs) + said, carry.target)
        return Aim(target, (carry.steps + 1) % self.rollout_length)

    def look(self, actor: Actor, carry: Aim, now: Timestep, explore: bool) -> tuple[Look, Aim]:
        """The worker's π(a | s, h), where a new goal is due under the manager's likeliest one; the manager's value."""
        said, _, _ = self.manager.act(actor.manager, (), now, jax.random.key(0), False)
        target = self.aimed(carry, now, said).target
        seen = now._replace(obs=self.ahead(now.obs, target))
        value = self.manager.look(actor.manager, (), now, explore)[0].value
        return Look(self.worker.look(actor.worker, (), seen, explore)[0].pi, value), carry

    def act(self, actor: Actor, carry: Aim, now: Timestep, key: Array, explore: bool):
        """A new goal where one is due, and the worker's action."""
        mkey, wkey, coin, anywhere = jax.random.split(key, 4)
        said, _, _ = self.manager.act(actor.manager, (), now, mkey, explore)
        if explore:
            random = jax.random.uniform(coin, (said.shape[0], 1)) < self.random_goals
            drawn = jax.random.uniform(anywhere, said.shape, minval=-self.reach, maxval=self.reach)
            said = jnp.where(random, drawn, said)
        aim = self.aimed(carry, now, said)
        seen = now._replace(obs=self.ahead(now.obs, aim.target))
        action, _, _ = self.worker.act(actor.worker, (), seen, wkey, explore)
        return action, aim, {"carry": aim.target}

    def ahead(self, obs: Array, target: Array) -> Array:
        """What the worker sees: observations [..., D], and what is left to the targets [..., G]."""
        return jnp.concatenate([obs, target - self.part(obs)], -1)

    def wage(self, obs: Array, target: Array) -> Array:
        """What the worker is paid for being in `obs`, [...]."""
        return -jnp.linalg.norm(target - self.part(obs), axis=-1)

    def relabelled(self, worker: LevelState, steps: Transition, k: Array, goal: Array, key: Array) -> Array:
        """g̃ [B, G] for windows [T, B] of which k [B] steps count, and what the manager said [B, G]."""
        start = self.part(steps.obs[0])
        goals = self.drawn(self.part(last_of(steps.next_obs, k)) - start, goal, key)
        done = worker.policy.actions.from_environment(steps.action)

        def misfit(goal: Array) -> Array:
            seen = self.ahead(steps.obs, start + goal)
            # the worker's statistics, where it has some, are those that it acts with
            actor = self.worker.actor(worker)
            pi = self.worker.look(actor, (), blank(seen), False)[0].pi
            apart = ((done - pi.mode()) ** 2).sum(-1)
            return jnp.where(jnp.arange(len(apart))[:, None] < k, apart, 0.0).sum(0)

        best = jax.vmap(misfit)(goals).argmin(0)
        return jnp.take_along_axis(goals, best[None, :, None], 0)[0]

    def drawn(self, moved: Array, goal: Array, key: Array) -> Array:
        """The goals to choose from, [candidates + 2, B, G]: the one that was said, how far the observation moved, and
        draws around that, with half of the reach for a standard deviation."""
        noise = 0.5 * self.reach * jax.random.normal(key, (self.candidates, *moved.shape))
        return jnp.clip(jnp.concatenate([goal[None], moved[None], moved + noise]), -self.reach, self.reach)

    def decisions(self, worker: LevelState, batch: Rollout, key: Array) -> Transition:
        """What the manager learns from, [B]."""
        steps, k = batch.steps, lengths(batch.steps)
        goal = batch.carry - self.part(steps.obs[0])
        if self.correct:
            goal = self.relabelled(worker, steps, k, goal, key)
        return Transition(
            steps.obs[0], (), goal, {}, self.earned(steps.reward, k), last_of(steps.terminated, k), (),  # type: ignore[arg-type]
            last_of(steps.next_obs, k), {},
        )  # fmt: skip

    def earned(self, reward: Array, k: Array) -> Array:
        """The sum of the first k [B] rewards [T, B]."""
        return jnp.where(jnp.arange(len(reward))[:, None] < k, reward, 0.0).sum(0)

    def moves(self, batch: Rollout, key: Array) -> Transition:
        """What the worker learns from, [B]: a random step of each window, paid by the distance to the target."""
        steps, target = batch.steps, batch.carry
        i = (jax.random.uniform(key, target.shape[:1]) * lengths(steps)).astype(jnp.int32)
        obs, after, action = (last_of(x, i + 1) for x in (steps.obs, steps.next_obs, steps.action))
        wage = self.wage(after, target)
        never = jnp.zeros_like(wage, bool)
        return Transition(
            self.ahead(obs, target), (), action, {}, wage, never, (), self.ahead(after, target), {}  # type: ignore[arg-type]
        )  # fmt: skip

    def update(self, state: State, batch: Rollout, key: Array) -> tuple[State, Metrics]:
        """A step of both levels."""
        dkey, ckey, mkey, wkey = jax.random.split(key, 4)
        manager, above = self.manager.update(state.manager, self.decisions(state.worker, batch, dkey), mkey)
        worker, below = self.worker.update(state.worker, self.moves(batch, ckey), wkey)
        return State(worker, manager), above | {f"worker_{name}": x for name, x in below.items()}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {"PointMaze": {"steps": 60_000}}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few = {**SMALL, "torso": Torso(widths=(16, 16))}
        few_goals = SAC(**few, target_entropy=0.5, normalize_observation=True)
        sizes: dict[str, Any] = {"num_envs": 4, "rollout_length": 5, "replay_ratio": 0.1}
        replay = Sequences(capacity=400, batch_size=16, warmup=40)
        return {
            "": (cls(worker=few_goals, manager=few_goals, **sizes, replay=replay, goal=(0, 1)), "Pendulum-v1"),
        }


def lengths(steps: Transition) -> Array:
    """How many steps of windows [T, B] are before the first end of an episode, with it, [B]."""
    inside = jnp.cumsum(steps.first[1:], 0) == 0
    return 1 + inside.sum(0)


def last_of(x: Array, k: Array) -> Array:
    """The k-th [B] of [T, B, ...], from 1."""
    return jax.vmap(lambda row, i: row[i], in_axes=(1, 0))(x, k - 1)


def blank(obs: Array) -> Timestep:
    """A step of which nothing is known but the observation [..., D]."""
    zero = jnp.zeros(obs.shape[:-1])
    return Timestep(obs, zero, zero > 0, zero > 0, obs, zero > 0, {})
