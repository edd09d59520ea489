"""Policy distillation."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from gymnasium.spaces import Dict, Discrete

from thorndike.configuration import algorithm, require
from thorndike.domains import NonNegative, Positive
from thorndike.nets.frozen import Frozen
from thorndike.nets.imitator import Actor, Policy, State, act, blank, look
from thorndike.nets.policy import SPACES, PolicyHead
from thorndike.nets.torso import Torso, example
from thorndike.ops.distributions import ILLEGAL, Bernoulli, Categorical, Joint, MultiCategorical, Normal
from thorndike.ops.minibatches import passes
from thorndike.ops.optimise import Adam, Optimiser, descend
from thorndike.ops.statistics import counted, normalise_tree, update_tree
from thorndike.types import Array, Look, Metrics, PyTree, Rollout, Spec, Timestep

KINDS = (Categorical, MultiCategorical, Bernoulli, Normal, Joint)  # those with a divergence in closed form


@algorithm(
    name="distillation",
    summary="policy distillation: a student learns to act as trained agents do, on its own experience",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these, as its teachers'",
    aliases=("policy-distillation",),
)
class Distillation:
    """Policy distillation (Rusu et al. 2016), on the student's own experience (Czarnecki et al. 2019).

    min_θ E_{s ~ π_θ} KL(π_T(· | s) || π_θ(· | s)),   π_T ∝ π_teacher^(1/τ), or softmax(Q / τ) where there is Q alone

    `direction="reverse"` is KL(π_θ || π_T), which a student too small for its teacher minimises by doing one of the
    things that it does, where the forward divergence asks for all of them. How θ changes the distribution of states is
    left out. Teachers are given, `td.train(..., given={"teacher": run})`: a run, an agent or its file. Of several the
    observation's "task" says whose turn it is, as `td.Tasks` has it, and each sees the part "obs", unless it was
    trained on the whole. Rewards are not read.
    """

    learning_rate: NonNegative = 3e-3  # step size
    temperature: Positive = 1.0  # τ: below 1 the teacher is made surer of itself
    direction: Literal["forward", "reverse"] = "forward"  # of the divergence: from the teacher, or from the student
    epochs: int = 10  # passes over a rollout
    minibatch_size: int = 64  # transitions, or about so many: a rollout is cut into equal minibatches
    max_grad_norm: Positive = 10.0  # the gradient is scaled down to this norm
    normalize_observation: bool = True  # floats, by running mean and variance, which are saved with the actor
    log_std: float = 0.0  # initial log standard deviation of continuous actions, in units of half the range
    torso: Torso = Torso(widths=(16,))  # the student's network below its head
    optimiser: Optimiser = Adam()
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 128  # steps of each environment between two rounds of learning

    takes = ("teacher",)

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.num_envs, self.rollout_length, self.epochs, self.minibatch_size)
        require(min(sizes) > 0, "num_envs, rollout_length, epochs and minibatch_size must be positive")
        require(self.torso.dropout is None, "Distillation does not use Torso.dropout: leave it out")

    @property
    def cut(self) -> tuple[int, int]:
        """How many minibatches a rollout is cut into, and how many transitions each has."""
        whole = self.num_envs * self.rollout_length
        count = min(max(1, round(whole / self.minibatch_size)), whole)
        return count, whole // count

    def supports(self, spec: Spec) -> str | None:
        """Actions that policies have a distribution of."""
        return None if isinstance(spec.action, SPACES) else f"Distillation does not know how to act in {spec.action}"

    def accepts(self, given: dict[str, tuple[Frozen, ...]], spec: Spec) -> str | None:
        """None, or one sentence that says why these teachers cannot teach."""
        teachers, space = given["teacher"], spec.observation
        task = space.spaces.get("task") if isinstance(space, Dict) else None
        if len(teachers) > 1 and not (isinstance(task, Discrete) and int(task.n) == len(teachers)):
            return (
                f"of {len(teachers)} teachers one is chosen by the observation's part 'task', which has to be "
                f"Discrete({len(teachers)}), as td.Tasks has it: it is {task}"
            )
        now = jax.tree.map(lambda x: x[None], nothing(spec))
        kind = type(jax.eval_shape(lambda: PolicyHead(jax.random.key(0), 1, spec.action)(jnp.zeros((1, 1)))))
        for teacher in teachers:
            found = jax.eval_shape(lambda teacher=teacher: taught(teacher, now, 1.0))
            if type(found) is not kind or kind not in KINDS:
                name = type(teacher.algorithm).__name__
                had = "no distribution of actions" if found is None else f"a {type(found).__name__}"
                return f"the student's policy is a {kind.__name__}, and {name} has {had}: take another teacher"
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """The student's network, its optimiser, and statistics."""
        return blank(key, spec, self.torso, self.normalize_observation, self.log_std, self.descent)

    @property
    def descent(self):
        """The optimiser on the clipped gradient."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def actor(self, state: State) -> Actor:
        """The student's policy with its observation statistics."""
        return Actor(state.policy, state.statistics)

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """π(· | s) of the student."""
        return look(actor, carry, now)

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Sample from the student's policy, or take its mode."""
        return act(actor, carry, now, key, explore)

    def divergence(self, teacher: Any, student: Any) -> Array:
        """The divergence between two distributions [...], in the direction that is minimised."""
        return teacher.kl(student) if self.direction == "forward" else student.kl(teacher)

    def learn(
        self, state: State, rollout: Rollout, key: Array, given: dict[str, tuple[Frozen, ...]]
    ) -> tuple[State, Metrics]:
        """Ask the teachers about the rollout [T, E], then `epochs` passes of minibatch descent over it."""
        steps = rollout.steps
        flat = lambda tree: jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), tree)  # noqa: E731
        raw, mask = flat(steps.obs), flat(steps.info.get("mask"))
        target = target_of(given["teacher"], flat(steps), self.temperature)
        obs = normalise_tree(state.statistics, raw)

        def loss(policy: Policy, batch: tuple[PyTree, Array | None, Any]) -> tuple[Array, Metrics]:
            obs, mask, target = batch
            student = policy(obs, mask)
            value = self.divergence(target, student).mean()
            return value, {"loss": value, "entropy": student.entropy().mean()}

        def minibatch(carry, batch):
            gradient, metrics = jax.grad(loss, has_aux=True)(carry[0], batch)
            policy, optimiser, norms = descend(self.descent, gradient, carry[1], carry[0])
            return (policy, optimiser), metrics | norms

        start, rows = (state.policy, state.optimiser), (obs, mask, target)
        (policy, optimiser), metrics = passes(minibatch, start, rows, self.cut[0], self.epochs, key)
        # Of the student that gathered the rollout, without what it has learned from it since.
        metrics |= {"kl": target.kl(state.policy(obs, mask)).mean(), "teacher_entropy": target.entropy().mean()}
        statistics = update_tree(state.statistics, steps.obs)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        return State(policy, optimiser, state.clock, statistics), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {"CartPole-v1": {"steps": 20_000}}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"num_envs": 4, "rollout_length": 16, "minibatch_size": 32, "epochs": 2}
        return {
            "": (cls(**few), "CartPole-v1"),
            "reverse": (cls(**few, direction="reverse", temperature=0.5), "Pendulum-v1"),
        }


def nothing(spec: Spec) -> Timestep:
    """A timestep of zeros, without leading axes."""
    obs, no, zero = example(spec.observation), jnp.bool_(False), jnp.float32(0)
    n = PolicyHead(jax.random.key(0), 1, spec.action).actions.choices
    return Timestep(obs, zero, no, no, obs, no, {"mask": jnp.ones(n, bool)} if spec.masked else {})


def taught(teacher: Frozen, now: Timestep, temperature: Any) -> Any:
    """π_T at timesteps [B, ...], every leaf [B, ...]; None where a teacher has no distribution of actions.

    Of one that has a policy, that; of one that has values alone, softmax(Q / τ).
    """
    seen, mask = teacher.look(now), now.info.get("mask")
    if hasattr(teacher.actor, "policy"):
        return None if seen.pi == () else sharpened(seen.pi, temperature, now.first.shape)
    if isinstance(seen.q, tuple):
        return None
    q = seen.q / temperature
    return Categorical(q if mask is None else jnp.where(mask, q, ILLEGAL))


def sharpened(pi: Any, temperature: Any, lead: tuple[int, ...]) -> Any:
    """π^(1/τ), normalised; of a Gaussian that is one with τ times the variance. Every leaf gets the axes `lead`."""
    if isinstance(pi, Joint):
        return Joint(tuple(sharpened(part, temperature, lead) for part in pi.parts))
    if isinstance(pi, Normal):
        return Normal(pi.mean, jnp.broadcast_to(pi.log_std + 0.5 * jnp.log(temperature), pi.mean.shape))
    if isinstance(pi, (Categorical, MultiCategorical, Bernoulli)):
        return type(pi)(jnp.broadcast_to(pi.logits / temperature, (*lead, *pi.logits.shape[len(lead) :])))
    return pi


def target_of(teachers: tuple[Frozen, ...], steps: Any, temperature: Any) -> Any:
    """π_T at the steps [B, ...], each by the teacher of its task."""
    now = Timestep(
        steps.obs, steps.reward, steps.terminated, steps.truncated, steps.next_obs, steps.first,
        {"mask": steps.info["mask"]} if "mask" in steps.info else {},
    )  # fmt: skip
    each = [taught(teacher, now, temperature) for teacher in teachers]
    if len(each) == 1:
        return each[0]
    turns = [steps.obs["task"] == i for i in range(len(each))]
    whole = lambda turn, x: turn.reshape(turn.shape + (1,) * (x.ndim - 1))  # noqa: E731
    return jax.tree.map(lambda *xs: jnp.select([whole(t, x) for t, x in zip(turns, xs)], xs), *each)
