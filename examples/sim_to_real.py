"""From a simulator to a reality that differs from it: a plain agent, one of many worlds, one of what was measured, and
fine-tuning.

python examples/sim_to_real.py        # some minutes on two cores
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import thorndike as td
from thorndike.envs.batched import Batched
from thorndike.ops.binomial import clopper_pearson
from thorndike.ops.keys import random_key

NOMINAL = td.Pendulum()
HIDDEN = td.Pendulum(mass=1.4, length=0.8)  # nothing below but the logs and the evaluation looks at it
REAL = td.ObservationNoise(env=td.Delay(env=HIDDEN, actions=1), std=0.03)
WIDE = (("mass", 0.6, 1.8), ("length", 0.6, 1.4))
FAILURE = -300.0  # a return below it; the best mean is about -150
STEPS, EPISODES, SEEDS = 12_000, 200, 3


def logged(steps=1_000, seed=0):
    """One log of the real pendulum by random torques: observations, actions, the observations after them."""
    world, key, rows = Batched(REAL, 1), random_key(seed), []
    step, now = jax.jit(world.step), world.reset(key)
    rng = np.random.default_rng(seed)
    for t in range(steps):
        action = rng.uniform(-2, 2, (1, 1)).astype(np.float32)
        later = step(now, jnp.asarray(action), random_key(1 + t))
        rows.append((np.asarray(now.obs[0]), action[0], np.asarray(later.final_obs[0]), bool(now.first[0])))
        now = later
    return tuple(map(np.array, zip(*rows)))


def identified(log):
    """The simulator with the mass, the length, the delay and the noise that explain the log best.

    A delay is no number: its candidates are fitted one by one, with actions from that many steps ago.
    """
    obs, action, after, first = log
    ranges = {name: (low, high) for name, low, high in WIDE}
    fits = []
    for late in (0, 1, 2):
        t = np.arange(late, len(obs))
        t = t[[not first[i - late + 1 : i + 1].any() for i in t]]  # the action is of the same episode
        fits.append(td.identify(NOMINAL, (obs[t], action[t - late], after[t]), ranges))
    late = int(np.argmin([np.square(fit.residual).sum() for fit in fits]))
    found = fits[late]
    print(f"a delay of {late} steps;", found)
    noise = float(found.residual[:2].mean() / np.sqrt(2))  # of both observations of a step
    inner = td.Delay(env=found.env, actions=late) if late else found.env
    return td.ObservationNoise(env=inner, std=noise)


def main(out=Path("runs/sim_to_real")):
    """Train in each, and print how they do in the real one."""
    sac = td.preset("sac", "Pendulum-v1")
    known = identified(logged())

    def train(name, env, steps=STEPS, **more):
        return td.train(sac, env, steps, seeds=SEEDS, out=out / name, progress=False, **more)

    plain = train("plain", NOMINAL)
    agents = {
        "plain: the nominal simulator": (plain, 0),
        "randomised: mass and length from wide ranges": (train("random", td.Randomised(env=NOMINAL, ranges=WIDE)), 0),
        "identified: mass, length, delay and noise from a log": (train("identified", known), 1_000),
        "none: learned from 10,000 real steps alone": (train("real", REAL, 10_000), 10_000),
        "plain, fine-tuned on 1,000 real steps": (train("tuned_1k", REAL, 1_000, start=plain), 1_000),
        "plain, fine-tuned on 10,000 real steps": (train("tuned_10k", REAL, 10_000, start=plain), 10_000),
    }
    print("| agent | real steps | mean return in its own world | in the real one (by seed) | failures [95%] |")
    print("|---|---|---|---|---|")
    for name, (run, real) in agents.items():
        home, returns = run.evaluate(EPISODES).mean, run.evaluate(EPISODES, env=REAL).returns
        k, n, each = int((returns < FAILURE).sum()), returns.size, ", ".join(f"{x:.0f}" for x in returns.mean(1))
        low, high = clopper_pearson(k, n)
        bounds = f"{k} of {n} [{low:.1%}, {high:.1%}]"
        print(f"| {name} | {real:,} | {home:.0f} | {returns.mean():.0f} ({each}) | {bounds} |", flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
