"""What `thorndike train ALGORITHM ENV` is told: options of the run, and the algorithm's hyperparameters."""

from __future__ import annotations

import dataclasses
import sys
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from thorndike.algorithms import algorithm_class, entries
from thorndike.errors import ConfigError
from thorndike.names import OTHERS, called, did_you_mean


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
    """use the settings known to work for this pair, where there are any"""
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
    dry_run: bool = False
    """do not train: measure for some seconds what it would take, and print that"""
    json: bool = False
    """end with one line of JSON on standard output"""


def train_arguments(args: list[str]) -> tuple[list[Any], str, TrainOptions]:
    """The algorithms, several for a grid, the environment and the options that follow `thorndike train`."""

    from thorndike.command_values import command_line

    if len(args) < 2 or args[0].startswith("-") or args[1].startswith("-"):
        if "-h" not in args and "--help" not in args:
            raise ConfigError(
                "say what to train on what: thorndike train ALGORITHM ENV; algorithms are " + ", ".join(entries())
            )
        if not args or args[0].startswith("-"):
            command_line(TrainOptions, ["--help"], prog="thorndike train ALGORITHM ENV")
    name, env, *rest = args if len(args) > 1 and not args[1].startswith("-") else [args[0], "ENV", *args[1:]]
    cls = algorithm_class(name)
    from thorndike.command_values import combined, grid
    from thorndike.envs import full_id
    from thorndike.own_modules import on_path
    from thorndike.presets import preset_for

    env = full_id(on_path(env))
    settings, steps = ({}, None) if {"--no-preset", "--no_preset"} & set(rest) else preset_for(cls, env)
    preset = dataclasses.replace(cls(), **settings)
    options, prog = TrainOptions(steps=steps), f"thorndike train {name} {env}"
    found = [_parsed(preset, options, words, prog) for words in grid(cls, rest)]
    algorithms = [combined(algorithm) for algorithm, _ in found]
    if settings:
        shown = ", ".join(f"{field}={_shown(getattr(algorithms[0], field))}" for field in settings)
        print(f"preset for {name} on {env}: {shown} (--no-preset for the defaults)", file=sys.stderr)
    return algorithms, env, found[0][1]


def _shown(value: Any) -> str:
    from thorndike.schedules import is_schedule, spell

    return spell(value) if is_schedule(value) else str(value)


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
    """the environment, where it is in a module of its own (my_package:MyEnv-v0)"""
    track: tuple[Literal["wandb", "mlflow", "tensorboard"], ...] = ()
    """also log to these, where the run was tracked, say; what was begun there goes on"""


def resume_arguments(args: list[str]) -> tuple[Path, ResumeOptions, dict[str, Any]]:
    """The run, the options and the hyperparameters to change that the words after `thorndike resume` say."""
    if not args or args[0].startswith("-") or not Path(args[0], "run.json").is_file():
        return _alone(args)
    from thorndike.configuration import from_json
    from thorndike.exports import known_configs
    from thorndike.runs.storage.journal import Journal

    journal = Journal(args[0])
    try:
        algorithm = from_json(journal.settings, known_configs())
    except ConfigError:  # classes of one's own, which only Python can be given
        return _alone(args)
    import jax
    import numpy as np

    from thorndike.runs.training.changes import difference

    default = jax.tree.map(lambda x: float(x[0]) if np.ndim(x) else x, algorithm)  # of a sweep: none of it can change
    found, options = _parsed(default, ResumeOptions(), args[1:], f"thorndike resume {args[0]}")
    return Path(args[0]), options, difference(default, found)


def _alone(args: list[str]) -> tuple[Path, ResumeOptions, dict[str, Any]]:
    """The run and the options, without hyperparameters."""
    import tyro

    from thorndike.command_values import command_line

    fields = [("run", Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="the run's directory")])]
    fields += [("options", Annotated[ResumeOptions, tyro.conf.arg(name="")])]
    command = dataclasses.make_dataclass("Resume", fields, frozen=True)
    command.__doc__ = ResumeOptions.__doc__
    given: Any = command_line(command, args, prog="thorndike resume")
    return given.run, given.options, {}


def _parsed(default: Any, options: Any, args: list[str], prog: str) -> tuple[Any, Any]:
    """The algorithm and the options, from words that change these defaults."""
    import tyro

    from thorndike.command_values import command_line, restored, standing

    cls: Any = type(default)
    _check_names(cls, type(options), args)
    default, rest = _chosen_variants(standing(default), args)
    choices = [f"--{field.replace('_', '-')} {{{','.join(kinds)}}}" for field, kinds in _variants(cls).items()]
    if choices:
        choices = ["Parts to choose by name, each with options of its own: " + "   ".join(choices)]
    nameless = tyro.conf.arg(name="")
    fields = [("options", Annotated[type(options), nameless], options)]
    fields += [("algorithm", Annotated[cls, nameless], default)]  # type: ignore
    command = dataclasses.make_dataclass(
        "Command", [(n, hint, dataclasses.field(default=value)) for n, hint, value in fields], frozen=True
    )
    command.__doc__ = type(options).__doc__
    parsed = command_line(
        tyro.conf.AvoidSubcommands[command],  # type: ignore
        rest,
        prog=prog,
        description="\n\n".join([cls.__dict__["__doc__"].text, *choices]),
    )
    return restored(parsed.algorithm), parsed.options


def _check_names(cls: Any, options: Any, args: list[str]) -> None:
    """An option that another library has is an error that says what it is called here."""
    known = [field.name for field in (*dataclasses.fields(cls), *dataclasses.fields(options))]
    for word in args:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in OTHERS and name not in known and "called" in (told := called(name, known)):
            raise ConfigError(f"{cls.__name__} has no option --{name.replace('_', '-')}{told.replace('_', '-')}")


def _variants(cls: Any) -> dict[str, dict[str, type]]:
    """The fields that hold one of several kinds of config, and those kinds by name."""
    fields = {}
    for field, hint in cls.__thorndike_hints__.items():
        kinds = {kind.__name__.lower(): kind for kind in typing.get_args(hint) if hasattr(kind, "__thorndike_hints__")}
        if type(None) in typing.get_args(hint):
            kinds["none"] = type(None)
        if len(kinds) > 1:
            fields[field] = kinds
    return fields


def _chosen_variants(default: Any, args: list[str]) -> tuple[Any, list[str]]:
    """Take "--exploration softmax" and the like out of `args`."""
    for field, kinds in _variants(type(default)).items():
        flag = f"--{field.replace('_', '-')}"
        args = [part for arg in args for part in (arg.split("=", 1) if arg.startswith(f"{flag}=") else [arg])]
        if flag in args[:-1]:
            at = args.index(flag)
            word, args = args[at + 1].lower(), args[:at] + args[at + 2 :]
            if word not in kinds:
                raise ConfigError(f"{flag} {word}{did_you_mean(word, kinds)}: there are {', '.join(kinds)}")
            default = dataclasses.replace(default, **{field: kinds[word]()})
    return default, args
