"""Damaged and malformed files of every kind: refused quickly and by name, and nothing in them is executed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import small_runs as small
from safetensors import safe_open
from watched import check, opened, recorded

from thorndike.files import LARGEST_JSON
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.arrays import digest, encode
from thorndike.runs.storage.directory import LOCK

EACH = 100


class Payload:
    """What would run if it were unpickled."""

    def __reduce__(self):
        return (exec, ("import os; os.system('true')",))


def spoilt(data: bytes, rng) -> bytes:
    """One of many ways to damage a file."""
    n, kind = len(data), rng.integers(8)
    if kind == 0:  # cut
        return data[: rng.integers(n)]
    if kind == 1:  # a header that claims to be enormous
        return struct.pack("<Q", int(rng.integers(2**40, 2**62))) + data[8:]
    if kind == 2:
        return pickle.dumps(Payload()) + data[rng.integers(n) :]
    if kind == 3:
        return rng.bytes(int(rng.integers(1, 5000)))
    if kind == 4:  # a run of zeros or ones inside
        at = rng.integers(n)
        return data[:at] + bytes([rng.choice([0, 255])]) * int(rng.integers(1, 64)) + data[at + 8 :]
    if kind == 5:  # one bit of a header
        at = rng.integers(min(n, 128))
        return data[:at] + bytes([data[at] ^ 1 << rng.integers(8)]) + data[at + 1 :]
    if kind == 6:  # code where a value belongs
        return b"__import__('os').system('true')" + data
    return b""


def damaged(good: Path, kind: str, folder: Path, rng) -> list[tuple[str, Path]]:
    """Copies of a good file, or folder, each with something wrong in it."""
    made = []
    for i in range(EACH):
        path = folder / f"{kind}_{i}"
        if good.is_file():
            path.write_bytes(spoilt(good.read_bytes(), rng))
        else:
            shutil.copytree(good, path)
            names = sorted(p.name for p in good.iterdir())
            victim = path / names[i % len(names)]
            data = victim.read_bytes()
            while (changed := spoilt(data, rng)) == data:
                pass
            victim.write_bytes(changed)
        made.append((kind, path))
    return made


def test_damaged_files(tmp_path):
    rng = np.random.default_rng(0)
    run = small.train("PPO", tmp_path / "run")
    model = run.agent().save(tmp_path / "model.safetensors")
    saved = max((run.path / "checkpoints").iterdir())
    good = [("model", model), ("checkpoint", saved), ("dataset", recorded(tmp_path / "data"))]
    bad = [item for kind, path in good for item in damaged(path, kind, tmp_path, rng)]
    rows = opened(good, bad)
    check(rows, dataset=("refused", "opened"))  # which has no checksums
    assert sum(row[2] == "refused" for row in rows) >= 0.9 * 3 * EACH


# --- what is no file --------------------------------------------------------------------------------------------------


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def too_large(path: Path) -> None:
    """A JSON text of more bytes than are read."""
    path.write_text("[" + "0," * (LARGEST_JSON // 2) + "0]")


NO_FILES = [os.mkfifo, endless, os.mkdir]
PLACES = {
    "model": [""],
    "checkpoint": [checkpoint.ARRAYS, checkpoint.STATE, checkpoint.MANIFEST],
    "dataset": ["metadata.json", "observations.npy", "actions.npy"],
    "run": ["run.json"],
    "status": ["status.json"],
    "metrics": ["metrics.jsonl"],
}


def test_pipes_devices_folders_and_large_texts_in_the_place_of_files(ppo, tmp_path):
    saved = max((ppo.path / "checkpoints").iterdir())
    model, data = ppo.agent().save(tmp_path / "model.safetensors"), recorded(tmp_path / "data")
    good = [("model", model), ("checkpoint", saved), ("dataset", data)]
    good += [(kind, ppo.path) for kind in ("run", "status", "metrics")]
    bad = []
    for kind, path in good:
        for name in PLACES[kind]:
            for instead in NO_FILES + [too_large] * name.endswith(".json"):
                folder = tmp_path / f"{kind}_{name}_{instead.__name__}"
                victim = folder / name if name else folder / "model.safetensors"
                shutil.copytree(path, folder) if name else folder.mkdir()
                victim.unlink(missing_ok=True)
                instead(victim)
                bad.append((kind, folder if name else victim))
    check(opened(good, bad))


@pytest.mark.parametrize("name", ["data/main_data.hdf5", "data/metadata.json", "metadata.json"])
def test_pipes_and_devices_in_the_place_of_minaris_files(name, tmp_path):
    bad = []
    for instead in NO_FILES:
        victim = tmp_path / instead.__name__ / name
        victim.parent.mkdir(parents=True)
        instead(victim)
        bad.append(("dataset", tmp_path / instead.__name__))
    check(opened([("dataset", recorded(tmp_path / "good"))], bad))


def test_pipes_and_devices_in_the_place_of_a_lock(tmp_path):
    bad = []
    for instead in NO_FILES:
        (tmp_path / instead.__name__).mkdir()
        instead(tmp_path / instead.__name__ / LOCK)
        bad.append(("lock", tmp_path / instead.__name__))
    (tmp_path / "good").mkdir()
    check(opened([("lock", tmp_path / "good")], bad))


# --- malformed contents behind a checksum that is right ---------------------------------------------------------------

DEEP = "[" * 700 + "]" * 700
MODELS = [  # where in a model's description, and what is there instead
    (("algorithm", "learning_rate"), ["a"]),
    (("algorithm", "learning_rate"), {"type": "PPO"}),
    (("algorithm", "learning_rate"), "DEEP"),
    (("algorithm", "num_envs"), -1),
    (("algorithm", "type"), "__import__('os')"),
    (("algorithm", "torso", "widths"), "DEEP"),
    (("spec",), []),
    (("spec", "observation"), "DEEP"),
    (("spec", "observation", "shape"), [-1, 4]),
    (("spec", "observation", "dtype"), "O"),
    (("spec", "action", "n"), "2"),
]
RUNS = [
    (("environment",), {"id": "payload_of_a_run:X-v0", "kwargs": {}}),
    (("environment",), {"id": "gymnasium/payload_of_a_run:X-v0", "kwargs": {}}),
    (("environment",), {"id": "pettingzoo/payload_of_a_run", "kwargs": {}}),
    (("environment",), "DEEP"),
    (("environment", "id"), 5),
    (("environment", "fields"), {"type": "TimeLimit", "env": {"type": "CartPole"}}),
    (("environment", "fields", "gravity"), ["a"]),
    (("environment",), {"id": "gymnasium/CartPole-v1", "kwargs": 5}),
    (("environment",), {"id": "gymnasium/CartPole-v1", "kwargs": {"sutton_barto_reward": {"a": 1}, "id": []}}),
    (("environment",), {"id": "pgx/tic_tac_toe", "fields": {"type": "PgxGame", "name": "go", "options": [["a"]]}}),
    (("environment",), {"id": "x", "fields": {"type": "os"}}),
    (("steps",), "many"),
    (("log_every",), None),
    (("seeds",), "many"),
]


def changed(data: dict, place: tuple, value) -> str:
    """JSON of the data with one value replaced."""
    data = inner = json.loads(json.dumps(data))
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return json.dumps(data).replace('"DEEP"', DEEP)


def test_malformed_contents_are_refused_and_import_nothing(ppo, tmp_path):
    good = [("model", ppo.agent().save(tmp_path / "model.safetensors")), ("run", ppo.path)]
    for name in ("gymnasium/CartPole-v1", "pettingzoo/simple_spread_v3"):
        path = tmp_path / name.partition("/")[0]
        path.mkdir()
        (path / "run.json").write_text(changed(ppo.info, ("environment",), {"id": name, "kwargs": {}}))
        good.append(("run", path))
    with safe_open(good[0][1], "np") as file:
        meta, arrays = file.metadata()["thorndike"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    bad = []
    for i, (place, value) in enumerate(MODELS):
        text = changed(json.loads(meta), place, value)
        path = tmp_path / f"model_{i}.safetensors"
        path.write_bytes(encode(arrays, {"thorndike": text, "sha256": digest(arrays, text)}))
        bad.append(("model", path))
    for i, (place, value) in enumerate(RUNS):
        path = tmp_path / f"run_{i}"
        path.mkdir()
        (path / "run.json").write_text(changed(ppo.info, place, value))
        bad.append(("run", path))
    (tmp_path / "payload_of_a_run.py").write_text("import os; os.system('true')")
    check(opened(good, bad, tmp_path))
