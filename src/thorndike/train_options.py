"""What `thorndike train ALGORITHM ENV` is told: options of the run, and the algorithm's hyperparameters."""

from __future__ import annotations

import dataclasses
import sys
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from thorndike.algorithms import algorithm_class, entries
from thorndike.errors import ConfigError
from thorndike.names import did_you_mean


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
    evaluate_every: int | None = None
    """steps between evaluations in environments of their own; with a dataset there is one in each row of metrics"""
    evaluate_episodes: int = 20
    """episodes of each evaluation"""
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
    dataset: Path | None = None
    """recorded episodes to learn from (thorndike record); steps are then batches"""
    tensorboard: bool = False
    """also write TensorBoard logs"""
    start: Path | None = None
    """a run, an agent's file or a safetensors file that the agents start from"""
    parts: tuple[str, ...] = ()
    """with --start: the parts to take, such as policy.torso, or torso for every one; by default all that fit"""
    json: bool = False
    """end with one line of JSON on standard output"""


def train_arguments(args: list[str]) -> tuple[Any, str, TrainOptions]:
    """The algorithm, the environment and the options that the words after `thorndike train` say."""
    import tyro

    if len(args) < 2 or args[0].startswith("-") or args[1].startswith("-"):
        if "-h" not in args and "--help" not in args:
            raise ConfigError(
                "say what to train on what: thorndike train ALGORITHM ENV; algorithms are " + ", ".join(entries())
            )
        if not args or args[0].startswith("-"):
            tyro.cli(TrainOptions, args=["--help"], prog="thorndike train ALGORITHM ENV")
    name, env, *rest = args if len(args) > 1 and not args[1].startswith("-") else [args[0], "ENV", *args[1:]]
    cls = algorithm_class(name)
    from thorndike.presets import preset_for

    settings, steps = ({}, None) if {"--no-preset", "--no_preset"} & set(rest) else preset_for(cls, env)
    default, rest = _chosen_variants(dataclasses.replace(cls(), **settings), rest)  # type: ignore[type-var]
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
    parsed = tyro.cli(
        tyro.conf.AvoidSubcommands[command],  # type: ignore
        args=rest,
        prog=f"thorndike train {name} {env}",
        description="\n\n".join([cls.__doc__, *choices]),
    )
    if settings:
        shown = ", ".join(f"{field}={getattr(parsed.algorithm, field)}" for field in settings)
        print(f"preset for {name} on {env}: {shown} (--no-preset for the defaults)", file=sys.stderr)
    return parsed.algorithm, env, parsed.options


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
