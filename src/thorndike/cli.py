"""The command line: parses, calls the Python API, prints. Heavy imports wait until a command needs them."""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

from thorndike.algorithms import entries
from thorndike.errors import (
    ConfigError,
    IncompatibleError,
    MissingExtraError,
    ThorndikeError,
    UnknownNameError,
)
from thorndike.names import did_you_mean
from thorndike.own_modules import arguments, on_path
from thorndike.runs.training.signals import at_work
from thorndike.train_options import ResumeOptions, TrainOptions, resume_arguments, train_arguments

Step = int | Literal["best"] | None  # which checkpoint

RETURN = "rollout/ep_rew_mean"  # what is drawn where nothing else is said

USAGE = """\
thorndike: deep reinforcement learning in JAX

  thorndike train ALGORITHM ENV   train an agent        (thorndike train ppo CartPole-v1)
  thorndike resume RUN            go on with a run that stopped
  thorndike evaluate RUN          play whole episodes and summarise the returns
  thorndike watch RUN             film the agent
  thorndike plot RUN...           draw learning curves, or whatever else was logged
  thorndike picture RUN           draw what was learned on a grid: values and greedy actions
  thorndike runs [DIR]            list the runs in a folder
  thorndike doctor RUN...         signs of trouble in the metrics, and what to try
  thorndike play RUN              play against the agent (board games)
  thorndike record RUN            record episodes as a dataset
  thorndike list                  algorithms and environments

thorndike COMMAND --help has the options; thorndike train ALGORITHM ENV --help the hyperparameters.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if argv is None:
        sys.stdout, sys.stderr = (s or open(os.devnull, "w") for s in (sys.stdout, sys.stderr))  # noqa: SIM115  # closed
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # nobody wants to see our source
        faulthandler.enable()  # a simulator that crashes in C ends this process: say where
    code = _main(sys.argv[1:] if argv is None else argv)
    if argv is None and at_work():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # rather than wait for a compilation whose program nobody will run
    return code


def _main(argv: list[str]) -> int:
    commands = {"train": train, "resume": resume, "evaluate": evaluate, "watch": watch, "plot": plot}
    commands |= {"picture": picture, "runs": runs, "doctor": doctor, "play": play, "record": record, "list": list_}
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if argv[0] == "--version":
        from thorndike.exports import VERSION

        print(VERSION)
        return 0
    name, rest = argv[0], argv[1:]
    if name not in commands:
        return _fail(f"no command {name!r}{did_you_mean(name, commands)}; there are {', '.join(commands)}", 2)
    try:
        if name == "train":
            train(*train_arguments(rest))
        elif name == "resume":
            resume(*resume_arguments(rest))
        else:
            _parse(commands[name], name, rest)
    except (ConfigError, UnknownNameError, IncompatibleError, MissingExtraError) as error:
        return _fail(str(error), 2)
    except ThorndikeError as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt:
        return 130
    except SystemExit as exit:
        return exit.code or 0 if isinstance(exit.code, (int, type(None))) else _fail(str(exit.code), 1)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _parse(function: Any, name: str, args: list[str]) -> Any:
    from thorndike.command_values import command_line

    return command_line(function, args, prog=f"thorndike {name}")


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
        tensorboard=options.tensorboard,
        on_row=_sinks(options),
        progress=True,
        dry_run=options.dry_run,
    )
    if options.dry_run:
        print(_json(run.to_json()) if options.json else run)  # an `Estimate`
    else:
        _report(run, options.json)


def _report(run: Any, as_json: bool) -> None:
    from thorndike.runs.results.games import playable
    from thorndike.runs.results.video import filmable

    status = run.status
    if as_json:
        keys = ("steps", "seconds", "steps_per_second", "compile_seconds", "return_mean")
        print(json.dumps({"run": str(run.path), **{key: status[key] for key in keys}}))
        return
    known = [x for x in status["return_mean"] if x is not None]
    score = ", ".join(f"{x:.1f}" for x in known) or "no episode ended"
    print(f"run      {run.journal.shell_path}")
    if "stopped" in status:
        print(f"stopped  at {status['steps']:,} of {run.info['steps']:,} steps; {status['stopped']}")
    games = run.spec.players > 1
    what = "of the last evaluation's episodes" if run.info.get("dataset") else "of the last 100 training episodes"
    what = "of the last 100 games against itself" if games else what
    recorded = getattr(run.env, "recorded", False)  # then nothing was played
    if not recorded:
        print(f"return   {score}  (mean {what}{', per seed' if len(known) > 1 else ''})")
    print(f"time     {status['seconds']:.1f} s, and {status['compile_seconds']:.1f} s of compilation")
    see = ["play"] * playable(run.env) if games else ["watch"] * filmable(run.env)
    see = [] if recorded else ["evaluate", *see]
    steps = [f"thorndike {command} {run.journal.shell}" for command in see]
    print("next     " + "    ".join([*steps, f"thorndike plot {run.journal.shell_path}"]))


def resume(path: Path, options: ResumeOptions, change: dict[str, Any]) -> None:
    """Go on with a run and say where it is."""
    from thorndike.runs.training.resume import resume as start

    _require_run(path)
    env = options.env and on_path(options.env)
    run = start(path, options.steps, env=env, progress=True, change=change, on_row=_sinks(options))
    _report(run, options.json)


def _sinks(options: TrainOptions | ResumeOptions) -> list[Any]:
    from thorndike.sinks import named

    return [named(name) for name in dict.fromkeys(options.track)]


def evaluate(
    run: Path,
    /,
    episodes: int = 20,
    seed: int = 0,
    json: bool = False,
    opponent: str | None = None,
    elo: bool = False,
    step: Step = None,
    env: str | None = None,
) -> None:
    """Play whole episodes with the trained agents, greedily, and summarise the returns.

    Args:
        run: the run's directory
        episodes: how many for each agent
        seed: of the environments
        json: print JSON
        opponent: in a game of two players, whom to play: random, perfect (tic-tac-toe) or another run
        elo: in a game of two players, let all kept checkpoints play each other and rate them
        step: of which checkpoint, a number of steps or best; by default the newest
        env: the environment, where it is in a module of its own (my_package:MyEnv-v0)
    """
    if elo and opponent is not None:
        raise ConfigError("--elo rates the checkpoints among each other: leave out --opponent, or --elo")
    if elo:
        ratings = _open(run, env).elo(episodes, run / "elo.png", seed)
        lines = [f"{step:12,} steps  {rating:8.1f}" for step, rating in ratings.items()]
        print(_json(ratings) if json else "\n".join([*lines, str(run / "elo.png")]))
        return
    if opponent is not None:
        if step is not None:
            raise ConfigError("--opponent plays against the newest checkpoint: leave out --step")
        result = _open(run, env).match(opponent, episodes, seed)
        sides = {"first": result.first.tolist(), "second": result.second.tolist(), "score": result.score}
        print(_json(sides) if json else result)
        return
    result = _open(run, env).evaluate(episodes, seed, step=step)
    print(_json(result.to_json()) if json else result)


def watch(
    run: Path,
    /,
    video: Path | None = None,
    seed: int | None = None,
    episodes: int = 1,
    frames: int = 1500,
    explore: bool = False,
    step: Step = None,
    env: str | None = None,
) -> None:
    """Film the trained agent.

    Args:
        run: the run's directory
        video: the file, .gif or .mp4; by default video/<steps>.gif in the run's directory
        seed: whose agent, where several were trained
        episodes: how many to film
        frames: where the film stops, also in the midst of an episode
        explore: act as in training; by default the best action is taken
        step: of which checkpoint, a number of steps or best; by default the newest
        env: the environment, where it is in a module of its own (my_package:MyEnv-v0)
    """
    print(_open(run, env).watch(video, seed, episodes, frames, explore, step=step))


def play(run: Path, /, second: bool = False, seed: int = 0) -> None:
    """Play against the trained agent.

    Args:
        run: the run's directory
        second: let the agent begin
        seed: of what is random in the game
    """
    opened = _open(run)
    from thorndike.runs.results.games import play as start

    start(opened, not second, seed)


def record(
    run: Path,
    /,
    episodes: int = 10,
    out: Path | None = None,
    seed: int = 0,
    explore: bool = False,
    step: Step = None,
    env: str | None = None,
) -> None:
    """Record episodes of the trained agent as a dataset: thorndike train bc ENV --dataset DIR.

    Args:
        run: the run's directory
        episodes: how many
        out: the dataset's directory; by default dataset in the run's directory
        seed: of the environment
        explore: act as in training; by default the best action is taken
        step: of which checkpoint, a number of steps or best; by default the newest
        env: the environment, where it is in a module of its own (my_package:MyEnv-v0)
    """
    dataset = _open(run, env).record(episodes, out, seed, explore, step)
    print(f"{dataset.path}: {len(dataset.lengths)} episodes, {len(dataset)} steps, return {dataset.returns.mean():.1f}")


def plot(
    runs: tuple[Path, ...],
    /,
    out: Path | None = None,
    y: str = RETURN,
    x: Literal["steps", "episodes", "seconds"] = "steps",
    smooth: int = 1,
    threshold: float | Literal["auto", "none"] = "auto",
    labels: tuple[str, ...] = (),
) -> None:
    """Draw curves of one or more runs into one picture. Nothing but what the runs logged is needed for it.

    Args:
        runs: the runs' directories
        out: the picture, .png, .svg or .pdf; by default curve.png in the first run's directory, or one named after y
        y: which of the metrics, such as train/entropy
        x: the horizontal axis
        smooth: a moving average over so many rows of the metrics
        threshold: a line at this height; by default the reward at which Gymnasium takes the environment for solved
        labels: what to call each run; by default what differs between them
    """
    if not runs:
        raise ConfigError("name at least one run: thorndike plot RUN...")
    from thorndike.runs.results.plot import plot as draw

    found = [run for run in runs if (run / "run.json").is_file()] or list(runs)
    for run in sorted(set(runs) - set(found)):
        print(f"left out {run}: no run.json in it", file=sys.stderr)
    _require_run(found[0])
    out = out or found[0] / ("curve.png" if y == RETURN else f"{y.replace('/', '_')}.png")
    height = None if threshold == "none" else threshold
    draw(found, out, y=y, x=x, smooth=smooth, threshold=height, labels=labels or None)
    print(out)


def picture(run: Path, /, out: Path | None = None, seed: int | None = None) -> None:
    """Draw what a tabular algorithm learned on a grid: the value of each cell, and its greedy actions.

    Args:
        run: the run's directory
        out: the picture, .png, .svg or .pdf; by default values.png in the run's directory
        seed: whose values, where several agents were trained
    """
    opened, out = _open(run), out or run / "values.png"
    opened.picture(out, seed)
    print(out)


def runs(folder: Path = Path("runs"), /, json: bool = False) -> None:
    """List the runs in a folder, the newest last: settings are what differs from the defaults or from the preset.

    Args:
        folder: where to look, also in the folders in it
        json: print JSON
    """
    from shutil import get_terminal_size

    from thorndike.runs.results.listing import list_runs, table

    found = list_runs(folder)
    if json:
        print(_json(found))
    else:
        width = get_terminal_size((160, 24)).columns
        print(table(found, width) if found else f"there is no run in {folder}: thorndike train ALGORITHM ENV")


def doctor(runs: tuple[Path, ...], /, json: bool = False) -> None:
    """Look for signs of trouble in the metrics of runs; say what usually causes what was seen, and what to try.

    Args:
        runs: the runs' directories
        json: print JSON
    """
    if not runs:
        raise ConfigError("name at least one run: thorndike doctor RUN...")
    for run in runs:
        _require_run(run)
    from thorndike.runs.results.doctor import diagnose
    from thorndike.runs.storage.journal import Journal

    found = [diagnose(Journal(run)) for run in runs]
    print(_json([one.to_json() for one in found]) if json else "\n\n".join(map(str, found)))


def list_(what: Literal["all", "algorithms", "environments"] = "all", /, json: bool = False) -> None:
    """List algorithms, and environments that are built in or that Gymnasium has here.

    Args:
        what: algorithms or environments; both by default
        json: print JSON
    """
    import gymnasium

    from thorndike.envs import ADAPTERS, BUILT_IN

    algorithms = {name: entry.summary for name, entry in entries().items()}
    registered = sorted(name for name in gymnasium.registry if not name.startswith(("phys2d/", "tabular/", "GymV")))
    if json:
        found = {"algorithms": algorithms, "environments": {"built in": list(BUILT_IN), "gymnasium": registered}}
        print(_json(found if what == "all" else found[what]))
        return
    if what != "environments":
        print("algorithms")
        for name, line in algorithms.items():
            print(f"  {name:16} {line}")
    if what != "algorithms":
        print("environments, built in (JAX)\n  " + "\n  ".join(BUILT_IN))
        print("environments, Gymnasium's (prefix gymnasium/ to force it)")
        print("  " + "\n  ".join(name for name in registered if name not in BUILT_IN))
        print("environments of other libraries, by their prefix\n  " + "\n  ".join(f"{name}/" for name in ADAPTERS))


def _open(path: Path, env: str | None = None) -> Any:
    _require_run(path)
    from thorndike.runs.results.run import Run
    from thorndike.runs.training.setup import prepare_jax

    prepare_jax()
    return Run(path, env and on_path(env))


def _require_run(path: Path) -> None:
    if not (path / "run.json").is_file():
        raise ConfigError(f"there is no run at {path}: no run.json in it")


def _json(value: Any) -> str:
    return json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())
