"""An algorithm's hyperparameters as options of a command."""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any

from thorndike.errors import ConfigError
from thorndike.names import OTHERS, called, did_you_mean


def parsed(default: Any, options: Any, args: list[str], prog: str) -> tuple[Any, Any]:
    """The algorithm and the options, from words that change these defaults."""
    import tyro

    from thorndike.commands.values import command_line, restored, standing

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
    from thorndike.configuration import untyped

    known = [field.name for field in (*dataclasses.fields(cls), *dataclasses.fields(options))]
    for word in args:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in OTHERS and name not in known and "called" in (told := called(name, known)):
            raise ConfigError(f"{cls.__name__} has no option --{name.replace('_', '-')}{told.replace('_', '-')}")
        if word.startswith("--") and name not in known and (why := untyped(cls, name)):
            raise ConfigError(why)


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
