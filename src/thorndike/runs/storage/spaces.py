"""Gymnasium spaces as JSON, so that a saved agent knows what it sees and does without unpickling anything."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from thorndike.envs.mixed import Mixed
from thorndike.errors import CheckpointError


def space_to_json(space: Space) -> dict[str, Any]:
    """Plain data for a Discrete, Box, MultiDiscrete, MultiBinary, Dict, Tuple or Mixed space.

    Raises `CheckpointError` for another one.
    """
    if isinstance(space, Mixed):
        return {"type": "Mixed", "space": space_to_json(space.space)}
    if isinstance(space, Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": space.dtype.name}
    if isinstance(space, Box):
        low, high = _compact(space.low), _compact(space.high)
        return {"type": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": space.dtype.name}
    if isinstance(space, MultiDiscrete):
        nvec, start = space.nvec.tolist(), space.start.tolist()
        return {"type": "MultiDiscrete", "nvec": nvec, "start": start, "dtype": space.dtype.name}
    if isinstance(space, MultiBinary):
        return {"type": "MultiBinary", "shape": space.n if isinstance(space.n, int) else list(space.n)}
    if isinstance(space, Dict):
        return {"type": "Dict", "spaces": {name: space_to_json(part) for name, part in space.spaces.items()}}
    if isinstance(space, Tuple):
        return {"type": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}
    raise CheckpointError(f"cannot describe the space {space} in JSON")


def space_from_json(data: Any) -> Space:
    """The space that `space_to_json` described; raises `CheckpointError` for anything else."""
    try:
        return _space(data)
    except (KeyError, TypeError, AttributeError, ValueError, AssertionError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"not the description of a space: {str(data)[:200]} ({error})") from None


def _space(data: Any) -> Space:
    kind = data["type"]
    if kind == "Discrete":
        return Discrete(data["n"], start=data["start"], **_dtype(data))
    if kind == "Box":
        dtype = np.dtype(str(data["dtype"]))
        low, high = (np.asarray(data[name], dtype) for name in ("low", "high"))
        shape = tuple(data["shape"])
        return Box(np.broadcast_to(low, shape), np.broadcast_to(high, shape), shape, dtype)  # type: ignore[arg-type]
    if kind == "MultiDiscrete":
        return MultiDiscrete(data["nvec"], start=data["start"], **_dtype(data))
    if kind == "MultiBinary":
        return MultiBinary(data["shape"])
    if kind == "Dict":
        return Dict({name: _space(part) for name, part in data["spaces"].items()})
    if kind == "Tuple":
        return Tuple([_space(part) for part in data["spaces"]])
    if kind == "Mixed":
        return Mixed(_space(data["space"]))
    raise ValueError("it is of no known type")


def _dtype(data: dict[str, Any]) -> dict[str, Any]:
    """The dtype as an argument, where it is not the default: Gymnasium's older Discrete takes none."""
    dtype = np.dtype(str(data.get("dtype", "int64")))
    return {} if dtype == np.int64 else {"dtype": dtype}


def _compact(bound: np.ndarray) -> Any:
    """A single number where all are equal; JSON's Infinity is Python's own."""
    return bound.flat[0].item() if bound.size and (bound == bound.flat[0]).all() else bound.tolist()
