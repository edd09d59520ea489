"""Spaces through JSON and trees of arrays through safetensors: nothing is lost, and what is wrong is named."""

from __future__ import annotations

import hashlib
import json
import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Space, Text, Tuple

from thorndike.errors import CheckpointError
from thorndike.files import LARGEST_JSON, read_json
from thorndike.ops.keys import random_key
from thorndike.runs.storage.arrays import digest, encode, from_arrays, read, to_arrays, write
from thorndike.runs.storage.spaces import space_from_json, space_to_json

INF = np.inf
SPACES = [
    Discrete(4),
    Discrete(3, start=-2),
    Discrete(3, dtype=np.int32),
    MultiDiscrete([2, 5]),
    MultiDiscrete([[2, 3], [4, 5]], start=[[0, -1], [2, 3]]),
    MultiDiscrete([2, 3], dtype=np.uint8),
    MultiBinary(3),
    MultiBinary([2, 3]),
    Box(0, 1, ()),
    Box(-INF, INF, (3,)),
    Box(np.float32([-1, -INF, 0.1]), np.float32([INF, 1, 0.3])),
    Box(np.float32([[1e-45, 0.1]]), np.float32([[3.4028235e38, 0.2]])),
    Box(-0.1, INF, (2,), np.float64),
    Box(np.array([0.1, 1e-300]), np.array([0.7, 1e300]), dtype=np.float64),
    Box(0, 255, (2, 2, 3), np.uint8),
    Box(np.array([-128, 5], np.int8), np.array([127, 6], np.int8), dtype=np.int8),
    Box(-(2**63), 2**63 - 1, (2,), np.int64),
    Box(0, 2**64 - 1, (2,), np.uint64),
    Box(-1, 1, (0,)),
    Dict({"b": Discrete(2), "a": Box(0, 1, (2,)), "c": Dict({"x": MultiBinary(2)})}),
    Tuple((Discrete(2), Tuple((Box(-INF, 0, (1,)),)), Dict({"é": Discrete(3)}))),
    Dict({}),
]


def through_json(space: Space) -> Space:
    return space_from_json(json.loads(json.dumps(space_to_json(space))))


def check_equal(old: Space, new: Space) -> None:
    assert new == old
    assert type(new) is type(old)
    if isinstance(old, Box):  # Gymnasium's own == is content with nearly equal bounds
        np.testing.assert_array_equal(new.low, old.low)
        np.testing.assert_array_equal(new.high, old.high)
        for manner in ("below", "above", "both"):
            assert new.is_bounded(manner) == old.is_bounded(manner)
    for part, other in zip(_parts(old), _parts(new), strict=True):
        check_equal(part, other)


def _parts(space: Space) -> list[Space]:
    return list(space.spaces.values()) if isinstance(space, Dict) else list(space) if isinstance(space, Tuple) else []


@pytest.mark.parametrize("space", SPACES, ids=lambda s: str(s).replace("\n", ""))
def test_spaces_survive_json(space):
    again = through_json(space)
    check_equal(space, again)
    space.seed(0), again.seed(0)
    for _ in range(3):
        assert again.contains(space.sample())
        assert space.contains(again.sample())


def test_old_descriptions_without_a_dtype_are_read():
    assert space_from_json({"type": "Discrete", "n": 3, "start": 0}) == Discrete(3)
    assert space_from_json({"type": "MultiDiscrete", "nvec": [2, 3], "start": [0, 1]}) == MultiDiscrete(
        [2, 3], start=[0, 1]
    )


@pytest.mark.parametrize("space", [Text(3), Graph(Discrete(2), None), Tuple((Text(3),))], ids=str)
def test_spaces_without_a_description_are_refused(space):
    with pytest.raises(CheckpointError, match="cannot describe the space"):
        space_to_json(space)


BOX = {"type": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "float32"}
DISCRETE = {"type": "Discrete", "n": 3, "start": 0}
MALFORMED = [
    None, 3, "Box", [], {}, {"type": None}, {"type": ["Box"]}, {"type": "Text"}, {"type": "os.system"},
    {"type": "Box"}, BOX | {"low": "a"}, BOX | {"low": None}, BOX | {"low": [0, 0, 0]}, BOX | {"low": 2},
    BOX | {"low": {"a": 1}}, BOX | {"shape": [-1]}, BOX | {"shape": 3}, BOX | {"shape": "ab"}, BOX | {"shape": None},
    BOX | {"shape": [10**14]}, BOX | {"dtype": "O"}, BOX | {"dtype": "float33"}, BOX | {"dtype": None},
    BOX | {"dtype": ["f4"]}, BOX | {"dtype": "U3"}, BOX | {"dtype": "uint8", "high": 300},
    BOX | {"low": float("nan")}, DISCRETE | {"n": 0}, DISCRETE | {"n": 1.5}, DISCRETE | {"n": "3"},
    DISCRETE | {"n": 2**70}, DISCRETE | {"start": None}, DISCRETE | {"dtype": "float32"},
    DISCRETE | {"dtype": "nonsense"}, {"type": "MultiDiscrete"},
    {"type": "MultiDiscrete", "nvec": [[1], [1, 2]], "start": [0]},
    {"type": "MultiDiscrete", "nvec": [2, 0], "start": [0, 0]}, {"type": "MultiDiscrete", "nvec": "ab", "start": 0},
    {"type": "MultiBinary", "shape": None}, {"type": "MultiBinary", "shape": [0]},
    {"type": "MultiBinary", "shape": "ab"}, {"type": "Dict"}, {"type": "Dict", "spaces": None},
    {"type": "Dict", "spaces": [BOX]}, {"type": "Dict", "spaces": {"a": 1}}, {"type": "Tuple", "spaces": 3},
    {"type": "Tuple", "spaces": [BOX, {}]}, {"type": "Tuple", "spaces": {"a": BOX}},
]  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED, ids=str)
def test_malformed_descriptions_are_refused(data):
    with pytest.raises(CheckpointError, match="not the description of a space"):
        space_from_json(data)


class Part(NamedTuple):
    weight: jax.Array
    nothing: tuple[()] = ()


def tree():
    return {
        "key": random_key(5),
        "keys": jax.random.split(random_key(6), 3),
        "part": Part(jnp.arange(6.0).reshape(2, 3).T),
        "list": [jnp.int8([-1, 2]), jnp.array(True), np.float32(2.5), np.zeros((0, 3), np.uint8)],
        "odd": np.array([np.nan, np.inf, -0.0], np.float32),
    }


SHAPES = jax.eval_shape(tree)


def check_same(old, new) -> None:
    assert jax.tree.structure(new) == jax.tree.structure(old)
    for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(old)[0], jax.tree.leaves(new)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), path
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), path


@pytest.mark.parametrize("like", [SHAPES, tree()], ids=["shapes", "arrays"])
def test_arrays_survive_a_file(tmp_path, like):
    path = tmp_path / "x.safetensors"
    path.write_bytes(encode(to_arrays(tree()), {"note": "hello"}))
    arrays, metadata, sha256 = read(path)
    assert (metadata, sha256) == ({"note": "hello"}, hashlib.sha256(path.read_bytes()).hexdigest())
    again = from_arrays(arrays, like, "it")
    check_same(tree(), again)
    assert digest(arrays) == digest(to_arrays(tree()))
    np.testing.assert_array_equal(jax.random.bits(again["key"], (4,)), jax.random.bits(random_key(5), (4,)))


def test_array_names_are_paths():
    assert set(to_arrays({"a": [jnp.ones(1), Part(jnp.ones(1))]})) == {"['a'][0]", "['a'][1].weight"}


def test_views_are_written_in_their_order(tmp_path):
    x = np.arange(24.0).reshape(2, 3, 4)
    views = {"t": x.T, "step": x[:, ::2], "number": np.float64(3), "first": x[0, 0, 0]}
    write(tmp_path / "x", to_arrays(jax.tree.map(np.asarray, views)))
    for name, value in from_arrays(read(tmp_path / "x").arrays, views, "it").items():
        np.testing.assert_array_equal(value, views[name])


def test_some_arrays_are_read_and_all_are_hashed(tmp_path):
    path, arrays = tmp_path / "x", to_arrays({"a": np.arange(2**19, dtype=np.int64), "b": np.ones(7)})
    sha256 = write(path, arrays)
    found = read(path, "['b']")
    assert list(found.arrays) == ["['b']"]
    assert found.arrays["['b']"].tolist() == [1.0] * 7
    assert found.sha256 == sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", np.complex128, jnp.int4, jnp.float8_e4m3fn])
def test_arrays_that_would_not_be_read_are_not_written(dtype, tmp_path):
    for save in (lambda x: encode(x, {}), lambda x: write(tmp_path / "x", x)):
        with pytest.raises(CheckpointError, match="a cannot be saved"):
            save({"a": np.zeros(2, dtype)})
    write(tmp_path / "x", {"a": np.ones(2, jnp.bfloat16)})
    assert read(tmp_path / "x").arrays["a"].dtype == jnp.bfloat16


def test_what_would_not_be_read_is_not_written():
    with pytest.raises(CheckpointError, match="bytes of names and settings cannot be saved"):
        encode({}, {"settings": "x" * LARGEST_JSON})


def altered(name: str, value) -> dict:
    return to_arrays(tree()) | {name: value}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {k: v for k, v in to_arrays(tree()).items() if "weight" not in k},
            r"1 arrays missing, 0 unknown \(\['part'\].weight",
        ),
        (altered("['more']", np.ones(1)), r"0 arrays missing, 1 unknown \(\['more'\]"),
        ({}, "8 arrays missing, 0 unknown"),
        (
            altered("['part'].weight", np.ones((2, 3), np.float32)),
            r"\.weight is float32\[2, 3\], expected float32\[3, 2\]",
        ),
        (altered("['part'].weight", np.ones((3, 2))), r"\.weight is float64\[3, 2\], expected float32\[3, 2\]"),
        (altered("['list'][0]", np.ones(2, np.uint8)), r"\['list'\]\[0\] is uint8\[2\], expected int8\[2\]"),
        (altered("['key']", np.ones(3, np.uint32)), r"\['key'\] is uint32\[3\], expected uint32\[2\]"),
        (altered("['keys']", np.ones((2, 2), np.uint32)), r"\['keys'\] is uint32\[2, 2\], expected uint32\[3, 2\]"),
    ],
)
def test_mismatches_are_named(arrays, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        from_arrays(arrays, SHAPES, "the checkpoint of run 7")
    assert "the checkpoint of run 7 does not fit" in str(caught.value)


def test_digest_sees_every_byte_and_name():
    arrays = {"a": np.arange(4, dtype=np.uint8), "b": np.zeros(2, np.float32)}
    base = digest(arrays)
    assert digest(dict(reversed(arrays.items()))) == base
    for i in range(4):
        flipped = arrays["a"].copy()
        flipped[i] ^= 1
        assert digest(arrays | {"a": flipped}) != base
    assert digest({"a": arrays["a"], "c": arrays["b"]}) != base
    assert digest({"a": arrays["a"]}) != base


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a file was executed",))


def test_unreadable_files_are_refused(tmp_path):
    good = encode(to_arrays(tree()), {})
    bad = {"cut": good[: len(good) // 2], "empty": b"", "text": b"hello world" * 9, "pickle": pickle.dumps(Bomb())}
    for name, content in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        for reader in (read, read_json):
            with pytest.raises(CheckpointError, match=name):
                reader(path)
    for path in (tmp_path / "absent", tmp_path):
        for reader in (read, read_json):
            with pytest.raises(CheckpointError, match=str(path)):
                reader(path)
    (tmp_path / "deep").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="deep"):
        read_json(tmp_path / "deep")
