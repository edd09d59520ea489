"""How actions are chosen along an episode: the picture shows what the agent says at each step."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import thorndike as td
from thorndike.cli import main
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.chosen import looked
from thorndike.runs.results.record import record

SMALL = {"torso": td.Torso(widths=(8,)), "num_envs": 4, "rollout_length": 64, "epochs": 1, "minibatch_size": 64}


def trained(folder, algorithm, env):
    return td.train(algorithm, env, 256, out=folder / "run", progress=False)


@pytest.fixture(scope="module")
def pole(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("pole"), td.PPO(**SMALL), "CartPole-v1")


@pytest.fixture(scope="module")
def episode(pole):
    (found,) = record(pole.agent(), pole.env, 1, 0, True, pole.stepping)
    return found


def test_areas_are_probabilities(pole, episode):
    figure = pole.choices(explore=True, length=12)
    agent, (areas, below) = pole.agent(), figure.axes
    n = min(12, len(episode.rewards))
    told = [agent.look(obs, explore=True) for obs in episode.observations[:n]]
    p = np.stack([look["probabilities"] for look in told])
    (line,) = below.lines
    np.testing.assert_allclose(line.get_ydata(), [look["value"] for look in told], rtol=1e-4)
    dots = np.asarray(areas.collections[-1].get_offsets())
    taken = np.asarray(episode.actions)[:n]
    assert len(set(taken.tolist())) == 2
    middle = np.where(taken == 0, p[:, 0] / 2, p[:, 0] + p[:, 1] / 2)
    np.testing.assert_allclose(dots, np.stack([np.arange(n), middle], 1), rtol=1e-4)
    first, second = (np.concatenate([path.vertices for path in c.get_paths()])[:, 1] for c in areas.collections[:2])
    np.testing.assert_allclose(np.unique(first.round(5)), np.unique(np.r_[0, p[:, 0]].round(5)), atol=2e-5)
    assert second.max() == pytest.approx(1.0, abs=1e-5)


def test_memory_is_of_the_steps_before(tmp_path):
    """Along an episode that is played greedily the most probable action is the one that was taken."""
    run = trained(tmp_path, td.PPO(**SMALL, core=td.GRU(width=8)), "CartPoleNoVel-v1")
    whole = lambda x: x if x.dtype.kind != "f" else 8 * x  # noqa: E731  # a policy that is sure of itself
    agent = Agent(run.agent().algorithm, run.spec, jax.tree.map(whole, run.agent().actor))
    (episode,) = record(agent, run.env, 1, 3, False, run.stepping)
    looks = looked(agent, episode, 1000)
    np.testing.assert_array_equal(looks["probabilities"].argmax(1), episode.actions)
    alone = []
    for obs in episode.observations[:-1]:
        agent.reset()
        alone.append(agent.look(obs, explore=True)["probabilities"])
    assert (np.argmax(alone, 1) != episode.actions).any()  # as it is without memory


def test_continuous_actions_have_bands(tmp_path):
    run = trained(tmp_path, td.PPO(**SMALL), "Pendulum-v1")
    figure = run.choices(tmp_path / "actions.png", length=20)
    (episode,) = record(run.agent(), run.env, 1, 0, False, run.stepping)
    looks = run.agent().look(episode.observations[:20], explore=True)
    band, value = figure.axes
    (line,) = band.lines
    np.testing.assert_allclose(line.get_ydata(), looks["mean"][:, 0], rtol=1e-4)
    edge = band.collections[0].get_paths()[0].vertices[:, 1]
    assert edge.max() == pytest.approx(float((looks["mean"] + looks["std"]).max()), rel=1e-4)
    assert edge.min() == pytest.approx(float((looks["mean"] - looks["std"]).min()), rel=1e-4)
    np.testing.assert_allclose(value.lines[0].get_ydata(), looks["value"], rtol=1e-4)
    assert (tmp_path / "actions.png").stat().st_size > 10_000


def test_a_table_and_the_command(tmp_path, capsys):
    run = trained(tmp_path, "q-learning", "FourRooms")
    assert main(["picture", str(run.path), "--actions", "--length", "30"]) == 0
    assert capsys.readouterr().out.strip() == str(run.path / "actions.png")
    figure = run.choices(length=30)
    assert [axes.get_ylabel() for axes in figure.axes] == ["probability", "V(s)"]
    with pytest.raises(td.ConfigError, match="length must be positive"):
        run.choices(length=0)
