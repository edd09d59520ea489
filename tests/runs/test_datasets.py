"""Datasets: recorded, written, read, refused; and what learns from them."""

from __future__ import annotations

import dataclasses
import json
import resource
import shutil

import gymnasium
import jax
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.cli import main
from thorndike.memory.dataset import Dataset, Episode, write
from thorndike.runs import loop

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


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    """A run whose agent balances the pole."""
    return td.train("ppo", "CartPole-v1", 100_000, out=tmp_path_factory.mktemp("data") / "expert", progress=False)


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


def test_no_values_of_illegal_actions_are_learned_from_a_dataset(tmp_path):
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


# --- recording --------------------------------------------------------------------------------------------------------


def test_recorded_episodes_are_the_environments(expert, tmp_path):
    """Played again by Gymnasium from the same states, every recorded step gives the recorded next observation."""
    dataset = expert.record(3, tmp_path / "data", explore=True)
    assert len(dataset.lengths) == 3
    env = gymnasium.make("CartPole-v1").unwrapped
    batch = dataset.fit(expert.spec)[np.arange(len(dataset))]
    for t in range(0, len(dataset), 7):
        env.reset(seed=0)
        env.state = tuple(batch.obs[t].astype(float))
        obs, reward, terminated, _, _ = env.step(int(batch.action[t]))
        np.testing.assert_allclose(obs, batch.next_obs[t], atol=1e-5)
        assert (reward, terminated) == (batch.reward[t], batch.terminated[t])
    ends = np.cumsum(dataset.lengths) - 1
    assert (batch.terminated | batch.truncated)[ends].all()
    assert (batch.terminated | batch.truncated).sum() == 3
    assert (np.abs(batch.obs[np.concatenate([[0], ends[:-1] + 1])]) <= 0.05).all()  # where CartPole begins


class Seeded(small.FiveSteps):
    """Remembers what it was seeded with."""

    seeds: list = []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        return super().reset(seed=seed, options=options)


def test_other_episodes_are_recorded_than_were_trained_on(tmp_path):
    run = small.train("PPO", tmp_path / "run", env=Seeded, workers="serial", seed=5)
    looked_at = {None, 0}  # 0 is what an environment is reset with to look at it
    trained, Seeded.seeds[:] = {*Seeded.seeds} - looked_at, []
    run.record(4, seed=5)
    recorded = {*Seeded.seeds} - looked_at
    assert (len(trained), len(recorded)) == (2, 4)
    assert not trained & recorded


def test_recording_on_the_host(tmp_path):
    run = small.train("PPO", tmp_path / "run", env=small.FiveSteps, workers="serial")
    dataset = run.record(10)
    assert dataset.path == run.path / "dataset"
    np.testing.assert_array_equal(dataset.lengths, [5] * 10)
    batch = dataset.fit(run.spec)[np.arange(50)]
    np.testing.assert_array_equal(batch.obs[:, 0], list(range(5)) * 10)
    np.testing.assert_array_equal(batch.next_obs[:, 0], list(range(1, 6)) * 10)


def test_continuous_actions_are_recorded_as_the_environment_took_them(tmp_path):
    run = small.train("SAC", tmp_path / "run")
    dataset = run.record(2, explore=True)
    assert (np.abs(dataset.actions) <= run.env.action_space.high).all()
    assert np.abs(dataset.actions).max() > 1  # Pendulum's torque goes to 2


# --- learning ---------------------------------------------------------------------------------------------------------


def test_ten_expert_episodes_are_enough_for_cartpole(expert, tmp_path):
    dataset = expert.record(10, tmp_path / "data")
    run = td.train(td.BC(), "CartPole-v1", 3_000, dataset=dataset, seeds=4, out=tmp_path / "run", progress=False)
    assert min(run.evaluate(50).per_seed) >= 475
    assert len(run.metrics()["steps"]) == 20
    assert run.metrics()["rollout/ep_rew_mean"][-1].min() >= 475


@pytest.mark.parametrize("bug", ["actions of other states", "one action for all"])
def test_bugs_do_not_clone(bug, expert, tmp_path, monkeypatch):
    dataset = expert.record(10, tmp_path / "data")
    update = td.BC.update
    wrong = {
        "actions of other states": lambda b: b._replace(action=b.action[::-1]),
        "one action for all": lambda b: b._replace(action=b.action * 0),
    }[bug]
    monkeypatch.setattr(td.BC, "update", lambda self, state, batch, key: update(self, state, wrong(batch), key))
    run = td.train(
        td.BC(), "CartPole-v1", 1_000, dataset=dataset, out=tmp_path / "run", log_every=1_000, progress=False
    )
    assert run.evaluate(20).mean < 475


def test_a_gaussian_is_fitted_by_maximum_likelihood(tmp_path):
    """Of actions with mean 0.5 and deviation 0.2, whatever the observation: SciPy's estimate is the oracle."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    actions = rng.normal(0.5, 0.2, (2000, 1)).astype(np.float32)
    obs = np.zeros((2001, 3), np.float32)
    last = np.arange(2000) == 1999
    data = write(tmp_path / "data", [Episode(obs, actions, np.zeros(2000), last, last & False)])
    algorithm = td.BC(entropy_coefficient=0.0, learning_rate=1e-2, anneal_learning_rate=True, batch_size=512)
    run = td.train(algorithm, "Pendulum-v1", 1_000, dataset=data, out=tmp_path / "run", progress=False)
    head = jax.tree.map(lambda x: x[0], run.actors()).head
    mean, deviation = norm.fit(actions)
    assert float(run.agent().act(np.zeros(3, np.float32))[0]) == pytest.approx(mean, abs=0.02)
    assert float(np.exp(head.log_std[0]) * 2) == pytest.approx(deviation, rel=0.05)  # in units of half the range, 2


def test_others_learn_from_datasets_too(expert, tmp_path):
    """DQN on what an exploring agent did: Q-values of a pole that is kept up."""
    dataset = expert.record(10, tmp_path / "data", explore=True)
    run = td.train(small.DQN, "CartPole-v1", 50, dataset=dataset, out=tmp_path / "run", progress=False)
    assert (run.status["state"], run.status["steps"]) == ("finished", 50)
    assert np.isfinite(run.metrics()["train/td_error"]).all()
    sac = small.train("SAC", tmp_path / "sac")
    again = td.train(small.SAC, "Pendulum-v1", 20, dataset=sac.record(2), out=tmp_path / "off", progress=False)
    assert again.status["steps"] == 20


def test_transitions_need_an_environment(tmp_path):
    dataset = Dataset(write(tmp_path / "data", episodes()))
    with pytest.raises(td.ConfigError, match=r"dataset\.fit\(spec\)"):
        _ = dataset[np.arange(2)]


def test_nothing_is_played_for_a_folder_that_is_there(expert, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr("thorndike.runs.record.record", None)
    with pytest.raises(td.ConfigError, match="exists already"):
        expert.record(5, tmp_path / "data")


def test_seeds_chunks_and_resuming_do_not_change_the_result(tmp_path, monkeypatch):
    data = write(
        tmp_path / "data",
        [e._replace(observations=np.tile(e.observations, 2), actions=e.actions - 5) for e in episodes()],
    )
    train = lambda name, **more: td.train(  # noqa: E731
        BC, "CartPole-v1", 120, dataset=data, out=tmp_path / name, log_every=40, progress=False, **more
    )
    whole = train("whole")
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    assert small.differing(small.arrays(train("steps")), small.arrays(whole)) == []
    small.interrupt(monkeypatch, 40)
    with pytest.raises(KeyboardInterrupt):
        train("stopped")
    assert td.open_run(tmp_path / "stopped").status["steps"] == 40
    resumed = td.resume(tmp_path / "stopped", progress=False)
    assert small.differing(small.arrays(resumed), small.arrays(whole)) == []
    both, other = train("both", seeds=2), train("other", seed=1)
    for name, x in small.arrays(other).items():
        if name.startswith(".agent.policy"):
            np.testing.assert_allclose(small.arrays(both)[name][1], x[0], atol=1e-5)


def test_the_dataset_of_a_run_may_not_disappear(tmp_path):
    data = write(
        tmp_path / "data",
        [e._replace(observations=np.tile(e.observations, 2), actions=e.actions - 5) for e in episodes()],
    )
    run = td.train(BC, "CartPole-v1", 20, dataset=data, out=tmp_path / "run", progress=False)
    shutil.rmtree(data)
    assert run.evaluate(2).mean > 0
    with pytest.raises(td.ConfigError, match="there is no dataset at"):
        td.resume(run.path, 40, progress=False)


def test_the_command_line(expert, tmp_path, capsys):
    data = tmp_path / "data"
    assert main(["record", str(expert.path), "--episodes", "2", "--out", str(data)]) == 0
    assert "2 episodes, 1000 steps, return 500.0" in capsys.readouterr().out
    argv = ["train", "bc", "CartPole-v1", "--dataset", str(data), "--steps", "40", "--out", str(tmp_path / "run")]
    assert main(argv) == 0
    assert main(["train", "bc", "CartPole-v1"]) == 2
    assert "--dataset DIR" in capsys.readouterr().err
