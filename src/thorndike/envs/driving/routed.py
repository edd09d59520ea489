"""A planner of routes above a driver: what to do at the next crossing, and how far it still is."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict

from thorndike.configuration import config, require
from thorndike.domains import Fraction, NonNegative
from thorndike.envs.driving.streets import Drive, Streets
from thorndike.envs.driving.town import HEADING
from thorndike.envs.wrappers.base import Wrapped, Wrapper, refuse
from thorndike.types import Array, PyTree, Step


@config
class Routed(Wrapper):
    """`Streets` with a route: beside "obs" there is "route", the next turn (back, left, straight on, right, one of
    them 1) and the distance to the goal along the route, 1 for the farthest two crossings.

    The tables behind it hold the distance between every two crossings, which are those of `planning.routes.a_star`;
    they answer for every crossing, so a car that leaves its route is shown another one at once. With `planner="none"`
    the route is zeros, and the rewards are the same: what a planner is worth is the difference.

    Progress is rewarded by γ Φ(s') - Φ(s), Φ = `progress` · streets behind it, which leaves the best policy as it is
    (Ng et al. 1999); `discount` has to be the algorithm's γ.
    """

    planner: Literal["a_star", "none"] = "a_star"
    progress: NonNegative = 0.2
    discount: Fraction = 0.99

    def check(self) -> None:
        """Around streets."""
        refuse(self)
        require(isinstance(self.env, Streets), f"Routed plans in td.Streets, not in {type(self.env).__name__}")

    @property
    def observation_space(self) -> Space:
        """ "obs", and "route"."""
        return Dict(obs=self.env.observation_space, route=Box(0.0, 1.0, (5,), np.float32))

    @property
    def most(self) -> float:
        """Streets to go at most."""
        return float(self.env.town.far.max()) + 1.0

    def reset(self, key: Array) -> Step:
        """With the first turn."""
        step = self.env.reset(key)
        return step._replace(
            state=Wrapped(step.state, self.potential(step.state)), obs=self.shown(step.obs, step.state)
        )

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The inner step, with the route from where it leads, and what was won of it."""
        step = self.env.step(state.inner, action, key)
        potential = jnp.where(step.terminated, 0.0, self.potential(step.state))
        reward = step.reward + self.discount * potential - state.mine
        later = Wrapped(step.state, potential)
        return step._replace(state=later, obs=self.shown(step.obs, step.state), reward=reward)

    def left(self, state: Drive) -> Array:
        """Streets to go: the rest of this one, and those from its end to the goal."""
        far = jnp.asarray(self.env.town.far)[self.env.ahead(state.me), state.goal]
        return far + 1.0 - state.me.cell / self.env.length

    def potential(self, state: Drive) -> Array:
        """Φ, 0 for the farthest two crossings: not negative, so that neither to stand nor to collide is a gain."""
        return self.progress * (self.most - self.left(state))

    def turn(self, state: Drive) -> Array:
        """The next turn of a shortest route: into the street whose end is nearest to the goal."""
        town, here = self.env.town, self.env.ahead(state.me)
        ends = jnp.asarray(town.exits)[here, (state.me.heading + jnp.asarray(HEADING)) % 4]  # by turn [4]
        far = jnp.where(ends >= 0, jnp.asarray(town.far)[ends, state.goal], jnp.inf)
        return jnp.argmin(far + jnp.array([1e-3, 0.0, 0.0, 0.0]))  # back only where nothing else is as near

    def shown(self, obs: Array, state: Drive) -> dict[str, PyTree]:
        """The observation with the route."""
        route = jnp.concatenate([jax.nn.one_hot(self.turn(state), 4), (self.left(state) / self.most)[None]])
        return {"obs": obs, "route": route * (self.planner == "a_star")}


def routed_streets(planner: Literal["a_star", "none"] = "a_star", **fields: Any) -> Routed:
    """Streets with a route, or with the rewards of one alone; the fields are those of `Streets`."""
    return Routed(env=Streets(**fields), planner=planner)
