"""MAML's gradient against central differences, and what it gathers against what a loop would."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms.meta import maml
from thorndike.configuration import check
from thorndike.drivers.scan import gathered
from thorndike.envs.batched import Batched
from thorndike.errors import ConfigError, IncompatibleError
from thorndike.ops.keys import random_key
from thorndike.runs.storage.environments import describe
from thorndike.schedules import settled

ENV = td.Navigation2D(max_steps=8)
SMALL = td.MAML(tasks=3, trajectories=4, horizon=8, inner_steps=2, inner_rate=0.7, torso=td.Torso(widths=(6,)))


def gather(algorithm=SMALL, env=ENV):
    algorithm = settled(algorithm, 0, 1000, 0)
    world, spec = Batched(env, algorithm.num_envs), describe(env, 1000, "test")
    state = algorithm.init(random_key(1), spec)
    moved = lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size)).reshape(x.shape)  # noqa: E731  # a new one hardly looks
    state = state._replace(policy=jax.tree.map(moved, state.policy))
    actor = algorithm.actor(state)
    found = gathered(algorithm, world, actor, (), world.reset(random_key(2)), random_key(3), "explore")[0]
    return state.policy, found


def phases(algorithm, policy, found):
    cut = lambda x, i: x[i * algorithm.horizon : (i + 1) * algorithm.horizon]  # noqa: E731
    parts = [jax.tree.map(partial(cut, i=i), found.steps) for i in range(algorithm.inner_steps + 1)]
    return parts, [algorithm.data(policy, part) for part in parts]


def central_differences(f, policy, n=12):
    """The gradient of f in n of the parameters, and which these are."""
    flat, unravel = jax.flatten_util.ravel_pytree(policy)
    some = np.random.default_rng(0).choice(flat.size, n, replace=False)
    change = lambda i, by: f(unravel(flat.at[i].add(by)))  # noqa: E731
    return some, np.array([(change(i, 1e-5) - change(i, -1e-5)) / 2e-5 for i in some])


@pytest.fixture
def doubled():
    """The policy and the data in float64."""
    policy, found = gather()
    given = policy, phases(SMALL, policy, found)[1]
    with jax.enable_x64(True):
        yield jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64) if x.dtype == jnp.float32 else x, given)


def meta_gradient(algorithm, policy, data):
    *before, after = data
    loss = lambda policy: algorithm.loss(policy, tuple(before), after)[0]  # noqa: E731
    some, expected = central_differences(jax.jit(loss), policy)
    return np.asarray(jax.flatten_util.ravel_pytree(jax.grad(loss)(policy))[0])[some], expected


def test_the_gradient_goes_through_both_inner_steps(doubled):
    """The derivative of J(θ'(θ)) on fixed data. That of the first order is another one: its error is above 10%."""
    found, expected = meta_gradient(SMALL, *doubled)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)
    first, _ = meta_gradient(dataclasses.replace(SMALL, first_order=True), *doubled)
    assert np.linalg.norm(first - expected) > 0.1 * np.linalg.norm(expected)


def ratios(algorithm, policy, data):
    """π_θ'(a) / π_old(a) on the last trajectories, before θ has moved."""
    *before, after = data

    def one(before, after):
        adapted = policy
        for part in before:
            adapted = algorithm.adapted(adapted, part)
        return jnp.exp(maml.pi(adapted, after.obs, after.mask).log_prob(after.action) - after.log_prob)

    return np.asarray(jax.vmap(one)(tuple(before), after))


def test_what_learning_recomputes_is_what_acted():
    policy, found = gather()
    _, data = phases(SMALL, policy, found)
    np.testing.assert_allclose(ratios(SMALL, policy, data), 1.0, atol=2e-3)


def shuffled(data):
    """A mutant: a task adapts to the trajectories of another one."""
    return [jax.tree.map(lambda x: jnp.roll(x, 1, 0), part) for part in data[:-1]] + data[-1:]


MUTANTS = {
    "another task's trajectories": shuffled,
    "adapted on what comes after": lambda data: [data[-1]] * (len(data) - 1) + data[-1:],
    "adapted once of two times": lambda data: data[1:],
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_other_data_do_not_give_what_acted(mutant):
    policy, found = gather()
    _, data = phases(SMALL, policy, found)
    assert np.abs(ratios(SMALL, policy, MUTANTS[mutant](data)) - 1.0).max() > 0.02


def test_trajectories_of_a_task_are_in_one_place():
    """Rewards say where the goal is: there is one for all trajectories of a task, before and after adaptation."""
    _, found = gather()
    steps = found.steps
    assert steps.first.shape == (24, 12)
    assert np.asarray(steps.first)[::8].all()
    assert np.asarray(steps.ended)[7::8].all()
    assert not np.asarray(steps.terminated & steps.truncated).any()
    away = -np.asarray(steps.reward)
    place = np.asarray(steps.next_obs)
    for task in range(3):
        mine = slice(4 * task, 4 * task + 4)
        x, d = place[:, mine].reshape(-1, 2), away[:, mine].ravel()
        # |x - g|² = |x|² - 2 x·g + |g|²: linear in (g, |g|²)
        unknown, *_ = np.linalg.lstsq(np.c_[-2 * x, np.ones(len(x))], d**2 - (x**2).sum(1), rcond=None)
        np.testing.assert_allclose(np.linalg.norm(x - unknown[:2], axis=1), d, atol=1e-3)


def test_advantages_by_hand():
    policy, found = gather()
    parts, data = phases(SMALL, policy, found)
    reward = np.asarray(parts[0].reward).reshape(8, 3, 4)
    returns = np.stack([sum(0.99**k * reward[t + k] for k in range(8 - t)) for t in range(8)])
    expected = returns - returns.mean(2, keepdims=True)
    for task in range(3):
        mine = expected[:, task]
        np.testing.assert_allclose(data[0].advantage[task], (mine - mine.mean()) / mine.std(), atol=2e-3)
    everyone = (expected - expected.mean()) / expected.std()  # over all tasks, a mutant
    assert np.abs(np.asarray(data[0].advantage) - everyone.swapaxes(0, 1)).max() > 0.05


def test_what_it_does_not_serve():
    with pytest.raises(IncompatibleError, match="adapts to tasks"):
        td.train("maml", "Pendulum-v1", steps=100, progress=False)
    with pytest.raises(ConfigError, match="2 or more"):
        check(td.MAML(trajectories=1))


def likelihood_gain(algorithm):
    """By how much one inner step raises the mean of log π(a | s) A, in each task."""
    policy, found = gather(algorithm)
    _, (first, *_) = phases(algorithm, policy, found)

    def one(data):
        of = lambda policy: (maml.pi(policy, data.obs, data.mask).log_prob(data.action) * data.advantage).mean()  # noqa: E731
        return of(algorithm.adapted(policy, data)) - of(policy)

    return np.asarray(jax.vmap(one)(first))


def test_the_inner_step_makes_good_actions_likelier():
    """For a small step the gain is positive in every task; with the sign flipped it is negative."""
    assert (likelihood_gain(dataclasses.replace(SMALL, inner_rate=1e-2)) > 0).all()
    assert (likelihood_gain(dataclasses.replace(SMALL, inner_rate=-1e-2)) < 0).all()


def test_the_loss_is_the_clipped_objective_negated():
    """With advantages of 1 it is -1 where actions are as likely as they were, -(1 + ε) where they are twice as likely,
    and -1/2 where they are half as likely."""
    policy, found = gather()
    _, (*before, after) = phases(SMALL, policy, found)
    ones = after._replace(advantage=jnp.ones_like(after.advantage))
    for factor, expected in ((1.0, -1.0), (2.0, -1.2), (0.5, -0.5)):
        shifted = ones._replace(log_prob=ones.log_prob - np.log(factor))
        assert float(SMALL.loss(policy, tuple(before), shifted)[0]) == pytest.approx(expected, abs=2e-3)
