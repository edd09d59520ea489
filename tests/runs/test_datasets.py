"""Datasets as files: written, read, refused."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from peak import Peak

import thorndike as td
from thorndike.memory import dataset as dataset_module
from thorndike.memory.dataset import STEPS, Dataset, Episode, write

BC = td.BC(torso=td.Torso(widths=(8,)), batch_size=16)


def episodes(lengths=(3, 1, 4)):
    """Observation t of episode i is (i, t); it is the reward, too, of the step that led there."""
    found = []
    for i, n in enumerate(lengths):
        observations = np.stack([np.full(n + 1, i), np.arange(n + 1)], 1).astype(np.float32)
        last = np.arange(n) == n - 1
        found.append(
            Episode(observations, np.arange(n) % 2 + 5, np.arange(1.0, n + 1), last & (i != 2), last & (i == 2))
        )
    return found


SPEC = td.Spec(Box(-np.inf, np.inf, (2,)), Discrete(2, start=5))


# --- reading and writing ----------------------------------------------------------------------------------------------


def check_transitions(dataset):
    """Each step leads to the next observation of its own episode, also at an end."""
    batch = dataset.fit(SPEC)[np.arange(8)]
    np.testing.assert_array_equal(batch.obs, [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3)])
    np.testing.assert_array_equal(batch.next_obs, [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2), (2, 3), (2, 4)])
    np.testing.assert_array_equal(batch.action, [0, 1, 0, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(batch.reward, batch.next_obs[:, 1])
    np.testing.assert_array_equal(np.flatnonzero(batch.terminated), [2, 3])
    np.testing.assert_array_equal(np.flatnonzero(batch.truncated), [7])
    assert dataset[np.zeros((2, 3), int)].obs.shape == (2, 3, 2)
    ends = np.asarray(batch.terminated)
    for index in ([-8, -1], np.uint64([3]), np.int8([-1]), ends, slice(2, 5), ..., 6, np.zeros(8, bool)):
        for found, expected in zip(jax.tree.leaves(dataset[index]), jax.tree.leaves(batch)):
            np.testing.assert_array_equal(found, expected[index])


def test_what_is_written_is_read(tmp_path):
    dataset = Dataset(write(tmp_path / "data", episodes(), {"environment": "a test"}))
    check_transitions(dataset)
    assert isinstance(dataset.observations[0], np.memmap)
    np.testing.assert_array_equal(dataset.returns, [6, 1, 10])
    assert json.loads((tmp_path / "data" / "metadata.json").read_text())["environment"] == "a test"


def test_the_ways_that_users_have(tmp_path):
    dataset = td.Dataset.write(tmp_path / "data", [td.Episode(*episode) for episode in episodes()])
    check_transitions(dataset)
    assert repr(dataset).endswith("data': 3 episodes, 8 steps)")


def test_opening_reads_no_steps(tmp_path):
    """Fifty million of them, in files of holes."""
    dataset = Dataset.write(tmp_path / "data", episodes())
    n = 50_000_000
    for name, x in zip(("observations", *STEPS), (*dataset.observations, *(getattr(dataset, name) for name in STEPS))):
        np.lib.format.open_memmap(
            tmp_path / "data" / f"{name}.npy", "w+", x.dtype, (n + (name == "observations"), *x.shape[1:])
        )
    metadata = json.loads((tmp_path / "data" / "metadata.json").read_text())
    (tmp_path / "data" / "metadata.json").write_text(json.dumps(metadata | {"lengths": [n]}))
    with Peak() as peak:
        assert len(Dataset(tmp_path / "data")) == n
    assert peak.megabytes < 50


def test_observations_in_parts(tmp_path):
    parts = [e._replace(observations={"b": e.observations, "a": e.observations[:, :1]}) for e in episodes()]
    space = Dict({"a": Box(-np.inf, np.inf, (1,)), "b": Box(-np.inf, np.inf, (2,))})
    dataset = Dataset(write(tmp_path / "data", parts)).fit(dataclasses.replace(SPEC, observation=space))
    batch = dataset[np.array([6])]
    np.testing.assert_array_equal(batch.next_obs["b"], [[2, 3]])
    np.testing.assert_array_equal(batch.next_obs["a"], [[2]])


def about(path, **changes):
    """Change what metadata.json says."""
    metadata = json.loads((path / "metadata.json").read_text())
    (path / "metadata.json").write_text(json.dumps(metadata | changes))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda p: (p / "rewards.npy").unlink(), "not a dataset, or damaged"),
        (lambda p: (p / "rewards.npy").write_bytes(b"not numpy"), "not a dataset, or damaged"),
        (lambda p: (p / "rewards.npy").write_bytes((p / "rewards.npy").read_bytes()[:-8]), "not a dataset, or damaged"),
        (lambda p: np.save(p / "rewards.npy", np.array([{}] * 8), allow_pickle=True), "not a dataset, or damaged"),
        (lambda p: np.save(p / "rewards.npy", np.zeros(7)), "do not have the lengths"),
        (lambda p: np.save(p / "observations.npy", np.zeros((8, 2))), "do not have the lengths"),
        (
            lambda p: np.save(p / "rewards.npy", np.zeros((8, 1))),
            "rewards of shape .8, 1.: they are one number for each",
        ),
        (lambda p: np.save(p / "terminations.npy", np.zeros((8, 1), bool)), "terminations of shape"),
        (lambda p: np.save(p / "truncations.npy", np.full(8, 0.5)), "truncations that are neither true nor false"),
        (lambda p: (p / "metadata.json").write_text("{"), "not a dataset, or damaged"),
        (lambda p: (p / "metadata.json").write_text("[]"), "not a dataset, or damaged"),
        (lambda p: (p / "metadata.json").write_text('{"format": 9}'), "has format 9, this version reads 1"),
        (lambda p: (p / "metadata.json").unlink(), "there is no dataset at"),
        (lambda p: (p / "rewards.npy").write_bytes(b"PK\x03\x04" + b"x" * 99), "not a dataset, or damaged"),
        (lambda p: np.save(p / "rewards.npy", 3.0), "do not have the lengths"),
        (lambda p: about(p, lengths=[10**40]), "not a dataset, or damaged"),
        (lambda p: about(p, observations=float("inf")), "not a dataset, or damaged"),
        (lambda p: about(p, observations=10**9), "not a dataset, or damaged"),
        (lambda p: about(p, lengths=[4, 0, 4]), "do not have the lengths"),
        (lambda p: np.save(p / "actions.npy", np.array(["left"] * 8)), "not of numbers"),
    ],
)
def test_damage_is_named(damage, text, tmp_path):
    path = write(tmp_path / "data", episodes())
    damage(path)
    with pytest.raises(td.ConfigError, match=text):
        Dataset(path)


def test_any_bit_of_a_header_may_be_wrong(tmp_path):
    """NumPy reads headers by Python's own parser: what that raises is many things."""
    path = write(tmp_path / "data", episodes()) / "rewards.npy"
    good, refused = path.read_bytes(), 0
    for bit in range(8 * 128):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        try:
            Dataset(path.parent)
        except td.ConfigError:
            refused += 1
    assert 900 < refused < 1024


@pytest.mark.parametrize(
    ("space", "actions", "text"),
    [
        (Discrete(2), [0.0, 0.9, 1.0], "actions of float64, the environment of int64"),
        (Discrete(2), [0, 1, 2], "not in Discrete"),
        (MultiDiscrete([2, 3]), [[0, 0], [1, 2], [1, 3]], "not in MultiDiscrete"),
        (MultiDiscrete([2, 3]), [[0, 0], [-1, 2], [1, 2]], "not in MultiDiscrete"),
        (MultiBinary(2), [[0, 0], [1, 2], [1, 0]], "not in MultiBinary"),
        (Box(-1, 1, (1,)), [[0.0], [1.0], [np.nan]], "not finite"),
    ],
)
def test_every_action_is_looked_at(space, actions, text, tmp_path):
    last = np.arange(3) == 2
    episode = Episode(np.zeros((4, 2), np.float32), np.array(actions), np.ones(3), last, ~last)
    with pytest.raises(td.ConfigError, match=text):
        Dataset(write(tmp_path / "data", [episode])).fit(td.Spec(Box(-1, 1, (2,)), space))


@pytest.mark.parametrize(("value", "fits"), [(2**31 - 1, True), (2**31, False), (-(2**33), False)])
def test_whole_numbers_that_do_not_fit_are_refused(value, fits, tmp_path):
    last = np.arange(3) == 2
    episode = Episode(np.full((4, 2), value, np.int64), np.zeros(3, int), np.ones(3), last, ~last)
    dataset = Dataset(write(tmp_path / "data", [episode]))
    spec = td.Spec(Box(-(2**40), 2**40, (2,), np.int64), Discrete(2))
    if fits:
        assert (dataset.fit(spec)[np.arange(3)].obs == value).all()
    else:
        with pytest.raises(td.ConfigError, match="has observations that int32 cannot hold: give floats"):
            dataset.fit(spec)


# --- legal actions ----------------------------------------------------------------------------------------------------


def masked_episodes():
    """At time t of every episode action (t + 1) % 2 is illegal."""
    legal = lambda n: np.arange(n + 1)[:, None] % 2 == np.arange(2)  # noqa: E731
    return [e._replace(masks=legal(len(e.rewards))) for e in episodes()]


def test_masks_are_those_of_the_observations(tmp_path):
    dataset = Dataset(write(tmp_path / "data", masked_episodes())).fit(SPEC)
    batch = dataset[np.arange(8)]
    np.testing.assert_array_equal(batch.info["mask"], batch.obs[:, 1:] % 2 == [0, 1])
    np.testing.assert_array_equal(batch.info["next_mask"], batch.next_obs[:, 1:] % 2 == [0, 1])
    assert Dataset(write(tmp_path / "none", episodes())).fit(SPEC)[np.arange(2)].info == {}


def test_masks_of_several_parts_stand_side_by_side(tmp_path):
    last, legal = np.arange(3) == 2, np.ones((4, 5), bool)
    legal[1, [0, 4]] = False
    spec = td.Spec(Box(-1, 1, (2,)), MultiDiscrete([2, 3], start=[1, 0]))
    for second, fits in [([2, 1], True), ([1, 1], False), ([2, 2], False)]:
        actions = np.array([[1, 2], second, [1, 0]])
        episode = Episode(np.zeros((4, 2), np.float32), actions, np.ones(3), last, ~last, legal)
        dataset = Dataset(write(tmp_path / f"data{second}", [episode]))
        if fits:
            dataset.fit(spec)
        else:
            with pytest.raises(td.ConfigError, match="actions that its masks do not allow"):
                dataset.fit(spec)


def spoilt(change):
    """Episodes of which `change` spoils the masks of the last, which was cut."""
    *rest, last = masked_episodes()
    masks = last.masks.copy()
    change(masks)
    return [*rest, last._replace(masks=masks)]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (spoilt(lambda masks: masks[1].fill(False)), "actions that its masks do not allow"),
        (spoilt(lambda masks: masks[-1].fill(False)), "allow nothing where an episode was cut"),
        (
            [e._replace(masks=np.ones((len(e.rewards) + 1, 3))) for e in episodes()],
            r"masks, each of which has shape \(3,\); Discrete.* needs \(2,\)",
        ),
        ([e._replace(masks=np.ones((len(e.rewards), 2))) for e in episodes()], "3 masks and 3 rewards.*: give 4"),
        ([*masked_episodes(), *episodes()], "all of them masks, or none"),
    ],
)
def test_masks_that_do_not_fit_are_refused(found, text, tmp_path):
    with pytest.raises(td.ConfigError, match=text):
        Dataset(write(tmp_path / "data", found)).fit(SPEC)


def test_no_values_of_illegal_actions_are_learned_from_a_dataset(tmp_path):
    write(tmp_path / "data", episodes())
    with pytest.raises(td.IncompatibleError, match="which actions were legal"):
        small.train("DQN", tmp_path / "run", env="pgx/minatar-breakout", dataset=tmp_path / "data")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (dataclasses.replace(SPEC, observation=Box(-1, 1, (3,))), r"observations of shape \[\(2,\)\]"),
        (dataclasses.replace(SPEC, action=Box(-1, 1, (3,))), "actions of shape"),
        (dataclasses.replace(SPEC, action=Discrete(2)), "actions that are not in Discrete"),
        (
            dataclasses.replace(SPEC, observation=Box(0, 255, (2,), np.uint8)),
            "observations of float32",
        ),
        (dataclasses.replace(SPEC, action=Discrete(1, start=5)), "actions that are not in Discrete"),
    ],
)
def test_a_dataset_of_another_environment_is_refused(spec, text, tmp_path):
    with pytest.raises(td.ConfigError, match=text):
        Dataset(write(tmp_path / "data", episodes())).fit(spec)


def test_what_cannot_learn_from_a_dataset_says_so(tmp_path):
    path = write(tmp_path / "data", episodes())
    with pytest.raises(td.IncompatibleError, match="does not learn from single transitions"):
        small.train("PPO", tmp_path / "run", dataset=path)
    with pytest.raises(td.ConfigError, match="BC learns from a dataset: give one"):
        td.train(BC, "CartPole-v1", 10, out=tmp_path / "run", progress=False)
    with pytest.raises(td.ConfigError, match="exists already"):
        write(path, episodes())
    assert not (tmp_path / "run").exists()


# --- telling datasets apart -------------------------------------------------------------------------------------------


def digest(tmp_path, name, change=lambda found: found):
    return Dataset.write(tmp_path / name, change(episodes())).digest()


def test_a_copy_has_the_digest_of_the_original(tmp_path):
    one = digest(tmp_path, "one")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert Dataset(tmp_path / "copy").digest() == Dataset(tmp_path / "one").digest() == one
    assert digest(tmp_path, "again") == one


def changed(**columns):
    """Episode 1, of one step, with other columns."""
    return lambda found: [found[0], found[1]._replace(**columns), found[2]]


@pytest.mark.parametrize(
    "change",
    [
        changed(rewards=np.array([1.5])),
        changed(actions=np.array([6])),
        changed(observations=np.array([[1, 0], [1, 2]], np.float32)),
        changed(terminations=np.array([False]), truncations=np.array([True])),
        lambda found: found[:2],
        lambda found: found[::-1],
        lambda found: [episode._replace(rewards=episode.rewards.astype(np.float32)) for episode in found],
        lambda found: [episode._replace(masks=np.ones((len(episode.rewards) + 1, 2), bool)) for episode in found],
    ],
)
@pytest.mark.parametrize("hashed", [dataset_module.HASHED, 64])
def test_what_differs_has_another_digest(change, hashed, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "HASHED", hashed)
    assert digest(tmp_path, "one") != digest(tmp_path, "other", change)


def test_of_large_arrays_a_digest_reads_a_part(tmp_path, monkeypatch):
    many = Episode(
        np.zeros((1001, 2)), np.zeros(1000, int), np.arange(1000.0), np.zeros(1000, bool), np.ones(1000, bool)
    )
    data = Dataset.write(tmp_path / "many", [many])
    read = []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            read.append(len(index))
            return np.asarray(self)[index]

    data.rewards = data.rewards.view(Watched)
    for hashed, rows in ((dataset_module.HASHED, 1000), (800, 100), (1, 1)):
        monkeypatch.setattr(dataset_module, "HASHED", hashed)
        read.clear()
        data.digest()
        assert sum(read) == rows
