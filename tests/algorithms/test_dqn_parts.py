"""What each field of DQN does to an update and to acting, against closed forms and loops."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.algorithms.value import dqn
from thorndike.configuration import check
from thorndike.drivers.scan import ScanDriver
from thorndike.memory import sequences
from thorndike.ops.munchausen import Munchausen
from thorndike.ops.returns import n_step
from thorndike.runs.storage.environments import describe
from thorndike.runs.training.validation import open_dataset

SPEC = td.Spec(Box(-1, 1, (3,), np.float32), Discrete(2), 1000)
RNG = np.random.default_rng(0)


def batch(n=16, seed=0):
    rng = np.random.default_rng(seed)
    obs, after = (jnp.asarray(rng.normal(size=(n, 3)), jnp.float32) for _ in range(2))
    ended, no = jnp.asarray(rng.random(n) < 0.3), jnp.zeros(n, bool)
    action, reward = jnp.asarray(rng.integers(0, 2, n)), jnp.asarray(rng.normal(size=n), jnp.float32)
    one = {"weight": jnp.ones(n), "later": jnp.zeros((n, 2)), "steps": jnp.ones(n, int)}
    return td.Transition(obs, no, action, one, reward, ended, no, after, {})


@jax.jit
def _updated(algorithm, steps, key):
    state = algorithm.init(jax.random.key(0), SPEC)
    return algorithm.update(state._replace(target=algorithm.init(jax.random.key(5), SPEC).q), steps, key)[1]


def updated(algorithm, key=0, steps=None):
    """The metrics of one update of a new agent, whose target differs from it."""
    return _updated(algorithm, steps or batch(), jax.random.key(key))


FEW = {"learning_rate": 1e-3, "torso": td.Torso(widths=(8,), init="uniform"), "normalize_observation": False}
RAINBOW = td.Rainbow(**FEW, head=td.Categorical(atoms=11, low=-3.0, high=3.0))
WITHOUT = {"double": False, "dueling": False, "noisy": None, "head": td.Mean()}


def test_every_part_of_rainbow_changes_the_loss_and_the_priorities():
    """One that is silently off would not: the loss of each row is its priority."""
    whole = updated(RAINBOW)
    assert whole["loss"].shape == (1, 16)
    for name, other in WITHOUT.items():
        less = updated(dataclasses.replace(RAINBOW, **{name: other}))
        assert np.abs(less["loss"] - whole["loss"]).max() > 1e-4, name
    extras = batch().extras
    joined = batch()._replace(extras={**extras, "later": jnp.ones((16, 2)), "steps": jnp.full(16, 3)})
    assert np.abs(updated(RAINBOW, steps=joined)["loss"] - whole["loss"]).max() > 1e-3
    weighted = batch()._replace(extras={**extras, "weight": jnp.full(16, 0.5)})
    np.testing.assert_allclose(updated(RAINBOW, steps=weighted)["loss"], whole["loss"], rtol=1e-5)
    np.testing.assert_allclose(
        updated(RAINBOW, steps=weighted)["gradient_norm"], 0.5 * whole["gradient_norm"], rtol=1e-4
    )


def test_noise_is_drawn_anew_in_every_update():
    quiet = dataclasses.replace(RAINBOW, noisy=None)
    assert np.abs(updated(RAINBOW, 1)["loss"] - updated(RAINBOW, 2)["loss"]).max() > 1e-4
    np.testing.assert_array_equal(updated(quiet, 1)["loss"], updated(quiet, 2)["loss"])


def noisy_actions(explore):
    """Of 64 environments that see the same, with several keys."""
    algorithm = td.DQN(**FEW, noisy=3.0, exploration=td.Epsilon(start=0.0, end=None))
    actor = algorithm.actor(algorithm.init(jax.random.key(0), SPEC))
    obs, no = jnp.ones((64, 3)), jnp.zeros(64, bool)
    now = td.Timestep(obs, jnp.zeros(64), no, no, obs, no, {})
    act = jax.jit(lambda key: algorithm.act(actor, (), now, key, explore)[0])
    assert algorithm.look(actor, (), now, True)[0].pi == ()  # of noise it is not known
    return np.stack([act(jax.random.key(k)) for k in range(6)])


def check_noise():
    """Each environment has its own noise, another one in every step; evaluation has none."""
    actions = noisy_actions(True)
    assert set(actions.ravel()) == {0, 1}
    assert all(len(set(row)) == 2 for row in actions)
    assert all(len(set(column)) == 2 for column in actions.T[:8])
    assert len(set(noisy_actions(False).ravel())) == 1


def test_noise_is_what_explores():
    check_noise()


@pytest.mark.parametrize("mutant", ["frozen", "shared"])
def test_other_noise_in_acting_is_noticed(mutant, monkeypatch):
    now = dqn.QNetwork.now
    if mutant == "frozen":
        wrong = lambda self, obs, first, carry, key=None: now(  # noqa: E731
            self, obs, first, carry, None if key is None else jax.random.key(0)
        )
    else:

        def wrong(self, obs, first, carry, key=None):
            values, carries = self(*jax.tree.map(lambda x: x[None], (obs, first)), carry, key)
            return values[0], carries

    monkeypatch.setattr(dqn.QNetwork, "now", wrong)
    with pytest.raises(AssertionError):
        check_noise()


def test_munchausen_targets_against_a_loop():
    """Eq. 4 with everything in it: the bonus cut at l₀, entropy in the next value, masks, and endings."""
    algorithm = td.DQN(**FEW, munchausen=Munchausen(scale=0.9, temperature=0.4, low=-0.5), discount=0.9)
    before, after = RNG.normal(size=(2, 20, 3)).astype(np.float32)
    mask, next_mask = RNG.random((2, 20, 3)) < 0.7
    mask[:, 0] = next_mask[:, 1] = True
    steps = batch(20)._replace(
        action=jnp.zeros(20, int), extras={}, info={"mask": jnp.asarray(mask), "next_mask": jnp.asarray(next_mask)}
    )
    got = algorithm.target(jnp.asarray(after), jnp.zeros((20, 3)), steps, jnp.asarray(before))
    for i in range(20):
        pi = np.where(mask[i], np.exp(before[i] / 0.4), 0)
        bonus = 0.9 * np.clip(0.4 * np.log(pi[0] / pi.sum()), -0.5, 0)
        pi = np.where(next_mask[i], np.exp(after[i] / 0.4), 0) / np.exp(after[i] / 0.4)[next_mask[i]].sum()
        soft = sum(p * (q - 0.4 * np.log(p)) for p, q in zip(pi, after[i]) if p > 0)
        expected = steps.reward[i] + bonus + 0.9 * (0 if steps.terminated[i] else soft)
        np.testing.assert_allclose(got[i], expected, rtol=1e-4, atol=1e-5)


def ended_sequences(t=7, b=30):
    """Sequences with ends of both kinds inside."""
    rng = np.random.default_rng(1)
    terminated, cut = rng.random((2, t, b)) < 0.15
    first = np.roll(terminated | cut, 1, 0)
    first[0] = False
    reward = jnp.asarray(rng.normal(size=(t, b)), jnp.float32)
    info = {"next_mask": jnp.asarray(rng.random((t, b, 2)) < 0.5)}
    step = td.Transition((), jnp.asarray(first), (), {}, reward, jnp.asarray(terminated), (), (), info)
    return step, terminated | cut, jnp.asarray(rng.normal(size=(t, b)), jnp.float32)


def check_spans():
    """Of every step of every sequence: rewards until the episode or the sequence ends, then the value there."""
    steps, ended, values = ended_sequences()
    for n in (2, 3, 9):
        joined = sequences.spanning(steps, n)
        reward, discount = n_step(joined, 0.9)
        after = sequences.at_last(values, joined.extras["steps"])
        got = reward + discount * jnp.where(joined.terminated, 0, after)
        for e in range(30):
            for t in range(7):
                total, k = 0.0, 0
                while True:
                    total += 0.9**k * float(steps.reward[t + k, e])
                    k += 1
                    if k == n or t + k == 7 or ended[t + k - 1, e]:
                        break
                last = t + k - 1
                total += 0.0 if steps.terminated[last, e] else 0.9**k * float(values[last, e])
                np.testing.assert_allclose(got[t, e], total, rtol=1e-4, atol=1e-5)
                np.testing.assert_array_equal(joined.info["next_mask"][t, e], steps.info["next_mask"][last, e])


def test_returns_over_n_steps_in_sequences_against_a_loop():
    check_spans()


def test_returns_over_n_steps_equal_rlax_where_nothing_ends():
    steps, _, values = ended_sequences()
    none = jnp.zeros((7, 30), bool)
    joined = sequences.spanning(steps._replace(first=none, terminated=none), 3)
    reward, discount = n_step(joined, 0.9)
    got = reward + discount * sequences.at_last(values, joined.extras["steps"])
    one = lambda r, v: rlax.n_step_bootstrapped_returns(r, jnp.full(7, 0.9), v, 3)  # noqa: E731
    np.testing.assert_allclose(got.T, jax.vmap(one)(steps.reward.T, values.T), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mutant", ["over ends", "own value"])
def test_wrong_spans_are_noticed(mutant, monkeypatch):
    real = sequences.spanning
    if mutant == "over ends":
        wrong = lambda steps, n: real(steps._replace(first=jnp.zeros_like(steps.first)), n)  # noqa: E731
        monkeypatch.setattr(sequences, "spanning", wrong)
    else:
        monkeypatch.setattr(sequences, "at_last", lambda tree, span: tree)
    with pytest.raises(AssertionError):
        check_spans()


def test_sequences_are_ranked_by_the_largest_and_the_mean_error():
    """p = η max + (1 - η) mean, to the power α; drawn as often, and weighed."""
    per = td.PrioritisedSequences(capacity=48, batch_size=2000, burn_in=0, warmup=6, alpha=0.7, beta=0.5, eta=0.8)
    t, e = 3, 4
    x, no = jnp.zeros((t, e)), jnp.zeros((t, e), bool)
    steps = td.Transition(x, no, x, {"carry": jnp.zeros((t, e, 2))}, x, no, no, x, {})
    memory = per.init(jax.eval_shape(lambda: td.Rollout(steps, (), ())))
    for k in range(3):
        memory = per.add(memory, td.Rollout(steps._replace(reward=jnp.arange(e) + 4.0 * k + jnp.zeros((t, 1))), (), ()))
    error = RNG.normal(size=(t, 12)).astype(np.float32)
    drawn = {"index": jnp.tile(jnp.arange(12), (t, 1)), "weight": jnp.ones((t, 12))}
    ranking = per.rank(
        memory.ranking, td.Rollout(steps._replace(extras=drawn), (), ()), {"td_error": jnp.asarray(error)}
    )
    got = per.sample(memory._replace(ranking=ranking), jax.random.key(0))
    p = (0.8 * np.abs(error).max(0) + 0.2 * np.abs(error).mean(0) + 1e-6) ** 0.7
    index = np.asarray(got.steps.extras["index"])
    np.testing.assert_array_equal(index[0], index[2])
    np.testing.assert_array_equal(got.steps.reward[0], index[0])
    np.testing.assert_allclose(np.bincount(index[0], minlength=12) / 2000, p / p.sum(), atol=1e-3)
    weight = (12 * p / p.sum()) ** -0.5
    np.testing.assert_allclose(got.steps.extras["weight"][1], (weight / weight[index[0]].max())[index[0]], rtol=1e-3)


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        (td.DQN(munchausen=Munchausen(), head=td.Quantiles()), "munchausen"),
        (td.DQN(munchausen=Munchausen(), replay=td.Uniform(n_step=3)), "n_step"),
        (td.DQN(noisy=0.0), "noisy"),
        (td.DQN(replay=td.PrioritisedSequences()), "core"),
        (td.DQN(munchausen=Munchausen(low=0.5)), "low"),
        (td.DrQ(augment=td.Shift(pixels=0)), "pixels"),
    ],
)
def test_what_does_not_go_together_is_refused(algorithm, said):
    with pytest.raises(td.ConfigError, match=said):
        check(algorithm)


def test_pictures_are_needed_to_shift_them():
    assert "pictures" in td.DrQ().supports(SPEC)
    assert td.DrQ().supports(td.Spec(Box(0, 255, (8, 8, 3), np.uint8), Discrete(2))) is None
    assert "Rainbow takes the maximum" in td.Rainbow().supports(td.Spec(SPEC.observation, Box(0, 1, (2,))))


def test_diagnostics_are_more_metrics_of_the_same_update():
    """Against NumPy: of both networks' values, and of features of low rank."""
    plain = td.DQN(**FEW)
    less, more = updated(plain), updated(dataclasses.replace(plain, diagnostics=True))
    for name, x in less.items():
        np.testing.assert_allclose(more[name], x, rtol=1e-5, atol=1e-6)
    names = {"q_max", "action_gap", "overestimation", "target_gap", "effective_rank", "dead_units", "weight_share"}
    assert set(more) - set(less) == names
    q, target = (plain.init(jax.random.key(k), SPEC).q for k in (0, 5))
    said = lambda net, obs: np.asarray(net(obs[None], jnp.zeros((1, 16), bool), ())[0][0])  # noqa: E731
    here, there, judged = said(q, batch().obs), said(q, batch().next_obs), said(target, batch().next_obs)
    np.testing.assert_allclose(more["q_max"], here.max(-1).mean(), rtol=1e-4)
    np.testing.assert_allclose(more["action_gap"], np.abs(here[:, 0] - here[:, 1]).mean(), rtol=1e-4)
    chosen = judged[np.arange(16), there.argmax(-1)]
    np.testing.assert_allclose(more["overestimation"], (judged.max(-1) - chosen).mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(more["weight_share"], 1, rtol=1e-5)
    assert 1 <= more["effective_rank"] <= 8


def test_a_dataset_knows_no_priorities_and_no_returns_over_n_steps():
    for algorithm in (td.Rainbow(), td.DQN(replay=td.Prioritised()), td.DQN(replay=td.Uniform(n_step=3))):
        with pytest.raises(td.IncompatibleError, match=r"replay=td.Uniform\(batch_size"):
            open_dataset(algorithm, "data", False)


def test_the_storage_of_prioritised_sequences_is_not_copied():
    """The compiled step's scratch memory stays far below it, though learning rewrites their ranking."""
    algorithm, env = td.R2D2.small()[""]
    replay = dataclasses.replace(algorithm.replay, capacity=400_000)
    env = td.make(env)
    driver = ScanDriver(dataclasses.replace(algorithm, replay=replay), env, describe(env, 10_000, "test"), 1)
    storage = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(driver.like().memory))
    scratch = driver.compile(False).memory_analysis().temp_size_in_bytes
    assert scratch < storage / 20, f"{scratch / 1e6:.1f} MB of scratch beside {storage / 1e6:.1f} MB of storage"


@td.config
class Fives(td.RND):
    """A bonus of 5 for everything."""

    paid: bool = True

    def reward(self, state, steps, key):
        return state, jnp.full(steps.reward.shape, 5.0 * self.paid), {"bonus": jnp.float32(5)}


def check_bonuses_are_rewards(curiosity):
    """TD errors are those of rewards that are larger by the bonus."""
    one, steps = td.DQN(**FEW, curiosity=curiosity), batch()
    richer = steps._replace(reward=steps.reward + 5.0)
    curious, plain = updated(one, steps=steps), updated(dataclasses.replace(one, curiosity=None), steps=richer)
    assert curious["bonus"] == 5
    np.testing.assert_allclose(curious["td_error"], plain["td_error"], rtol=1e-5)


def test_curiosity_pays_for_what_is_new():
    check_bonuses_are_rewards(Fives())
    with pytest.raises(AssertionError):
        check_bonuses_are_rewards(Fives(paid=False))


def test_curiosity_is_of_single_steps():
    with pytest.raises(td.ConfigError, match=r"n_step 1"):
        check(td.DQN(curiosity=td.RND(), replay=td.Uniform(n_step=3)))
