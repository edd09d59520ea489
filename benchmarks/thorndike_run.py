"""One case of the speed benchmark with Thorndike: `thorndike_run.py CASE --steps N` prints {"steps", "seconds"}.

The clock runs on the wall, from the first row of metrics that learning wrote to the last, so that imports, compilation
and warm-up are outside of it, and logging and everything else that the loop does between rows is inside.
`cold-start` is timed by whoever starts this process; it prints the mean return of its evaluation as well.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

from marks import marks

import thorndike as td


def case(name: str) -> tuple[Any, str, int, int]:
    """Algorithm, environment, number of seeds, steps per row of metrics; the twin of `case` in peers/sb3_run.py."""
    if name in ("ppo-cartpole", "ppo-cartpole-8-seeds"):
        ppo = td.PPO(
            num_envs=8, rollout_length=128, epochs=4, minibatch_size=256, torso=td.Torso(widths=(64, 64)),
            learning_rate=3e-4, discount=0.99, trace=0.95, clip=0.2,
        )  # fmt: skip
        return ppo, "CartPole-v1", 8 if name.endswith("seeds") else 1, 5_120
    if name == "dqn-cartpole":
        dqn = td.DQN(
            num_envs=8, rollout_length=1, replay_ratio=1 / 8, target_period=250, learning_rate=5e-4, max_grad_norm=10.0,
            exploration=td.Epsilon(start=1.0, end=0.05, fraction=0.5),
            replay=td.Uniform(capacity=100_000, batch_size=64, warmup=1_000),
            torso=td.Torso(widths=(64, 64), activation="relu", init="uniform"),
        )  # fmt: skip
        return dqn, "CartPole-v1", 1, 5_000
    if name in ("sac-halfcheetah", "sac-halfcheetah-sbx"):
        sac = td.SAC(
            num_envs=1, rollout_length=1, replay_ratio=1, learning_rate=3e-4,
            replay=td.Uniform(capacity=1_000_000, batch_size=256, warmup=1_000),
            torso=td.Torso(widths=(256, 256), activation="relu", init="uniform"),
        )  # fmt: skip
        return sac, "HalfCheetah-v5", 1, 200
    if name == "a2c-cartpole":
        a2c = td.A2C(num_envs=8, rollout_length=8, learning_rate=7e-4, torso=td.Torso(widths=(64, 64)))
        return a2c, "CartPole-v1", 1, 5_120
    if name == "trpo-cartpole":
        trpo = td.TRPO(
            num_envs=8, rollout_length=128, cg_steps=15, line_steps=10, critic_epochs=10, minibatch_size=128,
            torso=td.Torso(widths=(64, 64)),
        )  # fmt: skip
        return trpo, "CartPole-v1", 1, 5_120
    if name == "qr-dqn-cartpole":
        qr_dqn = td.QRDQN(
            num_envs=8, rollout_length=1, replay_ratio=1 / 8, target_period=250, learning_rate=5e-4,
            exploration=td.Epsilon(start=1.0, end=0.05, fraction=0.5), head=td.Quantiles(n=50),
            replay=td.Uniform(capacity=100_000, batch_size=64, warmup=1_000),
            torso=td.Torso(widths=(64, 64), activation="relu", init="uniform"),
        )  # fmt: skip
        return qr_dqn, "CartPole-v1", 1, 5_000
    if name in ("td3-halfcheetah", "tqc-halfcheetah", "crossq-halfcheetah", "crossq-halfcheetah-sbx"):
        cls = {"td3": td.TD3, "tqc": td.TQC, "crossq": td.CrossQ}[name.split("-")[0]]
        replay = td.Uniform(capacity=1_000_000, batch_size=256, warmup=1_000)
        return cls(num_envs=1, rollout_length=1, replay_ratio=1, replay=replay), "HalfCheetah-v5", 1, 200
    if name == "ppo-atari":
        ppo = td.PPO(
            num_envs=8, rollout_length=128, epochs=4, minibatch_size=256, learning_rate=2.5e-4, clip=0.1,
            shared_torso=True,
        )  # fmt: skip
        return ppo, "envpool/Pong-v5", 1, 1_024
    if name == "ppo-halfcheetah":
        ppo = td.PPO(num_envs=8, rollout_length=256, epochs=10, minibatch_size=64, torso=td.Torso(widths=(64, 64)))
        return ppo, "HalfCheetah-v5", 1, 2_048
    raise SystemExit(f"no case {name!r}")


def throughput(name: str, steps: int) -> dict[str, float]:
    """Steps of all agents together, and the seconds that they took."""
    algorithm, env, seeds, log_every = case(name)
    found = marks(algorithm, env, steps, log_every, seeds)
    return {"steps": found[-1][0] - found[0][0], "seconds": found[-1][1] - found[0][1]}


def cold_start(steps: int) -> dict[str, float]:
    """What `thorndike train ppo CartPole-v1` and `thorndike evaluate RUN --episodes 20` do."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        run = td.train("ppo", "CartPole-v1", steps=steps, out=out, progress=False)
        mean = run.evaluate(episodes=20).mean
        return {"steps": run.status["steps"], "seconds": time.perf_counter() - start, "return": mean}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("--steps", type=int, required=True)
    args = parser.parse_args()
    print(json.dumps(cold_start(args.steps) if args.case == "cold-start" else throughput(args.case, args.steps)))
