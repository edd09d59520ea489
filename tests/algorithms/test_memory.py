"""Networks with memory: unrolled as one step after another would, begun anew with each episode, never mixed."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box

import thorndike as td
from thorndike.algorithms.policy import ppo
from thorndike.drivers.host import HostDriver
from thorndike.drivers.scan import ScanDriver
from thorndike.nets import actor_critic
from thorndike.nets.actor_critic import Carry
from thorndike.nets.recurrent import GRUCell, unroll
from thorndike.nets.torso import Torso
from thorndike.ops.keys import random_key
from thorndike.types import Rollout

T, E = 12, 3
CORES = {"GRU": td.GRU(width=5), "LSTM": td.LSTM(width=5)}


def case(core, seed=0):
    """A network, observations, episode beginnings (inside, too) and a carry that is not zero."""
    rng = np.random.default_rng(seed)
    network = core.build(jax.random.key(1), Torso(widths=(6,)).build(jax.random.key(0), Box(-1, 1, (2,))))
    obs = jnp.asarray(rng.normal(size=(T, E, 2)), jnp.float32)
    first = jnp.asarray(rng.random((T, E)) < 0.2).at[5, 1].set(True)
    carry = jax.tree.map(lambda c: jnp.asarray(rng.normal(size=c.shape), jnp.float32), core.carry(E))
    return network, obs, first, carry


def reference(cell):
    """Equinox's cell with the same weights, for one vector at a time."""
    width = cell.recurrent.shape[0]
    kind = eqx.nn.GRUCell if isinstance(cell, GRUCell) else eqx.nn.LSTMCell
    other = kind(cell.inputs.weight.shape[0], width, key=jax.random.key(0))
    weights = (cell.inputs.weight.T, cell.recurrent.T, cell.inputs.bias)
    other = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), other, weights)
    return eqx.tree_at(lambda c: c.bias_n, other, cell.bias) if isinstance(cell, GRUCell) else other


def check(core):
    """Against a loop over environments and time, with Equinox's cell."""
    network, obs, first, carry = case(core)
    network = eqx.tree_at(lambda n: jax.tree.leaves(n.cell), network, replace_fn=lambda x: x + 0.1)  # no bias at 0
    features, carries = unroll(network, obs, first, carry)
    cell = reference(network.cell)
    for e in range(E):
        memory = jax.tree.map(lambda c, e=e: c[e], carry)
        for t in range(T):
            if first[t, e]:
                memory = jax.tree.map(jnp.zeros_like, memory)
            memory = cell(network.torso(obs[t, e]), memory)
            for a, b in zip(*map(jax.tree.leaves, (jax.tree.map(lambda c, t=t, e=e: c[t, e], carries), memory))):
                np.testing.assert_allclose(a, b, atol=1e-5)
            np.testing.assert_allclose(features[t, e], jax.tree.leaves(memory)[0], atol=1e-5)


@pytest.mark.parametrize("name", CORES)
def test_unrolling_is_step_after_step(name):
    check(CORES[name])


SMALL = td.PPO(
    core=td.GRU(width=8), torso=td.Torso(widths=(8,)), num_envs=4, rollout_length=16, minibatch_size=64, epochs=1,
    learning_rate=5e-2,
)  # fmt: skip


def first_ratios(tmp_path, algorithm=SMALL, host=False):
    """The largest KL over rollouts of one update each: 0 where learning sees what acting saw."""
    env = td.make("RepeatPrevious", cards=11)  # ends inside of every rollout, and episodes go over their edges
    env = td.make("gymnasium/CartPole-v1", max_episode_steps=11) if host else env
    out = tmp_path / str(len(list(tmp_path.iterdir())))
    run = td.train(algorithm, env, 8 * 64, out=out, log_every=64, progress=False)
    columns = run.metrics()
    assert (columns["train/update_norm"] > 0).all()
    return np.abs(columns["train/approx_kl"]).max()


@pytest.mark.parametrize(
    ("core", "shared"),
    [
        (td.GRU(width=8), False),
        (td.LSTM(width=8), True),
        pytest.param(td.GRU(width=8), True, marks=pytest.mark.slow),
        pytest.param(td.LSTM(width=8), False, marks=pytest.mark.slow),
    ],
)
def test_learning_sees_what_acting_saw(core, shared, tmp_path):
    """Over rollouts that cut episodes in the middle: the first minibatch's new policy is the old one."""
    assert first_ratios(tmp_path, dataclasses.replace(SMALL, core=core, shared_torso=shared)) < 1e-6


def test_learning_sees_what_acting_saw_on_the_host(tmp_path):
    assert first_ratios(tmp_path, host=True) < 1e-6


FAR = [pytest.param(bug, marks=pytest.mark.slow) for bug in ("time shuffled", "carries of other environments")]


@pytest.mark.parametrize("bug", ["carry forgotten", *FAR])
def test_learning_from_the_wrong_memory_is_caught(bug, tmp_path, monkeypatch):
    descend = td.PPO.descend
    change = {
        "carry forgotten": lambda data: data._replace(carry=jax.tree.map(jnp.zeros_like, data.carry)),
        "time shuffled": lambda data: jax.tree.map(lambda x: x[::-1], data),  # a carry's leading axis is 1
        "carries of other environments": lambda data: data._replace(
            carry=jax.tree.map(lambda c: jnp.roll(c, 1, 1), data.carry)
        ),
    }[bug]
    monkeypatch.setattr(td.PPO, "descend", lambda self, s, data, *rest: descend(self, s, change(data), *rest))
    assert first_ratios(tmp_path) > 1e-5


def test_minibatches_are_whole_sequences():
    """What the loss is given is a rollout of some environments, in order, each once in an epoch."""
    algorithm, seen = dataclasses.replace(SMALL, minibatch_size=32, epochs=2), []
    env = td.make("CartPoleNoVel-v1")
    state = algorithm.init(jax.random.key(0), td.Spec(env.observation_space, env.action_space, 100))
    index = jnp.arange(16.0)[:, None] + 100 * jnp.arange(4.0)  # 100 e + t
    data = ppo.Minibatch(
        jnp.zeros((16, 4, 2)), None, jnp.zeros((16, 4), bool), jnp.zeros((16, 4), int), index, index, index, index,
        jax.tree.map(lambda c: c[None], algorithm.carry(None, 4)),
    )  # fmt: skip

    def loss(self, params, batch, more, added):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), batch.target)
        return jax.tree.leaves(params)[0].sum() * 0.0, {"approx_kl": jnp.float32(0)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(td.PPO, "loss", loss)
        jax.block_until_ready(algorithm.descend(state, data, jax.random.key(0))[0])
        jax.effects_barrier()
    assert len(seen) == 4
    for minibatch in seen:
        assert minibatch.shape == (16, 2)
        assert (np.diff(minibatch, axis=0) == 1).all()
    assert sorted(x for minibatch in seen for x in minibatch[0]) == [0, 0, 100, 100, 200, 200, 300, 300]


def test_the_critics_memory_is_its_own():
    """In acting and in learning: against a loop over time, from another carry than the policy's and over resets."""
    algorithm = dataclasses.replace(SMALL, shared_torso=False)
    env, n = td.make("CartPoleNoVel-v1"), 4
    state = algorithm.init(jax.random.key(0), td.Spec(env.observation_space, env.action_space, 100))
    rng, critic = np.random.default_rng(0), state.params.critic
    obs = jnp.asarray(rng.normal(size=(12, n, 2)), jnp.float32)
    first = jnp.zeros((12, n), bool).at[5].set(True).at[0, 1].set(True)
    policy_carry, memory = (jax.tree.map(lambda c, x=x: c + x, algorithm.carry(None, n).critic) for x in (0.5, -0.5))
    carry, acted, values = Carry(policy_carry, memory), Carry(policy_carry, memory), []
    for t in range(12):
        no = jnp.zeros(n, bool)
        now = td.Timestep(obs[t], jnp.zeros(n), no, no, obs[t], first[t], {})
        _, acted, _ = algorithm.act(algorithm.actor(state), acted, now, jax.random.key(t), True)
        memory = jax.tree.map(lambda c, t=t: jnp.where(first[t][:, None], 0.0, c), memory)
        features, memory = critic.torso(obs[t : t + 1], no[None], memory)
        memory = jax.tree.map(lambda c: c[0], memory)
        values.append(critic.head(features)[0, :, 0])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), acted.critic, memory)
    _, found, carries = state.params(obs, None, first, carry)
    np.testing.assert_allclose(found, jnp.stack(values), atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[-1], b, atol=1e-5), carries.critic, memory)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_the_value_of_a_successor_is_that_of_one_step_more(cut, shared):
    """One step on from the carry after the step, in the same episode: whatever the next episode shows."""
    algorithm = dataclasses.replace(SMALL, shared_torso=shared)
    env = td.make("CartPoleNoVel-v1")
    state = algorithm.init(jax.random.key(0), td.Spec(env.observation_space, env.action_space, 100))
    rng, no = np.random.default_rng(0), jnp.zeros((16, 4), bool)
    obs, final = (jnp.asarray(rng.normal(size=(17, 4, 2)), jnp.float32) for _ in range(2))
    ended = no.at[6].set(True)
    first = jnp.concatenate([no[:1], ended[:-1]])
    after = jnp.where(ended[..., None], final[1:], obs[1:])  # the last step of an episode has a successor of its own
    value = state.params(obs[:-1], None, first, algorithm.carry(None, 4))[1]
    steps = td.Transition(obs[:-1], first, no, {}, value, ended & ~cut, ended & cut, after, {})
    last = td.Timestep(obs[-1], value[-1], no[0], no[0], obs[-1], no[0], {})
    found = actor_critic.values(state.params, (), td.Rollout(steps, algorithm.carry(None, 4), last))[1]
    for t in (3, 6, 15) if cut else (3, 15):
        longer = jnp.concatenate([obs[: t + 1], after[t : t + 1]])
        beginnings = jnp.concatenate([first[: t + 1], no[:1]])
        expected = state.params(longer, None, beginnings, algorithm.carry(None, 4))[1][-1]
        np.testing.assert_allclose(found[t], expected, atol=1e-5)
    assert float(jnp.abs(found[6] - value[7]).min()) > 1e-4 or not cut


def test_time_is_never_cut():
    assert dataclasses.replace(SMALL, minibatch_size=8).cut == (SMALL.num_envs, 1)  # one whole rollout in each
    with pytest.raises(td.ConfigError, match="rollout_length must be above 1"):
        td.train(dataclasses.replace(SMALL, rollout_length=1, minibatch_size=4), "CartPole-v1", 64, progress=False)


SEEN = ["TMaze", *(pytest.param(name, marks=pytest.mark.slow) for name in ("CartPoleNoVel-v1", "RepeatPrevious"))]


@pytest.mark.parametrize("name", SEEN)
def test_an_exported_agent_remembers(name, tmp_path):
    """An agent that is saved and loaded acts as the run's own does, carry and all, and anew after `reset`."""
    env = td.make(name)
    run = td.train(SMALL, env, 256, out=tmp_path / "run", progress=False)
    path = tmp_path / "agent.safetensors"
    run.agent().save(path)
    one, two = run.agent(), td.load(path)
    obs = [env.observation_space.sample() for _ in range(6)]
    carry, no, actions = run.algorithm.carry(None, 1), jnp.zeros(1, bool), []
    for t, o in enumerate(obs):  # step by step, as a driver acts
        seen = jnp.asarray(o)[None]
        now = td.Timestep(seen, jnp.zeros(1), no, no, seen, jnp.full(1, t == 0), {})
        action, carry, _ = run.algorithm.act(one.actor, carry, now, jax.random.key(0), False)
        actions.append(int(env.action_space.start + action[0]))
    states = []
    for agent in (one, two):
        assert [int(agent.act(o)) for o in obs] == actions
        states.append(jax.tree.leaves(agent._carry))
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(states[-1], jax.tree.leaves(carry), strict=True))
        assert any(np.abs(x).max() > 0 for x in states[-1])
        agent.reset()
        assert [int(agent.act(o)) for o in obs] == actions
        assert all(np.array_equal(a, b) for a, b in zip(states[-1], jax.tree.leaves(agent._carry)))  # not twice as long


DRQN = td.DQN(learning_rate=5e-4, double=False, normalize_observation=False,
    core=td.GRU(width=8), torso=td.Torso(widths=(8,)), num_envs=4, rollout_length=6, replay_ratio=1 / 24,
    replay=td.Sequences(capacity=96, batch_size=5, burn_in=2, warmup=24), target_period=1000,
)  # fmt: skip


def sequences(seed=0):
    """Random sequences [6, 5, ...] with episode ends inside, and carries that are not zero."""
    rng = np.random.default_rng(seed)
    obs, after = (jnp.asarray(rng.normal(size=(6, 5, 2)), jnp.float32) for _ in range(2))
    ended = jnp.asarray(rng.random((6, 5)) < 0.3)
    first = jnp.roll(ended, 1, 0).at[0].set(False)
    reward, action = jnp.ones((6, 5)), jnp.asarray(rng.integers(0, 2, (6, 5)))
    steps = td.Transition(obs, first, action, {}, reward, ended, (), after, {})  # type: ignore[arg-type]
    return steps, jnp.asarray(rng.normal(size=(5, 8)), jnp.float32)


def network():
    env = td.make("CartPoleNoVel-v1")
    return DRQN.init(jax.random.key(0), td.Spec(env.observation_space, env.action_space, 1000))


def check_values():
    """Q(s, ·) and Q(s', ·) as one step after another from the stored carry gives them, without the burn-in."""
    q, (steps, carry) = network().q, sequences()
    here, there = DRQN.values(q, steps, carry)
    cell = reference(q.torso.cell)
    assert here.shape == there.shape == (4, 5, 2)
    for e in range(5):
        memory = carry[e]
        for t in range(6):
            memory = jnp.where(steps.first[t, e], 0.0, memory)
            memory = cell(q.torso.torso(steps.obs[t, e]), memory)
            if t >= 2:
                np.testing.assert_allclose(here[t - 2, e], q.head(memory), atol=1e-5)
                later = cell(q.torso.torso(steps.next_obs[t, e]), memory)
                np.testing.assert_allclose(there[t - 2, e], q.head(later), atol=1e-5)


def test_values_of_a_sequence():
    check_values()


def stored_rollouts(host):
    """Four rollouts of one agent that does not change, as its replay holds them: steps [4, E, 2 + T, ...], carries."""
    still = dataclasses.replace(DRQN, learning_rate=0.0, replay=dataclasses.replace(DRQN.replay, warmup=1))
    env = td.make("gymnasium/CartPole-v1" if host else "CartPole-v1", **({"max_episode_steps": 9} if host else {}))
    env = env if host else dataclasses.replace(env, max_steps=9)
    spec = td.Spec(env.observation_space, env.action_space, 96)
    keys = jax.vmap(random_key)(jnp.zeros(1, jnp.uint32))
    driver = HostDriver(still, env, spec, [0], workers="serial") if host else ScanDriver(still, env, spec, 1)
    with driver:
        state = jax.device_get(driver.advance(driver.init(keys), 4))
    q, memory = jax.tree.map(lambda x: x[0], (state.agent.q, state.memory))
    steps, carry = jax.tree.map(lambda x: x.reshape((4, 4, *x.shape[1:])), memory.ring.data)
    return q, steps, carry


@pytest.mark.parametrize("host", [False, True])
def test_each_stored_sequence_goes_on_from_the_one_before(host):
    """It begins with the last two steps of that, and with what the network remembered before these."""
    q, steps, carry = stored_rollouts(host)
    assert steps.first.any()
    assert not steps.first[1:, :, 2].all()
    assert (carry[0] == 0).all()
    for i in range(3):
        obs, first = (jnp.asarray(x[i]).swapaxes(0, 1) for x in (steps.obs, steps.first))
        np.testing.assert_allclose(q(obs, first, carry[i])[1][5], carry[i + 1], atol=1e-5)
        for x in (steps.obs, steps.action, steps.first):
            np.testing.assert_array_equal(x[i, :, 6:], x[i + 1, :, :2])
        for e in np.flatnonzero(~np.asarray(steps.first[i + 1, :, 2])):  # the world went on behind them
            np.testing.assert_array_equal(steps.next_obs[i + 1, e, 1], steps.obs[i + 1, e, 2])
    assert np.abs(carry[3]).max() > 1e-2


@pytest.mark.parametrize("burn_in", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_sequences_of_several_runs_are_shared_over_the_devices(burn_in, tmp_path):
    algorithm = dataclasses.replace(DRQN, replay=dataclasses.replace(DRQN.replay, burn_in=burn_in))
    run = td.train(algorithm, "CartPole-v1", 96, seeds=2, out=tmp_path / "run", progress=False)
    assert run.status["state"] == "finished"


def test_nothing_is_learned_from_the_burn_in():
    """No gradient reaches what was seen in it, and its rewards do not matter."""
    state, (steps, carry) = network(), sequences()
    steps = steps._replace(first=jnp.zeros((6, 5), bool))
    total = lambda obs: DRQN.values(state.q, steps._replace(obs=obs), carry)[0].sum()  # noqa: E731
    gradient = jax.grad(total)(steps.obs)
    assert (gradient[:2] == 0).all()
    assert (gradient[2:] != 0).any()
    batches = [steps, steps._replace(reward=steps.reward.at[:2].set(100.0))]
    after = [DRQN.update(state, Rollout(batch, carry, ()), jax.random.key(0))[0] for batch in batches]  # type: ignore
    for a, b in zip(*(jax.tree.leaves(x.q) for x in after)):
        np.testing.assert_array_equal(a, b)


def test_the_target_network_starts_from_the_same_carry():
    """With equal networks and γ = 1 the TD error of a step is r + max Q(s') - Q(s), both from the stored carry."""
    state, (steps, carry) = network(), sequences()
    algorithm = dataclasses.replace(DRQN, discount=1.0)
    here, there = DRQN.values(state.q, steps, carry)
    late = jax.tree.map(lambda x: x[2:], steps)
    target = late.reward + jnp.where(late.terminated, 0.0, there.max(-1))
    error = target - jnp.take_along_axis(here, late.action[..., None], -1)[..., 0]
    _, metrics = algorithm.update(state, Rollout(steps, carry, ()), jax.random.key(0))  # type: ignore[arg-type]
    np.testing.assert_allclose(metrics["td_error"], jnp.abs(error), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"replay": td.Uniform()}, "a core needs sequences"),
        ({"core": None}, "a core needs sequences"),
        ({"rollout_length": 1}, "rollout_length must be above 1"),
        ({"replay": td.Sequences(burn_in=-1)}, "0 or more"),
    ],
)
def test_what_does_not_fit_together_is_said(fields, message):
    with pytest.raises(td.ConfigError, match=message):
        td.train(dataclasses.replace(DRQN, **fields), "CartPole-v1", 1000, progress=False)
