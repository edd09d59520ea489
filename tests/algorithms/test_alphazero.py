"""AlphaZero's parts: results for the right player, search with a perfect value, and play against every reply."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from every_reply import every_reply
from thorndike.algorithms.search import alphazero
from thorndike.algorithms.search.alphazero import Actor, Rules
from thorndike.drivers.learner import random_action
from thorndike.drivers.match import Match, Perfect, Random, Trained, elo, match, tic_tac_toe
from thorndike.envs.batched import Batched
from thorndike.ops.exploration import legal
from thorndike.planning import turns
from thorndike.planning.turns import results

GAME = td.make("pgx/tic_tac_toe")
CODE = jnp.asarray(3 ** np.arange(9))


# --- the games' results -----------------------------------------------------------------------------------------------


def games(seed=0, length=40, envs=6):
    """Random play [T, E]: rewards, ends, movers (who sometimes move twice) and values of a search."""
    rng = np.random.default_rng(seed)
    terminated = rng.random((length, envs)) < 0.15
    truncated = ~terminated & (rng.random((length, envs)) < 0.1)
    player = rng.integers(0, 2, (length, envs))
    reward = np.where(terminated, rng.integers(-1, 2, (length, envs)), 0).astype(np.float32)
    return reward, terminated, truncated, player, rng.uniform(-1, 1, (length, envs)).astype(np.float32)


def check_results():
    """Each position's result is looked up at its game's end, and turned where another player made the last move."""
    reward, terminated, truncated, player, value = games()
    found = results(*map(jnp.asarray, (reward, terminated, truncated, player, value)))
    for e in range(reward.shape[1]):
        for t in range(reward.shape[0]):
            ended = terminated[:, e] | truncated[:, e]
            last = next((i for i in range(t, len(ended)) if ended[i]), len(ended) - 1)
            score = (reward if terminated[last, e] else value)[last, e]
            expected = score if player[last, e] == player[t, e] else -score
            np.testing.assert_allclose(found[t, e], expected, atol=1e-6)


def test_results():
    check_results()


def test_what_is_remembered_is_whose_move_it_was(tmp_path):
    """In the memory of random games, the last mover of each game has its reward, the one before the opposite."""
    algorithm = td.AlphaZero(num_envs=8, rollout_length=12, simulations=2, replay=td.Uniform(capacity=96, warmup=96))
    run = td.train(algorithm, GAME, 96, out=tmp_path / "run", progress=False)
    from thorndike.runs.storage import checkpoint

    arrays = checkpoint.load_newest(run.path / "checkpoints")[0]
    get = lambda name: arrays[f".memory.data.{name}"][0].reshape((12, 8, -1))  # noqa: E731
    reward, ended, result = (get(name)[..., 0] for name in ("reward", "terminated", "extras['result']"))
    last = ended.astype(bool)
    np.testing.assert_array_equal(result[last], reward[last])
    before = last[1:] & ~last[:-1]
    np.testing.assert_array_equal(result[:-1][before], -reward[1:][before])
    assert (reward[last] == 1).any()


class Says(eqx.Module):
    """Parameters that are the answer."""

    logits: jax.Array
    value: jax.Array

    def __call__(self, obs, mask):
        return legal(self.logits, mask), self.value


def test_the_loss_is_over_legal_moves():
    """Cross-entropy with the search's policy, among legal moves, and the squared error of the result, weighted."""
    rng = np.random.default_rng(0)
    logits, value, result = (rng.normal(size=s).astype(np.float32) for s in ((5, 9), 5, 5))
    mask = rng.random((5, 9)) < 0.6
    mask[:, 0] = True
    policy = np.where(mask, rng.random((5, 9)), 0.0)
    policy /= policy.sum(1, keepdims=True)
    algorithm = td.AlphaZero(value_coefficient=0.3)
    network = Says(jnp.asarray(logits), jnp.asarray(value))
    clock = td.types.Clock(jnp.int32(0), jnp.int32(100))
    state = alphazero.State(network, alphazero.begin(algorithm.descent, network), clock, GAME)
    batch = td.Transition((), (), (), {"policy": policy, "result": result}, (), (), (), (), {"mask": mask})
    _, metrics = algorithm.update(state, batch, jax.random.key(0))
    entropies = [-(p[m] * (x[m] - np.log(np.exp(x[m]).sum()))).sum() for p, m, x in zip(policy, mask, logits)]
    np.testing.assert_allclose(metrics["policy_loss"], np.mean(entropies), rtol=1e-5)
    np.testing.assert_allclose(metrics["value_loss"], ((value - result) ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(entropies) + 0.3 * metrics["value_loss"], rtol=1e-5)


# --- the search -------------------------------------------------------------------------------------------------------


class Oracle(eqx.Module):
    """No opinion about moves, and the true value of every position."""

    values: jax.Array

    def __call__(self, obs, mask):
        code = (obs.reshape((-1, 9, 2)).astype(jnp.int32) @ jnp.array([1, 2])) @ CODE
        return legal(jnp.zeros((len(code), 9)), mask), self.values[code].max(-1).astype(jnp.float32)


def search_alone(simulations=100):
    """Search with a perfect value function, and no noise."""
    return Trained(td.AlphaZero(simulations=simulations), Actor(Oracle(jnp.asarray(tic_tac_toe())), Rules(GAME)))


def mistakes(seen):
    """How many of the moves are not among the best ones."""
    count = 0
    for obs, actions in seen:
        values = tic_tac_toe()[(obs.reshape((-1, 9, 2)).astype(int) @ [1, 2]) @ np.asarray(CODE)]
        count += (values[np.arange(len(actions)), actions] < values.max(1)).sum()
    return count


@pytest.mark.slow
@pytest.mark.parametrize("begins", [True, False])
def test_search_with_a_perfect_value_plays_perfectly(begins):
    played, lost, seen = every_reply(GAME, search_alone(), begins)
    assert played > 60
    assert lost == 0
    assert mistakes(seen) == 0


def positions(plies, n=256):
    """Positions after random moves, and their true values for who is to move."""
    world = Batched(GAME, n)
    now = world.reset(jax.random.key(0))
    for t in range(plies):
        now = world.step(now, random_action(GAME.action_space, now, jax.random.key(t)), jax.random.key(9))
    code = (np.asarray(now.obs).reshape(-1, 9, 2).astype(int) @ [1, 2]) @ np.asarray(CODE)
    return now, tic_tac_toe()[code].max(1)


@pytest.mark.parametrize("plies", [4, pytest.param(5, marks=pytest.mark.slow)])
def test_what_a_position_is_said_to_be_worth_in_training(plies, monkeypatch):
    """With perfect values in the search the sign is right wherever there is a winner; the mean over visits is not."""
    player, (now, true) = search_alone(32), positions(plies)
    act = lambda: player.algorithm.act(player.actor, (), now, jax.random.key(3), True)[2]  # noqa: E731
    seen, decided = act(), true != 0
    assert (np.sign(seen["value"])[decided] == true[decided]).all()
    assert decided.sum() > 50
    search = player.algorithm.search(player.actor, now.obs, now.info["mask"], now.sim.state, jax.random.key(3), 1.0)
    np.testing.assert_allclose(seen["policy"], search.action_weights, atol=1e-5)
    assert (seen["policy"].max(-1) < 0.99).mean() > 0.5  # a distribution, not the move
    monkeypatch.setattr(alphazero, "improved_value", lambda found: found.search_tree.node_values[:, 0])
    assert (np.sign(act()["value"])[decided] != true[decided]).any()


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["value of the wrong player", "root noise", "draws lost"])
def test_a_wrong_search_makes_mistakes(bug, monkeypatch):
    player = search_alone()
    if bug == "value of the wrong player":
        monkeypatch.setattr(turns, "opposed", lambda player, other: jnp.ones(player.shape))
    elif bug == "root noise":
        search = td.AlphaZero.search
        monkeypatch.setattr(td.AlphaZero, "search", lambda self, *args: search(self, *args[:-1], 20.0))
    else:
        values = jnp.where(player.actor.network.values == 0, -1, player.actor.network.values)
        player = eqx.tree_at(lambda p: p.actor.network.values, player, values)
    jax.clear_caches()
    try:
        assert sum(mistakes(every_reply(GAME, player, begins)[2]) for begins in (True, False)) > 0
    finally:
        jax.clear_caches()


# --- players and matches ----------------------------------------------------------------------------------------------


def test_random_players_score_what_is_known():
    """Exact: 0.585 won, 0.127 drawn, 0.288 lost by the first player."""
    player = Random(GAME.action_space)
    result = match(GAME, player, player, 8000)
    for side, sign in ((result.first, 1), (result.second, -1)):
        found = [(side == sign).mean(), (side == 0).mean(), (side == -sign).mean()]
        np.testing.assert_allclose(found, [0.585, 0.127, 0.288], atol=0.025)
    assert 5 <= result.lengths.min() <= result.lengths.max() == 9


def test_the_perfect_player_never_loses_and_wins_as_often_as_is_known():
    """Exact, against random play: 0.968 won as first and 0.778 as second where ties are broken uniformly."""
    result = match(GAME, Perfect(), Random(GAME.action_space), 4000)
    assert result.results.min() == 0
    np.testing.assert_allclose([(result.first == 1).mean(), (result.second == 1).mean()], [0.968, 0.778], atol=0.03)
    assert not match(GAME, Perfect(), Perfect(), 100).results.any()


def test_a_match_counts_for_the_first_named():
    one, other = Perfect(), Random(GAME.action_space)
    assert match(GAME, one, other, 200).score > 0.85
    assert match(GAME, other, one, 200).score < 0.15
    assert str(Match(np.array([1, 0]), np.array([-1]), np.zeros(3))) == (
        "as first 1 won, 1 drawn, 0 lost; as second 0 won, 0 drawn, 1 lost"
    )


def test_a_draw_is_half_a_point():
    assert Match(np.array([1, 0]), np.array([-1, 0]), np.zeros(4)).score == 0.5
    assert Match(np.array([1, 0]), np.array([0, 0]), np.zeros(4)).score == 0.625


def test_random_openings_make_different_games():
    """Of a player without chance: moves after the opening are its own, and those of the opening are not."""

    class First(NamedTuple):
        def act(self, now, key):
            return now.info["mask"].argmax(-1)

    assert len(set(match(GAME, First(), First(), 64).lengths.tolist())) == 1
    for lengths in np.split(match(GAME, First(), First(), 64, opening=1).lengths, 2):  # whoever begins
        assert len(set(lengths.tolist())) > 1


def test_elo_of_one_game():
    """One game won and the drawn one that is added: 1.5 points to 0.5, odds of 3 to 1."""
    found = elo(np.array([[0.5, 1.0], [0.0, 0.5]]), 1)
    np.testing.assert_allclose(found, [0.0, -400 * np.log10(3)], atol=1e-3)


def test_elo_of_known_strengths():
    """Scores that ratings of 0, 100 and 400 lead one to expect give these ratings back."""
    true = np.array([0.0, 100.0, 400.0])
    scores = 1 / (1 + 10 ** ((true[None] - true[:, None]) / 400))
    np.testing.assert_allclose(elo(scores, 1_000_000), true, atol=0.1)
    assert np.isfinite(elo(np.array([[0.5, 1.0], [0.0, 0.5]]), 100)).all()


# --- what it is for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ppo", "dqn", "sac", "q-learning"])
def test_algorithms_for_one_player_refuse(name):
    with pytest.raises(td.IncompatibleError, match=r"learns for one player, and this game has 2.*alphazero"):
        td.train(name, "pgx/tic_tac_toe", 1000, progress=False)


@pytest.mark.parametrize("env", ["CartPole-v1", "gymnasium/CartPole-v1"])
def test_it_refuses_what_is_no_game(env):
    with pytest.raises(td.IncompatibleError, match="AlphaZero plays games of two players"):
        td.train(td.AlphaZero(), env, 1000, progress=False)


@pytest.mark.parametrize("name", ["backgammon", "kuhn_poker", "leduc_holdem"])
def test_games_of_chance_and_hidden_cards_are_refused(name):
    with pytest.raises(td.IncompatibleError, match="games without chance, hidden cards or stakes"):
        td.train(td.AlphaZero(), f"pgx/{name}", 1000, progress=False)


@td.config
class Nim:
    """A game of one's own: who takes the last of two to five sticks, one or two at a time, has won."""

    players = 2
    max_steps = 10
    prize: float = 1.0  # a number that programs may change is no part of the agent

    @property
    def observation_space(self):
        return Box(0, 5, (1,), np.int32)

    @property
    def action_space(self):
        return Discrete(2)

    def reset(self, key):
        left = jax.random.randint(key, (), 2, 6)
        return td.Step((left, jnp.int32(0)), left[None])

    def step(self, state, action, key):
        left, mover = jnp.maximum(state[0] - 1 - action, 0), state[1]
        won = left == 0
        return td.Step((left, 1 - mover), left[None], jnp.where(won, self.prize, 0.0), won)


@td.config
class NimOfMovers(Nim):
    """It says whose move it is."""

    def player(self, state):
        return state[1]


def test_a_game_of_ones_own_is_learned_once_it_says_whose_move_it_is(tmp_path):
    algorithm = td.AlphaZero(
        torso=td.Torso(widths=(16,)),
        simulations=8,
        num_envs=8,
        rollout_length=8,
        learning_rate=5e-3,
        replay_ratio=1 / 4,
    )
    with pytest.raises(td.IncompatibleError, match=r"Nim needs a method player\(state\)"):
        td.train(algorithm, Nim(), 64, out=tmp_path / "not", progress=False)
    run = td.train(algorithm, NimOfMovers(), 8_192, out=tmp_path / "run", progress=False)
    sticks = np.array([[5], [4], [2]], np.int32)
    np.testing.assert_array_equal(1 + run.agent().act(sticks), [2, 1, 2])  # the other is left with a multiple of three
    run.agent().save(tmp_path / "agent.td")
    np.testing.assert_array_equal(1 + td.load(tmp_path / "agent.td").act(sticks), [2, 1, 2])
    run = td.open_run(tmp_path / "run", classes=[NimOfMovers])
    assert run.match("random", games=200).score > 0.7  # perfect play: 0.81


def test_unknown_games_are_named():
    with pytest.raises(td.UnknownNameError, match="did you mean 'tic_tac_toe'"):
        td.make("pgx/tictactoe")


def test_an_exported_agent_plays_its_networks_best_legal_move(tmp_path):
    algorithm = dataclasses.replace(td.AlphaZero(), num_envs=4, simulations=2, rollout_length=4, replay_ratio=1 / 16)
    run = td.train(algorithm, GAME, 64, out=tmp_path / "run", progress=False)
    run.agent().save(tmp_path / "agent")
    one, two = run.agent(), td.load(tmp_path / "agent")
    obs = np.random.default_rng(0).integers(0, 2, (32, 3, 3, 2)).astype(np.int8)
    mask = np.random.default_rng(1).random((32, 9)) < 0.5
    mask[:, 4] = True
    actions = one.act(obs, mask=mask)
    assert np.array_equal(actions, two.act(obs, mask=mask))
    assert mask[np.arange(32), actions].all()
    assert len(set(actions.tolist())) > 1
