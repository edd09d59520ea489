"""Two objectives that pull apart: treasure, and time. One run trains for many weights; a picture shows the front.

python examples/pareto.py             # less than a minute on two cores; writes pareto.png

The treasures are those of deep sea treasure (Vamplew et al. 2011) with the values of Yang et al. (2019), whose front is
convex, so that a weighted sum can find its points. Of a front that is not convex it finds the ends alone.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

import thorndike as td

DEPTHS = (1, 2, 3, 4, 4, 4, 7, 7, 9, 10)  # of the sea floor in each column; on it lies a treasure
VALUES = (0.7, 8.2, 11.5, 14.0, 15.1, 16.1, 19.6, 20.3, 22.4, 23.7)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
WEIGHTS = np.linspace(0.1, 0.9, 17)


class Boat(NamedTuple):
    """Where it is."""

    row: jax.Array
    column: jax.Array


@td.config
class Treasure:
    """A submarine that may take any one treasure; the more it is worth, the deeper it lies and the farther away.

    The terms of the reward are the treasure's value, and -1 for each step.
    """

    max_steps: int = 100

    observation_space = Discrete(11 * 10)
    action_space = Discrete(4)

    def reset(self, key):
        """At the surface, on the left."""
        boat = Boat(jnp.int32(0), jnp.int32(0))
        return td.Step(boat, self.cell(boat), info=self.terms(0.0, 0.0))

    def step(self, state, action, key):
        """A move; the boat stays where the floor or the edge is in its way."""
        down, right = jnp.array(MOVES)[action]
        row, column = state.row + down, state.column + right
        inside = (row >= 0) & (column >= 0) & (column < 10)
        free = inside & (row <= jnp.array(DEPTHS)[jnp.clip(column, 0, 9)])
        boat = Boat(jnp.where(free, row, state.row), jnp.where(free, column, state.column))
        found = boat.row == jnp.array(DEPTHS)[boat.column]
        value = jnp.where(found, jnp.array(VALUES)[boat.column], 0.0)
        return td.Step(boat, self.cell(boat), value - 1.0, found, self.terms(value, -1.0))

    def cell(self, boat):
        """Its number, row by row."""
        return boat.row * 10 + boat.column

    def terms(self, treasure, time):
        """The parts of the reward, by name."""
        return {"terms": {"treasure": jnp.float32(treasure), "time": jnp.float32(time)}}


def best(weight):
    """What the best agent for a weight of the treasure earns: (treasure, time) of the one column that it goes to."""
    earned = [(value, -(column + depth)) for column, (value, depth) in enumerate(zip(VALUES, DEPTHS))]
    return max(earned, key=lambda pair: weight * pair[0] + (1 - weight) * pair[1])


def main(out="pareto.png", steps=40_000):
    """Train, draw and print. Optimism, and the whole step where nothing is left to chance, find all treasures soon."""
    env = td.Weighted(env=Treasure(), weights={"treasure": WEIGHTS, "time": 1 - WEIGHTS})
    agent = td.QLearning(learning_rate=1.0, discount=1.0, initial_value=25.0, num_envs=4)
    run = td.train(agent, env, steps, progress=False)
    front = run.front(("treasure", "time"), out, episodes=1)
    print(front)
    worth = lambda point, weight: np.dot(point, (weight, 1 - weight))  # noqa: E731
    right = sum(np.isclose(worth(p, w), worth(best(w), w)) for p, w in zip(front.points, WEIGHTS))
    print(f"{right} of {len(WEIGHTS)} are the best for their weights")
    return front


if __name__ == "__main__":
    main(*sys.argv[1:2])
