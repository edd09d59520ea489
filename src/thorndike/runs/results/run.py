"""A run: the directory that holds everything of one training, and what one does with it afterwards."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.algorithms import known_configs
from thorndike.configuration import from_json, swept, to_json, type_name, types_in
from thorndike.drivers.evaluate import Evaluation, check_episodes, evaluate
from thorndike.drivers.match import Match, Random, Trained, match
from thorndike.drivers.scan import member
from thorndike.envs import make
from thorndike.envs.host.guard import starts_within
from thorndike.errors import CheckpointError, ConfigError, ThorndikeError
from thorndike.files import read_json
from thorndike.memory.dataset import Dataset, new
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.arrays import from_arrays
from thorndike.runs.storage.directory import trained
from thorndike.runs.storage.environments import describe, remake
from thorndike.runs.storage.metrics import read, table
from thorndike.types import PyTree, Spec

FORMAT = 1
SETTINGS: dict[str, Any] = {  # of run.json that resuming needs
    "steps": int,
    "log_every": int,
    "checkpoint_every": (int, float),
    "keep": int,
    "tensorboard": bool,
    "workers": str,
    "env_timeout": (int, float),
    "on_env_error": str,
}


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
        self.path = Path(path).expanduser().absolute()  # whatever the working directory will be
        if not (self.path / "run.json").is_file():
            raise CheckpointError(f"there is no run at {self.path}: no run.json in it")
        self.info = read_json(self.path / "run.json")
        try:
            if self.info["format"] != FORMAT:
                raise CheckpointError(f"{self.path} has format {self.info['format']}, this version reads {FORMAT}")
            self.algorithm = from_json(self.info["algorithm"], known_configs(classes))
            self.seed, self.seeds = int(self.info["seed"]), int(self.info["seeds"])
            self._described = self.info["environment"]
            for name, kind in SETTINGS.items():
                if not isinstance(self.info[name], kind) or not isinstance(self._described["id"], str):
                    raise TypeError(f"{name} is {self.info[name]!r}")
            if not hasattr(self.algorithm, "act"):
                raise ConfigError(f"{self.algorithm!r} is no algorithm")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{self.path / 'run.json'} is not the description of a run: {error}") from None
        kwargs = self._described.get("kwargs") if isinstance(env, str) and env == self._described["id"] else None
        with starts_within(self.info["env_timeout"]):
            self._env = None if env is None else make(env, **(kwargs if isinstance(kwargs, dict) else {}))
        self._classes = [classes] if isinstance(classes, type) else classes
        self._newest: tuple[int, PyTree] | None = None  # the step of the newest checkpoint when it was read, and actors

    @property
    def shell_path(self) -> str:
        """The directory as a command line takes it."""
        here = Path.cwd()
        return shlex.quote(str(self.path.relative_to(here) if self.path.is_relative_to(here) else self.path))

    @property
    def shell(self) -> str:
        """What follows `thorndike COMMAND`: the directory, and the environment where it is in a module of its own."""
        name = self._described["id"]
        return self.shell_path + (f" --env {shlex.quote(name)}" if "kwargs" in self._described and ":" in name else "")

    @property
    def resume_with(self) -> str:
        """How to go on with it: where something of your own takes part, the command line does not know that."""
        own = any(type_name(cls).startswith("own ") for cls in types_in(self.algorithm))
        given = [", env=..."] * ("object" in self._described) + [", classes=[...]"] * own
        return f"td.resume({str(self.path)!r}{''.join(given)})" if given else f"thorndike resume {self.shell}"

    @property
    def runs(self) -> int:
        """How many agents are trained side by side: seeds times configurations of a sweep."""
        return self.seeds * (swept(self.algorithm) or 1)

    @property
    def status(self) -> dict[str, Any]:
        """{"state": "new" | "running" | "finished" | "interrupted" | "diverged" | "failed", "steps", "seconds", ...}.

        A run whose process is gone without a word is "interrupted" too.
        """
        path = self.path / "status.json"
        try:
            status = read_json(path) if path.exists() else {"state": "new", "steps": 0, "seconds": 0.0}
        except CheckpointError:
            status = None
        if not isinstance(status, dict) or not {"state", "steps", "seconds"} <= status.keys():
            raise CheckpointError(f"{path} is damaged: delete it, and resume the run")
        gone = status["state"] == "running" and not trained(self.path)
        return {**status, "state": "interrupted"} if gone else status

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
        return {
            "workers": self.info["workers"],
            "timeout": self.info["env_timeout"],
            "on_error": self.info["on_env_error"],
        }

    def members(self) -> list[dict[str, Any]]:
        """Seed and swept hyperparameters of each of the runs, in the order of every per-run result."""
        configurations = swept(self.algorithm) or 1
        fields = _swept_fields(to_json(self.algorithm)) if configurations > 1 else {}
        return [
            {"seed": self.seed + i % self.seeds, **{name: values[i // self.seeds] for name, values in fields.items()}}
            for i in range(self.runs)
        ]

    def metrics(self) -> dict[str, np.ndarray]:
        """All that was logged: "steps" [N], and every other tag [N, runs]."""
        return table(read(self.path / "metrics.jsonl"))

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
        if step is not None:
            return self._actors(checkpoint.load(self.path / "checkpoints" / f"{step:012d}", checkpoint.AGENT)[0])
        folder = self.path / "checkpoints"
        newest = max(checkpoint.steps(folder), default=-1)
        if self._newest is None or self._newest[0] != newest:  # somebody may train in it meanwhile
            found = checkpoint.load_newest(folder, checkpoint.AGENT)
            if found is None:
                raise CheckpointError(f"{self.path} has no checkpoint yet: nothing to act with")
            for message in found[2]:
                warnings.warn(f"skipped a checkpoint: {message}", stacklevel=2)
            self._newest = newest, self._actors(found[0])
        return self._newest[1]

    def _actors(self, arrays: dict[str, np.ndarray]) -> PyTree:
        arrays = {name.removeprefix(checkpoint.AGENT): x for name, x in arrays.items()}
        algorithm = expand(self.algorithm, self.seeds)
        like = jax.eval_shape(lambda: stacked_init(algorithm, self.spec, self.runs))
        agents = from_arrays(arrays, like, f"the checkpoint of {self.path}")
        each = [member(algorithm, i).actor(jax.tree.map(lambda x, i=i: x[i], agents)) for i in range(self.runs)]
        return jax.tree.map(lambda *xs: np.stack(xs), *each)

    def agent(self, seed: int | None = None, configuration: int = 0) -> Agent:
        """One trained agent.

        Args:
            seed: whose; by default the first seed's.
            configuration: of a sweep, which place in its arrays of hyperparameters.

        Raises:
            ConfigError: the run has no such agent.
        """
        offset, configurations = 0 if seed is None else seed - self.seed, swept(self.algorithm) or 1
        if not 0 <= offset < self.seeds:
            raise ConfigError(f"this run has seeds {self.seed} to {self.seed + self.seeds - 1}, not {seed}")
        if not 0 <= configuration < configurations:
            raise ConfigError(f"this run has configurations 0 to {configurations - 1}, not {configuration}")
        index = configuration * self.seeds + offset
        actor = jax.tree.map(lambda x: x[index], self.actors())
        return Agent(member(expand(self.algorithm, self.seeds), index), self.spec, actor)

    def evaluate(self, episodes: int = 20, seed: int = 0) -> Evaluation:
        """Play `episodes` whole episodes with each agent, greedily.

        A game of two players is played against a random one; a return is then 1 for a win, 0 for a draw and -1 for a
        loss, first those of the games that the agent began (see `match` for other opponents).
        """
        check_episodes(episodes)
        if self.spec.players > 1:
            games = [
                match(self.env, self.player(i), Random(self.env.action_space), episodes, seed) for i in range(self.runs)
            ]
            return Evaluation(np.stack([g.results for g in games]), np.stack([g.lengths for g in games]))
        return evaluate(expand(self.algorithm, self.seeds), self.actors(), self.env, episodes, seed, self.stepping)

    def player(self, index: int = 0, step: int | None = None) -> Trained:
        """One of the agents (of `members()`) as a player of matches; at the checkpoint of `step`, or the newest."""
        actor = jax.tree.map(lambda x: x[index], self.actors(step))
        return Trained(member(expand(self.algorithm, self.seeds), index), actor)

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

    def plot(self, out: str | Path | None = None) -> Any:
        """The learning curve as a matplotlib figure; saved to `out` if given."""
        from thorndike.runs.results.plot import plot

        return plot([self], out)

    def watch(
        self, out: str | Path | None = None, seed: int | None = None, episodes: int = 1, frames: int = 1500
    ) -> Any:
        """Film the agent, or what it sees where the environment draws nothing; a notebook shows the film.

        Args:
            out: .gif or .mp4; by default `video/<steps>.gif` in the run directory.
            seed: whose agent to watch.
            episodes: how many to film.
            frames: where the film stops, also in the midst of an episode.
        """
        from thorndike.runs.results.video import film

        out = out or self.path / "video" / f"{self.status['steps']}.gif"
        return film(
            self.agent(seed), self.env, Path(out).expanduser(), episodes, frames, timeout=self.info["env_timeout"]
        )

    def picture(self, out: str | Path | None = None, seed: int | None = None) -> Any:
        """Tabular agents on a grid: values and greedy actions as a matplotlib figure."""
        from thorndike.envs.grid.picture import draw_values

        actor = self.agent(seed).actor
        if not hasattr(actor, "q") or not hasattr(self.env, "transitions"):
            raise ConfigError("a picture of values needs a tabular algorithm on a GridWorld")
        return draw_values(self.env, np.asarray(actor.q), out)

    def __repr__(self) -> str:
        name, status = type(self.algorithm).__name__, self.status
        return (
            f"Run({str(self.path)!r}: {name} on {self._described['id']}, {status['state']} at {status['steps']} steps)"
        )


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


def _swept_fields(data: dict[str, Any], prefix: str = "") -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            found |= _swept_fields(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], float):
            found[prefix + name] = value
    return found
