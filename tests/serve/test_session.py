"""Agents used by several at once, and batches of many sizes."""

from __future__ import annotations

import threading

import numpy as np
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.drivers.evaluate import act
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent
from thorndike.types import Spec

SPEC = Spec(Box(-1, 1, (3,), np.float32), Discrete(5), 1, "t")


def agent_of(core=None) -> Agent:
    algorithm = td.PPO(torso=td.Torso(widths=(8,), init="uniform"), core=core)
    return Agent(algorithm, SPEC, algorithm.actor(algorithm.init(random_key(0), SPEC)))


def test_sessions_in_threads_act_as_each_would_alone():
    agent, users, steps = agent_of(td.GRU(width=8)), 4, 25
    seen = np.random.default_rng(0).uniform(-1, 1, (users, steps, 3)).astype(np.float32)
    alone = []
    for i in range(users):
        session = agent.session(i)
        alone.append([session.act(obs, explore=True) for obs in seen[i]])
    found = np.zeros((users, steps), int)
    barrier = threading.Barrier(users)

    def use(i):
        session = agent.session(i)
        for t in range(steps):
            barrier.wait()
            found[i, t] = session.act(seen[i, t], explore=True)

    threads = [threading.Thread(target=use, args=(i,)) for i in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found, alone)
    shared = np.array([[agent.act(seen[i, t], explore=True) for i in range(users)] for t in range(steps)]).T
    assert (shared != np.array(alone)).any()  # one memory for all of them


def test_one_session_in_many_threads_draws_as_often_as_it_is_asked():
    session, drawn = agent_of().session(3), []
    obs = np.zeros(3, np.float32)
    threads = [threading.Thread(target=lambda: drawn.append(int(session.act(obs, explore=True)))) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = agent_of().session(3)
    assert sorted(drawn) == sorted(int(again.act(obs, explore=True)) for _ in range(24))  # no key was used twice
    other, after = agent_of().session(3), []
    session.reset(3)
    for one in (session, other):
        after.append([int(one.act(obs, explore=True)) for _ in range(5)])
    assert after[0] == after[1]


def test_batches_of_many_sizes_are_few_programs():
    agent = agent_of()
    obs = np.random.default_rng(0).uniform(-1, 1, (17, 3)).astype(np.float32)
    each = np.array([agent.act(row) for row in obs])
    before = act._cache_size()
    for n in range(2, 18):
        np.testing.assert_array_equal(agent.act(obs[:n]), each[:n])
    assert act._cache_size() - before <= 5  # of 2, 4, 8, 16 and 32
