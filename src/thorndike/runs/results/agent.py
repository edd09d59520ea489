"""A trained agent: what acting needs and nothing else, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Dict, Discrete, MultiDiscrete, Tuple

from thorndike.configuration import from_json, to_json
from thorndike.drivers.evaluate import act_alone, look
from thorndike.envs.batched import to_environment
from thorndike.envs.host.layout import kept, leaf_of
from thorndike.envs.masks import KEY, choosable, flat_mask, mask_size, mask_sizes, take_mask
from thorndike.envs.mixed import Mixed
from thorndike.errors import CheckpointError, ConfigError, IncompatibleError
from thorndike.exports import known_configs
from thorndike.files import replace
from thorndike.nets.torso import leaves
from thorndike.ops.keys import random_key
from thorndike.runs.storage.arrays import digest, encode, from_arrays, read, to_arrays
from thorndike.runs.storage.spaces import space_from_json, space_to_json
from thorndike.types import PyTree, Spec, Timestep

if TYPE_CHECKING:
    from thorndike.runs.results.session import Session

FORMAT = 2  # 1: without the critics


class Agent:
    """One policy. `act` takes observations as the environment gives them, single or in a batch."""

    def __init__(self, algorithm: Any, spec: Spec, actor: PyTree):
        self.algorithm, self.spec, self.actor = algorithm, spec, jax.tree.map(jnp.asarray, actor)
        self._key, self._carry = random_key(0), None

    def reset(self, seed: int = 0) -> None:
        """Forget what was seen (agents with memory) and restart the random numbers (with `explore`)."""
        self._key, self._carry = random_key(seed), None

    def act(self, obs: Any, explore: bool = False, mask: Any = None, first: Any = False) -> Any:
        """The action for `obs`, ready for the environment's `step`.

        Args:
            obs: an observation of `spec.observation`, or a batch of them with one leading axis.
            explore: act as in training; by default the best action is taken.
            mask: legal actions [A], where the environment has them, or [B, A]; not needed where `obs` is a dict with an
                "action_mask".
            first: whether an episode begins with `obs`; of a batch one for all, or one for each [B]. An agent with
                memory forgets there what came before.

        Raises:
            IncompatibleError: `obs` does not fit the space that the agent was trained on, or is not finite; `mask` is
                missing, or allows nothing; `first` has another shape.
        """
        now, batched = self._now(obs, mask, first)
        n = now.first.shape[0]
        if not jax.tree.leaves(self._carry):  # nothing is remembered: one program serves several sizes
            now = _filled(now, n)
        action, self._carry, self._key = act_alone(
            self.algorithm, self.actor, self._carry, now.obs, now.first, now.info, self._key, explore
        )
        action = to_environment(self.spec.action, np.asarray(action)[:n])
        action = action if batched else action[0]
        return self.spec.action.nested(action) if isinstance(self.spec.action, Mixed) else action

    def session(self, seed: int = 0) -> Session:
        """One user of the agent, with a memory and random numbers of its own, which any thread may call.

        An `Agent` itself is for one thread: `act` changes what it remembers. Sessions share its parameters.
        """
        from thorndike.runs.results.session import Session

        return Session(self, seed)

    def look(self, obs: Any, mask: Any = None, first: Any = False, explore: bool = False) -> dict[str, Any]:
        """What the agent thinks of `obs`, without acting: its memory stays as it is.

        Returns:
            What the algorithm knows, of one observation or of a batch: "value" V(s); "q" Q(s, a) of every action [A];
            "probabilities" of the actions [A] (MultiDiscrete [D, A] and MultiBinary [D], a row for each part);
            "mean" and "std" of continuous actions before squashing and scaling [D]; "entropy" of the distribution;
            "returns" and "return_probabilities" [A, N], where the distribution of each action's return is learned.

        Args and errors as of `act`; with `explore` probabilities are those of acting as in training.
        """
        now, batched = self._now(obs, mask, first)
        found = look(self.algorithm, self.actor, self._carry, now, explore)
        return {name: np.asarray(x) if batched else np.asarray(x)[0] for name, x in found.items()}

    def probabilities(self, obs: Any, mask: Any = None, explore: bool = True) -> np.ndarray:
        """The probability of each action [A]; raises `IncompatibleError` where actions are continuous."""
        found = self.look(obs, mask, explore=explore)
        if "probabilities" not in found and "q" in found:
            raise IncompatibleError("noise in its network explores, which has no probabilities: say explore=False")
        if "probabilities" not in found:
            raise IncompatibleError("continuous actions have no probabilities: look(obs) has their mean and std")
        return found["probabilities"]

    def values(self, obs: Any, mask: Any = None) -> np.ndarray:
        """Q(s, a) of every action [A], or V(s) where the agent knows no other; raises `IncompatibleError` without."""
        found = self.look(obs, mask)
        if "q" not in found and "value" not in found:
            raise IncompatibleError(f"{type(self.algorithm).__name__} learns no values")
        return found["q"] if "q" in found else found["value"]

    def all_legal(self) -> np.ndarray:
        """The mask that allows every action, where the agent chooses among legal ones."""
        return np.ones(mask_size(self.spec.action), bool)

    def _now(self, obs: Any, mask: Any, first: Any) -> tuple[Timestep, bool]:
        """The timestep for `obs`, and whether it is a batch; the acting memory exists afterwards."""
        if self.spec.masked and isinstance(obs, Mapping) and KEY in obs:
            mask = obs[KEY] if mask is None else mask
            if not isinstance(self.spec.observation, Dict):
                obs, _ = take_mask(obs)
            elif KEY not in self.spec.observation.spaces:
                obs = {name: part for name, part in obs.items() if name != KEY}
        if mask is None and self.spec.masked:
            raise IncompatibleError("this agent chooses among legal actions: say which those are, mask=...")
        obs = _arrays(self.spec.observation, obs)
        parts, space = jax.tree.leaves(obs), leaves(self.spec.observation)
        shapes = [np.shape(part) for part in parts]
        single = [tuple(s.shape or ()) for s in space]
        batched = len(parts) == len(space) and shapes != single
        if len(parts) != len(space) or (batched and [s[1:] for s in shapes] != single):
            raise IncompatibleError(f"expected an observation of {self.spec.observation}, got shapes {shapes}")
        if not batched:
            obs = jax.tree.map(lambda x: x[None], obs)
        n = jax.tree.leaves(obs)[0].shape[0]
        if n == 0:
            raise IncompatibleError("expected observations, got an empty batch")
        if mask is not None:
            mask = _mask(mask, self.spec.action, n if batched else None)
        if self._carry is None:
            self._carry = self.algorithm.carry(self.actor, n)
        if any(x.shape[0] != n for x in jax.tree.leaves(self._carry)):
            raise IncompatibleError("the agent remembers another number of environments: call reset() first")
        if np.shape(first) not in ((), (n,)):
            raise IncompatibleError(f"expected first to be one bool, or {n} of them, got shape {np.shape(first)}")
        no, begins = np.zeros(n, bool), np.broadcast_to(np.asarray(first, bool), n)
        none: Any = np.zeros(n, np.float32)
        info: Any = {} if mask is None else {"mask": mask}
        return Timestep(obs, none, no, no, obs, begins, info), batched  # type: ignore[arg-type]

    def save(self, path: str | Path) -> Path:
        """Write one file: the arrays of the actor, the algorithm's settings and the spaces.

        Raises:
            ConfigError: `path` is a directory, or a device.
            CheckpointError: the disk refuses; a file that was there is as it was.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            raise ConfigError(f"{path} is a directory: name a file in it, such as {path / 'agent.td'}")
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is a pipe or a device: name a file")
        spec = {
            "observation": space_to_json(self.spec.observation),
            "action": space_to_json(self.spec.action),
            "id": self.spec.id,
            "masked": self.spec.masked,
        }
        arrays = to_arrays(self.actor)
        meta = json.dumps({"format": FORMAT, "algorithm": to_json(self.algorithm), "spec": spec})
        where = Path(os.path.realpath(path))  # a link stays one
        replace(where, [encode(arrays, {"thorndike": meta, "sha256": digest(arrays, meta)})])
        return path

    def export(self, path: str | Path, check: int = 1000) -> Any:
        """Write a file with which other programs act as the agent does, greedily: .onnx, or .py that needs NumPy alone.

        Normalisation, scaling, clipping and masks are inside; memory is inputs and outputs. `check` observations are
        compared, and a file that acts otherwise is not kept. See `thorndike.serve.export.export`.
        """
        from thorndike.serve.export import export

        return export(self, path, check)

    def explain(self, obs: Any, mask: Any = None, **options: Any) -> Any:
        """What in `obs` speaks for what the agent does there; see `thorndike.explain.explanation.explain`."""
        from thorndike.explain.explanation import explain

        return explain(self, obs, mask, **options)

    def __repr__(self) -> str:
        return f"Agent({type(self.algorithm).__name__}, {self.spec.id!r})"


def load(path: str | Path, classes: Any = ()) -> Agent:
    """Read an agent that `Agent.save` wrote. Nothing in the file is executed.

    Args:
        path: the file.
        classes: config classes of your own that the agent's settings name.

    Raises:
        CheckpointError: not such a file, damaged, or from another version.
    """
    path = Path(path).expanduser()
    arrays, meta = contents(path)
    try:
        if meta is None:
            raise ValueError("it holds no settings")
        algorithm = from_json(meta["algorithm"], known_configs(classes))
        spaces = meta["spec"]
        spec = Spec(
            space_from_json(spaces["observation"]), space_from_json(spaces["action"]), 1, spaces["id"], spaces["masked"]
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"{path} is not an agent's file: {error}") from None
    try:
        like = jax.eval_shape(lambda: algorithm.actor(algorithm.init(random_key(0), spec)))
    except Exception as error:  # whatever settings that do not belong together lead to
        raise CheckpointError(f"{path} is not an agent's file: {type(error).__name__}: {error}") from None
    return Agent(algorithm, spec, from_arrays(arrays, like, str(path)))


def contents(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays of a safetensors file by their names, and what `Agent.save` says of them; None in any other file.

    Raises:
        CheckpointError: there is no such file, it is damaged, or of another version.
    """
    if (path / "run.json").is_file():
        raise CheckpointError(f"{path} is a run: td.open_run({str(path)!r}).agent() is its agent")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        arrays, header, _ = read(path)
        text = header.get("thorndike")
        if text is None:
            return arrays, None
        meta = json.loads(text)
        if meta["format"] != FORMAT:
            raise ValueError(f"it has format {meta['format']}, this version reads {FORMAT}")
        meta["spec"]["id"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not an agent's file: {error}") from None
    if digest(arrays, text) != header.get("sha256"):
        raise CheckpointError(f"{path} is damaged: its contents are not those that were saved")
    return arrays, meta


def _filled(now: Timestep, n: int) -> Timestep:
    """A batch [n, ...] with its last row repeated up to a power of two, so that few sizes are compiled."""
    more = (1 << (n - 1).bit_length()) - n
    return jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], more, 0)]), now) if more else now


def _mask(mask: Any, action: Space, batch: int | None) -> np.ndarray:
    """Legal actions of a batch, or of one observation (None), as bool [B, A]."""
    try:
        if batch is not None:
            if isinstance(mask, tuple):
                raise ValueError(f"is a tuple, and there are {batch} observations: give an array with a row for each")
            mask = np.asarray(mask)
            if mask.shape[:1] != (batch,):
                raise ValueError(f"has shape {mask.shape}, and there are {batch} observations: give {batch} masks")
        flat = flat_mask(mask, action, 0 if batch is None else 1).astype(bool)
    except ValueError as error:
        raise IncompatibleError(f"the mask {error}") from None
    if not choosable(flat, mask_sizes(action)).all():
        raise IncompatibleError("the mask allows no action")
    return flat[None] if batch is None else flat


def _arrays(space: Space, obs: Any) -> PyTree:
    """The observation as a pytree of arrays, in the precision that JAX computes in."""
    if isinstance(space, Dict) and isinstance(obs, dict) and set(obs) == set(space.spaces):
        return {name: _arrays(part, obs[name]) for name, part in space.spaces.items()}
    if isinstance(space, Tuple) and isinstance(obs, (tuple, list)) and len(obs) == len(space.spaces):
        return tuple(_arrays(part, x) for part, x in zip(space.spaces, obs))
    try:
        x = np.asarray(obs)
    except ValueError:  # ragged lists
        x = np.asarray(None)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise IncompatibleError("the observation is not finite")
    if x.dtype.kind not in "biuf":
        raise IncompatibleError(f"expected an observation of {space}, got {str(obs)[:200]}")
    if x.dtype.kind in "iu" and x.dtype.itemsize > 4:
        narrow = kept(x.dtype)
        if x.size and (x.min() < narrow.min or x.max() > narrow.max):
            raise IncompatibleError("whole numbers have 32 bits here, and the observation has more: give floats")
        x = x.astype(narrow.dtype)
    _check_values(space, x)
    return x.astype(np.float32) if x.dtype == np.float64 else x


def _check_values(space: Space, x: np.ndarray) -> None:
    """Raise `IncompatibleError` for what is no value of a space of whole numbers."""
    if isinstance(space, (Discrete, MultiDiscrete)) and x.dtype.kind == "f":
        raise IncompatibleError(f"expected whole numbers, of {space}, got {x.dtype}: {str(x)[:200]}")
    if isinstance(space, (Dict, Tuple)) or space.dtype.kind == "f":
        return
    leaf, shape = leaf_of(space, "observation"), space.shape or ()
    if leaf.low is None or x.shape[x.ndim - len(shape) :] != shape:  # of a wrong shape, which is said elsewhere
        return
    outside = (x < leaf.low) | (x > leaf.high)
    if outside.any():
        raise IncompatibleError(f"the observation is outside of {space}: it has {x[outside].flat[0]}")
