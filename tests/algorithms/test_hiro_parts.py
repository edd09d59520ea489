"""HIRO: what manager and worker learn from, against a loop in plain Python; the off-policy correction; its bugs."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.algorithms.hierarchical import hiro
from thorndike.nets.policy import Actions
from thorndike.types import Look, Rollout, Transition

HIRO = td.HIRO
T, B, C = 6, 200, 3
SPEC = td.Spec(Box(-4, 4, (3,)), Box(-2, 2, (2,)), 100)
RULES = td.HIRO(rollout_length=T, goal=(0, 2), correct=False, reach=2.0)


def windows(seed=0):
    """Random windows [T, B], some with ends inside, and their targets [B, 2]."""
    rng = np.random.default_rng(seed)
    obs, after = (rng.normal(size=(T, B, 3)).astype(np.float32) for _ in range(2))
    ended = rng.random((T, B)) < 0.15
    terminated = ended & (rng.random((T, B)) < 0.5)
    first = np.concatenate([rng.random((1, B)) < 0.5, ended[:-1]])
    action = rng.uniform(-2, 2, (T, B, 2)).astype(np.float32)
    reward = rng.normal(size=(T, B)).astype(np.float32)
    steps = Transition(obs, first, action, {}, reward, terminated, (), after, {})
    target = rng.normal(size=(B, 2)).astype(np.float32)
    return Rollout(jax.tree.map(jnp.asarray, steps), jnp.asarray(target), ())


def count(steps, b):
    """How many steps of a window are of its first episode."""
    for t in range(1, T):
        if steps.first[t, b]:
            return t
    return T


def managed(rules=RULES, seed=0):
    """How far the manager's transitions are from a loop's."""
    batch = windows(seed)
    found = rules.decisions(None, batch, jax.random.key(0))
    steps, worst = jax.device_get(batch.steps), 0.0
    for b in range(B):
        k = count(steps, b)
        goal = np.asarray(batch.carry)[b] - steps.obs[0, b, [0, 2]]
        expected = (
            steps.obs[0, b],
            goal,
            steps.reward[:k, b].sum(),
            steps.terminated[k - 1, b],
            steps.next_obs[k - 1, b],
        )
        got = (found.obs[b], found.action[b], found.reward[b], found.terminated[b], found.next_obs[b])
        worst = max(worst, *(np.abs(np.asarray(x, float) - y).max() for x, y in zip(got, expected)))
    return worst


def taught(rules=RULES, seed=0):
    """How far the worker's transitions are from any step of their window that they may be, and how often each step
    was drawn."""
    batch = windows(seed)
    found = jax.device_get(rules.moves(batch, jax.random.key(0)))
    steps, target, worst, drawn = jax.device_get(batch.steps), np.asarray(batch.carry), 0.0, np.zeros(T)
    assert not found.terminated.any()
    for b in range(B):
        near = []
        for t in range(count(steps, b)):
            left, after = (target[b] - x[t, b, [0, 2]] for x in (steps.obs, steps.next_obs))
            expected = (
                np.concatenate([steps.obs[t, b], left]), steps.action[t, b], -np.sqrt((after**2).sum()),
                np.concatenate([steps.next_obs[t, b], after]),
            )  # fmt: skip
            got = (found.obs[b], found.action[b], found.reward[b], found.next_obs[b])
            near.append(max(np.abs(x - y).max() for x, y in zip(got, expected)))
        worst, drawn[np.argmin(near)] = max(worst, min(near)), drawn[np.argmin(near)] + 1
    return worst, drawn


def test_the_manager_learns_from_whole_decisions():
    assert managed() < 1e-5


def test_the_worker_learns_from_any_step_of_a_decision():
    worst, drawn = taught()
    assert worst < 1e-5
    assert (drawn > 5).all()


def across_ends(monkeypatch):
    monkeypatch.setattr(hiro, "lengths", lambda steps: jnp.full(steps.reward.shape[1], T))


def paid_for_one_step(monkeypatch):
    monkeypatch.setattr(HIRO, "earned", lambda self, reward, k: reward[0])


def paid_for_what_follows(monkeypatch):
    monkeypatch.setattr(HIRO, "earned", lambda self, reward, k: reward.sum(0))


def left_at_the_start(monkeypatch):
    """What is left of a goal is taken for the goal, wherever the worker is."""
    monkeypatch.setattr(HIRO, "ahead", lambda self, obs, target: jnp.concatenate([obs, target], -1))


def paid_by_the_environment(monkeypatch):
    monkeypatch.setattr(HIRO, "wage", lambda self, obs, target: obs[..., 0])


@pytest.mark.parametrize("bug", [across_ends, paid_for_one_step, paid_for_what_follows])
def test_bugs_of_the_manager(bug, monkeypatch):
    bug(monkeypatch)
    assert managed() > 0.5


@pytest.mark.parametrize("bug", [across_ends, left_at_the_start, paid_by_the_environment])
def test_bugs_of_the_worker(bug, monkeypatch):
    bug(monkeypatch)
    assert taught()[0] > 0.5


class Linear(NamedTuple):
    """A worker μ(s, h) = (h + s) / 8 in network units, deterministic."""

    policy: object


class Says(NamedTuple):
    action: jax.Array

    def mode(self):
        return self.action


@dataclasses.dataclass(frozen=True)
class LinearLevel:
    """In the place of the worker's SAC."""

    def actor(self, state):
        return state

    def look(self, actor, carry, now, explore):
        return Look(Says((now.obs[..., 3:] + now.obs[..., [0, 2]]) / 8)), carry


class LinearPolicy:
    actions = Actions.of(SPEC.action)


CORRECTING = dataclasses.replace(RULES, worker=LinearLevel(), correct=True)


def corrected(draw=None, noise=0.0):
    """Windows of the linear worker under true goals, the goals that were noted instead, and what is made of those: all
    [B, 2]; and the misfits of the latter two [B]."""
    rng, batch = np.random.default_rng(1), windows(3)
    true, noted = (rng.uniform(-2, 2, (B, 2)).astype(np.float32) for _ in range(2))
    steps = batch.steps
    part = np.asarray(steps.obs)[..., [0, 2]]
    target = part[0] + true
    # μ of what is left is (p - s + s) / 8, in units of half the range, 2
    done = 2.0 * (target / 8 + noise * rng.normal(size=(T, B, 2)))
    steps = steps._replace(action=jnp.float32(done))
    k = hiro.lengths(steps)
    with pytest.MonkeyPatch.context() as patch:
        if draw is not None:
            patch.setattr(HIRO, "drawn", lambda self, moved, goal, key: draw(self, moved, goal, key, true))
        found = CORRECTING.relabelled(Linear(LinearPolicy()), steps, k, jnp.asarray(noted), jax.random.key(0))

    def misfit(goal):
        apart = ((np.asarray(done) / 2 - (part[0] + np.asarray(goal)) / 8) ** 2).sum(-1)
        return np.array([apart[: int(k[b]), b].sum() for b in range(B)])

    return true, noted, np.asarray(found), misfit(noted), misfit(found)


right = HIRO.drawn


def with_the_true_one(self, moved, goal, key, true):
    return right(self, moved, goal, key).at[5].set(true)


def test_the_correction_finds_the_goal_that_was_carried_out():
    true, _, found, _, _ = corrected(with_the_true_one)
    assert (np.abs(true - found).max(-1) < 1e-5).mean() >= 0.99


def test_the_correction_never_makes_what_was_done_less_likely():
    _, noted, found, before, after = corrected(noise=0.3)
    assert (after <= before + 1e-5).all()
    changed = np.abs(noted - found).max(-1) > 1e-5
    assert changed.mean() > 0.3  # it does replace goals
    assert (~changed).any()


def test_without_the_noted_goal_among_the_candidates_it_does():
    def without(self, moved, goal, key, true):
        return right(self, moved, goal, key)[1:]

    _, _, _, before, after = corrected(without, noise=0.3)
    assert (after > before + 1e-3).mean() > 0.02


def test_a_correction_without_re_basing_misses_the_goal(monkeypatch):
    monkeypatch.setattr(HIRO, "ahead", lambda self, obs, target: jnp.concatenate(
        [obs, jnp.broadcast_to(target - self.part(obs[0]), (*obs.shape[:-1], 2))], -1))  # fmt: skip
    true, _, found, _, _ = corrected(with_the_true_one)
    assert (np.abs(true - found).max(-1) < 1e-5).mean() < 0.7


def test_goals_are_drawn_around_how_far_it_went():
    moved, goal = jnp.zeros((5000, 2)).at[:, 1].set(0.5), jnp.full((5000, 2), 1.5)
    goals = RULES.drawn(moved, goal, jax.random.key(0))
    assert goals.shape == (RULES.candidates + 2, 5000, 2)
    np.testing.assert_array_equal(goals[0], goal)
    np.testing.assert_array_equal(goals[1], moved)
    assert float(jnp.abs(goals).max()) == 2.0
    # half of the half range: 1 here, clipped at 2
    expected = np.clip(np.random.default_rng(0).normal([0, 0.5], 1.0, (100_000, 2)), -2, 2)
    np.testing.assert_allclose(goals[2:].reshape(-1, 2).mean(0), expected.mean(0), atol=0.03)
    np.testing.assert_allclose(goals[2:].reshape(-1, 2).std(0), expected.std(0), atol=0.03)


def test_a_goal_stays_where_it_is_until_the_next():
    """New targets at the start of a rollout and of an episode, and no others."""
    aim = hiro.Aim(jnp.full((4, 2), 9.0), jnp.array([0, 0, 3, 3]))
    obs, said, no = jnp.arange(12.0).reshape(4, 3), jnp.ones((4, 2)), jnp.zeros(4)
    now = td.Timestep(obs, no, no > 0, no > 0, obs, jnp.array([False, True, False, True]), {})
    after = RULES.aimed(aim, now, said)
    np.testing.assert_array_equal(after.target, [[1, 3], [4, 6], [9, 9], [10, 12]])
    np.testing.assert_array_equal(after.steps, [1, 1, 4, 4])
    for _ in range(2):
        after = RULES.aimed(after, now._replace(first=no > 0), 5 * said)
    np.testing.assert_array_equal(after.target, [[1, 3], [4, 6], [9, 9], [10, 12]])
    np.testing.assert_array_equal(after.steps, [3, 3, 0, 0])


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"goal": (-1,)}, "goal"), ({"reach": 0.0}, "reach"), ({"replay": td.Sequences(burn_in=2)}, "burn_in")],
)
def test_settings_that_make_no_sense(fields, word):
    with pytest.raises(td.ConfigError, match=word):
        td.HIRO(**fields).check()


def test_what_it_cannot_serve_is_said():
    assert "vectors" in td.HIRO().supports(td.Spec(Discrete(4), SPEC.action, 1))
    assert "Box" in td.HIRO().supports(td.Spec(SPEC.observation, Discrete(4), 1))
    assert "goal" in td.HIRO(goal=(3,)).supports(SPEC)
    assert RULES.supports(SPEC) is None
