"""The page: one file with everything in it, what it says is what was found, and names are no HTML."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import sys
from xml.etree import ElementTree

import jax.numpy as jnp
import linear_agents as linear
import numpy as np
import pytest
from gymnasium.spaces import Box
from PIL import Image

import thorndike as td
from thorndike.cli import main
from thorndike.explain import explanation as explanations
from thorndike.explain.drawing import heat
from thorndike.explain.tree import Tree

TORSO = td.Torso(widths=(4,), init="uniform")


@td.config
class Catch:
    """A dot falls through a picture of 8 by 8; the paddle below moves."""

    max_steps: int = 7

    @property
    def observation_space(self) -> Box:
        return Box(0, 1, (8, 8, 2), np.float32)

    @property
    def action_space(self):
        return linear.Discrete(3)

    def show(self, state):
        row, column, paddle = state
        dot = (jnp.arange(8)[:, None] == row) & (jnp.arange(8) == column)
        base = (jnp.arange(8)[:, None] == 7) & (jnp.arange(8) == paddle)
        return jnp.stack([dot, base], -1).astype(jnp.float32)

    def reset(self, key):
        state = (jnp.int32(0), jnp.int32(3), jnp.int32(4))
        return td.Step(state, self.show(state))

    def step(self, state, action, key):
        row, column, paddle = state
        state = (row + 1, column, jnp.clip(paddle + action - 1, 0, 7))
        return td.Step(state, self.show(state), jnp.where(state[0] == 7, 1.0, 0.0), state[0] == 7)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    algorithm = td.PPO(num_envs=2, rollout_length=8, minibatch_size=8, epochs=1, torso=TORSO)
    out = tmp_path_factory.mktemp("page") / "run"
    return td.train(algorithm, "CartPole-v1", 64, seeds=2, out=out, progress=False)


def whole(text):
    """The page, if it needs nothing else and its pictures are well formed."""
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
    return text


def test_the_command_writes_one_file(run, capsys, tmp_path):
    out = tmp_path / "there" / "explain.html"
    assert main(["explain", str(run.path), "--out", str(out), "--leaves", "4", "--seed", "1"]) == 0
    printed = capsys.readouterr().out
    text = whole(out.read_text())
    found = run.explain(seed=1)
    for share in found.shares.values():
        assert f"{share:.1%}" in text
        assert f"{share:.1%}" in printed
    assert "A tree that does alike" in text
    assert "leaves, return" in printed
    assert len(found.steps) == len(found.score) == len(found.values)
    assert found.kind == "choice"


def test_without_scikit_learn_there_is_no_tree_and_it_is_said_why(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.tree", None)
    assert main(["explain", str(run.path), "--out", str(tmp_path / "page.html"), "--method", "occlusion"]) == 0
    assert "There is no tree: a decision tree needs" in (tmp_path / "page.html").read_text()
    assert main(["explain", str(run.path), "--part", "3", "--method", "magic"]) == 2
    assert main(["explain", str(run.path), "--names", "one"]) == 2
    assert "there are 4 features, and names has 1" in capsys.readouterr().err


def test_names_are_text(run, tmp_path):
    hostile = ('"><script>alert(1)</script>', "b\nimport os", "<i>", "&")
    found = run.explain(names=hostile)
    tree = run.tree(4, rounds=1, episodes=2, names=hostile)
    tree = dataclasses.replace(tree, spec=dataclasses.replace(tree.spec, id='x"""\nimport os'))
    text = whole(found.save(tmp_path / "page.html", tree).read_text())
    assert "<i>" not in text
    assert "&lt;i&gt;" in text
    source = tree.save(tmp_path / "tree.py").read_text()
    assert not [line for line in source.splitlines() if line.startswith("import")]
    compile(source, "tree.py", "exec")
    assert isinstance(tree, Tree)


def test_frames_of_images_and_their_heat(tmp_path):
    algorithm = td.PPO(num_envs=2, rollout_length=8, minibatch_size=8, epochs=1, torso=TORSO)
    run = td.train(algorithm, Catch(), 16, out=tmp_path / "run", progress=False)
    found = run.explain(method="occlusion")
    assert found.names == ["channel 0", "channel 1"]
    assert found.maps[0].shape == (7, 8, 8, 2)
    text = whole(found.save(tmp_path / "page.html").read_text())
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(pictures) == 7
    frame = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))))
    assert frame.ndim == 3


@pytest.mark.parametrize("shape", [(8, 10, 2), (2, 8, 10), (3, 8, 10, 3)])
def test_heat_is_where_the_attribution_is(shape):
    obs, maps = np.zeros(shape, np.uint8), np.zeros(shape)
    h, w = (1, 2) if shape[0] < 4 else (0, 1)
    at = [0] * len(shape)
    at[h], at[w] = 2, 7
    maps[tuple(at)] = 1.0
    at[h], at[w] = 6, 1
    maps[tuple(at)] = -1.0
    frame = heat(obs, maps, 1.0).astype(int)
    scale = frame.shape[0] // 8
    assert frame.shape[:2] == (8 * scale, 10 * scale)
    red = frame[::scale, ::scale, 0] - frame[::scale, ::scale, 2]
    assert np.unravel_index(red.argmax(), red.shape) == (2, 7)
    assert np.unravel_index(red.argmin(), red.shape) == (6, 1)
    assert (red != 0).sum() == 2


def test_long_episodes_are_explained_evenly(monkeypatch, run):
    monkeypatch.setattr(explanations, "MOST", 5)
    whole_episode = run.explain()
    assert len(whole_episode.steps) == 5
    assert whole_episode.steps[0] == 0
    gaps = np.diff(whole_episode.steps)
    assert gaps.max() - gaps.min() <= 1
