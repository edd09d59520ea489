"""Overestimation: what DQN and double DQN expect of the best action, where all are worth 0 (van Hasselt et al. 2016),
and what DDPG and TD3 expect of their own policy, less what it earns (Fujimoto et al. 2018, figure 1).

    python docs/pages/overestimation.py overestimation.png

Two minutes of CPU time or more.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

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


CRITICS = {"DDPG": "ddpg", "TD3": "td3"}
STARTS, AHEAD = 64, 800  # of which states, and over how many steps: 0.99⁸⁰⁰ is 0.0003


def surplus(name: str, steps: int = 24_000, seeds: int = 2, points: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps [N], and the mean of Q(s, μ(s)) less the discounted return of μ from s, of each run [N, R].

    s are first states of Pendulum, and returns go on over its time limit, as the targets of both do. The first quarter
    of the steps is left out: Q is then on its way from 0 to what may be -1,000.
    """
    algorithm, env = td.preset(name, "Pendulum-v1"), td.make("Pendulum-v1")
    no = jnp.zeros(STARTS, bool)

    def shown(obs: jax.Array) -> td.Timestep:
        return td.Timestep(obs, jnp.zeros(STARTS), no, no, obs, no, {})

    @jax.jit
    @jax.vmap
    def one(actor: Any) -> jax.Array:
        keys = jax.random.split(jax.random.key(0), STARTS)
        begin = jax.vmap(env.reset)(keys)
        expected = algorithm.look(actor, (), shown(begin.obs), False)[0].value

        def step(now: td.Step, t: jax.Array) -> tuple[td.Step, jax.Array]:
            action = algorithm.act(actor, (), shown(now.obs), jax.random.key(1), False)[0]
            after = jax.vmap(env.step)(now.state, action, keys)
            return now._replace(state=after.state, obs=after.obs), algorithm.discount**t * after.reward

        return (expected - jax.lax.scan(step, begin, jnp.arange(AHEAD))[1].sum(0)).mean()

    with tempfile.TemporaryDirectory() as folder:
        path, every = Path(folder) / "run", steps // points
        run = td.train(
            algorithm, "Pendulum-v1", steps, seeds=seeds, out=path, progress=False, checkpoint_steps=every, keep=points
        )
        at = np.arange(every, steps + 1, every)[points // 4 :]
        return at, np.array([one(run.actors(int(step))) for step in at])


def main(path: str) -> None:
    """Draw both tasks."""
    from thorndike.figures import dress, new_figure, save, style

    figure = new_figure(10.0, 4.0)
    left, right = figure.subplots(1, 2)
    found = [(left, name, expected(double)) for name, double in AGENTS.items()]
    found += [(right, name, surplus(algorithm)) for name, algorithm in CRITICS.items()]
    for i, (axes, name, (steps, values)) in enumerate(found):
        last, most = values[-1], values.mean(1).max()
        print(
            f"{name}: {last.mean():.2f} at last ({last.min():.2f} to {last.max():.2f}), at most {most:.2f}", flush=True
        )
        axes.plot(steps, values.mean(1), label=name, linewidth=2, **style(i))
        axes.fill_between(steps, values.min(1), values.max(1), color=style(i)["color"], alpha=0.15, linewidth=0)
    for axes, label in (
        (left, "best arm: expected return, less the true one"),
        (right, "Pendulum: Q, less the return"),
    ):
        axes.axhline(0.0, color="#4a5568", linewidth=0.8, linestyle=":")
        dress(axes, "environment steps", label)
        axes.legend(frameon=False)
    save(figure, path)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "overestimation.png")
