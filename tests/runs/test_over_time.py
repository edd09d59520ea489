"""Films over checkpoints: each frame is its own agent's, and colours mean the same in all."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import thorndike as td
from thorndike.cli import main
from thorndike.runs.results import over_time
from thorndike.runs.results.video import write
from thorndike.runs.storage import checkpoint


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    path = tmp_path_factory.mktemp("rooms") / "run"
    return td.train("q-learning", "FourRooms", 4_000, checkpoint_steps=1_000, out=path, progress=False)


@pytest.fixture(scope="module")
def pole(tmp_path_factory):
    path = tmp_path_factory.mktemp("pole") / "run"
    algorithm = td.PPO(torso=td.Torso(widths=(8,)), num_envs=4, rollout_length=64, epochs=1, minibatch_size=64)
    return td.train(algorithm, "CartPole-v1", 1024, checkpoint_steps=512, out=path, progress=False)


def figures(monkeypatch, run, out, **how):
    """The figures of a film's frames with their titles, and the film."""
    seen = []

    def frame(figure, title):
        seen.append((figure, title))
        return np.full((20, 20, 3), len(seen), np.uint8)

    monkeypatch.setattr(over_time, "_frame", frame)
    film = over_time.film(run, out, **how)
    return seen, film


def test_tables(rooms, tmp_path, monkeypatch):
    steps = checkpoint.steps(rooms.path / "checkpoints")
    seen, film = figures(monkeypatch, rooms, tmp_path / "film.gif")
    assert [title for _, title in seen] == ["untrained", *(f"{step:,} steps" for step in steps)]
    scales = [figure.axes[1].get_ylim() for figure, _ in seen]  # of the colours
    tables = [np.zeros((104, 4)) * np.nan, *(np.asarray(rooms.agent(step=step).actor.q) for step in steps)]
    most = max(float(table.max()) for table in tables[1:])
    assert most > 0
    for low, high in scales:
        assert (low, high) == pytest.approx((0.0, most), abs=1e-6)
    for (figure, _), q in zip(seen[1:], tables[1:]):
        told = sorted(float(text.get_text()) for text in figure.axes[0].texts if _number(text.get_text()))
        layout = rooms.env.layout
        free = ~(layout.goal | layout.cliff | layout.wall)
        np.testing.assert_allclose(told, sorted(float(f"{x:.3g}") for x in q.max(1)[free]))
    assert f"{len(steps) + 1} agents" in repr(film)


def _number(text):
    return text not in ("", "goal", "wall", "cliff")


def test_surfaces(pole, tmp_path, monkeypatch):
    seen, _ = figures(monkeypatch, pole, tmp_path / "film.gif", over=(2, 3))
    assert [title for _, title in seen] == ["untrained", "512 steps", "1,024 steps"]
    meshes = [[axes.collections[0] for axes in figure.axes[:2]] for figure, _ in seen]
    for column in zip(*meshes):
        (ends,) = {mesh.get_clim() for mesh in column}  # the same in all frames
        drawn = [np.asarray(mesh.get_array()) for mesh in column]
        assert ends == pytest.approx((np.min(drawn), np.max(drawn)))
        assert len({x.tobytes() for x in drawn}) > 1
    alone = pole.picture(over=(2, 3))  # of the newest agent, who is the last frame's too
    last = np.asarray(alone.axes[0].collections[0].get_array())
    np.testing.assert_allclose(np.asarray(meshes[-1][0].get_array()), last, rtol=1e-5)


def test_what_stays_has_one_colour(tmp_path):
    """The walls beside values that grow, through the file; a palette for each frame tints them."""
    q = np.random.default_rng(0).random((169, 4))
    tables = [td.four_rooms().picture(part * q, limits=(0.0, 1.0)) for part in (0.01, 0.5, 1.0)]
    frames, walls = [over_time._frame(figure, "") for figure in tables], {}
    for name, shown in (("one", over_time._of_one_palette(frames)), ("each", frames)):
        write(tmp_path / f"{name}.gif", shown, 4.0)
        found = []
        with Image.open(tmp_path / f"{name}.gif") as film:
            for i in range(film.n_frames):
                film.seek(i)
                found.append(np.asarray(film.convert("RGB"))[film.height // 2, film.width // 27].astype(int))
        walls[name] = np.ptp(np.array(found), 0).max()
    assert walls["one"] <= 2 < 8 < walls["each"], walls


def test_the_command(rooms, capsys):
    assert main(["picture", str(rooms.path), "--film"]) == 0
    out = rooms.path / "values.gif"
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as film:
        assert film.n_frames == 1 + len(checkpoint.steps(rooms.path / "checkpoints"))
        assert film.size[0] > 300
    assert main(["picture", str(rooms.path), "--film", "--out", "film.png"]) == 2
    assert "films are .gif or .mp4" in capsys.readouterr().err


def test_what_has_no_film(pole, tmp_path):
    with pytest.raises(td.ConfigError, match=r"over which two of its numbers"):
        pole.picture(tmp_path / "film.gif")
    short = td.train("q-learning", "FourRooms", 100, out=tmp_path / "short", progress=False)
    with pytest.raises(td.ConfigError, match="checkpoint_steps"):
        short.picture(tmp_path / "film.gif")
