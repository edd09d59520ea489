"""DreamerV3's parts: states around episode ends, where gradients go, returns in imagination against closed forms."""

from __future__ import annotations

import dataclasses
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

import thorndike as td
from thorndike.algorithms.model_based import dreamer
from thorndike.algorithms.model_based.dreamer import Dreamer
from thorndike.configuration import check
from thorndike.drivers.host import HostDriver, Packed
from thorndike.drivers.scan import rollout
from thorndike.envs.batched import Batched
from thorndike.nets.rssm import RSSM, Latent
from thorndike.nets.world_model import Size, WorldModel, divergences
from thorndike.ops.distributions import OneHot
from thorndike.ops.returns import lambda_returns
from thorndike.types import Rollout, Timestep, Transition

TINY = Size(memory=16, units=16, choices=3, classes=4, blocks=2, layers=1, depth=4)
BINS = td.Bins(low=-4.0, high=4.0, count=33)
KEY, SHARE = jax.random.key(0), 0.01
T, B = 7, 5


def chosen(seed=0, first=False):
    """Random steps [T, B] of a Box of two numbers and three actions; episodes begin at `first`, or where it says."""
    rng = np.random.default_rng(seed)
    obs, after = jnp.float32(rng.normal(size=(2, T, B, 2)))
    start, no = jnp.asarray(rng.random((T, B)) < 0.3) | first, jnp.zeros((T, B), bool)
    reward, action = jnp.float32(rng.normal(size=(T, B))), jnp.asarray(rng.integers(0, 3, (T, B)))
    return Transition(obs, start, action, {}, reward, no, (), after, {})


def carried(seed):
    """What may have been remembered."""
    keys = jax.random.split(jax.random.key(seed))
    choice = jax.nn.one_hot(jax.random.randint(keys[0], (B, 3), 0, 4), 4).reshape(B, -1)
    return Latent(jax.random.normal(keys[1], (B, 16)), choice)


def box(action):
    return td.Spec(Box(-1, 1, (2,)), action, 100)


ACTIONS = {"discrete": Discrete(3), "box": Box(-2, 6, (2,))}


@cache
def begun(action="discrete"):
    """The state at the start, of the default settings."""
    return jax.jit(lambda key: Dreamer().init(key, box(ACTIONS[action])))(KEY)


@pytest.fixture(scope="module", autouse=True)
def _shared():
    yield
    begun.cache_clear()


@pytest.fixture(scope="module")
def world():
    return WorldModel(KEY, Box(-1, 1, (2,)), 3, TINY, BINS)


@jax.jit
def path_of(world, steps, start):
    return world.path(steps, jax.nn.one_hot(steps.action, 3), start, KEY, SHARE)


def apart(a, b, where):
    """The largest difference between two states where an array [T, B] is true."""
    return max(float(jnp.abs(jnp.where(where[..., None], x - y, 0.0)).max()) for x, y in zip(a, b))


# --- states -----------------------------------------------------------------------------------------------------------


def test_an_episode_does_not_know_of_the_one_before(world):
    """From the first step of an episode on, states do not depend on the carry; before that they do."""
    steps = chosen()
    begun = jnp.cumsum(steps.first, 0) > 0
    one, other = (path_of(world, steps, carried(seed)) for seed in (1, 2))
    for a, b in ((one.before, other.before), (one.after, other.after)):
        assert apart(a, b, begun) == 0
        assert apart(a, b, ~begun) > 0.1
    unaware = steps._replace(first=steps.first & False)
    one, other = (path_of(world, unaware, carried(seed)) for seed in (1, 2))
    assert apart(one.before, other.before, begun) > 0.1


def test_acting_forgets_at_the_same_place():
    """At the first observation of an episode the state is that of an empty memory, whatever the carry is."""
    algorithm, actor = Dreamer(), begun().actor
    obs, no = jnp.float32([[0.3, -0.2]]), jnp.zeros(1, bool)
    empty, action = algorithm.carry(actor, 1)
    full = jax.tree.map(lambda x: x + 0.7, empty), action.at[0, 1].set(1.0)

    @jax.jit
    def state(carry, first):
        now = Timestep(obs, jnp.zeros(1), no, no, obs, first, {})
        return algorithm.act(actor, carry, now, KEY, False)[2]["carry"]

    alike = [apart(state(full, first), state((empty, action), first), no[None] | True) for first in (~no, no)]
    assert alike[0] == 0 < alike[1]


def warmed(name):
    """An actor, and thirty random steps of a warm-up in CartPole, compiled or on the host."""
    algorithm, env = dataclasses.replace(Dreamer.small()[""][0], rollout_length=30), td.make(name)
    spec = td.Spec(env.observation_space, env.action_space, 1000)
    if name == "CartPole-v1":
        actor = algorithm.actor(jax.jit(lambda key: algorithm.init(key, spec))(KEY))
        world, carry = Batched(env, algorithm.num_envs), algorithm.carry(actor, algorithm.num_envs)
        play = jax.jit(lambda: rollout(algorithm, world, actor, carry, world.reset(KEY), KEY, "random")[0].steps)
        return actor, play()
    with HostDriver(algorithm, env, spec, [0], workers="serial") as driver:
        state = driver.init(KEY[None])
        agent, point = Packed(state.agent), driver.point(Packed(state))
        move = driver._act[True](driver.settings, agent, state.carry, driver.observe(), state.key, point)
        steps = driver.rollout(agent, state.carry, state.key, point, move, True)[0].steps
    return jax.tree.map(lambda x: jnp.asarray(x)[0], (state.agent.actor, steps))


def gaps(name):
    """How far each memory within an episode is from h' = f(h, z, a) of the action a that was made, [29, E]."""
    actor, steps = warmed(name)
    before, action = steps.extras["carry"], jax.nn.one_hot(steps.action, 2)
    assert 0 < np.mean(steps.action) < 1
    assert not np.asarray(steps.first).all()
    led = jax.jit(lambda state, action: actor.world.rssm.step(state, action))(before, action)
    return np.where(steps.first[1:], 0.0, np.abs(led[:-1] - before.memory[1:]).max(-1))


@pytest.mark.parametrize("name", ["CartPole-v1", "gymnasium/CartPole-v1"])
def test_the_warm_up_remembers_what_was_done(name):
    """The random action, and not the one that the policy chose."""
    assert gaps(name).max() < 1e-5


def test_a_carry_of_what_was_not_done_is_noticed(monkeypatch):
    monkeypatch.delattr(Dreamer, "taken")
    assert (gaps("CartPole-v1") > 1e-3).mean() > 0.3


def test_a_state_leads_to_the_next(world):
    """Where no episode begins, the state before an action is the one that the step before led to."""
    steps = chosen()
    path = path_of(world, steps, carried(1))
    later = jax.tree.map(lambda x: x[1:], path.before)
    led = jax.tree.map(lambda x: x[:-1], path.after)
    assert apart(later, led, ~steps.first[1:]) == 0
    assert apart(later, led, steps.first[1:]) > 0.1


def test_blocks_are_apart():
    """A block of the cell's gates reads its own part of the memory; the whole enters by a narrow layer alone."""
    cell = RSSM(KEY, 4, 3, 16, 3, 4, 8, 2)
    dense = jnp.zeros((16, 48))
    for g in range(2):
        dense = dense.at[8 * g : 8 * g + 8, 24 * g : 24 * g + 24].set(cell.gates.weight[g])
    x = jax.random.normal(KEY, (5, 16))
    np.testing.assert_allclose(cell.gates(x.reshape(5, 2, 8)).reshape(5, -1), x @ dense, atol=1e-5)


def test_one_hot_choices():
    """Draws have the given probabilities, a gradient as if they were these, and the entropy of NumPy."""
    logits = jnp.log(jnp.float32([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]))
    many = OneHot(jnp.broadcast_to(logits, (20_000, 2, 3)))
    drawn = np.asarray(many.sample(KEY)).reshape(-1, 2, 3)
    assert ((np.abs(drawn) < 1e-6) | (np.abs(drawn - 1) < 1e-6)).all()
    np.testing.assert_allclose(drawn.mean(0), np.exp(logits), atol=0.02)
    weights = jnp.arange(6.0)
    gradient = jax.grad(lambda x: (OneHot(x).sample(KEY) * weights).sum())(logits)
    expected = jax.grad(lambda x: (jax.nn.softmax(x).ravel() * weights).sum())(logits)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    p = np.exp(np.asarray(logits))
    np.testing.assert_allclose(OneHot(logits).entropy(), -(p * np.log(p)).sum(), rtol=1e-5)
    np.testing.assert_array_equal(OneHot(logits).mode(), [0, 1, 0, 1, 0, 0])


# --- gradients of the divergences -------------------------------------------------------------------------------------


def reach(divergences, free=0.0):
    """The size of the gradient of each divergence in q's and p's logits: [[dynamics q, p], [representation q, p]]."""
    q, p = jax.random.normal(KEY, (2, 4, 3, 5))
    sizes = []
    for i in range(2):
        gradients = jax.grad(lambda q, p, i=i: divergences(OneHot(q), OneHot(p), free)[i].sum(), argnums=(0, 1))(q, p)
        sizes.append([float(jnp.abs(g).max()) for g in gradients])
    return np.array(sizes)


def test_each_divergence_teaches_one_side():
    assert ((reach(divergences) > 0.01) == [[False, True], [True, False]]).all()
    swapped = lambda q, p, free: divergences(q, p, free)[::-1]  # noqa: E731
    both = lambda q, p, free: (jnp.maximum(q.kl(p), free),) * 2  # noqa: E731
    assert not ((reach(swapped) > 0.01) == [[False, True], [True, False]]).any()
    assert (reach(both) > 0.01).all()


def test_what_is_good_enough_has_no_gradient():
    assert (reach(divergences, free=100.0) == 0).all()
    q, p = OneHot(jnp.zeros((2, 3))), OneHot(jnp.log(jnp.float32([[0.2, 0.3, 0.5]] * 2)))
    by_hand = 2 * (1 / 3 * np.log(1 / 3 / np.array([0.2, 0.3, 0.5]))).sum()
    np.testing.assert_allclose(divergences(q, p, 0.0), by_hand, rtol=1e-5)
    np.testing.assert_allclose(divergences(q, p, 1.0), 1.0)


def test_the_model_learns_nothing_from_imagination(world):
    """No gradient of policy and critic goes through imagined states; that of stored values does reach the model."""
    state = begun()
    moved = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), state.actor.critic)
    state = state._replace(actor=state.actor._replace(critic=moved))
    batch = Rollout(chosen(), jax.tree.map(lambda x: x[0], state.actor.world.rssm.start(1, B)), ())

    @jax.jit
    def gradient(weight, model):
        def loss(world):
            settings = Dreamer(replay_value=weight, starts=8, horizon=3)
            total, (metrics, _) = settings.loss(state.actor._replace(world=world), state, batch, KEY)
            return total - model * metrics["model_loss"]

        return jax.tree.map(lambda g: jnp.abs(g).max(), jax.grad(loss)(state.actor.world).rssm)

    assert max(map(float, jax.tree.leaves(gradient(0.0, 1.0)))) < 1e-6
    assert max(map(float, jax.tree.leaves(gradient(0.3, 1.0)))) > 1e-5


def likelier(sign=1.0):
    """By how much a gradient step makes action 0 likelier in imagined states, where it alone earns something."""
    state, told = begun(), {}
    batch = Rollout(chosen(), jax.tree.map(lambda x: x[0], state.actor.world.rssm.start(1, B)), ())
    settings = Dreamer(starts=8, horizon=3, entropy_coefficient=0.0)

    def returns(self, actor, seen):
        told.setdefault("before", seen.before)
        first = seen.action[..., 0] if seen.action.ndim > 2 else seen.action == 0
        return jax.lax.stop_gradient((10.0 * first, jnp.ones(first.shape)))

    def loss(policy):
        return settings.loss(state.actor._replace(policy=policy), state, batch, KEY)[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dreamer, "returns", returns)
        loss(state.actor.policy)
        gradient = jax.jit(jax.grad(loss))(state.actor.policy)
    moved = jax.tree.map(lambda p, g: p - sign * g, state.actor.policy, gradient)
    of = lambda policy: jax.nn.softmax(policy(told["before"], settings.unimix).logits)[..., 0].mean()  # noqa: E731
    return float(of(moved) - of(state.actor.policy))


def test_the_policy_climbs():
    assert likelier() > 1e-3
    assert likelier(sign=-1.0) < -1e-3  # the step of the other sign, a mutant


# --- returns ----------------------------------------------------------------------------------------------------------


def by_loop(reward, value, discount, trace):
    """R_t = r_t + γ_t ((1 - λ) v_{t+1} + λ R_{t+1}), and R behind the last step is its value."""
    found, later = np.zeros_like(reward), value[-1]
    for t in reversed(range(len(reward))):
        later = reward[t] + discount[t] * ((1 - trace) * value[t] + trace * later)
        found[t] = later
    return found


def test_lambda_returns_with_a_discount_for_each_step():
    rng = np.random.default_rng(0)
    reward, value, discount = np.float32(rng.uniform(0, 1, (3, T, B)))
    no = jnp.zeros((T, B), bool)
    expected = by_loop(reward, value, discount, 0.9)
    np.testing.assert_allclose(lambda_returns(reward, value, no, no, discount, 0.9), expected, rtol=1e-5)
    late = np.roll(discount, 1, 0)
    assert np.abs(lambda_returns(reward, value, no, no, late, 0.9) - expected).max() > 0.1


STEPS, GAMMA, FAR = 16, 0.9, 20.0
SPEC = td.Spec(Discrete(3), Discrete(2), 1000)
SETTINGS = Dreamer(discount=GAMMA, horizon=4, learning_rate=3e-3, bins=BINS)


def corridor(key):
    """Rows of episodes of two steps: state 0, then 1, then the terminal 2, with which comes a reward of 1."""
    at = (jnp.arange(STEPS)[:, None] + jnp.arange(8) % 2) % 2
    action = jax.random.randint(key, at.shape, 0, 2)
    return Transition(at, at == 0, action, {}, jnp.float32(at == 1), at == 1, (), at + 1, {})


def trained_world(updates=200):
    """An actor whose world model has learned the corridor, and whose critic says FAR of every state."""
    actor = SETTINGS.init(KEY, SPEC).actor
    start = actor.world.rssm.start(8)

    def loss(world, key):
        steps = corridor(key)
        path = world.path(steps, jax.nn.one_hot(steps.action, 2), start, key, SHARE)
        return sum(x.mean() for x in world.losses(path, steps, 1.0))

    def step(carry, key):
        world, optimiser = carry
        world, optimiser, _ = dreamer.descend(SETTINGS.descent, jax.grad(loss)(world, key), optimiser, world)
        return (world, optimiser), None

    begun = actor.world, dreamer.begin(SETTINGS.descent, actor.world)
    world = jax.lax.scan(step, begun, jax.random.split(KEY, updates))[0][0]
    far = jnp.log(BINS.encode(jnp.float32(FAR)) + 1e-9)
    return actor._replace(world=world, critic=eqx.tree_at(lambda critic: critic.last.bias, actor.critic, far))


def dreamed(actor):
    """Imagined returns from states 0 and 1, and the weights of the steps after the first, [2] each."""

    def judged(actor):
        steps, start = corridor(KEY), actor.world.rssm.start(8)
        path = actor.world.path(steps, jax.nn.one_hot(steps.action, 2), start, KEY, SHARE)
        start = jax.tree.map(lambda x: jnp.repeat(x[-2:, 0], 50, 0), path.before)
        returns, weight = SETTINGS.returns(actor, SETTINGS.imagine(actor, start, KEY))
        return jnp.stack([returns[0], weight[1]]).reshape(2, 2, 50).mean(-1)

    return np.asarray(jax.jit(judged)(actor))


TRUE = np.array([GAMMA * (0.05 * FAR + 0.95), 1.0]), np.array([GAMMA, 0.0])  # λ = 0.95


@pytest.fixture(scope="module")
def trained():
    return jax.jit(trained_world)()


def test_what_comes_with_the_end_is_imagined(trained):
    """The reward of the terminal state is earned, once, and nothing after it counts."""
    returns, weight = dreamed(trained)
    np.testing.assert_allclose(returns, TRUE[0], rtol=0.05)
    np.testing.assert_allclose(weight, TRUE[1], atol=0.05)


@pytest.mark.parametrize("bug", ["the end ignored", "heads read at departures"])
def test_wrong_imagination_is_noticed(bug, trained, monkeypatch):
    if bug == "the end ignored":
        monkeypatch.setattr(WorldModel, "going", lambda self, state: jnp.ones(state.memory.shape[:-1]))
    else:
        imagine = Dreamer.imagine
        early = lambda *args: (seen := imagine(*args))._replace(after=seen.before)  # noqa: E731
        monkeypatch.setattr(Dreamer, "imagine", early)
    returns, _ = dreamed(trained)
    assert (np.abs(returns / TRUE[0] - 1) > 0.2).any()


@pytest.mark.parametrize("bug", ["heads trained at departures", pytest.param("ends not told", marks=pytest.mark.slow)])
def test_a_world_learned_wrongly_is_noticed(bug, monkeypatch):
    losses = WorldModel.losses

    def wrong(self, path, steps, free):
        if bug == "heads trained at departures":
            path = path._replace(after=path.before)
        else:
            steps = steps._replace(terminated=steps.terminated & False)
        return losses(self, path, steps, free)

    monkeypatch.setattr(WorldModel, "losses", wrong)
    returns, _ = dreamed(jax.jit(lambda: trained_world())())
    assert (np.abs(returns / TRUE[0] - 1) > 0.2).any()


def test_returns_of_stored_steps():
    """Against a loop: traces end where episodes do, which a batch tells by terminations and by first steps alone."""
    settings, actor = dataclasses.replace(SETTINGS, bins=Dreamer().bins), begun().actor
    rng, steps = np.random.default_rng(0), chosen()
    steps = steps._replace(terminated=jnp.asarray(rng.random((T, B)) < 0.3))
    after = Latent(*(jnp.float32(rng.normal(size=(T, B, n))) for n in (128, 64)))
    moved = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(KEY, x.shape), actor.critic)
    value = np.asarray(settings.bins.decode(moved(after.features)))
    found = settings.replayed(actor._replace(critic=moved), after, steps)
    first, terminated = np.asarray(steps.first), np.asarray(steps.terminated)
    trace = np.where(np.concatenate([first[1:], first[:1] | True]) | terminated, 0.0, 0.95)
    expected, later = np.zeros((T, B)), value[-1]
    for t in reversed(range(T)):
        mixed = (1 - trace[t]) * value[t] + trace[t] * later
        expected[t] = later = np.asarray(steps.reward)[t] + GAMMA * ~terminated[t] * mixed
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - by_loop(np.asarray(steps.reward), value, GAMMA * ~terminated, 0.95)).max() > 0.1


# --- settings ---------------------------------------------------------------------------------------------------------


def test_what_it_cannot_serve_says_why():
    assert Dreamer().supports(box(Discrete(3))) is None
    assert Dreamer().supports(box(Box(-2, 2, (3,)))) is None
    assert "legal" in Dreamer().supports(dataclasses.replace(box(Discrete(3)), masked=True))
    assert "neither" in Dreamer().supports(box(MultiBinary(3)))
    assert "bounds" in Dreamer().supports(box(Box(-np.inf, np.inf, (3,))))
    with pytest.raises(td.ConfigError, match="burn_in 0"):
        check(Dreamer(replay=td.Sequences(burn_in=2)))
    with pytest.raises(td.ConfigError, match="how many of a batch's 512 steps"):
        check(Dreamer(starts=1_000))
    with pytest.raises(td.ConfigError, match="cannot be swept"):
        check(Dreamer(bins=td.Bins(low=np.array([-5.0, -10.0]), high=10.0)))


def test_actions_of_the_model():
    """Choices are one-hot; numbers are those of the policy, which the environment scales and clips."""
    for kind in ACTIONS:
        actor = begun(kind).actor
        no, obs = jnp.zeros(4, bool), jnp.zeros((4, 2))
        now = Timestep(obs, jnp.zeros(4), no, no, obs, ~no, {})
        action, (_, said), _ = jax.jit(Dreamer().act, static_argnums=4)(
            actor, Dreamer().carry(actor, 4), now, KEY, True
        )
        if kind == "discrete":
            np.testing.assert_array_equal(said, np.eye(3)[np.asarray(action)])
        else:
            np.testing.assert_allclose(action, 4 * said + 2, rtol=1e-5)
