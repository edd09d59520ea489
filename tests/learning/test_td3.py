"""TD3 and DDPG on Pendulum, and what TD3's additions are for."""

from __future__ import annotations

import pytest
from trained import greedy, trained

import thorndike as td
from thorndike.runs.training.setup import choose


@pytest.mark.slow
@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_pendulum_in_20k_steps(name, tmp_path):
    algorithm, steps = choose(name, "Pendulum-v1", None)
    assert steps == 20_000
    returns = greedy(trained(tmp_path, algorithm, "Pendulum-v1", steps, seeds=5))
    print(name, returns)
    assert (returns >= -250).all(), returns


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["the actor descends", "critics see the action of another row"])
def test_bugs_do_not_learn_pendulum(bug, tmp_path, monkeypatch):
    if bug == "the actor descends":
        loss = td.TD3.actor_loss
        monkeypatch.setattr(td.TD3, "actor_loss", lambda *args: -loss(*args))
    else:
        right = td.TD3.critic_loss
        turned = lambda self, critics, batch, action, y: right(self, critics, batch, action[::-1], y)  # noqa: E731
        monkeypatch.setattr(td.TD3, "critic_loss", turned)
    algorithm, steps = choose("td3", "Pendulum-v1", None)
    returns = greedy(trained(tmp_path, algorithm, "Pendulum-v1", steps, seeds=2))
    print(bug, returns)
    assert (returns < -250).all(), returns
