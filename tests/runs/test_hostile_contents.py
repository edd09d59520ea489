"""What a checksum does not keep out: malformed and hostile contents of files whose hashes are right."""

from __future__ import annotations

import hashlib
import json
import shutil

from safetensors import safe_open
from watched import check, opened

from thorndike.files import LARGEST_JSON
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.arrays import digest, encode


def tuple_of(spaces: list) -> dict:
    return {"type": "Tuple", "spaces": spaces}


def deep(space: dict, depth: int) -> dict:
    return space if depth == 0 else tuple_of([deep(space, depth - 1)])


DEEP, NAN, SIDES = "[" * 700 + "]" * 700, float("nan"), ("observation", "action")
BOUNDS, MANY = {"low": 0, "high": 1, "dtype": "float32"}, {"type": "MultiBinary", "shape": 1}
IMAGE = {"type": "Box", "low": 0, "high": 255, "shape": [36, 36, 3], "dtype": "uint8"}
CONTENTS = [  # of a model: where in its description, and what is there instead
    (("algorithm", "learning_rate"), ["a"]),
    (("algorithm", "learning_rate"), {"type": "PPO"}),
    (("algorithm", "learning_rate"), "DEEP"),
    (("algorithm", "num_envs"), -1),
    (("algorithm", "type"), "__import__('os')"),
    (("algorithm", "torso", "widths"), [10**12]),
    (("algorithm", "torso", "widths"), [1] * 3000),
    (("algorithm", "torso", "widths"), "DEEP"),
    (("spec",), []),
    (("spec", "observation"), "DEEP"),
    (("spec", "observation", "shape"), [8000, 8000]),
    (("spec", "observation", "shape"), [-1, 4]),
    (("spec", "observation", "dtype"), "O"),
    (("spec", "observation"), {"type": "MultiBinary", "shape": [10**5, 10**5]}),
    (("spec", "observation"), {"type": "Tuple", "spaces": [{"type": "MultiBinary", "shape": 10**9}]}),
    (("spec", "observation"), tuple_of([{"type": "Box", **BOUNDS, "shape": [10**9]}, MANY | {"shape": -(10**9)}])),
    (("spec", "observation"), tuple_of([MANY | {"shape": [NAN]}, {"type": "Box", **BOUNDS, "shape": [10**9]}])),
    (("spec", "observation"), MANY | {"shape": [3] * 10**6}),
    (("spec", "observation"), tuple_of([MANY] * 1000)),
    (("spec", "observation"), tuple_of([MANY] * 10_000)),
    (("spec", "observation"), tuple_of([deep(MANY, 200)] * 100)),
    (("spec", "observation"), tuple_of([IMAGE] * 16)),
    (("spec", "observation"), tuple_of([IMAGE] * 128)),
    *((("spec", part), {"type": "MultiDiscrete", "nvec": [2] * 10**6, "start": [0] * 10**6}) for part in SIDES),
    (("spec", "action", "n"), 10**30),
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
    (("environment", "fields"), [[[]]]),
    (("environment", "fields"), "DEEP"),
    (("environment",), {"id": "gymnasium/CartPole-v1", "kwargs": 5}),
    (("environment",), {"id": "gymnasium/CartPole-v1", "kwargs": {"env": 1}}),
    (("environment",), {"id": "gymnasium/CartPole-v1", "kwargs": {"sutton_barto_reward": {"a": 1}, "id": []}}),
    (("environment",), {"id": "pgx/tic_tac_toe", "fields": {"type": "PgxGame", "name": "go", "options": [["a"]]}}),
    (("environment",), {"id": "x", "fields": {"type": "os"}}),
    (("algorithm", "learning_rate"), "DEEP"),
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


def test_content_behind_a_checksum_that_is_right(ppo, tmp_path):
    good = [("model", ppo.agent().save(tmp_path / "model.safetensors")), ("run", ppo.path)]
    for name in ("gymnasium/CartPole-v1", "pettingzoo/simple_spread_v3"):
        path = tmp_path / name.partition("/")[0]
        path.mkdir()
        (path / "run.json").write_text(changed(ppo.info, ("environment",), {"id": name, "kwargs": {}}))
        good.append(("run", path))
    with safe_open(good[0][1], "np") as file:
        meta, arrays = file.metadata()["thorndike"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    bad = []
    for i, (place, value) in enumerate(CONTENTS):
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
    rows = opened(good, bad, tmp_path)
    check(rows)


# --- headers of safetensors files -------------------------------------------------------------------------------------

ENTRIES = [  # of an array of `n` bytes that lies in front of `end`: what is there instead of what
    *(lambda n, end, dtype=dtype: {"dtype": dtype, "shape": [n]} for dtype in ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F99")),
    *(lambda n, end, dtype=dtype: {"dtype": dtype, "shape": [n]} for dtype in ("O", "", 5, None, ["U8"], "DEEP")),
    lambda n, end: {"dtype": "F4", "shape": [2 * n]},
    lambda n, end: {"dtype": "U16", "shape": [n]},
    *(lambda n, end, value=value: {"dtype": "U8", "shape": value} for value in ("ab", [], None, 2, "DEEP")),
    *(lambda n, end, shape=shape: {"dtype": "U8", "shape": shape(n)} for shape in (
        lambda n: [n + 1], lambda n: [-1, -n], lambda n: [1.0, n], lambda n: [True, n], lambda n: [1] * 99 + [n],
        lambda n: [3] * 10**6, lambda n: [0, 2**70],
    )),
    *(lambda n, end, at=at: {"data_offsets": at} for at in (None, [], "ab", [0, 2], [0, 10**18], [-2, 0], "DEEP")),
    lambda n, end: {"data_offsets": [end - n - 1, end - 1]},
    lambda n, end: {"data_offsets": [end - n + 1, end + 1]},
]  # fmt: skip
HEADERS = [
    *(lambda h, last, value=value: h | {last: value} for value in (None, [], "x", 5, {}, "DEEP")),
    lambda h, last: {name: value for name, value in h.items() if name != last},
    lambda h, last: h | {"more": h[last]},
    *(lambda h, last, value=value: h | {"__metadata__": value} for value in (5, [1], {"a": 5}, "DEEP")),
    *(lambda h, last, value=value: value for value in ({}, [], [1, 2], "x", None, "DEEP")),
]
TEXTS = [
    b"",
    b"{",
    b"\xff" * 64,
    b"[" + b"{}," * (LARGEST_JSON // 3 - 1) + b"0]",  # as large as is read, and in memory
    b"[" + b"{}," * LARGEST_JSON + b"0]",
]


def with_header(data: bytes, header: bytes) -> bytes:
    """A safetensors file that has another header."""
    return len(header).to_bytes(8, "little") + header + data[8 + int.from_bytes(data[:8], "little") :]


def test_headers_behind_a_checksum_that_is_right(ppo, tmp_path):
    """Of checkpoints and, where there is no checksum of the header, of a model."""
    saved = max((ppo.path / "checkpoints").iterdir())
    good = {"checkpoint": saved / checkpoint.ARRAYS, "model": ppo.agent().save(tmp_path / "model.safetensors")}
    bad = []
    for kind, path in good.items():
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        last = list(header)[-1]
        start, end = header[last]["data_offsets"]
        heads = [header | {last: header[last] | change(end - start, end)} for change in ENTRIES]
        heads += [change(header, last) for change in HEADERS]
        texts = [json.dumps(head).replace('"DEEP"', DEEP).encode() for head in heads]
        for i, text in enumerate(texts + TEXTS):
            folder = tmp_path / f"{kind}_{i}"
            shutil.copytree(saved, folder)
            manifest = json.loads((folder / checkpoint.MANIFEST).read_text())
            (folder / checkpoint.ARRAYS).write_bytes(with_header(data, text))
            manifest[checkpoint.ARRAYS] = hashlib.sha256((folder / checkpoint.ARRAYS).read_bytes()).hexdigest()
            (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))
            bad.append((kind, folder if kind == "checkpoint" else folder / checkpoint.ARRAYS))
    check(opened([("checkpoint", saved), ("model", good["model"])], bad))
