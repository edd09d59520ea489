"""Runs: training them, what their folders hold, and what one does with them.

The package can be called, because it has the name of a public function: `td.runs("runs")` lists the runs in a folder.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any


class Runs(types.ModuleType):
    """A package that can be called."""

    def __call__(self, folder: str | Path = "runs") -> list[dict[str, Any]]:
        """The runs in a folder as plain dictionaries: see `thorndike.runs.results.listing.list_runs`."""
        from thorndike.runs.results.listing import list_runs

        return list_runs(folder)


sys.modules[__name__].__class__ = Runs
runs: Runs = sys.modules[__name__]  # type: ignore[assignment]  # which `td.runs` finds here
