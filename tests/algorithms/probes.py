"""Small environments whose values are known in closed form, for JAX and for the host, and how to read values."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.algorithms import algorithm_class
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.scan import ScanDriver
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.storage.environments import describe
from thorndike.types import Step, Timestep


class Place(NamedTuple):
    kind: Any
    t: Any


@td.config
class Probe:
    """Reward `kind` each step, whatever the action; the observation tells the state.

    All that tells the probes apart are numbers, so that one compiled program serves them all.
    """

    ring: float = 1000.0  # states in the ring; the observation is the time, modulo this
    end: float = 1000.0  # terminated after so many steps
    max_steps: float = 1000.0  # truncated after so many steps
    random_kind: float = 0.0  # 1: an episode pays 0 or 1 at random, and the observation is which
    continuous: bool = False

    @property
    def observation_space(self):
        return Discrete(8)

    @property
    def action_space(self):
        return Box(-1.0, 1.0, (1,)) if self.continuous else Discrete(2)

    def observe(self, place):
        time = jnp.minimum(place.t % self.ring, 7.0)
        return jnp.where(self.random_kind > 0, place.kind, time).astype(jnp.int32)

    def reset(self, key):
        kind = jnp.where(self.random_kind > 0, jax.random.bernoulli(key).astype(jnp.float32), 1.0)
        place = Place(kind, jnp.float32(0))
        return Step(place, self.observe(place))

    def step(self, place, action, key):
        place = place._replace(t=place.t + 1)
        return Step(place, self.observe(place), place.kind, place.t >= self.end)


PROBES = {
    # four states in a ring, reward 1, truncated after 8 steps: V = 1 / (1 - γ) everywhere
    "loop": {"ring": 4.0, "max_steps": 8.0},
    # eight states in a row, reward 1, terminated at the end: V(0) = (1 - γ⁸) / (1 - γ)
    "chain": {"end": 8.0},
    # truncated after 5 steps, episodes of reward 1 and of reward 0: V = 1 / (1 - γ) and 0
    "kinds": {"random_kind": 1.0, "max_steps": 5.0},
    # terminated after 5 steps, the time is observed: V(0) = (1 - γ⁵) / (1 - γ)
    "timed": {"end": 5.0},
}


def probe(which: str, continuous: bool) -> Probe:
    return Probe(**PROBES[which], continuous=continuous)


class HostProbe(gymnasium.Env):
    """The same in NumPy."""

    def __init__(self, which: str, continuous: bool):
        self.like = probe(which, continuous)
        self.observation_space, self.action_space = self.like.observation_space, self.like.action_space

    def _observe(self):
        return self.kind if self.like.random_kind else int(min(self.t % self.like.ring, 7))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.kind = 0, int(self.np_random.integers(2)) if self.like.random_kind else 1
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), float(self.kind), self.t >= self.like.end, self.t >= self.like.max_steps, {}


FAST = {  # a field of this name gets this value: small networks that learn values in seconds
    "learning_rate": 3e-3,
    "torso": td.Torso(widths=(32,), activation="relu", init="uniform"),
    "replay": td.Uniform(capacity=4096, batch_size=64, warmup=512),
    "num_envs": 8,
    "rollout_length": 1,
    "target_period": 1,
    "tau": 0.1,
    "replay_ratio": 1.0,
    "temperature": 0.0,  # of SAC: values of rewards alone
    "normalize_observation": False,
}
OWN = {  # what an algorithm needs instead
    "ppo": {
        "learning_rate": td.Linear(1e-2), "trace": 0.95, "epochs": 4, "minibatch_size": 64,
        "rollout_length": 32, "max_grad_norm": 10.0,
    },
}  # fmt: skip


def small(name: str, discount: float) -> Any:
    """An algorithm with a small network that learns values fast."""
    algorithm = algorithm_class(name)()
    fields = {field.name for field in dataclasses.fields(algorithm)}
    fast = {field: value for field, value in FAST.items() if field in fields}
    return dataclasses.replace(algorithm, **{**fast, **OWN.get(name, {}), "discount": discount})


def train(algorithm: Any, env: Any, iterations: int, seeds: int = 1, compiled: Any = None) -> Any:
    """The final agents' states [R], by the driver alone.

    `compiled`, a dict, keeps what was compiled for algorithms that only numbers tell apart, as they do the probes.
    """
    chunk = algorithm.num_envs * algorithm.rollout_length
    warm = warm_iterations(algorithm)
    spec = describe(env, (iterations + warm) * chunk, "probe")
    algorithm = expand(algorithm, seeds)
    keys = jax.vmap(random_key)(jnp.arange(seeds))
    host = not hasattr(env, "__thorndike_hints__")
    driver = (
        HostDriver(algorithm, env, spec, list(range(seeds)), workers="serial")
        if host
        else ScanDriver(algorithm, env, spec, seeds)
    )
    if compiled is not None:
        names = ("_act", "_learn", "_add") if host else ("_compiled",)
        vars(driver).update(compiled.setdefault((type(algorithm), seeds, host), {n: vars(driver)[n] for n in names}))
    with driver:
        state = driver.init(keys)
        if warm:
            state = driver.advance(state, warm, True)
        return driver.advance(state, iterations).agent


def values(algorithm: Any, agent: Any, states: int) -> np.ndarray:
    """V(s) of every state, [R, S], as the agent itself tells."""
    obs, no = jnp.arange(states), jnp.zeros(states, bool)
    now = Timestep(obs, jnp.zeros(states), no, no, obs, no, {})

    def one(agent):
        actor = algorithm.actor(agent)
        return algorithm.look(actor, algorithm.carry(actor, states), now, False)[0].value

    return np.asarray(jax.vmap(one)(agent))
