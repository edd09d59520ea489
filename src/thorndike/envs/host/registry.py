"""Gymnasium's registry in worker processes, which do not run the script that registered environments."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle

import cloudpickle
import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator


def portable(spec: EnvSpec) -> EnvSpec:
    """The spec with its entry point as an object where it names one of the script's, "__main__:Maze"."""
    entry = spec.entry_point
    if not isinstance(entry, str) or not entry.startswith("__main__:"):
        return spec
    try:
        return dataclasses.replace(spec, entry_point=load_env_creator(entry))
    except AttributeError:  # there is none: making it will say so
        return spec


def registered_here() -> list[bytes]:
    """The specs that Gymnasium does not have by itself, each pickled; without those that cannot be."""
    found = []
    for spec in gymnasium.registry.values():
        if not str(spec.entry_point).startswith("gymnasium."):
            with contextlib.suppress(Exception):
                found.append(cloudpickle.dumps(portable(spec)))
    return found


def register(specs: list[bytes]) -> None:
    """Register what `registered_here` gave in another process; without what cannot be unpickled in this one."""
    for data in specs:
        with contextlib.suppress(Exception):
            spec = pickle.loads(data)
            gymnasium.registry[spec.id] = spec
