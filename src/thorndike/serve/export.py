"""Files with which other programs act as an agent does, and the check that they do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.configuration import to_json
from thorndike.drivers.scan import member
from thorndike.errors import CheckpointError, ConfigError, IncompatibleError, ThorndikeError
from thorndike.exports import VERSION
from thorndike.runs.storage.spaces import space_to_json
from thorndike.serve.policy import Policy, names_of, policy_of

SUFFIXES = (".onnx", ".py")
TOLERANCE = 1e-4  # of continuous actions, as a part of their size where that is above 1
TIES = 1e-4  # the share of choices that may differ: of two that are equal but for rounding
STEPS = 16  # of an episode with which agents with memory are checked


@dataclasses.dataclass(frozen=True)
class Export:
    """A file that was written, and how it compares with the agent."""

    path: Path
    inputs: dict[str, list[Any]]  # the shape of each, None for the batch
    outputs: list[str]
    batch: int | None  # None: of any size
    checked: int  # observations on which both acted
    difference: float  # the largest of continuous actions; of choices the share that differs

    def __str__(self) -> str:
        any_size = "batches of any size" if self.batch is None else "one observation at a time"
        named = ", ".join(f"{name} {tuple('batch' if n is None else n for n in x)}" for name, x in self.inputs.items())
        return (
            f"{self.path}: {any_size}\n  takes  {named}\n  gives  {', '.join(self.outputs)}\n"
            f"  equal to the agent on {self.checked:,} observations (largest difference {self.difference:.1e})"
        )


def export(agent: Any, path: str | Path, check: int = 1000, observations: list[Any] | None = None) -> Export:
    """Write what acts greedily as `agent` does: normalisation, network, scaling, clipping, masks and memory in one.

    Args:
        agent: the agent.
        path: an .onnx file, or a .py module for NumPy, whose weights are beside it (.npz).
        check: on how many observations both are compared: `observations`, random ones and extremes.
        observations: what is seen in the environment.

    Raises:
        ConfigError: another kind of file.
        IncompatibleError: something in the agent has no translation.
        MissingExtraError: the package onnx, or onnxruntime, is not installed.
        CheckpointError: the file acts otherwise than the agent; it is not kept.
    """
    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"an agent is exported to .onnx or .py (NumPy), not to {path.name!r}")
    if path.is_dir():
        raise ConfigError(f"{path} is a directory: name a file in it")
    if check < 1:
        raise ConfigError(f"check is a number of observations, at least 1, got {check!r}")
    policy = policy_of(agent)
    about = {
        "version": VERSION,
        "algorithm": to_json(agent.algorithm),
        "spec": {
            "observation": space_to_json(agent.spec.observation),
            "action": space_to_json(agent.spec.action),
            "id": agent.spec.id,
            "masked": agent.spec.masked,
        },
        "carry": {p.name: list(p.shape[1:]) for p in policy.inputs if p.name.startswith("carry")},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".onnx":
        from thorndike.serve.onnx_file import OnnxPolicy, write

        write(policy, path, {"thorndike": json.dumps(about)})
        run: Any = OnnxPolicy(path)
    else:
        from thorndike.serve.numpy_file import write as write_module

        write_module(policy, path, about)
        run = NumpyPolicy(path, [port.name for port in policy.outputs])
    try:
        checked, difference = parity(agent, policy, run, check, observations or [])
    except CheckpointError:
        for file in (path, path.with_suffix(".npz")) if path.suffix == ".py" else (path,):
            file.unlink()
        raise
    shapes = {p.name: [n if isinstance(n, int) else None for n in p.shape] for p in policy.inputs}
    return Export(path, shapes, [p.name for p in policy.outputs], policy.batch, checked, difference)


def seen(run: Any, agent: Any) -> list[object]:
    """Observations of an episode that the agent of a run plays; none where the environment cannot be played."""
    from thorndike.runs.results.record import record

    try:
        episodes = list(record(agent, member(run.env, 0), 1, 0, False, run.stepping))
    except ThorndikeError:
        return []
    found = []
    for episode in episodes:
        n = len(episode.rewards)
        found += [jax.tree.map(lambda x, i=i: x[i], episode.observations) for i in range(min(n, 500))]
    return found


class NumpyPolicy:
    """A module of `export`, which is imported: open only what you wrote yourself."""

    def __init__(self, path: Path, outputs: list[str]):
        from importlib.util import module_from_spec, spec_from_file_location

        spec = spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        self.act, self.outputs, self.about = module.act, outputs, json.loads(module.ABOUT)

    def __call__(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self.act(**{name.replace(".", "_").replace(" ", "_"): x for name, x in given.items()})
        return dict(zip(self.outputs, found if isinstance(found, tuple) else (found,)))


def parity(agent: Any, policy: Policy, run: Any, check: int, observations: list[Any]) -> tuple[int, float]:
    """How many observations were compared, and the largest difference; raises `CheckpointError` where it is too large.

    Agents with memory act through episodes of `STEPS` steps, which begin anew at random.
    """
    rng, spec = np.random.default_rng(0), agent.spec
    size = policy.batch or min(32, check)
    memory = {p.name: p for p in policy.inputs if p.name.startswith("carry")}
    carry = {name: np.zeros((size, *p.shape[1:]), p.dtype) for name, p in memory.items()}  # type: ignore
    agent = type(agent)(agent.algorithm, spec, agent.actor)  # whose memory nobody else uses
    first = np.ones(size, bool)
    done, worst, wrong = 0, 0.0, 0
    pool = _pool(spec.observation, observations, min(check, 2048))
    choices = np.dtype(spec.action.dtype).kind in "iub"
    while done < check:
        obs = jax.tree.map(lambda *rows: np.stack(rows), *[pool[(done + i) % len(pool)] for i in range(size)])
        mask = _mask(spec, size, rng) if spec.masked else None
        expected = np.asarray(agent.act(obs, mask=mask, first=first))
        arrays = dict(zip(names_of(spec.observation), jax.tree.leaves(obs))) | {"mask": mask, "first": first} | carry
        given = {p.name: np.asarray(arrays[p.name]).astype(p.dtype) for p in policy.inputs}
        found = run(given)
        carry = {name: found[name.replace("carry", "next")] for name in carry}
        action = found["action"].reshape(expected.shape)
        if choices:
            wrong += int((action != expected).reshape(size, -1).any(1).sum())
        else:
            gap = np.abs(action.astype(float) - expected) / np.maximum(1.0, np.abs(expected))
            worst = max(worst, float(np.max(gap))) if np.isfinite(gap).all() else np.inf
        done += size
        first = rng.random(size) < 1 / STEPS
    difference = wrong / done if choices else worst
    if difference > (TIES if choices else TOLERANCE):
        what = f"{difference:.2%} of its choices differ" if choices else f"an action differs by {difference:.2g}"
        raise CheckpointError(f"the exported file does not act as the agent does: {what}. It was not kept")
    return done, difference


def _pool(space: Any, observations: list[Any], size: int) -> list[Any]:
    """Observations to compare on: those given, random ones, and at the ends of the space."""
    from thorndike.runs.results.agent import _arrays

    space.seed(0)
    random = [space.sample() for _ in range(max(8, size - len(observations)))]
    ends = [jax.tree.map(lambda x, f=f: _extreme(x, f), random[0]) for f in (0.0, 1e3, -1e3)]
    if hasattr(space, "low"):
        ends += [np.where(np.isfinite(bound), bound, 0).astype(space.dtype) for bound in (space.low, space.high)]
    found = [_arrays(space, x) for x in (*observations, *random)]
    for x in ends:
        try:
            found.insert(0, _arrays(space, x))
        except IncompatibleError:  # of whole numbers, outside of the space
            continue
    return found


def _extreme(x: Any, number: float) -> Any:
    x = np.asarray(x)
    return np.full_like(x, number) if x.dtype.kind == "f" else x


def _mask(spec: Any, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random masks that allow some action for each part."""
    from thorndike.envs.masks import mask_sizes

    parts = []
    for size in mask_sizes(spec.action):
        part = rng.random((n, size)) < 0.5
        part[np.arange(n), rng.integers(0, size, n)] = True
        parts.append(part)
    return np.concatenate(parts, 1)
