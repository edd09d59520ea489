"""What most commands do first: read their options, and open a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from thorndike.errors import ConfigError
from thorndike.own_modules import classes_in, on_path

Step = int | Literal["best"] | None  # which checkpoint


def parse(command: Any, words: list[str], name: str = "") -> Any:
    """Call a function with the options that its parameters and docstring describe."""
    from thorndike.commands.values import command_line

    return command_line(command, words, prog=f"thorndike {name or command.__name__}")


def open_run(path: Path, env: str | None = None, classes: tuple[str, ...] = ()) -> Any:
    """The run at `path`, ready to be computed with; raises `ConfigError` where there is none.

    Args:
        path: its directory.
        env: the environment, where it is one of the user's own.
        classes: files of the user's own classes.
    """
    require_run(path)
    from thorndike.runs.results.run import Run
    from thorndike.runs.training.setup import prepare_jax

    prepare_jax()
    return Run(path, env and on_path(env), classes_in(classes))


def require_run(path: Path) -> None:
    """Raise `ConfigError` where there is no run at `path`; JAX is not needed to see that."""
    if path.is_file():
        raise ConfigError(f"{path} is a file, and a run is a directory with a run.json in it; see thorndike runs")
    if not (path / "run.json").is_file():
        raise ConfigError(f"there is no run at {path}: no run.json in it")
