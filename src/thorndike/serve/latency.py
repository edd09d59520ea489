"""Single actions of an agent, timed by JAX, NumPy and ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.errors import CheckpointError, IncompatibleError, MissingExtraError
from thorndike.serve.export import NumpyPolicy
from thorndike.serve.policy import Policy, names_of, policy_of
from thorndike.serve.timing import Latency, latency

SEEN = 16  # different observations


def of_agent(agent: Any, calls: int) -> dict[str, Latency | str]:
    """By what acts, its times, or why there are none."""
    observations = [agent.spec.observation.sample() for _ in range(SEEN)]
    mask = agent.all_legal() if agent.spec.masked else None
    found: dict[str, Latency | str] = {"JAX": latency(lambda obs: agent.act(obs, mask=mask), observations, calls)}
    try:
        policy = policy_of(agent)
    except IncompatibleError as error:
        return found | {"NumPy": str(error), "ONNX Runtime": str(error)}
    inputs = [_inputs(agent, policy, obs) for obs in observations]
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("NumPy", _numpy), ("ONNX Runtime", _onnx)):
            try:
                found[name] = latency(make(policy, agent, Path(folder)), inputs, calls)
            except (IncompatibleError, MissingExtraError) as error:
                found[name] = str(error)
    return found


def of_onnx(path: Path, calls: int) -> dict[str, Latency | str]:
    """Those of an ONNX file of `export`; raises `CheckpointError` where it is none."""
    from thorndike.serve.onnx_file import OnnxPolicy

    run = OnnxPolicy(path)
    inputs = inputs_of(run)
    if not inputs[0]:
        raise CheckpointError(f"{path} takes nothing")
    return {"ONNX Runtime": latency(run, inputs, calls)}


def inputs_of(run: Any) -> list[dict[str, np.ndarray]]:
    """`SEEN` random observations, single, as an `OnnxPolicy` takes them; where it has memory, an episode begins."""
    from thorndike.runs.storage.spaces import space_from_json

    space = space_from_json(run.about["spec"]["observation"])
    kinds = {"tensor(float)": np.float32, "tensor(bool)": bool, "tensor(double)": np.float64}
    fixed = {}
    for name, (kind, shape) in run.inputs.items():
        sizes = [n if isinstance(n, int) else 1 for n in shape]
        dtype: Any = kinds.get(kind) or np.dtype(kind.removeprefix("tensor(").removesuffix(")"))
        fixed[name] = np.ones(sizes, dtype) if name in ("mask", "first") else np.zeros(sizes, dtype)
    inputs = []
    for _ in range(SEEN):
        parts = dict(zip(names_of(space), jax.tree.leaves(space.sample())))
        shown = {name: np.asarray(x)[None].astype(fixed[name].dtype) for name, x in parts.items() if name in fixed}
        inputs.append(fixed | shown)
    return inputs


def _inputs(agent: Any, policy: Policy, obs: Any) -> dict[str, np.ndarray]:
    """What a policy of one observation takes; an episode begins."""
    from thorndike.runs.results.agent import _arrays

    parts = jax.tree.leaves(_arrays(agent.spec.observation, obs))
    arrays = {name: np.asarray(x)[None] for name, x in zip(names_of(agent.spec.observation), parts)}
    if agent.spec.masked:
        arrays["mask"] = agent.all_legal()[None]
    for port in policy.inputs:
        if port.name not in arrays:
            shape = [1, *port.shape[1:]]
            arrays[port.name] = np.ones(shape, bool) if port.name == "first" else np.zeros(shape, port.dtype)  # type: ignore[arg-type]
    return {port.name: arrays[port.name].astype(port.dtype) for port in policy.inputs}


def _numpy(policy: Policy, agent: Any, folder: Path) -> Any:
    from thorndike.configuration import to_json
    from thorndike.serve.numpy_file import write

    path = folder / "policy.py"
    write(policy, path, {"algorithm": to_json(agent.algorithm), "spec": {"id": agent.spec.id}})
    return NumpyPolicy(path, [port.name for port in policy.outputs])


def _onnx(policy: Policy, agent: Any, folder: Path) -> Any:
    from thorndike.serve.onnx_file import OnnxPolicy, write

    write(policy, folder / "policy.onnx", {"thorndike": "{}"})
    return OnnxPolicy(folder / "policy.onnx")
