"""AlphaGo's stages on tic-tac-toe, as the example trains them: each is worth more than the one before."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "alphago.py"


@pytest.mark.slow
def test_each_stage_beats_the_one_before(tmp_path):
    """But for playouts beside the network: against each other the two searches draw nearly all games."""
    example = runpy.run_path(str(EXAMPLE))
    clone, full = example["trained"]("tic_tac_toe", tmp_path)
    found = example["scores"]("tic_tac_toe", clone, full)
    print("alphago, tic-tac-toe", found)
    cloned, gradient, search, both = found.values()
    assert cloned >= 0.80
    assert gradient >= 0.55
    assert search >= 0.55
    assert both >= 0.45
