"""The folder for a model hub: complete, its numbers those of an evaluation, its code runs, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from runs import small_runs as small
from thorndike import own_modules
from thorndike.cli import main
from thorndike.errors import ConfigError, IncompatibleError
from thorndike.serve import push as pushing
from thorndike.serve.card import _plain
from thorndike.serve.push import push

pytest.importorskip("onnxruntime")
EPISODES = 3
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small.train("PPO", tmp_path_factory.mktemp("push") / "run", seed=4, seeds=2)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    to = tmp_path_factory.mktemp("hub") / "pole"
    words = ["push", str(run.path), "--to", str(to), "--episodes", str(EPISODES), "--seed", "5"]
    assert main([*words, "--licence", "apache-2.0"]) == 0
    return to


def card(folder):
    return (folder / "README.md").read_text("utf-8")


def front(text):
    """The YAML at its beginning, whose values are JSON or words."""
    _, head, _ = text.split("---\n", 2)
    pairs = [line.split(": ", 1) for line in head.strip().splitlines()]
    return {name: json.loads(value) if value[0] in '["{' else value for name, value in pairs}


def test_the_folder_is_complete(folder):
    files = {path.name for path in folder.iterdir()}
    assert files == {"README.md", "agent.td", "curve.png", "evaluation.json", "film.gif", "policy.onnx"}
    assert (folder / "film.gif").read_bytes()[:3] == b"GIF"
    for name in re.findall(r"\]\((\S+?)\)", card(folder)):
        assert (folder / name).is_file()
    assert not [path for path in folder.parent.iterdir() if path != folder]
    said = front(card(folder))
    assert said["license"] == "apache-2.0"
    assert {"reinforcement-learning", "PPO", "CartPole-v1"} <= set(said["tags"])


def test_the_files_are_the_agent_of_that_seed(folder, run):
    agent, loaded = run.agent(5), td.load(folder / "agent.td")
    obs = np.random.default_rng(0).normal(0, 1, (64, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.act(obs), agent.act(obs))
    assert (np.asarray(loaded.look(obs)["value"]) != run.agent(4).look(obs)["value"]).any()
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "policy.onnx")
    found = dict(zip([x.name for x in session.get_outputs()], session.run(None, {session.get_inputs()[0].name: obs})))
    np.testing.assert_array_equal(found["action"].ravel(), agent.act(obs))


def test_the_cards_code_runs(folder):
    (code,) = BLOCK.findall(card(folder))
    assert len(code.strip().splitlines()) == 3
    code += "\nassert action in (0, 1), action\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


def test_scores_are_those_of_an_evaluation(folder, run, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run.path), "--episodes", str(EPISODES), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads((folder / "evaluation.json").read_text()) == found
    text = card(folder)
    lines = [line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| (this|all \d+) agent", line)]
    rows = {name.strip(): [float(x) for x in re.findall(r"-?\d[\d.]*", " ".join(rest))] for name, *rest in lines}
    own = run.evaluate(EPISODES).returns[1]
    told = rows["this agent"]
    np.testing.assert_allclose(told[:2], [own.mean(), own.std()], atol=0.06)
    assert told[3] <= told[2] <= told[4]
    expected = [found["mean"], found["std"], found["iqm"], *found["ci95"]]
    np.testing.assert_allclose(rows["all 2 agents"], expected, atol=0.06)
    (metric,) = front(text)["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == pytest.approx(own.mean())
    assert metric["value"] == pytest.approx(found["per_run"][1])


def test_settings_seed_and_steps_are_told(folder, run):
    text = card(folder)
    assert "4 to 5, of which this is 5" in text
    assert f"{run.status['steps']:,} environment steps" in text
    assert "| rollout\\_length | 8 |" in text
    assert str(run.path) not in text


def test_what_is_there_is_not_touched(run, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "file", "link"):
        assert main(["push", str(run.path), "--to", str(tmp_path / name)]) == 2
        assert "name a new folder, or an empty one" in capsys.readouterr().err
    assert (full / "mine.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file", "link"}


def test_whole_or_not_at_all(run, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(pushing, "_film", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            push(run, tmp_path / "empty", 1)
    with pytest.raises(ConfigError, match="seeds 4 to 5"):
        push(run, tmp_path / "empty", 1, seed=9)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not list((tmp_path / "empty").iterdir())


@td.config
class Blind:
    """Draws nothing, and shows no images."""

    max_steps: int = 20

    @property
    def observation_space(self) -> Box:
        return Box(-1, 1, (2,), np.float32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    def reset(self, key):
        return td.Step(jnp.float32(0), jnp.zeros(2))

    def step(self, state, action, key):
        return td.Step(state + 1, jnp.zeros(2), 1.0, state > 3)


def test_what_cannot_be_made_is_said(tmp_path, monkeypatch):
    """No film of what draws nothing, no ONNX where something has no translation; the card says so."""
    run = small.train("PPO", tmp_path / "run", env=Blind())

    def refused(*args, **kwargs):
        raise IncompatibleError("its search | cannot be exported")

    monkeypatch.setattr(pushing, "export", refused)
    found = push(run, tmp_path / "hub", 2)
    assert "film.gif" not in found.files
    assert "draws no frames" in found.without["film.gif"]
    text = card(tmp_path / "hub")
    assert "There is no ONNX file: its search \\| cannot be exported." in text
    assert "not said yet" in text
    assert front(text)["license"] == "unknown"
    assert "search" in str(found)


def test_names_are_no_markup():
    assert _plain("a | b\n# <b>[x](y)</b> `c`*_") == r"a \| b \# \<b\>\[x\](y)\</b\> \`c\`\*\_"


def test_a_class_of_ones_own(tmp_path, monkeypatch):
    """The card imports it from its module, and says that it is not there."""
    source = (Path(__file__).parents[2] / "examples" / "reinforce.py").read_text()
    (tmp_path / "reinforce.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["train", "./reinforce.py:REINFORCE", "CartPole-v1", "--steps", "512", "--out", "run"]
    assert main(words) == 0
    assert main(["push", "run", "--to", "hub", "--episodes", "1", "--classes", "./reinforce.py"]) == 0
    (code,) = BLOCK.findall(card(tmp_path / "hub"))
    assert "from reinforce import REINFORCE\n" in code
    assert "classes=[REINFORCE]" in code
    sys.modules.pop("reinforce", None)
    own_modules.TYPED.pop("reinforce", None)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "hub", env=env, check=True)
