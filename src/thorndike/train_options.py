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
    preset: bool = True
    """use the settings known to work for this pair, where there are any"""
    checkpoint_every: float = 60.0
    """seconds between checkpoints"""
    keep: int = 3
    """how many checkpoints are kept"""
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
    tensorboard: bool = False
    """also write TensorBoard logs"""
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
    found = [_parsed(cls, preset, name, env, steps, words) for words in grid(cls, rest)]
    algorithms = [combined(algorithm) for algorithm, _ in found]
    if settings:
        shown = ", ".join(f"{field}={_shown(getattr(algorithms[0], field))}" for field in settings)
        print(f"preset for {name} on {env}: {shown} (--no-preset for the defaults)", file=sys.stderr)
    return algorithms, env, found[0][1]


def _shown(value: Any) -> str:
    from thorndike.schedules import is_schedule, spell

    return spell(value) if is_schedule(value) else str(value)


def _parsed(cls: Any, preset: Any, name: str, env: str, steps: int | None, args: list[str]) -> tuple[Any, TrainOptions]:
    """One algorithm and the options, from the words behind the algorithm and the environment."""
    import tyro

    from thorndike.command_values import command_line, restored, standing

    _check_names(cls, args)
    default, rest = _chosen_variants(standing(preset), args)
    choices = [f"--{field.replace('_', '-')} {{{','.join(kinds)}}}" for field, kinds in _variants(cls).items()]
    if choices:
        choices = ["Parts to choose by name, each with options of its own: " + "   ".join(choices)]
    nameless = tyro.conf.arg(name="")
    fields = [("options", Annotated[TrainOptions, nameless], TrainOptions(steps=steps))]
    fields += [("algorithm", Annotated[cls, nameless], default)]  # type: ignore
    command = dataclasses.make_dataclass(
        "Train", [(n, hint, dataclasses.field(default=value)) for n, hint, value in fields], frozen=True
    )
    command.__doc__ = TrainOptions.__doc__
    parsed = command_line(
        tyro.conf.AvoidSubcommands[command],  # type: ignore
        rest,
        prog=f"thorndike train {name} {env}",
        description="\n\n".join([cls.__dict__["__doc__"].text, *choices]),
    )
    return restored(parsed.algorithm), parsed.options


def _check_names(cls: Any, args: list[str]) -> None:
    """An option that another library has is an error that says what it is called here."""
    known = [field.name for field in (*dataclasses.fields(cls), *dataclasses.fields(TrainOptions))]
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
