"""What the methods of an algorithm of one's own answer, held to what drivers expect; traced, not computed."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete
from jax.tree_util import keystr, tree_leaves_with_path

import thorndike
from thorndike.configuration import type_name
from thorndike.drivers.given import LEARNING, unbound
from thorndike.drivers.learner import collect, init_memory, replays
from thorndike.drivers.scan import transition
from thorndike.envs.batched import Batched, is_jax
from thorndike.envs.conformance import difference
from thorndike.envs.masks import mask_size
from thorndike.errors import ConfigError, ThorndikeError
from thorndike.nets.torso import example
from thorndike.ops.keys import random_key
from thorndike.schedules import settled
from thorndike.types import PyTree, Rollout, Spec, Timestep

METHODS = {  # name: its parameters, and what it returns
    "supports": ("spec", "None, or a sentence that says why it cannot serve such an environment"),
    "init": ("key, spec", "the state: a pytree of arrays"),
    "actor": ("state", "the part of the state that acting needs"),
    "carry": ("actor, n", "the memory of n environments for acting, and () without any"),
    "act": ("actor, carry, now, key, explore", "(action [E, ...], carry, extras)"),
    "learn": ("state, rollout, key", "(state, metrics)"),
    "update": ("state, batch, key", "(state, metrics)"),
}
OURS = str(Path(thorndike.__file__).parent)


def lacking(algorithm: Any, names: list[str]) -> str:
    """What an algorithm without these parts is told."""
    methods = [
        f"def {name}(self, {METHODS[name][0]}), which returns {METHODS[name][1]}" for name in names if name in METHODS
    ]
    return f"{type(algorithm).__name__} lacks {', '.join(names)}" + "".join(f"; {method}" for method in methods)


def is_own(algorithm: Any) -> bool:
    """Whether the class is not one of the package's."""
    return type_name(type(algorithm)).startswith("own ")


def check_methods(algorithm: Any, env: Any, spec: Spec) -> None:
    """Raise `ConfigError` for the first method that answers what no driver can use; it says what to return instead."""
    cls = type(unbound(algorithm))
    name = cls.__name__
    for method, (parameters, _) in METHODS.items():
        parameters += ", given" * (method in LEARNING and algorithm is not unbound(algorithm))
        if hasattr(cls, method):
            _takes(cls, method, parameters)
    algorithm = settled(algorithm, 0, max(spec.steps, 1), 0)

    def first(key: Any) -> None:
        ask = lambda method, *args: _asked(algorithm, method, *args)  # noqa: E731
        state = ask("init", key, spec)
        _arrays(f"{name}.init", "state", state)
        actor = ask("actor", state)
        _arrays(f"{name}.actor", "actor", actor)
        n, now = algorithm.num_envs, _beginning(algorithm, env, spec, key)
        carry = ask("carry", actor, n)
        _arrays(f"{name}.carry", "carry", carry)
        _rows(f"{name}.carry", carry, n)
        for explore in (False, True):
            action, after, extras = _acted(name, ask("act", actor, carry, now, key, explore))
            _action(f"{name}.act", action, spec, n)
            _same(f"{name}.act", "the carry that it got", carry, after)
            _arrays(f"{name}.act", "extras", extras)
            _rows(f"{name}.act", extras, n)
        later = Batched(env, n).step(now, action, key) if is_jax(env) else now
        done = transition(now, action, extras, later)
        steps = jax.tree.map(lambda x: jnp.broadcast_to(x, (algorithm.rollout_length, *jnp.shape(x))), done)
        rollout = Rollout(steps, carry, later._replace(sim=(), earned={}))
        if not replays(algorithm):
            _learned(f"{name}.learn", state, ask("learn", state, rollout, key), ())
            return
        if getattr(algorithm, "offline", False):
            batch = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], (algorithm.batch_size, *jnp.shape(x)[1:])), done)
        else:
            memory = collect(algorithm, init_memory(algorithm, rollout, spec), rollout)
            batch = algorithm.replay.sample(memory, key)
        rows = jnp.shape(jax.tree.leaves(batch)[0])[:1]
        _learned(f"{name}.update", state, ask("update", state, batch, key), rows)

    jax.eval_shape(first, random_key(0))


def _takes(cls: type, method: str, parameters: str) -> None:
    """Raise `ConfigError` unless a method can be called with so many arguments."""
    try:
        signature = inspect.signature(getattr(cls, method))
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, *parameters.split(", "))
    except TypeError:
        has = ", ".join(signature.parameters) or "nothing"
        raise ConfigError(f"{cls.__name__}.{method} must take (self, {parameters}), and takes ({has})") from None


def _asked(algorithm: Any, method: str, *args: Any) -> Any:
    """What a method answers; `ConfigError` says where in the user's file it raised."""
    try:
        return getattr(algorithm, method)(*args)
    except ThorndikeError:
        raise
    except Exception as error:  # whatever code of one's own does
        raise ConfigError(f"{type(unbound(algorithm)).__name__}.{method}{_place(error)} {_reason(error)}") from error


def _place(error: Exception) -> str:
    """ " (reinforce.py, line 57)": the innermost line that is neither ours nor of an installed package."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(OURS) and not {"site-packages", "<frozen"} & set(Path(frame.filename).parts)
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _reason(error: Exception) -> str:
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return "branches on an array, whose values are not known when programs are compiled: use jnp.where or lax.cond"
    if isinstance(error, (jax.errors.TracerArrayConversionError, jax.errors.TracerIntegerConversionError)):
        return "hands an array to NumPy or Python, which wants its values: use jax.numpy, and shapes for sizes"
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return "needs the value of an array, which is not known when programs are compiled: use jnp.where or lax.cond"
    lines = str(error).strip().splitlines()
    return f"failed with {type(error).__name__}{': ' + lines[0] if lines else ''}"


def _beginning(algorithm: Any, env: Any, spec: Spec, key: Any) -> Timestep:
    """A first timestep of `num_envs` environments."""
    n = algorithm.num_envs
    if is_jax(env):
        return Batched(env, n).reset(key)
    obs = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), example(spec.observation))
    no = jnp.zeros(n, bool)
    mask = jnp.ones((n, mask_size(spec.action) or 0), bool)
    info = {"mask": mask, "final_mask": mask} if spec.masked else {}
    return Timestep(obs, jnp.zeros(n), no, no, obs, ~no, info)


def _arrays(method: str, what: str, tree: PyTree) -> None:
    """Raise `ConfigError` unless all leaves are arrays."""
    for path, leaf in tree_leaves_with_path(tree):
        if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            continue
        at = f"{what}{keystr(path)}"
        if isinstance(leaf, (bool, int, float)):
            kind = "bool_" if isinstance(leaf, bool) else "int32" if isinstance(leaf, int) else "float32"
            raise ConfigError(f"{method} returns the Python number {leaf!r} as {at}: write jnp.{kind}({leaf!r})")
        raise ConfigError(
            f"{method} returns {at}, a {type(leaf).__name__}, which is no array: keep it in a field of the algorithm, "
            "or, in an Equinox module, as eqx.field(static=True)"
        )


def _rows(method: str, tree: PyTree, n: int) -> None:
    for path, leaf in tree_leaves_with_path(tree):
        if jnp.shape(leaf)[:1] != (n,):
            raise ConfigError(
                f"{method} returns {keystr(path) or 'an array'} of shape {list(jnp.shape(leaf))}: its first axis must "
                f"be that of the {n} environments"
            )


def _acted(name: str, answer: Any) -> tuple[Any, Any, dict[str, Any]]:
    if not isinstance(answer, tuple) or len(answer) != 3 or not isinstance(answer[2], dict):
        raise ConfigError(
            f"{name}.act must return (action, carry, extras), extras a dict, {{}} if empty, not {_spelt(answer)}"
        )
    return answer


def _action(method: str, action: PyTree, spec: Spec, n: int) -> None:
    """Raise `ConfigError` unless actions have the shape and kind of those of the space."""
    if len(jax.tree.leaves(action)) != 1 or not isinstance(action, (jax.Array, np.ndarray)):
        raise ConfigError(f"{method} must return actions as one array [E, ...], not {_spelt(action)}")
    due = (n, *(spec.action.shape or ()))
    whole = np.dtype(spec.action.dtype).kind in "iub"  # type: ignore[arg-type]
    likeliest = whole and action.ndim == len(due) + 1
    if action.shape != due:
        hint = " (logits, in the place of a choice?)" if likeliest else ""
        raise ConfigError(
            f"{method} must return actions of shape {list(due)} for {n} environments and {spec.action}, "
            f"not {list(action.shape)}{hint}"
        )
    choices = isinstance(spec.action, (Discrete, MultiDiscrete, MultiBinary))
    if choices and not np.issubdtype(action.dtype, np.integer) and action.dtype != bool:
        raise ConfigError(f"{method} must return whole numbers for {spec.action}, not {action.dtype}: use .astype(int)")


def _same(method: str, due: str, expected: PyTree, found: PyTree) -> None:
    problem = difference(*jax.eval_shape(lambda *trees: trees, expected, found))
    if problem:
        raise ConfigError(f"{method} must return {due}, of the same structure, shapes and dtypes: {problem}")


def _learned(method: str, state: PyTree, answer: Any, rows: tuple[int, ...]) -> None:
    """Raise `ConfigError` unless learning gives such a state again, and metrics that are numbers."""
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
        raise ConfigError(f"{method} must return (state, metrics), metrics a dict, not {_spelt(answer)}")
    after, metrics = answer
    _arrays(method, "state", after)
    _same(method, "a state like that of init", state, after)
    for key, value in metrics.items():
        if not isinstance(key, str):
            raise ConfigError(f"{method} returns a metric called {key!r}: names are strings")
        if not isinstance(value, (jax.Array, np.ndarray, np.generic, int, float)):
            raise ConfigError(f"{method} returns the metric {key!r} as {_spelt(value)}: a metric is one number")
        if jnp.shape(value) not in ((), rows):
            raise ConfigError(
                f"{method} returns the metric {key!r} of shape {list(jnp.shape(value))}: a metric is one number, its "
                "mean say"
            )


def _spelt(value: Any) -> str:
    """A value in few words: "a tuple of 2", "float32[8, 2]"."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"a tuple of {len(value)}"
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"{value.dtype}{list(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


def check_decorated(value: Any) -> None:
    """Raise `ConfigError` where a subclass of a config has no `@td.config` of its own: JAX would not know it."""
    cls = type(value)
    if "__thorndike_hints__" not in vars(cls):
        raise ConfigError(f"{cls.__name__} needs @td.config above its class, as the class that it is based on has")
