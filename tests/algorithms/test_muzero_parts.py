"""MuZero's parts: its search with a model that is exact, its targets against loops, and a chain that it unrolls."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete

import thorndike as td
from thorndike.algorithms.search import muzero
from thorndike.algorithms.search.alphazero import improved_value
from thorndike.nets import latent
from thorndike.ops.keys import random_key
from thorndike.ops.returns import searched_returns
from thorndike.types import Rollout, Spec, Transition

GAMMA, ACTIONS = 0.9, 2
BINS = td.Bins(low=-12.0, high=12.0, count=5, scale="linear")


# --- the search, with a model that is exact ---------------------------------------------------------------------------


def logits_of(x):
    return jnp.log(BINS.encode(x) + 1e-30)


class Exact(eqx.Module):
    """A model whose latent states number those of a table."""

    after: jax.Array  # [S, A]
    reward: jax.Array  # [S, A]
    value: jax.Array  # [S]
    logits: jax.Array  # [A]
    sign: int = eqx.field(static=True, default=1)

    def represent(self, obs):
        return obs

    def step(self, z, action):
        return self.after[z, action], logits_of(self.reward[z, action])

    def predict(self, z):
        return jnp.broadcast_to(self.logits, (*z.shape, len(self.logits))), logits_of(self.value[z])


def tables(count=12, states=4, seed=0):
    """Decision problems of 4 states without chance, side by side; their best values, and those of random actions."""
    rng = np.random.default_rng(seed)
    after = rng.integers(0, states, (count, states, ACTIONS)) + states * np.arange(count)[:, None, None]
    after, reward = after.reshape(-1, ACTIONS), rng.uniform(-1, 1, (count * states, ACTIONS))
    best, poor = np.zeros(len(after)), np.zeros(len(after))
    for _ in range(400):
        best, poor = ((reward + GAMMA * v[after]) for v in (best, poor))
        best, poor = best.max(1), poor.mean(1)
    return after, reward, best, poor


def searched(model, simulations=256, search="gumbel"):
    algorithm = td.MuZero(simulations=simulations, search=search, discount=GAMMA, bins=BINS, temperature=0.0)
    return algorithm.found(model, jnp.arange(model.after.shape[0]), None, random_key(0), False)


def check_values(value_of=improved_value):
    """Within 4% of dynamic programming, in units of the largest value."""
    after, reward, best, _ = tables()
    found = searched(Exact(*map(jnp.asarray, (after, reward, best)), jnp.zeros(ACTIONS)))
    assert np.abs(value_of(found) - best).max() < 0.04 * np.abs(best).max()


def check_actions(search="gumbel"):
    """The best action in every state that has one by a margin.

    Gumbel search is given the values of random actions, with which one step ahead is not enough. PUCT plays what it
    visits most, for which these are too far off: it is given the best ones.
    """
    after, reward, best, poor = tables()
    given = poor if search == "gumbel" else best
    found = searched(Exact(*map(jnp.asarray, (after, reward, given)), jnp.zeros(ACTIONS)), search=search)
    q, ahead = (reward + GAMMA * v[after] for v in (best, poor))
    clear = np.abs(q[:, 0] - q[:, 1]) > 0.1
    assert clear.sum() > 40
    assert (ahead.argmax(1) != q.argmax(1))[clear].any()
    np.testing.assert_array_equal(np.asarray(found.action)[clear], q.argmax(1)[clear])


def check_search():
    check_values()
    check_actions()


def test_values_of_a_search_with_an_exact_model_are_those_of_dynamic_programming():
    check_values()


@pytest.mark.parametrize("search", ["gumbel", "puct"])
def test_actions_of_a_search_with_an_exact_model_are_the_best(search):
    check_actions(search)


def test_the_mean_over_visits_is_not_what_a_state_is_worth():
    with pytest.raises(AssertionError):
        check_values(lambda found: found.search_tree.node_values[:, 0])


@pytest.mark.parametrize("bug", ["reward of the action before", "sign", "no discount"])
def test_a_wrong_search_is_noticed(bug, monkeypatch):
    right = td.MuZero.imagine

    def imagine(self, actor, key, action, z):
        step, after = right(self, actor, key, action, z)
        if bug == "reward of the action before":
            step = step.replace(reward=actor.reward[after, action])
        return step.replace(discount=step.discount * {"sign": -1.0, "no discount": 1 / GAMMA}.get(bug, 1.0)), after

    monkeypatch.setattr(td.MuZero, "imagine", imagine)
    with pytest.raises(AssertionError):
        check_search()


# --- two players, and what is not allowed -----------------------------------------------------------------------------


def nim(sign=-1):
    """Who takes the last of up to seven sticks, one or two at a time, has won; state 0 is the end."""
    left = np.arange(8)[:, None]
    after = np.maximum(left - [1, 2], 0)
    reward = ((left > 0) & (after == 0)).astype(float)
    return Exact(jnp.asarray(after), jnp.asarray(reward), jnp.zeros(8), jnp.zeros(2), sign)


def check_nim(sign):
    """The other is left with a multiple of three; whoever has one, loses."""
    algorithm = td.MuZero(simulations=100, discount=1.0, bins=BINS)
    found = algorithm.found(nim(sign), jnp.arange(8), None, random_key(0), False)
    won = np.arange(8) % 3 != 0
    np.testing.assert_array_equal((np.asarray(found.action) + 1)[won], (np.arange(8) % 3)[won])
    np.testing.assert_array_equal(np.sign(np.asarray(improved_value(found))[3:]), np.where(won[3:], 1, -1))


def test_what_is_good_for_one_is_bad_for_the_other():
    check_nim(-1)
    with pytest.raises(AssertionError):
        check_nim(1)


def test_the_sign_is_that_of_the_players():
    spec = Spec(td.make("CartPole-v1").observation_space, td.make("CartPole-v1").action_space, 100)
    game = td.make("pgx/tic_tac_toe")
    games = Spec(game.observation_space, game.action_space, 100, masked=True, model=game)
    signs = [jax.eval_shape(lambda s=s: CHAIN.init(random_key(0), s)).model.sign for s in (spec, games)]
    assert signs == [1, -1]


def check_mask(unmasked=False):
    """Illegal actions are neither made nor learned, though prior, reward and value are for them."""
    model = dataclasses.replace(nim(), logits=jnp.array([0.0, 5.0]))
    mask = np.ones((8, 2), bool)
    mask[2:, 1] = False
    algorithm = td.MuZero(simulations=16, discount=1.0, bins=BINS)
    found = algorithm.found(model, jnp.arange(8), None if unmasked else jnp.asarray(mask), random_key(0), True)
    assert mask[np.arange(8), np.asarray(found.action)].all()
    assert (np.asarray(found.action_weights)[~mask] == 0).all()
    assert np.isfinite(found.action_weights).all()


def test_illegal_actions_at_the_root():
    check_mask()
    with pytest.raises(AssertionError):
        check_mask(unmasked=True)


# --- targets ----------------------------------------------------------------------------------------------------------


def play(seed=0, length=9, windows=64):
    """Windows [T, B] with random ends of both kinds."""
    rng = np.random.default_rng(seed)
    terminated = rng.random((length, windows)) < 0.15
    truncated = ~terminated & (rng.random((length, windows)) < 0.15)
    reward, value = rng.normal(size=(2, length, windows)).astype(np.float32)
    first = np.concatenate([rng.random((1, windows)) < 0.5, (terminated | truncated)[:-1]])
    return reward, value, terminated, truncated, first


def check_returns(discount=0.9, trace=0.7):
    """The mixture of returns over 1, 2, ... steps that defines a λ-return (Sutton & Barto 2018, eq. 12.3)."""
    reward, value, terminated, truncated, _ = play()
    found = muzero.searched_returns(*map(jnp.asarray, (reward, value, terminated, truncated)), discount, trace)
    length = len(reward)
    for b in range(reward.shape[1]):
        for t in range(length):
            r, v = reward[t:, b], value[t:, b]
            n, total, mixture, ends = 0, 0.0, [], False
            while not (truncated[t + n, b] or (t + n == length - 1 and not terminated[t + n, b])):
                total, n = total + discount**n * r[n], n + 1
                ends = terminated[t + n - 1, b]
                mixture.append(total if ends else total + discount**n * v[n])
                if ends:
                    break
            weights = [(1 - trace) * trace**i for i in range(n - 1)] + [trace ** max(n - 1, 0)]
            expected = np.dot(weights, mixture) if mixture else v[0]
            np.testing.assert_allclose(found[t, b], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("discount", "trace"), [(0.9, 0.7), (-1.0, 1.0), (-0.9, 0.5), (0.9, 0.0)])
def test_returns_are_those_of_a_loop(discount, trace):
    check_returns(discount, trace)


def through_ends(reward, value, terminated, truncated, discount, trace):
    return searched_returns(reward, value, jnp.zeros_like(terminated), truncated, discount, trace)


def through_cuts(reward, value, terminated, truncated, discount, trace):
    return searched_returns(reward, value, terminated, jnp.zeros_like(truncated), discount, trace)


def one_late(reward, value, *rest):
    return searched_returns(reward, jnp.concatenate([value[1:], value[-1:]]), *rest)


@pytest.mark.parametrize("bug", [through_ends, through_cuts, one_late])
def test_wrong_returns_are_noticed(bug, monkeypatch):
    monkeypatch.setattr(muzero, "searched_returns", bug)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_returns()


def check_targets():
    """Each step of a window: of its first episode, behind the end of that, or unknown."""
    reward, value, terminated, truncated, first = play(1)
    policy = np.random.default_rng(2).random((*reward.shape, 2)).astype(np.float32)
    steps = Transition((), first, (), {"policy": policy}, reward, terminated, truncated, (), {})
    algorithm = td.MuZero(unroll=5, discount=0.9, trace=0.7)
    found = algorithm.targets(jax.tree.map(jnp.asarray, steps), jnp.asarray(value), 1)
    z = np.asarray(searched_returns(*map(jnp.asarray, (reward, value, terminated, truncated)), 0.9, 0.7))
    np.testing.assert_array_equal(found.policy, policy[:6])
    seen = set()
    for b in range(reward.shape[1]):
        state = "here"
        for k in range(6):
            seen.add(state)
            assert (found.here[k, b], found.known[k, b]) == (state == "here", state != "unknown")
            if state != "unknown":
                expected = (z[k, b], reward[k, b]) if state == "here" else (0.0, 0.0)
                np.testing.assert_allclose((found.value[k, b], found.reward[k, b]), expected, rtol=1e-6)
            if state == "here" and (terminated[k, b] or truncated[k, b]):
                state = "over" if terminated[k, b] else "unknown"
    assert seen == {"here", "over", "unknown"}


def test_targets_are_those_of_a_loop():
    check_targets()


@pytest.mark.parametrize("bug", ["not absorbing", "cuts are absorbing", "into the next episode"])
def test_wrong_targets_are_noticed(bug, monkeypatch):
    right = td.MuZero.targets

    def wrong(self, steps, value, sign):
        found = right(self, steps, value, sign)
        known = {"not absorbing": found.here, "cuts are absorbing": jnp.ones_like(found.here)}.get(bug, found.known)
        here = jnp.ones_like(found.here) if bug == "into the next episode" else found.here
        return found._replace(here=here, known=known)

    monkeypatch.setattr(td.MuZero, "targets", wrong)
    with pytest.raises(AssertionError):
        check_targets()


# --- learning a model -------------------------------------------------------------------------------------------------

CHAIN = td.MuZero(
    learning_rate=5e-3, discount=GAMMA, trace=1.0, unroll=5, latent=8, widths=(32,), torso=td.Torso(widths=(32,)),
    value_coefficient=1.0, bins=td.Bins(low=-1.0, high=1.0, count=21, scale="linear"),
    replay=td.Windows(batch_size=3, length=7),
)  # fmt: skip


def beginning(algorithm, obs=3):
    return algorithm.init(random_key(0), Spec(Discrete(obs), Discrete(ACTIONS), 1000))


def unrolled_chain(updates=300):
    """Three steps, the last of which brings 1 and the end: v^k and u^k from its first state, after learning."""
    t = np.arange(7)[:, None] + np.arange(3)[None]
    obs, rng = t % 3, np.random.default_rng(0)
    last = obs == 2
    policy = np.full((7, 3, ACTIONS), 0.5, np.float32)

    def batch(action):
        steps = Transition(
            obs, obs == 0, action, {"policy": policy}, last.astype(np.float32), last, np.zeros_like(last), (), {}
        )
        return Rollout(jax.tree.map(jnp.asarray, steps), (), ())

    state, update = beginning(CHAIN), jax.jit(CHAIN.update)
    for _ in range(updates):
        state, _ = update(state, batch(rng.integers(0, ACTIONS, (7, 3))), random_key(0))
    z, values, rewards = state.model.represent(jnp.array([0])), [], []
    for k in range(6):
        values.append(float(CHAIN.bins.decode(state.model.predict(z)[1])[0]))
        z, reward = state.model.step(z, jnp.array([k % 2]))
        rewards.append(float(CHAIN.bins.decode(reward)[0]))
    return np.array(values), np.array(rewards)


def check_chain():
    values, rewards = unrolled_chain()
    np.testing.assert_allclose(values, [GAMMA**2, GAMMA, 1, 0, 0, 0], atol=0.06)
    np.testing.assert_allclose(rewards[:5], [0, 0, 1, 0, 0], atol=0.06)


def test_a_chain_with_its_reward_at_the_end():
    check_chain()


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["reward of the action before", "into the next episode", "values a step late"])
def test_a_wrong_chain_is_noticed(bug, monkeypatch):
    right = td.MuZero.targets

    def wrong(self, steps, value, sign):
        if bug == "into the next episode":  # targets of each step, whatever episode it is of
            z = searched_returns(steps.reward, value, steps.terminated, steps.truncated, self.discount, self.trace)
            all_of_it = jnp.ones((6, 3), bool)
            return muzero.Targets(steps.extras["policy"][:6], z[:6], steps.reward[:6], all_of_it, all_of_it)
        found = right(self, steps, value, sign)
        name = "reward" if bug == "reward of the action before" else "value"
        return found._replace(**{name: jnp.roll(getattr(found, name), 1, 0)})

    monkeypatch.setattr(td.MuZero, "targets", wrong)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_chain()


def moved(halving, monkeypatch):
    """What plain descent on p² alone, behind two steps of g, changes in h."""
    algorithm = dataclasses.replace(
        CHAIN, unroll=2, optimiser=td.SGD(), learning_rate=1e3, max_grad_norm=1e9, replay=td.Windows(length=4)
    )
    right = td.MuZero.targets

    def last_alone(self, steps, value, sign):
        found = right(self, steps, value, sign)
        none = jnp.zeros_like(found.here)
        return found._replace(here=none.at[2].set(True), known=none)

    state = beginning(algorithm)
    obs, policy = jnp.zeros((4, 5), int), jnp.broadcast_to(jnp.array([0.9, 0.1]), (4, 5, 2))
    no = jnp.zeros((4, 5), bool)
    steps = Transition(obs, no, obs, {"policy": policy}, jnp.zeros((4, 5)), no, no, (), {})
    with monkeypatch.context() as patch:
        patch.setattr(td.MuZero, "targets", last_alone)
        if not halving:
            patch.setattr(muzero, "halved", lambda z: z)
        after, _ = jax.jit(lambda *given: algorithm.update(*given))(state, Rollout(steps, (), ()), random_key(0))
    h = (state.model.represent.out.weight, after.model.represent.out.weight)
    return np.asarray(h[1], float) - np.asarray(h[0], float)


def test_the_gradient_is_halved_at_each_step_of_the_model(monkeypatch):
    """Behind two steps of g it is a quarter (Schrittwieser et al. 2020, appendix G)."""
    whole, half = moved(False, monkeypatch), moved(True, monkeypatch)
    assert np.abs(whole).max() > 1e-2
    np.testing.assert_allclose(half, 0.25 * whole, rtol=1e-3, atol=1e-6)
    x = jnp.array([3.0, -2.0])
    np.testing.assert_array_equal(jax.grad(lambda z: (latent.halved(z) ** 2).sum())(x), x)  # half of 2 x
    np.testing.assert_array_equal(latent.halved(x), x)


def sizes(monkeypatch, normalised=None):
    """Mean and standard deviation of latent states after 100 steps of a model whose last layer is large."""
    if normalised is not None:
        monkeypatch.setattr(latent, "normalised", normalised)
    model = beginning(CHAIN).model
    model = eqx.tree_at(lambda m: m.dynamics.out.weight, model, 5.0 * model.dynamics.out.weight)
    z = model.represent(jnp.array([0, 1, 2]))
    for k in range(100):
        z, _ = model.step(z, jnp.full(3, k % 2))
    return z.mean(-1), z.std(-1)


def test_latent_states_stay_of_one_size(monkeypatch):
    mean, std = sizes(monkeypatch)
    np.testing.assert_allclose(mean, 0.0, atol=1e-5)
    np.testing.assert_allclose(std, 1.0, atol=1e-3)
    assert not sizes(monkeypatch, lambda z: z)[1].max() < 10.0  # nor is it a number, at last


# --- what it is for ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_on_the_host_and_its_file_searches(tmp_path):
    algorithm, _ = td.MuZero.small()[""]
    run = td.train(algorithm, "gymnasium/CartPole-v1", 120, out=tmp_path / "run", progress=False)
    run.agent().save(tmp_path / "agent.td")
    obs = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    actions = td.load(tmp_path / "agent.td").act(obs)
    np.testing.assert_array_equal(actions, run.agent().act(obs))
    found = run.algorithm.found(run.agent().actor, jnp.asarray(obs), None, random_key(0), False)
    np.testing.assert_array_equal(actions, found.action)


def test_what_it_cannot_search_is_refused():
    with pytest.raises(td.IncompatibleError, match="needs Discrete ones"):
        td.train(td.MuZero(), "Pendulum-v1", 1000, progress=False)
    for players, perfect, message in [(2, False, "games without chance"), (3, True, "this game has 3 players")]:
        game = SimpleNamespace(players=players, perfect=perfect)
        assert message in td.MuZero().supports(Spec(Discrete(2), Discrete(2), model=game))


def test_windows_have_to_go_on_behind_the_model():
    with pytest.raises(td.ConfigError, match=r"replay\.length must be unroll \+ 2 or more \(7\), got 6"):
        td.train(td.MuZero(replay=td.Windows(length=6)), "CartPole-v1", 1000, progress=False)


def test_a_latent_state_of_one_number_is_refused():
    """Normalised it is 0 whatever is seen."""
    np.testing.assert_array_equal(latent.normalised(jnp.asarray([[3.0], [-1.0]])), 0.0)
    with pytest.raises(td.ConfigError, match="latent must be 2 or more"):
        td.train(td.MuZero(latent=1), "CartPole-v1", 1000, progress=False)
