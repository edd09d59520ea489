"""`td.train`: the directory, seeds and sweeps."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from functools import partial

import gymnasium
import jax
import numpy as np
import pytest
import small_runs as small
from gymnasium.wrappers import RescaleAction, TimeLimit, TransformReward
from PIL import Image

import thorndike as td
from thorndike.cli import main
from thorndike.errors import (
    CheckpointError,
    ConfigError,
)
from thorndike.runs.storage import checkpoint

# --- the directory ----------------------------------------------------------------------------------------------------


def test_run_json_describes_the_run(ppo):
    info = json.loads((ppo.path / "run.json").read_text())
    assert {k: info[k] for k in ("format", "steps", "seed", "seeds", "log_every", "checkpoint_every", "keep")} == {
        "format": 1, "steps": 320, "seed": 0, "seeds": 1, "log_every": 2, "checkpoint_every": 1e9, "keep": 3,
    }  # fmt: skip
    assert info["environment"]["id"] == "CartPole-v1"
    assert info["algorithm"]["type"] == "PPO"
    torso = {"type": "Torso", "widths": [4], "activation": None, "init": "uniform"}
    assert torso.items() <= info["algorithm"]["torso"].items()
    assert {"thorndike", "jax", "numpy", "python"} <= set(info["versions"])
    assert td.open_run(ppo.path).algorithm == small.PPO


def test_status_json_says_where_the_run_is(ppo):
    status = json.loads((ppo.path / "status.json").read_text())
    assert status == ppo.status
    assert (status["state"], status["steps"], len(status["return_mean"])) == ("finished", 320, 1)
    assert status["return_mean"][0] == pytest.approx(small.rows(ppo)[-1]["rollout/ep_rew_mean"])
    assert status["steps_per_second"] == pytest.approx(320 / status["seconds"], rel=0.05)
    assert "finished at 320 steps" in repr(ppo)


def test_the_rate_leaves_out_steps_whose_time_went_into_compilation(tmp_path, capfd):
    """On the host the first rollout, of 16 steps, also compiles: it counts neither as time nor as steps."""
    host = {"env": small.FiveSteps, "workers": "serial", "progress": True}
    run = small.train("PPO", tmp_path / "run", **host)
    assert run.status["steps_per_second"] == pytest.approx(304 / run.status["seconds"], rel=0.05)
    _, first, *_ = capfd.readouterr().err.splitlines()
    assert "steps/s" in first
    assert small.train("PPO", tmp_path / "one", steps=16, **host).status["steps_per_second"] is None
    assert "steps/s" not in capfd.readouterr().err
    (row,) = small.rows(td.open_run(tmp_path / "one", env=small.FiveSteps))
    assert row["steps"] == 16
    assert td.resume(tmp_path / "one", 32, env=small.FiveSteps, progress=False).status["steps"] == 32


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_metrics_have_the_documented_tags_at_the_documented_interval(name, runs):
    run = runs(name)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in lines] == list(range(small.LOG_EVERY, small.STEPS + 1, small.LOG_EVERY))
    for row in lines:
        warm = name != "PPO" and row["steps"] <= 32
        expected = small.TAGS[""] if warm else small.TAGS[""] | small.TAGS[name]
        assert expected <= set(row)
        assert warm == (not any(tag.startswith("train/") for tag in row))
        assert all(value is None or isinstance(value, (int, float)) for value in row.values())
    columns = run.metrics()
    assert columns["steps"].shape == (10,)
    assert columns["rollout/episodes"].shape == (10, 1)
    assert (np.diff(columns["rollout/episodes"][:, 0]) >= 0).all()
    assert (np.diff(columns["time/seconds"][:, 0]) > 0).all()


def test_the_log_interval_is_rounded_to_rollouts_and_has_a_default(tmp_path, no_training):
    def log_every(**kwargs) -> int:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        return td.train(small.PPO, "CartPole-v1", out=path, progress=False, **kwargs).info["log_every"]

    assert log_every(steps=16 * 200 * 7) == 7  # a 200th
    assert log_every(steps=160) == 1
    assert log_every(steps=1600, log_every=40) == 2
    assert log_every(steps=1600, log_every=1) == 1


def test_steps_are_rounded_up_to_whole_rollouts(tmp_path, no_training):
    assert td.train(small.PPO, "CartPole-v1", 161, out=tmp_path / "a", progress=False).info["steps"] == 176
    assert td.train(small.PPO, "CartPole-v1", 176, out=tmp_path / "b", progress=False).info["steps"] == 176
    assert td.train(small.PPO, "CartPole-v1", out=tmp_path / "c", progress=False).info["steps"] == 100_000


def test_the_default_directory_is_new_and_named_after_the_pair(tmp_path, monkeypatch, no_training):
    monkeypatch.chdir(tmp_path)
    paths = [
        td.train(small.PPO, env, 16, progress=False).path
        for env in ("CartPole-v1", "CartPole-v1", "gymnasium/CartPole-v1", small.Broken())
    ]
    names = ["CartPole-v1_ppo_1", "CartPole-v1_ppo_2", "gymnasium-CartPole-v1_ppo_1", "Broken_ppo_1"]
    assert paths == [tmp_path / "runs" / name for name in names]
    assert all((tmp_path / path / "run.json").is_file() for path in paths)


class Own(small.FiveSteps):
    """Without a registered id."""


@pytest.mark.parametrize(("env", "id", "folder"), [
    (Own, "Own", "Own"),
    (lambda: Own(), "Own", "Own"),
    (Own(), "Own", "Own"),
    (lambda: gymnasium.make("CartPole-v1"), "CartPole-v1", "CartPole-v1"),
    (lambda: TransformReward(gymnasium.make("CartPole-v1"), float), "TransformReward(CartPole-v1)",
     "TransformReward-CartPole-v1"),
    (partial(lambda n: TimeLimit(RescaleAction(Own(), 0, 1) if n else TransformReward(Own(), float), 5), 0),
     "TransformReward(Own)", "TransformReward-Own"),
])  # fmt: skip
def test_functions_and_wrapped_environments_are_named_after_what_they_make(
    env, id, folder, tmp_path, monkeypatch, no_training
):
    monkeypatch.chdir(tmp_path)
    run = td.train(small.PPO, env, 16, progress=False)
    assert run.info["environment"]["id"] == id
    assert run.path == tmp_path / "runs" / f"{folder}_ppo_1"


def test_a_name_is_kept_and_is_the_directorys(tmp_path, monkeypatch, no_training):
    monkeypatch.chdir(tmp_path)
    runs = [
        td.train(small.PPO, "CartPole-v1", 16, name=name, progress=False) for name in ("a first/try!", "a first/try!")
    ]
    assert [run.path.name for run in runs] == ["a-first-try", "a-first-try_2"]
    assert runs[0].info["name"] == "a first/try!"
    elsewhere = td.train(small.PPO, "CartPole-v1", 16, name="..", out=tmp_path / "out", progress=False)
    assert (elsewhere.path, elsewhere.info["name"]) == (tmp_path / "out", "..")
    assert td.train(small.PPO, "CartPole-v1", 16, name="../..", progress=False).path == tmp_path / "runs" / "run"
    for wrong in ("", " ", "a\nb", 3, "x" * 101):
        with pytest.raises(ConfigError, match="name must be a text of 1 to 100 characters"):
            td.train(small.PPO, "CartPole-v1", 16, name=wrong, progress=False)


def test_a_name_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo", "CartPole-v1", *small.PPO_FLAGS, "--steps", "16", "--name", "mine"]) == 0
    assert td.open_run("runs/mine").info["name"] == "mine"


def test_a_directory_that_holds_a_run_is_refused(ppo, tmp_path, no_training):
    before = (ppo.path / "run.json").read_bytes()
    with pytest.raises(ConfigError, match="holds a run already: resume it, or choose another"):
        td.train(small.PPO, "CartPole-v1", 16, out=ppo.path, progress=False)
    assert (ppo.path / "run.json").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot make the directory .*file"):
        td.train(small.PPO, "CartPole-v1", 16, out=tmp_path / "file", progress=False)


def test_a_name_takes_the_preset_and_a_value_does_not(tmp_path, no_training):
    named = td.train("ppo", "CartPole-v1", out=tmp_path / "name", progress=False)
    assert named.info["steps"] == 100_352  # the preset's 100,000 in rollouts of 8 x 128
    named = td.train("dqn", "CartPole-v1", out=tmp_path / "dqn", progress=False)
    assert (named.algorithm.discount, named.algorithm.target_period) == (0.98, 50)
    assert td.train("PPO", "CartPole-v1", 999, out=tmp_path / "s", progress=False).info["steps"] == 1024
    for i, algorithm in enumerate([td.PPO(), td.PPO]):
        assert td.train(algorithm, "CartPole-v1", out=tmp_path / f"v{i}", progress=False).algorithm == td.PPO()
    assert td.train("ppo", "Acrobot-v1", out=tmp_path / "none", progress=False).algorithm == td.PPO()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "5", "null", "{}", '{"format": 1}', '{"format": 99}', "\x00\xff", "seed", "algorithm"]
)
def test_an_odd_run_json_is_a_checkpoint_error(content, ppo, tmp_path):
    info = dict(ppo.info)
    if content in info:
        content = json.dumps({**info, content: "x"})
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        td.open_run(tmp_path)


@pytest.mark.parametrize("change", [[], {}, {"iterations": 20}, "timed"])
def test_an_odd_state_behind_a_hash_that_is_right_is_a_checkpoint_error(change, ppo, tmp_path):
    shutil.copytree(ppo.path, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    state = json.loads((newest / checkpoint.STATE).read_text())
    state = {**state, change: None} if isinstance(change, str) else change
    (newest / checkpoint.STATE).write_text(json.dumps(state))
    files = (checkpoint.ARRAYS, checkpoint.STATE)
    manifest = {name: hashlib.sha256((newest / name).read_bytes()).hexdigest() for name in files}
    (newest / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="lacks one of iterations"):
        td.resume(tmp_path / "run", progress=False)


def test_a_run_in_a_module_of_its_own_is_opened_when_that_is_given(tmp_path, monkeypatch):
    """Opening a run imports nothing that its directory names."""
    (tmp_path / "own_module.py").write_text(
        "import gymnasium\ngymnasium.register('Own-v0', entry_point='gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    how = {"env": "own_module:Own-v0", "env_kwargs": {"sutton_barto_reward": True}}
    run = small.train("PPO", tmp_path / "run", workers="serial", steps=32, **how)
    path, said = run.path, "--env own_module:Own-v0"
    assert run.journal.shell.endswith(said)
    assert run.journal.resume_with.endswith(said)
    assert td.open_run(path).evaluate(1).returns.size == 1  # it is imported already
    monkeypatch.delitem(sys.modules, "own_module")
    with pytest.raises(ConfigError, match="opening a run imports none: give it, env='own_module:Own-v0'"):
        td.open_run(path).evaluate(1)
    assert "own_module" not in sys.modules
    assert main(["evaluate", str(path)]) == 2
    for command in (["evaluate", "--episodes", "1"], ["record", "--episodes", "1"], ["resume", "--steps", "48"]):
        monkeypatch.delitem(sys.modules, "own_module", raising=False)
        assert main([command[0], str(path), *command[1:], "--env", "own_module:Own-v0"]) == 0
    monkeypatch.delitem(sys.modules, "own_module")
    again = td.open_run(path, env="own_module:Own-v0")
    assert again.evaluate(1).returns == -1  # a reward of its keyword: -1 where the pole falls, else 0


def test_a_missing_run_is_a_checkpoint_error(tmp_path):
    for call in (td.open_run, td.resume):
        with pytest.raises(CheckpointError, match=r"there is no run at .*: no run.json in it"):
            call(tmp_path / "nowhere")


def test_training_is_quiet_unless_asked(ppo, tmp_path, capfd):
    small.train("PPO", tmp_path / "quiet", steps=small.STEPS)
    assert capfd.readouterr() == ("", "")
    small.train("PPO", tmp_path / "loud", steps=small.STEPS, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "320 steps" in err
    assert "steps/s" in err


def test_arguments_of_a_built_in_environment_are_in_the_directory(tmp_path, no_training):
    grid = ("S..", "...", "..G")
    run = td.train("q-learning", "GridWorld", 16, env_kwargs={"map": grid}, out=tmp_path / "run", progress=False)
    assert td.open_run(run.path).env == td.GridWorld(map=grid)


# --- seeds and sweeps -------------------------------------------------------------------------------------------------


def assert_close(many: td.Run, index: int, one: td.Run) -> None:
    a, b = small.arrays(many), small.arrays(one)
    assert set(a) == set(b)
    names = [name for name in a if name.startswith(".agent.params")]
    assert len(names) > 4
    for name in names:
        np.testing.assert_allclose(a[name][index], b[name][0], rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_same_seed_gives_the_same_bits_and_another_gives_others(ppo, tmp_path):
    again = small.train("PPO", tmp_path / "again")
    assert small.differing(small.arrays(again), small.arrays(ppo)) == []
    assert small.rows(again) == small.rows(ppo)
    other = small.train("PPO", tmp_path / "other", seed=1)
    different = small.differing(small.arrays(other), small.arrays(ppo))
    assert {".key", ".agent.params.policy.torso.mlp.layers[0].weight", ".episodes.returns"} <= set(different)


def test_seeds_side_by_side_are_what_they_are_alone(ppo, tmp_path):
    many = small.train("PPO", tmp_path / "many", seeds=3, log_every=160)
    assert many.members() == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    alone = [ppo, *(small.train("PPO", tmp_path / str(seed), seed=seed) for seed in (1, 2))]
    for i, run in enumerate(alone):
        assert_close(many, i, run)
    last, single = small.rows(many)[-1], [small.rows(run)[-1] for run in alone]
    assert last["rollout/episodes"] == [row["rollout/episodes"] for row in single]
    np.testing.assert_allclose(last["rollout/ep_rew_mean"], [row["rollout/ep_rew_mean"] for row in single])
    assert all(isinstance(last[tag], list) and len(last[tag]) == 3 for tag in small.TAGS["PPO"])
    assert many.metrics()["rollout/ep_rew_mean"].shape == (2, 3)
    assert len(many.status["return_mean"]) == 3

    result = many.evaluate(4)
    assert result.returns.shape == result.lengths.shape == (3, 4)
    assert result.per_run == [pytest.approx(x) for x in result.returns.mean(1)]
    obs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    for seed, run in enumerate(alone):
        assert np.array_equal(many.agent(seed).act(obs), run.agent().act(obs))
    with pytest.raises(ConfigError, match="seeds 0 to 2, not 3"):
        many.agent(3)
    assert len(Image.open(many.plot(tmp_path / "many.png") and tmp_path / "many.png").size) == 2


def test_seeds_on_the_host_are_what_they_are_alone(tmp_path):
    """Up to the rounding of a batched program: one rollout, before which nothing was rounded."""
    settings = {"algorithm": small.PPO, "env": "gymnasium/CartPole-v1", "steps": 16, "workers": "serial"}
    many = small.train("", tmp_path / "many", seeds=2, **settings)
    alone = small.train("", tmp_path / "alone", seed=1, **settings)
    first, second, single = (jax.tree.leaves(agent.actor) for agent in (many.agent(0), many.agent(1), alone.agent()))
    for a, b in zip(second, single, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(first, single)) > 0.01


def test_a_sweep_is_its_members(tmp_path):
    rates = np.array([1e-3, 3e-2])
    sweep = small.train("PPO", tmp_path / "sweep", algorithm=td.PPO(**{**vars(small.PPO), "learning_rate": rates}),
                        seeds=2, seed=5)  # fmt: skip
    assert [(m["learning_rate"], m["seed"]) for m in sweep.members()] == [
        (pytest.approx(1e-3), 5), (pytest.approx(1e-3), 6), (pytest.approx(3e-2), 5), (pytest.approx(3e-2), 6),
    ]  # fmt: skip
    assert sweep.runs == 4
    for i, member in enumerate(sweep.members()):
        algorithm = td.PPO(**{**vars(small.PPO), "learning_rate": member["learning_rate"]})
        alone = small.train("PPO", tmp_path / str(i), algorithm=algorithm, seed=member["seed"])
        assert_close(sweep, i, alone)
    assert len(td.open_run(sweep.path).evaluate(2).per_run) == 4
    obs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    assert np.array_equal(sweep.agent(6, configuration=1).act(obs), alone.agent().act(obs))
    assert not np.array_equal(
        sweep.agent(6).actor.policy.head.linear.weight, alone.agent().actor.policy.head.linear.weight
    )
    with pytest.raises(ConfigError, match="configurations 0 to 1, not 2"):
        sweep.agent(configuration=2)
