"""A run: the directory that holds everything of one training, and what one does with it afterwards."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.configuration import from_json, is_config, swept, to_json, types_in
from thorndike.drivers.evaluate import Evaluation, check_episodes, evaluate
from thorndike.drivers.match import Match, Random, Trained, match
from thorndike.drivers.scan import member
from thorndike.envs import full_id, make
from thorndike.envs.host.guard import starts_within
from thorndike.errors import CheckpointError, ConfigError, DivergedError, ThorndikeError
from thorndike.exports import known_configs
from thorndike.memory.dataset import Dataset, new
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent
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
            classes: config classes of your own that the settings name.

        Raises:
            CheckpointError: there is no run at `path`, or its description is damaged.
        """
        self.journal = Journal(path)
        self.path, self.info = self.journal.path, self.journal.info
        self.seed, self.seeds, self.runs = self.journal.seed, self.journal.seeds, self.journal.runs
        self._described = self.journal.environment
        try:
            self.algorithm = from_json(self.journal.settings, known_configs(classes))
            if not hasattr(self.algorithm, "act"):
                raise ConfigError(f"{self.algorithm!r} is no algorithm")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.path / 'run.json'} is not the description of a run: {error}") from None
        self._classes = [classes] if isinstance(classes, type) else classes
        same = isinstance(env, str) and full_id(env) == self._described["id"]  # then with its arguments in training
        kwargs = self._described.get("kwargs") if same else None
        with starts_within(self.info["env_timeout"]):
            self._env = None if env is None else make(env, **(kwargs if isinstance(kwargs, dict) else {}))
        if same and "fields" in self._described and is_config(self._env):
            self._env = remake(self._described, [*self._classes, *types_in(self._env)])
        self._newest: tuple[int, Any] | None = (
            None  # the step of the newest checkpoint when it was read, and what is in it
        )

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
        return describe(self.env, self.info["steps"], self._described["id"])

    @property
    def stepping(self) -> dict[str, Any]:
        """How environments on the host are stepped: options of their `batch`."""
        workers = self.info["workers"]
        return {
            "workers": "auto" if workers == "thread" else workers,  # which older runs may say
            "timeout": self.info["env_timeout"],
            "on_error": self.info["on_env_error"],
        }

    def members(self) -> list[dict[str, Any]]:
        """Seed and swept hyperparameters of each of the runs, in the order of every per-run result."""
        return self.journal.members()

    def metrics(self) -> dict[str, np.ndarray]:
        """All that was logged: "steps" [N], and every other tag [N, runs]."""
        return self.journal.metrics()

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

    def actors(self, step: int | None = None) -> PyTree:
        """The acting part of every agent, leading axis [runs]; at the checkpoint of `step`, by default the newest."""
        return self._trained(step)[0]

    def _trained(self, step: int | None = None) -> tuple[PyTree, dict[int, int]]:
        """The acting parts, and which of the runs have diverged, at which step."""
        folder = self.path / "checkpoints"
        if step is not None:
            return self._opened(*checkpoint.load(folder / f"{step:012d}", checkpoint.AGENT))
        newest = max(checkpoint.steps(folder), default=-1)
        if self._newest is None or self._newest[0] != newest:  # somebody may train in it meanwhile
            found = checkpoint.load_newest(folder, checkpoint.AGENT)
            if found is None:
                raise CheckpointError(f"{self.path} has no checkpoint yet: nothing to act with")
            for message in found[2]:
                warnings.warn(f"skipped a checkpoint: {message}", stacklevel=2)
            self._newest = newest, self._opened(found[0], found[1])
        return self._newest[1]

    def _opened(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> tuple[PyTree, dict[int, int]]:
        arrays = {name.removeprefix(checkpoint.AGENT): x for name, x in arrays.items()}
        algorithm = self.settled()
        like = jax.eval_shape(lambda: stacked_init(algorithm, self.spec, self.runs))
        agents = from_arrays(arrays, like, f"the checkpoint of {self.path}")
        each = [member(algorithm, i).actor(jax.tree.map(lambda x, i=i: x[i], agents)) for i in range(self.runs)]
        diverged = {int(run): at for run, at in meta.get("diverged", {}).items()}
        return jax.tree.map(lambda *xs: np.stack(xs), *each), diverged

    def agent(self, seed: int | None = None, configuration: int = 0, step: int | None = None) -> Agent:
        """One trained agent.

        Args:
            seed: whose; by default the first seed's.
            configuration: of a sweep, which place in its arrays of hyperparameters.
            step: of an older checkpoint; by default the newest.

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
        actors, diverged = self._trained(step)
        if index in diverged:
            raise DivergedError(
                f"the agent of {self.members()[index]} diverged at step {diverged[index]}: choose another"
            )
        actor = jax.tree.map(lambda x: x[index], actors)
        return Agent(member(self.settled(step), index), self.spec, actor)

    def evaluate(self, episodes: int = 20, seed: int = 0, explore: bool = False, step: int | None = None) -> Evaluation:
        """Play `episodes` whole episodes with each agent; those of runs that have diverged do not play.

        Args:
            episodes: how many for each agent.
            seed: of the environments.
            explore: act as in training; by default the best action is taken.
            step: of an older checkpoint; by default the newest.

        A game of two players is played against a random one; a return is then 1 for a win, 0 for a draw and -1 for a
        loss, first those of the games that the agent began (see `match` for other opponents).
        """
        check_episodes(episodes)
        actors, diverged = self._trained(step)
        well = np.array([i for i in range(self.runs) if i not in diverged])
        if self.spec.players > 1:
            random = Random(self.env.action_space)
            games = [match(self.env, self.player(i, step), random, episodes, seed) for i in well]
            found = Evaluation(np.stack([g.results for g in games]), np.stack([g.lengths for g in games]))
        else:
            algorithm = self.settled(step)
            algorithm, actors = jax.tree.map(lambda x: x[well] if np.ndim(x) else x, algorithm), _rows(actors, well)
            found = evaluate(algorithm, actors, self.env, episodes, seed, self.stepping, explore)
        return found.among(well, self.members())

    def settled(self, step: int | None = None) -> Any:
        """The algorithm of all runs, its numbers being those at `step`, by default where the run stands now."""
        status = self.status
        steps = status["steps"] if step is None else step
        return settled(expand(self.algorithm, self.seeds), steps, self.info["steps"], status.get("episodes", 0))

    def player(self, index: int = 0, step: int | None = None) -> Trained:
        """One of the agents (of `members()`) as a player of matches; at the checkpoint of `step`, or the newest."""
        actor = jax.tree.map(lambda x: x[index], self.actors(step))
        return Trained(member(self.settled(step), index), actor)

    def match(self, opponent: Any = "random", games: int = 100, seed: int = 0) -> Match:
        """Let the (first) agent play against an opponent, half of the games as first.

        Args:
            opponent: "random"; "perfect" (tic-tac-toe); another run of the same game, or its directory.
            games: how many.
            seed: of the players' random choices.

        Raises:
            ConfigError: this is no game of two players, or there is no such opponent.
        """
        from thorndike.runs.results.games import opponent_of

        if isinstance(opponent, Run) or Path(str(opponent), "run.json").is_file():
            opponent = opponent if isinstance(opponent, Run) else Run(opponent)
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
        self, episodes: int = 10, out: str | Path | None = None, seed: int = 0, explore: bool = False
    ) -> Dataset:
        """Record episodes of the (first) agent as a dataset.

        Args:
            episodes: how many.
            out: the dataset's directory, a new one; by default `dataset` in the run directory.
            seed: of the environment.
            explore: act as in training; by default the best action is taken.
        """
        from thorndike.runs.results.record import record

        path = new(out or self.path / "dataset")
        found = record(self.agent(), self.env, episodes, seed, explore, self.stepping)
        about = {"environment": self._described["id"], "algorithm": to_json(self.agent().algorithm), "seed": seed}
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
    ) -> Any:
        """Film the agent, or what it sees where the environment draws nothing; a notebook shows the film.

        Args:
            out: .gif or .mp4; by default `video/<steps>.gif` in the run directory.
            seed: whose agent to watch.
            episodes: how many to film.
            frames: where the film stops, also in the midst of an episode.
            explore: act as in training; by default the best action is taken.
        """
        from thorndike.runs.results.video import film

        name = f"{self.status['steps']}{'_explore' if explore else ''}.gif"
        out = Path(out or self.path / "video" / name).expanduser()
        return film(
            self.agent(seed), self.env, out, episodes, frames, timeout=self.info["env_timeout"], explore=explore
        )

    def picture(self, out: str | Path | None = None, seed: int | None = None) -> Any:
        """Tabular agents on a grid: values and greedy actions as a matplotlib figure."""
        q = getattr(self.agent(seed).actor, "q", None)
        if not isinstance(q, jax.Array) or not hasattr(self.env, "picture"):
            raise ConfigError("a picture of values needs a tabular algorithm on a grid, such as td.GridWorld()")
        return self.env.picture(np.asarray(q), out)

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


def expand(algorithm: Any, seeds: int) -> Any:
    """The algorithm with arrays of hyperparameters repeated for each seed: [C] to [C·seeds]."""
    return jax.tree.map(lambda x: np.repeat(np.asarray(x, np.float32), seeds) if np.ndim(x) else x, algorithm)


def stacked_init(algorithm: Any, spec: Spec, runs: int) -> PyTree:
    """Fresh agents of all runs, [R]; for their shapes."""
    one = member(algorithm, 0).init(random_key(0), spec)
    return jax.tree.map(lambda x: jax.numpy.broadcast_to(x, (runs, *x.shape)), one)
