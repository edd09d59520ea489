"""Minari's folders: its own collector and reader are the oracle; damaged files are refused."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import thorndike as td
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.memory.dataset import Dataset


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

    gymnasium.register("EchoForMinari-v0", entry_point="test_minari:Echo")
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


def test_masks_that_minari_recorded_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    gymnasium.register("MaskedForMinari-v0", entry_point="test_minari:MaskedEcho")
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


class ShownMask(MaskedEcho):
    """Shows it beside what it sees."""

    observation_space = Dict({"action_mask": Box(0, 1, (2,), np.int8), "observation": Box(-10, 10, (1,), np.float32)})

    def shown(self, obs, info):
        return {"action_mask": info.pop("action_mask").astype(np.int8), "observation": np.float32([self.t])}, info

    def reset(self, *, seed=None, options=None):
        return self.shown(*super().reset(seed=seed, options=options))

    def step(self, action):
        obs, *ending, info = super().step(action)
        obs, info = self.shown(obs, info)
        return obs, *ending, info


def test_masks_in_observations_are_taken_out(tmp_path, monkeypatch):
    """As they are where agents act in such an environment."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    gymnasium.register("ShownForMinari-v0", entry_point="test_minari:ShownMask")
    env = minari.DataCollector(gymnasium.make("ShownForMinari-v0"))
    env.reset(seed=0)
    for action in (0, 1, 1):
        env.step(action)
    env.create_dataset("shown/test-v0", eval_env="ShownForMinari-v0", description="", author="", code_permalink="")
    env.close()
    made = GymnasiumEnvironment("ShownForMinari-v0")
    spec = td.Spec(made.observation_space, made.action_space, masked=made.masked)
    batch = Dataset(tmp_path / "shown" / "test-v0").fit(spec)[np.arange(3)]
    np.testing.assert_array_equal(batch.obs, [[0], [1], [2]])
    np.testing.assert_array_equal(batch.info["mask"], [[1, 0], [0, 1], [1, 1]])


class Painted(Echo):
    """Pictures of one colour or, where `noisy`, of many: Minari keeps them as JPEG files, of one length or not."""

    observation_space = Box(0, 255, (40, 48, 3), np.uint8)

    def __init__(self, noisy):
        self.noisy = noisy

    def observe(self):
        noise = np.random.default_rng(self.t).integers(0, 256, (40, 48, 3), np.uint8)
        return noise if self.noisy else np.full((40, 48, 3), 100, np.uint8)


@pytest.mark.parametrize("noisy", [False, True])
def test_images_of_minari_are_read(noisy, tmp_path, monkeypatch):
    """Minari's own reader is the oracle; JPEG loses a little, its reader and ours the same."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    name = f"PaintedForMinari{int(noisy)}-v0"
    gymnasium.register(name, entry_point="test_minari:Painted", kwargs={"noisy": noisy})
    env = minari.DataCollector(gymnasium.make(name))
    for _ in range(2):
        env.reset(seed=0)
        for action in (0, 1, 1):
            env.step(action)
    theirs = env.create_dataset("painted/test-v0", eval_env=name, description="", author="", code_permalink="")
    env.close()
    batch = Dataset(tmp_path / "painted" / "test-v0").fit(td.Spec(Painted.observation_space, Discrete(2)))[np.arange(6)]
    shown = [episode.observations for episode in theirs.iterate_episodes()]
    assert np.ptp(shown[0]) > (200 if noisy else -1)
    np.testing.assert_array_equal(batch.obs, np.concatenate([x[:-1] for x in shown]))
    np.testing.assert_array_equal(batch.next_obs, np.concatenate([x[1:] for x in shown]))


def test_minaris_other_formats_are_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text('{"data_format": "arrow"}')
    for path in (tmp_path, tmp_path / "data"):
        with pytest.raises(td.ConfigError, match="is Minari's, but not in its format hdf5, which alone is read"):
            Dataset(path)
    with pytest.raises(td.ConfigError, match="there is no dataset at"):
        Dataset(tmp_path.parent)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_damaged_minari_file_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "main_data.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    with pytest.raises(td.ConfigError, match="not a dataset of Minari's, or damaged"):
        Dataset(tmp_path)


def minari_file(path):
    """A file of Minari's with one episode of eight steps."""
    import h5py

    path.mkdir()
    with h5py.File(path / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            group[name] = np.zeros(9 if name == "observations" else 8, np.float32)


@pytest.mark.parametrize(
    ("column", "rows", "says"),
    [
        ("observations", 8, "episode 1 has 8 observations and 8 rewards, one for each step: it should have 9"),
        ("observations", 11, "episode 1 has 11 observations and 8 rewards, one for each step: it should have 9"),
        ("actions", 7, "episode 1 has 7 actions and 8 rewards, one for each step: it should have 8"),
        ("infos/action_mask", 8, "episode 1 has 8 action_mask and 8 rewards, one for each step: it should have 9"),
    ],
)
def test_an_episode_of_another_length_is_named(column, rows, says, tmp_path):
    """The others are whole, and the sum of all lengths may be, too."""
    import h5py

    minari_file(tmp_path / "data")
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "r+") as file:
        for i in (1, 2):
            file.copy("episode_0", f"episode_{i}")
        for i in range(3):
            file[f"episode_{i}"]["infos/action_mask"] = np.ones((9, 2), np.int8)
        del file["episode_1"][column]
        file["episode_1"][column] = np.zeros((rows, 2) if "mask" in column else rows, np.float32)
    with pytest.raises(td.ConfigError, match=f"main_data.hdf5: {says}.* To leave it out, write the others"):
        Dataset(tmp_path / "data")


def test_a_minari_file_with_actions_in_parts_is_refused(tmp_path):
    import h5py

    minari_file(tmp_path / "data")
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0"]["actions"]
        file["episode_0"].create_group("actions")["_index_0"] = np.zeros(8)
    with pytest.raises(td.ConfigError, match="actions of several parts: only single arrays are supported"):
        Dataset(tmp_path / "data")


def text_of(group):
    import h5py

    group.create_dataset("rewards", data=["x" * 100] * 8, dtype=h5py.string_dtype())


def no_pictures(group):
    import h5py

    rows = group.create_dataset("rewards", shape=(8,), dtype=h5py.vlen_dtype(np.uint8))
    rows[0] = np.arange(9, dtype=np.uint8)


@pytest.mark.parametrize(
    ("rewards", "text"),
    [
        (text_of, "has arrays of object, not of numbers"),
        (no_pictures, "cannot identify image file"),
        (lambda group: None, "not a dataset of Minari's, or damaged: .*rewards"),
    ],
)
def test_columns_that_are_not_minaris_are_named(rewards, text, tmp_path):
    import h5py

    minari_file(tmp_path / "data")
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0"]["rewards"]
        rewards(file["episode_0"])
    with pytest.raises(td.ConfigError, match=text):
        Dataset(tmp_path / "data")
