"""Thorndike: deep reinforcement learning in JAX.

    import thorndike as td

    run = td.train("ppo", "CartPole-v1", steps=100_000)
    print(run.evaluate(episodes=100))
    run.watch()

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "runs.training.train": ("train", "resume"),
    "runs.results.run": ("Run", "open_run"),
    "runs.results.agent": ("Agent", "load"),
    "runs.results.plot": ("plot",),
    "envs": ("make",),
    "configuration": ("config",),
    "drivers.evaluate": ("Evaluation", "evaluate"),
    "algorithms.tabular.td_control": ("QLearning", "SARSA", "ExpectedSARSA"),
    "algorithms.value.dqn": ("DQN",),
    "algorithms.policy.ppo": ("PPO",),
    "algorithms.actor_critic.sac": ("SAC",),
    "algorithms.offline.bc": ("BC",),
    "algorithms.search.alphazero": ("AlphaZero",),
    "memory.dataset": ("Dataset", "Episode"),
    "memory.replay": ("Uniform",),
    "memory.sequences": ("Sequences",),
    "nets.recurrent": ("GRU", "LSTM"),
    "nets.torso": ("Torso",),
    "nets.cnn": ("NatureCNN", "SmallCNN", "ImpalaCNN", "ResidualCNN"),
    "nets.conv1d": ("Conv1D",),
    "nets.features": ("Polynomial", "Fourier", "TileCoding"),
    "nets.own": ("FromEquinox",),
    "ops.exploration": ("Epsilon", "Softmax"),
    "envs.adapters.gymnasium": ("GymnasiumEnvironment",),
    "envs.adapters.brax": ("Robot",),
    "envs.adapters.gymnax": ("Gymnax",),
    "envs.adapters.pettingzoo": ("ParallelEnvironment",),
    "envs.adapters.pgx": ("PgxGame",),
    "envs.classic.cartpole": ("CartPole",),
    "envs.classic.acrobot": ("Acrobot",),
    "envs.classic.mountain_car": ("MountainCar",),
    "envs.classic.mountain_car_continuous": ("MountainCarContinuous",),
    "envs.classic.pendulum": ("Pendulum",),
    "envs.wrappers.standard": (
        "TimeLimit", "RewardScale", "FrameStack", "ActionRepeat", "StickyActions", "Shaping",
    ),
    "envs.wrappers.randomised": ("Randomised", "Curriculum"),
    "envs.wrappers.sensors": ("ObservationNoise", "Delay", "SensorDropout"),
    "envs.grid.grid_world": ("GridWorld", "cliff_walking", "four_rooms"),
    "types": ("Algorithm", "Environment", "Rollout", "Spec", "Step", "Timestep", "Transition"),
    "errors": (
        "ThorndikeError", "ConfigError", "UnknownNameError", "IncompatibleError", "MissingExtraError", "EnvError",
        "CheckpointError", "DivergedError",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"thorndike.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    from thorndike.names import did_you_mean

    raise AttributeError(f"thorndike has no {name!r}{did_you_mean(name, _HOME)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from thorndike.algorithms.actor_critic.sac import SAC
    from thorndike.algorithms.offline.bc import BC
    from thorndike.algorithms.policy.ppo import PPO
    from thorndike.algorithms.search.alphazero import AlphaZero
    from thorndike.algorithms.tabular.td_control import SARSA, ExpectedSARSA, QLearning
    from thorndike.algorithms.value.dqn import DQN
    from thorndike.configuration import config
    from thorndike.drivers.evaluate import Evaluation, evaluate
    from thorndike.envs import make
    from thorndike.envs.adapters.brax import Robot
    from thorndike.envs.adapters.gymnax import Gymnax
    from thorndike.envs.adapters.pettingzoo import ParallelEnvironment
    from thorndike.envs.adapters.pgx import PgxGame
    from thorndike.memory.dataset import Dataset, Episode
    from thorndike.memory.replay import Uniform
    from thorndike.memory.sequences import Sequences
    from thorndike.nets.cnn import ImpalaCNN, NatureCNN, ResidualCNN, SmallCNN
    from thorndike.nets.conv1d import Conv1D
    from thorndike.nets.features import Fourier, Polynomial, TileCoding
    from thorndike.nets.own import FromEquinox
    from thorndike.nets.recurrent import GRU, LSTM
    from thorndike.nets.torso import Torso
    from thorndike.ops.exploration import Epsilon, Softmax
    from thorndike.runs.results.agent import Agent, load
    from thorndike.runs.results.plot import plot
    from thorndike.runs.results.run import Run, open_run
    from thorndike.runs.training.train import resume, train
