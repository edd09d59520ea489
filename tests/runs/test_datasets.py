"""Datasets as files: written, read, refused."""

from __future__ import annotations

import dataclasses
import json
import resource

import gymnasium
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.memory.dataset import Dataset, Episode, write

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


def test_the_next_episode_is_not_what_a_step_leads_to(tmp_path, monkeypatch):
    """One row for each step would do that."""
    dataset = Dataset(write(tmp_path / "data", episodes()))
    dataset._row = np.arange(8)
    with pytest.raises(AssertionError):
        check_transitions(dataset)


def test_observations_in_parts(tmp_path):
    parts = [e._replace(observations={"b": e.observations, "a": e.observations[:, :1]}) for e in episodes()]
    space = Dict({"a": Box(-np.inf, np.inf, (1,)), "b": Box(-np.inf, np.inf, (2,))})
    dataset = Dataset(write(tmp_path / "data", parts)).fit(dataclasses.replace(SPEC, observation=space))
    batch = dataset[np.array([6])]
    np.testing.assert_array_equal(batch.next_obs["b"], [[2, 3]])
    np.testing.assert_array_equal(batch.next_obs["a"], [[2]])


class Echo(gymnasium.Env):
    """Episodes of three steps that observe how many there were, in a Dict."""

    observation_space = Dict({"t": Box(0, 10, (1,), np.float32), "a": Box(0, 1, (2,), np.float32)})
    action_space = Discrete(2)

    def observe(self):
        return {"t": np.array([self.t], np.float32), "a": np.array([self.t / 10, 0], np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), float(action), self.t == 3, False, {}


class MaskedEcho(Echo):
    """After an odd number of steps everything is legal, after an even one action 1, and at first action 0."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {"action_mask": np.array([1, 0], np.int8)}

    def step(self, action):
        legal = np.array([self.t % 2, 1], np.int8)
        return *super().step(action)[:4], {"action_mask": legal}


def test_a_folder_that_minari_wrote_is_read(tmp_path, monkeypatch):
    """Minari's own collector and reader are the oracle."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    gymnasium.register("EchoForMinari-v0", entry_point="test_datasets:Echo")
    env = minari.DataCollector(gymnasium.make("EchoForMinari-v0"))
    actions = [[0, 1, 1], [1, 0, 1]]
    for episode in actions:
        env.reset(seed=0)
        for action in episode:
            env.step(action)
    theirs = env.create_dataset(
        "echo/test-v0", eval_env="EchoForMinari-v0", description="", author="", code_permalink=""
    )
    env.close()
    dataset = Dataset(tmp_path / "echo" / "test-v0").fit(td.Spec(Echo.observation_space, Echo.action_space))
    batch = dataset[np.arange(6)]
    for i, episode in enumerate(theirs.iterate_episodes()):
        rows = slice(3 * i, 3 * i + 3)
        for name in ("t", "a"):
            np.testing.assert_array_equal(batch.obs[name][rows], episode.observations[name][:-1])
            np.testing.assert_array_equal(batch.next_obs[name][rows], episode.observations[name][1:])
        np.testing.assert_array_equal(batch.action[rows], episode.actions)
        np.testing.assert_array_equal(batch.reward[rows], episode.rewards)
        np.testing.assert_array_equal(batch.terminated[rows], episode.terminations)


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
        (lambda p: about(p, lengths=[2**62] * 4 + [8]), "do not have the lengths"),  # 8 in 64 bits
        (lambda p: about(p, lengths=[2**63 - 1, 2**63 - 1, 10]), "do not have the lengths"),
        (lambda p: np.save(p / "actions.npy", np.array(["left"] * 8)), "not of numbers"),
    ],
)
def test_damage_is_named(damage, text, tmp_path):
    path = write(tmp_path / "data", episodes())
    damage(path)
    with pytest.raises(td.ConfigError, match=text):
        Dataset(path)


def test_a_damaged_minari_file_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "main_data.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    with pytest.raises(td.ConfigError, match="not a dataset of Minari's, or damaged"):
        Dataset(tmp_path)


def minari_file(path, **shapes):
    """A file of Minari's that has these columns, of which nothing is stored."""
    import h5py

    path.mkdir()
    with h5py.File(path / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            group.create_dataset(
                name, shape=shapes.get(name, (9,) if name == "observations" else (8,)), chunks=True, dtype="f4"
            )


def test_a_minari_file_with_actions_in_parts_is_refused(tmp_path):
    import h5py

    minari_file(tmp_path / "data")
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0"]["actions"]
        file["episode_0"].create_group("actions")["_index_0"] = np.zeros(8)
    with pytest.raises(td.ConfigError, match="actions of several parts: only single arrays are supported"):
        Dataset(tmp_path / "data")


@pytest.mark.parametrize("rows", [5 * 10**7, 10**14])
@pytest.mark.parametrize("column", ["observations", "rewards"])
def test_a_minari_file_that_claims_more_than_it_holds_is_refused_unread(rows, column, tmp_path):
    minari_file(tmp_path / "good")
    Dataset(tmp_path / "good")
    minari_file(tmp_path / "bomb", **{column: (rows,)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(td.ConfigError, match="larger than the file"):
        Dataset(tmp_path / "bomb")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def text_of(file, group, path):
    import h5py

    group.create_dataset("rewards", data=["x" * 100] * 8, dtype=h5py.string_dtype())


def compressed(file, group, path):
    file["episode_0"]["infos/noise"] = np.random.default_rng(0).integers(
        0, 256, 2**20, np.uint8
    )  # in which a bomb may hide
    group.create_dataset("rewards", shape=(10**8,), dtype="f8", chunks=(10**6,), compression="gzip", fillvalue=1.0)


def linked(file, group, path):
    import h5py

    group["rewards"] = h5py.ExternalLink(str(path / "good" / "main_data.hdf5"), "/episode_0/rewards")


def stored_elsewhere(file, group, path):
    (path / "secret").write_bytes(bytes(64))
    group.create_dataset("rewards", shape=(8,), dtype="f8", external=str(path / "secret"))


def virtual(file, group, path):
    import h5py

    layout = h5py.VirtualLayout(shape=(8,), dtype="f4")
    layout[:] = h5py.VirtualSource(path / "good" / "main_data.hdf5", "/episode_0/rewards", shape=(8,))
    group.create_virtual_dataset("rewards", layout)


@pytest.mark.parametrize(
    ("rewards", "text"),
    [
        (text_of, "rewards holds object, not numbers"),
        (compressed, "rewards is larger than the file"),
        (linked, "rewards is in another file"),
        (stored_elsewhere, "rewards is in another file"),
        (virtual, "rewards is in another file"),
    ],
)
def test_a_minari_file_is_read_from_itself_alone(rewards, text, tmp_path):
    import h5py

    minari_file(tmp_path / "good")
    minari_file(tmp_path / "bad")
    with h5py.File(tmp_path / "bad" / "main_data.hdf5", "r+") as file:
        del file["episode_0"]["rewards"]
        rewards(file, file["episode_0"], tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(td.ConfigError, match=text):
        Dataset(tmp_path / "bad")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


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
        ([e._replace(masks=np.ones((len(e.rewards) + 1, 3))) for e in episodes()], r"masks of shape \(3,\).*\(2,\)"),
        ([e._replace(masks=np.ones((len(e.rewards), 2))) for e in episodes()], "do not have the lengths"),
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


def test_masks_that_minari_recorded_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    gymnasium.register("MaskedForMinari-v0", entry_point="test_datasets:MaskedEcho")
    env = minari.DataCollector(gymnasium.make("MaskedForMinari-v0"), record_infos=True)
    for _ in range(2):
        env.reset(seed=0)
        for action in (0, 1, 1):
            env.step(action)
    env.create_dataset("masked/test-v0", eval_env="MaskedForMinari-v0", description="", author="", code_permalink="")
    env.close()
    batch = Dataset(tmp_path / "masked" / "test-v0").fit(td.Spec(Echo.observation_space, Discrete(2)))[np.arange(6)]
    np.testing.assert_array_equal(batch.info["mask"], [[1, 0], [0, 1], [1, 1]] * 2)
    np.testing.assert_array_equal(batch.info["next_mask"], [[0, 1], [1, 1], [0, 1]] * 2)


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
