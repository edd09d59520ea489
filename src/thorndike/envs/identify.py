"""System identification: an environment's numbers from logged transitions, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import require
from thorndike.envs.batched import is_jax, to_environment
from thorndike.envs.wrappers.randomised import Randomised, check_ranges, with_numbers
from thorndike.errors import ConfigError
from thorndike.memory.dataset import Dataset
from thorndike.ops.keys import random_key
from thorndike.types import Array

MOST_ROWS = 20_000  # transitions that a fit reads; of more, some that are spread evenly
SINGULAR = 1e-10  # the least ratio of two curvatures that float32 can tell from 0


@dataclasses.dataclass(frozen=True)
class Identified:
    """What `identify` found."""

    env: Any  # the environment with these numbers
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]  # infinite for what the data do not tell
    residual: np.ndarray  # root mean square of what is left of a step, by dimension of the observation
    before: np.ndarray  # the same, of the environment as it was given
    confidence: float
    steps: int

    def randomised(self, widen: float = 1.0) -> Randomised:
        """The environment with its numbers drawn from their intervals, `widen` times as wide.

        Raises:
            ConfigError: an interval is infinite, or reaches numbers that the environment cannot have.
        """
        endless = [name for name, bounds in self.intervals.items() if not np.isfinite(bounds).all()]
        require(not endless, f"the data say nothing about {', '.join(endless)}: randomise over ranges of your own")
        about = {name: (self.values[name], widen * (high - low) / 2) for name, (low, high) in self.intervals.items()}
        ranges = tuple((name, middle - half, middle + half) for name, (middle, half) in about.items())
        found = Randomised(env=self.env, ranges=ranges)
        found.check()
        return found

    def __str__(self) -> str:
        lines = [f"{self.steps:,} steps; {self.confidence:.0%} intervals"]
        for name, value in self.values.items():
            low, high = self.intervals[name]
            told = f"[{low:.4g}, {high:.4g}]" if np.isfinite((low, high)).all() else "the data do not tell"
            lines.append(f"  {name:14} {value:10.4g}   {told}")
        rms = lambda x: float(np.sqrt((np.asarray(x) ** 2).mean()))  # noqa: E731
        return "\n".join([*lines, f"error of a step: {rms(self.residual):.3g}, before {rms(self.before):.3g}"])


def identify(
    env: Any,
    data: Dataset | tuple[Any, Any, Any],
    ranges: Mapping[str, tuple[float, float]],
    confidence: float = 0.95,
    starts: int = 4,
    seed: int = 0,
) -> Identified:
    """Fit numbers of a JAX environment to logged transitions, by weighted least squares on its steps.

    min_x Σ_t ‖(o_{t+1} - f(o_t, a_t; x)) / σ‖²,   x within `ranges`,   cov(x) ≈ s² (JᵀJ)⁻¹

    f is the environment's step from the state that o_t shows, σ the deviation of the residuals of each dimension, found
    in a first fit, and J the derivative of the weighted residuals. The solver is SciPy's (trust region reflective),
    from several starts. Noise in o_t counts as noise of the step; where it is large, intervals are too narrow. Steps
    with chance are compared with one draw.

    Args:
        env: a JAX environment, or its id, with a method `state_of(obs)`: the state that an observation shows.
            CartPole, Pendulum, Acrobot, MountainCar and their like have it.
        data: a dataset, or observations [N, ...], actions [N, ...] and the observations after them [N, ...].
        ranges: the numbers to find, with the bounds between which they are sought.
        confidence: of the intervals, by Student's t.
        starts: how many points the solver starts from, the numbers that `env` has among them.
        seed: of the other points.

    Raises:
        ConfigError: the environment has no such number or no `state_of`, there are too few transitions, or `confidence`
            is none.
    """
    from scipy.optimize import least_squares
    from scipy.stats import t as student

    from thorndike.envs import make

    require(0 < confidence < 1, f"confidence is a probability, such as 0.95, got {confidence}")
    env = make(env) if isinstance(env, str) else env
    require(is_jax(env), "identify moves the numbers of a JAX environment; one on the host has none that it can move")
    require(
        hasattr(env, "state_of"),
        f"identify goes on from logged observations: {type(env).__name__} needs a method state_of(obs), the state that "
        "an observation shows",
    )
    bounds = tuple((name, float(least), float(most)) for name, (least, most) in ranges.items())
    require(bool(bounds), 'say which numbers to find, and within which bounds: {"pole_mass": (0.05, 1.0)}')
    wide = [name for name, low, high in bounds if not low < high]
    require(not wide, f"the range of {wide[0] if wide else ''} is empty")
    names, least, most = zip(*bounds)
    low, high = np.array(least), np.array(most)
    corners = [dict(zip(names, end.tolist())) for end in (low, high)]
    check_ranges(Randomised(env=env, ranges=bounds), corners)

    obs, action, after = transitions(env, data)
    rows = len(obs)
    require(rows * after[0].size > 10 * len(names), f"{rows} transitions are too few for {len(names)} numbers")
    actions = to_environment(env.action_space, jnp.asarray(action))

    world = (env, names, low.astype(np.float32), high.astype(np.float32), obs, actions, after)

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.asarray(_missed(x.astype(np.float32), *world), float)

    def fit(weight: np.ndarray, start: np.ndarray) -> Any:
        slopes = lambda x: np.asarray(_slopes(x.astype(np.float32), *world), float)  # noqa: E731
        return least_squares(
            lambda x: (residuals(x) / weight).ravel(),
            start,
            lambda x: (slopes(x) / weight[:, None]).reshape(-1, len(names)),
            bounds=(0.0, 1.0),
            method="trf",
        )

    given = np.array([float(_number(env, name)) for name in names])
    inside = np.clip((given - low) / (high - low), 1e-3, 1 - 1e-3)
    drawn = np.random.default_rng(seed).uniform(0.05, 0.95, (max(starts - 1, 0), len(names)))
    weight = np.maximum(np.std(after - obs.reshape(after.shape), 0), 1e-6)
    first = min((fit(weight, start) for start in (inside, *drawn)), key=lambda found: found.cost)
    left = residuals(first.x)
    weight = np.maximum(np.sqrt((left**2).mean(0)), 1e-6)
    found = fit(weight, np.clip(first.x, 1e-6, 1 - 1e-6))

    free = found.fun.size - len(names)
    curvature, variance = found.jac.T @ found.jac, 2 * found.cost / free
    eigenvalues, directions = np.linalg.eigh(curvature)
    flat = eigenvalues < SINGULAR * max(eigenvalues.max(), 1e-300)
    spread = (directions**2 / np.where(flat, 1.0, eigenvalues)).sum(1) * variance
    unknown = (directions[:, flat] ** 2).sum(1) > 1e-3
    half = student.ppf((1 + confidence) / 2, free) * np.sqrt(spread) * (high - low)
    half = np.where(unknown, np.inf, half)
    values = low + found.x * (high - low)
    left = residuals(found.x)
    start = residuals((given - low) / (high - low))
    rms = lambda x: np.sqrt((x**2).mean(0))  # noqa: E731
    numbers: dict[str, float] = dict(zip(names, values.tolist()))
    intervals = {name: (numbers[name] - h, numbers[name] + h) for name, h in zip(names, half.tolist())}
    return Identified(with_numbers(env, numbers), numbers, intervals, rms(left), rms(start), confidence, rows)


@partial(jax.jit, static_argnums=2)
def _missed(
    x: Array, env: Any, names: tuple[str, ...], low: Array, high: Array, obs: Array, action: Array, after: Array
):
    """o_{t+1} - f(o_t, a_t; x), [N, D], for numbers x as parts of their ranges."""
    changed = with_numbers(env, dict(zip(names, low + x * (high - low))))
    step = lambda o, a: jnp.ravel(changed.step(changed.state_of(o), a, random_key(0)).obs)  # noqa: E731
    return after - jax.vmap(step)(obs, action)


_slopes = jax.jit(jax.jacfwd(_missed), static_argnums=2)


def transitions(env: Any, data: Dataset | tuple[Any, Any, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations [N, ...], actions [N, ...] and the observations after them as vectors [N, D], all finite."""
    if isinstance(data, Dataset):
        from thorndike.runs.storage.environments import describe

        index = np.unique(np.linspace(0, len(data) - 1, min(len(data), MOST_ROWS)).astype(int))
        found = data.fit(describe(env, 1, type(env).__name__))[index]
        parts = found.obs, found.action, found.next_obs
    else:
        require(len(data) == 3, "data are observations, actions and the observations after them, or a td.Dataset")
        parts = data
    obs, action, after = map(np.asarray, parts)
    shape, actions = env.observation_space.shape, env.action_space.shape
    n = len(obs)
    require(n > 0, "there are no transitions to fit numbers to")
    for name, x, wanted in (("observations", obs, shape), ("actions", action, actions), ("next ones", after, shape)):
        if x.shape != (n, *wanted):
            raise ConfigError(f"{name} have the shape {x.shape}, and have to be {(n, *wanted)}")
    keep = np.isfinite(obs.reshape(n, -1)).all(1) & np.isfinite(after.reshape(n, -1)).all(1)
    require(bool(keep.any()), "no transition is finite")
    return obs[keep].astype(np.float32), action[keep], after[keep].reshape(keep.sum(), -1).astype(np.float32)


def _number(env: Any, name: str) -> Any:
    """The number `name` of an environment or of one inside of it."""
    return getattr(env, name) if hasattr(env, name) else _number(env.env, name)
