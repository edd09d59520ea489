"""Auxiliary losses beside each other, where most of what an agent sees is noise and rewards are rare.

    python benchmarks/auxiliary.py [STEPS]

DQN and PPO with a shared torso, each without an auxiliary loss and with one. Writes docs/images/auxiliary.png and
results/auxiliary.md; some minutes of CPU time.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete
from speed import commit, machine

import thorndike as td
from thorndike.figures import dress, new_figure, save, style

HERE = Path(__file__).resolve().parent
IMAGE, TABLE = HERE.parent / "docs/images/auxiliary.png", HERE / "results/auxiliary.md"
SEEDS, POINTS = 3, 40
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


class Place(NamedTuple):
    """Row and column."""

    at: jax.Array


@td.config
class NoisyRoom:
    """Find the corner of an empty room: the agent's cell is one pixel of `size`², beside `noise` pixels of noise.

    The room's pixels are 0 or 1, the others are drawn from [0, 1] in each step. The reward is 1 in the far corner,
    where the episode ends, and 0 elsewhere. Episodes begin in the near corner.
    """

    size: int = 5
    noise: int = 200
    max_steps: int = 50

    @property
    def observation_space(self) -> Box:
        """All pixels in a row."""
        return Box(0.0, 1.0, (self.size**2 + self.noise,), np.float32)

    @property
    def action_space(self) -> Discrete:
        """Up, right, down, left; against a wall nothing moves."""
        return Discrete(4)

    def seen(self, at: jax.Array, key: jax.Array) -> jax.Array:
        """The room's pixels and those of noise."""
        room = jnp.zeros((self.size, self.size)).at[at[0], at[1]].set(1.0)
        return jnp.concatenate([room.ravel(), jax.random.uniform(key, (self.noise,))])

    def reset(self, key: jax.Array) -> td.Step:
        """In the near corner."""
        at = jnp.zeros(2, jnp.int32)
        return td.Step(Place(at), self.seen(at, key))

    def step(self, state: Place, action: jax.Array, key: jax.Array) -> td.Step:
        """One cell on."""
        at = jnp.clip(state.at + jnp.asarray(MOVES)[action], 0, self.size - 1)
        there = (at == self.size - 1).all()
        return td.Step(Place(at), self.seen(at, key), jnp.where(there, 1.0, 0.0), there)


LOSSES: dict[str, Any] = {
    "none": None,
    "reward prediction": td.RewardPrediction(),
    "inverse dynamics": td.InverseDynamics(),
    "self-prediction": td.SelfPrediction(),
    "reconstruction": td.Reconstruction(),
}


def agents(auxiliary: Any) -> dict[str, Any]:
    """Both algorithms, with equal torsos. Observations stay as they are: normalised, the rare pixel would be large."""
    torso = td.Torso(widths=(64,), activation="relu")
    ppo = td.PPO(
        torso=torso, shared_torso=True, auxiliary=auxiliary, learning_rate=1e-3, epochs=4, entropy_coefficient=0.01,
        normalize_observation=False, normalize_reward=False,
    )  # fmt: skip
    dqn = td.DQN(
        torso=torso, auxiliary=auxiliary, learning_rate=1e-3, normalize_observation=False, replay_ratio=0.25,
        replay=td.Uniform(capacity=20_000, batch_size=64), exploration=td.Epsilon(fraction=0.5),
    )  # fmt: skip
    return {"PPO": ppo, "DQN": dqn}


def learned(algorithm: Any, env: Any, steps: int) -> np.ndarray:
    """The share of a run's episodes that found the corner, [SEEDS, POINTS], in equal parts of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        run = td.train(algorithm, env, steps, seeds=SEEDS, out=Path(folder) / "run", progress=False)
        played = run.episodes()
    part = np.minimum((played["step"] * POINTS / steps).astype(int), POINTS - 1)
    shares = np.full((SEEDS, POINTS), np.nan)
    for i in range(SEEDS):
        for j in range(POINTS):
            here = (played["member"] == i) & (part == j)
            shares[i, j] = played["return"][here].mean() if here.any() else np.nan
    return shares


def row(name: str, shares: np.ndarray, seconds: float) -> str:
    """A line of the table: means over the run and over its last fifth, and each seed's."""
    last = shares[:, -POINTS // 5 :]
    spread = ", ".join(f"{x:.2f}" for x in np.nanmean(last, 1))
    return f"| {name} | {np.nanmean(shares):.2f} | {np.nanmean(last):.2f} ({spread}) | {seconds:.0f} |"


def main(steps: int = 40_000) -> None:
    """Train all, draw the curves and write the table."""
    env = NoisyRoom()
    figure = new_figure(9.0, 4.0)
    panels = dict(zip(("PPO", "DQN"), figure.subplots(1, 2, sharey=True)))
    lines = [
        "# Auxiliary losses beside noise", "", f"`python benchmarks/auxiliary.py {steps}`", "",
        f"Commit {commit()}, {datetime.date.today()}.", "", *(f"- {k}: {v}" for k, v in machine(None).items()), "",
        f"The agent sees a room of {env.size} x {env.size} pixels, of which its cell is 1, and {env.noise} pixels of "
        "noise; the reward is 1 in the far corner. "
        f"{steps:,} steps, {SEEDS} seeds, one hidden layer of 64, every loss with weight 1. The share of episodes that "
        "find the corner while training:", "",
        "![](../../docs/images/auxiliary.png)",
    ]  # fmt: skip
    for algorithm, axes in panels.items():
        heads = ("auxiliary loss", "whole run", "last fifth (each seed)", "CPU seconds")
        lines += ["", f"## {algorithm}", "", f"| {' | '.join(heads)} |", "| --- | --- | --- | --- |"]
        for i, (name, auxiliary) in enumerate(LOSSES.items()):
            start = time.process_time()
            shares = learned(agents(auxiliary)[algorithm], env, steps)
            lines.append(row(name, shares, time.process_time() - start))
            print(algorithm, lines[-1], flush=True)
            x = (np.arange(POINTS) + 0.5) * steps / POINTS
            axes.plot(x, np.nanmean(shares, 0), label=name, linewidth=2, **style(i))
            axes.fill_between(x, *(f(shares, 0) for f in (np.nanmin, np.nanmax)), color=style(i)["color"], alpha=0.12)
        dress(axes, f"environment steps, {algorithm}", "episodes that find the corner")
    panels["PPO"].legend(frameon=False)
    save(figure, IMAGE)
    TABLE.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
