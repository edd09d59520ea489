"""The number that is explained: how much an agent prefers what it does, or what it expects, as a function of what it
sees."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.errors import ConfigError, IncompatibleError, require
from thorndike.ops.distributions import ILLEGAL, Bernoulli, Categorical, MultiCategorical, Normal, TanhNormal
from thorndike.ops.keys import random_key
from thorndike.types import Array, Look, PyTree, Timestep

Of = Literal["action", "value"]
Kind = Literal["value", "q", "choice", "bit", "mean", "action"]
WORDS = {  # of each kind
    "value": "V(s)",
    "q": "Q(s, a) of the chosen action, less the mean of the legal ones",
    "choice": "the logit of the chosen action, less the mean of the legal ones",
    "bit": "the logit of the chosen value of the bit",
    "mean": "the mean of the action's distribution, in network units",
    "action": "the action",
}


class Scene(NamedTuple):
    """What an agent knows at each of N moments, leading axis [N]."""

    obs: PyTree
    mask: Array | None
    first: Array
    carry: PyTree
    choice: Any = ()  # what it does there, an index [N]; held while the observation changes


def now_of(scene: Scene, obs: PyTree) -> Timestep:
    """The timesteps of a scene in which `obs` is seen."""
    n = scene.first.shape[0]
    none, zero = jnp.zeros(n, bool), jnp.zeros(n)
    return Timestep(obs, zero, none, none, obs, scene.first, {} if scene.mask is None else {"mask": scene.mask})


def scene_of(agent: Any, obs: PyTree, mask: Any = None, episode: bool = True) -> Scene:
    """The scene of observations [N, ...].

    Args:
        agent: an `Agent`.
        obs: as its environment shows them.
        mask: legal actions [N, A], where there are such.
        episode: these are the steps of one episode, which an agent with memory remembers; else each begins one.
    """
    obs = jax.tree.map(lambda x: _numbers(np.asarray(x)), obs)
    n = jax.tree.leaves(obs)[0].shape[0]
    first = np.arange(n) == 0 if episode else np.ones(n, bool)
    mask = None if mask is None else jnp.asarray(mask, bool).reshape(n, -1)
    carry = agent.algorithm.carry(agent.actor, n)
    scene = Scene(obs, mask, jnp.asarray(first), carry)
    if episode and jax.tree.leaves(carry):
        start = agent.algorithm.carry(agent.actor, 1)
        scene = scene._replace(carry=_remembered(agent.algorithm, agent.actor, scene._replace(carry=()), start))
    return scene


def _numbers(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype == np.float64 else x


@jax.jit
def _remembered(algorithm: Any, actor: PyTree, scene: Scene, start: PyTree) -> PyTree:
    """The memory before each step of an episode, [N, ...]."""

    def step(carry, row):
        one = jax.tree.map(lambda x: x[None], row)
        return algorithm.look(actor, carry, now_of(one, one.obs), False)[1], carry

    carries = jax.lax.scan(step, start, scene)[1]
    return jax.tree.map(lambda x: x[:, 0], carries)


def kind_of(agent: Any, scene: Scene, of: Of, part: int = 0) -> Kind:
    """What there is to explain of an agent.

    Raises:
        ConfigError: the action has no such part.
        IncompatibleError: the agent knows no such number.
    """
    require(of in ("action", "value"), f"of is action or value, got {of!r}")
    name = type(agent.algorithm).__name__
    if agent.spec.players > 1:
        raise IncompatibleError(f"{name} plays a game by looking ahead in it, which is no function of one observation")
    seen = look(agent.algorithm, agent.actor, scene, scene.obs)
    if of == "value":
        if _nothing(seen.value):
            raise IncompatibleError(f"{name} learns no values: explain its action")
        return "value"
    if _nothing(seen.pi) and _nothing(seen.q):
        if _nothing(seen.value):
            raise IncompatibleError(f"{name} says nothing of what it decides by: there is nothing to explain")
        return _within("action", agent.spec.action, part)
    if not _nothing(seen.q) and (_nothing(seen.pi) or _decided(seen, scene.mask)):
        return "q"
    if isinstance(seen.pi, Categorical):
        return "choice"
    for kinds, kind in (((MultiCategorical,), "choice"), ((Bernoulli,), "bit"), ((Normal, TanhNormal), "mean")):
        if isinstance(seen.pi, kinds):
            return _within(kind, agent.spec.action, part)
    raise IncompatibleError(f"actions of several kinds, {agent.spec.action}, are not explained: explain the value")


def _within(kind: Any, space: Any, part: int) -> Kind:
    parts = int(np.prod(space.shape))
    if not 0 <= part < parts:
        raise ConfigError(f"part is one of the {parts} of an action, from 0, got {part}")
    return kind


def _nothing(x: Any) -> bool:
    return isinstance(x, tuple) and x == ()


def _decided(seen: Look, mask: Array | None) -> bool:
    """Whether the policy is a choice by Q, which leaves some legal action no probability."""
    if not isinstance(seen.pi, Categorical):
        return False
    never = np.asarray(seen.pi.logits) == -np.inf
    return bool((never if mask is None else never & np.asarray(mask)).any())


@jax.jit
def look(algorithm: Any, actor: PyTree, scene: Scene, obs: PyTree) -> Look:
    """What the agent thinks where it sees `obs` in the place of the scene's."""
    return algorithm.look(actor, scene.carry, now_of(scene, obs), False)[0]


@partial(jax.jit, static_argnames=("kind", "part"))
def choose(algorithm: Any, actor: PyTree, scene: Scene, obs: PyTree, kind: Kind, part: int = 0) -> Array:
    """The index of the choice that the agent makes where it sees `obs`, [N]; 0 where it makes none."""
    if kind in ("q", "choice"):
        preference, legal = preferences(look(algorithm, actor, scene, obs), scene.mask, kind, part)
        return jnp.where(legal, preference, -jnp.inf).argmax(-1)
    if kind == "bit":
        return jnp.int32(look(algorithm, actor, scene, obs).pi.logits[:, part] > 0)
    return jnp.zeros(scene.first.shape, jnp.int32)


def score(algorithm: Any, actor: PyTree, scene: Scene, obs: PyTree, kind: Kind, part: int = 0) -> Array:
    """The explained number F [N] where the agent sees `obs`; `WORDS` says what it is.

    A choice a among legal actions A(s) has F = p_a - mean_{b ∈ A(s)} p_b, where p are logits or Q: what all of them
    have in common decides nothing.
    """
    if kind == "action":
        action, *_ = algorithm.act(actor, scene.carry, now_of(scene, obs), random_key(0), False)
        return action.reshape(action.shape[0], -1)[:, part].astype(jnp.float32)
    seen = look(algorithm, actor, scene, obs)
    if kind == "value":
        return seen.value
    if kind == "mean":
        return seen.pi.mean[:, part]
    if kind == "bit":
        return seen.pi.logits[:, part] * (2.0 * scene.choice - 1.0)
    preference, legal = preferences(seen, scene.mask, kind, part)
    chosen = jnp.take_along_axis(preference, scene.choice[:, None], -1)[:, 0]
    return chosen - jnp.where(legal, preference, 0.0).sum(-1) / legal.sum(-1)


def preferences(seen: Look, mask: Array | None, kind: Kind, part: int) -> tuple[Array, Array]:
    """What the agent chooses by, of every action, and which are legal; both [N, A]."""
    if kind == "q":
        return seen.q, jnp.ones_like(seen.q, bool) if mask is None else mask
    logits = seen.pi.logits if isinstance(seen.pi, Categorical) else seen.pi.logits[:, part]
    return logits, logits > ILLEGAL / 2
