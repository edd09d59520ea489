"""The film of an untrained agent beside the trained one, and the page that shows both."""

from __future__ import annotations

import base64
import io
import re
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

import thorndike as td
from thorndike.commands.outcome import report as said
from thorndike.drivers.scan import ScanDriver, member
from thorndike.ops.keys import random_key
from thorndike.runs.results import beside
from thorndike.runs.results import shown as showing
from thorndike.runs.results.video import Footage
from thorndike.runs.training.beginning import seed_keys


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("beside") / "run"
    algorithm = td.PPO(torso=td.Torso(widths=(16,)), num_envs=4, rollout_length=64, epochs=1, minibatch_size=64)
    return td.train(algorithm, "CartPole-v1", 512, seed=7, seeds=2, out=path, progress=False)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_the_untrained_agent_is_the_one_that_training_began_with(run):
    algorithm = run.settled(0)
    state = ScanDriver(algorithm, run.env, run.spec, run.runs).init(seed_keys(run))
    for i, seed in enumerate((7, 8)):
        began = member(algorithm, i).actor(jax.tree.map(lambda x, i=i: x[i], state.agent))
        agent, name = beside.untrained(run, seed)
        assert name == "untrained"
        assert same(agent.actor, began)
        assert not same(agent.actor, run.agent(seed).actor)
    assert not same(beside.untrained(run, 7)[0].actor, beside.untrained(run, 8)[0].actor)


def test_host_runs_begin_with_the_same_key():
    """The drivers of the host split a seed's key in two, the compiled one in three; the first part is the same."""
    key = random_key(3)
    two, three = jax.random.split(key), jax.random.split(key, 3)
    assert same(jax.random.key_data(two[0]), jax.random.key_data(three[0]))


def opened(data):
    film = Image.open(io.BytesIO(data))
    times, last = [], None
    for i in range(film.n_frames):
        film.seek(i)
        film.load()
        times.append(film.info["duration"])
        last = np.asarray(film.convert("RGB"))
    return times, last


def shot(n, fps=30.0, size=(40, 80)):
    """Frames that get lighter: the last one is known by its grey."""
    return Footage([np.full((*size, 3), 255 * (i + 1) // n, np.uint8) for i in range(n)], [1.0], "", fps)


def test_films_of_different_lengths_stay_together():
    short, long = (opened(beside._webp(shot(n), 60, 40, 15.0)[0]) for n in (21, 60))
    assert sum(short[0]) == pytest.approx(sum(long[0]), abs=100)
    assert sum(long[0]) == pytest.approx(3000, abs=100)  # 60 frames at 30 a second, and one second of the last
    for _, last in (short, long):
        np.testing.assert_allclose(last, 255, atol=6)  # how it ends is in it
    assert long[1].shape == (20, 40, 3)


def test_large_films_are_made_smaller():
    rng = np.random.default_rng(0)
    noise = Footage([rng.integers(0, 255, (160, 240, 3), np.uint8) for _ in range(24)], [1.0], "", 15.0)
    whole = len(beside._webp(noise, 24, beside.WIDTH, beside.RATE)[0])
    assert len(beside._fitting(noise, 24, whole // 3)[0]) <= whole // 3
    assert len(beside._fitting(noise, 24, whole)[0]) == whole


def test_the_page_shows_both_and_what_counts(run):
    td.open_run(run.path).report()
    page = (run.path / "report.html").read_text()
    words = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert any(word.startswith("untrained, ") for word in words)
    assert any(word.startswith("after 512 steps, ") for word in words)
    films = re.findall(r'<img width="240"[^>]*src="data:image/webp;base64,([^"]*)"', page)
    assert len(films) == 2
    assert all(len(opened(base64.b64decode(film))[0]) > 3 for film in films)
    assert "prefers-reduced-motion" in page
    shares = [float(x) for x in re.findall(r">([\d.]+)%</text>", page)]
    assert len(shares) == 4
    assert sum(shares) == pytest.approx(100, abs=0.3)
    assert shares == sorted(shares, reverse=True)
    assert "thorndike explain " in page
    assert "thorndike train ppo CartPole-v1 --steps 512 --seed 7 --seeds 2" in page
    assert len(page) < 3_000_000


def test_training_writes_a_page_of_what_was_logged(run, capsys):
    (run.path / "report.html").unlink(missing_ok=True)
    said(run, as_json=False)
    assert "report.html" in capsys.readouterr().out
    page = (run.path / "report.html").read_text()
    assert "untrained" not in page  # nothing was played for it
    assert "Signs of trouble" in page


def test_training_does_not_fail_for_its_page(run, capsys):
    (run.path / "report.html").unlink(missing_ok=True)
    (run.path / "report.html").mkdir()
    try:
        said(run, as_json=False)
    finally:
        (run.path / "report.html").rmdir()
    found = capsys.readouterr()
    assert "there is no report.html" in found.err
    assert "thorndike evaluate" in found.out


def test_choices_are_explained_by_occlusion(tmp_path, monkeypatch):
    """A cell's number has no gradient."""
    monkeypatch.setattr(showing, "beside", partial(beside.beside, most_frames=3))
    run = td.train("q-learning", "FourRooms", 100, out=tmp_path / "run", progress=False)
    parts = "".join(showing.shown(run))
    assert "Occlusion:" in parts
    assert "There is no" not in parts
