"""Recorded episodes, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from thorndike.configuration import require
from thorndike.envs.masks import KEY, take_mask
from thorndike.errors import ConfigError
from thorndike.types import PyTree

STEPS = ("actions", "rewards", "terminations", "truncations")


class Episode(NamedTuple):
    """One episode of T steps."""

    observations: PyTree  # [T + 1, ...]
    actions: np.ndarray  # [T, ...], as the environment took them
    rewards: np.ndarray  # [T]
    terminations: np.ndarray  # bool [T]
    truncations: np.ndarray  # bool [T]
    masks: np.ndarray | None = None  # bool [T + 1, A], which actions were legal at the observations


class Stored(NamedTuple):
    """The arrays of a dataset, of N episodes and S steps in all."""

    observations: list[np.ndarray]  # the parts of an observation, each [S + N, ...]
    columns: list[np.ndarray]  # those of `STEPS`, each [S, ...]
    masks: np.ndarray | None  # [S + N, A]
    lengths: np.ndarray  # [N]


def part_names(n: int) -> Iterator[str]:
    """What the `n` parts of an observation are called."""
    yield from ("observations" if n == 1 else f"observations.{i}" for i in range(n))


def checked(episodes: Iterable[Episode]) -> list[dict[str, np.ndarray]]:
    """The arrays of each episode, by name: the parts of its observations, `STEPS`, and `masks` where there are any.

    Lists are taken for arrays; dicts and tuples of arrays are the parts of an observation. An "action_mask" among these
    is taken out, as `GymnasiumEnvironment` does it.

    Raises:
        ConfigError: these are no episodes of one environment; says which is the first that is not.
    """
    found: list[dict[str, np.ndarray]] = []
    structures = []
    for i, episode in enumerate(episodes):
        kind = type(episode).__name__
        require(isinstance(episode, Episode), f"episode {i} is a {kind}: give td.Episode(observations, actions, ...)")
        episode = _told(episode, f"episode {i}")
        parts, structure = _parts(episode.observations, f"episode {i}")
        columns = _columns(episode, parts, f"episode {i}")
        found.append(columns)
        structures.append(structure)
        masked = ("masks" in columns) == ("masks" in found[0])
        require(masked, "some of these episodes have masks: give all of them masks, or none")
        same = structure == structures[0]
        require(same, f"episode {i} has observations of other parts than episode 0: write it apart")
        for name, x in columns.items():
            one, other = x.shape[1:], found[0][name].shape[1:]
            require(one == other, f"episode {i} has {name} of shape {one}, episode 0 of {other}: write it apart")
    require(bool(found), "there are no episodes to write: give at least one")
    return found


def _told(episode: Episode, which: str) -> Episode:
    """The episode with its masks beside the observations, where these are dicts that hold them."""
    obs = episode.observations
    told = episode.masks is None and isinstance(obs, Mapping) and KEY in obs
    if not told or _numbers(episode.actions, f"{which} has actions").dtype.kind not in "iu":
        return episode
    obs, masks = take_mask(obs)
    return episode._replace(observations=obs, masks=masks)


def _parts(observations: Any, which: str) -> tuple[list[Any], Any]:
    """The parts of the observations, and their structure."""
    try:
        parts, structure = jax.tree.flatten(observations, is_leaf=lambda x: isinstance(x, list))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{which} has observations that are no tree of arrays: {error}") from None
    require(bool(parts), f"{which} has no observations")
    return parts, structure


def _columns(episode: Episode, parts: list[Any], which: str) -> dict[str, np.ndarray]:
    """The arrays of one episode, which fit each other."""
    shown = dict(zip(part_names(len(parts)), parts)) | ({} if episode.masks is None else {"masks": episode.masks})
    given = shown | {name: getattr(episode, name) for name in STEPS}
    columns = {name: _numbers(x, f"{which} has {name}") for name, x in given.items()}
    t = len(columns["rewards"])
    require(t > 0, f"{which} has no steps: leave it out")
    for name, x in columns.items():
        rows = t + (name in shown)
        last = ", the last as it is after the last step" if name in shown else ""
        require(len(x) == rows, f"{which} has {len(x)} {name} and {t} rewards, one for each step: give {rows}{last}")
        if name in STEPS[1:]:
            require(x.ndim == 1, f"{which} has {name} of shape {x.shape}: give one number for each step")
        if name in STEPS[2:] and x.dtype != bool:
            require(bool(((x == 0) | (x == 1)).all()), f"{which} has {name} that are neither true nor false")
    return columns


def _numbers(x: Any, what: str) -> np.ndarray:
    """An array [N, ...]; raises `ConfigError` where there is none."""
    try:
        x = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{what} that are no array: {error}") from None
    require(x.dtype.kind in "biuf", f"{what} of {x.dtype}: give numbers")
    require(x.ndim > 0, f"{what} that are a single number: give an array with a row for each step")
    return x
