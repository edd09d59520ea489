"""MBPO's imagined rows in models that are known, its batches, a corridor's values, and what mutants of these do."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box

import thorndike as td
from thorndike.nets.dynamics import Dynamics, Outcome
from thorndike.runs.training.validation import check_shaping
from thorndike.schedules import settled

SPEC = td.Spec(Box(-9, 9, (2,)), Box(-2, 4, (1,), np.float32), 1000)
MBPO = td.MBPO(
    agent=td.SAC(torso=td.Torso(widths=(8,))), model=td.Gaussians(members=3, widths=(8,)), horizon=4, real=0.3,
    replay=td.Uniform(batch_size=32), pretrain=2,
)  # fmt: skip
ROWS = 30  # of 32, in three parts


class Known:
    """Members k = 0, 1, 2 add (k + 1) u to both numbers of a state, for actions u in network units; it pays the first
    number of s, and ends where the second of s' is above 1."""

    def best(self, n):
        return self

    def step(self, obs, action, noise):
        after = obs + jnp.arange(1.0, 4.0)[:, None, None] * action
        return Outcome(after, obs[..., 0], (after[..., 1] > 1).astype(jnp.float32))


def policy_of(action):
    """MBPO's state with a policy that takes `action`, in network units, everywhere; its models are `Known`."""
    state = MBPO.init(jax.random.key(0), SPEC)
    head = state.agent.policy.head
    policy = eqx.tree_at(
        lambda p: (p.head.weight, p.head.bias),
        state.agent.policy,
        (jnp.zeros_like(head.weight), jnp.array([np.arctanh(action), -20.0], jnp.float32)),
    )
    return state._replace(agent=state.agent._replace(policy=policy), dynamics=Known())


OBS = jnp.float32(np.random.default_rng(0).uniform(-1, 1, (32, 2)))


def test_imagined_rows_are_what_policy_and_models_say():
    """Step by step, each row by one member all along, and usable up to its first end."""
    rows, usable = MBPO.imagined(policy_of(0.2), OBS, jax.random.key(1))
    member = 1 + np.repeat(np.arange(3), 10)
    s, alive = np.asarray(OBS)[:ROWS], np.ones(ROWS, bool)
    shaped = jax.tree.map(lambda x: np.asarray(x).reshape(4, ROWS, *x.shape[1:]), (rows, usable))
    for t in range(4):
        row, used = jax.tree.map(lambda x, t=t: x[t], shaped)
        np.testing.assert_allclose(row.obs, s, atol=1e-5)
        np.testing.assert_allclose(row.action, 1 + 3 * 0.2, rtol=1e-5)  # in the environment's units
        np.testing.assert_allclose(row.reward, s[:, 0], atol=1e-5)  # of s, and not of s'
        after = s + 0.2 * member[:, None]
        np.testing.assert_allclose(row.next_obs, after, atol=1e-5)
        np.testing.assert_array_equal(used, alive)
        np.testing.assert_array_equal(row.terminated, after[:, 1] > 1)
        s, alive = after, alive & ~row.terminated
    assert 0 < alive.sum() < ROWS


@pytest.mark.parametrize(("reach", "steps"), [(0.01, 1), (0.25, 1), (0.5, 2), (0.8, 3), (1.0, 4)])
def test_only_the_steps_within_reach_are_used(reach, steps):
    """As many of the four as `reach` says, rounded, and one at least; with a policy that ends nothing."""
    algorithm = dataclasses.replace(MBPO, reach=reach)
    _, usable = jax.jit(lambda algorithm: algorithm.imagined(policy_of(-0.2), OBS, jax.random.key(1)))(algorithm)
    np.testing.assert_array_equal(usable.reshape(4, ROWS).all(1), np.arange(4) < steps)
    np.testing.assert_array_equal(usable.reshape(4, ROWS).any(1), np.arange(4) < steps)


def test_the_papers_schedule_goes_from_one_step_to_fifteen():
    grows = dataclasses.replace(MBPO, horizon=15, reach=td.Linear(1 / 15, 1.0, over=1_400))
    steps = jax.jit(lambda now: now.imagined(policy_of(-0.2), OBS, jax.random.key(1))[1].reshape(15, ROWS).any(1).sum())
    found = [int(steps(settled(grows, done, 5_000, 0))) for done in range(0, 2_001, 100)]
    assert found == [*range(1, 16), *[15] * 6]


def test_actions_are_the_present_policys():
    a, b = (MBPO.imagined(policy_of(x), OBS, jax.random.key(1))[0].action for x in (0.2, -0.4))
    assert np.abs(a - b).min() > 1


def real_rows():
    extras = {"members": jnp.ones((32, 3), bool)}
    return td.Transition(
        OBS + 100, (), jnp.zeros((32, 1)), extras, jnp.full(32, 100.0), jnp.zeros(32, bool), (), OBS + 100, {}
    )


def check_batch(real, usable=None, keys=40):
    """Batches hold each real row in its place, with probability `real`, or an imagined row that may be used."""
    algorithm = dataclasses.replace(MBPO, real=real)
    imagined, right = algorithm.imagined(policy_of(0.2), OBS, jax.random.key(1))
    mixed = jax.vmap(lambda key: algorithm.mixed(real_rows(), imagined, right if usable is None else usable, key))
    found = jax.tree.map(np.asarray, mixed(jax.random.split(jax.random.key(2), keys)))
    happened = found.reward == 100
    assert abs(happened.mean() - real) < 5 * np.sqrt(0.25 / happened.size)
    np.testing.assert_array_equal(found.obs[happened], np.broadcast_to(OBS + 100, found.obs.shape)[happened])
    table = np.asarray(imagined.obs)
    which = np.abs(found.obs[~happened][:, None] - table).sum(-1)
    assert which.min(1, initial=np.inf).max(initial=0.0) == 0
    drawn = np.bincount(which.argmin(1), minlength=len(table))
    assert not drawn[~np.asarray(right)].any()
    each = (~happened).sum() / np.asarray(right).sum()
    assert not drawn.any() or np.abs(drawn[np.asarray(right)] - each).max() < 6 * np.sqrt(each) + 1  # equally often


@pytest.mark.parametrize("real", [0.0, 0.3, 1.0])
def test_batches_are_real_and_imagined_rows(real):
    check_batch(real)


def test_rows_behind_imagined_ends_are_noticed():
    with pytest.raises(AssertionError):
        check_batch(0.0, usable=jnp.ones(4 * ROWS, bool))


def steps_of(algorithm, n, batch):
    state, update = algorithm.init(jax.random.key(0), SPEC), jax.jit(algorithm.update)
    for i in range(n):
        state, metrics = update(state, batch, jax.random.key(i))
    return state, metrics


def moved(a, b):
    return max(float(np.abs(np.subtract(x, y, dtype=float)).max()) for x, y in zip(*map(jax.tree.leaves, (a, b))))


def test_the_models_learn_first_and_from_what_happened_alone():
    start = MBPO.init(jax.random.key(0), SPEC)
    before, metrics = steps_of(MBPO, 2, real_rows())
    assert moved(start.agent, before.agent) == 0
    assert moved(start.dynamics.members, before.dynamics.members) > 0
    assert moved(start.agent, steps_of(MBPO, 3, real_rows())[0].agent) > 0
    assert before.dynamics.inputs.count == 2 * 32
    np.testing.assert_allclose(before.dynamics.inputs.mean[:2], (OBS + 100).mean(0), rtol=1e-5)
    assert {"model_loss", "model_error", "disagreement", "model_gradient_norm", "gradient_norm"} <= set(metrics)


# --- a corridor -------------------------------------------------------------------------------------------------------

CORRIDOR = td.Spec(Box(0, 1, (1,)), Box(-1, 1, (1,)), 1000)
WALKER = td.MBPO(
    agent=td.SAC(
        learning_rate=3e-3, temperature=0.0, tau=0.05, discount=0.9,
        torso=td.Torso(widths=(32,), activation="relu", init="uniform"),
    ),
    model=td.Gaussians(members=3, widths=(32, 32)), learning_rate=3e-3, horizon=3, real=0.0, pretrain=400,
    replay=td.Uniform(batch_size=96),
)  # fmt: skip


def values(algorithm=WALKER, updates=800):
    """V at 0 and at 0.5 of a corridor of ten steps of 0.1 that pay 1 each, beyond which the task ends."""

    def step(state, key):
        skey, akey, mkey, ukey = jax.random.split(key, 4)
        n = algorithm.replay.batch_size
        obs = 0.1 * jax.random.randint(skey, (n, 1), 0, 10)
        action = jax.random.uniform(akey, (n, 1), minval=-1, maxval=1)
        extras = {"members": algorithm.model.masks(mkey, n)}
        end = obs[:, 0] > 0.85
        batch = td.Transition(obs, (), action, extras, jnp.ones(n), end, (), obs + 0.1, {})
        return algorithm.update(state, batch, ukey)[0], None

    run = jax.jit(lambda key: jax.lax.scan(step, algorithm.init(key, CORRIDOR), jax.random.split(key, updates))[0])
    actor, no = algorithm.actor(run(jax.random.key(0))), jnp.zeros(2, bool)
    obs = jnp.array([[0.0], [0.5]])
    now = td.Timestep(obs, jnp.zeros(2), no, no, obs, no, {})
    return np.asarray(algorithm.look(actor, (), now, False)[0].value)


TRUE = (1 - 0.9 ** np.array([10, 5])) / 0.1


def test_values_of_a_corridor_with_an_end():
    """From imagined rows alone: V(0) = (1 - γ¹⁰) / (1 - γ) = 6.5."""
    found = values()
    assert (found < 1.05 * TRUE).all(), found
    assert (found > 0.85 * TRUE).all(), found


def test_imagined_ends_that_are_ignored_are_too_good(monkeypatch):
    step = Dynamics.step
    monkeypatch.setattr(Dynamics, "step", lambda self, *args: (x := step(self, *args))._replace(end=0 * x.end))
    found = values()
    assert (found > 1.15 * TRUE).all(), found


# --- what it is made of -----------------------------------------------------------------------------------------------


def test_shaped_rewards_have_the_agents_discount():
    shaped = td.Shaping(env=td.Pendulum(), potential=lambda obs: obs[0], discount=0.99)
    check_shaping(td.MBPO(), shaped)
    with pytest.raises(td.ConfigError, match=r"MBPO.agent.discount 0.9:"):
        check_shaping(td.MBPO(agent=td.SAC(discount=0.9)), shaped)


def test_other_kinds_of_sac_serve():
    algorithm = dataclasses.replace(MBPO, agent=td.TQC(torso=td.Torso(widths=(8,)), critics=2))
    assert np.isfinite(steps_of(algorithm, 3, real_rows())[1]["critic_loss"])


def test_a_batch_has_a_row_for_each_model():
    with pytest.raises(td.ConfigError, match="a row for each of the 5 models"):
        td.MBPO(replay=td.Uniform(batch_size=4)).check()
