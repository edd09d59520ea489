"""MBPO: soft actor-critic that learns from short imagined rollouts of learned models."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thorndike.algorithms.actor_critic.sac import SAC
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Share, Static
from thorndike.memory.replay import Uniform
from thorndike.nets import dynamics as models
from thorndike.nets.dynamics import Dynamics, unmodelled
from thorndike.nets.ensemble import Gaussians
from thorndike.nets.policy import Actions
from thorndike.nets.torso import Torso
from thorndike.types import Array, Look, Metrics, PyTree, Spec, Timestep, Transition

WIDE = Torso(widths=(256, 256), activation="relu", init="uniform")


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    agent: Any  # SAC's state
    dynamics: Dynamics
    optimiser: Any  # of the models
    updates: Array
    actions: Actions


@algorithm(
    name="mbpo",
    summary="SAC on short rollouts imagined by an ensemble of learned models: a tenth of SAC's environment steps",
    actions="Box with finite bounds (and observations that are a vector of floats)",
    aliases=("model-based-policy-optimisation",),
)
class MBPO:
    """Model-based policy optimisation (Janner et al. 2019, algorithm 2).

    Each update draws a batch of what happened. The models take one step on it. From its states the policy then acts for
    `horizon` steps in the models, and SAC takes one step on a batch of which a share `real` happened and the rest was
    imagined. Nothing imagined is kept: it is always of the present models and the present policy.

    A row is followed by one member, drawn by chance, and not beyond a step that the member thinks to be the last.
    Models err more with every step, so `horizon` is short. The paper lets it grow as the models learn: with
    `horizon` 15, `reach=td.Linear(1 / 15, 1.0)` goes from 1 step to 15 over the run.

    With ten updates for each step, critics make too much of what was never tried, and the policy goes there. Layer
    normalisation bounds that (Ball et al. 2023), so the critics have it: without it a seed in four did not learn
    Pendulum. A `q_value` that grows without bound says that `horizon` is too long, or that there are too many updates
    for each step.
    """

    online = True  # `act` draws which members learn from a step: no dataset says it

    agent: SAC = SAC(
        torso=WIDE, critic_torso=dataclasses.replace(WIDE, norm="layer")
    )  # what acts and learns; of its fields, those of replay, num_envs and rollout_length are MBPO's
    model: Gaussians = Gaussians()  # the ensemble
    learning_rate: NonNegative = 1e-3  # step size of the models
    horizon: int = 3  # k, imagined steps from each state
    reach: Share = 1.0  # of these steps that is used, rounded, and one at least; a schedule lets them grow
    real: Fraction = 0.05  # share of what happened in SAC's batches
    pretrain: int = 500  # updates of the models alone at first
    replay_ratio: Static = 10.0  # updates for each environment step
    replay: Uniform = Uniform(capacity=100_000, batch_size=256, warmup=500)  # the memory of transitions
    num_envs: int = 1  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes, and single steps in the memory."""
        sizes = (self.horizon, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "horizon, replay_ratio, num_envs and rollout_length must be positive")
        require(self.pretrain >= 0, f"pretrain is a number of updates, got {self.pretrain}")
        require(self.replay.n_step == 1, "MBPO models single steps: leave replay.n_step at 1")
        enough = self.replay.batch_size >= self.model.predicting
        require(enough, f"a batch has to have a row for each of the {self.model.predicting} models that predict")

    def supports(self, spec: Spec) -> str | None:
        """What SAC serves, where observations are vectors of floats."""
        problem = self.agent.supports(spec)
        return problem.replace(type(self.agent).__name__, "MBPO", 1) if problem else unmodelled("MBPO", spec)

    def init(self, key: Array, spec: Spec) -> State:
        """SAC's state, and models that know nothing yet."""
        akey, mkey = jax.random.split(key)
        agent, made = self.agent.init(akey, spec), models.create(self.model, mkey, spec, self.learning_rate)
        return State(agent, *made, jnp.int32(0), Actions.of(spec.action))

    def adopted(self, state: State) -> State:
        """A state whose parts came from elsewhere: SAC's targets follow."""
        return state._replace(agent=self.agent.adopted(state.agent))

    def actor(self, state: State) -> PyTree:
        """SAC's: the models do not act."""
        return self.agent.actor(state.agent)

    def carry(self, actor: PyTree, n: int) -> PyTree:
        """SAC's."""
        return self.agent.carry(actor, n)

    def look(self, actor: PyTree, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """SAC's."""
        return self.agent.look(actor, carry, now, explore)

    def act(self, actor: PyTree, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """SAC's action, and which members will learn from what follows."""
        akey, mkey = jax.random.split(key)
        action, carry, extras = self.agent.act(actor, carry, now, akey, explore)
        return action, carry, {**extras, "members": self.model.masks(mkey, now.reward.shape[0])}

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """The models learn from a batch, and, after the first `pretrain` updates, SAC from what they make of it."""
        ikey, dkey, akey = jax.random.split(key, 3)
        action = state.actions.from_environment(batch.action)
        dynamics, optimiser, told = models.learn(state.dynamics, state.optimiser, batch, action, self.learning_rate)
        state = state._replace(dynamics=dynamics, optimiser=optimiser, updates=state.updates + 1)
        rows = self.mixed(batch, *self.imagined(state, batch.obs, ikey), dkey)
        agent, metrics = self.agent.update(state.agent, rows, akey)
        ready = state.updates > self.pretrain
        agent = jax.tree.map(lambda new, old: jnp.where(ready, new, old), agent, state.agent)
        norms = {f"model_{name}": told.pop(name) for name in ("gradient_norm", "update_norm")}
        return state._replace(agent=agent), {**metrics, **told, **norms}

    def imagined(self, state: State, obs: Array, key: Array) -> tuple[Transition, Array]:
        """Rows [horizon · B'] that the policy sees in the models from states [B, N], and which of them may be used.

        Each of the members that predict goes on from an equal part of the states; B' is B without what is left over.
        """
        members = self.model.predicting
        rows = obs.shape[0] // members * members
        best, actor, no = state.dynamics.best(members), self.agent.actor(state.agent), jnp.zeros(rows, bool)
        parted = lambda x: x.reshape(members, -1, x.shape[-1])  # noqa: E731

        def step(carry: tuple[Array, PyTree, Array, Array], x: tuple[Array, Array]):
            (obs, memory, first, alive), (key, used) = carry, x
            akey, nkey, ekey = jax.random.split(key, 3)
            now = Timestep(obs, jnp.zeros(rows), no, no, obs, first, {})
            action, memory, _ = self.agent.act(actor, memory, now, akey, True)
            noise = jax.random.normal(nkey, (rows, obs.shape[-1] + 1))
            found = best.step(*map(parted, (obs, state.actions.from_environment(action), noise)))
            end = jax.random.uniform(ekey, (rows,)) < found.end.ravel()
            after = found.obs.reshape(rows, -1)
            done = Transition(obs, (), action, {}, found.reward.ravel(), end, (), after, {})  # type: ignore[arg-type]
            return (after, memory, no, alive & ~end), (done, alive & used)

        start = obs[:rows], self.agent.carry(actor, rows), ~no, ~no
        steps = jnp.arange(self.horizon)
        used = (steps == 0) | (steps + 0.5 < self.reach * self.horizon)
        _, seen = jax.lax.scan(step, start, (jax.random.split(key, self.horizon), used))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)

    def mixed(self, batch: Transition, imagined: Transition, usable: Array, key: Array) -> Transition:
        """A batch [B] of real rows, each with probability `real`, and of usable imagined ones."""
        rkey, ikey = jax.random.split(key)
        n = batch.reward.shape[0]
        real = jax.random.uniform(rkey, (n,)) < self.real
        count = jnp.cumsum(usable)
        index = jnp.searchsorted(count, jax.random.randint(ikey, (n,), 0, count[-1]), side="right")
        plain = batch._replace(extras={}, info={})
        pick = lambda a, b: jnp.where(real.reshape(-1, *(1,) * (a.ndim - 1)), a, b[index])  # noqa: E731
        return jax.tree.map(pick, plain, imagined)

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        torso = Torso(activation="relu", init="uniform")
        return {
            "Pendulum-v1": {
                "steps": 2_000,
                "agent": SAC(learning_rate=1e-3, torso=torso, critic_torso=dataclasses.replace(torso, norm="layer")),
                "replay": Uniform(capacity=20_000, batch_size=256, warmup=500),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        return {
            "": (
                cls(
                    agent=SAC(torso=Torso(widths=(16, 16)), normalize_observation=True),
                    model=Gaussians(members=3, widths=(16,), keep=0.7, elites=2),
                    horizon=3, reach=0.7, real=0.4, pretrain=2, replay_ratio=1.0, num_envs=4,
                    replay=Uniform(capacity=200, batch_size=16, warmup=32),
                ),
                "Pendulum-v1",
            ),
        }  # fmt: skip
