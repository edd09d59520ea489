"""Checkpoints: what is saved comes back bit for bit, and whatever is wrong with the newest, a good one is found."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import shutil
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small
from peak import Peak

import thorndike as td
from thorndike.drivers.scan import ScanDriver
from thorndike.errors import CheckpointError
from thorndike.ops.keys import random_key
from thorndike.runs.storage import arrays, checkpoint
from thorndike.runs.storage.arrays import from_arrays
from thorndike.runs.storage.environments import describe

FILES = (checkpoint.ARRAYS, checkpoint.STATE, checkpoint.MANIFEST)
ODD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38, 1 / 3], np.float32)


def driver(name: str) -> ScanDriver:
    env = td.make(small.ENVS[name])
    return ScanDriver(small.ALGORITHMS[name], env, describe(env, small.STEPS, small.ENVS[name]), 1)


def random_state(like, seed: int):
    """A state of that structure full of random bits, so that no two arrays are alike."""
    rng = np.random.default_rng(seed)

    def leaf(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.split(random_key(seed), x.shape)
        if x.dtype == bool:
            return rng.random(x.shape) < 0.5
        data = np.frombuffer(rng.bytes(int(np.prod(x.shape)) * x.dtype.itemsize), x.dtype).reshape(x.shape).copy()
        data.flat[: min(8, data.size)] = ODD[: data.size] if x.dtype == np.float32 else data.flat[: min(8, data.size)]
        return jnp.asarray(data)

    state = jax.tree.map(leaf, like)
    if state.memory:
        full = jnp.full_like(state.memory.size, state.memory.data.reward.shape[1])
        state = state._replace(memory=state.memory._replace(size=full))
    return state


def bits(leaf) -> tuple:
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return str(leaf.dtype), np.shape(leaf), np.asarray(data).tobytes()


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_a_run_state_comes_back_bit_for_bit(name, tmp_path):
    like = driver(name).like()
    state, meta = random_state(like, 1), {"iterations": 7, "seconds": 0.1 + 0.2, "devices": 1}
    path = checkpoint.save(tmp_path, 112, state, meta)
    assert path == tmp_path / "000000000112"
    found, found_meta, damaged = checkpoint.load_newest(tmp_path)
    assert (found_meta, damaged) == (meta, [])
    back = from_arrays(found, like, "it")
    assert jax.tree.structure(back) == jax.tree.structure(state)
    leaves = list(zip(jax.tree.leaves(state), jax.tree.leaves(back)))
    assert len(leaves) > 30
    assert all(bits(a) == bits(b) for a, b in leaves)
    if name != "PPO":
        assert found[".memory.data.reward"].shape == (1, 64)  # the replay memory is in it


def test_files_are_safetensors_and_json_only(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something unpickles")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(np, "load", refuse)
    like = driver("DQN").like()
    path = checkpoint.save(tmp_path, 1, random_state(like, 1), {"iterations": 0})
    from_arrays(checkpoint.load(path)[0], like, "it")
    assert sorted(p.name for p in path.iterdir()) == sorted([*FILES, checkpoint.MEMORY])
    data = (path / checkpoint.ARRAYS).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0
    assert spans[-1][1] == len(data) - 8 - size
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))  # every byte belongs to an array
    assert set(json.loads((path / checkpoint.MANIFEST).read_text())) == {*FILES[:2], checkpoint.MEMORY}
    json.loads((path / checkpoint.STATE).read_text())


def test_only_filled_rows_are_stored(tmp_path):
    """And the two newest checkpoints alone keep them: older ones have agents."""
    like = driver("DQN").like()
    full = random_state(like, 1)
    ring = jax.tree.map(lambda x: jnp.asarray(x).at[:, 5:].set(0), full.memory.data)
    state = full._replace(memory=full.memory._replace(data=ring, size=jnp.full_like(full.memory.size, 5)))
    for step in (1, 2, 3):
        path = checkpoint.save(tmp_path, step, state, {})
        checkpoint.save(tmp_path / "full", step, full, {})
    found = checkpoint.load(path)[0]
    assert found[".memory.data.reward"].shape == (1, 5)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(from_arrays(found, like, "it"))):
        assert bits(a) == bits(b)
    small, large = ((folder / path.name / checkpoint.MEMORY).stat().st_size for folder in (tmp_path, tmp_path / "full"))
    assert small < large / 3
    oldest = tmp_path / f"{1:012d}"
    assert not any(name.startswith(".memory") for name in checkpoint.load(oldest, checkpoint.AGENT)[0])
    with pytest.raises(CheckpointError, match="holds agents alone: the newest 2 checkpoints keep their replay memory"):
        checkpoint.load(oldest)


def test_a_state_that_does_not_fit_is_refused(tmp_path):
    like = driver("DQN").like()
    found = checkpoint.load(checkpoint.save(tmp_path, 1, random_state(like, 1), {}))[0]
    some = ".agent.q.head.weight"
    assert some in found
    for change, complaint in [
        ({**found, some: found[some].astype(np.float64)}, "float64"),
        ({**found, some: found[some].T}, "expected float32"),
        ({**found, ".agent.other": found[some]}, "1 unknown"),
        ({k: v for k, v in found.items() if k != some}, "1 arrays missing"),
    ]:
        with pytest.raises(CheckpointError, match=complaint):
            from_arrays(change, like, "the checkpoint")
    with pytest.raises(CheckpointError, match="saved by another algorithm"):
        from_arrays(found, driver("PPO").like(), "the checkpoint")


def test_a_checkpoint_is_held_in_memory_once_and_only_what_is_read_of_it(tmp_path):
    """Saving needs no copy of the state, reading one, and reading the agents no more than they are."""
    size = 96  # MiB
    state = {"memory": jnp.ones((3, size, 2**20 // 3), jnp.uint8), "agent": jnp.ones(1000), "odd": jnp.ones(7, bool)}
    small_state = jax.tree.map(lambda x: x[:1], state)
    checkpoint.load(checkpoint.save(tmp_path, 1, small_state, {}), "['agent']")  # imports what it needs
    with Peak() as peak:
        checkpoint.save(tmp_path, 2, state, {})
    assert peak.megabytes < 16
    with Peak() as peak:
        found = checkpoint.load_newest(tmp_path)
    assert 0.9 * size < peak.megabytes < size + 16
    assert all(np.array_equal(found[0][f"[{name!r}]"], x) for name, x in state.items())
    with Peak() as peak:
        found = checkpoint.load_newest(tmp_path, "['agent']")
    assert peak.megabytes < 16
    assert list(found[0]) == ["['agent']"]


def test_the_agents_of_a_run_are_read_without_its_memory(runs, monkeypatch):
    run, asked = td.open_run(runs("DQN").path), []
    read = arrays.read
    monkeypatch.setattr(arrays, "read", lambda path, prefix: asked.append(read(path, prefix)) or asked[-1])
    step = checkpoint.steps(run.path / "checkpoints")[-1]
    assert all(np.array_equal(*pair) for pair in zip(jax.tree.leaves(run.actors()), jax.tree.leaves(run.actors(step))))
    assert len(asked) == 2
    for found in asked:
        assert found.arrays
        assert all(name.startswith(".agent.") for name in found.arrays)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Two checkpoints of a real state, steps 16 and 32."""
    folder = tmp_path_factory.mktemp("good")
    like = driver("PPO").like()
    for step in (16, 32):
        checkpoint.save(folder, step, random_state(like, step), {"iterations": step // 16})
    return folder


def assert_noticed(folder: Path, name: str) -> None:
    _, meta, damaged = checkpoint.load_newest(folder)
    assert meta == {"iterations": 1}
    assert len(damaged) == 1
    assert f"{32:012d}" in damaged[0]


def damaged_versions(data: bytes, rng) -> list[bytes]:
    """Each with one bit flipped, or cut: of all three files more than 1,000 bits and 400 lengths, none twice."""
    flips = []
    for bit in rng.choice(8 * len(data), min(8 * len(data), 440), replace=False):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        flips.append(bytes(changed))
    lengths = rng.choice(len(data), min(len(data), 220), replace=False)
    return [*flips, *(data[:n] for n in lengths), data + b"\0", data + data]


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_and_cut_is_noticed(name, good):
    path = good / f"{32:012d}" / name
    data = path.read_bytes()
    try:
        versions = damaged_versions(data, np.random.default_rng(0))
        assert len(versions) == min(8 * len(data), 440) + min(len(data), 220) + 2
        for changed in versions:
            assert changed != data
            path.write_bytes(changed)
            assert_noticed(good, name)
    finally:
        path.write_bytes(data)
    assert checkpoint.load_newest(good)[1:] == ({"iterations": 2}, [])


@pytest.mark.parametrize(
    "manifest",
    [None, "", "[]", "{}", "null", "5", '"x"', "[" * 100_000, '{"arrays.safetensors": 5}', "{bad", "\x00" * 100,
     '{"arrays.safetensors": 5, "state.json": null}', '{"../../../etc/passwd": "x", "state.json": "y"}'],
)  # fmt: skip
def test_an_odd_manifest_is_noticed(manifest, good, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(good, folder)
    path = folder / f"{32:012d}" / checkpoint.MANIFEST
    path.unlink()
    if manifest is not None:
        path.write_text(manifest)
    assert_noticed(folder, checkpoint.MANIFEST)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", ["nothing", "folder"])
def test_a_missing_file_is_noticed(name, instead, good, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(good, folder)
    (folder / f"{32:012d}" / name).unlink()
    if instead == "folder":
        (folder / f"{32:012d}" / name).mkdir()
    assert_noticed(folder, name)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F99"])
def test_a_dtype_that_is_not_known_is_noticed_also_behind_the_right_hash(kind, good, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(good, folder)
    path = folder / f"{32:012d}"
    data = (path / checkpoint.ARRAYS).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header[".now.first"]["dtype"] = kind
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :]
    (path / checkpoint.ARRAYS).write_bytes(data)
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    manifest[checkpoint.ARRAYS] = hashlib.sha256(data).hexdigest()
    (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    assert_noticed(folder, checkpoint.ARRAYS)


def test_other_things_in_the_folder_do_not_matter(good, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(good, folder)
    (folder / "notes.txt").write_text("mine")
    (folder / ".000000000048.tmp").mkdir()
    assert checkpoint.load_newest(folder)[1:] == ({"iterations": 2}, [])
    (folder / "000000000048").write_text("a file, not a folder")
    _, meta, damaged = checkpoint.load_newest(folder)
    assert meta == {"iterations": 2}
    assert "000000000048" in damaged[0]


def test_no_checkpoint_and_no_whole_checkpoint(good, tmp_path):
    assert checkpoint.load_newest(tmp_path / "nowhere") is None
    assert checkpoint.load_newest(tmp_path) is None
    folder = tmp_path / "run"
    shutil.copytree(good, folder)
    for path in folder.glob("*/arrays.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint is whole(.|\n)*000000000032(.|\n)*000000000016"):
        checkpoint.load_newest(folder)
