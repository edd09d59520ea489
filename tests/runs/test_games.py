"""What one does with a run of a game: evaluation, matches, ratings, a game in the terminal.

Most matches are of 40 games, and so share a program.
"""

from __future__ import annotations

import dataclasses
import io
import shutil

import jax
import numpy as np
import pytest
import small_runs as small
from PIL import Image

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.match import Match
from thorndike.runs.results import games as runs_of_games
from thorndike.runs.results.games import board, names, play
from thorndike.runs.results.run import Run
from thorndike.runs.results.video import film
from thorndike.runs.training.evaluation import SEEDS

ALGORITHM = td.AlphaZero(
    torso=td.Torso(widths=(8,)), simulations=4, num_envs=8, rollout_length=8, replay_ratio=1 / 64,
    replay=td.Uniform(capacity=64, batch_size=8, warmup=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("games") / "run"
    how = {"keep": 9, "checkpoint_every": 0.0, "evaluate_every": 256, "evaluate_episodes": 40, "progress": False}
    return td.train(ALGORITHM, "pgx/tic_tac_toe", 256, seeds=2, out=path, **how)


def test_evaluation_is_against_a_random_player(run):
    result = run.evaluate(40)
    assert result.returns.shape == result.lengths.shape == (2, 40)
    assert set(np.unique(result.returns)) <= {-1, 0, 1}
    assert 5 <= result.lengths.min() <= result.lengths.max() <= 9
    assert td.open_run(run.path).evaluate(40).per_run == result.per_run
    np.testing.assert_array_equal(result.returns[0], run.match("random", 40).results)
    (row,) = [row for row in small.rows(run) if "eval/mean_reward" in row]
    assert row["eval/mean_reward"] == pytest.approx(run.evaluate(40, seed=SEEDS + 256).per_run)
    with pytest.raises(td.ConfigError, match="evaluate_episodes must be at least 2 in a game of two"):
        td.train(ALGORITHM, "pgx/tic_tac_toe", 256, evaluate_every=64, evaluate_episodes=1)
    with pytest.raises(td.ConfigError, match="a seed must lie between"):
        run.evaluate(4, seed=-1)


def test_a_film_is_of_what_the_search_plays(run, tmp_path, monkeypatch):
    search, searched = td.AlphaZero.search, []
    monkeypatch.setattr(td.AlphaZero, "search", lambda self, *args: searched.append(args[-1]) or search(self, *args))
    agent = td.Agent(dataclasses.replace(ALGORITHM, simulations=3), run.spec, run.agent().actor)
    film(agent, run.env, tmp_path / "film.gif", most_frames=2)
    assert searched == [0.0]  # without noise, traced once


def test_matches(run):
    assert run.match("perfect", 40).score < run.match("random", 40).score
    itself = run.match(run.path, 40)  # nothing is left to chance: one game, over and over
    assert (itself.first == itself.first[0]).all()
    assert (itself.second == -itself.first[0]).all()


@pytest.mark.parametrize(
    ("opponent", "text"), [("perfekt", "no opponent 'perfekt' for pgx/tic_tac_toe: it can be random, uct:200")]
)
def test_an_unknown_opponent_is_named(run, opponent, text):
    with pytest.raises(td.ConfigError, match=text):
        run.match(opponent)


def test_runs_that_do_not_fit_are_refused(run, tmp_path):
    other = small.train("PPO", tmp_path / "other")
    with pytest.raises(td.ConfigError, match="a run of another game: CartPole-v1"):
        run.match(other)
    with pytest.raises(td.ConfigError, match="no game of two players"):
        other.match("random")
    with pytest.raises(td.ConfigError, match="only games that can be drawn"):
        play(other, True)
    with pytest.raises(td.ConfigError, match="at least 2 games"):
        run.evaluate(1)
    with pytest.raises(td.ConfigError, match="both sides of a game"):
        td.evaluate(run.algorithm, run.actors(), run.env, 2)


def test_ratings_of_checkpoints(run, tmp_path):
    ratings = run.elo(40, tmp_path / "elo.png")
    assert list(ratings)[-1] == 256
    assert len(ratings) > 1
    assert np.isfinite(list(ratings.values())).all()
    assert len(Image.open(tmp_path / "elo.png").size) == 2


def test_a_damaged_checkpoint_is_not_rated(run, tmp_path, monkeypatch):
    monkeypatch.setattr(runs_of_games, "match", lambda *_, **__: Match(np.ones(2), np.ones(2), np.ones(4)))
    copy = shutil.copytree(run.path, tmp_path / "run")
    whole = list(run.elo(4))
    next(copy.glob(f"checkpoints/{whole[0]:012d}/*.safetensors")).write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped a checkpoint"):
        assert list(td.open_run(copy).elo(4)) == whole[1:]
    for path in copy.glob("checkpoints/*/*.safetensors"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(td.ConfigError, match="no whole checkpoint yet"):
        td.open_run(copy).elo(4)


@pytest.mark.parametrize("drawn", [True, False])
def test_a_game_that_cannot_be_drawn_is_not_offered_to_be_played(drawn, tmp_path, monkeypatch, capsys):
    if not drawn:
        monkeypatch.setattr(runs_of_games, "DRAWN", ())
    small = [
        "--torso.widths",
        "4",
        "--simulations",
        "2",
        "--num-envs",
        "2",
        "--rollout-length",
        "2",
        "--replay.warmup",
        "1",
    ]
    small += ["--replay.capacity", "64", "--replay.batch-size", "4", "--replay-ratio", "0.5", "--no-preset"]
    assert main(["train", "alphazero", "pgx/tic_tac_toe", "--steps", "8", "--out", str(tmp_path / "run"), *small]) == 0
    assert ("thorndike play" in capsys.readouterr().out) == drawn


def test_who_wins_is_rated_higher(run, monkeypatch):
    """With players that are their steps, and the later one winning."""
    step = lambda player: player if isinstance(player, int) else 0  # noqa: E731

    def result(env, one, other, games, seed, opening):
        won = np.sign([float(step(one) - step(other))])
        return Match(won, won, np.ones(2))

    monkeypatch.setattr(Run, "player", lambda self, index, step: step)
    monkeypatch.setattr(runs_of_games, "match", result)
    ratings = list(run.elo(10).values())
    assert ratings == sorted(ratings)
    assert ratings[0] > 0


def test_rated_games_differ(run, monkeypatch):
    """Players that leave nothing to chance would play one game again and again, and every pair the same openings."""
    played, right = [], runs_of_games.match

    def match(env, one, other, games, seed, opening):
        result = right(env, one, other, games, seed, opening=opening)
        played.append((seed, len({*zip(result.results.tolist(), result.lengths.tolist())})))
        return result

    monkeypatch.setattr(runs_of_games, "match", match)
    run.elo(40)
    seeds, different = zip(*played)
    assert len(set(seeds)) == len(seeds)
    assert min(different) > 2


def test_a_checkpoints_agent_is_the_one_of_then(run):
    leaves = [np.concatenate([x.ravel() for x in jax.tree.leaves(run.actors(step))]) for step in (64, 256, None)]
    assert not np.array_equal(leaves[0], leaves[1])
    assert np.array_equal(leaves[1], leaves[2])


def plays(run, moves, begin):
    """The result, and all that was shown."""
    left, shown = iter(moves), []

    def ask(text):
        shown.append(text)
        return next(left)

    return play(run, begin, ask=ask, say=shown.append), "\n".join(shown)


CELLS = [f"{column}{row}" for row in "321" for column in "abc"]


@pytest.mark.parametrize("begin", [True, False])
def test_a_game_in_the_terminal(run, begin):
    """A person who tries the cells in order: taken ones are refused, and the result is that of the last board."""
    result, text = plays(run, [cell for cell in CELLS for _ in range(2)] * 9, begin)
    boards = [part for part in text.split(" 3 ")[1:]]
    last = " 3 " + boards[-1].split("a b c")[0]
    marks = [line[3:].split() for line in last.splitlines()[:3]]
    lines = [*marks, *zip(*marks), [marks[i][i] for i in range(3)], [marks[i][2 - i] for i in range(3)]]
    winner = next((line[0] for line in lines if len(set(line)) == 1 and line[0] != "."), None)
    person = "X" if begin else "O"
    assert result == (0 if winner is None else 1 if winner == person else -1)
    assert {1: "you have won", 0: "a draw", -1: "the agent has won"}[result] in text
    assert "is not a legal move; legal are" in text
    assert f"{person} (you)" in text


def test_a_person_may_leave(run, capsys, monkeypatch):
    assert plays(run, ["quit"], True)[0] is None
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["play", str(run.path)]) == 0
    assert " 3 . . ." in capsys.readouterr().out


def test_stones_fall_to_the_lowest_row_of_connect_four():
    from thorndike.envs.batched import Batched

    world = Batched(td.make("pgx/connect_four"), 1)
    now = world.reset(jax.random.key(0))
    assert list(names(now)) == list("abcdefg")
    for move in ("d", "d"):
        now = world.step(now, np.array([names(now)[move]]), jax.random.key(0))
    assert board(now.obs[0], "X").splitlines()[-3:] == [" 2 . . . O . . .", " 1 . . . X . . .", "   a b c d e f g"]


def test_evaluate_on_the_command_line(run, capsys):
    assert main(["evaluate", str(run.path), "--opponent", "random", "--episodes", "40"]) == 0
    assert "as first" in capsys.readouterr().out
    assert main(["evaluate", str(run.path), "--elo", "--episodes", "40"]) == 0
    assert (run.path / "elo.png").is_file()
    assert "256 steps" in capsys.readouterr().out
    assert main(["evaluate", str(run.path), "--elo", "--opponent", "random"]) == 2
    assert "leave out --opponent, or --elo" in capsys.readouterr().err
