"""Feudal Q-learning: what commands and workers are paid and learn, against a loop in plain Python; and its bugs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete

import thorndike as td
from thorndike.algorithms.hierarchical import feudal
from thorndike.algorithms.hierarchical.feudal import Blocks
from thorndike.drivers.scan import rollout
from thorndike.envs.batched import Batched
from thorndike.envs.grid.grid_world import dyna_maze
from thorndike.ops.keys import random_key
from thorndike.runs.storage.environments import describe
from thorndike.types import Rollout

FeudalQ = td.FeudalQ
GRID = td.GridWorld(map=("S....", "..#..", "..#..", "....G"), step_reward=-0.5, goal_reward=3.0, max_steps=23)
RULES = td.FeudalQ(block=2, command_steps=4, num_envs=1, rollout_length=300, discount=0.9, worker_discount=0.8,
                   exploration=td.Epsilon(start=0.6, end=None))  # fmt: skip
SPEC = describe(td.make(GRID), 1000, "test")
MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def played(key=0):
    """A state of random tables, and a rollout of one environment."""
    tables = np.random.default_rng(key)
    state = RULES.init(random_key(0), SPEC)
    state = state._replace(
        manager=jnp.float32(tables.normal(size=state.manager.shape)),
        worker=jnp.float32(tables.normal(size=state.worker.shape)),
    )
    actor, world = RULES.actor(state), Batched(td.make(GRID), 1)

    @jax.jit
    def play(key):
        return rollout(RULES, world, actor, RULES.carry(actor, 1), world.reset(key), key, "explore")[0]

    return state, play(random_key(key))


def by_hand(state, steps):
    """Both tables after the steps, in float64."""
    manager, worker = (np.array(x, float) for x in (state.manager, state.worker))
    block = lambda cell: (int(cell) // 5 // 2, int(cell) % 5 // 2)  # noqa: E731
    number = lambda b: b[0] * 3 + b[1]  # noqa: E731
    given_in = order = None
    earned, n, again = 0.0, 0, True
    for t in range(len(steps.reward)):
        s, after, a = int(steps.obs[t, 0]), int(steps.next_obs[t, 0]), int(steps.action[t, 0])
        if again:
            given_in, order, earned, n = block(s), int(steps.extras["command"][t, 0]), 0.0, 0
        assert bool(steps.extras["given"][t, 0]) == again
        assert int(steps.extras["command"][t, 0]) == order
        terminated, ended = bool(steps.terminated[t, 0]), bool(steps.ended[t, 0])
        left = block(after) != block(s)
        way = (block(after)[0] - block(s)[0], block(after)[1] - block(s)[1])
        wage = float(left and way == MOVES[order])
        later = 0.0 if left or terminated else worker[after, order].max()
        worker[s, order, a] += 0.5 * (wage + 0.8 * later - worker[s, order, a])
        earned, n = earned + 0.9**n * float(steps.reward[t, 0]), n + 1
        again = left or n >= 4 or ended
        if again:
            credit = MOVES.index(way) if left and way in MOVES else order
            later = 0.0 if terminated else 0.9**n * manager[number(block(after))].max()
            manager[number(given_in), credit] += 0.5 * (earned + later - manager[number(given_in), credit])
    return manager, worker


def error(key=0):
    """How far both tables are from those by hand."""
    state, played_ = played(key)
    learned, _ = jax.jit(RULES.learn)(state, played_, random_key(1))
    found = by_hand(state, jax.device_get(played_.steps))
    return [np.abs(x - y).max() for x, y in zip((learned.manager, learned.worker), found)]


def test_both_tables_are_those_of_a_loop():
    assert max(*error(0), *error(1), *error(2)) < 1e-4
    steps = [played(key)[1].steps for key in range(3)]
    assert any(x.terminated.any() for x in steps)
    assert any((x.truncated & ~x.terminated).any() for x in steps)


def test_a_rollout_in_pieces_is_the_whole():
    """A command that is under way at the end of a rollout goes on in the next."""
    state, whole = played()
    once, _ = jax.jit(RULES.learn)(state, whole, random_key(1))
    learn = jax.jit(RULES.learn)
    for i in range(0, 300, 60):
        part = jax.tree.map(lambda x, i=i: x[i : i + 60], whole.steps)
        state, _ = learn(state, Rollout(part, (), None), random_key(1))
    for a, b in zip(once[:2], state[:2]):
        np.testing.assert_allclose(a, b, atol=1e-5)


def paid_by_the_environment(monkeypatch):
    monkeypatch.setattr(FeudalQ, "wage", lambda self, blocks, steps: steps.reward)


def credit_to_what_was_ordered(monkeypatch):
    monkeypatch.setattr(FeudalQ, "carried_out", lambda self, blocks, account, steps: steps.extras["command"])


def one_discount_for_all_steps(monkeypatch):
    monkeypatch.setattr(FeudalQ, "later", lambda self, n: jnp.where(n > 0, self.discount, 1.0))


BUGS = {paid_by_the_environment: 1, credit_to_what_was_ordered: 0, one_discount_for_all_steps: 0}


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_miss_the_loop(bug, monkeypatch):
    bug(monkeypatch)
    assert error()[BUGS[bug]] > 0.05


def test_a_command_that_outlives_its_episode_is_noticed(monkeypatch):
    over = FeudalQ.over
    monkeypatch.setattr(
        FeudalQ, "over", lambda self, order, block, first: over(self, order, block, first & (block < 0))
    )
    state, played_ = played()
    with pytest.raises(AssertionError):
        by_hand(state, jax.device_get(played_.steps))


def test_blocks_are_squares():
    blocks, cells = Blocks(4, 5, 2), np.arange(20)
    assert np.array_equal(blocks.of(cells).reshape(4, 5), np.kron([[0, 1, 2], [3, 4, 5]], np.ones((2, 2)))[:, :5])
    for after, command in ((1, 1), (3, 2), (0, -1), (4, -1), (2, -1)):
        assert int(blocks.command(jnp.int32(0), jnp.int32(after))) == command
    assert int(blocks.command(jnp.int32(3), jnp.int32(2))) == -1  # the next number, and no neighbour


def test_commands_that_were_given_up_are_not_given_again():
    state = RULES.init(random_key(0), SPEC)
    actor = RULES.actor(state._replace(manager=state.manager.at[:, 1].set(1.0)))
    order = feudal.Order(jnp.full(2, 1), jnp.zeros(2, jnp.int32), jnp.array([3, 4]))
    no = jnp.zeros(2, bool)
    now = td.Timestep(jnp.zeros(2, jnp.int32), jnp.zeros(2), no, no, jnp.zeros(2, jnp.int32), no, {})
    for explore in (False, True):
        _, after, extras = RULES.act(actor, order, now, random_key(3), explore)
        assert extras["given"].tolist() == [False, True]
        assert after.command[0] == 1
        assert after.command[1] != 1


def test_several_environments_move_an_entry_by_their_mean():
    table = jnp.zeros((3, 2))
    s, a = jnp.array([0, 0, 1, 0]), jnp.array([1, 1, 0, 1])
    found = feudal.moved(table, (s, a), jnp.array([1.0, 3.0, 5.0, 100.0]), jnp.array([True, True, True, False]))
    assert found.tolist() == [[0, 2], [5, 0], [0, 0]]


def test_what_it_cannot_serve_is_said():
    assert "GridWorld" in FeudalQ().supports(td.Spec(Discrete(16), Discrete(4), 1, "FrozenLake-v1"))
    assert FeudalQ().supports(SPEC) is None


@pytest.mark.parametrize(("scale", "steps"), [(1, 14), (2, 27), (3, 40), (5, 66)])
def test_the_enlarged_maze(scale, steps):
    """Its shortest way, by breadth first search."""
    layout = dyna_maze(scale).layout
    reached, n = set(layout.starts.tolist()), 0
    assert len(reached) == 1
    while not layout.goal[list(reached)].any():
        reached, n = reached | set(layout.target[list(reached)].ravel().tolist()), n + 1
    assert n == steps
    with pytest.raises(td.ConfigError, match="scale"):
        dyna_maze(0)
