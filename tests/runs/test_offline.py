"""Recording episodes, and learning from them."""

from __future__ import annotations

import shutil

import gymnasium
import jax
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Discrete
from test_datasets import episodes

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.offline import BLOCK, _draw
from thorndike.memory.dataset import Dataset, Episode, write
from thorndike.runs.training import loop
from thorndike.runs.training.evaluation import SEEDS

BC = td.BC(torso=td.Torso(widths=(8,)), batch_size=16)


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    """A run whose agent balances the pole."""
    return td.train("ppo", "CartPole-v1", 100_000, out=tmp_path_factory.mktemp("data") / "expert", progress=False)


@pytest.fixture(scope="module")
def ten(expert, tmp_path_factory):
    """Ten of its episodes."""
    return expert.record(10, tmp_path_factory.mktemp("data") / "ten")


# --- recording --------------------------------------------------------------------------------------------------------


def test_recorded_episodes_are_the_environments(expert, tmp_path):
    """Played again by Gymnasium from the same states, every recorded step gives the recorded next observation."""
    dataset = expert.record(3, tmp_path / "data", explore=True)
    assert len(dataset.lengths) == 3
    env = gymnasium.make("CartPole-v1").unwrapped
    batch = dataset.fit(expert.spec)[np.arange(len(dataset))]
    ends = np.cumsum(dataset.lengths) - 1
    for t in sorted({*range(0, len(dataset), 7), *ends.tolist()}):
        env.reset(seed=0)
        env.state = tuple(batch.obs[t].astype(float))
        obs, reward, terminated, _, _ = env.step(int(batch.action[t]))
        np.testing.assert_allclose(obs, batch.next_obs[t], atol=1e-5)
        assert (reward, terminated) == (batch.reward[t], batch.terminated[t])
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


def odd(obs):
    """CartPole's observations in other units, from another origin."""
    return obs * np.float32([1e3, 1e-3, 1e3, 1e-3]) + np.float32([1e4, -1, 0, 2])


@td.config
class OddUnits:
    """CartPole, so observed."""

    env: td.CartPole = td.CartPole()
    max_steps: int = 500

    @property
    def observation_space(self) -> Box:
        return Box(-np.inf, np.inf, (4,), np.float32)

    @property
    def action_space(self) -> Discrete:
        return self.env.action_space

    def reset(self, key):
        step = self.env.reset(key)
        return step._replace(obs=odd(step.obs))

    def step(self, state, action, key):
        step = self.env.step(state, action, key)
        return step._replace(obs=odd(step.obs))


# --- learning ---------------------------------------------------------------------------------------------------------


def test_ten_expert_episodes_are_enough_for_cartpole(ten, tmp_path):
    run = td.train(td.BC(), "CartPole-v1", 3_000, dataset=ten, seeds=4, out=tmp_path / "run", progress=False)
    assert min(run.evaluate(50).per_run) >= 475
    assert len(run.metrics()["steps"]) == 20
    assert run.metrics()["rollout/ep_rew_mean"][-1].min() >= 475


def test_each_run_is_evaluated_as_itself(ten, tmp_path):
    """What is logged while learning is what the run's agents then do."""
    algorithm = td.BC(torso=td.Torso(widths=(8,)), batch_size=16)
    run = td.train(algorithm, "CartPole-v1", 8, dataset=ten, seeds=3, out=tmp_path / "run", progress=False)
    logged, played = run.metrics()["rollout/ep_rew_mean"][-1], run.evaluate(20, seed=SEEDS + 8).per_run
    assert logged.tolist() == pytest.approx(played, rel=1e-5)
    assert len(set(played)) == 3


@pytest.mark.parametrize("anneal", [True, False])
def test_schedules_run_over_the_batches(anneal, ten, tmp_path):
    rate = td.Linear(1e-3) if anneal else 1e-3
    algorithm = td.BC(torso=td.Torso(widths=(8,)), batch_size=16, learning_rate=rate)
    run = td.train(algorithm, "CartPole-v1", 100, dataset=ten, log_every=5, out=tmp_path / "run", progress=False)
    size = run.metrics()["train/update_norm"][:, 0]
    assert (size[-1] < 0.1 * size[0]) == anneal


def test_observations_in_odd_units(ten, tmp_path):
    """Cloned where they are normalised, not where they are taken as is. A file of the agent keeps their statistics."""
    there = np.split(odd(ten.observations[0]), np.cumsum(ten.lengths + 1)[:-1])
    steps = [
        np.split(x, np.cumsum(ten.lengths)[:-1]) for x in (ten.actions, ten.rewards, ten.terminations, ten.truncations)
    ]
    data = write(tmp_path / "odd", [Episode(*one) for one in zip(there, *steps)])
    returns = {}
    for normalise in (True, False):
        algorithm = td.BC(normalize_observation=normalise)
        out = tmp_path / str(normalise)
        run = td.train(algorithm, OddUnits(), 3_000, dataset=data, out=out, log_every=3_000, progress=False)
        returns[normalise] = run.evaluate(20).mean
        loaded = td.load(run.agent().save(tmp_path / f"{normalise}.td"))
        np.testing.assert_array_equal(loaded.act(there[0]), run.agent().act(there[0]))
    assert returns[True] >= 475 > 300 > returns[False]


@pytest.mark.parametrize("bug", ["actions of other states", "one action for all"])
def test_bugs_do_not_clone(bug, ten, tmp_path, monkeypatch):
    update = td.BC.update
    wrong = {
        "actions of other states": lambda b: b._replace(action=b.action[::-1]),
        "one action for all": lambda b: b._replace(action=b.action * 0),
    }[bug]
    monkeypatch.setattr(td.BC, "update", lambda self, state, batch, key: update(self, state, wrong(batch), key))
    run = td.train(td.BC(), "CartPole-v1", 1_000, dataset=ten, out=tmp_path / "run", log_every=1_000, progress=False)
    assert run.evaluate(20).mean < 475


def test_a_gaussian_is_fitted_by_maximum_likelihood(tmp_path):
    """Of actions with mean 0.5 and deviation 0.2, whatever the observation: SciPy's estimate is the oracle."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    actions = rng.normal(0.5, 0.2, (2000, 1)).astype(np.float32)
    obs = np.zeros((2001, 3), np.float32)
    last = np.arange(2000) == 1999
    data = write(tmp_path / "data", [Episode(obs, actions, np.zeros(2000), last, last & False)])
    algorithm = td.BC(entropy_coefficient=0.0, learning_rate=td.Linear(1e-2), batch_size=512)
    run = td.train(algorithm, "Pendulum-v1", 1_000, dataset=data, out=tmp_path / "run", progress=False)
    head = jax.tree.map(lambda x: x[0], run.actors()).policy.head
    mean, deviation = norm.fit(actions)
    assert float(run.agent().act(np.zeros(3, np.float32))[0]) == pytest.approx(mean, abs=0.02)
    assert float(np.exp(head.log_std[0]) * 2) == pytest.approx(deviation, rel=0.05)  # in units of half the range, 2


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_entropy_bonus_makes_the_policy_less_certain(weight, tmp_path):
    """Of a dataset in which nine of ten actions are 1: SciPy's maximum of E[log π] + weight H(π) is the oracle."""
    from scipy.optimize import minimize_scalar

    actions, last = (np.arange(2000) % 10 != 0).astype(np.int64), np.arange(2000) == 1999
    data = write(tmp_path / "data", [Episode(np.zeros((2001, 4)), actions, np.zeros(2000), last, last & False)])
    algorithm = td.BC(entropy_coefficient=weight, learning_rate=td.Linear(1e-2), batch_size=512)
    run = td.train(algorithm, "CartPole-v1", 500, dataset=data, out=tmp_path / "run", progress=False)
    logits = np.asarray(jax.tree.map(lambda x: x[0], run.actors()).policy(np.zeros((1, 4), np.float32)).logits)[0]
    likelihood = lambda p: 0.9 * np.log(p) + 0.1 * np.log(1 - p)  # noqa: E731
    entropy = lambda p: -p * np.log(p) - (1 - p) * np.log(1 - p)  # noqa: E731
    best = minimize_scalar(lambda p: -likelihood(p) - weight * entropy(p), bounds=(0.01, 0.99), method="bounded").x
    assert 1 / (1 + np.exp(logits[0] - logits[1])) == pytest.approx(best, abs=0.02)


def test_every_step_of_a_dataset_is_drawn_as_often_as_any_other():
    from scipy.stats import chisquare

    _, index, _ = _draw(50, 400, jax.random.split(jax.random.key(0), 2))
    assert index.shape == (2, BLOCK, 400)
    assert chisquare(np.bincount(np.ravel(index), minlength=50)).pvalue > 0.001


def test_others_learn_from_datasets_too(expert, tmp_path):
    """DQN on what an exploring agent did: Q-values of a pole that is kept up."""
    dataset = expert.record(10, tmp_path / "data", explore=True)
    run = td.train(small.DQN, "CartPole-v1", 50, dataset=dataset, out=tmp_path / "run", progress=False)
    assert (run.status["state"], run.status["steps"]) == ("finished", 50)
    assert np.isfinite(run.metrics()["train/td_error"]).all()
    sac = small.train("SAC", tmp_path / "sac")
    again = td.train(small.SAC, "Pendulum-v1", 20, dataset=sac.record(2), out=tmp_path / "off", progress=False)
    assert again.status["steps"] == 20


def test_an_update_that_changes_the_kind_of_its_state_is_refused(ten, tmp_path, monkeypatch):
    update = td.BC.update

    def half(self, state, batch, key):
        state, metrics = update(self, state, batch, key)
        return state._replace(clock=state.clock._replace(steps=state.clock.steps + 0.5)), metrics

    monkeypatch.setattr(td.BC, "update", half)
    with pytest.raises(td.ConfigError, match=r"BC.update hands on .*float32.. where int32.. was due, at .*steps"):
        td.train(BC, "CartPole-v1", 20, dataset=ten, out=tmp_path / "run")


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])  # the last is infinite in float32
@pytest.mark.parametrize("column", ["rewards", "observations"])
def test_what_is_not_finite_is_found_in_its_episode(column, value, tmp_path):
    steps = lambda: (np.zeros(8, int), np.ones(8), np.arange(8) == 7, np.zeros(8, bool))  # noqa: E731
    found = [Episode(np.zeros((9, 4)), *steps()) for _ in range(3)]
    getattr(found[1], column)[-1] = value
    row = 7 if column == "rewards" else 8
    with pytest.raises(td.ConfigError, match=f"data has {column} that are not finite: row {row} of episode 1"):
        td.train(BC, "CartPole-v1", 20, dataset=write(tmp_path / "data", found), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("row", [3, 8])  # 8 is that after the last step
def test_observations_outside_of_the_space(row, tmp_path, capfd):
    """A cart far beyond its track, in one row of the dataset, is said."""
    found = [Episode(np.zeros((9, 4), np.float32), np.zeros(8, int), np.ones(8), np.arange(8) == 7, np.zeros(8, bool))]
    found[0].observations[row, 0] = 500.0
    td.train(BC, "CartPole-v1", 20, dataset=write(tmp_path / "data", found), out=tmp_path / "run", progress=False)
    assert "warning: an observation was as large as 500, outside of its space" in capfd.readouterr().err


def test_transitions_need_an_environment(tmp_path):
    dataset = Dataset(write(tmp_path / "data", episodes()))
    with pytest.raises(td.ConfigError, match=r"dataset\.fit\(spec\)"):
        _ = dataset[np.arange(2)]


def test_nothing_is_played_for_a_folder_that_is_there(expert, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr("thorndike.runs.results.record.record", None)
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


def test_a_run_does_not_go_on_with_another_dataset(tmp_path):
    """One of the same shapes, at the same place; the same one, written again, is none."""

    def fill(bonus):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        wide = [e._replace(observations=np.tile(e.observations, 2), actions=e.actions - 5) for e in episodes()]
        return write(tmp_path / "data", [e._replace(rewards=e.rewards + bonus) for e in wide])

    run = td.train(BC, "CartPole-v1", 20, dataset=fill(0), out=tmp_path / "run", progress=False)
    assert run.info["dataset_digest"] == Dataset(tmp_path / "data").digest()
    fill(1)
    with pytest.raises(td.ConfigError, match="data has changed since this run began to learn from it"):
        td.resume(run.path, 40, progress=False)
    fill(0)
    assert td.resume(run.path, 40, progress=False).status["steps"] == 40


def test_the_command_line(expert, tmp_path, capsys):
    data = tmp_path / "data"
    assert main(["record", str(expert.path), "--episodes", "2", "--out", str(data)]) == 0
    assert "2 episodes, 1000 steps, return 500.0" in capsys.readouterr().out
    argv = ["train", "bc", "CartPole-v1", "--dataset", str(data), "--steps", "40", "--out", str(tmp_path / "run")]
    assert main(argv) == 0
    assert main(["train", "bc", "CartPole-v1"]) == 2
    assert "--dataset DIR" in capsys.readouterr().err
