"""Episode ends: values of small probes with closed forms, and the named bugs shown to miss them.

Termination masks the bootstrap, truncation does not, and the bootstrap reads the true successor.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, PLAN, arrays
from probes import HostProbe, small, train

import thorndike as td
from thorndike.algorithms import entries
from thorndike.checks.probes import PROBES, probe, values
from thorndike.drivers.scan import rollout
from thorndike.envs.batched import Batched
from thorndike.envs.host.batch import HostBatch
from thorndike.ops.keys import random_key
from thorndike.runs.storage.environments import describe
from thorndike.schedules import settled

ITERATIONS = {
    "dqn": 600,
    "pqn": 150,
    "ppo": 250,
    "sac": 400,
    "reinforce": 600,
    "a2c": 600,
    "trpo": 250,
    "impala": 600,
    "td3": 800,
    "tqc": 400,
    "crossq": 400,
    "discrete-sac": 400,
    "bootstrapped-dqn": 600,
}  # of each algorithm that learns values of such environments
OTHERWISE = {  # those that are tested otherwise, and where
    "q-learning": "learning/test_tabular.py",
    "sarsa": "learning/test_tabular.py",
    "expected-sarsa": "learning/test_tabular.py",
    "go-explore": "test_go_explore.py: it learns no values",
    "alphazero": "test_alphazero.py: games have no time limits",
    "alphago": "test_alphago_parts.py: results against a loop over games; games have no time limits",
    "muzero": "test_muzero_parts.py: its targets against a loop, and a chain that its model unrolls",
    "bc": "it learns no values",
    "dreamer": "test_dreamer_parts.py: returns in imagination and of stored steps",
    "distillation": "it learns no values",
    "ppo-kl": "its values are PPO's",
    "a3c": "its values are A2C's",
    "dyna-q": "learning/test_dyna.py",
    "dyna-q-plus": "learning/test_dyna.py",
    "prioritised-sweeping": "learning/test_dyna.py",
    "mpc": "planning/test_shooting.py",
    "pets": "test_pets_parts.py: what a plan earns behind a learned end",
    "mbpo": "test_mbpo_parts.py: a corridor with an end; its models want vectors",
    "option-critic": "test_option_critic_parts.py: one step against closed forms",
    "feudal-q": "test_feudal_parts.py: one step of manager and worker against closed forms",
    "hiro": "test_hiro_parts.py: its levels are sac, and what they are given is held against a loop",
    "value-iteration": "planning/test_dynamic_programming.py",
    "policy-iteration": "planning/test_dynamic_programming.py",
    **dict.fromkeys(("double-dqn", "dueling-dqn", "drq"), "they are dqn with other numbers"),
    **dict.fromkeys(("c51", "qr-dqn", "iqn", "rainbow"), "learning/test_return_distributions.py"),
    **dict.fromkeys(("munchausen-dqn", "r2d2"), "test_dqn_parts.py"),
    "drqn": "test_memory.py",
    "ddpg": "it is td3 with other numbers",
    "redq": "it is sac with other numbers",
    "rl2": "its values are PPO's",
    "maml": "test_maml_parts.py: it learns no values",
    "droq": "it is sac with other numbers",
}
NAMES = tuple(ITERATIONS)
# On the host one algorithm of each kind is enough to see that the driver's endings are those of JAX.
HOSTED = [name if name in ("dqn", "ppo", "sac") else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
SEEDS = 3


def learned(name: str, which: str, host: bool = False, seeds: int = SEEDS, compiled=None) -> np.ndarray:
    continuous = "Discrete" not in entries()[name].actions
    env = probe(which, continuous)
    if host:
        env = td.GymnasiumEnvironment(lambda: HostProbe(which, continuous))
    algorithm = small(name, PROBES[which].discount)
    return values(algorithm, train(algorithm, env, ITERATIONS[name], seeds, compiled), 8)


def errors(which: str, found: np.ndarray) -> np.ndarray:
    """How far values [R, S] are from the closed forms, in tolerances: [states, R]."""
    _, _, expected, tolerance = PROBES[which]
    return np.array([np.abs(found[:, state] - value) / tolerance for state, value in expected.items()])


def check(which: str, found: np.ndarray) -> None:
    assert errors(which, found).max() < 1, (which, PROBES[which], found)


def check_missed(which: str, found: np.ndarray) -> None:
    """Values were learned, and miss the closed forms in every run by many tolerances: 17 and more were measured."""
    assert np.isfinite(found).all()
    assert errors(which, found).max(0).min() > 8, (which, PROBES[which], found)


def test_every_algorithm_is_tested():
    assert {*ITERATIONS, *OTHERWISE} == set(entries())


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(CASES[name][0], "learn")])
def test_the_clock_is_not_the_task(name):
    """What is learned from a rollout hangs on whether its episodes were cut by the clock or ended by the task.

    Quick, and blind to by how much: the values below say that. Off policy a batch has no truncations at all.
    """
    algorithm, env = CASES[name]
    env = td.make(env)
    algorithm, spec, world = settled(algorithm, 0, PLAN, 0), describe(env, PLAN, name), Batched(env, algorithm.num_envs)

    @jax.jit
    def learned(by_task, key):
        state = algorithm.init(key, spec)
        actor = algorithm.actor(state)
        carry = algorithm.carry(actor, algorithm.num_envs)
        played = rollout(algorithm, world, actor, carry, world.reset(key), key, "explore")[0]
        steps, over = played.steps, jnp.zeros_like(played.steps.terminated).at[3].set(True)
        terminated, truncated = steps.terminated | (over & by_task), steps.truncated | (over & ~by_task)
        steps = steps._replace(terminated=terminated, truncated=truncated & ~terminated)
        return algorithm.learn(state, played._replace(steps=steps), key)[0]

    task, clock = (learned(jnp.bool_(by_task), random_key(0)) for by_task in (True, False))
    apart = max(np.abs(np.subtract(a, b, dtype=float)).max(initial=0.0) for a, b in zip(arrays(task), arrays(clock)))
    assert apart > 1e-4  # of rounding it is 1e-6


@pytest.fixture(scope="module")
def compiled():
    return {}


@pytest.mark.parametrize("which", PROBES)
@pytest.mark.parametrize("name", NAMES)
def test_values_on_jax(name, which, compiled):
    check(which, learned(name, which, compiled=compiled))


@pytest.mark.parametrize("which", [pytest.param("loop", marks=pytest.mark.slow), "chain", "kinds", "timed"])
@pytest.mark.parametrize("name", HOSTED)
def test_values_on_the_host(name, which, compiled):
    check(which, learned(name, which, host=True, seeds=1, compiled=compiled))


def done_is_terminated(now):
    return now._replace(terminated=now.terminated | now.truncated)


def bootstrap_from_reset(now):
    return now._replace(final_obs=now.obs)


def never_terminated(now):
    return now._replace(terminated=now.terminated & False, truncated=now.truncated | now.terminated)


BUGS = {
    "time limits taken for terminations": (done_is_terminated, "loop"),
    "time limits taken for terminations, two kinds": (done_is_terminated, "kinds"),
    "bootstrap from the next episode": (bootstrap_from_reset, "kinds"),
    "terminations not masked": (never_terminated, "chain"),
    "terminations not masked, timed": (never_terminated, "timed"),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("name", NAMES)
def test_bugs_miss_the_values_on_jax(name, bug, monkeypatch):
    change, which = BUGS[bug]
    step = Batched.step
    monkeypatch.setattr(Batched, "step", lambda self, *args: change(step(self, *args)))
    check_missed(which, learned(name, which, seeds=1))


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_miss_the_values_on_the_host(bug, monkeypatch, compiled):
    change, which = BUGS[bug]
    step = HostBatch.step
    monkeypatch.setattr(HostBatch, "step", lambda self, *args: change(step(self, *args)))
    check_missed(which, learned("dqn", which, host=True, seeds=1, compiled=compiled))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "where"), [("dqn", "value.dqn"), ("sac", "actor_critic.sac"), ("ppo", "policy.ppo")])
def test_a_target_that_ignores_termination_misses_the_values(name, where, monkeypatch):
    def endless(reward, next_value, terminated, discount):
        return reward + discount * next_value

    if name == "ppo":
        monkeypatch.setattr("thorndike.ops.returns.td_target", endless)
    else:
        monkeypatch.setattr(f"thorndike.algorithms.{where}.td_target", endless)
    check_missed("chain", learned(name, "chain", seeds=1))


@pytest.mark.parametrize("which", PROBES)
def test_the_probes_pay_what_the_closed_forms_say(which):
    _, discount, expected, _ = PROBES[which]
    env = probe(which, False)
    state, total = env.reset(jax.random.key(0)).state._replace(kind=1.0), 0.0
    for t in range(int(min(env.end, 800))):
        step = env.step(state, 0, None)
        state, total = step.state, total + discount**t * float(step.reward)
        assert bool(step.terminated) == (t + 1 >= env.end)
    assert abs(total - expected[1 if which == "kinds" else 0]) < 1e-3
