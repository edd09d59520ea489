"""Value surfaces: the picture shows the agent's own values and actions where it says so."""

from __future__ import annotations

import numpy as np
import pytest

import thorndike as td
from thorndike.cli import main
from thorndike.runs.results.record import record


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("surface") / "run"
    return td.train("ppo", "CartPole-v1", 4096, out=path, progress=False)


@pytest.mark.parametrize("over", [(2, 3), (3, 2)])
def test_the_colours_are_the_agents_values(run, over):
    """Along each axis the right number changes; the others are what the agent mostly sees."""
    figure = run.picture(over=over)
    agent = run.agent()
    episodes = record(agent, run.env, 5, 0, False, run.stepping)
    median = np.median(np.concatenate([np.asarray(episode.observations)[:-1] for episode in episodes]), 0)
    for panel, told in zip(figure.axes[:2], (agent.values, agent.act)):
        (mesh,) = [c for c in panel.collections if hasattr(c, "get_coordinates")]
        drawn = np.asarray(mesh.get_array()).reshape(81, 81)
        corners = np.asarray(mesh.get_coordinates())
        middles = (corners[1:, 1:] + corners[:-1, :-1]) / 2
        for row, column in ((0, 0), (10, 70), (80, 5)):
            obs = median.copy()
            obs[list(over)] = middles[row, column]
            found = np.asarray(told(obs.astype(np.float32)), float).item()
            np.testing.assert_allclose(drawn[row, column], found, rtol=1e-3, atol=1e-3)


def test_what_has_no_surface(run, tmp_path):
    for over in ((0, 0), (0, 4), (-1, 2)):
        with pytest.raises(td.ConfigError, match="numbers"):
            run.picture(over=over)
    with pytest.raises(td.ConfigError, match="over which two"):
        run.picture()
    table = td.train("q-learning", "FourRooms", 100, out=tmp_path / "rooms", progress=False)
    with pytest.raises(td.ConfigError, match="two numbers of a vector"):
        table.picture(over=(0, 1))


def test_the_command(run, tmp_path, capsys):
    out = tmp_path / "pole.png"
    assert main(["picture", str(run.path), "--over", "2", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.stat().st_size > 10_000
