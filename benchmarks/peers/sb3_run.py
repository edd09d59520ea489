"""One case of the speed benchmark with Stable-Baselines3, sb3-contrib or SBX.

`sb3_run.py CASE --steps N` prints {"steps", "seconds"}.

The clock runs over `learn`, after a short `learn` that warms up. `cold-start` is timed by whoever starts this process;
it prints the mean return of its evaluation as well. Environments are made without Gymnasium's checker, as Thorndike
makes them. What a case alone needs is imported there, so that the others pay neither time nor memory for it.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack


def make(env: str, n: int) -> VecEnv:
    """`n` environments that step together, in this process: for these quick ones SubprocVecEnv is slower."""
    return make_vec_env(env, n, env_kwargs={"disable_env_checker": True}, vec_env_cls=DummyVecEnv)


def case(name: str) -> tuple[Any, int]:
    """The model and its steps of warm-up; the twin of `case` in thorndike_run.py."""
    if name in ("ppo-cartpole", "ppo-cartpole-8-seeds"):
        model: Any = PPO(
            "MlpPolicy", make("CartPole-v1", 8), n_steps=128, n_epochs=4, batch_size=256, learning_rate=3e-4,
            gamma=0.99, gae_lambda=0.95, clip_range=0.2, policy_kwargs={"net_arch": [64, 64]}, device="cpu",
        )  # fmt: skip
        return model, 2 * 8 * 128
    if name == "dqn-cartpole":
        model = DQN(
            "MlpPolicy", make("CartPole-v1", 8), train_freq=1, gradient_steps=1, learning_rate=5e-4,
            max_grad_norm=10.0, batch_size=64, buffer_size=100_000, learning_starts=1_000,
            target_update_interval=8 * 250,  # in environment steps
            exploration_initial_eps=1.0, exploration_final_eps=0.05, exploration_fraction=0.5,
            policy_kwargs={"net_arch": [64, 64]}, device="cpu",
        )  # fmt: skip
        return model, 2_000
    if name in ("sac-halfcheetah", "sac-halfcheetah-sbx"):
        if name.endswith("sbx"):
            from sbx import SAC as algorithm
        else:
            algorithm = SAC
        model = algorithm(
            "MlpPolicy", make("HalfCheetah-v5", 1), train_freq=1, gradient_steps=1, learning_rate=3e-4,
            batch_size=256, buffer_size=1_000_000, learning_starts=1_000,
            policy_kwargs={"net_arch": [256, 256]}, device="cpu",
        )  # fmt: skip
        return model, 1_100
    if name == "a2c-cartpole":
        model = A2C(
            "MlpPolicy", make("CartPole-v1", 8), n_steps=8, learning_rate=7e-4, policy_kwargs={"net_arch": [64, 64]},
            device="cpu",
        )  # fmt: skip
        return model, 2 * 8 * 128
    if name == "trpo-cartpole":
        from sb3_contrib import TRPO

        model = TRPO(
            "MlpPolicy", make("CartPole-v1", 8), n_steps=128, batch_size=128, cg_max_steps=15,
            line_search_max_iter=10, n_critic_updates=10, policy_kwargs={"net_arch": [64, 64]}, device="cpu",
        )  # fmt: skip
        return model, 2 * 8 * 128
    if name == "qr-dqn-cartpole":
        from sb3_contrib import QRDQN

        model = QRDQN(
            "MlpPolicy", make("CartPole-v1", 8), train_freq=1, gradient_steps=1, learning_rate=5e-4, batch_size=64,
            buffer_size=100_000, learning_starts=1_000, target_update_interval=8 * 250,
            exploration_initial_eps=1.0, exploration_final_eps=0.05, exploration_fraction=0.5,
            policy_kwargs={"net_arch": [64, 64], "n_quantiles": 50}, device="cpu",
        )  # fmt: skip
        return model, 2_000
    if name in ("td3-halfcheetah", "tqc-halfcheetah", "crossq-halfcheetah", "crossq-halfcheetah-sbx"):
        wide: dict[str, Any] = {"net_arch": {"pi": [256, 256], "qf": [1024, 1024]}}
        if name == "td3-halfcheetah":
            kind: Any = TD3
            networks: Any = {"net_arch": [256, 256]}
        elif name == "tqc-halfcheetah":
            from sb3_contrib import TQC

            kind, networks = TQC, {"net_arch": [256, 256], "n_critics": 5, "n_quantiles": 25}
        elif name == "crossq-halfcheetah":
            from sb3_contrib import CrossQ

            kind, networks = CrossQ, wide
        else:
            from sbx import CrossQ as SBXCrossQ

            kind, networks = SBXCrossQ, wide
        model = kind(
            "MlpPolicy", make("HalfCheetah-v5", 1), train_freq=1, gradient_steps=1, learning_rate=1e-3,
            batch_size=256, buffer_size=1_000_000, learning_starts=1_000, policy_kwargs=networks, device="cpu",
        )  # fmt: skip
        return model, 1_100
    if name == "ppo-atari":
        import ale_py
        import gymnasium

        gymnasium.register_envs(ale_py)
        envs = VecFrameStack(make_atari_env("PongNoFrameskip-v4", 8), 4)
        model = PPO("CnnPolicy", envs, n_steps=128, n_epochs=4, batch_size=256, learning_rate=2.5e-4, clip_range=0.1,
                    device="cpu")  # fmt: skip
        return model, 8 * 128
    if name == "ppo-halfcheetah":
        model = PPO(
            "MlpPolicy", make("HalfCheetah-v5", 8), n_steps=256, n_epochs=10, batch_size=64,
            policy_kwargs={"net_arch": [64, 64]}, device="cpu",
        )  # fmt: skip
        return model, 8 * 256
    raise SystemExit(f"no case {name!r}")


def throughput(name: str, steps: int) -> dict[str, float]:
    """Steps, and the seconds that they took."""
    model, warm_up = case(name)
    model.learn(warm_up)
    before, start = model.num_timesteps, time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return {"steps": model.num_timesteps - before, "seconds": time.perf_counter() - start}


def cold_start(steps: int) -> dict[str, float]:
    """Train at the settings of `thorndike train ppo CartPole-v1`, then play 20 episodes."""
    start = time.perf_counter()
    model = PPO(
        "MlpPolicy", make("CartPole-v1", 8), n_steps=128, batch_size=256, n_epochs=20, gamma=0.99, gae_lambda=0.95,
        ent_coef=0.0, learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left, device="cpu",
    )  # fmt: skip
    model.learn(steps)
    mean, _ = evaluate_policy(model, make("CartPole-v1", 8), n_eval_episodes=20)
    return {"steps": model.num_timesteps, "seconds": time.perf_counter() - start, "return": float(mean)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: its default")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(json.dumps(cold_start(args.steps) if args.case == "cold-start" else throughput(args.case, args.steps)))
