"""`td.importance`: how much each parameter of an agent matters for what it does in an environment."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from thorndike.configuration import require
from thorndike.drivers.scan import member, rollout
from thorndike.envs import make
from thorndike.envs.batched import Batched, is_jax
from thorndike.errors import IncompatibleError
from thorndike.ops.consolidation import fisher
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent
from thorndike.types import PyTree, Timestep, Transition

COPIES = 16  # of the environment


def importance(agent: Any, env: Any, steps: int = 4096, seed: int = 0) -> Agent:
    """The diagonal of the Fisher information of a policy, F = E[(∇ log π(a | s))²], over its own states and actions.

    It is given in the shape of the agent: `td.PPO(consolidation=...)` takes the two together,
    `given={"anchor": agent, "importance": td.importance(agent, env)}`, and learns another task without leaving what
    the first one needs.

    Args:
        agent: a run, whose first agent it is, or an agent, of PPO and what has its networks, without memory.
        env: the JAX environment that it has learned.
        steps: of experience, by the policy as it explores.
        seed: of that.

    Raises:
        IncompatibleError: the agent has no policy with such gradients, or the environment is on the host.
    """
    agent = agent if isinstance(agent, Agent) else agent.agent()
    world, algorithm, name = make(env), member(agent.algorithm, 0), type(agent.algorithm).__name__
    memory = jax.tree.leaves(algorithm.carry(agent.actor, 1))
    if not hasattr(agent.actor, "policy") or memory:
        raise IncompatibleError(f"importance is of the parameters of a policy without memory, which {name} has not")
    if not is_jax(world):
        raise IncompatibleError("importance plays in JAX environments; this one is on the host")
    require(steps >= COPIES, f"steps must be at least {COPIES}, got {steps}")
    policy = _importance(algorithm, agent.actor, Batched(world, COPIES), steps // COPIES, random_key(seed))
    return Agent(agent.algorithm, agent.spec, jax.tree.map(jnp.zeros_like, agent.actor)._replace(policy=policy))


def _importance(algorithm: Any, actor: Any, world: Batched, length: int, key: jax.Array) -> PyTree:
    def log_prob(policy: Any, step: Transition) -> jax.Array:
        seen = jax.tree.map(lambda x: x[None], (step.obs, step.reward, step.terminated, step.truncated))
        obs, *rest = seen
        info = {"mask": step.info["mask"][None]} if "mask" in step.info else {}
        now = Timestep(obs, *rest, obs, step.first[None], info)  # type: ignore[call-arg]
        pi = algorithm.look(actor._replace(policy=policy), algorithm.carry(actor, 1), now, True)[0].pi
        action = policy.head.actions.from_environment(step.action[None])
        return pi.log_prob(action)[0]

    @jax.jit
    def found(actor: Any, world: Batched, key: jax.Array) -> PyTree:
        begin, played = jax.random.split(key)
        carry = algorithm.carry(actor, world.num_envs)
        steps = rollout(algorithm, world, actor, carry, world.reset(begin), played, "explore", length)[0].steps
        flat = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), steps)
        return fisher(log_prob, actor.policy, flat)

    return found(actor, world, key)
