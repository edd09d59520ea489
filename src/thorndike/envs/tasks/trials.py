"""Trials in the families of tasks: several episodes of one task, as one episode."""

from __future__ import annotations

from typing import Any

from thorndike.envs.tasks.bandit import Bandit
from thorndike.envs.tasks.dark_room import DarkRoom
from thorndike.envs.tasks.doors import Doors
from thorndike.envs.tasks.random_mdp import RandomMDP
from thorndike.envs.wrappers.trials import Trials


def bandit_trials(**fields: Any) -> Trials:
    """100 pulls of a bandit of five arms; random play earns 50, Thompson sampling 75 (both simulated)."""
    return Trials(env=Bandit(**fields), episodes=100)


def doors_trials(**fields: Any) -> Trials:
    """Five episodes at four doors; at best 3.5, without memory of earlier episodes 1.25."""
    return Trials(env=Doors(**fields), episodes=5)


def dark_room_trials(**fields: Any) -> Trials:
    """Four episodes in a dark room."""
    return Trials(env=DarkRoom(**fields), episodes=4)


def random_mdp_trials(**fields: Any) -> Trials:
    """Ten episodes in a random Markov decision process."""
    return Trials(env=RandomMDP(**fields), episodes=10)
