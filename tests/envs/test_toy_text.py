"""FrozenLake, Taxi and the slippery cliff against Gymnasium's own tables and steps: every pair of state and action."""

from __future__ import annotations

import functools
from collections import defaultdict

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from scipy.stats import chisquare

import thorndike as td
from thorndike.configuration import check, from_json, to_json
from thorndike.envs import BUILT_IN
from thorndike.envs.toy_text.tables import TableState
from thorndike.exports import known_configs

OWN = ["SFHS", "FFFF", "HFGF"]
CASES = {
    "FrozenLake-v1": {},
    "FrozenLake-v1 on firm ice": {"is_slippery": False},
    "FrozenLake-v1 of 8 x 8": {"map_name": "8x8"},
    "FrozenLake-v1 on a map of one's own": {"desc": OWN},
    "FrozenLake8x8-v1": {},
    "Taxi-v4": {},
    "Taxi-v4 in the rain": {"is_rainy": True},
    "CliffWalkingSlippery-v1": {},
}


@functools.cache
def both(case):
    """Our environment and Gymnasium's."""
    name, options = case.split()[0], CASES[case]
    if name not in gymnasium.registry:
        pytest.skip(f"this Gymnasium has no {name}")
    return td.make(name, **options), gymnasium.make(name, disable_env_checker=True, **options).unwrapped


def expected(host):
    """Gymnasium's P: the probability of each outcome (next state, reward, terminated) of each pair."""
    rows = {}
    for s, actions in host.P.items():
        for a, outcomes in actions.items():
            rows[s, a] = defaultdict(float)
            for p, after, reward, terminated in outcomes:
                rows[s, a][int(after), float(reward), bool(terminated)] += p
    return rows


@functools.cache
def stepped(case, samples):
    """Our steps from every state with every action: states, rewards, terminations, masks, [S, A, samples]."""
    env, _ = both(case)
    n, actions = int(env.observation_space.n), int(env.action_space.n)
    keys = jax.random.split(jax.random.key(3), (n, actions, samples))
    over = jax.vmap(jax.vmap(jax.vmap(env.step, (None, None, 0)), (None, 0, 0)), (0, None, 0))
    found = jax.jit(over)(TableState(jnp.arange(n)), jnp.arange(actions), keys)
    np.testing.assert_array_equal(found.obs, found.state.state)
    return jax.tree.map(np.asarray, (found.obs, found.reward, found.terminated, found.info))


@pytest.mark.parametrize("case", CASES)
def test_every_transition_is_gymnasiums(case):
    """Each outcome that our steps have is in Gymnasium's table, as often as it says; each that it has is met."""
    env, host = both(case)
    samples = 1 if env.table.probability.shape[-1] == 1 else 600
    obs, reward, terminated, _ = stepped(case, samples)
    rows = expected(host)
    assert obs.shape[:2] == (len(host.P), len(host.P[0]))
    for (s, a), outcomes in rows.items():
        found = defaultdict(float)
        for outcome in zip(obs[s, a].tolist(), reward[s, a].tolist(), terminated[s, a].tolist()):
            found[outcome] += 1 / samples
        assert set(found) == set(outcomes), (s, a)
        for outcome, p in outcomes.items():
            assert abs(found[outcome] - p) <= 6 * np.sqrt(p * (1 - p) / samples) + 1e-9, (s, a, outcome)


@pytest.mark.parametrize("case", CASES)
def test_steps_are_gymnasiums_own(case):
    """Gymnasium's `step` itself, from every state: where nothing is random, the same; else one of our outcomes."""
    _, host = both(case)
    obs, reward, terminated, info = stepped(case, 600 if len(host.P[0][0]) > 1 or "rain" in case else 1)
    host.reset(seed=0)
    for s in host.P:
        for a in host.P[s]:
            host.s = s
            after, earned, ended, _, seen = host.step(a)
            same = (obs[s, a] == after) & (reward[s, a] == earned) & (terminated[s, a] == ended)
            assert same.any()
            if "action_mask" in seen:
                np.testing.assert_array_equal(info["mask"][s, a][same.argmax()], seen["action_mask"])


@pytest.mark.parametrize("case", CASES)
def test_the_model_is_gymnasiums_table(case):
    env, host = both(case)
    probability, reward, terminal = env.transitions()
    np.testing.assert_allclose(probability.sum(-1), 1.0, rtol=1e-12)
    ends = {after for row in expected(host).values() for after, _, ended in row if ended}
    assert set(np.flatnonzero(terminal)) == ends
    for (s, a), outcomes in expected(host).items():
        row, earned = np.zeros(len(terminal)), 0.0
        for (after, gain, _), p in outcomes.items():
            row[after] += p
            earned += p * gain
        if s in ends:
            row, earned = np.eye(len(terminal))[s], 0.0
        np.testing.assert_allclose(probability[s, a], row, atol=1e-12)
        assert reward[s, a] == pytest.approx(earned, abs=1e-12)
    assert isinstance(env, td.FiniteMDP)


@pytest.mark.parametrize("case", CASES)
def test_what_ends_an_episode_never_goes_on(case):
    """Of the states that episodes visit, those that end one are always its end: `terminal` says all of it."""
    env, host = both(case)
    rows, terminal = expected(host), env.transitions()[2]
    seen, todo = set(), set(np.flatnonzero(host.initial_state_distrib).tolist())
    while todo:
        s = todo.pop()
        seen.add(s)
        for a in host.P[s]:
            for after, _, ended in rows[s, a]:
                assert ended == terminal[after]
                if not ended and after not in seen:
                    todo.add(after)
    assert len(seen) > 1


@pytest.mark.parametrize("case", CASES)
def test_spaces_masks_starts_and_time_limit(case):
    env, host = both(case)
    name = case.split()[0]
    assert env.observation_space == host.observation_space
    assert env.action_space == host.action_space
    limit = gymnasium.spec(name).max_episode_steps
    assert env.max_steps == limit if limit else env.max_steps >= 500
    n = 30_000
    first = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), n))
    start = np.asarray(host.initial_state_distrib)
    counts = np.bincount(first.obs, minlength=len(start))
    assert counts[start == 0].sum() == 0
    if (start > 0).sum() > 1:
        assert chisquare(counts[start > 0], n * start[start > 0]).pvalue > 1e-3
    assert env.masked == hasattr(host, "action_mask")
    if env.masked:
        legal = np.array([host.action_mask(s) for s in range(len(start))], bool)
        np.testing.assert_array_equal(first.info["mask"], legal[first.obs])
        assert legal.any(1).all()


def test_every_registered_table_is_built_in():
    """All of Gymnasium's toy environments, and of Taxi every version that it registers, by equal tables."""
    toys = {name: spec for name, spec in gymnasium.registry.items() if "envs.toy_text" in str(spec.entry_point)}
    toys.pop("CliffWalking-v0", None)  # which older versions of Gymnasium have, with the rules of -v1
    assert set(toys) <= set(BUILT_IN)
    for name in toys:
        host = gymnasium.make(name, disable_env_checker=True).unwrapped
        if hasattr(host, "P") and hasattr(td.make(name), "table"):
            table = td.make(name).table
            for s in host.P:
                for a, outcomes in host.P[s].items():
                    ours = zip(*(x[s, a, : len(outcomes)].tolist() for x in table[:4]))
                    assert list(ours) == [(p, int(after), r, bool(end)) for p, after, r, end in outcomes]
    assert td.make("Taxi-v3") == td.make("Taxi-v4")


@pytest.mark.parametrize("case", CASES)
def test_it_is_named_in_files_and_draws(case):
    env, _ = both(case)
    check(env)
    assert from_json(to_json(env), known_configs()) == env
    first, second = (env.render(TableState(jnp.int32(s))) for s in (2, 21 if "Taxi" in case else 6))
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert (first != second).any()


BAD = {
    "no such map": ("FrozenLake-v1", {"map_name": "5x5"}, "KeyError: '5x5'"),
    "ragged": ("FrozenLake-v1", {"desc": ["SF", "F"]}, "cannot be made with"),
    "no start": ("FrozenLake-v1", {"desc": ["FF", "FG"]}, "no start: mark a cell with S"),
    "random": ("FrozenLake-v1", {"map_name": None}, "generate_random_map"),
    "unknown": ("FrozenLake-v1", {"slippery": False}, "unexpected keyword argument 'slippery'"),
    "drawing": ("FrozenLake-v1", {"render_mode": "human"}, "render_mode"),
    "fickle": ("Taxi-v4", {"fickle_passenger": True}, "take gymnasium/Taxi-v4"),
    "no time": ("Taxi-v4", {"max_steps": 0}, "max_steps must be positive"),
    "an old version's options": ("Taxi-v3", {"is_rainy": True}, "Taxi-v3 cannot be made with"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_options_are_refused(bad):
    name, options, message = BAD[bad]
    with pytest.raises(td.ConfigError, match=message):
        td.make(name, **options)


def test_random_maps_are_taken_as_they_come():
    rows = generate_random_map(size=6, seed=3)
    for desc in (rows, np.array([list(row) for row in rows])):
        assert int(td.make("FrozenLake-v1", desc=desc).observation_space.n) == 36


def test_optima_by_dynamic_programming():
    """The best that can be expected: published for FrozenLake without a limit (14/17), and Taxi's 7.93."""

    def best(env, steps):
        probability, reward, _ = env.transitions()
        value = np.zeros(len(reward))
        for _ in range(steps):
            value = (reward + probability @ value).max(1)
        return env.table.start @ value

    lake, taxi = td.make("FrozenLake-v1"), td.make("Taxi-v4")
    assert best(lake, 20_000) == pytest.approx(14 / 17, abs=1e-6)
    assert best(lake, lake.max_steps) == pytest.approx(0.744, abs=1e-3)
    assert best(taxi, taxi.max_steps) == pytest.approx(7.93, abs=1e-9)
