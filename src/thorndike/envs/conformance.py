"""Whether a JAX environment answers as it promised, by shapes and dtypes; looked at where its programs are traced."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from gymnasium.spaces import Dict
from jax.tree_util import keystr, tree_leaves_with_path

from thorndike.envs.masks import KEY, flat_mask, mask_size
from thorndike.errors import EnvError
from thorndike.nets.torso import example
from thorndike.types import EARNED, SHOWN, Array, PyTree, Step

RESERVED = ("rew", "len", "cost", "success")  # what episodes have without being asked


def answered(env: Any, method: str, step: Any) -> Step:
    """`step`, which `env.method` answered under `vmap`, leaves [E, ...], with its mask as bool [E, A].

    Raises `EnvError` where it is not usable.
    """
    name, kind = f"{type(env).__name__}.{method}", type(step).__name__
    if not isinstance(step, Step):
        raise EnvError(f"{name} must return td.Step(state, obs, reward, terminated), and returned a {kind}")
    space = env.observation_space
    problem = difference(jax.eval_shape(partial(example, space)), one(step.obs))
    if problem:
        raise EnvError(f"{name} gives an observation that is not of its space {space}: {problem}")
    for part in ("reward", "terminated"):
        shape = jnp.shape(getattr(step, part))[1:]
        if shape:
            raise EnvError(f"{name} gives a {part} of shape {shape}: it has to be one number")
    _check_earned(name, step.info)
    if "mask" not in step.info:
        shown = isinstance(space, Dict) and KEY in space.spaces and mask_size(env.action_space)
        if KEY in step.info or shown:
            where = "info with an" if KEY in step.info else "an observation with an"
            raise EnvError(f'{name} gives {where} "{KEY}": JAX environments tell legal actions as info["mask"]')
        return step
    try:
        mask = flat_mask(joined(step.info["mask"], 1), env.action_space, 1)
    except ValueError as error:
        raise EnvError(f'{name} gives info["mask"], which {error}') from None
    return step._replace(info={**step.info, "mask": mask.astype(bool)})


def _check_earned(name: str, info: dict[str, PyTree]) -> None:
    """Raise `EnvError` for what `info` says besides what is shown, unless it is of the kinds that are known."""
    unknown = info.keys() - {*SHOWN, *EARNED, KEY}
    if unknown:
        known = ", ".join(f'"{key}"' for key in (*SHOWN, *EARNED))
        raise EnvError(
            f"{name} gives info with {', '.join(map(repr, sorted(unknown)))}; it may have {known}. Numbers to "
            'be logged are named in info["log"], like {"log": {"energy": x}}'
        )
    found: list[str] = []
    for key in ("terms", "log"):
        numbers = info.get(key, {})
        if not isinstance(numbers, dict) or any(jnp.ndim(x) != 1 for x in numbers.values()):
            raise EnvError(f'{name} gives info["{key}"] that is no dict of numbers by name')
        found += numbers
    if "success" in info and jnp.ndim(info["success"]) != 1:
        raise EnvError(f'{name} gives info["success"] of shape {info["success"].shape[1:]}: it has to be one bool')
    if "cost" in info and jnp.ndim(info["cost"]) > 2:
        raise EnvError(f'{name} gives info["cost"] of shape {info["cost"].shape[1:]}: it has to be a number, or a row')
    twice = {x for x in found if found.count(x) > 1 or x.removeprefix("cost_").isdigit() or x in RESERVED}
    if twice:
        raise EnvError(
            f"{name} names {', '.join(map(repr, sorted(twice)))} in info twice, or as a metric that there is"
        )


def joined(mask: PyTree, lead: int = 0) -> Array:
    """A mask as one array, behind `lead` axes: the parts of a tuple side by side."""
    if not isinstance(mask, tuple):
        return jnp.asarray(mask)
    parts = [jnp.asarray(part) for part in jax.tree.leaves(mask)]
    return jnp.concatenate([part.reshape((*part.shape[:lead], -1)) for part in parts], -1)


def agree(env: Any, fresh: Step, stepped: Step) -> None:
    """Raise `EnvError` unless a new episode begins with the kind of state, and of what is shown with an observation,
    that a step leaves."""
    name = type(env).__name__
    shown = [{key: step.info[key] for key in SHOWN if key in step.info} for step in (fresh, stepped)]
    for part, *kinds in (("state", fresh.state, stepped.state), ("info", *shown)):
        problem = difference(*map(one, kinds))
        if problem:
            raise EnvError(f"the {part} that {name}.step gives is not of the kind that {name}.reset gives: {problem}")


def difference(expected: PyTree, found: PyTree) -> str | None:
    """The first leaf of `found` that has another place, shape or dtype than in `expected`."""
    if jax.tree.structure(expected) != jax.tree.structure(found):  # type: ignore[operator]
        return f"{named(found)} where {named(expected)} was due"
    for (path, a), (_, b) in zip(tree_leaves_with_path(expected), tree_leaves_with_path(found)):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"{named(b)} where {named(a)} was due" + (f", at {keystr(path)}" if path else "")
    return None


def one(tree: PyTree) -> PyTree:
    """Shapes and dtypes of one environment's part of leaves [E, ...]."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x)[1:], jnp.result_type(x)), tree)


def named(tree: PyTree) -> str:
    """A leaf, or a tree in a few words."""
    leaves = tree_leaves_with_path(tree)
    if len(leaves) == 1 and not leaves[0][0]:
        return f"{tree.dtype}{list(tree.shape)}"
    parts = ", ".join(keystr(path) for path, _ in leaves[:5]) or "nothing in it"
    return f"a {type(tree).__name__} with {parts}" + (", ..." if len(leaves) > 5 else "")
