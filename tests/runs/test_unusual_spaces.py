"""Unusual spaces, all the way: trained, evaluated, saved, loaded, asked, recorded and cloned."""

from __future__ import annotations

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

import thorndike as td
from thorndike.envs.batched import to_environment
from thorndike.nets.policy import Actions

EVERYTHING = Dict(
    {
        "": Box(0, 1, ()),
        "a/b": Box(np.zeros(3, bool), np.ones(3, bool), dtype=bool),
        "größe": Tuple([Dict({"y": Box(-1, 1, (2,), np.float16)}), Discrete(5, start=-2)]),
        "int8": Box(-100, 100, (2,), np.int8),
        "planes": MultiBinary((2, 3)),
        "uint16": Box(0, 65535, (2,), np.uint16),
        "unbounded": Box(-np.inf, np.inf, (3,), np.float64),
        "z": MultiDiscrete([[1, 3], [4, 2]], start=[[-1, 0], [3, 1]]),
    }
)
ACTIONS = {
    "one": Discrete(1, start=7),
    "from below zero": Discrete(3, start=-1),
    "several from other starts": MultiDiscrete([[2, 3], [4, 2]], start=[[5, -4], [0, 1]], dtype=np.int32),
    "bits": MultiBinary((2, 2)),
    "number": Box(-2, 3, ()),
    "matrix of doubles": Box(-1 / 3, np.pi, (2, 2), np.float64),
}
BRIEF = ("several from other starts", "matrix of doubles")
TORSO = td.Torso(widths=(8,))
PPO = td.PPO(num_envs=2, rollout_length=8, minibatch_size=16, epochs=1, torso=TORSO)


class Whatever(gymnasium.Env):
    """Shows samples, and insists on actions of its space."""

    observation_space = EVERYTHING

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), (action, type(action))
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == 5, False, {}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in BRIEF)) for n in ACTIONS])
def test_unusual_spaces_all_the_way(name, tmp_path):
    space, how = ACTIONS[name], {"progress": False, "workers": "serial"}
    run = td.train(PPO, lambda: Whatever(space), 32, out=tmp_path / "run", **how)
    assert run.evaluate(2).returns.tolist() == [[5.0, 5.0]]
    agent = td.load(run.agent().save(tmp_path / "agent.td"))
    assert space.contains(agent.act(EVERYTHING.sample()))
    data = run.record(2, explore=True)
    assert len(data) == 10
    assert all(space.contains(action) for action in data.actions)
    cloned = td.train(td.BC(torso=TORSO), lambda: Whatever(space), 4, dataset=data, out=tmp_path / "bc", **how)
    assert space.contains(cloned.agent().act(EVERYTHING.sample()))


BOXES = {
    "bounds that float32 rounds outwards": Box(np.array([-0.1, 1 / 3]), np.array([0.1, np.pi]), dtype=np.float64),
    "singles": Box(-0.1, 0.1, (2,)),
    "tiny": Box(1e-9, 2e-9, (2,), np.float64),
    "mixed": Box(np.float32([-1e-3, -1000]), np.float32([1e-3, 2000])),
    "one-sided": Box(0, np.inf, (2,)),
    "other side": Box(-np.inf, -3, (2,), np.float64),
    "without width": Box(np.array([0.3, -1]), np.array([0.3, 1]), dtype=np.float64),
    "half precision": Box(-1, 1, (2,), np.float16),
    "wide": Box(-1e10, 1e10, (2,), np.float64),
    "whole": Box(-1, 1, (2,), np.int32),
}  # fmt: skip


@pytest.mark.parametrize("name", BOXES)
def test_no_action_is_outside_of_its_box(name):
    """However far out the network is; at the bounds themselves in particular."""
    space = BOXES[name]
    units = np.random.default_rng(0).choice([-1e4, -3, -1, -0.5, 0, 1, 1.0000001, 7], (200, 2)).astype(np.float32)
    actions = np.asarray(Actions.of(space).to_environment(jnp.asarray(units)))
    assert all(space.contains(action) for action in to_environment(space, actions))
