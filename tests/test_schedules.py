"""Schedules: their values against optax, where drivers put them in, and on the command line."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium.spaces import Discrete

import thorndike as td
from thorndike.configuration import check
from thorndike.schedules import Point, parse, scheduled, settled, spell

TOTAL = 1000
STEPS = (0, 1, 137, 500, 999, 1000, 1200)


def along(schedule, episodes=False):
    return [float(schedule.at(Point(*((0, TOTAL, n) if episodes else (n, TOTAL, 0))))) for n in STEPS]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (td.Linear(3e-4), optax.linear_schedule(3e-4, 0.0, TOTAL)),
        (td.Linear(1.0, 0.05, fraction=0.5), optax.linear_schedule(1.0, 0.05, TOTAL // 2)),
        (td.Linear(0.1, 0.9, over=200), optax.linear_schedule(0.1, 0.9, 200)),
        (td.Cosine(1e-2), optax.cosine_decay_schedule(1e-2, TOTAL)),
        (td.Cosine(1e-2, 1e-3), optax.cosine_decay_schedule(1e-2, TOTAL, alpha=0.1)),
        (td.Exponential(0.5, 0.99), optax.exponential_decay(0.5, 1, 0.99)),
        (td.Exponential(0.5, 0.99, least=0.1), optax.exponential_decay(0.5, 1, 0.99, end_value=0.1)),
        (td.Harmonic(0.5, a=10, power=0.8, per="step"), lambda n: 0.5 * (10 / (10 + n)) ** 0.8),
    ],
)
def test_values(ours, theirs):
    np.testing.assert_allclose(along(ours), [theirs(n) for n in STEPS], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("per_step", "per_episode"),
    [
        (td.Linear(1.0, over=200), td.Linear(1.0, over=200, per="episode")),
        (td.Exponential(1.0, 0.99), td.Exponential(1.0, 0.99, per="episode")),
        (td.Harmonic(per="step"), td.Harmonic(per="episode")),
    ],
)
def test_episodes_are_counted_like_steps(per_step, per_episode):
    assert along(per_step) == along(per_episode, episodes=True)
    assert len(set(along(per_episode))) == 1


@td.config
class Telling(td.PPO):
    """PPO that reports its numbers as metrics."""

    def learn(self, state, rollout, key):
        state, metrics = super().learn(state, rollout, key)
        told = {"rate": self.learning_rate, "entropy_weight": self.entropy_coefficient}
        return state, metrics | {name: jnp.float32(x) for name, x in told.items()}


@pytest.mark.parametrize("env", ["CartPole-v1", "gymnasium/CartPole-v1"])
def test_drivers_put_the_numbers_in(env, tmp_path):
    """Before each iteration, from the steps and episodes so far; and go on after a resume, over the new total."""
    few = {"num_envs": 2, "rollout_length": 16, "minibatch_size": 32, "epochs": 1, "torso": td.Torso(widths=(4,))}
    algorithm = Telling(
        learning_rate=td.Linear(np.array([1e-3, 1e-2], np.float32)),
        entropy_coefficient=td.Exponential(1.0, 0.9, per="episode"),
        **few,
    )
    run = td.train(algorithm, env, 320, log_every=32, out=tmp_path / "run", progress=False)
    run = td.resume(run.path, steps=640, classes=[Telling], progress=False)
    columns = run.metrics()
    before = columns["steps"] - 32
    left = np.where(before < 320, 1 - before / 320, 1 - before / 640)
    np.testing.assert_allclose(columns["train/rate"], np.outer(left, [1e-3, 1e-2]), rtol=1e-5)
    ended = np.concatenate([np.zeros((1, 2)), columns["rollout/episodes"][:-1]])
    np.testing.assert_allclose(columns["train/entropy_weight"], 0.9**ended, rtol=1e-5)
    assert ended[-1].min() > 5


def test_numbers_alone_change_nothing():
    algorithm = td.PPO()
    assert not scheduled(algorithm)
    assert settled(algorithm, 3, 10, 0) is not None
    assert jax.tree.structure(settled(algorithm, 3, 10, 0)) == jax.tree.structure(algorithm)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (td.Linear(-1e-3), "learning_rate must be at least 0"),
        (td.Linear(1e-3, fraction=0.0), r"Linear.fraction must lie in \(0, 1\]"),
        (td.Linear(1e-3, per="episode"), 'Linear.per="episode". needs over='),
        (td.Exponential(1e-3, 1.1), r"Exponential.decay must lie in \(0, 1\]"),
        (td.Cosine(1e-3, over=0), "Cosine.over must be positive"),
        (td.Harmonic(a=0.0, per="step"), "Harmonic.a must be above 0"),
    ],
)
def test_bad_schedules_are_refused(schedule, message):
    with pytest.raises(td.ConfigError, match=message):
        check(td.PPO(learning_rate=schedule))


def test_visits_are_for_tables(tmp_path):
    algorithm = dataclasses.replace(td.PPO(), learning_rate=td.Harmonic())
    with pytest.raises(td.ConfigError, match=r"counts visits of a pair .*: only tables do, PPO does not"):
        td.train(algorithm, "CartPole-v1", 100, out=tmp_path / "run")


@pytest.mark.parametrize("text", ["linear:3e-4:0.1", "cosine:0.5:0.1:0.5", "exponential:1:0.99:episode", "harmonic:1"])
def test_on_the_command_line(text):
    assert parse(spell(parse(text))) == parse(text)


@pytest.mark.parametrize("algorithm", [td.QLearning, td.SARSA])
def test_a_harmonic_table_is_the_mean_of_its_targets(algorithm):
    """With α = 1 / N(s, a) and γ = 0, Q(s, a) is the mean of the rewards that followed (s, a)."""
    rng, n = np.random.default_rng(0), 200
    s, a = rng.integers(0, 3, (n, 1)), rng.integers(0, 2, (n, 1))
    reward, no = rng.normal(size=(n, 1)).astype(np.float32), np.zeros((n, 1), bool)
    table = algorithm(learning_rate=td.Harmonic(), discount=0.0, initial_value=7.0)
    spec = td.Spec(Discrete(3), Discrete(2), n)
    steps = td.Transition(jnp.asarray(s), no, jnp.asarray(a), {}, reward, ~no, no, jnp.asarray(s), {})
    state = table.init(jax.random.key(0), spec)
    state, _ = table.learn(state, td.Rollout(steps, (), None), jax.random.key(0))
    seen = slice(0, n - (algorithm is td.SARSA))  # SARSA's last step waits for the action after it
    for i in range(3):
        for j in range(2):
            mine = (s[seen] == i) & (a[seen] == j)
            assert state.q[i, j] == pytest.approx(reward[seen][mine].mean(), abs=1e-5)
            assert state.visits[i, j] == mine.sum()
