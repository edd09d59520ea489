"""Warning signs: rules over rows of metrics, what usually causes what they find, and what to try.

A rule looks at the history of one agent, columns [N] of the rows so far with NaN for what is not known, and says what
it saw, or nothing. Rules are meant to be quiet: each wants to see a thing for several rows, and to see that it matters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

History = dict[str, np.ndarray]
RETURN, EVALUATION, EPISODES = "rollout/ep_rew_mean", "eval/mean_reward", "rollout/episodes"
ROWS = 5  # in succession, for which something has to last
MOST = 16  # agents that are looked at
SETTLED = 0.2  # of the planned steps, before which a run is only beginning


class Plan(NamedTuple):
    """What rules know beside the rows."""

    steps: int  # that are planned
    discount: float  # of the algorithm, where it has one


@dataclasses.dataclass(frozen=True)
class Sign:
    """Something that usually means trouble."""

    name: str
    rule: Callable[[History, Plan], str | None]  # what was seen
    causes: str
    remedies: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sign that was seen."""

    sign: str
    step: int  # of the row in which it was first seen
    saw: str
    causes: str
    remedies: str

    def __str__(self) -> str:
        return f"{self.saw}\n  usual causes: {self.causes}\n  try: {self.remedies}"


def values_beyond_returns(history: History, plan: Plan) -> str | None:
    """Values of states or actions are means of discounted returns: they cannot be ten times what episodes earn, nor ten
    times what rewards are worth that never end."""
    earned, rewards = _known(history, RETURN), _known(history, "rollout/reward_mean")
    for tag in ("train/q_value", "train/value"):
        values = _known(history, tag)
        if len(earned) and len(values) >= ROWS:
            forever = np.abs(rewards).max(initial=0.0) / max(1 - plan.discount, 1e-3)
            bound = 10 * max(np.abs(earned).max(), forever, 1.0)
            if (np.abs(values[-ROWS:]) > bound).all():
                return f"{tag} is {values[-1]:.4g}, where episodes have earned {_range(earned)}"
    return None


def gradient_explodes(history: History, plan: Plan) -> str | None:
    """A hundred times its median so far."""
    for tag in _tags(history, "gradient_norm"):
        norms = _known(history, tag)
        if len(norms) >= 4 * ROWS:
            usual = np.median(norms[:-ROWS])
            if usual > 0 and (norms[-ROWS:] > 100 * usual).all():
                return f"{tag} is {norms[-1]:.4g}, and was {usual:.4g} before (its median)"
    return None


def gradient_vanishes(history: History, plan: Plan) -> str | None:
    """Zero: nothing is learned any more."""
    for tag in _tags(history, "gradient_norm"):
        norms = _known(history, tag)
        if len(norms) >= ROWS and (norms[-ROWS:] < 1e-10).all():
            return f"{tag} has been 0 for {ROWS} rows"
    return None


def entropy_collapses(history: History, plan: Plan) -> str | None:
    """Of discrete actions, to a fiftieth of what it was at first, while the return did not rise."""
    entropy, earned = history.get("train/entropy"), history.get(RETURN)
    if entropy is None or earned is None:
        return None
    there = ~np.isnan(entropy) & ~np.isnan(earned)
    entropy, earned = entropy[there], earned[there]
    if len(entropy) < 2 * ROWS or entropy.min() < 0 or entropy[0] < 0.1:
        return None
    open_minded = earned[entropy > 0.5 * entropy[0]]
    if (entropy[-ROWS:] < 0.02 * entropy[0]).all() and earned[-ROWS:].max() <= open_minded.max(initial=-np.inf):
        return (
            f"train/entropy has fallen from {entropy[0]:.3g} to {entropy[-1]:.3g}, and the mean return, "
            f"{earned[-1]:.4g}, is no better than when the policy still explored"
        )
    return None


def return_collapses(history: History, plan: Plan) -> str | None:
    """By more than half of what had been gained, for good."""
    earned = _known(history, RETURN)
    if len(earned) < 4 * ROWS:
        return None
    best = int(earned.argmax())
    gained = earned[best] - earned[: best + 1].min()
    lost = earned[best] - earned[-ROWS:].max()
    if gained > _much(earned) and lost > 0.5 * gained:
        return f"the mean return has fallen from {earned[best]:.4g} to {earned[-1]:.4g}"
    return None


def return_oscillates(history: History, plan: Plan) -> str | None:
    """Three times from the upper quarter of its range to below two fifths of it, and up again."""
    earned = _known(history, RETURN)
    if len(earned) < 4 * ROWS or np.ptp(earned) <= _much(earned):
        return None
    high, low = (earned.min() + share * np.ptp(earned) for share in (0.75, 0.4))
    up, falls = False, 0
    for x in earned:
        falls += up and x < low
        up = x > high or (up and x >= low)
    return (
        f"the mean return has fallen by half of its range {falls} times, between {_range(earned)}"
        if falls > 2
        else None
    )


def return_rises_and_success_falls(history: History, plan: Plan) -> str | None:
    """What is rewarded is not what is wanted: training returns rise while evaluations, or successes, get worse."""
    for tag in [EVALUATION, *_tags(history, "success"), *_tags(history, "success_rate")]:
        wanted, earned = history.get(tag), history.get(RETURN)
        if wanted is None or earned is None:
            continue
        there = ~np.isnan(wanted) & ~np.isnan(earned)
        wanted, earned = wanted[there], earned[there]
        if len(wanted) < 2 * ROWS:
            continue
        best = int(wanted.argmax())
        fell = wanted[best] - wanted[-ROWS:].max() > 0.3 * np.ptp(wanted)
        rose = earned[-ROWS:].min() - earned[best] > 0.3 * np.ptp(earned)
        if fell and rose:
            return (
                f"{tag} has fallen from {wanted[best]:.4g} to {wanted[-1]:.4g}, while the mean return in training rose "
                f"from {earned[best]:.4g} to {earned[-1]:.4g}"
            )
    return None


def critic_explains_nothing(history: History, plan: Plan) -> str | None:
    """No better than a constant, when a fifth of the run is over, nor ever before."""
    explained = _known(history, "train/explained_variance")
    lasting = len(explained) >= 2 * ROWS and (explained[-2 * ROWS :] <= 0.0).all() and explained.max() < 0.1
    if lasting and history["steps"][-1] >= SETTLED * plan.steps:
        return f"train/explained_variance has been 0 or below for {2 * ROWS} rows, and is {explained[-1]:.3g}"
    return None


def no_episode_ends(history: History, plan: Plan) -> str | None:
    """None, when a fifth of the run is over."""
    episodes, step = _known(history, EPISODES), history["steps"][-1]
    if len(episodes) >= ROWS and episodes[-1] == 0 and step >= SETTLED * plan.steps:
        return f"no episode has ended in {int(step):,} steps"
    return None


SIGNS = (
    Sign(
        "values beyond returns", values_beyond_returns,
        "targets that feed on their own errors: a target network that is copied too often, too high a learning rate, "
        "actions that the data does not have; or ends of episodes that bootstrap",
        "a lower learning_rate; a larger target_period or a smaller tau; double=True (DQN); a lower discount",
    ),
    Sign(
        "gradient explodes", gradient_explodes,
        "too high a learning rate, rewards or observations that have become large",
        "a lower learning_rate or max_grad_norm; normalize_reward, td.RewardScale, normalize_observation",
    ),
    Sign(
        "gradient vanishes", gradient_vanishes,
        "units that are saturated or dead, a loss that is clipped everywhere, or a learning rate that has reached 0",
        "a lower learning_rate from the start, another activation, normalize_observation",
    ),
    Sign(
        "entropy collapses", entropy_collapses,
        "a policy that has become certain before it has found what pays",
        "entropy_coefficient of 0.01 or so, a lower learning_rate, fewer epochs, a larger rollout_length",
    ),
    Sign(
        "return collapses", return_collapses,
        "updates that are too large for what has been learned, experience of the old policy that is forgotten, or "
        "values that have run away",
        'run.agent(step="best") has the best agent, with evaluate_every; a lower or annealed learning_rate '
        "(td.Linear), a smaller clip or target_kl (PPO), a larger replay.capacity",
    ),
    Sign(
        "return oscillates", return_oscillates,
        "too high a learning rate, batches or rollouts that are too small, or targets that are copied too often",
        "a lower or annealed learning_rate (td.Linear), larger batches, more num_envs, a larger target_period",
    ),
    Sign(
        "return rises, success falls", return_rises_and_success_falls,
        "a reward that pays for something else than what is wanted, or an agent that only fits the environments of "
        "its training",
        "look at a film (run.watch()) for what it is paid for; reward the outcome, shape rewards by a potential "
        "(td.Shaping), train in more varied environments (td.Randomised)",
    ),
    Sign(
        "critic explains nothing", critic_explains_nothing,
        "returns that the observation does not tell, rewards of very different size, or a critic that learns too "
        "slowly",
        "normalize_reward and normalize_observation, a higher value_coefficient, a core (td.GRU()) where the past "
        "matters",
    ),
    Sign(
        "no episode ends", no_episode_ends,
        "an environment without a time limit, or whose limit is longer than the run",
        "td.TimeLimit, gymnasium.wrappers.TimeLimit or max_steps; more steps; evaluate_every needs ends, too",
    ),
)  # fmt: skip


def plan_of(info: dict[str, Any]) -> Plan:
    """What `run.json` says of that."""
    discount = info["algorithm"].get("discount")
    return Plan(info["steps"], discount if isinstance(discount, (int, float)) else 0.99)


class Watch:
    """Looks at rows as they come, and remembers what it has seen."""

    def __init__(self, rows: Iterable[dict[str, Any]], runs: int, plan: Plan):
        """`rows` are those of an earlier part of the run."""
        self.runs, self.plan, self.n = runs, plan, 0
        self.columns: dict[str, list[np.ndarray]] = {}  # of each tag, what the rows so far say of each agent [R]
        self.found: list[Finding] = []
        for row in rows:
            self.see(row)

    def see(self, row: dict[str, Any]) -> list[Finding]:
        """The signs that are seen for the first time with this row."""
        self.add(row)
        if self.n % max(1, self.n // 100):  # the longer the history, the less often it is looked at
            return []
        columns = {tag: np.array(column) for tag, column in self.columns.items()}
        looked_at = min(self.runs, MOST)
        histories = [{tag: column[:, i] for tag, column in columns.items()} for i in range(looked_at)]
        told, new = {warning.sign for warning in self.found}, []
        for sign in SIGNS:
            seen = [] if sign.name in told else [sign.rule(history, self.plan) for history in histories]
            some = [i for i, saw in enumerate(seen) if saw]
            if some:
                whose = f" (agent {some[0]}; {len(some)} of {looked_at} agents)" if self.runs > 1 else ""
                saw = f"{seen[some[0]]}{whose}"
                new.append(Finding(sign.name, row["steps"], saw, sign.causes, sign.remedies))
        self.found += new
        return new

    def add(self, row: dict[str, Any]) -> None:
        """Remember a row. A number that is not one agent's is everyone's."""
        blank = np.full(self.runs, np.nan)
        for tag in dict.fromkeys((*self.columns, *row)):
            column = self.columns.setdefault(tag, [blank] * self.n)
            cell = np.asarray(row.get(tag), float).reshape(-1)
            column.append(np.broadcast_to(cell, self.runs) if cell.size in (1, self.runs) else blank)
        self.n += 1


def _known(history: History, tag: str) -> np.ndarray:
    column = history.get(tag, np.empty(0))
    return column[~np.isnan(column)]


def _tags(history: History, ending: str) -> list[str]:
    return [tag for tag in history if tag.endswith(ending)]


def _range(x: np.ndarray) -> str:
    return f"{x.min():.4g} to {x.max():.4g}"


def _much(earned: np.ndarray) -> float:
    """How much of a mean return a change has to be to mean something."""
    return max(0.5 * float(np.abs(earned).max()), 1e-6)
