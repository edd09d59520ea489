"""Pictures of learned distributions of returns."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.stats

import thorndike as td
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.returns import cumulative

OBS = np.array([0.01, 0.2, -0.03, 0.1], np.float32)


def agent_of(**fields):
    env = td.CartPole()
    more = {"torso": td.Torso(widths=(4,), init="uniform"), "learning_rate": 1e-3, "normalize_observation": False}
    algorithm = td.DQN(**more, **fields)
    spec = td.Spec(env.observation_space, env.action_space, 100)
    return Agent(algorithm, spec, algorithm.actor(algorithm.init(jax.random.key(0), spec)))


def test_the_lines_are_distribution_functions():
    values, mass = np.array([3.0, -1.0, 2.0]), np.array([0.5, 0.2, 0.3])
    at, below = cumulative(values, mass)
    oracle = scipy.stats.rv_discrete(values=(np.array([-1, 2, 3]), np.array([0.2, 0.3, 0.5])))
    np.testing.assert_allclose(below[1:], oracle.cdf(at[1:]))
    assert below[0] == 0


@pytest.mark.parametrize("head", [td.Categorical(atoms=5), td.Quantiles(n=6), td.Implicit(acting=6, waves=4)])
def test_every_action_is_drawn_with_its_mean(head, tmp_path):
    agent = agent_of(head=head)
    found = agent.look(OBS)
    np.testing.assert_allclose((found["returns"] * found["return_probabilities"]).sum(-1), found["q"], atol=1e-5)
    figure = td.plot_returns(agent, OBS, tmp_path / "returns.png", names=["left", "right"])
    assert (tmp_path / "returns.png").stat().st_size > 5000
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [f"{name}, mean {q:.3g}" for name, q in zip(["left", "right"], found["q"])]
    for line in figure.axes[0].lines[::2]:
        assert line.get_ydata()[-1] == pytest.approx(1)


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(td.IncompatibleError, match="mean of returns alone"):
        td.plot_returns(agent_of(), OBS)
    agent = agent_of(head=td.Quantiles(n=3), noisy=0.5)
    with pytest.raises(td.ConfigError, match="2 actions, and 1 names"):
        td.plot_returns(agent, OBS, names=["left"])
    with pytest.raises(td.IncompatibleError, match="not a batch"):
        td.plot_returns(agent, np.stack([OBS, OBS]))
    with pytest.raises(td.IncompatibleError, match="explore=False"):
        agent.probabilities(OBS)
    assert agent.probabilities(OBS, explore=False).max() == 1
