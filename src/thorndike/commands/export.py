"""`thorndike export`: a file with which other programs act as the agent does."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import Step, open_run, parse


def export(
    run: Path,
    /,
    out: Path = Path("policy.onnx"),
    check: int = 1000,
    seed: int | None = None,
    step: Step = None,
    int8: bool = False,
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Write the greedy policy with all that belongs to it, and check that it acts as the agent does.

    Normalisation, network, scaling, clipping and masks are inside; memory is inputs and outputs.

    Args:
        run: the run's directory, or an agent's file
        out: an .onnx file, or a .py module that needs NumPy alone
        check: on how many observations both are compared: recorded, random and extreme ones
        seed: whose agent; by default the first seed's
        step: of which checkpoint, a number of steps or best; by default the newest
        int8: also write NAME.int8.onnx, with weights of 8 bits, if it earns as much in 20 episodes: for size, not speed
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    from thorndike.serve.export import SUFFIXES, seen
    from thorndike.serve.export import export as exported

    if out.suffix not in SUFFIXES:
        from thorndike.errors import ConfigError

        raise ConfigError(f"--out ends with .onnx or .py, got {out}")
    if int8 and (out.suffix != ".onnx" or run.is_file()):
        from thorndike.errors import ConfigError

        raise ConfigError("--int8 makes an .onnx file and plays with it: give a run's directory, and --out NAME.onnx")
    if run.is_file():
        from thorndike.own_modules import classes_in
        from thorndike.runs.results.agent import load

        print(exported(load(run, classes_in(classes)), out, check))
        return
    opened = open_run(run, env, classes)
    agent = opened.agent(seed, step=step)
    found = exported(agent, out, check, seen(opened, agent))
    print(found)
    if int8:
        from thorndike.drivers.scan import member
        from thorndike.serve.quantised import quantise

        print(quantise(found, member(opened.env, 0), opened.spec, opened.stepping))


def main(words: list[str]) -> None:
    """The command."""
    parse(export, words)
