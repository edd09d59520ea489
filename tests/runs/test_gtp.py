"""An agent that speaks the Go Text Protocol: sessions by the book, points against the game's own, and time."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.spaces import Dict, Discrete

import thorndike as td
from thorndike.drivers.match import Random
from thorndike.runs.results.gtp import COLUMNS, Engine, converse

ALGORITHM = td.AlphaZero(
    torso=td.Torso(widths=(8,)), simulations=4, num_envs=8, rollout_length=8, replay_ratio=1 / 64,
    replay=td.Uniform(capacity=64, batch_size=8, warmup=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("gtp") / "run"
    return td.train(ALGORITHM, "pgx/tic_tac_toe", 64, out=path, progress=False)


@pytest.fixture(scope="module")
def engine(run):
    return Engine(run)


def said(engine, *lines):
    answers = []
    converse(engine, lines, answers.append)
    return answers


def test_the_form_of_answers(engine):
    assert said(engine, "protocol_version", "12 name", "# a comment", "", "known_command genmove", "3 nonsense") == [
        "= 2\n\n",
        "=12 Thorndike\n\n",
        "= true\n\n",
        "?3 unknown command\n\n",
    ]
    assert said(engine, "play black", "komi") == ["? syntax error\n\n"] * 2
    assert said(engine, "4 quit", "name") == ["=4\n\n"]
    assert "genmove" in said(engine, "list_commands")[0].split("\n")


def test_a_fault_of_ours_is_no_syntax_error(engine, monkeypatch):
    """Only arguments that a command does not take are the caller's fault."""
    assert said(engine, "showboard more", "genmove") == ["? syntax error\n\n"] * 2
    monkeypatch.setattr(Engine, "show", lambda self: len(None))
    with pytest.raises(TypeError, match="NoneType"):
        engine.answer("showboard")


def test_points_are_cells(engine):
    """A1 is at the lower left, and J follows H."""
    said(engine, "clear_board", "play black A1", "play white C3", "play b B2")
    stones = np.asarray(engine.now.obs[0])  # the mover's, white's, and the other's
    np.testing.assert_array_equal(np.argwhere(stones[..., 1]), [[1, 1], [2, 0]])
    np.testing.assert_array_equal(np.argwhere(stones[..., 0]), [[0, 2]])
    assert [engine._vertex(i) for i in (0, 2, 6, 8)] == ["A3", "C3", "A1", "C1"]
    assert COLUMNS[7:9] == "HJ"


def test_a_game(engine):
    """Moves by turns until it is over; undo goes back; what is illegal changes nothing."""
    said(engine, "clear_board")
    taken = []
    for _ in range(9):
        color = "bw"[len(engine.moves) % 2]
        (answer,) = said(engine, f"genmove {color}")
        if answer == "= pass\n\n":
            break
        taken.append(answer[2:4])
    assert len(set(taken)) == len(taken) >= 5
    assert engine.over or len(taken) == 9
    assert said(engine, "play b A1") == ["? the game is over\n\n"]
    assert said(engine, "undo", "clear_board", "undo") == ["=\n\n", "=\n\n", "? cannot undo\n\n"]
    said(engine, "play b B2")
    assert said(engine, "play w B2", "play w D1", "play w A0", "play x A1", "play b A1") == [
        "? illegal move\n\n",
        "? invalid vertex\n\n",
        "? invalid vertex\n\n",
        "? syntax error\n\n",
        "? it is the other player's move\n\n",
    ]
    assert len(engine.moves) == 1
    assert "X" in said(engine, "showboard")[0]
    assert said(engine, "boardsize 19", "boardsize 3") == ["? unacceptable size\n\n", "=\n\n"]
    assert "p99" in said(engine, "thorndike-latency")[0]


def untrained(id):
    """What an `Engine` needs of a run; it plays at random."""
    game = td.make(id)
    spec = SimpleNamespace(players=2, id=id, masked=True, observation=game.observation_space)
    return SimpleNamespace(spec=spec, env=game, player=lambda: Random(game.action_space))


class Points:
    """A game on 3 x 3 points whose moves may be made once, and a pass; the position is the moves."""

    def position(self, moves):
        mask = np.array([[move not in moves for move in range(9)] + [True]])
        found = SimpleNamespace(obs=np.zeros((1, 3, 3, 2)), info={"mask": mask}, terminated=[False], truncated=[False])
        found.moves, found._replace = moves, lambda earned: found
        return found

    def reset(self, key):
        return self.position([])

    def step(self, now, action, key):
        return self.position([*now.moves, int(action[0])])


def test_a_refused_move_leaves_no_pass_behind():
    """Where a player moves twice, the other passes in between, but not if the second move is refused."""
    engine, game = Engine.__new__(Engine), Points()
    engine.world, engine._step, engine._key, engine.passes = game, game.step, None, True
    said(engine, "clear_board", "play b A1")
    assert said(engine, "play b Z9", "play b A1") == ["? invalid vertex\n\n", "? illegal move\n\n"]
    assert engine.moves == engine.now.moves == [6]
    said(engine, "play b A2")
    assert engine.moves == engine.now.moves == [6, 9, 3]


def test_a_game_without_a_board_is_refused():
    """One whose observations are a vector, or several parts."""
    for space in (td.CartPole().observation_space, Dict(a=Discrete(2))):
        run = untrained("pgx/tic_tac_toe")
        run.spec.observation = space
        with pytest.raises(td.ConfigError, match="board games of two players"):
            Engine(run)


def test_a_swap_is_not_taken_for_a_pass():
    with pytest.raises(td.ConfigError, match="the players swap"):
        Engine(untrained("pgx/hex"))


def test_asking_about_quit_ends_nothing(engine):
    assert said(engine, "7 known_command quit", "8 name") == ["=7 true\n\n", "=8 Thorndike\n\n"]


@pytest.mark.slow
def test_as_many_simulations_as_the_time_allows(run):
    """A search of half the simulations is over in time, and half the time makes no longer search."""
    engine = Engine(run, 0.1)
    assert engine.simulations >= 4
    begun = time.perf_counter()
    said(engine, "genmove b")
    assert time.perf_counter() - begun < 1.0  # a loaded machine
    with pytest.raises(td.ConfigError, match="too short"):
        Engine(run, 1e-7)


def test_what_cannot_play(tmp_path):
    pole = td.train("ppo", "CartPole-v1", 1024, out=tmp_path / "pole", progress=False)
    with pytest.raises(td.ConfigError, match="board games of two players"):
        Engine(pole)


def test_the_command(run, monkeypatch, capsys):
    from thorndike.cli import main

    monkeypatch.setattr("sys.stdin", io.StringIO("1 genmove black\n2 quit\n"))
    assert main(["gtp", str(run.path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("=1 ")
    assert out.endswith("=2\n\n")
    assert "4 simulations" in err
