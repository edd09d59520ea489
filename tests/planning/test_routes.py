"""Routes on grids against SciPy's Dijkstra, and the named bugs."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

import thorndike as td
from thorndike.planning import routes
from thorndike.planning.routes import a_star, distances


def random_grid(rng):
    """Walls, and costs that are all 1 or differ; a start and a goal that are no walls."""
    shape = tuple(rng.integers(2, 9, 2))
    grid = rng.uniform(0.5, 3.0, shape) if rng.random() < 0.5 else np.ones(shape)
    grid[rng.random(shape) < 0.25] = np.inf
    start, goal = (tuple(int(rng.integers(n)) for n in shape) for _ in range(2))
    grid[start] = grid[goal] = 1.0
    return grid, start, goal


def from_scipy(grid, goal):
    """Distances to the goal from every cell that is no wall: SciPy on the edges, turned."""
    number = np.arange(grid.size).reshape(grid.shape)
    edges = []
    for (r, c), cost in np.ndenumerate(grid):
        for near in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            if 0 <= near[0] < grid.shape[0] and 0 <= near[1] < grid.shape[1] and np.isfinite(cost):
                edges.append((number[r, c], number[near], cost))  # from `near` into (r, c), turned
    rows, columns, costs = zip(*edges)
    graph = coo_matrix((costs, (rows, columns)), shape=(grid.size, grid.size)).tocsr()
    return dijkstra(graph, indices=number[goal]).reshape(grid.shape)


def walked(grid, route):
    """What a route costs, step by step."""
    for a, b in zip(route.cells, route.cells[1:]):
        assert abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1
        assert np.isfinite(grid[b])
    return sum(grid[cell] for cell in route.cells[1:])


def grids(n, seed=0):
    rng = np.random.default_rng(seed)
    return [random_grid(rng) for _ in range(n)]


def test_both_are_dijkstras():
    """1,000 grids; and A* never looks at more cells than Dijkstra's algorithm does."""
    ways = none = fewer = 0
    for grid, start, goal in grids(1000):
        expected = from_scipy(grid, goal)
        np.testing.assert_allclose(distances(grid, goal), expected, rtol=1e-12)
        route = a_star(grid, start, goal)
        blind = a_star(grid, start, goal, lambda cell: 0.0)
        assert route.cost == pytest.approx(expected[start], rel=1e-12)
        assert blind.cost == pytest.approx(expected[start], rel=1e-12)
        assert route.expanded <= blind.expanded
        fewer += route.expanded < blind.expanded
        if np.isfinite(route.cost):
            assert (route.cells[0], route.cells[-1]) == (start, goal)
            assert walked(grid, route) == pytest.approx(route.cost)
            ways += 1
        else:
            assert route.cells == ()
            none += 1
    assert min(ways, none, fewer) > 50


def longer(heuristic_of=lambda goal: None):
    """In how many of 300 grids the way that A* finds costs more than SciPy's."""
    found = 0
    for grid, start, goal in grids(300):
        best = from_scipy(grid, goal)[start]
        found += np.isfinite(best) and walked(grid, a_star(grid, start, goal, heuristic_of(goal))) > best + 1e-9
    return found


def test_a_heuristic_that_says_too_much_finds_longer_ways():
    assert longer() == 0
    assert longer(lambda goal: lambda cell: 9.0 * (abs(cell[0] - goal[0]) + abs(cell[1] - goal[1]))) > 3


def test_a_queue_that_forgets_what_a_way_has_cost_does(monkeypatch):
    """Greedy best-first search."""
    push = heapq.heappush
    monkeypatch.setattr(routes.heapq, "heappush", lambda queue, item: push(queue, (item[0] + item[1], *item[1:])))
    assert longer() > 3


@pytest.mark.parametrize(
    ("grid", "start"),
    [(-np.ones((2, 2)), (0, 0)), (np.ones((2, 2)), (2, 0)), (np.ones(3), (0, 0)), ([[np.nan]], (0, 0))],
)
def test_what_is_no_grid_is_said(grid, start):
    with pytest.raises(td.ConfigError):
        a_star(grid, start, (0, 0))
