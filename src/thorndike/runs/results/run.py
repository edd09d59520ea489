"""A run: the directory that holds everything of one training, and what one does with it afterwards."""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.configuration import from_json, is_config, not_given, swept, to_json, type_name, types_in
from thorndike.drivers.evaluate import check_episodes, evaluate
from thorndike.drivers.evaluation import Evaluation
from thorndike.drivers.match import Match, Trained, against_random, match
from thorndike.drivers.scan import member, members_of
from thorndike.envs import full_id, make
from thorndike.envs.host.guard import starts_within
from thorndike.errors import CheckpointError, ConfigError, DivergedError, IncompatibleError, ThorndikeError
from thorndike.exports import known_configs
from thorndike.memory.dataset import Dataset, new
from thorndike.own_modules import typed
from thorndike.runs.results.actors import Actors, Step, actors_at, expand
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.doctor import Diagnosis, diagnose
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.arrays import from_arrays
from thorndike.runs.storage.environments import describe, remake
from thorndike.runs.storage.journal import Journal
from thorndike.schedules import settled
from thorndike.text import near, score
from thorndike.types import PyTree, Spec


class Run:
    """A run directory. Open a finished or interrupted one with `td.open_run(path)`."""

    def __init__(self, path: str | Path, env: Any = None, classes: Any = ()):
        """Open the run at `path`.

        Args:
            path: the directory.
            env: the environment, where it is an object of your own that the directory cannot name.
            classes: config classes of your own that the settings name; curves, metrics and episodes need none of them.

        Raises:
            CheckpointError: there is no run at `path`, or its description is damaged.
        """
        self.journal = Journal(path)
        self.path, self.info = self.journal.path, self.journal.info
        self.seed, self.seeds, self.runs = self.journal.seed, self.journal.seeds, self.journal.runs
        self._described = self.journal.environment
        self._classes = [classes] if isinstance(classes, type) else classes
        if self.journal.own_types <= set(map(type_name, self._classes)):
            self.algorithm  # noqa: B018  # what is damaged is told at once
        same = isinstance(env, str) and full_id(env) == self._described["id"]  # then with its arguments in training
        kwargs = self._described.get("kwargs") if same else None
        with starts_within(self.info["env_timeout"]):
            self._env = None if env is None else make(env, **(kwargs if isinstance(kwargs, dict) else {}))
        if same and "fields" in self._described and is_config(self._env):
            self._env = remake(self._described, [*self._classes, *types_in(self._env)])
        self._newest: tuple[int, Any] | None = (
            None  # the step of the newest checkpoint when it was read, and what is in it
        )

    @cached_property
    def algorithm(self) -> Any:
        """The algorithm's value; raises `ConfigError` where it needs a class of your own that was not given."""
        try:
            found = from_json(self.journal.settings, known_configs(self._classes))
            if not hasattr(found, "act"):
                raise ConfigError(f"{found!r} is no algorithm")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if missing := self.journal.own_types - set(map(type_name, self._classes)):
                raise ConfigError(not_given(min(missing))) from None
            raise CheckpointError(f"{self.path / 'run.json'} is not the description of a run: {error}") from None
        return found

    @property
    def shell(self) -> str:
        """What follows `thorndike COMMAND`: the directory, and where your own environment and classes are."""
        files = typed(self.own_classes())
        classes = f" --classes {' '.join(map(shlex.quote, files))}" if files else ""
        return self.journal.shell + classes

    @property
    def resume_with(self) -> str:
        """How to go on with it, in the shell if everything of your own was named there, else in Python."""
        in_files = "object" not in self.journal.environment and typed(self.own_classes()) is not None
        return f"thorndike resume {self.shell}" if in_files else self.journal.resume_with

    def own_classes(self) -> list[type]:
        """The classes of your own that take part in its algorithm."""
        return [cls for cls in self._classes if type_name(cls) in self.journal.own_types]

    @property
    def status(self) -> dict[str, Any]:
        """Where the run stands: `Journal.status`."""
        return self.journal.status

    @property
    def env(self) -> Any:
        """The environment, made anew from its description unless it was given."""
        if self._env is None:
            try:
                with starts_within(self.info["env_timeout"]):
                    self._env = remake(self._described, self._classes)
            except ThorndikeError:  # some of which are `ValueError`s
                raise
            except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
                why = f"{self.path / 'run.json'} describes no environment: {type(error).__name__}: {error}"
                raise CheckpointError(why) from None
        return self._env

    @property
    def spec(self) -> Spec:
        """What the algorithm knows of the environment."""
        return describe(member(self.env, 0), self.info["steps"], self._described["id"])

    @property
    def stepping(self) -> dict[str, Any]:
        """How environments on the host are stepped: options of their `batch`."""
        workers = self.info["workers"]
        return {
            "workers": "auto" if workers == "thread" else workers,  # which older runs may say
            "timeout": self.info["env_timeout"],
            "on_error": self.info["on_env_error"],
            **({"log_info": tuple(self.info["log_info"])} if self.info.get("log_info") else {}),
        }

    def members(self) -> list[dict[str, Any]]:
        """Seed and swept hyperparameters of each of the runs, in the order of every per-run result."""
        return self.journal.members()

    def given(self) -> dict[str, tuple[Agent, ...]]:
        """The agents that it learns from, by what its algorithm calls them; raises `CheckpointError` where one has
        changed."""
        from thorndike.runs.results.given import read

        return read(self.path, self.info.get("given") or {}, self._classes)

    def metrics(self) -> dict[str, np.ndarray]:
        """All that was logged: "steps" [N], and every other tag [N, runs]."""
        return self.journal.metrics()

    def episodes(self) -> dict[str, np.ndarray]:
        """Every training episode that ended, in this order: arrays [N] of the "step" of its agent's run at which it
        ended, its "return" and "length", and the "member" (of `members()`) whose it was.

        Raises:
            ConfigError: the run learned from a dataset, and plays only to be evaluated.
        """
        if self.info.get("dataset"):
            raise ConfigError("this run learned from a dataset: it has evaluations, in run.metrics(), and no episodes")
        return self.journal.episodes()

    def doctor(self) -> Diagnosis:
        """Signs of trouble in the run's metrics, what usually causes them and what to try; `print` shows it."""
        return diagnose(self.journal)

    def state(self, driver: Any) -> tuple[PyTree, dict[str, Any], list[str]] | None:
        """The newest whole checkpoint as a run state, its metadata, and a message for each damaged one."""
        found = checkpoint.load_newest(self.path / "checkpoints")
        if found is None:
            return None
        arrays, meta, damaged = found
        numbers = ("iterations", "seconds", "timed", "devices", "fresh")
        if not isinstance(meta, dict) or not all(isinstance(meta.get(name), (int, float)) for name in numbers):
            raise CheckpointError(f"the newest checkpoint of {self.path} lacks one of {', '.join(numbers)}")
        return from_arrays(arrays, driver.like(), f"the checkpoint of {self.path}"), meta, damaged

    def actors(self, step: Step = None) -> PyTree:
        """The acting part of every agent, leading axis [runs]; at the checkpoint of `step`, by default the newest."""
        return self._trained(step).actors

    def _trained(self, step: Step = None) -> Actors:
        newest = max(checkpoint.steps(self.path / "checkpoints"), default=-1)
        if step is not None:
            return actors_at(self, step)
        if self._newest is None or self._newest[0] != newest:  # somebody may train in it meanwhile
            self._newest = newest, actors_at(self)
        return self._newest[1]

    def agent(self, seed: int | None = None, configuration: int = 0, step: Step = None) -> Agent:
        """One trained agent.

        Args:
            seed: whose; by default the first seed's.
            configuration: of a sweep, which place in its arrays of hyperparameters.
            step: of another checkpoint, by its step or as "best"; by default the newest.

        Raises:
            ConfigError: the run has no such agent.
            DivergedError: that agent's run has diverged.
        """
        offset, configurations = 0 if seed is None else seed - self.seed, swept(self.algorithm) or 1
        if not 0 <= offset < self.seeds:
            raise ConfigError(f"this run has seeds {self.seed} to {self.seed + self.seeds - 1}, not {seed}")
        if not 0 <= configuration < configurations:
            raise ConfigError(f"this run has configurations 0 to {configurations - 1}, not {configuration}")
        index = configuration * self.seeds + offset
        actors, algorithm, diverged = self._trained(step)
        if index in diverged:
            raise DivergedError(
                f"the agent of {self.members()[index]} diverged at step {diverged[index]}: choose another"
            )
        actor = jax.tree.map(lambda x: x[index], actors)
        return Agent(member(algorithm, index), self.spec, actor)

    def evaluate(
        self, episodes: int = 20, seed: int = 0, explore: bool = False, step: Step = None, env: Any = None
    ) -> Evaluation:
        """Play `episodes` whole episodes with each agent; those of runs that have diverged do not play.

        Args:
            episodes: how many for each agent.
            seed: of the environments.
            explore: act as in training; by default the best action is taken.
            step: of another checkpoint, by its step or as "best"; by default the newest.
            env: another environment with the same spaces to play in; by default that of training.

        A game of two players is played against a random one; a return is then 1 for a win, 0 for a draw and -1 for a
        loss, first those of the games that the agent began (see `match` for other opponents).
        """
        check_episodes(episodes)
        actors, algorithm, diverged = self._trained(step)
        well = np.array([i for i in range(self.runs) if i not in diverged])
        world = self.env if env is None else self._fitting(make(env))
        algorithm, env = members_of(algorithm, well), members_of(expand(world, self.seeds), well)
        actors = _rows(actors, well)
        if self.spec.players > 1:
            found = against_random(algorithm, actors, env, episodes, seed)
        else:
            found = evaluate(algorithm, actors, env, episodes, seed, self.stepping, explore)
        return found.among(well, self.members())

    def _fitting(self, env: Any) -> Any:
        """An environment to play in; raises `IncompatibleError` where it shows or takes something else."""
        for what in ("observation_space", "action_space"):
            expected, found = getattr(self.spec, what.removesuffix("_space")), getattr(env, what)
            if found != expected:
                raise IncompatibleError(f"the {what} of that environment is {found}, and the agent knows {expected}")
        return env

    def settled(self, step: int | None = None) -> Any:
        """The algorithm of all runs, its numbers being those at `step`, by default where the run stands now."""
        status = self.status
        steps = status["steps"] if step is None else step
        return settled(expand(self.algorithm, self.seeds), steps, self.info["steps"], status.get("episodes", 0))

    def player(self, index: int = 0, step: Step = None) -> Trained:
        """One of the agents (of `members()`) as a player of matches; at the checkpoint of `step`, or the newest."""
        actors, algorithm, _ = self._trained(step)
        return Trained(member(algorithm, index), jax.tree.map(lambda x: x[index], actors))

    def match(self, opponent: Any = "random", games: int = 100, seed: int = 0) -> Match:
        """Let the (first) agent play against an opponent, half of the games as first.

        Args:
            opponent: "random"; "uct:200", a search of 200 random playouts for each move; "perfect" (tic-tac-toe);
                another run of the same game, or its directory.
            games: how many.
            seed: of the players' random choices.

        Raises:
            ConfigError: this is no game of two players, or there is no such opponent.
        """
        from thorndike.runs.results.games import opponent_of

        if isinstance(opponent, Run) or Path(str(opponent), "run.json").is_file():
            opponent = opponent if isinstance(opponent, Run) else Run(opponent, classes=self._classes)
        return match(self.env, self.player(), opponent_of(self, opponent), games, seed)

    def elo(self, games: int = 100, out: str | Path | None = None, seed: int = 0) -> dict[int, float]:
        """Elo ratings of the (first) agent at every checkpoint that was kept: {step: rating}; a random player has 0.

        All play all, after two random moves, without which players that leave nothing to chance would repeat one
        game. Checkpoints are kept with `td.train(..., keep=20, checkpoint_every=10)`.

        Args:
            games: of every pair.
            out: a picture of the curve, .png, .svg or .pdf.
            seed: of the first pair's random choices; the next pairs have the next seeds.
        """
        from thorndike.runs.results.games import ratings

        return ratings(self, games, out, seed)

    def record(
        self, episodes: int = 10, out: str | Path | None = None, seed: int = 0, explore: bool = False, step: Step = None
    ) -> Dataset:
        """Record episodes of the (first) agent as a dataset.

        Args:
            episodes: how many.
            out: the dataset's directory, a new one; by default `dataset` in the run directory.
            seed: of the environment.
            explore: act as in training; by default the best action is taken.
            step: of another checkpoint, by its step or as "best"; by default the newest.
        """
        from thorndike.runs.results.record import record

        path, agent = new(out or self.path / "dataset"), self.agent(step=step)
        found = record(agent, member(self.env, 0), episodes, seed, explore, self.stepping)
        about = {"environment": self._described["id"], "algorithm": to_json(agent.algorithm), "seed": seed}
        return Dataset.write(path, found, about)

    def plot(self, out: str | Path | None = None, **options: Any) -> Any:
        """The learning curve as a matplotlib figure, saved to `out` if given; `options` are those of `td.plot`."""
        from thorndike.runs.results.plot import plot

        return plot(self, out, **options)

    def watch(
        self,
        out: str | Path | None = None,
        seed: int | None = None,
        episodes: int = 1,
        frames: int = 1500,
        explore: bool = False,
        step: Step = None,
    ) -> Any:
        """Film the agent, or what it sees where the environment draws nothing; a notebook shows the film.

        Args:
            out: .gif or .mp4; by default `video/<step>.gif` in the run directory.
            seed: whose agent to watch.
            episodes: how many to film.
            frames: where the film stops, also in the midst of an episode.
            explore: act as in training; by default the best action is taken.
            step: of another checkpoint, by its step or as "best"; by default the newest.
        """
        from thorndike.runs.results.video import film

        name = f"{step or self.status['steps']}{'_explore' if explore else ''}.gif"
        out = Path(out or self.path / "video" / name).expanduser()
        agent, timeout = self.agent(seed, step=step), self.info["env_timeout"]
        return film(agent, member(self.env, 0), out, episodes, frames, timeout=timeout, explore=explore)

    def picture(
        self, out: str | Path | None = None, seed: int | None = None, over: tuple[int, int] | None = None
    ) -> Any:
        """Values and greedy actions as a matplotlib figure: of tables on a grid, or `over` two numbers of a vector.

        With an `out` that is a .gif or .mp4 it is a film over the checkpoints that were kept.
        """
        if out is not None and Path(out).suffix in (".gif", ".mp4"):
            from thorndike.runs.results.over_time import film

            return film(self, Path(out).expanduser(), over, seed)
        if over is not None:
            from thorndike.runs.results.surface import surface

            return surface(self, over, out, seed)
        q = getattr(self.agent(seed).actor, "q", None)
        if not isinstance(q, jax.Array) or not hasattr(self.env, "picture"):
            raise ConfigError(
                "a picture of values needs a tabular algorithm on a grid, such as td.GridWorld(); of an agent that "
                "sees a vector say over which two of its numbers, over=(0, 1), or --over 0 1"
            )
        return self.env.picture(np.asarray(q), out)

    def report(self, out: str | Path | None = None, episodes: int = 20, play: bool = True) -> Path:
        """Write a page about the run in one file of HTML: what it logged, and its agent at work.

        Args:
            out: the file; by default `report.html` in the run directory.
            episodes: of each agent's evaluation.
            play: False: nothing is played, and only what was logged is shown.
        """
        from thorndike.runs.results.report import report
        from thorndike.runs.results.shown import evaluated, shown

        found = (evaluated(self, episodes), {self.path: shown(self)}) if play else ({}, {})
        return report(self, out or self.path / "report.html", *found)

    def choices(self, out: str | Path | None = None, **options: Any) -> Any:
        """How an agent chooses along an episode; see `thorndike.runs.results.chosen.choices`."""
        from thorndike.runs.results.chosen import choices

        return choices(self, out, **options)

    def front(self, objectives: tuple[str, str], out: str | Path | None = None, **options: Any) -> Any:
        """What the agents of a sweep over weights earn of two objectives; see `td.front`."""
        from thorndike.runs.results.front import front

        return front(self, objectives, out, **options)

    def explain(self, **options: Any) -> Any:
        """What an agent goes by in an episode; see `thorndike.explain.explanation.explain_run`, and `Agent.explain`."""
        from thorndike.explain.explanation import explain_run

        return explain_run(self, **options)

    def tree(self, leaves: int = 15, seed: int | None = None, step: Step = None, **options: Any) -> Any:
        """A decision tree that does as an agent does; see `thorndike.explain.tree.distil`."""
        from thorndike.explain.tree import distil

        return distil(self.agent(seed, step=step), member(self.env, 0), leaves, how=self.stepping, **options)

    def __repr__(self) -> str:
        about = f"Run({near(self.path)}: {self.journal.name} on {self._described['id']}"
        try:
            status = self.status
        except CheckpointError:
            return f"{about}, with a damaged status)"
        known = [x for x in status.get("return_mean") or [] if x is not None]
        earned = f", return {score(np.mean(known))}" if known else ""
        return f"{about}, {status['state']} at {status['steps']:,} steps{earned})"


def _rows(tree: PyTree, index: np.ndarray) -> PyTree:
    """Those of the runs at `index`, of leaves [R, ...]."""
    return jax.tree.map(lambda x: x[index], tree)


def open_run(path: str | Path, env: Any = None, classes: Any = ()) -> Run:
    """The run at `path`; see `Run`."""
    return Run(path, env, classes)
