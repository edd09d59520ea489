"""`thorndike tune ALGORITHM ENV`: hyperparameters from ranges of them."""

from __future__ import annotations

import dataclasses
import typing
from json import dumps
from pathlib import Path
from typing import Any, Literal

from thorndike.errors import ConfigError
from thorndike.own_modules import arguments, on_path


@dataclasses.dataclass(frozen=True)
class TuneOptions:
    """Find hyperparameters that earn more. Those that are not tuned are options too, as in thorndike train."""

    over: tuple[str, ...] = ()
    """what to tune: --over learning_rate=1e-4..1e-2 clip=0.1..0.3 num_envs=4,8 torso.widths=64,64/256,256; a range is
    logarithmic where its ends are a factor of ten or more apart, unless it is linear:0.01..0.99 (or log:0.1..0.3)"""
    trials: int = 64
    """how many settings"""
    steps: int | None = None
    """environment steps of a whole trial; by default the preset's, or 100,000"""
    seed: int = 0
    """of the trials, and of the settings that are drawn"""
    seeds: int = 1
    """how many seeds each setting is trained with"""
    out: Path | None = None
    """a directory; by default a new one under runs/; that of a tune that was stopped goes on with it"""
    method: Literal["auto", "population", "optuna"] = "auto"
    """all trials in one compiled program, or one after the other"""
    factor: int = 4
    """one of so many trials goes on after each cut (population)"""
    first: float = 1 / 16
    """the fraction of the steps before the first cut"""
    preset: bool = True
    """begin with the settings known to work for this pair, where there are any"""
    workers: Literal["auto", "serial", "process"] = "auto"
    """where Gymnasium environments are stepped"""
    env_kwargs: tuple[str, ...] = ()
    """arguments of the environment: --env-kwargs size=5 name=big"""
    json: bool = False
    """end with one line of JSON on standard output"""


def tune(name: str, env: str, words: list[str]) -> None:
    """Tune, and print the table."""
    from thorndike.algorithms import algorithm_class
    from thorndike.commands.hyperparameters import parsed
    from thorndike.envs import full_id
    from thorndike.presets import preset_for

    cls, env = algorithm_class(on_path(name)), full_id(on_path(env))
    wanted = not {"--no-preset", "--no_preset"} & set(words)
    settings, steps = preset_for(cls, env) if wanted else ({}, None)
    start = dataclasses.replace(cls(), **settings)
    algorithm, options = parsed(start, TuneOptions(steps=steps), words, f"thorndike tune {name} {env}")
    if not options.over:
        raise ConfigError("say what to tune, and over what: --over learning_rate=1e-4..1e-2 clip=0.1..0.3")
    from thorndike.runs.tuning.tune import tune as search

    found = search(
        algorithm,
        env,
        dict(over(word, algorithm) for word in options.over),
        trials=options.trials,
        steps=options.steps,
        seed=options.seed,
        seeds=options.seeds,
        out=options.out,
        method=options.method,
        factor=options.factor,
        first=options.first,
        env_kwargs=arguments(options.env_kwargs),
        workers=options.workers,
    )
    print(dumps(found.to_json()) if options.json else found)
    if not options.json:
        print(f"next    thorndike train {name} {env} --preset {found.path / 'preset.json'}")


def over(word: str, algorithm: Any) -> tuple[str, Any]:
    """A field and its range, of a word such as "learning_rate=1e-4..1e-2"; raises `ConfigError`."""
    from thorndike.runs.tuning.ranges import Choices, LogRange, Range

    name, equals, text = word.partition("=")
    name = name.replace("-", "_")
    if not name or not equals or not text:
        raise ConfigError(f"--over takes words such as learning_rate=1e-4..1e-2 or num_envs=4,8, not {word!r}")
    kind, colon, rest = text.partition(":")
    named = kind if colon and kind in ("log", "linear") else ""
    low, dots, high = (rest if named else text).partition("..")
    if not dots:
        return name, Choices(*_choices(name, text, algorithm))
    try:
        ends = float(low), float(high)
    except ValueError:
        raise ConfigError(
            f"the range of {name} needs a number on each side of the dots, as 1e-4..1e-2: {text!r}"
        ) from None
    far = 0 < 10 * ends[0] <= ends[1]
    return name, (LogRange if named == "log" or (far and not named) else Range)(*ends)


def _choices(name: str, text: str, algorithm: Any) -> list[Any]:
    """The values that are listed: by commas, or, where each is a list itself, by slashes."""
    from thorndike.commands.values import hint_of

    hint = hint_of(type(algorithm), name)
    if typing.get_origin(hint) is not tuple:
        return [_value(word) for word in text.split(",")]
    found = [_value(word) for word in text.split("/")]
    return [value if isinstance(value, tuple) else (value,) for value in found]


def _value(word: str) -> Any:
    return arguments((f"value={word}",))["value"]


def main(words: list[str]) -> None:
    """The command."""
    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        if "-h" not in words and "--help" not in words:
            raise ConfigError("say what to tune on what: thorndike tune ALGORITHM ENV --over learning_rate=1e-4..1e-2")
        from thorndike.commands.values import command_line

        command_line(TuneOptions, ["--help"], prog="thorndike tune ALGORITHM ENV")
    tune(words[0], words[1], words[2:])
