"""A small environment whose values are known in closed form, however an algorithm estimates them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete

from thorndike.configuration import config
from thorndike.types import Array, PyTree, Step, Timestep


class Place(NamedTuple):
    """What an episode pays for each step, and its time."""

    kind: Array
    t: Array


@config
class Probe:
    """Reward `kind` for each step, whatever the action; the observation is one of eight states.

    All that tells the probes apart are numbers, so that one compiled program serves them all.
    """

    ring: float = 1000.0  # the observation is the time, modulo this, at most 7
    end: float = 1000.0  # terminated after so many steps
    max_steps: float = 1000.0  # truncated after so many steps
    random_kind: float = 0.0  # 1: an episode pays 0 or 1 at random, and the observation is which
    continuous: bool = False  # actions are a Box, not Discrete

    @property
    def observation_space(self) -> Space:
        """Eight states."""
        return Discrete(8)

    @property
    def action_space(self) -> Space:
        """Two actions, or one number."""
        return Box(-1.0, 1.0, (1,)) if self.continuous else Discrete(2)

    def reset(self, key: Array) -> Step:
        """The beginning of an episode."""
        kind = jnp.where(self.random_kind > 0, jax.random.bernoulli(key).astype(jnp.float32), 1.0)
        place = Place(kind, jnp.float32(0))
        return Step(place, self._observe(place))

    def step(self, place: Place, action: Array, key: Array) -> Step:
        """One step on."""
        place = place._replace(t=place.t + 1)
        return Step(place, self._observe(place), place.kind, place.t >= self.end)

    def _observe(self, place: Place) -> Array:
        time = jnp.minimum(place.t % self.ring, 7.0)
        return jnp.where(self.random_kind > 0, place.kind, time).astype(jnp.int32)


class Known(NamedTuple):
    """A probe, the discount to learn it with, and V(s) of some of its states."""

    fields: dict[str, float]
    discount: float
    values: dict[int, float]
    tolerance: float


PROBES = {
    # four states in a ring, reward 1, truncated after 8 steps: V = 1 / (1 - γ) everywhere
    "loop": Known({"ring": 4.0, "max_steps": 8.0}, 0.98, {0: 50.0}, 1.0),
    # eight states in a row, reward 1, terminated at the end: V(0) = (1 - γ⁸) / (1 - γ)
    "chain": Known({"end": 8.0}, 0.98, {0: (1 - 0.98**8) / 0.02, 7: 1.0}, 0.2),
    # truncated after 5 steps, episodes of reward 1 and of reward 0: V = 1 / (1 - γ) and 0
    "kinds": Known({"random_kind": 1.0, "max_steps": 5.0}, 0.9, {0: 0.0, 1: 10.0}, 0.2),
    # terminated after 5 steps, the time is observed: V(0) = (1 - γ⁵) / (1 - γ)
    "timed": Known({"end": 5.0}, 0.9, {0: (1 - 0.9**5) / 0.1, 4: 1.0}, 0.1),
}


def probe(which: str, continuous: bool) -> Probe:
    """The probe of that name."""
    return Probe(**PROBES[which].fields, continuous=continuous)  # type: ignore[arg-type]


def values(algorithm: Any, agents: PyTree, states: int = 8) -> np.ndarray:
    """V(s) of every state, [R, S], as agents with states [R, ...] themselves say."""
    obs, no = jnp.arange(states), jnp.zeros(states, bool)
    now = Timestep(obs, jnp.zeros(states), no, no, obs, no, {})

    def one(agent: PyTree) -> Array:
        actor = algorithm.actor(agent)
        return algorithm.look(actor, algorithm.carry(actor, states), now, False)[0].value

    return np.asarray(jax.vmap(one)(agents))
