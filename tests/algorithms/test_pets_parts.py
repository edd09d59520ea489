"""The learned dynamics on systems that are known, PETS's returns against a loop, and what mutants of both miss."""

from __future__ import annotations

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.algorithms.model_based import pets
from thorndike.configuration import check
from thorndike.nets import dynamics as models
from thorndike.nets.dynamics import Dynamics, Outcome
from thorndike.nets.policy import Actions
from thorndike.runs.training.validation import open_dataset

SPACE, UNITS = Box(-9, 9, (1,)), Box(-2, 4, (1,), np.float32)  # actions in network units are (a - 1) / 3
SPEC = td.Spec(SPACE, UNITS, 1000)
MODEL = td.Gaussians(members=5, widths=(32, 32), keep=0.8)
PETS = td.PETS(model=MODEL, learning_rate=3e-3, horizon=1, replay=td.Uniform(batch_size=256))


def batch_of(key, n=256):
    """A slow system, s' = s + 0.0005 (a - s), with reward -(a - 2.2)², which ends for s > 0.5; states in [-1, 1]."""
    skey, akey, mkey = jax.random.split(key, 3)
    obs = jax.random.uniform(skey, (n, 1), minval=-1, maxval=1)
    action = jax.random.uniform(akey, (n, 1), minval=-2, maxval=4)
    reward, end = -((action[:, 0] - 2.2) ** 2), obs[:, 0] > 0.5
    extras = {"members": MODEL.masks(mkey, n)}
    return td.Transition(obs, (), action, extras, reward, end, (), obs + 0.0005 * (action - obs), {})


def fitted(algorithm=PETS, updates=600):
    """A state after some updates on that system."""

    def step(state, key):
        return algorithm.update(state, batch_of(key), key)

    run = jax.jit(lambda key: jax.lax.scan(step, algorithm.init(key, SPEC), jax.random.split(key, updates)))
    return run(jax.random.key(0))


@cache
def right():
    return fitted()


def unexplained(state):
    """The share of the variance of s' - s that the mean of the members misses."""
    batch = batch_of(jax.random.key(9))
    units = Actions.of(UNITS).from_environment(batch.action)
    spread = lambda x: jnp.broadcast_to(x, (5, *x.shape))  # noqa: E731
    found = state.dynamics.step(spread(batch.obs), spread(units), jnp.zeros((5, 256, 2)))
    change, true = found.obs.mean(0) - batch.obs, batch.next_obs - batch.obs
    return float(((change - true) ** 2).mean() / true.var())


def test_a_slow_system_is_learned():
    state, metrics = right()
    assert unexplained(state) < 0.02
    assert metrics["model_error"][-1] < 0.05 < metrics["model_error"][50]


def test_successors_in_the_place_of_changes_miss_it(monkeypatch):
    step = Dynamics.step
    after = lambda self, obs, *rest: (lambda x: x._replace(obs=x.obs - obs))(step(self, obs, *rest))  # noqa: E731
    monkeypatch.setattr(models, "targets_of", lambda b: jnp.concatenate([b.next_obs, b.reward[:, None]], -1))
    monkeypatch.setattr(Dynamics, "step", after)
    assert unexplained(fitted()[0]) > 0.1


def test_outputs_by_the_statistics_of_inputs_miss_it():
    state, _ = right()
    wrong = state.dynamics._replace(targets=state.dynamics.inputs)  # of as many numbers here
    assert unexplained(state._replace(dynamics=wrong)) > 1


def test_members_disagree_where_they_never_were():
    dynamics, action = right()[0].dynamics, jnp.zeros((50, 1))
    at = lambda low, high: float(dynamics.doubt(jnp.linspace(low, high, 50)[:, None], action).mean())  # noqa: E731
    assert at(3, 4) > 3 * at(-1, 1)


def test_samples_have_the_deviation_that_is_said():
    dynamics = right()[0].dynamics
    head = dynamics.members.head
    bias, weight = head.bias.at[:, 2:4].set(-1.0), head.weight.at[..., 2:4].set(0.0)  # log σ² of s' - s and r
    members = eqx.tree_at(lambda m: (m.head.bias, m.head.weight), dynamics.members, (bias, weight))
    dynamics = dynamics._replace(members=members)
    noise = jax.random.normal(jax.random.key(0), (5, 4000, 2))
    found = dynamics.step(jnp.zeros((5, 4000, 1)), jnp.zeros((5, 4000, 1)), noise)
    log_var = np.log1p(np.exp(-np.log1p(np.exp(1.5)) + 0.5 + 10)) - 10
    expected = np.exp(0.5 * log_var) * np.asarray(dynamics.targets.std)
    assert abs(np.log(expected[0] / np.exp(log_var))) > 0.1
    np.testing.assert_allclose(found.obs.std(1)[:, 0], expected[0], rtol=0.05)
    np.testing.assert_allclose(found.reward.std(1), expected[1], rtol=0.05)


def test_ends_are_learned_once_one_was_seen():
    state, _ = right()
    obs = jnp.broadcast_to(jnp.array([[-0.5], [0.9]]), (5, 2, 1))
    ask = lambda dynamics: dynamics.step(obs, jnp.zeros((5, 2, 1)), jnp.zeros((5, 2, 2))).end  # noqa: E731
    found = ask(state.dynamics)
    assert found[:, 0].max() < 0.1
    assert found[:, 1].min() > 0.9
    np.testing.assert_array_equal(ask(state.dynamics._replace(ended=jnp.bool_(False))), 0)
    assert not PETS.init(jax.random.key(0), SPEC).dynamics.ended


def spoilt_member(state, which):
    """The dynamics with another random network in the place of a member."""
    fresh = MODEL.build(jax.random.key(5), 2, 2)
    put = lambda x, y: x.at[which].set(y[which])  # noqa: E731
    return state._replace(dynamics=state.dynamics._replace(members=jax.tree.map(put, state.dynamics.members, fresh)))


def elites_after_a_while():
    """Which members are elites where the third one is new, a few updates later."""
    state, update = spoilt_member(right()[0], 2), jax.jit(PETS.update)
    for i in range(5):
        state, _ = update(state, batch_of(jax.random.key(i)), jax.random.key(i))
    best = state.dynamics.best(3)
    whole = np.asarray(state.dynamics.members.head.bias)
    return {int(np.abs(whole - bias).sum(-1).argmin()) for bias in np.asarray(best.members.head.bias)}


def test_elites_are_the_best_on_rows_that_they_did_not_learn_from(monkeypatch):
    assert 2 not in elites_after_a_while()
    monkeypatch.setattr(models, "best_of", lambda errors, n: jax.lax.top_k(errors, n)[1])
    assert 2 in elites_after_a_while()


def test_a_model_that_knows_nothing_is_not_said_to_be_good():
    """Whoever says the mean of a standardised target has an error of 1, and so has a new model after an update."""
    state = PETS.init(jax.random.key(0), SPEC)
    _, metrics = PETS.update(state, batch_of(jax.random.key(1)), jax.random.key(2))
    assert 0.9 < metrics["model_error"] < 1.1


# --- planning ---------------------------------------------------------------------------------------------------------


class Known:
    """Two members that are known: k moves a state by (k + 1) a + ε, pays s + 10 a, and ends beyond 1 with 1 / 2."""

    errors = jnp.zeros(2)

    def step(self, obs, action, noise):
        factor = jnp.arange(1.0, 3.0).reshape(2, *(1,) * (obs.ndim - 1))
        after = obs + factor * action + noise[..., :1]
        return Outcome(after, obs[..., 0] + 10 * action[..., 0], jnp.where(after[..., 0] > 1, 0.5, 0.0))


def by_loop(sequences, noise, start):
    """The mean over members and particles of Σ γ^t r Π (1 - term), one after the other."""
    found = np.zeros(len(sequences))
    for i, sequence in enumerate(sequences):
        for k in range(2):
            for particle in range(3):
                s, weight = start, 1.0
                for t, (a,) in enumerate(sequence):
                    found[i] += weight * (s + 10 * a) / 6
                    s = s + (k + 1) * a + noise[t, k, particle, 0, 0]
                    weight *= 0.9 * (0.5 if s > 1 else 1.0)
    return found


def earned(sequences, noise, model=None):
    algorithm = td.PETS(discount=0.9, horizon=4, particles=3)
    return np.asarray(algorithm.returns(model or Known(), jnp.array([0.2]), noise, jnp.float32(sequences)))


def test_returns_are_those_of_a_loop():
    """And are not where members change places on the way, rewards are those of s', or ends are ignored."""
    rng = np.random.default_rng(0)
    sequences = rng.uniform(-1, 1, (20, 4, 1)).astype(np.float32)
    noise = jnp.float32(rng.normal(0, 0.3, (4, 2, 3, 1, 2)))
    expected = by_loop(sequences, np.asarray(noise), 0.2)
    np.testing.assert_allclose(earned(sequences, noise), expected, rtol=1e-4, atol=1e-4)

    class Swaps(Known):
        def step(self, obs, action, noise):
            return super().step(obs[::-1], action, noise)

    class Late(Known):
        def step(self, obs, action, noise):
            found = super().step(obs, action, noise)
            return found._replace(reward=found.obs[..., 0] + 10 * action[..., 0])

    class Endless(Known):
        def step(self, *args):
            return super().step(*args)._replace(end=jnp.zeros(()))

    for mutant in (Swaps, Late, Endless):
        assert np.abs(earned(sequences, noise, mutant()) - expected).max() > 0.3, mutant


def acted(state, first=True, plan=0.0, algorithm=PETS, explore=False, key=0):
    actor = algorithm.actor(state)
    no, carry = jnp.zeros(2, bool), jnp.full((2, algorithm.horizon, 1), plan)
    now = td.Timestep(jnp.zeros((2, 1)), jnp.zeros(2), no, no, jnp.zeros((2, 1)), no | first, {})
    return algorithm.act(actor, carry, now, jax.random.key(key), explore)


def test_the_best_action_is_found_in_the_environments_units(monkeypatch):
    """-(a - 2.2)² is the reward, whatever the state; learned from other units, the action is another one."""
    action, _, extras = acted(right()[0])
    np.testing.assert_allclose(action, 2.2, atol=0.3)
    assert extras["members"].shape == (2, 5)
    monkeypatch.setattr(Actions, "from_environment", lambda self, action: action)
    assert np.abs(acted(fitted()[0])[0] - 2.2).min() > 0.5


def test_statistics_are_part_of_the_actor():
    state, _ = right()
    actor = PETS.actor(state)
    assert actor.dynamics.targets.count == actor.dynamics.inputs.count == 600 * 256
    new = PETS.init(jax.random.key(0), SPEC).dynamics
    bare = state._replace(dynamics=state.dynamics._replace(inputs=new.inputs, targets=new.targets))
    obs, units = jnp.full((5, 1, 1), 0.3), jnp.full((5, 1, 1), 0.5)
    a, b = (s.dynamics.step(obs, units, jnp.zeros((5, 1, 2))).reward for s in (state, bare))
    assert np.abs(a - b).min() > 0.5


def test_plans_are_carried_on_and_forgotten_with_the_episode():
    algorithm = td.PETS(model=MODEL, horizon=3, planner=td.CEM(iterations=1, momentum=1.0))  # keeps its mean
    state = algorithm.init(jax.random.key(0), SPEC)
    actor, no = algorithm.actor(state), jnp.zeros(2, bool)
    now = td.Timestep(jnp.zeros((2, 1)), jnp.zeros(2), no, no, jnp.zeros((2, 1)), jnp.array([False, True]), {})
    carry = jnp.broadcast_to(jnp.array([0.1, 0.2, 0.3])[:, None], (2, 3, 1))
    action, later, _ = algorithm.act(actor, carry, now, jax.random.key(0), False)
    np.testing.assert_allclose(action[:, 0], [1 + 3 * 0.1, 1.0], rtol=1e-5)
    np.testing.assert_allclose(later[..., 0], [[0.2, 0.3, 0], [0, 0, 0]], atol=1e-6)


def test_a_nan_in_the_models_gradient_is_in_the_metrics(monkeypatch):
    descend = models.descend
    nan = lambda tree: jax.tree.map(lambda x: x * jnp.nan, tree)  # noqa: E731
    monkeypatch.setattr(models, "descend", lambda how, gradient, *rest: descend(how, nan(gradient), *rest))
    _, metrics = PETS.update(PETS.init(jax.random.key(0), SPEC), batch_of(jax.random.key(0)), jax.random.key(0))
    assert not np.isfinite(metrics["gradient_norm"])


@pytest.mark.parametrize("algorithm", [td.PETS(), td.MBPO()])
def test_what_cannot_be_served_is_said(algorithm, tmp_path):
    name = type(algorithm).__name__
    assert algorithm.supports(SPEC) is None
    assert "a Box" in algorithm.supports(td.Spec(SPACE, Discrete(3)))
    assert f"{name}'s model predicts a vector of floats" in algorithm.supports(td.Spec(Discrete(3), UNITS))
    assert algorithm.supports(td.Spec(Box(0, 255, (8,), np.uint8), UNITS))
    with pytest.raises(td.IncompatibleError, match=f"{name} draws which of its models learn"):
        open_dataset(algorithm, tmp_path, False)
    for wrong in ({"replay": td.Uniform(n_step=2)}, {"horizon": 0}):
        with pytest.raises(td.ConfigError):
            check(type(algorithm)(**wrong))
    assert pets.PETS.online
