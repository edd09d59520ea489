"""`thorndike train ALGORITHM ENV`: options of the run, the algorithm's hyperparameters, and training."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from json import dumps
from pathlib import Path
from typing import Any, Literal

from thorndike.algorithms import algorithm_class, entries, entry_of
from thorndike.commands.hyperparameters import parsed
from thorndike.commands.outcome import report, sinks
from thorndike.errors import ConfigError, UnknownNameError
from thorndike.own_modules import arguments, on_path


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train an agent. The algorithm's hyperparameters are options too: thorndike train ALGORITHM ENV --help."""

    steps: int | None = None
    """environment steps for each agent; by default the preset's, or 100,000"""
    seed: int = 0
    """the first seed"""
    seeds: int = 1
    """how many seeds to train side by side"""
    out: Path | None = None
    """the run's directory; by default a new one under runs/"""
    name: str | None = None
    """what to call the run, and its directory unless --out says that"""
    preset: bool = True
    """use the settings known to work for this pair, where there are any; --preset FILE: those that tune wrote"""
    evaluate_every: int | None = None
    """steps between evaluations in environments of their own; with a dataset there is one in each row of metrics"""
    evaluate_episodes: int = 20
    """episodes of each evaluation"""
    stop_at: float | None = None
    """end when the mean return of an evaluation (without them, of the last 100 training episodes) reaches this"""
    patience: int | None = None
    """end after so many evaluations without a new best mean return"""
    checkpoint_every: float = 60.0
    """seconds between checkpoints"""
    checkpoint_steps: int | None = None
    """steps between checkpoints that are never deleted"""
    keep: int = 3
    """how many of the other checkpoints are kept"""
    workers: Literal["auto", "serial", "process"] = "auto"
    """where Gymnasium environments are stepped"""
    on_env_error: Literal["raise", "restart"] = "raise"
    """what to do when a Gymnasium environment raises, hangs, dies or breaks its contract"""
    env_timeout: float = 60.0
    """seconds that a Gymnasium environment may take for a step; C code is stopped in processes only"""
    env_kwargs: tuple[str, ...] = ()
    """arguments of the environment: --env-kwargs size=5 name=big"""
    dataset: Path | None = None
    """recorded episodes to learn from (thorndike record); steps are then batches"""
    log_info: tuple[str, ...] = ()
    """numbers in the info of a Gymnasium environment to log, such as is_success or energy"""
    tensorboard: bool = False
    """also write TensorBoard logs"""
    track: tuple[Literal["wandb", "mlflow", "tensorboard"], ...] = ()
    """also log to these; their own environment variables say where (WANDB_PROJECT, MLFLOW_EXPERIMENT_NAME)"""
    start: Path | None = None
    """a run, an agent's file or a safetensors file that the agents start from"""
    parts: tuple[str, ...] = ()
    """with --start: the parts to take, such as policy.torso, or torso for every one; by default all that fit"""
    given: tuple[str, ...] = ()
    """runs or agents' files that it learns from: --given teacher=runs/1, once more for each of several"""
    dry_run: bool = False
    """do not train: measure for some seconds what it would take, and print that"""
    json: bool = False
    """end with one line of JSON on standard output"""


def train_arguments(args: list[str]) -> tuple[list[Any], str, TrainOptions]:
    """The algorithms, several for a grid, the environment and the options that follow `thorndike train`."""
    from thorndike.commands.values import command_line

    if len(args) < 2 or args[0].startswith("-") or args[1].startswith("-"):
        if "-h" not in args and "--help" not in args:
            raise ConfigError(
                "say what to train on what: thorndike train ALGORITHM ENV; algorithms are " + ", ".join(entries())
            )
        if not args or args[0].startswith("-"):
            command_line(TrainOptions, ["--help"], prog="thorndike train ALGORITHM ENV")
    name, env, *rest = args if len(args) > 1 and not args[1].startswith("-") else [args[0], "ENV", *args[1:]]
    _check_order(name, env)
    cls = algorithm_class(on_path(name))
    from thorndike.commands.values import combined, grid
    from thorndike.configuration import type_name
    from thorndike.envs import full_id, known
    from thorndike.presets import has_preset, preset_for, read_preset

    env = full_id(on_path(env))
    file, rest = _preset_file(rest)
    preset_wanted = not {"--no-preset", "--no_preset"} & set(rest)
    settings, steps = preset_for(cls, env) if preset_wanted else ({}, None)
    settings, steps = (settings, steps) if file is None else read_preset(file, cls)
    preset = dataclasses.replace(cls(), **settings)
    options, prog = TrainOptions(steps=steps), f"thorndike train {args[0]} {args[1] if rest != args[1:] else 'ENV'}"
    found = [parsed(preset, options, words, prog) for words in grid(cls, rest)]
    algorithms = [combined(algorithm) for algorithm, _ in found]
    if file is None and preset_wanted and not has_preset(cls, env) and known(env) and type_name(cls) == cls.__name__:
        from thorndike.choosing import no_preset

        print(no_preset(name, cls, env), file=sys.stderr)
    if file is not None:
        print(f"settings of {file}", file=sys.stderr)
    elif settings:
        shown = ", ".join(f"{field}={_shown(getattr(algorithms[0], field))}" for field in settings)
        print(f"preset for {name} on {env}: {shown} (--no-preset for the defaults)", file=sys.stderr)
    return algorithms, env, found[0][1]


def _preset_file(words: list[str]) -> tuple[str | None, list[str]]:
    """Take `--preset FILE` out of words; alone, `--preset` stays."""
    for i, word in enumerate(words):
        if word.startswith("--preset="):
            return word.partition("=")[2], words[:i] + words[i + 1 :]
        if word == "--preset" and i + 1 < len(words) and not words[i + 1].startswith("-"):
            return words[i + 1], words[:i] + words[i + 2 :]
    return None, words


def _check_order(name: str, env: str) -> None:
    """Raise `ConfigError` where the environment was typed first."""

    def is_algorithm(word: str) -> bool:
        with contextlib.suppress(UnknownNameError):
            return bool(entry_of(word))
        return False

    if is_algorithm(env) and not is_algorithm(name):
        raise ConfigError(f"the algorithm comes first, then the environment: thorndike train {env} {name}")


def _shown(value: Any) -> str:
    from thorndike.schedules import is_schedule, spell

    return spell(value) if is_schedule(value) else str(value)


def _given(words: tuple[str, ...]) -> dict[str, tuple[str, ...]] | None:
    """{"teacher": ("runs/1", "runs/2")} of the words "teacher=runs/1" and "teacher=runs/2"."""
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise ConfigError(f"--given takes words such as teacher=runs/1, not {word!r}")
        found[name] = (*found.get(name, ()), path)
    return found or None


def train(algorithms: list[Any], env: str, options: TrainOptions) -> None:
    """Train, one run after the other, and say where they are."""
    for i, algorithm in enumerate(algorithms):
        out = options.out and (options.out if len(algorithms) == 1 else options.out / str(i + 1))
        _train(algorithm, env, dataclasses.replace(options, out=out))


def _train(algorithm: Any, env: str, options: TrainOptions) -> None:
    from thorndike.runs.training.train import train as start

    run: Any = start(
        algorithm,
        env,
        options.steps,
        seed=options.seed,
        seeds=options.seeds,
        out=options.out,
        name=options.name,
        evaluate_every=options.evaluate_every,
        evaluate_episodes=options.evaluate_episodes,
        stop_at=options.stop_at,
        patience=options.patience,
        env_kwargs=arguments(options.env_kwargs),
        log_info=options.log_info,
        checkpoint_every=options.checkpoint_every,
        checkpoint_steps=options.checkpoint_steps,
        keep=options.keep,
        workers=options.workers,
        on_env_error=options.on_env_error,
        env_timeout=options.env_timeout,
        dataset=options.dataset,
        start=options.start,
        parts=options.parts,
        given=_given(options.given),
        tensorboard=options.tensorboard,
        on_row=sinks(options.track),
        progress=True,
        dry_run=options.dry_run,
    )
    if options.dry_run:
        print(dumps(run.to_json()) if options.json else run)  # an `Estimate`
    else:
        report(run, options.json)


def main(words: list[str]) -> None:
    """The command."""
    train(*train_arguments(words))
