"""A JAX environment that does not answer as it promised is told so, in its own terms, when a program is traced."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import thorndike as td
from thorndike.envs.wrap import Batched
from thorndike.errors import EnvError

PPO = td.PPO(num_envs=2, rollout_length=4, minibatch_size=8, torso=td.Torso(widths=(4,)))
GOOD = td.Step({"t": jnp.int32(0)}, jnp.zeros(3), 1.0, False)


def mine(fresh: Any = GOOD, stepped: Any = GOOD, space: Any = None, limit: int = 10) -> Any:
    """An environment that answers what it is given here."""

    @td.config
    class Mine:
        max_steps: int = limit

        @property
        def observation_space(self):
            return space or Box(-1, 1, (3,))

        @property
        def action_space(self):
            return Discrete(2)

        def reset(self, key):
            return fresh

        def step(self, state, action, key):
            return stepped

    return Mine()


def asked(env: Any):
    """One reset and one step of two copies, as a program sees them."""
    world = Batched(env, 2)

    def ask(key):
        now = world.reset(key)
        return world.step(now, jnp.zeros(2, jnp.int32), key)

    return jax.eval_shape(ask, jax.random.key(0))


IMAGE = Box(0, 255, (8, 8, 3), np.uint8)
PAIR = Dict({"a": Box(-1, 1, (3,)), "b": Discrete(4)})
BAD = {
    "Mine.reset gives an observation .*float32.4. where float32.3. was due": {"fresh": GOOD._replace(obs=jnp.zeros(4))},
    "Mine.step gives an observation .*int32.3. where float32.3. was due": {
        "stepped": GOOD._replace(obs=jnp.zeros(3, jnp.int32))
    },
    "Mine.reset gives an observation .*float32.8, 8, 3. where uint8.8, 8, 3. was due": {
        "space": IMAGE, "fresh": GOOD._replace(obs=jnp.zeros((8, 8, 3))),
    },
    "a dict with .'a'. where a dict with .'a'., .'b'. was due": {
        "space": PAIR, "fresh": GOOD._replace(obs={"a": jnp.zeros(3)}),
    },
    "float32.. where int32.. was due, at .'b'.": {
        "space": PAIR, "fresh": GOOD._replace(obs={"a": jnp.zeros(3), "b": jnp.float32(0)}),
    },
    "Mine.step gives a reward of shape .1,.: it has to be one number": {"stepped": GOOD._replace(reward=jnp.ones(1))},
    "Mine.step gives a terminated of shape .3,.": {"stepped": GOOD._replace(terminated=jnp.zeros(3, bool))},
    r"Mine.reset must return td.Step\(.*and returned a tuple": {"fresh": (jnp.zeros(3), {})},
    "Mine.step must return td.Step.*and returned a tuple": {"stepped": (jnp.zeros(3), 1.0, False, False, {})},
    "the state that Mine.step gives .*float32.. where int32.. was due, at .'t'.": {
        "stepped": GOOD._replace(state={"t": jnp.float32(0)})
    },
    "the state that Mine.step gives .*a dict with .'t'., .'x'. where a dict with .'t'. was due": {
        "stepped": GOOD._replace(state={"t": jnp.int32(0), "x": jnp.zeros(2)})
    },
    "the info that Mine.step gives .*a dict with .'mask'. where a dict with nothing in it was due": {
        "stepped": GOOD._replace(info={"mask": jnp.ones(2, bool)})
    },
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_said(text):
    with pytest.raises(EnvError, match=text):
        asked(mine(**BAD[text]))


def test_episodes_after_the_first_are_looked_at_too():
    env = mine()
    type(env).again = lambda self, state, key: GOOD._replace(obs=jnp.zeros(4))
    with pytest.raises(EnvError, match=r"Mine.again gives an observation .*float32.4. where float32.3. was due"):
        asked(env)


def test_what_is_right_passes():
    for env in (
        mine(),
        mine(fresh=GOOD._replace(reward=0), stepped=GOOD._replace(terminated=jnp.int32(1))),
        mine(fresh=GOOD._replace(obs=np.zeros(3)), stepped=GOOD._replace(reward=np.float64(2))),
    ):
        now = asked(env)
        assert (now.obs.shape, now.reward.shape, now.terminated.dtype) == ((2, 3), (2,), bool)


@pytest.mark.parametrize("part", ["fresh", "stepped"])
def test_a_run_says_so_before_it_begins(part, tmp_path):
    with pytest.raises(EnvError, match=r"Mine.* gives an observation that is not of its space") as caught:
        td.train(PPO, mine(**{part: GOOD._replace(obs=jnp.zeros(4))}), 16, out=tmp_path / "run", progress=False)
    assert len(caught.traceback) < 6
    assert not (tmp_path / "run").exists()


class Odd(gymnasium.Env):
    """On the host: its second step fails."""

    observation_space, action_space = Box(-1, 1, (3,)), Discrete(2)
    breaks = True

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.breaks and self.t == 2:
            raise ValueError("broken")
        return np.zeros(3, np.float32), 1.0, self.t == 3, False, {}


def test_a_run_that_failed_before_it_left_anything_leaves_its_directory_free(tmp_path, monkeypatch):
    with pytest.raises(EnvError, match="broken"):
        td.train(PPO, Odd, 16, out=tmp_path, workers="serial", progress=False)
    monkeypatch.setattr(Odd, "breaks", False)
    assert td.train(PPO, Odd, 16, out=tmp_path, workers="serial", progress=False).status["state"] == "finished"


@pytest.mark.parametrize("limit", [0, -1])
def test_a_time_limit_is_needed(limit, tmp_path):
    with pytest.raises(td.ConfigError, match=f"Mine needs max_steps, its time limit: it is {limit}"):
        td.train(td.PPO(), mine(limit=limit), 1024, out=tmp_path / "run", progress=False)
