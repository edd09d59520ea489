"""Streets and the route above them: distances against SciPy and A*, what steps earn, and the named bugs."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

import thorndike as td
from thorndike.configuration import check
from thorndike.envs.driving import streets
from thorndike.envs.driving.streets import FASTER, KEEP, SLOWER, STEER_RIGHT, Cars, Drive
from thorndike.envs.driving.town import HEADING, STRAIGHT, town
from thorndike.planning.routes import MOVES, a_star

EMPTY = td.Streets(cars=0, hit=0.0)
TOWN = EMPTY.town
FAR = td.Streets(cars=1)
STEP = jax.jit(FAR.step)


def test_distances_are_scipys_and_those_of_a_star():
    graph = np.zeros((len(TOWN.place),) * 2)
    for c, exits in enumerate(TOWN.exits):
        graph[c, exits[exits >= 0]] = 1
    np.testing.assert_array_equal(TOWN.far, dijkstra(csr_matrix(graph)))
    grid = np.array([[np.inf if char == "#" else 1.0 for char in row] for row in EMPTY.map])
    place = [tuple(map(int, cell)) for cell in TOWN.place]
    for a in range(len(place)):
        for b in range(len(place)):
            assert a_star(grid, place[a], place[b]).cost == TOWN.far[a, b]
    for heading, (down, right) in enumerate(MOVES):  # left of up is left: turns and headings fit
        left = MOVES[(heading + HEADING[1]) % 4]
        assert (left[0], left[1]) == (-right, down)


def shown(routed, state, start, last):
    return routed.turn(state)


def never_replanned(routed, state, start, last):
    """The turns of the route from the start; away from it, straight on."""
    far, here = jnp.asarray(TOWN.far), routed.env.ahead(state.me)
    on = far[start, here] + far[here, state.goal] == far[start, state.goal]
    return jnp.where(on, routed.turn(state), STRAIGHT)


def a_crossing_late(routed, state, start, last):
    return last


def for_another_goal(routed, state, start, last):
    return routed.turn(state._replace(goal=(state.goal + 1) % len(TOWN.place)))


def arrive(turn_of):
    """The share of cars that get to their goal in as few streets as there are, after three turns by chance: from each
    start, by each heading, to each goal."""
    routed, n = td.Routed(env=EMPTY), len(TOWN.place)
    starts = [(c, h, g) for c in range(n) for h in range(4) for g in range(n) if TOWN.exits[c, h] >= 0 and g != c]
    blank = EMPTY.reset(jax.random.key(0)).state

    def onwards(state, turn):
        me = EMPTY.along(state.me, jnp.array([0, 1, 2, 4])[turn], EMPTY.length)[1]
        there = EMPTY.ahead(state.me) == state.goal
        return jax.tree.map(lambda a, b: jnp.where(there, a, b), state, state._replace(me=me)), there

    def drive(start, heading, goal, turns):
        state = blank._replace(me=Cars(start, heading, jnp.int32(0), jnp.int32(0)), goal=goal)
        first, last = EMPTY.ahead(state.me), routed.turn(state)
        for turn in turns:
            state, _ = onwards(state, turn)
        best = jnp.asarray(TOWN.far)[EMPTY.ahead(state.me), goal]

        def street(carry, _):
            state, last, count = carry
            later, there = onwards(state, turn_of(routed, state, first, last))
            return (later, routed.turn(state), count + ~there), None

        (state, _, count), _ = jax.lax.scan(street, (state, last, jnp.int32(0)), None, 25)
        return (EMPTY.ahead(state.me) == goal) & (count == best)

    turns = jax.random.randint(jax.random.key(1), (len(starts), 3), 0, 4)
    return float(jax.jit(jax.vmap(drive))(*(jnp.asarray(x, jnp.int32) for x in zip(*starts)), turns).mean())


def test_who_follows_the_turns_arrives_by_the_shortest_way():
    assert arrive(shown) == 1.0
    for mutant in (never_replanned, a_crossing_late, for_another_goal):
        assert arrive(mutant) < 0.8, mutant


def test_progress_leaves_the_best_policy():
    """Whatever is done, the discounted return differs by Φ of the start; the mutant without γ fails."""
    routed = td.Routed(env=td.Streets(map=("..", ".."), cars=4, length=4), discount=0.9)

    @jax.jit
    def differ(key, discount):
        world = dataclasses.replace(routed, discount=discount)
        first = world.reset(key)

        def step(carry, inputs):
            state, alive, total, factor = carry
            action, key = inputs
            both = world.step(state, action, key), routed.env.step(state.inner, action, key)
            total += alive * factor * (both[0].reward - both[1].reward)
            return (both[0].state, alive & ~both[0].terminated, total, factor * 0.9), None

        actions = jax.random.categorical(key, jnp.array([0.0, 2.0, 0.0, 1.0, 0.0]), shape=(100,))
        begin = (first.state, jnp.bool_(True), jnp.float32(0), jnp.float32(1))
        carry, _ = jax.lax.scan(step, begin, (actions, jax.random.split(key, 100)))
        return carry[2] + routed.potential(first.state.inner), carry[1]

    found, alive = jax.vmap(differ, (0, None))(jax.random.split(jax.random.key(2), 30), jnp.float32(0.9))
    assert (~alive).sum() > 10
    np.testing.assert_allclose(found[~alive], 0.0, atol=1e-5)
    wrong, _ = jax.vmap(differ, (0, None))(jax.random.split(jax.random.key(2), 30), jnp.float32(1.0))
    assert np.abs(np.asarray(wrong[~alive])).max() > 0.01


def placed(cell=0, side=2, speed=0, other=(5, 0), clock=0, goal=0, turn=STRAIGHT):
    """The agent in the street from crossing 0 to the right, and another car in it, in that cell and lane."""
    me = Cars(*(jnp.int32(x) for x in (0, 1, side > 2, cell)))
    others = Cars(*(jnp.full(1, x, jnp.int32) for x in (0, 1, other[1], other[0])))
    side, speed, goal, clock = (jnp.int32(x) for x in (side, speed, goal, clock))
    return Drive(me, side, speed, others, jnp.full(1, turn, jnp.int32), goal, clock)


def test_what_a_step_does():
    """By hand: speeds, lanes, and the car ahead, which moves first."""
    key = jax.random.key(0)
    found = STEP(placed(speed=1), FASTER, key)
    assert (int(found.state.me.cell), int(found.state.speed), int(found.state.others.cell[0])) == (2, 2, 6)
    assert float(found.info["terms"]["jerk"]) == pytest.approx(-0.003)
    assert int(STEP(placed(speed=2), FASTER, key).state.me.cell) == 2
    assert int(STEP(placed(speed=2), SLOWER, key).state.me.cell) == 1
    # Into a car that moves from cell 1 to 2: with two cells; not in the other lane, but by steering into it.
    assert bool(STEP(placed(other=(1, 0), speed=2), KEEP, key).terminated)
    assert float(STEP(placed(other=(1, 0), speed=2), KEEP, key).info["terms"]["collision"]) == pytest.approx(-0.3)
    assert not bool(STEP(placed(other=(1, 0), speed=1), KEEP, key).terminated)
    assert not bool(STEP(placed(other=(1, 1), speed=2), KEEP, key).terminated)
    assert bool(STEP(placed(other=(1, 1), speed=2), STEER_RIGHT, key).terminated)
    # A car behind waits for the agent, and one that stands at a red light is run into.
    assert int(STEP(placed(cell=3, other=(2, 0)), KEEP, key).state.others.cell[0]) == 2
    red = next(c for c in range(16) if not bool(FAR.green_for(jnp.int32(c), placed().me)))
    assert int(STEP(placed(other=(7, 0), clock=red), KEEP, key).state.others.cell[0]) == 7
    assert bool(STEP(placed(cell=6, other=(7, 0), speed=1, clock=red), KEEP, key).terminated)
    # "close": at speed 2 with nothing between.
    assert float(STEP(placed(other=(2, 0), speed=2), KEEP, key).info["terms"]["close"]) == pytest.approx(-0.02)


def test_turns_and_lights():
    """In the middle of the map by each side: where the car comes out, and what red costs."""
    c = int(np.flatnonzero((TOWN.place == (2, 1)).all(1))[0])
    me = Cars(jnp.int32(c), jnp.int32(1), jnp.int32(0), jnp.int32(7))
    ahead = int(TOWN.exits[c, 1])
    for side, heading, lane in ((0, 3, 0), (1, 0, 0), (2, 1, 0), (3, 1, 1), (4, 2, 1)):
        state = placed()._replace(me=me._replace(lane=jnp.int32(side > 2)), side=jnp.int32(side), speed=jnp.int32(1))
        for clock in range(16):
            found = STEP(state._replace(clock=jnp.int32(clock)), KEEP, jax.random.key(clock))
            after = found.state.me
            assert [int(x) for x in after] == [ahead, heading, lane, 0]
            green = bool(FAR.green_for(jnp.int32(clock), me))
            assert float(found.info["terms"]["red"]) == pytest.approx(0.0 if green else -0.1)
            assert float(found.info["cost"]) == float(not green)
            if green:
                arrived = STEP(state._replace(clock=jnp.int32(clock), goal=jnp.int32(ahead)), KEEP, jax.random.key(0))
                assert bool(arrived.info["success"])
                assert bool(arrived.terminated)
                assert not bool(found.terminated)
    assert np.mean([bool(FAR.green_for(jnp.int32(t), me)) for t in range(16)]) == 0.5


def check_what_is_seen():
    """By hand, on the first two streets of the upper row, whose map is `...#.` above `.#...`."""
    seen, goal = jax.jit(lambda state: FAR.seen(state)), int(np.flatnonzero((TOWN.place == (4, 2)).all(1))[0])
    where = [0, 1, 0, 0, 0, 0.25, 1, 0.5]  # to the right, to the crossing (0, 1), with the goal (4, 2), of 5 by 5
    for clock in range(16):
        green = [bool(FAR.green_for(jnp.int32(t), placed().me)) for t in range(clock, clock + 9)]
        lights = [green[0], green.index(not green[0]) / 8]
        # In the left lane, signalling left, with speed 1 in cell 2 of 8: the street ahead alone goes on.
        for other, free, beside in (((5, 0), 2, 4), ((3, 0), 0, 4), ((7, 0), 4, 4), ((3, 1), 4, 1), ((1, 1), 4, 0)):
            found = seen(placed(cell=2, side=1, speed=1, other=other, clock=clock, goal=goal))
            expected = [0, 1, 0, 0, 0, 0.5, 0.25, *lights, 0, 1, 0, free / 4, beside / 4, *where]
            np.testing.assert_allclose(found, expected, atol=1e-6)
    # In the right lane of the next street, at the end of which there is a way to the right: a car waits in it.
    state = placed(cell=7, side=4, goal=goal)
    state = state._replace(me=state.me._replace(crossing=jnp.int32(1)))
    ahead = int(TOWN.exits[1, 1])
    others = Cars(*(jnp.full(1, x, jnp.int32) for x in (ahead, 2, 1, 1)))
    found = np.asarray(seen(state._replace(others=others)))
    np.testing.assert_allclose(found[:7], [0, 0, 0, 0, 1, 0, 0.875])
    np.testing.assert_allclose(found[9:], [0, 0, 1, 0.25, 1, 0, 1, 0, 0, 0, 0.5, 1, 0.5])


def test_what_is_seen():
    check_what_is_seen()


@pytest.mark.parametrize(
    "mutant", ["the gap of another lane", "lights that change too late", "a way to the right that is not looked at"]
)
def test_another_view_is_noticed(mutant, monkeypatch):
    gap, phase = td.Streets.gap, td.Streets.phase
    if mutant == "the gap of another lane":
        swapped = lambda state: state._replace(me=state.me._replace(lane=1 - state.me.lane))  # noqa: E731
        monkeypatch.setattr(td.Streets, "gap", lambda self, state: gap(self, swapped(state)))
    elif mutant == "lights that change too late":
        late = lambda self, clock, car: jnp.maximum(phase(self, clock, car) - 1, 0)  # noqa: E731
        monkeypatch.setattr(td.Streets, "phase", late)
    else:
        monkeypatch.setattr(streets, "TURN", (0, 1, 2, 2, 2))
    with pytest.raises(AssertionError):
        check_what_is_seen()


def test_unseen_pairs_are_the_others():
    seen, unseen, every = ({tuple(p) for p in td.Streets(pairs=p).choices()} for p in ("seen", "unseen", "all"))
    assert not seen & unseen
    assert seen | unseen == every
    assert 0.25 < len(unseen) / len(every) < 0.35


def test_what_is_refused():
    with pytest.raises(td.ConfigError, match="cannot be reached"):
        td.make("Streets", map=("..#..",)).reset(jax.random.key(0))
    with pytest.raises(td.ConfigError, match="rows of text of one length"):
        town(("..", "."))
    with pytest.raises(td.ConfigError, match=r"Routed plans in td\.Streets, not in CartPole"):
        check(td.Routed(env=td.CartPole()))


def test_without_a_planner_the_route_is_not_shown_and_rewards_are_the_same():
    both = [td.make("RoutedStreets", planner=planner) for planner in ("a_star", "none")]
    key = jax.random.key(3)
    begun = [env.reset(key) for env in both]
    after = [env.step(step.state, FASTER, key) for env, step in zip(both, begun)]
    assert float(after[0].reward) == float(after[1].reward) != 0.0
    assert float(begun[0].obs["route"][:4].sum()) == 1.0
    assert not np.asarray(begun[1].obs["route"]).any()
    np.testing.assert_array_equal(begun[0].obs["obs"], begun[1].obs["obs"])


def test_the_contract_of_environments_holds():
    for env in (td.Streets(cars=8, max_steps=30), td.Routed(env=td.Streets(cars=8, max_steps=30))):
        assert "all holds" in str(td.check(env))


def check_the_rest_of_the_way():
    """Streets from the end of this one, by Dijkstra, and what is left of it; the route shows both turn and rest."""
    routed, goal = td.Routed(env=EMPTY), int(np.flatnonzero((TOWN.place == (4, 2)).all(1))[0])
    rows = [(x, y) for x, y in TOWN.place.tolist()]
    near = int(dijkstra(csr_matrix(TOWN.far == 1))[rows.index((0, 1)), goal])
    for cell in range(8):
        state = placed(cell=cell, goal=goal)
        route = np.asarray(routed.shown(jnp.zeros(1), state)["route"])
        left = near + 1 - cell / 8
        np.testing.assert_allclose(route, [0, 0, 1, 0, left / (TOWN.far.max() + 1)], atol=1e-6)
        np.testing.assert_allclose(routed.potential(state), 0.2 * (TOWN.far.max() + 1 - left), atol=1e-6)


def test_the_rest_of_the_way(monkeypatch):
    check_the_rest_of_the_way()
    away = lambda self, state: jnp.asarray(TOWN.far)[EMPTY.ahead(state.me), state.goal] + state.me.cell / 8  # noqa: E731
    monkeypatch.setattr(td.Routed, "left", away)
    with pytest.raises(AssertionError):
        check_the_rest_of_the_way()
