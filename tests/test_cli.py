"""The command line: quick help, JSON for machines, and one clear line and exit code 2 for what cannot work."""

from __future__ import annotations

import dataclasses
import json
import pydoc
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms import entries
from thorndike.cli import main
from thorndike.commands import COMMANDS
from thorndike.configuration import to_json

TINY = ["--num-envs", "2", "--rollout-length", "8", "--minibatch-size", "8", "--epochs", "1", "--torso.widths", "4"]
TINY += ["--torso.init", "uniform", "--no-preset", "--steps", "64"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "q-learning", "GridWorld", "--steps", "256", "--out", str(path)]) == 0  # an episode has 200
    return path


def refused(capsys, *argv: str) -> str:
    """What the command says when it exits with code 2."""
    assert main(list(argv)) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert out == ""
    return err


def one_line(err: str) -> str:
    """The line with the error, the only one but for that about the preset."""
    lines = [line for line in err.splitlines() if not line.startswith(("preset for", "no preset for"))]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


# --- help -------------------------------------------------------------------------------------------------------------

QUICK = """
import sys
from thorndike.cli import main
code = main(sys.argv[1:])
assert code == 0, code
heavy = {"jax", "numpy", "gymnasium", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


def processor_seconds(command: list[str]) -> tuple[float, str]:
    """What a command costs: on a busy machine the clock would measure the others."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_quick_and_leaves_jax_alone(command):
    spent = []
    while len(spent) < 3 and min(spent, default=9.0) >= 0.8:
        taken, text = processor_seconds([sys.executable, "-c", QUICK, *([command] if command else []), "--help"])
        spent.append(taken)
    assert min(spent) < 0.8  # importing JAX alone takes as much, and 0.4 is usual
    if command:
        assert f"thorndike {command}" in text
        assert "--" in text
    else:
        assert all(f"thorndike {name}" in text for name in COMMANDS)


def test_closed_streams_are_no_error(tmp_path):
    said = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m thorndike train q-learning CliffWalking-v1 --steps 1000 --json 2>&-"],
        stdout=subprocess.PIPE, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert json.loads(said.stdout)["steps"] >= 1000  # and nothing else
    subprocess.run(["sh", "-c", f"exec {sys.executable} -m thorndike list >&- 2>&- <&-"], cwd=tmp_path, check=True)


def test_version_and_no_command(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{td.__version__}\n"
    assert main([]) == 0
    assert "thorndike train ALGORITHM ENV" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["train", "dqn", "CartPole-v1", "--help"], ["train", "dqn", "-h"]])
def test_help_for_an_algorithm_has_its_hyperparameters_and_what_they_mean(argv, capsys):
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "--learning-rate" in text
    assert "--seeds" in text
    rate = "linear:0.004" if "CartPole-v1" in argv else "linear:0.002"  # the preset's
    assert f"(default: {rate})" in text


# --- commands ---------------------------------------------------------------------------------------------------------


def test_train_evaluate_plot_watch_and_resume(run, tmp_path, capsys):
    def ok(*argv: str) -> str:
        assert main(list(argv)) == 0
        return capsys.readouterr().out

    evaluated = json.loads(ok("evaluate", str(run), "--episodes", "3", "--json"))
    assert list(evaluated) == ["episodes", "mean", "std", "median", "iqm", "ci95", "per_run", "members"]
    assert evaluated["episodes"] == 3
    assert len(evaluated["ci95"]) == 2
    assert "over 1 x 3 episodes" in ok("evaluate", str(run), "--episodes", "3")
    picture = tmp_path / "curve.png"
    assert ok("plot", str(run), str(run), "--out", str(picture)) == f"{picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert ok("plot", str(run), "--y", "train/td_error", "--x", "seconds", "--smooth", "3") == (
        f"{run / 'train_td_error.png'}\n"
    )
    assert ok("plot", str(run), "--threshold", "none", "--labels", "mine") == f"{run / 'curve.png'}\n"
    assert ok("picture", str(run)) == f"{run / 'values.png'}\n"
    assert (run / "values.png").read_bytes().startswith(b"\x89PNG")
    film = tmp_path / "film.gif"
    assert ok("watch", str(run), "--video", str(film)).startswith(str(film))
    assert film.read_bytes().startswith(b"GIF8")
    assert "256_explore.gif (" in ok("watch", str(run), "--explore")
    longer = shutil.copytree(run, tmp_path / "longer")
    resumed = json.loads(ok("resume", str(longer), "--steps", "320", "--json").splitlines()[-1])
    assert (resumed["run"], resumed["steps"]) == (str(longer), 320)


def test_plot_leaves_out_what_is_no_run(run, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("")
    argv = ["plot", str(tmp_path / "notes.txt"), str(run), "--out", str(tmp_path / "curve.png")]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'curve.png'}\n"
    assert err == f"left out {tmp_path / 'notes.txt'}: no run.json in it\n"


def test_train_ends_with_one_line_of_json(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "sarsa", "GridWorld", "--steps", "32", "--seeds", "2", "--out", str(out), "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(last) == ["run", "steps", "seconds", "steps_per_second", "compile_seconds", "return_mean"]
    assert (last["run"], last["steps"], len(last["return_mean"])) == (str(out), 32, 2)
    assert td.open_run(out).seeds == 2


def test_train_without_json_says_what_to_do_next(run, tmp_path, capsys):
    assert main(["train", "q-learning", "GridWorld", "--steps", "64", "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert f"thorndike evaluate {tmp_path / 'run'}" in out
    assert f"thorndike watch {tmp_path / 'run'}" in out
    assert "64 steps" in err


def test_list(capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"algorithms", "environments"}
    assert set(found["algorithms"]) == set(entries())
    assert "CartPole-v1" in found["environments"]["built in"]
    assert "FrozenLake-v1" in found["environments"]["gymnasium"]
    assert main(["list", "algorithms", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(entries())
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in [*entries(), "GridWorld", "Taxi", "pettingzoo/"])


def test_list_for_an_environment(capsys):
    assert main(["list", "--env", "CartPole"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("CartPole: observations Box[4], actions Discrete(2), at most 500 steps an episode\n")
    first, rest = text.partition("try first")[2].split("\n\n", 1)
    assert "dqn" in first
    assert "ppo" in first
    assert "sac: SAC's policy is a squashed Gaussian, and Discrete(2) is not a Box" in rest.partition("cannot")[2]
    assert text.rstrip().endswith("thorndike train dqn CartPole")
    assert main(["list", "--env", "GridWorld", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {x["name"] for x in found} == set(entries())
    assert {x["name"]: x["problem"] for x in found}["q-learning"] is None
    fitness = [(x["problem"] is None) * 4 + x["preset"] * 2 + (not x["offline"]) for x in found]
    assert [x for x in fitness if x >= 4] == sorted((x for x in fitness if x >= 4), reverse=True)


def test_check(capsys):
    assert main(["check", "GridWorld"]) == 0
    assert capsys.readouterr().out.startswith("GridWorld: all holds\n  ok  ")


def test_the_preset_that_there_is_not(no_training, capsys):
    for flags, said in ([], True), (["--no-preset"], False):
        assert main(["train", "dqn", "DeepSea", *flags]) == 0
        assert ("no preset for dqn on DeepSea: its defaults are used; it has" in capsys.readouterr().err) == said


@pytest.fixture
def no_training(monkeypatch):
    from thorndike.commands import train

    seen = []
    monkeypatch.setattr(train, "train", lambda algorithms, env, options: seen.append((algorithms[0], options)))
    return seen


def test_the_preset_is_said_and_can_be_refused(no_training, capsys):
    for flags, steps, expected in [
        ([], 100_000, {"discount": 0.98, "target_period": 50}),
        (["--target-period", "3"], 100_000, {"discount": 0.98, "target_period": 3}),
        (["--no-preset"], None, {"discount": 0.99, "target_period": 100}),
        (["--no_preset", "--seed", "3"], None, {"discount": 0.99, "target_period": 100}),
    ]:
        assert main(["train", "dqn", "CartPole-v1", *flags]) == 0
        algorithm, options = no_training.pop()
        assert {name: getattr(algorithm, name) for name in expected} == expected
        assert options.steps == steps
        assert ("preset for dqn on CartPole-v1: " in capsys.readouterr().err) == (steps is not None)


def test_hyperparameters_reach_the_algorithm(no_training, capsys):
    argv = [
        "train",
        "dqn",
        "CartPole-v1",
        "--learning-rate",
        "1e-2",
        "--double",
        "--replay.capacity",
        "500",
        "--torso.widths",
        "8",
        "8",
    ]
    assert main(argv) == 0
    algorithm, _ = no_training.pop()
    assert (algorithm.learning_rate, algorithm.double, algorithm.replay.capacity) == (0.01, True, 500)
    assert algorithm.torso.widths == (8, 8)
    assert main(["train", "ppo", "CartPole-v1", "--target-kl", "0.01"]) == 0
    assert no_training.pop()[0].target_kl == 0.01


@pytest.fixture
def trained(monkeypatch):
    from thorndike.commands import train

    seen = []
    monkeypatch.setattr(train, "train", lambda algorithms, env, options: seen.extend(algorithms))
    return seen


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--learning-rate", "linear:1e-3:0"], [{"learning_rate": td.Linear(1e-3)}]),
        (["--learning-rate=1e-3", "--num-envs", "1e1"], [{"learning_rate": 1e-3, "num_envs": 10}]),
        (["--epochs", "1,2"], [{"epochs": 1}, {"epochs": 2}]),
        (["--torso.widths", "64,64"], [{"torso": td.Torso(widths=(64, 64))}]),
        (["--torso.widths", "8,8", "16"], [{"torso": td.Torso(widths=(8, 8))}, {"torso": td.Torso(widths=(16,))}]),
        (["--torso.activation", "relu,tanh"], [{"torso": td.Torso(activation=a)} for a in ("relu", "tanh")]),
        (["--shared-torso", "true,false"], [{"shared_torso": True}, {"shared_torso": False}]),
        (["--core", "none,gru"], [{"core": None}, {"core": td.GRU()}]),
        (
            ["--epochs", "1,2", "--num-envs", "4,8"],
            [{"epochs": e, "num_envs": n} for e in (1, 2) for n in (4, 8)],
        ),
    ],
)
def test_grids_and_schedules(flags, expected, trained):
    assert main(["train", "ppo", "CartPole-v1", "--no-preset", *flags]) == 0
    assert trained == [td.PPO(**fields) for fields in expected]


def test_lists_of_floats_are_a_sweep_over_every_combination(trained):
    assert main(["train", "dqn", "CartPole-v1", "--learning-rate", "1e-3,1e-4", "--huber", "1,2,3"]) == 0
    (sweep,) = trained
    np.testing.assert_allclose(sweep.learning_rate, np.repeat([1e-3, 1e-4], 3))
    np.testing.assert_allclose(sweep.huber, np.tile([1, 2, 3], 2))
    assert sweep.target_period == 50  # the preset's


def test_a_grid_is_a_run_for_each(tmp_path):
    small = [word for i, word in enumerate(TINY) if "--epochs" not in TINY[max(i - 1, 0) : i + 1]]
    argv = ["train", "ppo", "CartPole-v1", *small, "--epochs", "1,2", "--learning-rate", "1e-3,1e-4"]
    assert main([*argv, "--out", str(tmp_path / "grid")]) == 0
    first, second = (td.open_run(tmp_path / "grid" / name) for name in ("1", "2"))
    assert (first.algorithm.epochs, second.algorithm.epochs) == (1, 2)
    assert first.runs == second.runs == 2


def test_names_of_other_libraries_are_explained(capsys):
    assert main(["train", "ppo", "CartPole-v1", "--gamma", "0.9"]) == 2
    assert "PPO has no option --gamma: it is called discount here" in capsys.readouterr().err
    for name, right in [("gamma", "discount"), ("n_steps", "rollout_length"), ("policy_kwargs", "torso, such as")]:
        with pytest.raises(td.ConfigError, match=f"PPO has no field '{name}': it is called {right}"):
            td.PPO(**{name: 1})


def test_help_tells_what_every_field_means():
    text = pydoc.render_doc(td.PPO)
    assert "clip = 0.2: ε" in text.replace("\x08", "")
    assert "passes over a rollout" in text


@pytest.mark.parametrize("flags", [["--exploration", "softmax"], ["--exploration=Softmax"]])
def test_exploration_is_chosen_by_its_name(flags, no_training):
    assert main(["train", "dqn", "CartPole-v1", *flags, "--exploration.end", "0.5"]) == 0
    assert no_training.pop()[0].exploration == td.Softmax(end=0.5)


def test_the_memory_of_a_preset_can_be_left_out(no_training):
    assert main(["train", "ppo", "CartPoleNoVel-v1"]) == 0
    assert main(["train", "ppo", "CartPoleNoVel-v1", "--core", "none"]) == 0
    without, preset = no_training.pop()[0], no_training.pop()[0]
    assert preset.core is not None
    assert without == dataclasses.replace(preset, core=None)


def test_a_run_with_softmax_exploration_works(tmp_path):
    out = tmp_path / "run"
    argv = ["train", "q-learning", "GridWorld", "--steps", "64", "--exploration", "softmax", "--out", str(out)]
    assert main(argv) == 0
    assert to_json(td.open_run(out).algorithm)["exploration"]["type"] == "Softmax"
    assert main(["evaluate", str(out), "--episodes", "2"]) == 0


# --- mistakes ---------------------------------------------------------------------------------------------------------

PPO = ("train", "ppo", "CartPole-v1")


@pytest.mark.parametrize(
    ("argv", "texts"),
    [
        (["trian"], ["no command 'trian'", "did you mean 'train'"]),
        (["train", "pp0", "CartPole-v1"], ["no algorithm 'pp0'", "did you mean 'ppo'"]),
        (["train", "qlerning", "GridWorld"], ["'q-learning'"]),
        (["train", "ppo", "CartPol-v1"], ["did you mean 'CartPole-v1'"]),
        (["train", "ppo", "cartpole-v1"], ["did you mean 'CartPole-v1'"]),
        (["train", "ppo", "GridWold"], ["did you mean 'GridWorld'"]),
        (["train", "ppo", "FrozenLak-v1"], ["'FrozenLake-v1'"]),
        (["train", "ppo", "simple_spread_v3"], ["no environment 'simple_spread_v3'; other", "envpool/, pettingzoo/"]),
        (["train", "dqn", "Pendulum-v1"], ["it needs Discrete ones", "Algorithms that can serve it: ", "ppo", "sac"]),
        (["train", "sac", "CartPole-v1"], ["Discrete(2) is not a Box", "Algorithms that can serve it: ", "dqn", "ppo"]),
        (["train", "dqn", "CartPole-v1", "--exploration", "sofmax"], ["'softmax'", "epsilon, softmax"]),
        (["train", "CartPole-v1", "ppo"], ["the algorithm comes first", "thorndike train ppo CartPole-v1"]),
        (["check", "CartPol-v1"], ["did you mean 'CartPole-v1'"]),
        (["list", "--env", "CartPol-v1"], ["did you mean 'CartPole-v1'"]),
        (["train", "ppo"], ["thorndike train ALGORITHM ENV"]),
        (["train"], ["thorndike train ALGORITHM ENV", "ppo"]),
        (["plot"], ["thorndike plot RUN"]),
        ([*PPO, "--steps", "0"], ["steps must be a positive whole number, got 0"]),
        ([*PPO, "--seeds", "0"], ["seeds must be a positive whole number, got 0"]),
        ([*PPO, "--seed", "-1"], ["seed must be a whole number from 0"]),
        ([*PPO, "--minibatch-size", "0"], ["num_envs, rollout_length, epochs and minibatch_size must be positive"]),
        ([*PPO, "--discount", "nan"], ["PPO.discount should be a finite float"]),
        ([*PPO, "--tensorboard"], ['pip install "thorndike[tensorboard]"']),
        (["evaluate", "nowhere"], ["there is no run at nowhere"]),
        (["watch", "nowhere"], ["there is no run at nowhere"]),
        (["resume", "nowhere"], ["there is no run at nowhere"]),
        (["plot", "nowhere"], ["there is no run at nowhere"]),
        (["picture", "nowhere"], ["there is no run at nowhere"]),
    ],
)  # fmt: skip
def test_mistakes_get_one_clear_line(argv, texts, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    line = one_line(refused(capsys, *argv))
    assert all(text in line for text in texts), line


@pytest.mark.parametrize(
    ("argv", "texts"),
    [
        ([*PPO, "--learning-rat", "1"], ["--learning-rate"]),
        ([*PPO, "--epoch", "1"], ["--epochs"]),
        ([*PPO, "--learning-rate", "abc"], ["--learning-rate", "'abc' is neither a number, nor a list such as"]),
        ([*PPO, "--learning-rate", "linaer:1:0"], ["no schedule 'linaer' (did you mean 'linear'?)"]),
        ([*PPO, "--steps", "1e-5"], ["--steps", "'1e-5' is not a whole number"]),
        ([*PPO, "--torso.activation", "tan"], ["tanh"]),
        (["evaluate"], ["Missing from thorndike evaluate", "the run's directory"]),
        (["resume"], ["Missing from thorndike resume"]),
        (["evaluate", "x", "--episode", "3"], ["--episodes"]),
        (["list", "foo"], ["'foo'", "algorithms"]),
    ],
)  # fmt: skip
def test_mistakes_in_options_are_explained(argv, texts, capsys):
    err = refused(capsys, *argv)
    words = " ".join(err.replace("│", " ").split())
    assert all(text in words for text in texts), err


@pytest.mark.parametrize("extra", [["--video", "film.mp4"], ["--video", "film.avi"], ["--seed", "9"]])
def test_films_that_cannot_be_made(extra, run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    line = one_line(refused(capsys, "watch", str(run), *extra))
    expected = {"film.mp4": 'pip install "thorndike[video]"', "film.avi": ".gif or .mp4", "9": "seeds 0 to 0, not 9"}
    assert expected[extra[1]] in line


def test_other_mistakes_with_a_run(run, tmp_path, capsys):
    assert "holds a run already" in one_line(
        refused(capsys, "train", "q-learning", "GridWorld", "--steps", "64", "--out", str(run))
    )
    assert "256 steps already" in one_line(refused(capsys, "resume", str(run), "--steps", "8"))
    assert "episodes must be at least 1" in one_line(refused(capsys, "evaluate", str(run), "--episodes", "0"))
    line = one_line(refused(capsys, "plot", str(run), "--y", "train/tderror"))
    assert "nothing was logged as 'train/tderror' (did you mean 'train/td_error'?)" in line
    assert "cannot write" in one_line(refused(capsys, "plot", str(run), "--out", str(tmp_path / "curve.xyz")))


def test_damage_and_divergence_exit_with_1(run, tmp_path, capsys):
    broken = shutil.copytree(run, tmp_path / "broken")
    for path in broken.glob("checkpoints/*/*"):
        path.write_bytes(b"")
    assert main(["evaluate", str(broken)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: no checkpoint is whole")
    (broken / "run.json").write_text("{")
    assert main(["evaluate", str(broken)]) == 1
    assert "is not readable JSON" in capsys.readouterr().err

    out = tmp_path / "diverged"
    flags = ["--learning-rate", "1e30", "--normalize-observation", "--normalize-reward", "--out", str(out)]
    assert main(["train", "ppo", "CartPole-v1", *TINY, *flags]) == 1
    err = capsys.readouterr().err
    assert "error: training diverged: train/" in err
    assert "Traceback" not in err
    assert td.open_run(out).status["state"] == "diverged"


def test_a_disk_that_refuses_is_one_line(tmp_path, capsys, monkeypatch):
    import os

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["train", "q-learning", "GridWorld", "--steps", "64", "--out", str(tmp_path / "run")]) == 1
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]


def test_it_runs_as_a_module():
    shown = subprocess.run([sys.executable, "-m", "thorndike", "--help"], capture_output=True, text=True, check=True)
    assert "thorndike train ALGORITHM ENV" in shown.stdout
