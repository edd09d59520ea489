"""An ONNX file with weights of 8 bits instead of 32, kept only where it earns as much as the file it is made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.dtypes import canonicalize_dtype

from thorndike.drivers.evaluate import evaluate
from thorndike.drivers.rule import NOBODY
from thorndike.errors import CheckpointError, IncompatibleError
from thorndike.extras import importing
from thorndike.serve.export import Export
from thorndike.serve.latency import inputs_of
from thorndike.serve.onnx_file import OnnxPolicy, digest
from thorndike.serve.policy import names_of
from thorndike.serve.timing import Latency, latency
from thorndike.types import Array, PyTree, Spec, Timestep

FALL = 0.01  # of the mean return, from which on a file is refused
EPISODES = 20
CALLS = 2000  # that are timed


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class OnnxPlayer:
    """An ONNX file in the place of an algorithm: it plays, and is asked on the host."""

    run: OnnxPolicy
    spec: Spec

    def carry(self, actor: PyTree, n: int) -> PyTree:
        """Zeros for `n` environments, by the names of the file's inputs."""
        sizes = {name: shape[1:] for name, (_, shape) in self.run.inputs.items() if name.startswith("carry")}
        return {name: jnp.zeros((n, *size), self._dtype(name)) for name, size in sizes.items()}

    def act(self, actor: PyTree, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """The file's actions [E, ...], as an algorithm gives them, and the next carry."""
        space, n = self.spec.action, now.first.shape[0]
        start: Any = getattr(space, "start", 0)
        dtype = canonicalize_dtype(space.dtype)
        seen = dict(zip(names_of(self.spec.observation), jax.tree.leaves(now.obs)))
        given = {**seen, **carry, "first": now.first, "mask": now.info.get("mask")}
        given = {name: given[name] for name in self.run.inputs}

        def answer(given):
            given = {name: np.asarray(x, self._dtype(name)) for name, x in given.items()}
            if all(isinstance(shape[0], str) for _, shape in self.run.inputs.values()):
                found = self.run(given)
            else:  # the file takes one observation at a time
                each = [self.run({name: x[i : i + 1] for name, x in given.items()}) for i in range(n)]
                found = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
            action = (found["action"].reshape(n, *space.shape) - start).astype(dtype)
            return action, {name: found[name.replace("carry", "next")].astype(x.dtype) for name, x in carry.items()}

        like = jax.ShapeDtypeStruct((n, *space.shape), dtype), jax.tree.map(jnp.zeros_like, carry)
        action, carry = jax.pure_callback(answer, like, given, vmap_method="sequential")
        return action, carry, {}

    def _dtype(self, name: str) -> Any:
        kind = self.run.inputs[name][0].removeprefix("tensor(").removesuffix(")")
        return np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))


@dataclasses.dataclass(frozen=True)
class Quantised:
    """A file of 8 bits beside the one of 32 that it was made of; pairs are (32 bits, 8 bits)."""

    path: Path
    sizes: tuple[int, int]  # bytes
    returns: tuple[np.ndarray, np.ndarray]  # of the same episodes [N]
    times: tuple[Latency, Latency]

    @property
    def fall(self) -> float:
        """By which part of its size the mean return is lower; below 0 it is higher."""
        before, after = (float(x.mean()) for x in self.returns)
        return 0.0 if before == after else (before - after) / max(abs(before), 1e-12)

    def __str__(self) -> str:
        before, after = self.sizes
        (first, second), (slow, fast) = self.returns, self.times
        less = f"{1 - after / before:.0%} smaller" if after < before else f"{after / before - 1:.0%} larger"
        p50 = fast.p50 / slow.p50
        speed = f"{p50:.1f} times as long" if p50 >= 1 else f"{1 / p50:.1f} times as fast"
        return (
            f"{self.path}: weights of 8 bits\n"
            f"  size    {before:,} bytes, with 8 bits {after:,}: {less}\n"
            f"  return  {first.mean():.1f}, with 8 bits {second.mean():.1f}, in the same {len(first)} episodes\n"
            f"  time    {slow}\n"
            f"  8 bits  {fast}\n"
            f"  8 bits are about size. Here an action takes {speed}; on CPUs they are often slower"
        )


def quantise(exported: Export, env: Any, spec: Spec, how: dict[str, Any] | None = None) -> Quantised:
    """Write NAME.int8.onnx beside an exported NAME.onnx, by dynamic quantisation with a scale for each output.

    Weights W are kept as whole numbers, W ≈ s W₈ with one scale s for each column; inputs of products are rounded to 8
    bits as they come. Both files play the same `EPISODES` episodes.

    Args:
        exported: what `export` wrote.
        env: the environment to play in.
        spec: the agent's.
        how: options of host environments, as of `evaluate`.

    Raises:
        IncompatibleError: there are no products with weights.
        CheckpointError: the mean return falls by 1% or more; the file is not kept.
        MissingExtraError: the package onnx, or onnxruntime, is not installed.
    """
    path = exported.path.with_suffix(".int8.onnx")
    _write(exported.path, path)
    runs = OnnxPolicy(exported.path), OnnxPolicy(path)
    returns = [evaluate(OnnxPlayer(run, spec), NOBODY, env, EPISODES, how=how).returns[0] for run in runs]
    sizes = exported.path.stat().st_size, path.stat().st_size
    times = [latency(run, inputs_of(run), CALLS) for run in runs]
    found = Quantised(path, sizes, (returns[0], returns[1]), (times[0], times[1]))
    if not found.fall < FALL:
        path.unlink()
        raise CheckpointError(
            f"with weights of 8 bits the mean return of {EPISODES} episodes falls from {returns[0].mean():.4g} to "
            f"{returns[1].mean():.4g}, by 1% or more, so that file was not kept: use {exported.path}"
        )
    return found


def _write(path: Path, out: Path) -> None:
    with importing("onnxruntime", "weights of 8 bits"):
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    model = onnx.load_model_from_string(path.read_bytes())
    about = {entry.key: entry.value for entry in model.metadata_props}
    weights = {x.name for x in model.graph.initializer}
    if not any(node.op_type == "MatMul" and node.input[1] in weights for node in model.graph.node):
        raise IncompatibleError("there are no matrices of weights in this policy, so 8 bits would change nothing")
    onnx.helper.set_model_props(model, about | {"onnx.quant.pre_process": "onnxruntime.quant"})  # else it warns
    # 7 bits of 8: sums of two products then fit into 16 bits, which processors without VNNI add them up in
    quantize_dynamic(
        model, out, ["MatMul"], per_channel=True, reduce_range=True, weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip
    made = onnx.load_model_from_string(out.read_bytes())
    constants = {x.name: onnx.numpy_helper.to_array(x) for x in made.graph.initializer}
    onnx.helper.set_model_props(made, about | {"sha256": digest(constants)})
    from thorndike.files import replace

    replace(out, [made.SerializeToString()])
