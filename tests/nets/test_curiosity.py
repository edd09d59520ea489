"""Intrinsic rewards: what is new has a bonus, what was seen has none; returns of bonuses go on over episodes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.nets import curiosity
from thorndike.types import Rollout, Spec, Timestep, Transition

T, E, D = 16, 4, 6
SPACE, ACTION = Box(-np.inf, np.inf, (D,)), Discrete(3)
SPEC = Spec(SPACE, ACTION, 1000)
SMALL = td.Torso(widths=(32,), activation="relu")


def rollout(seed, centre=0.0, noise=None, ended=False):
    """Steps in which actions move the first three numbers; the others are `noise`, if any, or stand still."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 3, (T, E))
    obs = rng.normal(size=(T, E, D)) * 0.1 + centre
    after = obs.copy()
    after[..., :3] += np.eye(3)[action]
    if noise is not None:
        after[..., 3:] = rng.normal(size=(T, E, 3)) * noise
    end = np.zeros((T, E), bool)
    end[T // 2] = ended
    last = Timestep(jnp.float32(after[-1]), None, None, None, None, None, {})
    steps = Transition(obs, end & False, action, {}, np.zeros((T, E)), end, end & False, after, {})
    return Rollout(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32 if x.dtype == float else None), steps), (), last)


def taught(bonus, rollouts, spec=SPEC):
    """The state after learning from these."""
    state = jax.jit(lambda key: bonus.init(key, spec, E))(jax.random.key(0))
    learn = jax.jit(lambda s, r, k: bonus.learn(s, r, r.steps.action, 0.95, k))
    for i, one in enumerate(rollouts):
        state, _, metrics = learn(state, one, jax.random.key(i))
    return state, metrics


def novelty(bonus, state, one):
    """The mean raw bonus of a rollout's steps, with the statistics as they are."""
    obs, after = (curiosity.sight(state.statistics, x) for x in (one.steps.obs, one.steps.next_obs))
    return float(bonus.novelty(state.learned, state.fixed, curiosity.Steps(obs, one.steps.action, after))[0].mean())


def places(seed, low, high):
    """Steps between places from `low` to `high`, of 40."""
    rng = np.random.default_rng(seed)
    obs, after = jnp.asarray(rng.integers(low, high, (2, T, E)))
    no = jnp.zeros((T, E), bool)
    steps = Transition(obs, no, no.astype(int), {}, jnp.zeros((T, E)), no, no, after, {})
    return Rollout(steps, (), Timestep(after[-1], None, None, None, None, None, {}))


def test_rnd_knows_what_it_has_seen():
    """The bonus falls ten times and more where it was, and less than twice elsewhere; the target is never learned."""
    bonus = td.RND(torso=SMALL, features=16, updates=16, share=0.5)
    spec = Spec(Discrete(40), ACTION, 1000)
    first = bonus.init(jax.random.key(0), spec, E)
    state, _ = taught(bonus, [places(i, 0, 20) for i in range(40)], spec)
    near, far = ([novelty(bonus, s, places(100, *of)) for s in (first, state)] for of in ((0, 20), (20, 40)))
    assert near[1] < near[0] / 10, near
    assert far[1] > far[0] / 2, far
    for a, b in zip(jax.tree.leaves(first.fixed), jax.tree.leaves(state.fixed)):
        np.testing.assert_array_equal(a, b)


def test_a_target_that_is_learned_has_nothing_to_say(monkeypatch):
    """The mutant of the test above: where both networks are one, nothing is new anywhere."""

    def together(self, learned, fixed, steps):
        error = 0.5 * (learned(steps.next_obs) ** 2).sum(-1)
        return error, error

    monkeypatch.setattr(td.RND, "novelty", together)
    with pytest.raises(AssertionError):
        test_rnd_knows_what_it_has_seen()


def test_icm_leaves_out_what_actions_do_not_move():
    """Other noise moves its features less than a tenth of what another action does; at first as much."""
    bonus = td.ICM(torso=SMALL, features=16, updates=16)
    one = rollout(100, noise=1.0)
    found = []
    for n in (1, 120):
        state, _ = taught(bonus, [rollout(i, noise=1.0) for i in range(n)])
        features = lambda x, s=state: s.learned.features(curiosity.sight(s.statistics, x))  # noqa: E731
        after = one.steps.next_obs
        noisy = after.at[..., 3:].set(rollout(101, noise=1.0).steps.next_obs[..., 3:])
        moved = after.at[..., :3].set(jnp.roll(after[..., :3], 1, -1))
        change = [float(((features(x) - features(after)) ** 2).mean()) for x in (noisy, moved)]
        found.append(change[0] / change[1])
    assert found[0] > 0.3, found
    assert found[1] < 0.1, found


def by_hand(bonus, value, discount, trace, ended=None):
    """GAE of an endless stream, or of episodes, [T, E]; value is [T + 1, E]."""
    out, following = np.zeros((T, E)), np.zeros(E)
    for t in reversed(range(T)):
        goes = 1.0 if ended is None else 1.0 - ended[t]
        following = bonus[t] + discount * goes * value[t + 1] - value[t] + discount * trace * goes * following
        out[t] = following
    return out


def test_returns_go_on_over_the_ends_of_episodes():
    """Advantages against a loop in NumPy, where all episodes end in the middle; with them cut they are others."""
    bonus = td.RND(torso=SMALL, features=8, coefficient=2.0, discount=0.9)
    one = rollout(3, ended=True)
    state = bonus.init(jax.random.key(0), SPEC, E)
    after, advantage, _ = bonus.learn(state, one, one.steps.action, 0.8, jax.random.key(1))
    obs, nxt = (curiosity.sight(after.statistics, x) for x in (one.steps.obs, one.steps.next_obs))
    raw = np.asarray(bonus.novelty(state.learned, state.fixed, curiosity.Steps(obs, one.steps.action, nxt))[0])
    sums, history = np.zeros(E), []
    for t in range(T):
        sums = raw[t] + 0.9 * sums
        history.append(sums)
    np.testing.assert_allclose(after.sums, sums, rtol=1e-4)
    scaled = raw / np.std(history)
    last = curiosity.sight(after.statistics, one.last.obs)
    value = np.asarray(jnp.concatenate([state.critic(obs), state.critic(last)[None]])[..., 0])
    np.testing.assert_allclose(advantage, 2 * by_hand(scaled, value, 0.9, 0.8), rtol=1e-3, atol=1e-4)
    cut = 2 * by_hand(scaled, value, 0.9, 0.8, np.asarray(one.steps.terminated, float))
    assert np.abs(np.asarray(advantage) - cut).max() > 0.1


def test_bonuses_have_one_scale():
    """A target of ten times the size: the raw bonus is 100 times as large, the advantages of the bonus are the same."""
    bonus = td.RND(torso=SMALL, features=8)
    one, states = rollout(3), []
    state = bonus.init(jax.random.key(0), SPEC, E)
    for scale in (1.0, 10.0):
        heads = [
            jax.tree_util.tree_map_with_path(
                lambda path, x, s=scale: x * s if "last" in jax.tree_util.keystr(path) else x, head
            )
            for head in (state.learned, state.fixed)
        ]
        grown = state._replace(learned=heads[0], fixed=heads[1])
        states.append(bonus.learn(grown, one, one.steps.action, 0.95, jax.random.key(1)))
    (_, plain, small), (_, large, big) = states
    np.testing.assert_allclose(big["bonus"], 100 * small["bonus"], rtol=1e-3)
    np.testing.assert_allclose(plain, large, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "space", [Discrete(3), MultiDiscrete([2, 3]), MultiBinary(4), Box(-1, 1, (2,))], ids=["one", "many", "bits", "box"]
)
def test_icm_reads_every_action(space):
    """Its inverse model's loss falls where the actions can be told from what they do."""
    spec = Spec(SPACE, space, 1000)
    bonus = td.ICM(torso=SMALL, features=8, updates=4)
    action = np.stack([[space.sample() for _ in range(E)] for _ in range(T)])
    one = rollout(0)
    after = np.asarray(one.steps.obs).copy()
    flat = action.reshape(T, E, -1)
    after[..., : flat.shape[-1]] += flat
    one = one._replace(steps=one.steps._replace(next_obs=jnp.float32(after)))
    state = bonus.init(jax.random.key(0), spec, E)
    learn = jax.jit(lambda s, k: bonus.learn(s, one, jnp.asarray(action), 0.95, k))
    losses = []
    for i in range(40):
        state, _, metrics = learn(state, jax.random.key(i))
        losses.append(float(metrics["novelty_loss"]))
    assert losses[-1] < losses[0]


# --- of batches from a memory ----------------------------------------------------------------------------------------

PLACES = Spec(Discrete(40), ACTION, 1000)


def check_rewards_of_batches():
    """Each is the raw bonus by the standard deviation of all so far, by NumPy, times the coefficient; and it falls ten
    times and more where the batches are from, and less than twice elsewhere."""
    bonus = td.RND(torso=SMALL, features=16, coefficient=2.0, share=1.0)
    first = state = bonus.apart(jax.random.key(0), PLACES)
    learn, raws = jax.jit(bonus.reward), []
    for i in range(400):
        steps = places(i, 0, 20).steps
        if i < 3:
            seen = curiosity.Steps(steps.obs, steps.action, steps.next_obs)
            raws.append(np.asarray(bonus.novelty(state.learned, state.fixed, seen)[0]))
        state, given, metrics = learn(state, steps, jax.random.key(i))
        if i < 3:
            np.testing.assert_allclose(given, 2 * raws[-1] / np.std(raws), rtol=1e-3)
            np.testing.assert_allclose(metrics["bonus"], raws[-1].mean(), rtol=1e-4)
    near, far = ([novelty(bonus, s, places(1000, *of)) for s in (first, state)] for of in ((0, 20), (20, 40)))
    assert near[1] < near[0] / 10, near
    assert far[1] > far[0] / 2, far


def test_batches_are_rewarded_for_what_is_new():
    check_rewards_of_batches()


@pytest.mark.parametrize("mutant", ["not normalised", "never trained"])
def test_wrong_rewards_of_batches_are_noticed(mutant, monkeypatch):
    if mutant == "not normalised":
        monkeypatch.setattr(curiosity.Running, "std", property(lambda self: jnp.float32(1)))
    else:
        monkeypatch.setattr(curiosity, "descend", lambda optimiser, gradient, state, params: (params, state, {}))
    with pytest.raises(AssertionError):
        check_rewards_of_batches()


def check_all_places_are_learned():
    """Of batches in which the rows stand in order, as a prioritised memory draws them and as steps do in sequences,
    none stays new, though each update learns from a fourth."""
    bonus = td.RND(torso=SMALL, features=16)
    steps, last = places(0, 0, 40).steps, jnp.broadcast_to(jnp.arange(T)[:, None], (T, E))
    steps = steps._replace(next_obs=last)
    first = state = bonus.apart(jax.random.key(0), PLACES)
    learn = jax.jit(bonus.reward)
    for i in range(400):
        state, _, _ = learn(state, steps, jax.random.key(i))
    seen = curiosity.Steps(steps.obs, steps.action, steps.next_obs)
    before, after = (np.asarray(bonus.novelty(s.learned, s.fixed, seen)[0]).mean(1) for s in (first, state))
    assert (after < before / 10).all(), after / before


def test_any_row_of_a_batch_is_learned_from(monkeypatch):
    check_all_places_are_learned()
    monkeypatch.setattr(curiosity, "permutation", lambda key, n: jnp.arange(n))
    with pytest.raises(AssertionError):
        check_all_places_are_learned()


def check_sight_of_batches():
    """Novelty is of normalised observations from the first batch on: their unit does not matter."""
    bonus, one, bonuses = td.RND(torso=SMALL), rollout(0).steps, []
    for unit in (1.0, 100.0):
        steps = one._replace(obs=unit * one.obs, next_obs=unit * one.next_obs)
        _, _, metrics = bonus.reward(bonus.apart(jax.random.key(0), SPEC), steps, jax.random.key(1))
        bonuses.append(float(metrics["bonus"]))
    assert bonuses[1] == pytest.approx(bonuses[0], rel=0.05)


def test_batches_are_seen_in_units_of_their_own(monkeypatch):
    check_sight_of_batches()
    monkeypatch.setattr(curiosity, "update_tree", lambda statistics, obs: statistics)
    with pytest.raises(AssertionError):
        check_sight_of_batches()
