"""One row of the table of learning: what is trained and measured, and what it is held against. No JAX here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from thorndike.errors import UnknownNameError
from thorndike.names import did_you_mean

SUITES = {
    "quick": "about one small task for each algorithm, under 20 minutes on two cores",
    "nightly": "more seeds, and tasks of minutes",
    "full": "LunarLander, MinAtar and MuJoCo: hours to days",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """An algorithm with its preset on an environment, and a published number or a threshold."""

    algorithm: str  # by its name
    env: str  # an id
    seeds: int = 3  # side by side, as one run
    steps: int | None = None  # of each seed; by default the preset's
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the algorithm, where the preset's differ
    env_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the environment's constructor
    measure: str = "return"  # one of `measures.MEASURES`
    episodes: int = 50  # that each agent plays
    theirs: float | None = None  # the published number
    at: str = ""  # its steps, seeds, algorithm, where they are not ours
    source: str = ""  # who published it, or who says what the threshold is
    tolerance: float = 0.0  # by how much less than theirs is as good, such as their own spread
    threshold: float | None = None  # what is asked in the place of `theirs`
    differs: str = ""  # why `theirs` cannot be compared with ours: another version of the task, another scale

    @property
    def name(self) -> str:
        """What `--only` and the files call it."""
        changed = "".join(f",{name}={value}" for name, value in self.env_kwargs.items())
        return f"{self.algorithm}/{self.env}{changed}"

    @property
    def planned(self) -> int:
        """Steps of each seed."""
        if self.steps is not None:
            return self.steps
        from thorndike.algorithms import algorithm_class
        from thorndike.presets import preset_for

        steps = preset_for(algorithm_class(self.algorithm), self.env)[1]
        if steps is None:
            raise UnknownNameError(f"{self.name} has no preset: its row has to say how many steps it takes")
        return steps

    def bar(self, lower: bool = False) -> float | None:
        """What has to be reached; None where there is nothing to compare with. `lower`: less is better."""
        if self.threshold is not None:
            return self.threshold
        if self.theirs is None or self.differs:
            return None
        return self.theirs + self.tolerance if lower else self.theirs - self.tolerance

    def to_json(self) -> dict[str, Any]:
        """All that decides what is measured: a row in which that has changed is run again. What it is held against may
        change."""
        names = ("algorithm", "env", "seeds", "fields", "env_kwargs", "measure", "episodes")
        return {**{name: getattr(self, name) for name in names}, "steps": self.planned}


def chosen(rows: tuple[Row, ...], only: tuple[str, ...]) -> list[Row]:
    """The rows whose algorithm, environment or name is among `only`, in the order of these; all where that is empty.

    Raises:
        UnknownNameError: a word that belongs to no row.
    """
    for word in only:
        known = {said for row in rows for said in _called(row)}
        if word not in known:
            raise UnknownNameError(f"no row {word!r} in this suite{did_you_mean(word, sorted(known))}")
    if not only:
        return list(rows)
    return list(dict.fromkeys(row for word in only for row in rows if word in _called(row)))


def _called(row: Row) -> set[str]:
    return {row.algorithm, row.env, row.name}
