"""Where environments on the host say which actions are legal, and one place for all of them: `info["action_mask"]`.

Looked for in the first reset, in this order: `info["action_mask"]` (Gymnasium, PettingZoo); `obs["action_mask"]` of a
Dict (RLlib, PettingZoo's classic games); a method `action_masks()` of the environment or a wrapper around it
(sb3-contrib). Workers import this file: NumPy and Gymnasium only, never JAX.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

import gymnasium
from gymnasium import Space
from gymnasium.spaces import Dict

from thorndike.envs.host.layout import Fault
from thorndike.envs.masks import KEY, flat_mask, mask_size, take_mask, without_mask
from thorndike.errors import IncompatibleError

METHOD = "action_masks"
Place = Literal["info", "observation", "method"]

log = logging.getLogger("thorndike")


def place_of_masks(env: gymnasium.Env, obs: Any, info: Any, name: str) -> Place | None:
    """Where `env`, whose reset gave `obs` and `info`, says which actions are legal; None where it does not.

    Raises `IncompatibleError` for a mask that does not fit the action space.
    """
    action, told = env.action_space, info if isinstance(info, Mapping) else {}
    if KEY in told:
        _check(told[KEY], action, f'{name}: info["{KEY}"]')
        return "info"
    space = env.observation_space
    if isinstance(space, Dict) and KEY in space.spaces and mask_size(action):
        if isinstance(obs, Mapping) and KEY in obs:
            _check(obs[KEY], action, f'{name}: the observation\'s "{KEY}"')
        return "observation"
    if env.has_wrapper_attr(METHOD) and _asks_nothing(method := env.get_wrapper_attr(METHOD)):
        _check(method(), action, f"{name}: {METHOD}()")
        return "method"
    if "mask" in told and _fits(told["mask"], action):
        log.warning(
            '%s: info["mask"] has an entry for each action and is not used: legal actions are called info["%s"]',
            name,
            KEY,
        )
    return None


class LegalActions(gymnasium.Wrapper):
    """An environment that says elsewhere which actions are legal, made to say so in `info["action_mask"]`."""

    def __init__(self, env: gymnasium.Env, place: Place):
        super().__init__(env)
        self._place = place
        if place == "observation":
            self.observation_space = without_mask(env.observation_space)

    def reset(self, **kwargs: Any) -> Any:
        """What the environment says, with the mask in `info`."""
        result = self.env.reset(**kwargs)
        if type(result) is not tuple or len(result) != 2:
            return result  # which the worker refuses
        obs, info = self._told(*result)
        return obs, info

    def step(self, action: Any) -> Any:
        """What the environment says, with the mask in `info`; a method is not asked when the task has ended."""
        result = self.env.step(action)
        if type(result) is not tuple or len(result) != 5:
            return result
        obs, reward, terminated, truncated, info = result
        if self._place == "observation" or not terminated:
            obs, info = self._told(obs, info)
        return obs, reward, terminated, truncated, info

    def _told(self, obs: Any, info: Any) -> tuple[Any, Any]:
        if self._place == "method":
            mask = self.env.get_wrapper_attr(METHOD)()
        elif isinstance(obs, Mapping) and KEY in obs:
            obs, mask = take_mask(obs)
        else:
            raise Fault(f"the observation has no {KEY!r}, which its space has")
        return obs, {**(info if isinstance(info, Mapping) else {}), KEY: mask}


def telling(make: Callable[..., gymnasium.Env], place: Place, **kwargs: Any) -> LegalActions:
    """What `make` makes, as `LegalActions`; a function that can be sent to a worker."""
    return LegalActions(make(**kwargs), place)


def _asks_nothing(method: Any) -> bool:
    """Whether it can be called without arguments."""
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):
        return False
    return True


def _check(mask: Any, action: Space, what: str) -> None:
    try:
        flat_mask(mask, action)
    except ValueError as error:
        raise IncompatibleError(f"{what} {error}") from None


def _fits(mask: Any, action: Space) -> bool:
    try:
        flat_mask(mask, action)
    except ValueError:
        return False
    return True
