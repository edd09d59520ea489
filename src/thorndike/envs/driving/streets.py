"""Driving through a town: lanes, lights and other cars, to a crossing that differs from episode to episode."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from thorndike.configuration import config, require
from thorndike.domains import Fraction
from thorndike.envs.draw import Canvas
from thorndike.envs.driving.town import HEADING, Town, town
from thorndike.planning.routes import MOVES
from thorndike.types import Array, Step

KEEP, FASTER, SLOWER, STEER_LEFT, STEER_RIGHT = range(5)  # actions
SIDES = 5  # across a street: left lane, signalling back or left or nothing; right lane, signalling nothing or right
TURN = (0, 1, 2, 2, 3)  # the turn that each of these makes at a crossing: BACK, LEFT, STRAIGHT, STRAIGHT, RIGHT
SIDE_AFTER = (2, 2, 2, 3, 3)  # where each is in the next street: who turns left comes into the left lane
TOP = 2  # cells in a step, the highest speed
SIGHT = 4  # cells ahead in which other cars are seen
EARNS = {"arrival": 1.0, "collision": -0.3, "red": -0.1, "close": -0.02, "jerk": -0.003, "time": -0.01}


class Cars(NamedTuple):
    """Where cars are: in the street that leaves `crossing` with `heading`."""

    crossing: Array
    heading: Array
    lane: Array  # 0 left, 1 right
    cell: Array  # cells from its beginning


class Drive(NamedTuple):
    """An episode under way."""

    me: Cars
    side: Array  # one of `SIDES`
    speed: Array  # cells in a step
    others: Cars  # [cars]
    turns: Array  # that they make next [cars]
    goal: Array  # the crossing to get to
    clock: Array  # steps of the lights


@config
class Streets:
    """Drive to a crossing: five actions, a street of two lanes in each direction, lights, and cars that obey them.

    A character of the map is a crossing, `#` none; neighbours are joined by a street of `length` cells. An action is
    0 keep, 1 faster, 2 slower, 3 steer left, 4 steer right. Who steers left of the left lane signals a turn to the
    left or, once more, back; who steers right of the right lane, to the right; at the crossing the car turns so. Where
    there is no such street it turns back. Stopping and yielding are "slower", for as long as it takes, and need no
    actions of their own.

    A step earns the sum of its terms: 1 for arriving; -0.3 for a collision, with a car or, with probability `hit`, on
    red; -0.1 for a red light; -0.02 for being so close to a car that it could not stop; -0.003 for each change of
    speed; -0.01 for the step. Arrival and collisions end an episode. An observation says where the goal is, but
    not the way.

    Starts and goals are drawn from `pairs`: "seen" are seven of ten of all pairs, "unseen" the others.
    """

    map: tuple[str, ...] = ("...#.", ".#...", ".....", "...#.", ".#...")
    pairs: Literal["all", "seen", "unseen"] = "all"
    cars: int = 30
    length: int = 8
    green: int = 8  # steps for which a light is green
    hit: Fraction = 0.3
    max_steps: int = 200

    def check(self) -> None:
        """A town with room for its cars."""
        enough = self.length >= SIGHT and self.green > 0 and self.cars >= 0
        require(enough, f"Streets needs a length of {SIGHT} or more, green above 0 and cars not below 0")
        _ = self.town

    @property
    def town(self) -> Town:
        """The map as arrays."""
        return town(self.map)

    @property
    def render_fps(self) -> int:
        """Steps a second in films."""
        return 8

    @property
    def observation_space(self) -> Box:
        """Side [5], speed, cell, light green, steps until it changes, exits to the left, ahead and right, free cells
        ahead on the signalled way and in the other lane, heading [4], the crossing ahead [2] and the goal [2]."""
        return Box(0.0, 1.0, (22,), np.float32)

    @property
    def action_space(self) -> Discrete:
        """0 keep, 1 faster, 2 slower, 3 steer left, 4 steer right."""
        return Discrete(5)

    def choices(self) -> np.ndarray:
        """Pairs of start and goal, by `pairs` [n, 2]."""
        n = len(self.town.place)
        every = np.array([(a, b) for a in range(n) for b in range(n) if self.town.far[a, b] > 1])
        held = np.random.default_rng(0).permutation(len(every)) < 0.3 * len(every)
        return every[{"all": held | True, "seen": ~held, "unseen": held}[self.pairs]]

    def reset(self, key: Array) -> Step:
        """At the start, standing, in a street of those that leave it; other cars are anywhere."""
        pair, heading, lane, clock, *others = jax.random.split(key, 8)
        start, goal = jax.random.choice(pair, jnp.asarray(self.choices()))
        exits = jnp.asarray(self.town.exits)
        there = lambda key, exits: jax.random.categorical(key, jnp.where(exits >= 0, 0.0, -jnp.inf))  # noqa: E731
        zero = jnp.int32(0)
        right = jax.random.randint(lane, (), 0, 2)
        me = Cars(start, there(heading, exits[start]).astype(jnp.int32), right, zero)
        crossing = jax.random.randint(others[0], (self.cars,), 0, len(exits))
        headings = there(others[1], exits[crossing]).astype(jnp.int32)
        lanes, cells = jax.random.randint(others[2], (2, self.cars), 0, jnp.array([[2], [self.length]]))
        cars = Cars(crossing, headings, lanes, cells)
        # No other car begins in the agent's cell or close before it; two others may begin in one cell.
        near = (crossing == start) & (headings == me.heading) & (cells < 3)
        cars = cars._replace(cell=jnp.where(near, cells + 3, cells))
        turns = self.turns(cars, others[3])
        state = Drive(me, 2 + right, zero, cars, turns, goal, jax.random.randint(clock, (), 0, 2 * self.green))
        return Step(state, self.seen(state))

    def step(self, state: Drive, action: Array, key: Array) -> Step:
        """Other cars move one cell where there is room and the light lets them; then the agent's."""
        tkey, hkey = jax.random.split(key)
        others, turns = self.moved(state, tkey)
        side = jnp.clip(state.side + (action == STEER_RIGHT) - (action == STEER_LEFT), 0, SIDES - 1)
        speed = jnp.clip(state.speed + (action == FASTER) - (action == SLOWER), 0, TOP)
        before = state.me._replace(lane=_lane(side))
        over, after = self.along(before, side, speed)
        beside = self.taken(before, others)  # a car was in the cell that it steered into
        hits = [self.taken(self.along(before, side, k)[1], others) & (k <= speed) for k in range(1, TOP + 1)]
        red = over & ~self.green_for(state.clock, before)
        collided = beside | jnp.stack(hits).any() | (red & jax.random.bernoulli(hkey, self.hit))
        arrived = over & (self.ahead(before) == state.goal) & ~collided
        side = jnp.where(over, jnp.asarray(SIDE_AFTER)[side], side)
        later = Drive(after, side, speed, others, turns, state.goal, state.clock + 1)
        gap = self.gap(later)
        happened = {
            "arrival": arrived, "collision": collided, "red": red, "close": gap < speed - 1,
            "jerk": jnp.abs(speed - state.speed), "time": 1,
        }  # fmt: skip
        terms = {name: earns * jnp.float32(happened[name]) for name, earns in EARNS.items()}
        info = {"success": arrived, "cost": jnp.float32(collided | red), "terms": terms}
        return Step(later, self.seen(later), sum(terms.values()), arrived | collided, info)

    def ahead(self, car: Cars) -> Array:
        """The crossing at the end of a car's street."""
        return jnp.asarray(self.town.exits)[car.crossing, car.heading]

    def green_for(self, clock: Array, car: Cars) -> Array:
        """Whether the light at the end of a car's street is green; crossings are out of step with each other."""
        return (self.phase(clock, car) // self.green) == car.heading % 2

    def phase(self, clock: Array, car: Cars) -> Array:
        """Steps into the two greens of that light."""
        return (clock + 3 * jnp.asarray(self.town.place).sum(1)[self.ahead(car)]) % (2 * self.green)

    def beyond(self, car: Cars, turn: Array, lane: Array) -> Cars:
        """The first cell of the street into which a turn leads; without such a street, of the way back."""
        here, heading = self.ahead(car), (car.heading + jnp.asarray(HEADING)[turn]) % 4
        heading = jnp.where(jnp.asarray(self.town.exits)[here, heading] >= 0, heading, (car.heading + 2) % 4)
        return Cars(here, heading, lane, jnp.zeros_like(car.cell))

    def along(self, car: Cars, side: Array, cells: Array | int) -> tuple[Array, Cars]:
        """Whether so many cells lead over the crossing, and where they lead."""
        far = car.cell + cells
        over = far >= self.length
        new = self.beyond(car, jnp.asarray(TURN)[side], _lane(jnp.asarray(SIDE_AFTER)[side]))
        new = new._replace(cell=far - self.length)
        return over, jax.tree.map(lambda a, b: jnp.where(over, a, b), new, car._replace(cell=far))

    def number(self, car: Cars) -> Array:
        """The number of a car's cell."""
        return ((car.crossing * 4 + car.heading) * 2 + car.lane) * self.length + car.cell

    def taken(self, cell: Cars, cars: Cars) -> Array:
        """Whether one of the cars is in that cell."""
        return (self.number(cell)[..., None] == self.number(cars)).any(-1)

    def turns(self, cars: Cars, key: Array) -> Array:
        """What each car does at the next crossing: from the left lane left or straight on, from the right one right."""
        exits = jnp.asarray(self.town.exits)[self.ahead(cars)]  # [cars, 4]
        there = jnp.take_along_axis(exits, (cars.heading[:, None] + jnp.asarray(HEADING)) % 4, 1) >= 0
        wish = jnp.where(cars.lane[:, None] == 0, jnp.array([1e-6, 1, 1, 1e-3]), jnp.array([1e-6, 1e-3, 1, 1]))
        return jax.random.categorical(key, jnp.where(there, jnp.log(wish), -jnp.inf)).astype(jnp.int32)

    def moved(self, state: Drive, key: Array) -> tuple[Cars, Array]:
        """The other cars one step on, and their next turns."""
        cars, turns = state.others, state.turns
        lane = jnp.where(turns == 3, 1, jnp.where(turns == 2, cars.lane, 0))
        over = cars.cell + 1 == self.length
        new = self.beyond(cars, turns, lane)
        target = jax.tree.map(lambda a, b: jnp.where(over, a, b), new, cars._replace(cell=cars.cell + 1))
        free = ~self.taken(target, cars) & ~self.taken(target, jax.tree.map(lambda x: x[None], state.me))
        goes = free & (~over | self.green_for(state.clock, cars))
        after = jax.tree.map(lambda a, b: jnp.where(goes, a, b), target, cars)
        return after, jnp.where(goes & over, self.turns(after, key), turns)

    def gap(self, state: Drive) -> Array:
        """Free cells ahead on the way that is signalled, at most `SIGHT`."""
        way = [self.taken(self.along(state.me, state.side, k)[1], state.others) for k in range(1, SIGHT + 1)]
        return jnp.argmax(jnp.stack([*way, jnp.bool_(True)]))

    def seen(self, state: Drive) -> Array:
        """The observation [22]."""
        me, town = state.me, self.town
        exits = jnp.asarray(town.exits)[self.ahead(me), (me.heading + jnp.asarray(HEADING[1:])) % 4] >= 0
        other = me._replace(lane=1 - me.lane)
        beside = [self.taken(other._replace(cell=me.cell + k), state.others) for k in range(-1, SIGHT)]
        inside = [(me.cell + k >= 0) & (me.cell + k < self.length) for k in range(-1, SIGHT)]
        beside = [a & b for a, b in zip(beside, inside)]
        beside = [beside[0] | beside[1], *beside[2:]]  # who is right behind may come beside
        place = jnp.asarray(town.place / np.maximum(town.place.max(0), 1))
        phase = self.phase(state.clock, me) % self.green
        numbers = jnp.stack(
            [
                state.speed / TOP, me.cell / self.length, self.green_for(state.clock, me), 1 - phase / self.green,
                *exits, self.gap(state) / SIGHT, jnp.argmax(jnp.stack([*beside, jnp.bool_(True)])) / SIGHT,
            ]
        )  # fmt: skip
        where = [jax.nn.one_hot(me.heading, 4), place[self.ahead(me)], place[state.goal]]
        return jnp.concatenate([jax.nn.one_hot(state.side, SIDES), numbers, *where]).astype(jnp.float32)

    def render(self, state: Drive) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: streets, lights, the goal in green, cars, the agent's in orange."""
        place, rows = self.town.place, len(self.map)
        canvas = Canvas(x=(-0.5, len(self.map[0]) - 0.5), y=(-0.5, rows - 0.5), background="#dcefe2")
        at = lambda c: np.array([place[c, 1], rows - 1.0 - place[c, 0]])  # noqa: E731
        for c, exits in enumerate(self.town.exits):
            for end in exits[exits >= 0]:
                canvas.line(tuple(at(c)), tuple(at(end)), "#c3cad3", 0.26)
        canvas.circle(tuple(at(int(state.goal))), 0.2, "#3f9d5d")

        def spot(crossing: int, heading: int, lane: int, cell: float) -> tuple[float, float]:
            down, right = MOVES[heading]
            forward = np.array([right, -down], float)
            aside = np.array([forward[1], -forward[0]])  # cars keep to the right
            x, y = at(crossing) + forward * (0.15 + 0.7 * (cell + 0.5) / self.length) + aside * (0.035 + 0.06 * lane)
            return float(x), float(y)

        for c, exits in enumerate(self.town.exits):
            for heading in np.flatnonzero(exits >= 0):
                end = Cars(*(jnp.int32(x) for x in (c, heading, 0, 0)))
                colour = "#3f9d5d" if bool(self.green_for(state.clock, end)) else "#b5483a"
                canvas.circle(spot(c, int(heading), 2, self.length), 0.03, colour)
        for car in np.stack(state.others, -1).tolist():
            canvas.circle(spot(*car), 0.035, "#2b3a55")
        canvas.circle(spot(*(int(x) for x in state.me)), 0.05, "#d9822b")
        return canvas.frame()


def _lane(side: Array) -> Array:
    """The lane of a side."""
    return (side > 2).astype(jnp.int32)
