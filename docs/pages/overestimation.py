"""Overestimation (van Hasselt et al. 2016): what DQN and double DQN expect of the best action, where all are worth 0.

    python docs/pages/overestimation.py overestimation.png

About a minute of CPU time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

import thorndike as td

ARMS, DISCOUNT, STEPS, SEEDS = 16, 0.95, 20_000, 4


class Place(NamedTuple):
    """How many arms were pulled in this episode."""

    t: jax.Array


@td.config
class Machines:
    """Ten slot machines in a row, of `arms` arms each. All arms pay N(0, 1), so every policy is worth 0."""

    arms: int = ARMS
    max_steps: int = 10

    @property
    def observation_space(self) -> Discrete:
        """The machine."""
        return Discrete(self.max_steps + 1)

    @property
    def action_space(self) -> Discrete:
        """The arm."""
        return Discrete(self.arms)

    def reset(self, key: jax.Array) -> td.Step:
        """At the first machine."""
        return td.Step(Place(jnp.int32(0)), jnp.int32(0))

    def step(self, place: Place, action: jax.Array, key: jax.Array) -> td.Step:
        """On to the next; behind the last one it is over."""
        t = place.t + 1
        return td.Step(Place(t), t, jax.random.normal(key), t >= self.max_steps)


AGENTS = {"DQN": False, "double DQN": True}


def expected(double: bool, steps: int = STEPS, seeds: int = SEEDS) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps [N], and max_a Q(s, a) there, the mean over replayed states, of each run [N, R]."""
    algorithm = td.DQN(
        double=double, discount=DISCOUNT, normalize_observation=False, learning_rate=1e-3, diagnostics=True,
        replay=td.Uniform(capacity=20_000, batch_size=64, warmup=500), torso=td.Torso(widths=(64,), activation="relu"),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = td.train(algorithm, Machines(), steps, seeds=seeds, out=Path(folder) / "run", progress=False)
        found = run.metrics()
    learned = np.isfinite(found["train/q_max"]).all(1)
    return found["steps"][learned], found["train/q_max"][learned]


def main(path: str) -> None:
    """Draw both."""
    from thorndike.figures import dress, new_figure, save, style

    figure = new_figure()
    axes = figure.subplots()
    for i, (name, double) in enumerate(AGENTS.items()):
        steps, values = expected(double)
        print(f"{name}: {values[-1].mean():.2f} at last, of {values[-1].min():.2f} to {values[-1].max():.2f}")
        axes.plot(steps, values.mean(1), label=name, linewidth=2, **style(i))
        axes.fill_between(steps, values.min(1), values.max(1), color=style(i)["color"], alpha=0.15, linewidth=0)
    axes.axhline(0.0, color="#4a5568", linewidth=0.8, linestyle=":")
    dress(axes, "environment steps", "expected return of the best arm, less the true one")
    axes.legend(frameon=False)
    save(figure, path)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "overestimation.png")
