"""Learning from recorded episodes where there is no environment to step in: only its spaces are known."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import thorndike as td
from thorndike.cli import main

SPACES = Box(-10, 10, (3,), np.float32), Discrete(2)
BC = td.BC(torso=td.Torso(widths=(16,)), batch_size=32, learning_rate=1e-2)
DQN = td.DQN(torso=td.Torso(widths=(8,)), replay=td.Uniform(capacity=100, batch_size=8, warmup=10))


def episodes(masks=False, image=False):
    """In 5 episodes of 20 steps action 1 is taken where the first number is positive."""
    rng, found = np.random.default_rng(0), []
    for _ in range(5):
        seen = rng.normal(size=(21, 3)).astype(np.float32)
        action = (seen[:-1, 0] > 0).astype(np.int64)
        episode = td.Episode(seen, action, np.ones(20), np.zeros(20, bool), np.arange(20) == 19)
        if image:
            episode = episode._replace(observations={"camera": np.zeros((21, 40, 40, 3), np.uint8), "v": seen})
        found.append(episode._replace(masks=np.ones((21, 2), bool)) if masks else episode)
    return found


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    return td.Dataset.write(tmp_path_factory.mktemp("log") / "hospital", episodes())


@pytest.fixture(scope="module")
def run(hospital, tmp_path_factory):
    return td.train(BC, SPACES, 300, dataset=hospital, out=tmp_path_factory.mktemp("run") / "run", progress=False)


def test_spaces_are_enough_to_learn_and_to_act(run, tmp_path):
    assert run.status["state"] == "finished"
    assert run.status["return_mean"] == [None]
    metrics = run.metrics()
    assert np.isnan(metrics["rollout/ep_rew_mean"]).all()
    assert metrics["train/loss"][-1, 0] < 0.3 < metrics["train/loss"][0, 0]
    seen = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    path = tmp_path / "agent.td"
    run.agent().save(path)
    right = td.load(path).act(seen) == (seen[:, 0] > 0)
    assert right.mean() > 0.9


def test_the_run_is_opened_and_goes_on_without_an_environment(run):
    again = td.open_run(run.path)
    assert (again.spec.observation, again.spec.action) == SPACES
    described = json.loads((run.path / "run.json").read_text())["environment"]
    assert (described["id"], described["masked"]) == ("hospital", False)
    assert "BC on hospital" in repr(again)
    assert td.resume(run.path, 320, progress=False).status["steps"] == 320


@pytest.mark.parametrize("use", ["evaluate", "record", "watch"])
def test_there_is_nothing_to_play_in(use, run, tmp_path):
    where = () if use == "evaluate" else (1, tmp_path / "data") if use == "record" else (tmp_path / "film.gif",)
    with pytest.raises(td.ConfigError, match=r"nothing to play in|hospital cannot be filmed: it draws no frames"):
        getattr(td.open_run(run.path), use)(*where)


def test_but_in_an_environment_that_is_given(run):
    class Ward(gymnasium.Env):
        observation_space, action_space = SPACES

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.now = self.np_random.normal(size=3).astype(np.float32)
            return self.now, {}

        def step(self, action):
            return self.now, float(action == (self.now[0] > 0)), True, False, {}

    assert td.open_run(run.path, env=Ward).evaluate(40).mean > 0.8


def test_masks_of_the_dataset_are_the_agents(tmp_path):
    data = td.Dataset.write(tmp_path / "data", episodes(masks=True))
    run = td.train(DQN, SPACES, 20, dataset=data, out=tmp_path / "run", progress=False)
    assert td.open_run(run.path).spec.masked
    assert run.agent().act(np.zeros(3, np.float32), mask=[False, True]) == 1


def test_observations_of_parts(tmp_path):
    space = Dict({"camera": Box(0, 255, (40, 40, 3), np.uint8), "v": SPACES[0]})
    data = td.Dataset.write(tmp_path / "data", episodes(image=True))
    td.train(BC, (space, SPACES[1]), 20, dataset=data, out=tmp_path / "run", progress=False)
    assert td.open_run(tmp_path / "run").spec.observation == space


def test_the_command_line_goes_on_with_it(run, capsys):
    assert main(["resume", str(run.path), "--steps", "340"]) == 0
    told = capsys.readouterr().out
    assert "return" not in told
    assert "thorndike evaluate" not in told
    assert main(["evaluate", str(run.path)]) == 2
    assert "nothing to play in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("algorithm", "env", "error", "says"),
    [
        (td.PPO(), SPACES, td.ConfigError, "spaces alone are enough only to learn from a dataset"),
        (DQN, SPACES, td.ConfigError, "spaces alone are enough only to learn from a dataset"),
        (BC, SPACES, td.ConfigError, "BC learns from a dataset: give one"),
        (BC, None, td.IncompatibleError, r"to learn from a dataset without any, the pair of its spaces"),
        (BC, (SPACES[0], 2), td.IncompatibleError, "is not an environment"),
    ],
)
def test_what_is_refused(algorithm, env, error, says, tmp_path):
    with pytest.raises(error, match=says):
        td.train(algorithm, env, 20, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_spaces_that_are_not_those_of_the_dataset(hospital, tmp_path):
    with pytest.raises(td.ConfigError, match=r"has observations of shape \[\(3,\)\], the environment \[\(4,\)\]"):
        td.train(BC, (Box(-1, 1, (4,)), Discrete(2)), 20, dataset=hospital, out=tmp_path / "run")
