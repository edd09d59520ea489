"""`td.train`: from an algorithm and an environment to a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.choosing import no_preset
from thorndike.configuration import is_config, plain, sweep_of, swept, to_json, types_in
from thorndike.drivers.learner import steps_of
from thorndike.envs import full_id, make
from thorndike.envs.batched import is_masked
from thorndike.envs.host.guard import starts_within
from thorndike.envs.recorded import Recorded
from thorndike.errors import ConfigError
from thorndike.files import write_json
from thorndike.presets import based_on, has_preset
from thorndike.runs.results.given import agents_in, check_names, classes_of, write
from thorndike.runs.results.run import Run
from thorndike.runs.storage.directory import begun, new_directory, training, unused
from thorndike.runs.storage.environments import check_kept, describe, describe_environment
from thorndike.runs.storage.journal import FORMAT
from thorndike.runs.training.arguments import check_order, explained
from thorndike.runs.training.callbacks import functions_of
from thorndike.runs.training.estimate import estimate
from thorndike.runs.training.loop import Loop
from thorndike.runs.training.options import (
    logged,
    rollouts,
    validate_games,
    validate_goals,
    validate_name,
    validate_options,
    validate_restarts,
    validate_stepping,
    whole_steps,
)
from thorndike.runs.training.progress import tell
from thorndike.runs.training.setup import choose, driver_of, prepare_jax, versions
from thorndike.runs.training.start import start_from
from thorndike.runs.training.validation import open_dataset, validate, validate_batch


@explained
def train(
    algorithm: Any,
    env: Any,
    steps: int | None = None,
    *,
    preset: str | Path | None = None,
    seed: int = 0,
    seeds: int = 1,
    out: str | Path | None = None,
    name: str | None = None,
    env_kwargs: dict[str, Any] | None = None,
    progress: bool | None = None,
    log_every: int | None = None,
    evaluate_every: int | None = None,
    evaluate_episodes: int = 20,
    stop_at: float | None = None,
    patience: int | None = None,
    checkpoint_every: float = 60.0,
    checkpoint_steps: int | None = None,
    keep: int = 3,
    log_info: Sequence[str] = (),
    on_row: Any = None,
    tensorboard: bool = False,
    start: Any = None,
    parts: Sequence[str] | None = None,
    given: dict[str, Any] | None = None,
    workers: str = "auto",
    env_timeout: float = 60.0,
    on_env_error: str = "raise",
    dataset: Any = None,
    dry_run: bool = False,
) -> Run:
    """Train an agent, or many side by side.

    Args:
        algorithm: a value (`td.PPO(learning_rate=1e-3)`), used as it is; or a name ("ppo"), which takes the preset
            for this environment where there is one. Float hyperparameters may be 1-D arrays: a sweep. So may the
            numbers of a JAX environment, such as the weights of `td.Weighted`: one program trains for each.
        env: an id, a JAX environment, or a `gymnasium.Env` class, instance or factory; see `td.make`. With a dataset
            also the pair of its spaces, (observation, action), where there is no environment; nothing is played then.
        steps: environment steps for each agent, rounded up to whole rollouts. Default: the preset's, or 100,000.
        preset: for a name, a file of settings in the place of the preset, as `td.tune` writes them.
        seed: first seed; the same seed gives the same result.
        seeds: how many seeds, `seed` to `seed + seeds - 1`; as an axis of one program, each like its own run.
        out: the run's directory; by default a new one under `runs/`.
        name: what to call the run: in `run.json`, in W&B and MLflow, and its directory unless `out` says that.
        env_kwargs: for the environment's constructor, where `env` is an id.
        progress: show a progress bar; by default on a terminal or in a notebook.
        log_every: steps between rows of `metrics.jsonl`; by default a 200th of `steps`, with a dataset a 20th.
        evaluate_every: steps between evaluations, rounded to whole rollouts; there is one more at the end. The agents
            then play `evaluate_episodes` episodes, greedily, in environments that training does not use and with random
            numbers of their own, so training goes on as if they had not; `metrics.jsonl` gets "eval/mean_reward",
            "eval/std" and "eval/ep_len_mean" for each run. Games of two players are played against a random one. By
            default there are none; with a dataset there is one in each row.
        evaluate_episodes: how many episodes of each agent in an evaluation.
        stop_at: training ends with the first evaluation whose mean return, over all seeds and configurations, reaches
            this; without evaluations with the first row of metrics in which the mean return of the last 100 training
            episodes does, once there are so many. `status.json` says so; `td.resume(path, steps=...)` goes on.
        patience: training ends after so many evaluations without a new best mean return.
        checkpoint_every: seconds between checkpoints; there is always one at the end. `checkpoints/best` holds the
            agents of the best evaluation, by the mean over all seeds and configurations; of equal ones the first.
        checkpoint_steps: also save one every so many steps, rounded to whole rollouts, and never delete those.
            Replay memories are in the newest two of all checkpoints only.
        keep: how many of the other checkpoints are kept, the newest.
        log_info: names of numbers in the `info` of an environment on the host: ("is_success", "energy"). Of "cost" rows
            have the sum over an episode, "rollout/ep_cost_mean"; of others the value at its end,
            "rollout/ep_energy_mean", and of "is_success" or "success" its mean, "rollout/success_rate". Evaluations
            report them. JAX environments name theirs in `td.Step.info`.
        on_row: a function, or a list of them, called between chunks with `(run, row)` for each row of `metrics.jsonl`,
            just before it is written. A row is {"steps": n, tag: number}, with a list of numbers where there are
            several agents and None for what is not known. It may answer `td.STOP`, which ends training, or a dict of
            more numbers for the row. One that fails is reported once, and training goes on. `td.sinks` has ready ones.
        tensorboard: also write TensorBoard logs, as `on_row=td.sinks.TensorBoard()` does; also after a resume.
        start: what the agents start from in the place of fresh ones: a run, an agent, or a path of either. From a run
            of the same class whose arrays all fit, everything is taken, also the optimiser and the statistics of
            observations. Else every array of floats is whose path, shape and dtype agree; one line says what was taken
            and what was not. Of a run with as many agents each starts from its own, else all from the first. A plain
            safetensors file has arrays by the ends of their paths ("policy.torso.mlp.layers.0.weight"), laid out as
            here: [inputs, outputs]. What replays fills its memory at first by these agents, not at random.
        parts: paths of the subtrees to take, no others, such as ("policy.torso",) or ("torso",), which is every one;
            observation statistics go with a torso, the optimiser begins anew.
        given: trained agents that the algorithm learns from, by what it calls them: {"teacher": run}. Each is a run,
            whose first agent it is, an agent, a path of either, or a tuple of several. They do not change. The run's
            directory keeps a copy of each, and `run.json` its hash: a run whose copy has changed does not go on.
        workers: for host environments: "serial", "process" or "auto".
        env_timeout: seconds that a host environment may take for a step or a reset. With "serial" workers, which "auto"
            takes in the main thread for one environment or quick ones, code in C is waited for.
        on_env_error: "raise" an `EnvError` when a host environment raises, hangs, dies or breaks its contract; or
            "restart" it: learning sees the episode cut there with a reward of 0, no mean return counts it, and
            `rollout/env_restarts` counts them.
        dataset: recorded episodes to learn from, a `td.Dataset` or its directory; steps are then batches, and the
            environment only serves to evaluate.
        dry_run: do not train, but measure for some seconds what it would take, and return an `Estimate` in the place of
            a run: parameters, memory, programs to compile, time. Nothing of it is kept.

    Returns:
        The run: `run.evaluate()`, `run.plot()`, `run.watch()`, `run.agent()`.

    Raises:
        ConfigError, IncompatibleError, UnknownNameError, MissingExtraError: before anything starts.
        EnvError: the environment raised, hung, or gave what its spaces do not allow; a directory in which nothing was
            saved by then is free again.
        DivergedError: a metric became NaN or infinite; the last good checkpoint is kept.
        KeyboardInterrupt: after Ctrl-C, once the run is saved; `td.resume(run.path)` goes on.
    """
    prepare_jax()
    seed, seeds, keep = (int(x) if isinstance(x, np.integer) else x for x in (seed, seeds, keep))
    kwargs = dict(env_kwargs or {})
    env = full_id(env) if isinstance(env, str) else env
    id = env if isinstance(env, str) else None
    check_order(algorithm, env)
    validate_stepping(workers, env_timeout, on_env_error)
    with starts_within(env_timeout):
        world = make(env, **kwargs)
    name_given = algorithm if isinstance(algorithm, str) else None
    algorithm, steps = choose(algorithm, id, steps, preset)
    algorithm, world = (plain(x) if is_config(x) and not isinstance(x, type) else x for x in (algorithm, world))
    steps = whole_steps(steps)
    agents = agents_in(given)
    check_names(algorithm, agents)
    validate(algorithm, world, steps, seeds, agents)
    if name_given and id and preset is None and not has_preset(type(algorithm), id):
        tell(no_preset(name_given, type(algorithm), id))
    data = open_dataset(algorithm, dataset, is_masked(world))
    if isinstance(world, Recorded):
        if data is None:
            raise ConfigError("spaces alone are enough only to learn from a dataset: give one, or an environment")
        world.id, world.masked = data.path.name, data.masks is not None
    validate_name(name)
    validate_options(
        seed=seed,
        seeds=seeds,
        log_every=log_every,
        evaluate_every=evaluate_every,
        evaluate_episodes=evaluate_episodes,
        checkpoint_every=checkpoint_every,
        checkpoint_steps=checkpoint_steps,
        keep=keep,
    )
    functions = functions_of(on_row, tensorboard)
    plays = not isinstance(world, Recorded)
    validate_goals(stop_at, patience, plays and (evaluate_every is not None or data is not None))
    validate_games(world, evaluate_every, evaluate_episodes)
    validate_restarts(world, on_env_error)
    log_info = logged(world, log_info)
    if data is None:
        validate_batch(algorithm, world)
    else:
        data.fit(describe(world, steps, ""))
    runs = seeds * (swept((algorithm, world)) or 1)
    begins = start_from(start, parts, algorithm, describe(world, steps, ""), seeds, runs)
    described = describe_environment(world, id, kwargs)
    check_kept(described)
    base, changed = based_on(algorithm, described["id"])
    chunk = 1 if data is not None else steps_of(algorithm)
    info = {
        "format": FORMAT,
        "name": name,
        "algorithm": to_json(algorithm),
        "environment": described,
        "sweep": sweep_of(algorithm, world),
        "base": base,
        "changed": changed,
        "steps": -(-steps // chunk) * chunk,
        "seed": seed,
        "seeds": seeds,
        "log_every": rollouts(log_every or steps / (200 if data is None else 20), chunk),  # in rollouts
        "evaluate_every": evaluate_every and rollouts(evaluate_every, chunk) * chunk,  # in steps
        "evaluate_episodes": int(evaluate_episodes),
        "stop_at": None if stop_at is None else float(stop_at),
        "patience": None if patience is None else int(patience),
        "checkpoint_every": float(checkpoint_every),
        "checkpoint_steps": checkpoint_steps and rollouts(checkpoint_steps, chunk) * chunk,
        "keep": keep,
        "tensorboard": tensorboard,
        "start": None if begins is None else begins.record,
        "workers": workers,
        "env_timeout": env_timeout,
        "on_env_error": on_env_error,
        "log_info": log_info,
        "dataset": None if data is None else str(data.path.resolve()),
        "dataset_digest": None if data is None else data.digest(),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "versions": versions(),
    }
    if dry_run:
        return estimate(world, info, types_in(algorithm) | classes_of(agents), begins, agents)  # type: ignore[return-value]
    path = new_directory(out, algorithm, described["id"], name)
    with training(path):
        unused(path)
        write_json(path / "run.json", info | {"given": write(path, agents)} if agents else info)
        try:
            run = Run(path, world, classes=types_in(algorithm) | classes_of(agents))
            with driver_of(run) as driver:
                Loop(run, driver, None, progress, functions, begins).go()
        except BaseException:  # Ctrl-C too, while environments are made
            if not begun(path):
                (path / "run.json").unlink()
            raise
    return run
