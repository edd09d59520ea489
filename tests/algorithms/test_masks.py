"""Legal actions on their way from the environment to acting and learning, where they differ at every step."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.drivers.host import HostDriver, Packed
from thorndike.drivers.scan import rollout
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.batched import Batched

LIMIT = 4
PPO = td.PPO(torso=td.Torso(widths=(8,)), num_envs=4, rollout_length=10, minibatch_size=40, epochs=1)
DQN = td.DQN(torso=td.Torso(widths=(8,)), num_envs=4, rollout_length=10)


@td.config
class Turns:
    """At time t action t % 3 is illegal, and t is observed."""

    max_steps: int = LIMIT
    masked = True

    @property
    def observation_space(self):
        return Box(0, 10, (1,))

    @property
    def action_space(self):
        return Discrete(3)

    def show(self, t):
        return td.Step(t, jnp.float32(t)[None], 0.0, False, {"mask": jnp.arange(3) != t % 3})

    def reset(self, key):
        return self.show(jnp.int32(0))

    def step(self, t, action, key):
        return self.show(t + 1)


class HostTurns(gymnasium.Env):
    """The same on the host."""

    observation_space, action_space = Box(0, 10, (1,)), Discrete(3)

    def show(self):
        return np.array([self.t], np.float32), {"action_mask": np.arange(3) != self.t % 3}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.show()

    def step(self, action):
        assert action != self.t % 3, "an illegal action"
        self.t += 1
        obs, info = self.show()
        return obs, 0.0, False, self.t == LIMIT, info


SPEC = td.Spec(Turns().observation_space, Turns().action_space, 1000, masked=True)


def experience(algorithm, on_host):
    """A state, and a rollout of ten steps in which episodes are cut."""
    state = algorithm.init(jax.random.key(0), SPEC)
    if not on_host:
        world = Batched(Turns(), algorithm.num_envs)
        now = world.reset(jax.random.key(1))
        start = (algorithm.actor(state), algorithm.carry(None, algorithm.num_envs), now, jax.random.key(2))
        return state, rollout(algorithm, world, *start, "explore")[0]
    with HostDriver(algorithm, GymnasiumEnvironment(HostTurns), SPEC, [0], workers="serial") as driver:
        first = lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree)  # noqa: E731
        carry, key = first(algorithm.carry(None, algorithm.num_envs)), jax.random.split(jax.random.key(2), 1)
        agent = Packed(first(state))
        move = driver._act[False](driver.settings, agent, carry, driver.observe(), key)
        found = driver.rollout(agent, carry, key, move, False)[0]
    return state, jax.tree.map(lambda x: jnp.asarray(x)[0], found)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=["ppo", "dqn"])
def test_masks_are_those_of_what_is_seen(algorithm, on_host):
    """`mask` belongs to `obs` and `next_mask` to the true successor, also where an episode was cut."""
    steps = experience(algorithm, on_host)[1].steps
    assert steps.truncated.sum() == 2 * 4
    np.testing.assert_array_equal(steps.info["mask"], np.arange(3) != steps.obs % 3)
    np.testing.assert_array_equal(steps.info["next_mask"], np.arange(3) != steps.next_obs % 3)
    assert (steps.action != steps.obs[..., 0] % 3).all()


@pytest.mark.parametrize("core", [None, td.GRU(width=8)])
def test_the_first_pass_of_ppo_is_over_what_acted(core):
    """The ratio is 1 only for the distribution over legal actions."""
    algorithm = dataclasses.replace(PPO, core=core)
    state, found = experience(algorithm, False)
    assert abs(float(algorithm.learn(state, found, jax.random.key(0))[1]["approx_kl"])) < 1e-6
    blind = found._replace(steps=found.steps._replace(info={}))
    assert float(algorithm.learn(state, blind, jax.random.key(0))[1]["approx_kl"]) > 0.01


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=["ppo", "dqn"])
def test_actions_are_legal(algorithm, explore):
    state, t, no = algorithm.init(jax.random.key(0), SPEC), np.arange(300) % 9, jnp.zeros(300, bool)
    obs, mask = jnp.asarray(t, jnp.float32)[:, None], jnp.arange(3) != t[:, None] % 3
    now = td.Timestep(obs, jnp.zeros(300), no, no, obs, no, {"mask": mask})
    action, *_ = algorithm.act(algorithm.actor(state), algorithm.carry(None, 300), now, jax.random.key(0), explore)
    assert mask[np.arange(300), action].all()


def test_an_agent_asks_which_actions_are_legal(tmp_path):
    agent = td.train(PPO, Turns(), 40, out=tmp_path / "run", progress=False).agent()
    for t in range(3):
        with pytest.raises(td.IncompatibleError, match="say which those are, mask="):
            agent.act(np.array([t], np.float32))
        mask = np.arange(3) == t
        assert agent.act(np.array([t], np.float32), mask=mask) == t


@pytest.mark.parametrize("env", [Turns(), HostTurns], ids=["jax", "host"])
def test_legal_actions_are_recorded_and_learned_with(env, tmp_path):
    """A policy that knows nothing yet gives each of the two legal actions 1/2."""
    small = {"torso": td.Torso(widths=(8,)), "replay": td.Uniform(capacity=100, batch_size=8, warmup=8)}
    dqn = td.DQN(**small)
    dataset = td.train(dqn, env, 60, out=tmp_path / "run", progress=False).record(40, explore=True)
    bc = td.BC(torso=td.Torso(widths=(8,)))
    run = td.train(bc, env, 1, dataset=dataset, out=tmp_path / "bc", progress=False)
    assert run.metrics()["train/log_likelihood"][0] == pytest.approx(np.log(1 / 2), abs=0.02)
    batch = dataset[np.arange(len(dataset))]
    np.testing.assert_array_equal(batch.info["mask"], np.arange(3) != batch.obs % 3)
    np.testing.assert_array_equal(batch.info["next_mask"], np.arange(3) != batch.next_obs % 3)
    learned = td.train(dqn, env, 20, dataset=dataset, out=tmp_path / "off", progress=False)
    assert learned.status["state"] == "finished"
