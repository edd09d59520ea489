"""The public names of the package, and the modules that define them. Importing this imports none of these modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from thorndike.algorithms import entries
from thorndike.names import did_you_mean

VERSION = "0.1.0"

PARTS = {  # all but the algorithms
    "runs.training.train": ("train",),
    "runs.training.resume": ("resume",),
    "runs.training.callbacks": ("STOP",),
    "runs.training.estimate": ("Estimate",),
    "runs.tuning.tune": ("tune",),
    "runs.tuning.ranges": ("Range", "LogRange", "Choices"),
    "runs.tuning.tuned": ("Tuned",),
    "runs.results.listing": ("list_runs",),
    "": ("sinks",),  # a module itself
    "runs.results.run": ("Run", "open_run"),
    "runs.results.agent": ("Agent", "load"),
    "runs.results.games": ("record_games",),
    "runs.results.plot": ("plot",),
    "runs.results.returns": ("plot_returns",),
    "runs.results.compare": ("compare", "Comparison"),
    "runs.results.importance": ("importance",),
    "runs.results.front": ("front", "Front"),
    "runs.results.criteria": ("criteria", "Criteria"),
    "presets": ("preset",),
    "suggestion": ("suggest", "Suggestion"),
    "checks": ("check",),
    "envs": ("make",),
    "envs.identify": ("identify", "Identified"),
    "configuration": ("config", "algorithm"),
    "drivers.evaluate": ("evaluate",),
    "drivers.evaluation": ("Evaluation",),
    "memory.dataset": ("Dataset", "Episode"),
    "memory.hindsight": ("Hindsight",),
    "memory.prioritised": ("Prioritised",),
    "memory.prioritised_sequences": ("PrioritisedSequences",),
    "memory.replay": ("Uniform",),
    "memory.sequences": ("Sequences",),
    "memory.trajectories": ("Windows",),
    "nets.recurrent": ("GRU", "LSTM"),
    "nets.torso": ("Torso",),
    "nets.transformer": ("GTrXL",),
    "nets.auxiliary": ("InverseDynamics", "Reconstruction", "RewardPrediction", "SelfPrediction"),
    "nets.curiosity": ("RND", "ICM"),
    "nets.ensemble": ("Gaussians",),
    "nets.cnn": ("NatureCNN", "SmallCNN", "ImpalaCNN", "ResidualCNN"),
    "nets.conv1d": ("Conv1D",),
    "nets.features": ("Polynomial", "Fourier", "TileCoding"),
    "nets.own": ("FromEquinox",),
    "nets.policy": ("PolicyHead",),
    "nets.mlp": ("Dense",),
    "nets.value": ("Mean", "Categorical", "Quantiles", "Implicit"),
    "ops.distributional": ("CVaR",),
    "ops.augment": ("Shift", "Crop", "ColourJitter"),
    "ops.munchausen": ("Munchausen",),
    "ops.empowerment": ("empowerment",),
    "ops.exploration": ("Epsilon", "Softmax"),
    "ops.noise": ("Gaussian", "OrnsteinUhlenbeck", "Pink", "StateDependent"),
    "ops.optimise": ("Adam", "RAdam", "RMSProp", "LaProp", "SGD"),
    "ops.penalty": ("KLPenalty",),
    "ops.returns": ("gae",),
    "ops.twohot": ("Bins",),
    "planning.shooting": ("RandomShooting", "CEM", "ICEM", "MPPI"),
    "schedules": ("Linear", "Cosine", "Exponential", "Harmonic"),
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
    "envs.continuous.point_maze": ("PointMaze",),
    "envs.control.reactor": ("Reactor",),
    "envs.driving.routed": ("Routed",),
    "envs.driving.streets": ("Streets",),
    "envs.goal.bit_flip": ("BitFlip",),
    "envs.goal.reach": ("Reach",),
    "algorithms.value.bootstrapped": ("Thompson", "Optimism"),
    "envs.grid.boat_race": ("BoatRace",),
    "envs.grid.deep_sea": ("DeepSea",),
    "envs.grid.river_swim": ("RiverSwim",),
    "envs.grid.changing_maze": ("ChangingMaze",),
    "envs.grid.grid_world": ("GridWorld", "cliff_walking", "four_rooms"),
    "envs.memory.repeat_previous": ("RepeatPrevious",),
    "envs.memory.t_maze": ("TMaze",),
    "envs.toy_text.blackjack": ("Blackjack",),
    "envs.toy_text.tables": ("GymnasiumTable", "frozen_lake", "taxi"),
    "envs.tasks.bandit": ("Bandit",),
    "envs.tasks.cheetah": ("CheetahTask",),
    "envs.tasks.dark_room": ("DarkRoom",),
    "envs.tasks.doors": ("Doors",),
    "envs.tasks.navigation": ("Navigation2D",),
    "envs.tasks.random_mdp": ("RandomMDP",),
    "envs.wrappers.tasks": ("Tasks",),
    "envs.wrappers.trials": ("Trials", "SameTask"),
    "envs.wrappers.standard": (
        "TimeLimit", "RewardScale", "FrameStack", "ActionRepeat", "StickyActions",
    ),
    "envs.wrappers.mixed": ("MixedActions",),
    "envs.wrappers.shaping": ("Shaping",),
    "envs.wrappers.randomised": ("Randomised", "Curriculum"),
    "envs.wrappers.sensors": ("ObservationNoise", "Delay", "SensorDropout"),
    "envs.wrappers.weighted": ("Weighted",),
    "types": (
        "Algorithm", "Environment", "FiniteMDP", "Clock", "Look", "Rollout", "Spec", "Step", "Timestep", "Transition",
    ),
    "errors": (
        "ThorndikeError", "ConfigError", "UnknownNameError", "IncompatibleError", "MissingExtraError", "EnvError",
        "CheckpointError", "DivergedError",
    ),
}  # fmt: skip


@cache
def homes() -> dict[str, str]:
    """Every public name, and the module below `thorndike` that defines it; "" for one that is a module itself."""
    parts = {name: module for module, names in PARTS.items() for name in names}
    return {**parts, **{entry.class_name: f"algorithms.{entry.module}" for entry in entries().values()}}


def find(name: str) -> Any:
    """What the package calls `name`; raises `AttributeError`."""
    if name not in homes():
        raise AttributeError(f"thorndike has no {name!r}{did_you_mean(name, homes())}")
    home = homes()[name]
    return (
        getattr(importlib.import_module(f"thorndike.{home}"), name)
        if home
        else importlib.import_module(f"thorndike.{name}")
    )


def known_configs(classes: Any = ()) -> Callable[[str], type | None]:
    """What finds the config class that a file calls by its `type_name`, or None: `classes` of one's own, and the public
    ones of the package, whose modules are imported when they are asked for."""
    from thorndike.configuration import is_config, type_name

    given = {type_name(cls): cls for cls in ([classes] if isinstance(classes, type) else classes)}

    def known(name: str) -> type | None:
        found = given.get(name) or (find(name) if name in homes() else None)
        return found if isinstance(found, type) and is_config(found) else None

    return known
