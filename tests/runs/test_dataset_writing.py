"""Datasets of one's own episodes: whole, or refused with what to do about it and nothing left behind."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Discrete

import thorndike as td

LAST = np.arange(3) == 2
SPEC = td.Spec(Box(-9, 9, (2,)), Discrete(2))


def episode(**changes) -> td.Episode:
    """Of three steps."""
    observations = np.arange(8, dtype=np.float32).reshape(4, 2)
    return td.Episode(observations, np.array([0, 1, 1]), np.arange(3.0), LAST, ~LAST & False)._replace(**changes)


def masked(**changes) -> td.Episode:
    return episode(masks=np.ones((4, 2), bool), **changes)


def test_lists_are_arrays(tmp_path):
    lists = td.Episode(*(None if x is None else np.asarray(x).tolist() for x in masked()))
    batches = []
    for name, found in (("arrays", [masked(), masked()]), ("lists", [lists, masked()]), ("any", iter([lists, lists]))):
        batches.append(td.Dataset.write(tmp_path / name, found).fit(SPEC)[np.arange(6)])
    for batch in batches[1:]:
        np.testing.assert_equal(batch._asdict(), batches[0]._asdict())


def test_dicts_and_tuples_of_lists_are_parts(tmp_path):
    found = episode(observations={"b": np.zeros((4, 2)).tolist(), "a": (np.ones(4).tolist(), np.zeros((4, 1)))})
    assert [x.shape for x in td.Dataset.write(tmp_path / "data", [found]).observations] == [(4,), (4, 1), (4, 2)]


def test_numpy_reads_what_is_written(tmp_path):
    """Whatever their order in memory, and of their bytes."""
    one, other = np.arange(24.0).reshape(4, 2, 3), np.asfortranarray(np.arange(24.0).reshape(4, 2, 3))
    found = {"a": one, "b": other, "c": other.astype(">f4"), "d": np.zeros((4, 0)), "e": np.arange(8)[::2]}
    td.Dataset.write(tmp_path / "data", [episode(observations=found)] * 2)
    for i, x in enumerate(found.values()):
        np.testing.assert_array_equal(np.load(tmp_path / "data" / f"observations.{i}.npy"), np.concatenate([x, x]))


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("it was pickled",))


OTHER_NAMES = ({"a": np.zeros(4)}, {"b": np.zeros(4)})


@pytest.mark.parametrize(
    ("episodes", "text"),
    [
        ([], "there are no episodes to write: give at least one"),
        (episode(), "episode 0 is a ndarray: give td.Episode"),
        ([tuple(episode())], "episode 0 is a tuple: give td.Episode"),
        ([episode(), None], "episode 1 is a NoneType: give td.Episode"),
        ([episode(observations=np.zeros((3, 2)))], "episode 0 has 3 observations and 3 rewards.*: give 4, the last as"),
        ([episode(observations=np.zeros((5, 2)))], "episode 0 has 5 observations and 3 rewards.*: give 4, the last as"),
        ([episode(observations={})], "episode 0 has no observations"),
        ([episode(observations=None)], "episode 0 has no observations"),
        ([episode(observations={1: np.zeros(4), "a": np.zeros(4)})], "observations that are no tree of arrays"),
        ([episode(observations={"a": np.zeros(4), "b": np.zeros(3)})], r"has 3 observations\.1 and 3 rewards"),
        ([episode(observations=7.0)], "observations that are a single number: give an array with a row for each step"),
        ([episode(actions=[[0, 1], [1], [0]])], "episode 0 has actions that are no array"),
        ([episode(actions=np.array([[0, 1], [1], [0]], object))], "episode 0 has actions of object: give numbers"),
        ([episode(actions=np.array([Payload()] * 3))], "episode 0 has actions of object: give numbers"),
        ([episode(observations=[Payload()] * 4)], "episode 0 has observations of object: give numbers"),
        ([episode(actions=["left", "right", "left"])], "episode 0 has actions of <U5: give numbers"),
        ([episode(actions=[0, 1])], "episode 0 has 2 actions and 3 rewards, one for each step: give 3$"),
        ([episode(actions=None)], "episode 0 has actions of object: give numbers"),
        ([episode(rewards=np.ones((3, 1)))], r"episode 0 has rewards of shape \(3, 1\): give one number for each step"),
        ([episode(rewards=[], observations=[[0, 0]], actions=[])], "episode 0 has no steps: leave it out"),
        ([episode(terminations=[False, False])], "episode 0 has 2 terminations and 3 rewards"),
        ([episode(truncations=[0, 0.5, 1])], "episode 0 has truncations that are neither true nor false"),
        ([episode(truncations=[0, 0, np.nan])], "episode 0 has truncations that are neither true nor false"),
        ([episode(), episode(observations=np.zeros((4, 3)))], r"episode 1 has observations of shape \(3,\), episode 0"),
        ([episode(), episode(actions=np.zeros((3, 1)))], r"episode 1 has actions of shape \(1,\), episode 0 of \(\)"),
        ([episode(), episode(observations=(np.zeros((4, 2)),) * 2)], "episode 1 has observations of other parts"),
        ([episode(observations=parts) for parts in OTHER_NAMES], "episode 1 has observations of other parts"),
        ([masked(), episode()], "give all of them masks, or none"),
        ([episode(), masked()], "give all of them masks, or none"),
        ([episode(masks=np.ones((3, 2)))], "episode 0 has 3 masks and 3 rewards.*: give 4, the last as"),
        ([masked(), masked()._replace(masks=np.ones((4, 3)))], r"episode 1 has masks of shape \(3,\), episode 0"),
    ],
)  # fmt: skip
def test_what_is_no_dataset_is_refused_and_leaves_nothing(episodes, text, tmp_path):
    with pytest.raises(td.ConfigError, match=text):
        td.Dataset.write(tmp_path / "data", episodes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({"env": object()}, "about cannot be kept in metadata.json: .*; give plain values"),
        ({"format": 9}, "format cannot be said in about: metadata.json has it already"),
        ({"lengths": 1, "data_format": "hdf5"}, "data_format, lengths cannot be said in about"),
        ({"notes": "x" * 2**23}, "metadata.json would have .* bytes"),
    ],
)
def test_what_cannot_be_said_about_a_dataset_is_refused(about, text, tmp_path):
    with pytest.raises(td.ConfigError, match=text):
        td.Dataset.write(tmp_path / "data", [episode()], about)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 100, 140, 159])
def test_a_full_disk_leaves_nothing(size, tmp_path):
    with small.files_up_to(size), pytest.raises(td.ConfigError, match=r"cannot write .*data: "):
        td.Dataset.write(tmp_path / "data", [episode()])
    assert list(tmp_path.iterdir()) == []
    td.Dataset.write(tmp_path / "data", [episode()], {"who": "I"})
    assert json.loads((tmp_path / "data" / "metadata.json").read_text())["who"] == "I"
