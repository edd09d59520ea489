"""`thorndike resume`: go on with a run, with other hyperparameters too."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from thorndike.commands.hyperparameters import parsed
from thorndike.commands.opening import require_run
from thorndike.commands.outcome import report, sinks
from thorndike.errors import ConfigError
from thorndike.own_modules import classes_in, on_path


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run from its newest whole checkpoint.

    The algorithm's hyperparameters are options too, those of thorndike train: what is given is changed from here on.
    """

    steps: int | None = None
    """a new total number of steps, to train longer than was planned"""
    json: bool = False
    """end with one line of JSON on standard output"""
    env: str | None = None
    """the environment, where it is one of your own (./my_env.py:MyEnv)"""
    classes: tuple[str, ...] = ()
    """files of your own that the run was trained with (./my_algorithm.py)"""
    track: tuple[Literal["wandb", "mlflow", "tensorboard"], ...] = ()
    """also log to these, where the run was tracked, say; what was begun there goes on"""


def resume_arguments(args: list[str]) -> tuple[Path, ResumeOptions, dict[str, Any]]:
    """The run, the options and the hyperparameters to change that the words after `thorndike resume` say."""
    if not args or args[0].startswith("-") or not Path(args[0], "run.json").is_file():
        return _alone(args)
    from thorndike.configuration import from_json, not_given, type_name
    from thorndike.exports import known_configs
    from thorndike.runs.storage.journal import Journal

    journal, classes = Journal(args[0]), classes_in(_classes(args))
    missing = journal.own_types - set(map(type_name, classes))
    if missing and not {"-h", "--help"} & set(args):
        raise ConfigError(not_given(min(missing)))
    try:
        algorithm = from_json(journal.settings, known_configs(classes))
    except ConfigError:  # opening the run says what is wrong
        return _alone(args)
    import jax
    import numpy as np

    from thorndike.runs.training.changes import difference

    default = jax.tree.map(lambda x: float(x[0]) if np.ndim(x) else x, algorithm)  # of a sweep: none of it can change
    found, options = parsed(default, ResumeOptions(), args[1:], f"thorndike resume {args[0]}")
    return Path(args[0]), options, difference(default, found)


def _classes(args: list[str]) -> list[str]:
    """The words after --classes, which are needed before the others can be read."""
    found: list[str] = []
    for i, word in enumerate(args):
        if word == "--classes":
            found += itertools.takewhile(lambda word: not word.startswith("--"), args[i + 1 :])
        elif word.startswith("--classes="):
            found.append(word.partition("=")[2])
    return found


def _alone(args: list[str]) -> tuple[Path, ResumeOptions, dict[str, Any]]:
    """The run and the options, without hyperparameters."""
    import tyro

    from thorndike.commands.values import command_line

    fields = [("run", Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="the run's directory")])]
    fields += [("options", Annotated[ResumeOptions, tyro.conf.arg(name="")])]
    command = dataclasses.make_dataclass("Resume", fields, frozen=True)
    command.__doc__ = ResumeOptions.__doc__
    given: Any = command_line(command, args, prog="thorndike resume")
    return given.run, given.options, {}


def resume(path: Path, options: ResumeOptions, change: dict[str, Any]) -> None:
    """Go on with a run and say where it is."""
    from thorndike.runs.training.resume import resume as start

    require_run(path)
    env = options.env and on_path(options.env)
    run = start(path, options.steps, env, classes_in(options.classes), True, change=change, on_row=sinks(options.track))
    report(run, options.json)


def main(words: list[str]) -> None:
    """The command."""
    resume(*resume_arguments(words))
