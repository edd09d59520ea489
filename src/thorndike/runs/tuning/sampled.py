"""Trials one after the other, proposed by Optuna: for fields that programs are compiled for, and host environments."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thorndike.errors import ConfigError, DivergedError, IncompatibleError
from thorndike.extras import importing
from thorndike.runs.results.run import Run
from thorndike.runs.storage.journal import Journal
from thorndike.runs.training.callbacks import STOP, Stop
from thorndike.runs.training.changes import changed
from thorndike.runs.training.progress import tell
from thorndike.runs.training.train import train
from thorndike.runs.tuning.fields import own_setting, whole_ends
from thorndike.runs.tuning.halving import Standing, ranked
from thorndike.runs.tuning.ranges import Choices, LogRange, Over, rounded
from thorndike.runs.tuning.scores import scores
from thorndike.settings import spell
from thorndike.text import near, score

ROWS = 20  # of metrics in a trial: how often it may be pruned
STARTED = 5  # trials that are never pruned, the first ones


class Pruning:
    """Ends a trial whose return is below the median of the others at the same step."""

    __name__ = "the median pruner"

    def __init__(self, trial: Any):
        self.trial = trial
        self.pruned = False

    def __call__(self, run: Run, row: dict[str, Any]) -> Stop | None:
        found = np.ravel(np.array(row["rollout/ep_rew_mean"], float))  # None is NaN
        if np.isnan(found).any() or row["steps"] >= run.info["steps"]:
            return None
        self.trial.report(float(found.mean()), row["steps"])
        self.pruned = self.trial.should_prune()
        return STOP if self.pruned else None


class Search(NamedTuple):
    """What is asked for."""

    algorithm: Any  # with numbers
    env: Any  # as it was given
    over: Over
    trials: int
    steps: int
    first: float  # fraction of the steps before which none is pruned
    seed: int
    folder: Path
    options: dict[str, Any]  # of `td.train`

    def run(self) -> tuple[list[Standing], list[dict[str, Any]]]:
        """Search, or go on with what is in the folder; how the trials did, the best first, and all settings.

        Every proposal follows from the seed and the trials before it, so a search that was stopped finds what it would
        have found.

        Raises:
            DivergedError: all trials have diverged.
            ConfigError: no setting could be trained.
        """
        with importing("optuna", "tuning fields that programs are compiled for, or on the host,"):
            import optuna
            from optuna.trial import TrialState
        with quiet(optuna):
            study = self.study(optuna)
            for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                study.tell(left.number, state=TrialState.FAIL)  # it begins anew
            while len(done := finished(study, TrialState)) < self.trials:
                self.one(study, len(done), optuna)
        found = [standing(i, trial) for i, trial in enumerate(done)]
        if all(one.lost for one in found):
            refused = next((why for trial in done if (why := trial.user_attrs["refused"])), None)
            if refused is not None:
                raise ConfigError(f"none of the {len(found)} settings could be trained; of one it is said: {refused}")
            raise DivergedError(f"all {len(found)} trials have diverged: give other ranges")
        return ranked(found), [dict(self.setting(trial.params)) for trial in done]

    def study(self, optuna: Any) -> Any:
        """Optuna's study, whose journal is in the folder."""
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        pruner = optuna.pruners.MedianPruner(STARTED, n_warmup_steps=int(self.first * self.steps))
        storage = JournalStorage(JournalFileBackend(str(self.folder / "optuna.journal")))
        return optuna.create_study(
            storage=storage, study_name="tune", direction="maximize", load_if_exists=True, pruner=pruner
        )

    def one(self, study: Any, i: int, optuna: Any) -> None:
        """Trial i: propose, train, and tell."""
        drawn = np.random.SeedSequence([self.seed, i]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(seed=int(drawn[0]))
        own = own_setting(self.algorithm, self.over)
        waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
        if i == 0 and own is not None and not waiting:
            study.enqueue_trial({name: self.label(name, value) for name, value in own.items()})
        trial = study.ask(self.distributions(optuna))
        setting, path = self.setting(trial.params), self.folder / f"trial-{i + 1:03}"
        if self.options["progress"] is not False:
            tell(f"trial {i + 1} of {self.trials}: {spell(setting)}")
        shutil.rmtree(path, ignore_errors=True)  # of one that was not finished
        pruning, refused, reached, value = Pruning(trial), "", 0, math.nan
        every = max(1, self.steps // ROWS)
        try:
            algorithm = changed(self.algorithm, setting)
            run = train(
                algorithm, self.env, self.steps, out=path, on_row=pruning, log_every=every, keep=1, **self.options
            )
            reached, value, lost = outcome(run.journal)
        except DivergedError:
            lost = True
        except (ConfigError, IncompatibleError) as error:
            lost, refused = True, str(error)
            tell(f"trial {i + 1} cannot be trained: {error}")
        told = {"steps": reached, "score": None if math.isnan(value) else value, "lost": lost, "refused": refused}
        for name, what in told.items():
            trial.set_user_attr(name, what)
        if lost or pruning.pruned or math.isnan(value):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)
        if self.options["progress"] is not False:
            tell(f"  {'diverged' if lost else score(value)}{', stopped early' * pruning.pruned}, {near(path)}")

    def distributions(self, optuna: Any) -> dict[str, Any]:
        """Ranges as Optuna has them."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, Any] = {}
        for name, values in self.over.items():
            if isinstance(values, Choices):
                found[name] = CategoricalDistribution([self.label(name, value) for value in values.values])
                continue
            low, high = whole_ends(self.algorithm, name, values)
            kind = IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
            found[name] = kind(low, high, log=isinstance(values, LogRange))
        return found

    def label(self, name: str, value: Any) -> Any:
        """A value as Optuna's files hold it: choices by their texts."""
        return repr(value) if isinstance(self.over[name], Choices) else value

    def setting(self, params: dict[str, Any]) -> dict[str, Any]:
        """The fields that Optuna's parameters stand for."""
        found: dict[str, Any] = {}
        for name, values in self.over.items():
            value = params[name]
            if isinstance(values, Choices):
                value = next(one for one in values.values if repr(one) == value)
            found[name] = rounded(value) if isinstance(value, float) else value
        return found


def outcome(journal: Journal) -> tuple[int, float, bool]:
    """How far a run came, its score, and whether it has diverged with any of its seeds."""
    steps = journal.status["steps"]
    found = scores(journal, steps)
    return steps, float(found.values[0]), bool(found.lost[0])


def finished(study: Any, state: Any) -> list[Any]:
    """The trials that have ended, in their order."""
    return study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED))


def standing(i: int, trial: Any) -> Standing:
    """How a trial of Optuna's did."""
    told = trial.user_attrs
    return Standing(i, told["steps"], math.nan if told["score"] is None else told["score"], told["lost"])


@contextlib.contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Optuna says nothing but warnings."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
