"""`td.tune`: hyperparameters that earn more."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from thorndike.configuration import is_config, plain, swept, to_json, types_in
from thorndike.drivers.learner import steps_of, warm_iterations
from thorndike.envs import full_id, make
from thorndike.envs.batched import is_jax
from thorndike.errors import ConfigError, IncompatibleError, require
from thorndike.runs.storage.directory import new_directory, training
from thorndike.runs.storage.directory import plain as file_name
from thorndike.runs.storage.environments import describe_environment
from thorndike.runs.training.arguments import check_order, explained
from thorndike.runs.training.options import validate_options, whole_steps
from thorndike.runs.training.progress import tell
from thorndike.runs.training.setup import choose, prepare_jax
from thorndike.runs.training.validation import validate
from thorndike.runs.tuning.fields import check_fields, ends, own_setting, sweepable
from thorndike.runs.tuning.folder import ASKED, PRESET, begin
from thorndike.runs.tuning.halving import Standing, check_plan, rounds
from thorndike.runs.tuning.population import Population
from thorndike.runs.tuning.ranges import Over, check_over, drawn
from thorndike.runs.tuning.sampled import Search
from thorndike.runs.tuning.tuned import Trial, Tuned
from thorndike.text import near

Method = Literal["auto", "population", "optuna"]


@explained
def tune(
    algorithm: Any,
    env: Any,
    over: Over,
    *,
    trials: int = 64,
    steps: int | None = None,
    seed: int = 0,
    seeds: int = 1,
    out: str | Path | None = None,
    method: Method = "auto",
    factor: int = 4,
    first: float = 1 / 16,
    env_kwargs: dict[str, Any] | None = None,
    workers: str = "auto",
    progress: bool | None = None,
) -> Tuned:
    """Find hyperparameters that earn more, from ranges of them.

    Numbers on JAX environments are tuned as a population: all trials are a sweep of one compiled program, and by
    successive halving (Jamieson & Talwalkar 2016; Li et al. 2018) only the better part of them goes on after each cut,
    from where it is. What programs are compiled for, such as whole numbers and networks, and environments on the host
    are tuned by Optuna (`pip install "thorndike[tune]"`): a tree-structured Parzen estimator (Bergstra et al. 2011)
    proposes one trial after the other, and what is below the median of the others is stopped.

    A trial's score is the mean return of the training episodes in the last quarter of its steps, or of the last ten.
    The best is the best of those that were trained to the end. A trial that diverges is last. If the algorithm's own
    setting lies within the ranges, it is the first trial.

    Called again with the same arguments and the same `out`, it goes on from where it stopped, or was killed.

    Args:
        algorithm: a name, which takes the preset for the environment, or a value.
        env: as in `td.train`.
        over: ranges by the names of fields: {"learning_rate": td.LogRange(1e-4, 1e-2), "clip": td.Range(0.1, 0.3),
            "num_envs": td.Choices(4, 8), "torso.widths": td.Choices((64, 64), (256, 256))}. A number takes the place of
            a schedule; "learning_rate.start" is the schedule's own.
        trials: how many settings.
        steps: environment steps of a whole trial, over which schedules run. Default: the preset's, or 100,000.
        seed: of the trials and of the settings that are drawn.
        seeds: how many seeds each setting is trained with; its score is their mean.
        out: a directory; by default a new one under `runs/`.
        method: "population", "optuna", or what fits.
        factor: one of so many trials goes on after each cut (population).
        first: the fraction of the steps before the first cut, or before anything is stopped; a population learns from
            four rollouts at least.
        env_kwargs: for the environment's constructor, where `env` is an id.
        workers: where Gymnasium environments are stepped, as in `td.train`.
        progress: as in `td.train`.

    Returns:
        What was found: `found.best`, the algorithm to train with; `found.agent()`, the best trial's; `print(found)` is
        a table. `preset.json` in the directory has the best settings, for `td.train(..., preset=...)`.

    Raises:
        ConfigError, IncompatibleError, UnknownNameError, MissingExtraError: before anything starts.
        DivergedError: all trials have diverged.
        KeyboardInterrupt: after Ctrl-C.
    """
    prepare_jax()
    check_order(algorithm, env)
    check_over(over)
    check_plan(trials, factor, first)
    env = full_id(env) if isinstance(env, str) else env
    id = env if isinstance(env, str) else None
    world = make(env, **(env_kwargs or {}))
    algorithm, steps = choose(algorithm, id, steps)
    algorithm, steps = plain(algorithm) if is_config(algorithm) else algorithm, whole_steps(steps)
    validate(algorithm, world, steps, seeds)
    check_game(algorithm, world)
    check_fields(algorithm, over)
    options = {"seed": seed, "seeds": seeds, "checkpoint_every": 60.0, "checkpoint_steps": None, "keep": 1}
    validate_options(log_every=None, evaluate_every=None, evaluate_episodes=20, **options)  # type: ignore[arg-type]
    method = chosen(method, algorithm, world, over)
    described = describe_environment(world, id, env_kwargs or {})
    asked = {
        "algorithm": to_json(algorithm),
        "environment": described,
        "over": {name: repr(values) for name, values in over.items()},
        "trials": int(trials),
        "steps": steps,
        "seed": int(seed),
        "seeds": int(seeds),
        "method": method,
        "factor": int(factor),
        "first": float(first),
    }
    path = None if out is None else Path(out).expanduser()
    if path is None or not (path / ASKED).exists():
        name = f"{file_name(described['id'])}_{type(algorithm).__name__.lower()}_tune"
        path = new_directory(out, algorithm, described["id"], name)
    path = path.absolute()
    shared: dict[str, Any] = {"seed": seed, "seeds": seeds, "env_kwargs": env_kwargs, "progress": progress}
    with training(path):
        begin(path, asked)
        try:
            if method == "population":
                settings = drawn(over, trials, seed)
                settings[0] = own_setting(algorithm, over) or settings[0]
                plan = rounds(trials, steps, factor, first, steps_of(algorithm), warm_iterations(algorithm))
                population = Population(algorithm, env, world, settings, plan, path, shared)
                standings = population.run()
                place = population.place(standings[0])
            else:
                shared["workers"] = workers
                search = Search(algorithm, env, over, trials, steps, first, seed, path, shared)
                standings, settings = search.run()
                place = path / f"trial-{standings[0].trial + 1:03}", 0
        except (KeyboardInterrupt, SystemExit):
            tell(f"to go on with the tune, ask for the same again with the directory {near(path)}")
            raise
        found = tuple(_trial(one, settings[one.trial]) for one in standings)
        whole = -(-steps // steps_of(algorithm)) * steps_of(algorithm)
        unknown = math.isnan(found[0].score)
        none = "no episode has ended in time: nothing is known of these settings, give more steps"
        notes = (none,) if unknown else tuple(ends(over, found[0].settings))
        given = world, types_in(algorithm) | (types_in(world) if is_config(world) else set())
        tuned = Tuned(path, algorithm, described["id"], whole, found, notes, place, given)
        tuned.save(path / PRESET)
    return tuned


def _trial(one: Standing, settings: dict[str, Any]) -> Trial:
    return Trial(one.trial, settings, one.steps, one.score, one.lost)


def check_game(algorithm: Any, world: Any) -> None:
    """Raise where training episodes say nothing of a setting, or the algorithm is a sweep already."""
    name = type(algorithm).__name__
    if getattr(world, "players", 1) > 1:
        raise IncompatibleError("in a game against itself an agent's return says nothing of how well it plays")
    require(not getattr(algorithm, "offline", False), f"{name} learns from a dataset, and has no training episodes")
    both = (algorithm, world) if is_config(world) else algorithm
    require(swept(both) is None, "there are arrays in what is to be tuned: give single numbers, and ranges as over=")


def chosen(method: str, algorithm: Any, world: Any, over: Over) -> Literal["population", "optuna"]:
    """How to tune; raises `ConfigError` where what is asked for cannot be."""
    require(
        method in ("auto", "population", "optuna"), f"method must be 'auto', 'population' or 'optuna', got {method!r}"
    )
    fixed = [name for name in over if name not in sweepable(algorithm, over)]
    compiled = is_jax(world)
    if method == "population" and not compiled:
        raise ConfigError("a population needs a JAX environment, and this one is on the host: use method='optuna'")
    if method == "population" and fixed:
        raise ConfigError(
            f"{', '.join(fixed)}: a program is compiled for each value, so no population can have several; leave it "
            "out of what is tuned, or use method='optuna'"
        )
    return "population" if method != "optuna" and compiled and not fixed else "optuna"
