"""Hostile and malformed files of every kind: refused quickly, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_runs as small
from peak import Peak
from watched import check, opened, recorded

from thorndike.files import LARGEST_JSON
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.directory import LOCK

EACH = 100


class Payload:
    """What would run if it were unpickled."""

    def __reduce__(self):
        return (exec, ("import os; os.system('true')",))


def spoilt(data: bytes, rng) -> bytes:
    """One of many ways to damage a file."""
    n, kind = len(data), rng.integers(11)
    if kind == 0:  # cut
        return data[: rng.integers(n)]
    if kind == 1:  # a header that claims to be enormous
        return struct.pack("<Q", int(rng.integers(2**40, 2**62))) + data[8:]
    if kind == 2:
        return pickle.dumps(Payload()) + data[rng.integers(n) :]
    if kind == 3:
        return rng.bytes(int(rng.integers(1, 5000)))
    if kind == 4:  # nesting
        return struct.pack("<Q", 200_000) + b"[" * 200_000 if rng.random() < 0.5 else b'{"a":' * 50_000
    if kind == 5:  # a run of zeros or ones inside
        at = rng.integers(n)
        return data[:at] + bytes([rng.choice([0, 255])]) * int(rng.integers(1, 64)) + data[at + 8 :]
    if kind == 6:  # larger shapes than there is data
        return data.replace(b"[1,", b"[99999999999,").replace(b"(8,", b"(99999999999,") + b"\0"
    if kind == 7:
        return data.replace(b"F32", b"F99").replace(b"<f", b"|O").replace(b"format", b"formed") + b"\0"
    if kind == 9:  # one bit of a header
        at = rng.integers(min(n, 128))
        return data[:at] + bytes([data[at] ^ 1 << rng.integers(8)]) + data[at + 1 :]
    if kind == 8:  # code where a value belongs
        return b"__import__('os').system('true')" + data
    return b""


def hostile(good: Path, kind: str, folder: Path, rng) -> list[tuple[str, Path]]:
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


def test_hostile_files(tmp_path):
    rng = np.random.default_rng(0)
    run = small.train("PPO", tmp_path / "run")
    model = run.agent().save(tmp_path / "model.safetensors")
    saved = max((run.path / "checkpoints").iterdir())
    good = [("model", model), ("checkpoint", saved), ("dataset", recorded(tmp_path / "data"))]
    bad = [item for kind, path in good for item in hostile(path, kind, tmp_path, rng)]
    rows = opened(good, bad)
    check(rows, dataset=("refused", "opened"))  # which has no checksums
    assert sum(row[2] == "refused" for row in rows) >= 0.9 * 3 * EACH


# --- what is no file --------------------------------------------------------------------------------------------------


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**36)


def deserts(path: Path) -> None:
    """JSON of the size that is read, which takes as much memory as any."""
    path.write_text("[" + "{}," * (LARGEST_JSON // 3 - 1) + "0]")


def long_header(path: Path) -> None:
    """An .npy file whose header would take a gigabyte."""
    path.write_bytes(b"\x93NUMPY\x02\x00" + (2**30).to_bytes(4, "little"))
    os.truncate(path, 2**30 + 100)


NO_FILES = [os.mkfifo, linked_pipe, endless, os.mkdir]
PLACES = {
    "model": [""],
    "checkpoint": [checkpoint.ARRAYS, checkpoint.STATE, checkpoint.MANIFEST],
    "dataset": ["metadata.json", "observations.npy", "actions.npy", "rewards.npy", "truncations.npy"],
    "run": ["run.json"],
    "status": ["status.json"],
    "metrics": ["metrics.jsonl"],
}


def test_pipes_devices_and_endless_texts_in_the_place_of_files(ppo, tmp_path):
    saved = max((ppo.path / "checkpoints").iterdir())
    model, data = ppo.agent().save(tmp_path / "model.safetensors"), recorded(tmp_path / "data")
    good = [("model", model), ("checkpoint", saved), ("dataset", data)]
    good += [(kind, ppo.path) for kind in ("run", "status", "metrics")]
    bad = []
    for kind, path in good:
        for name in PLACES[kind]:
            more = [deserts] * name.endswith(".json") + [long_header] * name.endswith(".npy")
            for instead in NO_FILES + more + [sparse] * (kind != "metrics"):
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


def test_a_lock_that_is_a_pipe_is_not_waited_for(tmp_path):
    bad = []
    for instead in (os.mkfifo, linked_pipe, endless):
        (tmp_path / instead.__name__).mkdir()
        instead(tmp_path / instead.__name__ / LOCK)
        bad.append(("lock", tmp_path / instead.__name__))
    (tmp_path / "good").mkdir()
    check(opened([("lock", tmp_path / "good")], bad), lock=("opened",))


def test_the_hook_would_see_a_pickle(tmp_path):
    """Numpy told to unpickle runs the payload: the test above could fail."""
    path = tmp_path / "rewards.npy"
    np.save(path, np.array([Payload()], object), allow_pickle=True)
    code = (
        "import sys, numpy as np; seen = []; np.zeros(1)\n"
        "sys.addaudithook(lambda event, args: seen.append(event))\n"
        f"np.load({str(path)!r}, allow_pickle=True); print('os.system' in seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_measure_sees_memory_that_was_taken_before():
    """Each time anew, also where something larger came first."""
    for megabytes in (96, 96, 64, 96):
        with Peak() as peak:
            np.ones(megabytes * 2**20, np.uint8)
        assert 0.9 * megabytes < peak.megabytes < 1.1 * megabytes + 8
    with Peak() as peak:
        pass
    assert peak.megabytes < 8
