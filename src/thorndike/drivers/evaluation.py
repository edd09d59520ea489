"""What an evaluation found: returns and lengths of whole episodes, and summaries of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from thorndike.drivers.earned import mean_known
from thorndike.ops.summary import bootstrap_interval, iqm


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """Returns and lengths of evaluation episodes, [R, N]: runs (seeds, configurations) by episodes.

    Runs that have diverged have returns of NaN; summaries are over the others.
    """

    returns: np.ndarray
    lengths: np.ndarray
    members: tuple[dict[str, Any], ...] = ()  # seed and swept hyperparameters of each run
    earned: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # costs, successes ... by name, [R, N] each

    def among(self, index: np.ndarray, members: list[dict[str, Any]]) -> Evaluation:
        """As one of all `members` of a training, of whom only those at `index` were evaluated."""
        shape = len(members), *self.returns.shape[1:]
        lengths = np.zeros(shape, int)
        lengths[index] = self.lengths

        def placed(values: np.ndarray) -> np.ndarray:
            everywhere = np.full(shape, np.nan)
            everywhere[index] = values
            return everywhere

        earned = {name: placed(x) for name, x in self.earned.items()}
        return Evaluation(placed(self.returns), lengths, tuple(members), earned)

    @property
    def played(self) -> np.ndarray:
        """The returns of the runs that have not diverged."""
        return self.returns[~np.isnan(self.returns).any(1)]

    @property
    def mean(self) -> float:
        """Mean return over all runs and episodes."""
        return float(self.played.mean())

    @property
    def iqm(self) -> float:
        """Interquartile mean over all runs and episodes."""
        return iqm(self.played)

    @property
    def earned_mean(self) -> dict[str, float]:
        """Means over all runs and episodes of what was earned besides rewards: "success" is the rate of success."""
        there = ~np.isnan(self.returns).any(1)
        return {name: float(mean_known(x[there])) for name, x in self.earned.items()}

    @property
    def per_run(self) -> list[float]:
        """Mean return of each run; NaN where it has diverged."""
        return [float(x) for x in self.returns.mean(1)]

    def by_configuration(self) -> list[tuple[dict[str, Any], Evaluation]]:
        """The swept hyperparameters of each configuration of a sweep, with the evaluation of its seeds."""
        groups: dict[str, list[int]] = {}
        for i, one in enumerate(self.members):
            groups.setdefault(str({k: v for k, v in one.items() if k != "seed"}), []).append(i)
        return [
            (
                {k: v for k, v in self.members[rows[0]].items() if k != "seed"},
                Evaluation(
                    self.returns[rows],
                    self.lengths[rows],
                    tuple(self.members[i] for i in rows),
                    {name: x[rows] for name, x in self.earned.items()},
                ),
            )
            for rows in groups.values()
        ]

    def to_json(self) -> dict[str, Any]:
        """The summary that `thorndike evaluate --json` prints."""
        each = [None if np.isnan(x) else x for x in self.per_run]
        known, earned = len(self.played) > 0, self.earned_mean
        summary = {
            "mean": self.mean,
            "std": float(self.played.std()),
            "median": float(np.median(self.played)),
            "iqm": self.iqm,
            "ci95": list(bootstrap_interval(self.played)),
            **({"earned": {name: None if np.isnan(x) else x for name, x in earned.items()}} if earned else {}),
        }
        members = {"members": [dict(one) for one in self.members]} if self.members else {}
        return {"episodes": int(self.returns.shape[1]), **(summary if known else {}), "per_run": each, **members}

    def __str__(self) -> str:
        groups = self.by_configuration() if len({len(one) for one in self.members} - {1}) else []
        if len(groups) > 1:
            lines = [f"{', '.join(f'{k} {v:g}' for k, v in fields.items())}: {found}" for fields, found in groups]
            return "\n".join(lines)
        runs, episodes = self.returns.shape
        lost = runs - len(self.played)
        if lost == runs:
            return "diverged" if runs == 1 else f"all {runs} runs diverged"
        low, high = bootstrap_interval(self.played)
        each = "" if runs == 1 else "; per seed " + ", ".join(f"{x:.1f}" for x in self.per_run)
        each += "".join(f"; {name} {x:.3g}" for name, x in self.earned_mean.items() if not np.isnan(x))
        return (
            f"return {self.mean:.1f} ± {self.played.std():.1f} over {runs - lost} x {episodes} episodes, "
            f"IQM {self.iqm:.1f} [{low:.1f}, {high:.1f}]{each}{f'; {lost} diverged' * (lost > 0)}"
        )

    __repr__ = __str__
