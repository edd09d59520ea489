"""Environments in files of one's own, from the command line and from Python."""

import json
import subprocess
import sys

import gymnasium as gym
import pytest

import thorndike as td
from thorndike.cli import main
from thorndike.own_modules import TYPED, arguments, on_path

CODE = """
import gymnasium as gym, jax.numpy as jnp, numpy as np, thorndike as td
from gymnasium.spaces import Box, Discrete

class Chain(gym.Env):
    def __init__(self, length=5):
        self.length = length
        self.observation_space, self.action_space = Box(0, 100, (1,), np.float32), Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0
        return np.zeros(1, np.float32), {}
    def step(self, action):
        self.x += 1
        return np.array([self.x], np.float32), 1.0, self.x >= self.length, False, {}

@td.config
class Line:
    length: int = 5
    max_steps: int = 50
    observation_space = property(lambda self: Discrete(100))
    action_space = property(lambda self: Discrete(2))
    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.int32(0))
    def step(self, x, action, key):
        return td.Step(x + 1, x + 1, 1.0, x + 1 >= self.length)

short = Line(length=2)

def make_chain(length=5):
    return Chain(length)

gym.register("MazeOfMine-v0", entry_point=__name__ + ":Chain")
"""
PPO = ["--steps", "64", "--num-envs", "2", "--rollout-length", "16", "--minibatch-size", "16", "--epochs", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with the module `mazes_of_mine`; forgotten afterwards."""
    (tmp_path / "mazes_of_mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mazes_of_mine", None)
    TYPED.pop("mazes_of_mine", None)
    gym.registry.pop("MazeOfMine-v0", None)


def length_of(run, capsys, env=()):
    assert main(["evaluate", str(run), "--episodes", "2", "--json", *env]) == 0
    return json.loads(capsys.readouterr().out)["mean"]


@pytest.mark.parametrize("env", ["mazes_of_mine:MazeOfMine-v0", "mazes_of_mine:MazeOfMine"])
def test_an_id_that_a_module_here_registers(env, folder, capsys):
    assert main(["train", "ppo", env, *PPO, "--out", "run", "--env-kwargs", "length=3"]) == 0
    assert f"thorndike evaluate run --env {env}" in capsys.readouterr().out
    assert length_of("run", capsys, ["--env", env]) == 3


@pytest.mark.parametrize("name", ["Chain", "make_chain", "Line"])
@pytest.mark.parametrize("place", ["mazes_of_mine", "./mazes_of_mine.py"])
def test_a_class_or_a_function_in_a_file(place, name, folder, capsys):
    env = f"{place}:{name}"
    assert main(["train", "ppo", env, *PPO, "--out", "run", "--env-kwargs", "length=4"]) == 0
    assert f"thorndike evaluate run --env {place}:{name}\n" in capsys.readouterr().out
    assert length_of("run", capsys, ["--env", env]) == 4
    assert main(["resume", "run", "--env", env, "--steps", "128"]) == 0


def test_from_python(folder, tmp_path):
    sys.path.insert(0, str(folder))
    ppo = td.PPO(num_envs=2, rollout_length=16, minibatch_size=16, epochs=1)
    run = td.train(ppo, "mazes_of_mine:short", 64, out=tmp_path / "run", progress=False)
    assert run.evaluate(2).mean == 2
    assert td.open_run(run.path, env="mazes_of_mine:short").evaluate(2).mean == 2


def test_worker_processes_find_it(folder, capsys):
    args = ["train", "ppo", "./mazes_of_mine.py:Chain", *PPO, "--out", "run", "--workers", "process"]
    assert main(args) == 0


def test_the_installed_command_finds_it(folder):
    """Its own path begins with the folder of the command, not with this one."""
    code = "import sys; sys.path[0] = '/nowhere'; from thorndike.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "ppo", "mazes_of_mine:Nothing-v0"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "mazes_of_mine neither registers 'Nothing-v0'" in done.stderr


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("mazes_of_your:Maze-v0", "is in the module 'mazes_of_your', which Python does not find: is it in the working"),
        ("./mazes_of_your.py:Maze", "there is no file ./mazes_of_your.py"),
        (
            "mazes_of_mine:Chian",
            "mazes_of_mine neither registers 'Chian' nor has anything of that name (did you mean 'Chain'?)",
        ),
        ("mazes_of_mine:MazeOfMin-v0", "(did you mean 'MazeOfMine-v0'?)"),
        (
            "needy:Maze",
            "needy:Maze needs the module 'some_thing', which is not installed: install the package that has",
        ),
        ("broken:Maze", "the module broken failed in its import: ZeroDivisionError"),
    ],
)
def test_what_is_not_there_is_told_without_advice_to_install_it(env, says, folder, capsys):
    (folder / "needy.py").write_text("import some_thing")
    (folder / "broken.py").write_text("1 / 0")
    assert main(["train", "ppo", env]) in (1, 2)
    told = capsys.readouterr().err
    assert says in told
    assert "pip install" not in told


def test_arguments_of_an_environment():
    words = ("size=5", "slippery:False", "map-name=4x4", "rate=1e-3", "sizes=[1, 2]", "on=true", "path=a=b")
    assert arguments(words) == {
        "size": 5, "slippery": False, "map_name": "4x4", "rate": 1e-3, "sizes": [1, 2], "on": True, "path": "a=b",
    }  # fmt: skip
    with pytest.raises(td.ConfigError, match="--env-kwargs takes words such as size=5, not 'size'"):
        arguments(("size",))
    assert on_path("CartPole-v1") == "CartPole-v1"


def test_arguments_reach_built_in_environments(tmp_path, capsys):
    args = ["train", "q-learning", "FrozenLake-v1", "--steps", "64", "--env-kwargs", "is_slippery=False"]
    assert main([*args, "--out", str(tmp_path / "run")]) == 0
    assert td.open_run(tmp_path / "run").env == td.make("FrozenLake-v1", is_slippery=False) != td.make("FrozenLake-v1")
