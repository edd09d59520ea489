"""Legal-action masks: their shapes, and observations that hold them.

A mask is a row of booleans: the choices of one part of the action, then those of the next. For `Discrete(n)` these are
the n actions; for `MultiDiscrete` the choices of each part; for `MultiBinary` two for each bit, whether it may be 0 and
whether it may be 1. `Box` actions have no masks; a `Mixed` action has that of its other parts, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Dict, Discrete, MultiBinary, MultiDiscrete

from thorndike.envs.mixed import Mixed

KEY = "action_mask"  # what masks are called in `info`, or in an observation


def mask_sizes(action: Space) -> tuple[int, ...]:
    """How many choices each part of an action has; () where there is no list of choices."""
    if isinstance(action, Mixed):
        return tuple(size for part in action.parts for size in mask_sizes(part))
    if isinstance(action, Discrete):
        return (int(action.n),)
    if isinstance(action, MultiDiscrete):
        return tuple(int(n) for n in action.nvec.ravel())
    return (2,) * int(np.prod(action.shape)) if isinstance(action, MultiBinary) else ()


def mask_size(action: Space) -> int:
    """A, the entries of a mask [A] for such an action; 0 where there are no masks."""
    return sum(mask_sizes(action))


def flat_mask(mask: Any, action: Space, lead: int = 0) -> Any:
    """A mask as an array [..., A], behind `lead` axes; it may also have an axis for parts, or be a tuple of them.

    `MultiBinary(n)` takes [2n] and [n, 2]; `MultiDiscrete` takes [A] and a tuple of arrays, or [parts, k] where all
    parts have k choices.

    Raises:
        ValueError: it has another shape; the message continues a sentence about the mask.
    """
    sizes, size = mask_sizes(action), mask_size(action)
    if size == 0:
        raise ValueError(f"cannot be for {action}: only Discrete, MultiDiscrete and MultiBinary actions have masks")
    if isinstance(mask, (tuple, list)) and not all(map(_single, mask)):
        parts = _parts(mask)
        found = tuple(map(len, parts))
        if found != sizes:
            raise ValueError(f"has parts of {', '.join(map(str, found))} choices; {_needs(action)}")
        return np.concatenate(parts)
    mask = mask if hasattr(mask, "shape") else np.asarray(mask)
    alike = bool(action.shape) and len(set(sizes)) == 1 and not isinstance(action, Mixed)
    by_parts = {(len(sizes), sizes[0]), (*action.shape, sizes[0])} if alike else set()
    if mask.shape[lead:] not in {(size,), *by_parts}:
        raise ValueError(f"has shape {mask.shape[lead:]}; {_needs(action)}")
    return mask.reshape((*mask.shape[:lead], size))


def choosable(mask: Any, sizes: tuple[int, ...]) -> Any:
    """Whether a mask [..., A], of NumPy or JAX, leaves a choice in each part of an action with such sizes, [...]."""
    if len(sizes) == 1:
        return mask.any(-1)
    upto = mask.astype(np.int32).cumsum(-1)[..., np.cumsum(sizes) - 1]  # legal choices up to each part's end
    return (upto[..., :1] > 0).all(-1) & (upto[..., 1:] > upto[..., :-1]).all(-1)


def legal_sample(action: Space, mask: np.ndarray) -> Any:
    """A random legal action of the environment, under a mask [A]."""
    noise = np.where(mask, action.np_random.random(mask.size), -1.0)
    chosen = [part.argmax() for part in np.split(noise, np.cumsum(mask_sizes(action))[:-1])]
    if isinstance(action, Mixed):
        sample = action.sample()
        sample[action.choices] = chosen + action.start[action.choices]
        return sample
    start = getattr(action, "start", 0)
    return np.asarray(start + np.reshape(chosen, action.shape or ()), action.dtype)[()]


def without_mask(space: Space) -> Space:
    """The space of observations whose mask was taken out: the other part, where there is one, or a Dict of the rest."""
    assert isinstance(space, Dict)
    rest = {key: part for key, part in space.spaces.items() if key != KEY}
    return Dict(rest) if len(rest) > 1 else next(iter(rest.values())) if rest else space


def take_mask(obs: Mapping) -> tuple[Any, Any]:
    """An observation without its mask, as `without_mask` has it, and the mask."""
    rest = {key: part for key, part in obs.items() if key != KEY}
    return rest if len(rest) > 1 else next(iter(rest.values())) if rest else obs, obs[KEY]


def _single(x: Any) -> bool:
    return not isinstance(x, (tuple, list)) and np.ndim(x) == 0


def _parts(mask: Any) -> list[np.ndarray]:
    """The rows [n] of nested tuples, in order."""
    if all(map(_single, mask)):
        return [np.asarray(mask)]
    return [row for part in mask for row in _parts([part] if _single(part) else part)]


def _needs(action: Space) -> str:
    """What a mask for such an action has to look like."""
    size = mask_size(action)
    if isinstance(action, MultiBinary):
        return f"{action} needs ({size},) or ({size // 2}, 2): for each bit whether it may be 0, and whether 1"
    parts = f", or a tuple of arrays with {', '.join(map(str, mask_sizes(action)))} entries"
    return f"{action} needs ({size},)" + (parts if isinstance(action, MultiDiscrete) else "")
