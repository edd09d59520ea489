"""What a run's page shows of its agent at work: a film beside the untrained one, and what it goes by."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from thorndike.drivers.evaluation import Evaluation
from thorndike.errors import IncompatibleError, ThorndikeError
from thorndike.explain.page import compact
from thorndike.pages import Html, text
from thorndike.runs.results.beside import beside


def evaluated(run: Any, episodes: int) -> dict[Path, Evaluation]:
    """Its evaluation, by its path; none, with a warning, where the agents cannot play."""
    try:
        return {run.path: run.evaluate(episodes)}
    except ThorndikeError as error:
        warnings.warn(f"{run.path.name} is not evaluated: {error}", stacklevel=3)
        return {}


def shown(run: Any) -> list[Html]:
    """Both, of the first agent that has not diverged; of what cannot be made, the reason.

    It plays two episodes, of at most 300 frames, and a third for the explanation: seconds, and more where drawing is
    slow or a step takes long.
    """
    lost = {int(i) for i in run.status.get("diverged") or ()}
    seed = next((member["seed"] for i, member in enumerate(run.members()) if i not in lost), None)
    parts = [text("Before and after", "h3")]
    try:
        parts.append(beside(run, seed))
        parts.append(text(f"Both begin the same episode{f', as agents of seed {seed}' if run.runs > 1 else ''}."))
    except (ThorndikeError, NotImplementedError) as error:
        parts.append(text(f"There is no film: {error}."))
    parts.append(text("What it goes by", "h3"))
    try:
        parts += compact(_explained(run, seed))
        parts.append(text("The whole page, with every step of an episode and other methods:"))
        parts.append(text(f"thorndike explain {run.shell}", "pre"))
    except (ThorndikeError, NotImplementedError) as error:
        parts.append(text(f"There is no explanation: {error}."))
    return parts


def _explained(run: Any, seed: int | None) -> Any:
    """By the default method, or where choices are seen, which have no gradient, by occlusion."""
    try:
        return run.explain(seed=seed)
    except IncompatibleError:
        return run.explain(seed=seed, method="occlusion")
