"""The probes of `td.check` on the host, and small algorithms that learn their values fast."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp

import thorndike as td
from thorndike.algorithms import algorithm_class
from thorndike.checks.probes import probe
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.scan import ScanDriver
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.storage.environments import describe


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
    "normalize_reward": False,
}
OWN = {  # what an algorithm needs instead
    # the noise of a constant step size is what its maximum takes for value, 50 times over where γ is 0.98: 52, not 50
    "bootstrapped-dqn": {"learning_rate": td.Linear(3e-3), "members": 3},
    "impala": {"learning_rate": td.Linear(1e-2), "rollout_length": 32, "max_grad_norm": 10.0},
    "trpo": {"learning_rate": td.Linear(1e-2), "rollout_length": 32, "critic_epochs": 4, "minibatch_size": 64},
    "a2c": {"learning_rate": td.Linear(1e-2), "trace": 0.95, "rollout_length": 32, "max_grad_norm": 10.0},
    "reinforce": {"learning_rate": td.Linear(1e-2), "rollout_length": 32, "horizon": 8, "max_grad_norm": 10.0},
    "pqn": {
        "learning_rate": td.Linear(1e-2), "epochs": 4, "minibatch_size": 64, "rollout_length": 32,
        "torso": td.Torso(widths=(32,), activation="relu", norm="layer"),
    },
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
        names = ("_act", "_learn", "_add", "_learn_and_add") if host else ("_compiled",)
        vars(driver).update(compiled.setdefault((type(algorithm), seeds, host), {n: vars(driver)[n] for n in names}))
    with driver:
        state = driver.init(keys)
        if warm:
            state = driver.advance(state, warm, True)
        return driver.advance(state, iterations).agent
