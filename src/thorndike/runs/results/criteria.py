"""What the use of an agent depends on: its return against a baseline, failures, latency, cost, and other physics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.drivers.evaluate import check_episodes, evaluate
from thorndike.drivers.evaluation import Evaluation
from thorndike.drivers.rule import NOBODY, Rule, Uniformly
from thorndike.drivers.scan import member
from thorndike.envs.batched import is_jax
from thorndike.errors import ConfigError, ThorndikeError, require
from thorndike.ops.binomial import clopper_pearson, needed, upper_bound
from thorndike.ops.summary import FEW, SAMPLES, ends
from thorndike.runs.results.run import Run
from thorndike.serve.timing import Latency, latency
from thorndike.text import columns, duration, score


@dataclasses.dataclass(frozen=True, repr=False)
class Criteria:
    """A run by what its use depends on; `print` shows the rows, `to_json` has all numbers."""

    baseline: str
    returns: list[float]  # the agents' mean, the baseline's, their difference and the ends of its 95% interval
    runs: int
    episodes: int  # of all agents
    failure: str  # what counts as one
    failures: int
    failure_rate: list[float]  # with the ends of its exact 95% interval
    claim: float  # a rate of failures
    failure_bound: float  # below which the rate is, with 95% confidence
    episodes_needed: int  # without a failure, to show that rate
    latency: Latency  # of `agent.act` for one observation
    steps: int  # of the environment, for each agent
    seconds: float  # of training, all agents together
    shifts: dict[str, list[float]]  # mean returns with a number of the environment lower and higher by `shift`
    shift: float
    shift_note: str  # why there are none, or what was left out

    @property
    def beats_baseline(self) -> bool:
        """Whether the interval of the difference lies above 0."""
        return self.returns[3] > 0

    def to_json(self) -> dict[str, Any]:
        """The data that `thorndike criteria --json` prints."""
        return dataclasses.asdict(self) | {"beats_baseline": self.beats_baseline}

    def rows(self) -> list[tuple[str, str]]:
        """Each criterion, and what was found."""
        mine, theirs, gap, low, high = self.returns
        few = f" ({self.runs} run{'s' * (self.runs > 1)}, fewer than {FEW}: too narrow)" if self.runs < FEW else ""
        above = "above" if low > 0 else "below" if high < 0 else "not distinguishable from"
        rate, *bounds = self.failure_rate
        shown = self.failure_bound <= self.claim
        return [
            (
                "performance",
                f"mean return {score(mine)}, {self.baseline} {score(theirs)}: {score(gap)} [{score(low)}, "
                f"{score(high)}]{few}, {above} the baseline",
            ),
            (
                "failures",
                f"{self.failures} of {self.episodes} episodes ({self.failure}), a rate of {rate:.2%} "
                f"[{bounds[0]:.2%}, {bounds[1]:.2%}], exact binomial; below {self.failure_bound:.2%} at 95%",
            ),
            (
                "claim",
                f"fewer failures than {self.claim:.3g} an episode is {'shown' if shown else 'not shown'}: it takes "
                f"{self.episodes_needed:,} episodes without one",
            ),
            ("latency", f"{self.latency}, one observation at a time"),
            ("cost", f"{self.steps:,} steps for each of {self.runs} agents, {duration(self.seconds)} of training"),
            ("shift", self._shifted()),
        ]

    def _shifted(self) -> str:
        if not self.shifts:
            return self.shift_note
        name, worst = min(self.shifts.items(), key=lambda item: min(item[1]))
        side = "lower" if worst[0] <= worst[1] else "higher"
        text = f"of {len(self.shifts)} numbers of the environment, {self.shift:.0%} lower and higher, the worst is "
        text += f"{name} {side}: mean return {score(min(worst))}"
        return f"{text}; {self.shift_note}" if self.shift_note else text

    def __str__(self) -> str:
        return columns(self.rows(), indent=0)

    __repr__ = __str__


def criteria(
    run: Any,
    baseline: str | Callable[[Any], Any] | Run | Path = "random",
    *,
    episodes: int = 100,
    failure_below: float | None = None,
    claim: float = 0.01,
    shift: float = 0.2,
    seed: int = 0,
    step: Any = None,
) -> Criteria:
    """Play a run's agents and a baseline, and say what the use of the agents depends on.

    Args:
        run: a run, or its directory.
        baseline: "random"; a function of an observation that gives an action as the environment takes it; another run
            of the same environment, or its directory.
        episodes: how many with each agent, and with the baseline.
        failure_below: an episode with a lower return is a failure. By default, where the environment tells "success",
            an episode without it; else where it tells a "cost", one that has any; else one that returns less than the
            baseline's mean.
        claim: a rate of failures; how many episodes without any show that the rate is lower.
        shift: by how much each number of a JAX environment is lowered and raised, as a part of it.
        seed: of the episodes.
        step: of another checkpoint, by its step or as "best"; by default the newest.

    Raises:
        ConfigError: an argument cannot work, or this is a game of two players, for which `run.match` is.
    """
    check_episodes(episodes)
    require(0 < claim < 1, f"claim is a rate between 0 and 1, got {claim!r}")
    require(0 < shift < 1, f"shift is a part of each number, between 0 and 1, got {shift!r}")
    run = run if isinstance(run, Run) else Run(run)
    require(run.spec.players == 1, "a game of two players has opponents and no baseline: see run.match()")
    mine = run.evaluate(episodes, seed, step=step)
    require(len(mine.played) > 0, "all agents of the run have diverged: there is nothing to judge")
    name, theirs = _baseline(run, baseline, episodes, seed)
    what, failed = _failures(mine, failure_below, float(theirs.mean()))
    shifts, note = _shifts(run, shift, episodes, seed, step)
    played = mine.played
    gaps = _draws(played if len(played) > 1 else played.T, seed) - _draws(theirs[:, None], seed + 1)
    gap = float(played.mean() - theirs.mean())
    k, n = int(failed.sum()), int(failed.size)
    return Criteria(
        name,
        [float(played.mean()), float(theirs.mean()), gap, *map(float, ends(gaps))],
        len(played),
        n,
        what,
        k,
        [k / n, *clopper_pearson(k, n)],
        claim,
        upper_bound(k, n),
        needed(claim),
        _latency(run, step),
        int(run.status["steps"]),
        float(run.status["seconds"]),
        shifts,
        shift,
        note,
    )


def _baseline(run: Run, baseline: Any, episodes: int, seed: int) -> tuple[str, np.ndarray]:
    """What it is called, and its returns [N]."""
    if isinstance(baseline, (str, Path)) and (Path(baseline) / "run.json").is_file():
        baseline = Run(baseline, run.env, run._classes)
    if isinstance(baseline, Run):
        found = baseline.evaluate(episodes, seed, env=member(run.env, 0))
        return f"{baseline.journal.name} ({baseline.journal.shell_path})", found.played.ravel()
    if baseline == "random":
        policy: Any = Uniformly(run.spec)
        name = "random actions"
    elif callable(baseline):
        policy, name = Rule(baseline, run.spec), f"the rule {getattr(baseline, '__name__', 'given')}"
    else:
        raise ConfigError(f"a baseline is random, a function in a file (./rules.py:upright) or a run, got {baseline!r}")
    found = evaluate(policy, NOBODY, member(run.env, 0), episodes, seed, run.stepping)
    return name, found.returns.ravel()


def _failures(found: Evaluation, below: float | None, mean: float) -> tuple[str, np.ndarray]:
    """What a failure is, and which episodes are some, of all agents that have not diverged."""
    there = ~np.isnan(found.returns).any(1)
    if below is not None:
        return f"a return below {below:g}", found.returns[there] < below
    if "success" in found.earned:
        return "no success", found.earned["success"][there] < 0.5
    costs = [x[there] > 0 for name, x in found.earned.items() if name.startswith("cost")]
    if costs:
        return "any cost", np.logical_or.reduce(costs)
    return f"a return below the baseline's {score(mean)}", found.returns[there] < mean


def _draws(units: np.ndarray, seed: int) -> np.ndarray:
    """Bootstrap means, where units [U, ...] are drawn."""
    drawn = np.random.default_rng(seed).integers(0, len(units), (SAMPLES, len(units)))
    return units.reshape(len(units), -1).mean(1)[drawn].mean(1)


def _shifts(run: Run, shift: float, episodes: int, seed: int, step: Any) -> tuple[dict[str, list[float]], str]:
    """Mean returns with each number of the environment lowered and raised."""
    env = run.env
    if not is_jax(env):
        return {}, "not known: this environment is on the host, where its numbers cannot be seen"
    leaves, structure = jax.tree_util.tree_flatten_with_path(env)
    found, refused = {}, []
    for i, (path, value) in enumerate(leaves):
        if np.ndim(value) or value == 0 or not math.isfinite(value):
            continue
        name, values = jax.tree_util.keystr(path).lstrip("."), []
        for factor in (1 - shift, 1 + shift):
            shifted = [x * factor if j == i else x for j, (_, x) in enumerate(leaves)]
            try:
                world = jax.tree_util.tree_unflatten(structure, shifted)
                getattr(world, "check", lambda: None)()
                values.append(run.evaluate(episodes, seed, step=step, env=world).mean)
            except (ThorndikeError, ValueError):
                refused.append(name)
                break
        if len(values) == 2:
            found[name] = values
    note = f"left out, as the environment refuses it: {', '.join(refused)}" if refused else ""
    return found, note or ("" if found else "not known: this environment has no numbers")


def _latency(run: Run, step: Any) -> Latency:
    """Of one agent, for one observation at a time."""
    agent = run.agent(seed=_sound(run, step), step=step)
    observations = [agent.spec.observation.sample() for _ in range(16)]
    mask = agent.all_legal() if agent.spec.masked else None
    return latency(lambda obs: agent.act(obs, mask=mask), observations, calls=300)


def _sound(run: Run, step: Any) -> int:
    """The seed of an agent that has not diverged."""
    diverged = run._trained(step).diverged
    return run.seed + next(i for i in range(run.seeds) if i not in diverged)


def rule_in(place: str) -> str | Callable[[Any], Any]:
    """What the command line calls a baseline: a function in a file (./rules.py:upright), else the name as it is."""
    if ":" not in place:
        return place
    from thorndike.envs.adapters.gymnasium import own_module
    from thorndike.own_modules import on_path

    named = on_path(place)
    word = named.rpartition(":")[2]
    function = getattr(own_module(named), word, None)
    if not callable(function):
        raise ConfigError(f"{place} is no function")
    return function
