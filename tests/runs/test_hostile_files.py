"""Hostile and malformed files of every kind: refused quickly, and nothing in them is executed."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import small_runs as small

from thorndike.memory.dataset import Episode, write

EACH = 100


class Payload:
    """What would run if it were unpickled."""

    def __reduce__(self):
        return (exec, ("import os; os.system('true')",))


def spoilt(data: bytes, rng) -> bytes:
    """One of many ways to damage a file."""
    n, kind = len(data), rng.integers(10)
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
    last = np.arange(8) == 7
    data = write(tmp_path / "data", [Episode(np.zeros((9, 4), np.float32), np.zeros(8, int), np.ones(8), last, ~last)])
    good = [("model", model), ("checkpoint", saved), ("dataset", data)]
    bad = [item for kind, path in good for item in hostile(path, kind, tmp_path, rng)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("hostile.py"))],
        input="\n".join(f"{kind} {path}" for kind, path in good + bad), capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(good) + 3 * EACH, done.stderr[-2000:]
    assert [row[2] for row in rows[:3]] == ["opened"] * 3
    for kind, path, outcome, seconds, megabytes, events in rows[3:]:
        allowed = ("refused", "opened") if kind == "dataset" else ("refused",)  # a dataset has no checksums
        assert outcome in allowed, (path, outcome)
        assert events == [], (path, events)
        assert seconds < 2, (path, seconds)
        assert megabytes < 256, (path, megabytes)
    assert sum(row[2] == "refused" for row in rows[3:]) >= 0.9 * 3 * EACH


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
