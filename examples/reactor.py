"""A reactor that runs away by itself, held by four controllers: a table, and a picture of one episode of each.

python examples/reactor.py            # some minutes on two cores; writes reactor.png
thorndike criteria runs/sac_Reactor --baseline ./examples/reactor.py:cascade
"""

import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import thorndike as td
from thorndike.envs.batched import Batched
from thorndike.ops.keys import random_key

ENV = td.Reactor()
EPISODES = 32
STEPS = {"mpc": 200, "pets": 4_000, "sac": 40_000}  # of the environment, to learn from; MPC learns nothing


def cascade(obs):
    """PI control of the concentration, by the setpoint of a faster P controller of the temperature.

    Tuned by SIMC (Skogestad 2003), around the steady state of 0.5 mol/L, 350 K and a coolant of 300 K:
    K = τ / (k (τ_c + θ)),   τ_I = min(τ, 4 (τ_c + θ)), where a process without τ has K = 1 / (k (τ_c + θ)).
    P: coolant to temperature is an integrator at first, k = UA/(V ρ c_p) = 2.09 /min; θ = τ_c = dt/2 = 0.05 min, as the
    coolant is held for a step. PI: temperature to concentration has k = -0.0179 mol/(L K) and τ = 0.5 min, from the
    linear equation of c; θ = 0.15 min is the P loop with its own delay, and τ_c = 1 min.

    PI of the concentration by the coolant alone cannot do it: it leaves the sum of the poles at 2.38 /min, whatever its
    gains, and a positive sum has a pole to the right of 0.
    """
    now = ENV.state_of(np.asarray(obs, float))
    inner, outer, integral = 1 / (2.09 * 0.1), 0.5 / (-0.0179 * 1.15), 0.5
    wanted = 350.0 + outer * (now.setpoint - now.concentration + now.integral / integral)
    return np.clip([300.0 + inner * (wanted - now.temperature)], 280.0, 320.0)


def play(act, memory, episodes=EPISODES, seed=1_000):
    """Whole episodes: states [T, E] by name, setpoints, rewards and costs [T, E], and a decision in milliseconds."""
    step, rows = jax.jit(Batched(ENV, episodes).step), []
    now, carry = Batched(ENV, episodes).reset(random_key(seed)), memory(episodes)
    for t in range(ENV.max_steps):
        action, carry = act(carry, now)
        later = step(now, jnp.asarray(action, jnp.float32), random_key(seed + 1 + t))
        state = ENV.state_of(later.final_obs.T)
        rows.append(jax.device_get((state, now.sim.state.setpoint, later.reward, later.earned["cost"])))
        now = later
    states, setpoint, reward, cost = jax.tree.map(lambda *x: np.stack(x), *rows)
    now, carry, times = Batched(ENV, 1).reset(random_key(seed)), memory(1), []
    for _ in range(30):
        start = time.perf_counter()
        jax.block_until_ready(act(carry, now))
        times.append(time.perf_counter() - start)
    return states, setpoint, reward, cost, 1e3 * np.median(times)


def controllers(out):
    """Name, what acts, its memory, steps that it learned from, and seconds of training."""
    rule = lambda carry, now: (np.stack([cascade(obs) for obs in np.asarray(now.obs)]), carry)  # noqa: E731
    yield "PI cascade", rule, lambda n: (), 0, 0.0
    for name, steps in STEPS.items():
        start = time.perf_counter()
        run = td.train(name, "Reactor", steps, out=out / name, progress=False)
        actor, algorithm = jax.tree.map(lambda x: x[0], run.actors()), run.algorithm
        acts = jax.jit(lambda actor, carry, now, by=algorithm: by.act(actor, carry, now, random_key(0), False)[:2])
        learned, seconds = (0, 0.0) if name == "mpc" else (steps, time.perf_counter() - start)
        yield name.upper(), partial(acts, actor), partial(algorithm.carry, actor), learned, seconds


def draw(path, found):
    """One episode of each: concentration with its setpoint, temperature with its limit, and the coolant."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(3, 1, figsize=(8, 7), sharex=True, constrained_layout=True)
    minutes = ENV.dt * np.arange(1, ENV.max_steps + 1)
    for name, (states, *_) in found.items():
        for row, part in zip(rows, ("concentration", "temperature", "coolant")):
            row.plot(minutes, getattr(states, part)[:, 0], label=name, lw=1)
    setpoint = next(iter(found.values()))[1]  # of all: the same random numbers
    rows[0].plot(minutes, setpoint[:, 0], "k--", lw=1, label="setpoint")
    rows[1].axhline(ENV.limit, color="k", ls=":", lw=1)
    for row, label in zip(rows, ("concentration (mol/L)", "temperature (K)", "coolant (K)")):
        row.set_ylabel(label)
    rows[0].legend(ncols=5, fontsize=8, frameon=False)
    rows[2].set_xlabel("minutes")
    figure.savefig(path, dpi=110)


def main(out=Path("runs/reactor"), picture=Path("reactor.png")):
    """Train, play, and print a row for each."""
    found = {}
    print("| controller | learned from | training | mean return, worst | hottest | above the limit | decision |")
    print("|---|---|---|---|---|---|---|")
    for name, act, memory, learned, seconds in controllers(out):
        found[name] = states, _, reward, cost, decision = play(act, memory)
        total = reward.sum(0)
        print(
            f"| {name} | {learned:,} steps | {seconds:.0f} s | {total.mean():.1f}, {total.min():.1f} "
            f"| {states.temperature.max():.0f} K | {cost.sum(0).mean():.2f} steps an episode | {decision:.2f} ms |",
            flush=True,
        )
    draw(picture, found)
    return found


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
