"""Train or resume one run, as a process that may be killed at any moment: kill_case.py NAME DIRECTORY."""

import sys
from pathlib import Path

import thorndike as td

SMALL = td.Torso(widths=(32, 32))
REPLAY = td.Uniform(capacity=5_000, batch_size=32, warmup=500)
CASES = {
    "ppo": (td.PPO(torso=SMALL, normalize_observation=True, normalize_reward=True), "CartPole-v1", 800_000),
    "dqn": (td.DQN(torso=SMALL, replay=REPLAY), "CartPole-v1", 400_000),
    "sac": (td.SAC(torso=SMALL, replay=REPLAY), "Pendulum-v1", 48_000),
}

if __name__ == "__main__":
    name, directory = sys.argv[1], Path(sys.argv[2])
    if (directory / "run.json").exists():
        td.resume(directory, progress=False)
    else:
        algorithm, env, steps = CASES[name]
        td.train(algorithm, env, steps, seed=3, out=directory, progress=False, checkpoint_every=0.2)
