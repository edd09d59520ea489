"""A folder that a model hub takes: the agent, its policy as ONNX, a film, scores, and a card that says what it is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.drivers.evaluation import Evaluation
from thorndike.errors import ConfigError, ThorndikeError
from thorndike.files import replace, write_json
from thorndike.runs.results.actors import Step
from thorndike.runs.results.agent import load
from thorndike.runs.results.plot import plot
from thorndike.serve.card import Card
from thorndike.serve.export import export, seen

FRAMES = 300  # of the film: hubs show small files


@dataclasses.dataclass(frozen=True)
class Pushed:
    """The folder, and what it has no file of, with the reason."""

    path: Path
    files: list[str]
    without: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.path}: {', '.join(self.files)}"]
        return "\n".join([*lines, *(f"  without {what}: {why}" for what, why in self.without.items())])


def push(
    run: Any, to: str | Path, episodes: int = 20, seed: int | None = None, step: Step = None, licence: str = ""
) -> Pushed:
    """Write the folder `to`, whole or not at all. Nothing is uploaded.

    Args:
        run: the run.
        to: a new folder, or an empty one.
        episodes: to evaluate with, as `run.evaluate(episodes)` does.
        seed: whose agent; by default the first seed's.
        step: of another checkpoint, by its step or as "best"; by default the newest.
        licence: by which others may use it, as hubs write it: "apache-2.0".

    Raises:
        ConfigError: there is something in `to`, or the run has no such agent or checkpoint.
    """
    to = Path(to).expanduser().absolute()
    with _whole(to) as folder:
        agent, without = run.agent(seed, step=step), {}
        agent.save(folder / "agent.td")
        index = 0 if seed is None else seed - run.seed
        scores, own = _scores(run, episodes, step, index)
        if isinstance(scores, dict):
            write_json(folder / "evaluation.json", scores)
        else:
            without["evaluation.json"] = scores
        try:
            onnx: Any = export(agent, folder / "policy.onnx", observations=seen(run, agent))
        except ThorndikeError as error:
            without["policy.onnx"] = onnx = str(error)
        film = _film(run, folder, seed, step, without)
        curve = ""
        try:
            plot(run.journal, folder / "curve.png")
            curve = "curve.png"
        except ThorndikeError as error:  # no episode has ended, or nothing is played
            without["curve.png"] = str(error)
        status = run.status
        steps = status["best"]["steps"] if step == "best" and "best" in status else step or status["steps"]
        card = Card(
            journal=run.journal,
            seed=run.seed + index,
            masked=agent.spec.masked,
            game=run.spec.players > 1,
            steps=int(steps),
            scores=scores,
            own=own,
            loads=_acts(folder / "agent.td", run),
            classes=tuple(f"{cls.__module__}:{cls.__name__}" for cls in run.own_classes()),
            onnx=onnx,
            film=film,
            curve=curve,
            licence=licence,
        )
        replace(folder / "README.md", [str(card).encode()])
        files = sorted(path.name for path in folder.iterdir())
    return Pushed(to, files, without)


@contextlib.contextmanager
def _whole(to: Path) -> Iterator[Path]:
    """A folder beside `to` that takes its place when all is done, and is gone where something fails."""
    if os.path.lexists(to) and (to.is_symlink() or not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"there is something at {to} already: name a new folder, or an empty one")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        made = to.with_name(f".{to.name}.{secrets.token_hex(4)}")
        made.mkdir()
    except OSError as error:
        raise ConfigError(f"cannot make the folder {to}: {error.strerror}") from None
    try:
        yield made
        if to.is_dir():
            to.rmdir()
        os.replace(made, to)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _scores(run: Any, episodes: int, step: Step, index: int) -> tuple[dict[str, Any] | str, dict[str, Any] | None]:
    """What `thorndike evaluate --json` prints, or why that cannot be; and the same of one of several agents."""
    if getattr(run.env, "recorded", False):
        return "there is no environment to play in, it learned from recorded episodes", None
    try:
        found = run.evaluate(episodes, step=step)
    except ThorndikeError as error:
        if isinstance(error, ConfigError):
            raise
        return str(error), None
    if run.runs == 1:
        return found.to_json(), None
    row = np.array([index])
    earned = {name: values[row] for name, values in found.earned.items()}
    return found.to_json(), Evaluation(found.returns[row], found.lengths[row], earned=earned).to_json()


def _film(run: Any, folder: Path, seed: int | None, step: Step, without: dict[str, str]) -> str:
    """The name of a film, or of a picture of values; "" where there is neither."""
    try:
        run.watch(folder / "film.gif", seed, frames=FRAMES, step=step)
        return "film.gif"
    except ThorndikeError as error:
        why = str(error)
    try:
        run.picture(folder / "values.png", seed)
        return "values.png"
    except (ThorndikeError, ValueError, TypeError):
        without["film.gif"] = why
        return ""


def _acts(file: Path, run: Any) -> str:
    """ "", or why the agent does not act where its file alone is there."""
    try:
        agent = load(file, run._classes)
        agent.spec.observation.seed(0)
        mask = agent.all_legal() if agent.spec.masked else None
        agent.act(agent.spec.observation.sample(), mask=mask)
    except ThorndikeError as error:
        return str(error)
    return ""
