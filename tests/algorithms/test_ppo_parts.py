"""PPO's parts, each against plain NumPy or against what it must not change."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import thorndike as td
from thorndike.algorithms.policy import ppo
from thorndike.algorithms.policy.ppo import Minibatch, State
from thorndike.nets.actor_critic import Carry
from thorndike.ops import rewards
from thorndike.ops.distributions import Categorical
from thorndike.ops.optimise import packed
from thorndike.ops.penalty import penalised
from thorndike.ops.statistics import normalise_tree, update_tree
from thorndike.types import Clock, Rollout, Timestep, Transition

T, E, B = 8, 4, 64
SMALL = td.Torso(widths=(8,))
ONE = td.PPO(
    torso=SMALL, num_envs=E, rollout_length=T, minibatch_size=8, epochs=3, learning_rate=1e-2,
    normalize_observation=False, normalize_reward=False,
)  # fmt: skip
SPEC = td.Spec(td.CartPole().observation_space, td.CartPole().action_space, 1000)
rng = np.random.default_rng(0)


def experience(rng=rng):
    """A rollout of random numbers."""
    obs = jnp.asarray(rng.normal(size=(T + 1, E, 4)), jnp.float32)
    action = jnp.asarray(rng.integers(0, 2, (T, E)))
    reward = jnp.asarray(rng.normal(2, 3, (T, E)), jnp.float32)
    terminated = jnp.asarray(rng.random((T, E)) < 0.2)
    no = jnp.zeros((T, E), bool)
    last = Timestep(obs[T], reward[-1], terminated[-1], no[0], obs[T], terminated[-1], {})
    return Rollout(Transition(obs[:T], no, action, {}, reward, terminated, no, obs[1:], {}), (), last)


def learn(algorithm, progress=0, state=None):
    """One `learn` at some point of the run; the state before and after, and the metrics."""
    state = algorithm.init(jax.random.key(0), SPEC) if state is None else state
    state = state._replace(clock=Clock(jnp.int32(progress), jnp.int32(1000)))
    rollout = experience(np.random.default_rng(1))
    obs = normalise_tree(state.statistics, rollout.steps.obs)
    pi, _, _ = state.params(obs, None, rollout.steps.first, algorithm.carry(None, E))
    extras = {"log_prob": pi.log_prob(rollout.steps.action)}
    rollout = rollout._replace(steps=rollout.steps._replace(extras=extras), carry=algorithm.carry(None, E))
    after, metrics = jax.jit(algorithm.learn)(state, rollout, jax.random.key(1))
    return state, after, metrics


def moved(before: State, after: State) -> float:
    return max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (before.params, after.params))))


def updates(state: State) -> int:
    """Adam's count of steps."""
    return int(next(x for x in jax.tree.leaves(state.optimiser) if x.dtype == jnp.int32))


def test_the_first_pass_is_over_what_acted():
    """With statistics that a rollout changes, the ratio of one update is 1: networks see what they saw when acting."""
    algorithm = dataclasses.replace(ONE, epochs=1, minibatch_size=T * E, normalize_observation=True)
    state = algorithm.init(jax.random.key(0), SPEC)
    decided = state._replace(params=jax.tree.map(lambda x: 10 * x, state.params))
    before, after, metrics = learn(algorithm, state=decided)
    assert abs(float(metrics["approx_kl"])) < 1e-6
    assert float(jnp.abs(after.statistics.mean - before.statistics.mean).max()) > 0.05


class Fixed:
    """A policy and values of our choice, in the place of networks."""

    def __init__(self, logits, value):
        self.logits, self.values = logits, value

    def __call__(self, obs, mask, first, carry):
        return Categorical(self.logits[None]), self.values[None], carry


@pytest.mark.parametrize("value_clip", [None, 0.2])
def test_the_loss_is_the_papers(value_clip):
    """Against a loop over samples: clipped surrogate, value loss with and without clipping, entropy."""
    logits, value, old, target, advantage = (rng.normal(size=s).astype(np.float32) for s in ((B, 3), B, B, B, B))
    action, old_log_prob = rng.integers(0, 3, B), np.log(rng.uniform(0.1, 0.9, B)).astype(np.float32)
    parts = (x[None] for x in (action, old_log_prob, old, advantage, target))
    batch = Minibatch(None, None, None, *parts, ())
    algorithm = td.PPO(value_clip=value_clip, entropy_coefficient=0.1, value_coefficient=0.7)
    loss, metrics = algorithm.loss(Fixed(logits, value), batch)

    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    normal = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    surrogate, errors, entropies = [], [], []
    for i in range(B):
        ratio = np.exp(log_probs[i, action[i]] - old_log_prob[i])
        surrogate.append(min(ratio * normal[i], min(max(ratio, 0.8), 1.2) * normal[i]))
        error = (value[i] - target[i]) ** 2
        if value_clip is not None:
            near = old[i] + min(max(value[i] - old[i], -value_clip), value_clip)
            error = max(error, (near - target[i]) ** 2)
        errors.append(error)
        entropies.append(-(np.exp(log_probs[i]) * log_probs[i]).sum())
    expected = -np.mean(surrogate) + 0.7 * np.mean(errors) - 0.1 * np.mean(entropies)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], np.mean(entropies), rtol=1e-5)


def test_advantages_against_a_loop(monkeypatch):
    """Over episodes that terminate and are cut inside, with successors of their own and normalised observations."""
    algorithm, rng = dataclasses.replace(ONE, normalize_observation=True), np.random.default_rng(3)
    state, rollout = algorithm.init(jax.random.key(0), SPEC), experience(rng)
    state = state._replace(statistics=update_tree(state.statistics, 3 * rollout.steps.obs + 5))
    over = rng.random((T, E))
    terminated, truncated = over < 0.2, over > 0.8
    ended = (terminated | truncated)[..., None]
    after = jnp.where(ended, jnp.asarray(rng.normal(size=(T, E, 4)), jnp.float32), rollout.steps.next_obs)
    steps = rollout.steps._replace(
        terminated=terminated, truncated=truncated, next_obs=after, extras={"log_prob": jnp.zeros((T, E))}
    )
    assert terminated[:-1].any()
    assert truncated[:-1].any()
    handed = []
    monkeypatch.setattr(
        td.PPO, "descend", lambda self, state, data, key, added: handed.append(data) or ((None, None), None, {})
    )
    algorithm.learn(state, rollout._replace(steps=steps, carry=algorithm.carry(None, E)), jax.random.key(1))

    def value(x):
        x = (x - state.statistics.mean) / np.sqrt(state.statistics.var + 1e-8)
        return float(state.params(x[None, None], None, jnp.zeros((1, 1), bool), algorithm.carry(None, 1))[1][0, 0])

    for e in range(E):
        advantage = 0.0
        for t in reversed(range(T)):
            here, there = value(steps.obs[t, e]), value(after[t, e])
            error = float(steps.reward[t, e]) + 0.99 * there * (not terminated[t, e]) - here
            advantage = error + 0.99 * 0.95 * (not ended[t, e]) * advantage
            np.testing.assert_allclose(handed[0].advantage[t, e], advantage, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(handed[0].target[t, e], advantage + here, rtol=1e-3, atol=1e-3)


def test_every_epoch_has_an_order_of_its_own(monkeypatch):
    """Each sees every transition once, in minibatches that are others than the last epoch's."""
    seen, state = [], ONE.init(jax.random.key(0), SPEC)
    index = jnp.arange(T * E, dtype=jnp.float32).reshape(T, E)
    no, obs = jnp.zeros((T, E), bool), jnp.zeros((T, E, 4))
    data = Minibatch(obs, None, no, no.astype(int), index, index, index, index, Carry((), ()))

    def loss(self, params, batch, *_):
        jax.debug.callback(lambda x: seen.append(np.ravel(x)), batch.target, ordered=True)
        return jax.tree.leaves(params)[0].sum() * 0.0, {"approx_kl": jnp.float32(0)}

    monkeypatch.setattr(td.PPO, "loss", loss)
    jax.block_until_ready(ONE.descend(state, data, jax.random.key(0))[0])
    jax.effects_barrier()
    epochs = np.concatenate(seen).reshape(3, T * E)
    for order in epochs:
        assert sorted(order) == list(range(T * E))
    assert len({tuple(order) for order in epochs}) == 3
    assert (np.diff(epochs[0]) != 1).any()


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_the_gradients_of_policy_and_critic_are_clipped_apart(limit):
    """Adam's first moment is a tenth of what it was given."""
    once = dataclasses.replace(ONE, epochs=1, minibatch_size=T * E, max_grad_norm=limit)
    before, after, metrics = learn(once)
    assert 1e-3 < metrics["gradient_norm"] < 1e3
    (parts, unpacked), moments = packed(before.params), after.optimiser[0].mu
    for part in unpacked(moments):
        norm = float(optax.tree.norm(part))
        assert 0 < norm <= 0.1 * limit * 1.0001
        assert norm == pytest.approx(0.1 * limit, rel=1e-3) if limit < 1 else norm < 10
    assert jax.tree.structure(parts) == jax.tree.structure(moments)


def test_keys_of_curiosity_are_no_keys_of_the_epochs(monkeypatch):
    """Nor are those of its networks keys of the policy's."""
    keys, bits = {}, lambda key: np.asarray(jax.random.key_data(key)).tolist()
    nothing = jnp.zeros((T, E))
    monkeypatch.setattr(td.RND, "init", lambda self, key, *_: keys.update(init=key))
    monkeypatch.setattr(td.RND, "learn", lambda self, s, r, a, t, key: (keys.update(learn=key), nothing, {}))
    monkeypatch.setattr(
        td.PPO, "descend", lambda self, s, data, key, added: keys.update(descend=key) or ((None, None), None, {})
    )
    networks = ppo.networks
    monkeypatch.setattr(ppo, "networks", lambda key, *rest: keys.update(policy=key) or networks(key, *rest))
    algorithm = dataclasses.replace(ONE, curiosity=td.RND())
    state, rollout = algorithm.init(jax.random.key(0), SPEC), experience()
    steps = rollout.steps._replace(extras={"log_prob": nothing})
    algorithm.learn(state, rollout._replace(steps=steps, carry=algorithm.carry(None, E)), jax.random.key(1))
    assert bits(keys["learn"]) not in bits(jax.random.split(keys["descend"], algorithm.epochs))
    assert bits(keys["init"]) not in bits(jax.random.split(keys["policy"], 4))


def test_one_advantage_alone_is_not_standardised():
    with pytest.raises(td.ConfigError, match="normalize_advantage to False"):
        dataclasses.replace(ONE, minibatch_size=1).check()
    dataclasses.replace(ONE, minibatch_size=1, normalize_advantage=False).check()


def test_every_minibatch_moves_the_parameters_once():
    assert updates(learn(ONE)[1]) == 3 * T * E // 8


def test_the_target_kl_stops_the_updates_of_a_rollout_and_no_more():
    """The first minibatch has KL 0 and counts; the next ones are past any tiny limit; the next rollout goes on."""
    stopping = dataclasses.replace(ONE, target_kl=1e-9, normalize_advantage=False)
    _, after, _ = learn(stopping)
    first = updates(after)
    assert 1 <= first < 3 * T * E // 8
    norms = [float(learn(dataclasses.replace(stopping, target_kl=kl))[2]["update_norm"]) for kl in (1e-9, None)]
    assert 0 < norms[0] < norms[1] * (first + 1) / (3 * T * E // 8)  # those that were not applied have no length
    on_policy = dataclasses.replace(ONE, target_kl=1e9)
    for a, b in zip(*(jax.tree.leaves(learn(x)[1].params) for x in (on_policy, ONE))):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert updates(learn(stopping, state=after)[1]) > first


def test_rewards_are_scaled_by_the_deviation_of_discounted_returns():
    """Against NumPy over two rollouts, episode ends inside; the report of returns is not touched by it."""
    state, total, seen = rewards.scaling(E), np.zeros(E), []
    for seed in (1, 2):
        rollout = experience(np.random.default_rng(seed))
        scaled, state = rewards.scaled(state, rollout.steps, 0.9)
        reward, ended = np.asarray(rollout.steps.reward), np.asarray(rollout.steps.ended)
        for t in range(T):
            total = reward[t] + 0.9 * total
            seen.append(total.copy())
            total = np.where(ended[t], 0.0, total)
        np.testing.assert_allclose(scaled, np.clip(reward / np.std(seen), -10, 10), rtol=1e-3)


def test_a_discounted_return_does_not_outlive_the_episodes_of_a_stopped_run():
    """A run that was resumed on the host begins new episodes: what it remembers of the old ones' returns is dropped."""
    before, rollout = rewards.scaling(E), experience(np.random.default_rng(1))
    first = np.arange(E) % 2 == 0
    begun = rollout.steps._replace(first=rollout.steps.first.at[0].set(first))
    dropped, going_on = (
        rewards.scaled(before._replace(sums=start), begun, 0.9)[1]
        for start in (jnp.full(E, 50.0), jnp.where(first, 0.0, 50.0))
    )
    jax.tree.map(np.testing.assert_array_equal, dropped, going_on)
    kept = rewards.scaled(before, begun, 0.9)[1]
    assert float(abs(kept[0].mean - dropped[0].mean)) > 1


def test_the_critic_may_have_another_torso():
    """Its layers have the widths that it was given, and the policy's have theirs."""
    one = dataclasses.replace(ONE, torso=td.Torso(widths=(16, 8)), critic_torso=td.Torso(widths=(32,)))
    params = one.init(jax.random.key(0), SPEC).params
    assert (params.policy.torso.features, params.critic.torso.features) == (8, 32)
    with pytest.raises(td.ConfigError, match="critic_torso"):
        dataclasses.replace(one, shared_torso=True).check()


def test_a_shared_torso_is_shared():
    """The value's gradient reaches the policy's torso only where there is one torso."""
    for shared in (True, False):
        params = dataclasses.replace(ONE, shared_torso=shared).init(jax.random.key(0), SPEC).params
        now = (jnp.ones((1, 3, 4)), None, jnp.zeros((1, 3), bool), Carry((), ()))
        gradient = jax.grad(lambda p, now=now: p(*now)[1].sum())(params)
        reached = any(bool((g != 0).any()) for g in jax.tree.leaves(gradient.policy.torso))
        assert reached is shared
        assert (params.critic.torso is None) is shared


def test_observation_statistics_stand_still_outside_of_learning():
    """`act` reads them, `learn` alone moves them, and they are those of the rollout's observations."""
    algorithm = dataclasses.replace(ONE, normalize_observation=True)
    _, after, _ = learn(algorithm)
    obs = np.asarray(experience(np.random.default_rng(1)).steps.obs).reshape(-1, 4)
    np.testing.assert_allclose(after.statistics.mean, obs.mean(0), atol=1e-4)
    np.testing.assert_allclose(after.statistics.var, obs.var(0), rtol=1e-3)


def told(algorithm, seed=5):
    """The loss of random rows, and what it is made of: probabilities, ratios and advantages, in NumPy."""
    rng = np.random.default_rng(seed)
    logits, before = (rng.normal(size=(B, 3)).astype(np.float32) for _ in range(2))
    value, advantage = (rng.normal(size=B).astype(np.float32) for _ in range(2))
    action = rng.integers(0, 3, B)
    new, old = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (logits, before))
    parts = (x[None] for x in (action, old[np.arange(B), action], value, advantage, value))
    added = penalised(algorithm.penalty, jnp.float32(0.7), lambda _: Categorical(before[None]), None, (1, B))
    batch = Minibatch(None, None, None, *parts, (), tuple(one.rows for one in added))
    loss = float(algorithm.loss(Fixed(logits, value), batch, (), added)[0])
    ratio = np.exp(new - old)[np.arange(B), action]
    return loss, new, old, ratio, advantage


def test_dual_clipping_is_the_papers():
    """max(min(ρ A, clip(ρ) A), c A) where A < 0: equation 5 of Ye et al. 2020, by a loop."""
    algorithm = td.PPO(dual_clip=1.5, normalize_advantage=False)
    loss, _, _, ratio, advantage = told(algorithm)
    expected = []
    for rho, a in zip(ratio, advantage):
        least = min(rho * a, min(max(rho, 0.8), 1.2) * a)
        expected.append(max(least, 1.5 * a) if a < 0 else least)
    assert ((ratio > 1.5) & (advantage < 0)).sum() > 3
    np.testing.assert_allclose(loss, -np.mean(expected), rtol=1e-4)
    assert abs(told(dataclasses.replace(algorithm, dual_clip=None))[0] - loss) > 0.05
    with pytest.raises(td.ConfigError, match="dual_clip must be above 1"):
        td.PPO(dual_clip=1.0).check()


def penalised_loss():
    loss, new, old, ratio, advantage = told(td.PPOKL(normalize_advantage=False))
    return loss, -np.mean(ratio * advantage - 0.7 * (np.exp(old) * (old - new)).sum(1))


def test_the_penalty_is_on_the_divergence_of_the_old_policy_from_the_new():
    loss, expected = penalised_loss()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_the_other_direction_is_noticed(monkeypatch):
    kl = Categorical.kl
    monkeypatch.setattr(Categorical, "kl", lambda self, other: kl(other, self))
    loss, expected = penalised_loss()
    assert abs(loss - expected) > 0.02


def test_the_weight_of_the_penalty_follows_its_rule():
    """Halved below 2/3 of the target, doubled above 3/2 of it, and never lost to rounding."""
    rule = td.KLPenalty(target=0.03)
    for kl, factor in ((0.0, 0.5), (0.019, 0.5), (0.021, 1.0), (0.03, 1.0), (0.044, 1.0), (0.046, 2.0), (9.0, 2.0)):
        assert float(rule.adapted(jnp.float32(4.0), jnp.float32(kl))) == 4.0 * factor
    beta = jnp.float32(1.0)
    for _ in range(400):
        beta = rule.adapted(beta, jnp.float32(0))
    assert float(rule.adapted(beta, jnp.float32(1.0))) > float(beta) > 0


KL = td.PPOKL(**{f.name: getattr(ONE, f.name) for f in dataclasses.fields(ONE) if f.name != "penalty"})


def check_weights(steps=4):
    """β of rollout after rollout is what the rule says of the divergence over the whole rollout, once for each."""
    state, beta, moves = KL.init(jax.random.key(0), SPEC), 1.0, 0
    for _ in range(steps):
        before, after, metrics = learn(KL, state=state)
        rollout = experience(np.random.default_rng(1))
        old, new = (
            np.asarray(s.params(rollout.steps.obs, None, rollout.steps.first, Carry((), ()))[0].log_probs)
            for s in (before, after)
        )
        kl = (np.exp(old) * (old - new)).sum(-1).mean()
        np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-3, atol=1e-7)
        beta *= 2.0 if kl > 0.015 else 0.5 if kl < 0.01 / 1.5 else 1.0
        np.testing.assert_allclose(after.beta, beta)
        moves, state = moves + (float(before.beta) != beta), after
    assert moves > 1


def test_the_weight_moves_once_for_each_rollout_and_is_kept():
    check_weights()


@pytest.mark.parametrize("bug", ["for each epoch", "forgotten"])
def test_a_weight_that_moves_otherwise_is_noticed(bug, monkeypatch):
    adapted = td.KLPenalty.adapted
    if bug == "for each epoch":
        wrong = lambda self, beta, kl: adapted(self, adapted(self, adapted(self, beta, kl), kl), kl)  # noqa: E731
    else:
        wrong = lambda self, beta, kl: adapted(self, jnp.float32(self.start), kl)  # noqa: E731
    monkeypatch.setattr(td.KLPenalty, "adapted", wrong)
    with pytest.raises(AssertionError):
        check_weights()


def test_a_large_weight_holds_the_policy():
    held = dataclasses.replace(KL, penalty=td.KLPenalty(start=1e4))
    assert float(learn(held)[2]["kl"]) < 0.1 * float(learn(KL)[2]["kl"])
