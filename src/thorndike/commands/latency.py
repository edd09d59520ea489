"""`thorndike latency`: how long an agent takes for one action."""

from __future__ import annotations

from json import dumps
from pathlib import Path

from thorndike.commands.opening import open_run, parse
from thorndike.errors import ConfigError

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def latency(
    file: Path,
    /,
    calls: int = 2000,
    budget: str | None = None,
    json: bool = False,
    classes: tuple[str, ...] = (),
) -> None:
    """Time single actions of an agent by JAX, NumPy and ONNX Runtime on one thread, side by side.

    An .onnx file is timed as it is; of a run or an agent's file all that can be had: NumPy and ONNX Runtime where the
    agent can be exported. With a budget the exit code is 1 where the 99th percentile of the fastest is above it.

    Args:
        file: a run's directory, an agent's file, or an .onnx file of thorndike export
        calls: how many are timed
        budget: such as 25ms
        json: print JSON
        classes: files of your own that the agent needs (./my_algorithm.py)
    """
    limit = None if budget is None else seconds(budget)
    if calls < 1:
        raise ConfigError(f"calls must be at least 1, got {calls}")
    from thorndike.serve.latency import of_agent, of_onnx
    from thorndike.serve.timing import spell

    if file.suffix == ".onnx":
        found = of_onnx(file, calls)
    elif file.is_file():
        from thorndike.own_modules import classes_in
        from thorndike.runs.results.agent import load

        found = of_agent(load(file, classes_in(classes)), calls)
    else:
        found = of_agent(open_run(file, classes=classes).agent(), calls)
    told = {name: vars(x) if not isinstance(x, str) else x for name, x in found.items()}
    print(dumps(told) if json else "\n".join(f"{name:14}{x}" for name, x in found.items()))
    if limit is not None:
        best = min(x.p99 for x in found.values() if not isinstance(x, str))
        if best > limit:
            raise SystemExit(f"over budget: the fastest takes {spell(best)} in the 99th percentile, not {budget}")


def seconds(text: str) -> float:
    """ "25ms" as 0.025; raises `ConfigError`."""
    for unit, size in UNITS.items():
        if text.endswith(unit):
            try:
                found = float(text.removesuffix(unit)) * size
            except ValueError:
                continue
            if found > 0:
                return found
    raise ConfigError(f"a budget is a time such as 25ms, 500us or 1s, got {text!r}")


def main(words: list[str]) -> None:
    """The command."""
    parse(latency, words)
