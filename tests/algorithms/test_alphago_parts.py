"""AlphaGo's parts: whose moves are learned from and for whom, one position of each game, and what a leaf is worth."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms.search import alphago
from thorndike.algorithms.search.alphago import Actor, Rules
from thorndike.drivers.match import tic_tac_toe
from thorndike.drivers.scan import rollout
from thorndike.envs.batched import Batched
from thorndike.errors import ConfigError, IncompatibleError
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import legal
from thorndike.ops.keys import random_key
from thorndike.planning import puct
from thorndike.planning.turns import position
from thorndike.runs.storage.environments import describe

pytest.importorskip("pgx")
GAME = td.make("pgx/tic_tac_toe")
ENVS, LENGTH = 32, 40
FEW = {"torso": td.Torso(widths=(8,)), "depth": 7, "num_envs": ENVS, "rollout_length": LENGTH}
LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


class Prefers(eqx.Module):
    """A policy with these logits at every position, or at every position in which they are legal."""

    logits: jax.Array

    def __call__(self, obs, mask):
        logits = jnp.broadcast_to(self.logits, (*obs.shape[:-3], self.logits.shape[-1]))
        return Categorical(logits if mask is None else legal(logits, mask))


class Table(eqx.Module):
    """The true value of every position, times `trust`."""

    trust: float = 1.0

    def __call__(self, obs):
        code = (obs.reshape((*obs.shape[:-3], 9, 2)).astype(jnp.int32) @ jnp.array([1, 2])) @ jnp.asarray(
            3 ** np.arange(9)
        )
        return self.trust * jnp.asarray(tic_tac_toe())[code].max(-1).astype(jnp.float32)


CELLS = jnp.arange(9.0)
FIRST, MIDDLE, LAST = Prefers(-1e3 * CELLS), Prefers(-1e3 * jnp.abs(CELLS - 4.1)), Prefers(1e3 * CELLS)
EVEN = Prefers(jnp.zeros(9))


def actor_of(policy=EVEN, prior=EVEN, rival=EVEN, estimating=False, value=None):
    return Actor(policy, prior, Table() if value is None else value, rival, jnp.bool_(estimating), Rules(GAME))


@pytest.fixture(scope="module")
def played():
    """Training games of players who are told apart by their moves, with leaves [T, E, ...]."""
    algorithm, world = td.AlphaGo(**FEW), Batched(GAME, ENVS)

    @jax.jit
    def play(actor, key):
        carry = algorithm.carry(actor, ENVS)
        return rollout(algorithm, world, actor, carry, world.reset(key), key, "explore")[0]

    games = {
        "first stage": actor_of(FIRST, MIDDLE, LAST),
        "second stage": actor_of(FIRST, LAST, MIDDLE, estimating=True),
        "any moves": actor_of(estimating=True),
        "any moves in the first stage": actor_of(),
    }
    return {name: play(actor, random_key(i)) for i, (name, actor) in enumerate(games.items())}


def preferred(policy, steps):
    """Which moves [T, E] are what a policy prefers."""
    return np.asarray(policy(steps.obs, steps.info["mask"]).mode() == steps.action)


def games_in(steps):
    """Of each game that is whole: its steps' place in time and its environment."""
    for e in range(ENVS):
        ends = np.flatnonzero(np.asarray(steps.ended)[:, e])
        for begin, end in zip([0, *(ends[:-1] + 1)], ends):
            yield slice(begin, end + 1), e


# --- who moves --------------------------------------------------------------------------------------------------------


def test_the_learner_has_one_side_and_the_rival_the_other(played):
    steps = played["first stage"].steps
    mine, player = (np.asarray(steps.extras[name]) for name in ("mine", "player"))
    assert preferred(FIRST, steps)[mine].all()
    assert preferred(LAST, steps)[~mine].all()
    sides = []
    for t, e in games_in(steps):
        side = np.unique(player[t, e][mine[t, e]])
        assert len(side) == 1
        assert (mine[t, e] == (player[t, e] == side)).all()
        sides.append(mine[t, e][0])
    assert 0.3 < np.mean(sides) < 0.7  # it begins half of the games


def test_the_position_that_is_valued_comes_after_a_random_move(played):
    """Before it σ plays, after it ρ, and there is no more than one in a game."""
    steps = played["second stage"].steps
    assert not np.asarray(steps.extras["mine"]).any()
    rho, sigma, chosen = preferred(FIRST, steps), preferred(LAST, steps), np.asarray(steps.extras["chosen"])
    strange, at = 0, []
    for t, e in games_in(steps):
        places = np.flatnonzero(chosen[t, e])
        assert len(places) <= 1
        if len(places):
            assert rho[t, e][places[0] :].all()
            assert sigma[t, e][: max(places[0] - 1, 0)].all()
            strange += places[0] > 0 and not (rho | sigma)[t, e][places[0] - 1]
            at.append(places[0])
    assert strange > 3
    assert set(at) >= set(range(4))
    assert max(at) < FEW["depth"]


# --- what is learned --------------------------------------------------------------------------------------------------


def results_of(steps):
    """z [T, E] of the steps of whole games, game by game, and where those are."""
    z, whole = np.zeros((LENGTH, ENVS)), np.zeros((LENGTH, ENVS), bool)
    player, reward = np.asarray(steps.extras["player"]), np.asarray(steps.reward)
    for t, e in games_in(steps):
        won = reward[t, e][-1]  # by whoever moved last, or 0
        z[t, e] = np.where(player[t, e] == player[t, e][-1], won, -won)
        whole[t, e] = True
    return z, whole


def losses_of(rollout):
    """What the two losses are said to be, at steps of whole games alone."""
    steps, (_, whole) = rollout.steps, results_of(rollout.steps)
    seen = {**steps.extras, "mine": steps.extras["mine"] & whole, "chosen": steps.extras["chosen"] & whole}
    algorithm = td.AlphaGo(**FEW)
    steps = steps._replace(extras=seen)
    z = alphago.results(steps.reward, steps.terminated, steps.truncated, seen["player"], seen["value"])
    found = jax.grad(lambda policy: algorithm.policy_loss(policy, steps, z)[0])(EVEN).logits
    return np.asarray(found), float(algorithm.value_loss(Table(0.5), steps, z)[0])


def expected_losses(played, mine=True):
    """∇ of the first by the closed form of a softmax, and the second, in NumPy."""
    steps = played["any moves in the first stage"].steps
    z, whole = results_of(steps)
    mask, action = np.asarray(steps.info["mask"]), np.asarray(steps.action)
    where = whole & (np.asarray(steps.extras["mine"]) if mine else True)
    score = np.eye(9)[action] - mask / mask.sum(-1, keepdims=True)
    gradient = -((z - np.asarray(steps.extras["value"]))[..., None] * score)[where].mean(0)
    chosen = whole & np.asarray(steps.extras["chosen"])
    return gradient, ((0.5 * np.asarray(steps.extras["value"]) - z)[chosen] ** 2).mean()


def test_gradient_and_value_loss(played):
    gradient, loss = losses_of(played["any moves in the first stage"])
    expected = expected_losses(played)
    np.testing.assert_allclose(gradient, expected[0], atol=1e-5)
    np.testing.assert_allclose(loss, expected[1], rtol=1e-5)


@pytest.mark.parametrize("bug", ["the opponent's moves", "the wrong side", "whole games"])
def test_bugs_in_what_is_learned(bug, played, monkeypatch):
    """A gradient on the moves of both sides; z of whoever moved last; the value of all positions of a game."""
    rollout = played["any moves in the first stage"]
    expected, extras = expected_losses(played), rollout.steps.extras
    if bug == "the wrong side":
        right = alphago.results
        monkeypatch.setattr(alphago, "results", lambda r, e, c, p, v: right(r, e, c, jnp.zeros_like(p), v))
    else:
        name = "mine" if bug == "the opponent's moves" else "chosen"
        extras = {**extras, name: jnp.ones_like(extras[name])}
    gradient, loss = losses_of(rollout._replace(steps=rollout.steps._replace(extras=extras)))
    if bug != "whole games":
        assert np.abs(gradient - expected[0]).max() > 1e-3  # a hundred times the tolerance
    if bug != "the opponent's moves":
        assert abs(loss - expected[1]) > 1e-2


def started(**how):
    """A fresh state, and a rollout of any moves from the stage that it is in."""
    algorithm = td.AlphaGo(**{**FEW, **how})
    spec = describe(GAME, 1_000, "test")
    return algorithm, algorithm.init(random_key(0), spec)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def test_the_pool_is_of_earlier_policies_and_the_second_stage_leaves_the_policy_alone(played):
    algorithm, fresh = started(pool=3, pool_period=2, learning_rate=0.01)
    learn, member = jax.jit(algorithm.learn), lambda pool, i: jax.tree.map(lambda x: x[i], pool)
    states = [fresh]
    for i in range(8):
        states.append(learn(states[-1], played["any moves in the first stage"], random_key(i))[0])
    last = states[-1]
    for slot, iteration in ((1, 8), (2, 4), (0, 6)):  # of iterations 2, 4, 6 and 8
        assert same(member(last.pool, slot), states[iteration].policy)
    assert same(last.prior, fresh.policy)
    assert not same(last.policy, fresh.policy)
    assert len({int(state.rival) for state in states[1:]}) > 1
    late = last._replace(clock=last.clock._replace(steps=jnp.int32(500)))
    after, metrics = learn(late, played["any moves"], random_key(9))
    after = learn(after, played["any moves"], random_key(9))[0]
    assert same((after.policy, after.pool, after.optimisers[0]), (late.policy, late.pool, late.optimisers[0]))
    assert not same(after.value, late.value)
    assert metrics["policy_step"] == 0
    assert bool(algorithm.actor(late).estimating)
    assert not bool(algorithm.actor(last).estimating)


# --- search -----------------------------------------------------------------------------------------------------------


STEP = jax.jit(lambda now, action, key: Batched(GAME, len(action)).step(now, action, key))


def after(moves, n):
    """A timestep of n copies of the position after these cells were taken by turns."""
    now = Batched(GAME, n).reset(random_key(0))
    for t, cell in enumerate(moves):
        now = STEP(now, jnp.full(n, cell, jnp.int32), random_key(t))
    return now


def expected_playout(mine, theirs):
    """What random play to the end earns the mover, over all games."""
    free = sorted(set(range(9)) - mine - theirs)
    if not free:
        return 0.0
    found = []
    for cell in free:
        more = mine | {cell}
        found.append(1.0 if any(more.issuperset(line) for line in LINES) else -expected_playout(theirs, more))
    return float(np.mean(found))


def check_worth():
    """v and the playouts, from the view of whoever is to move, and their mixture."""
    compiled = jax.jit(lambda algorithm, at: algorithm.worth(actor_of(), at, random_key(1)))
    for moves in [(0, 4, 8, 2), (4, 0, 1), (0, 1, 2, 4)]:
        stones = set(moves[len(moves) % 2 :: 2]), set(moves[1 - len(moves) % 2 :: 2])
        z = expected_playout(*stones)
        v = tic_tac_toe()[sum(3**cell for cell in stones[0]) + sum(2 * 3**cell for cell in stones[1])].max()
        at = position(after(moves, 2_000))
        alone, played, mixed = (np.asarray(compiled(td.AlphaGo(mixing=x), at)) for x in (0.0, 1.0, 0.25))
        np.testing.assert_allclose(alone, v, atol=1e-6)
        assert set(played.tolist()) <= {-1.0, 0.0, 1.0}
        assert abs(played.mean() - z) < 0.06  # three deviations
        np.testing.assert_allclose(mixed, 0.75 * v + 0.25 * played, atol=1e-6)


def test_what_a_leaf_is_worth():
    check_worth()


def test_a_playout_from_the_other_view_is_noticed(monkeypatch):
    right = alphago.playout
    monkeypatch.setattr(alphago, "playout", lambda *given: -right(*given))
    with pytest.raises(AssertionError):
        check_worth()


def searcher():
    """The moves that a search by playouts alone finds in copies of a position."""
    algorithm, blind = td.AlphaGo(simulations=200, mixing=1.0), actor_of(value=Table(0.0))
    compiled = jax.jit(lambda now: algorithm.act(blind, algorithm.carry(blind, 8), now, random_key(3), False)[0])
    return lambda moves: set(np.asarray(compiled(after(moves, 8))).tolist())


def test_it_wins_and_blocks(monkeypatch):
    """X has 0 and 1, O 3 and 4, and X moves: 2 wins. With X at 0 and 1 and O at 8, O has to take 2; a search that takes
    the other's results for its own does not."""
    found = searcher()
    assert found((0, 3, 1, 4)) == {2}
    assert found((0, 8, 1)) == {2}
    right = puct.moved

    def kind(*given):
        later, discount = right(*given)
        return later, jnp.abs(discount)

    monkeypatch.setattr(puct, "moved", kind)
    assert searcher()((0, 8, 1)) != {2}


def test_without_simulations_the_policy_plays():
    algorithm, now = td.AlphaGo(simulations=0), after((0, 3, 1, 4), 3)
    actor = actor_of(LAST, FIRST)
    assert np.asarray(algorithm.act(actor, (), now, random_key(0), False)[0]).tolist() == [8, 8, 8]


# --- from recorded games ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloned(tmp_path_factory):
    """A policy cloned from perfect games."""
    path = tmp_path_factory.mktemp("games")
    data = td.record_games(GAME, "perfect", 100, path / "games")
    algorithm = td.BC(torso=FEW["torso"], batch_size=16)
    return data, td.train(algorithm, GAME, 20, dataset=data, out=path / "cloned", progress=False, seeds=2)


def test_recorded_games_have_the_moves_of_both_sides(cloned):
    data, _ = cloned
    assert len(data.lengths) == 100
    assert set(data.lengths.tolist()) == {9}  # perfect players draw
    assert not data.rewards.any()
    ends = np.cumsum(data.lengths)
    shown = np.asarray(data.observations[0])
    for game in range(5):
        begin = ends[game] - 9 + game  # observations have one more than steps for each game
        stones = shown[begin : begin + 9].reshape(9, 9, 2).sum(1)
        assert stones.tolist() == [[t // 2, t - t // 2] for t in range(9)]  # the mover's and the other's
    assert data.masks is not None


def test_games_are_recorded_of_players_that_there_are(tmp_path):
    with pytest.raises(ConfigError, match="no opponent 'nobody'"):
        td.record_games(GAME, "nobody", 2, tmp_path / "one")
    with pytest.raises(ConfigError, match="no game of two players"):
        td.record_games("CartPole-v1", "random", 2, tmp_path / "other")


def test_cloning_serves_games_and_is_evaluated_against_a_random_player(cloned):
    _, run = cloned
    found = run.metrics()["eval/mean_reward"]
    assert found.shape[1] == 2
    assert np.isfinite(found[-1]).all()
    assert -1 <= run.match("random", 20).results.mean() <= 1


def test_what_comes_from_the_clone(cloned, tmp_path):
    """Its policy is ρ, σ and all of the pool, of each seed its own; v is not touched by it."""
    _, run = cloned
    algorithm = td.AlphaGo(**{**FEW, "learning_rate": 0.0, "pool": 2, "rollout_length": 4})
    how = {"start": run, "parts": ("policy",), "progress": False}
    after = td.train(algorithm, GAME, ENVS * 4, seeds=2, out=tmp_path / "run", **how)
    given, actors = run.actors().policy, after.actors()
    assert same(actors.policy, given)
    assert same(actors.prior, given)
    assert same(actors.rival, given)
    assert not same(*(jax.tree.map(lambda x, i=i: x[i], given) for i in range(2)))


def test_an_agents_file_plays_without_the_game(tmp_path):
    algorithm, state = started()
    agent = td.Agent(algorithm, describe(GAME, 0, "pgx/tic_tac_toe"), algorithm.actor(state))
    agent.save(tmp_path / "agent")
    obs = np.random.default_rng(0).integers(0, 2, (32, 3, 3, 2)).astype(np.int8)
    mask = np.random.default_rng(1).random((32, 9)) < 0.5
    mask[:, 4] = True
    actions = td.load(tmp_path / "agent").act(obs, mask=mask)
    np.testing.assert_array_equal(actions, agent.act(obs, mask=mask))
    assert mask[np.arange(32), actions].all()


def test_it_refuses_what_is_no_game():
    with pytest.raises(IncompatibleError, match="AlphaGo plays games of two players"):
        td.train(td.AlphaGo(), "CartPole-v1", 1000, progress=False)
    with pytest.raises(IncompatibleError, match="without chance"):
        td.train(td.AlphaGo(), "pgx/backgammon", 1000, progress=False)
