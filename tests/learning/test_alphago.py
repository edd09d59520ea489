"""AlphaGo's stages on tic-tac-toe: each is worth more than the one before."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import thorndike as td
from thorndike.drivers.match import Random, match

EXAMPLE = Path(__file__).parents[2] / "examples" / "alphago.py"
GAME = "pgx/tic_tac_toe"


def example():
    spec = importlib.util.spec_from_file_location("alphago_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_each_stage_beats_the_one_before(tmp_path):
    game = td.make(GAME)
    players = example().stages("tic_tac_toe", tmp_path)
    last, scores = Random(game.action_space), {}
    for stage, player in players.items():
        scores[stage] = match(game, player, last, 1000, opening=2).score
        last = player
    print("alphago", GAME, scores)
