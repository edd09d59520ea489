"""One contract for every algorithm, over the explicit list of all of them."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.algorithms import ALGORITHMS, algorithm_class
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.scan import ScanDriver
from thorndike.ops.keys import random_key
from thorndike.runs.results.run import expand
from thorndike.runs.storage.environments import describe
from thorndike.types import Step

SMALL = td.Torso(widths=(16, 16), activation="tanh")  # ReLU can die of pictures that are all black or all white
REPLAY = td.Uniform(capacity=200, batch_size=16, warmup=32)
CASES = {
    "q-learning": (td.QLearning(num_envs=2, rollout_length=3), "CliffWalking-v1"),
    "sarsa": (td.SARSA(num_envs=2, rollout_length=3), "CliffWalking-v1"),
    "expected-sarsa": (td.ExpectedSARSA(num_envs=2, rollout_length=3), "CliffWalking-v1"),
    "dqn": (td.DQN(torso=SMALL, replay=REPLAY, num_envs=4, gradient_steps=2), "CartPole-v1"),
    "dqn with memory": (
        td.DQN(
            torso=SMALL,
            core=td.GRU(width=8),
            num_envs=4,
            rollout_length=6,
            gradient_steps=2,
            normalize_observation=True,
            replay=td.Sequences(capacity=240, batch_size=8, burn_in=2, warmup=48),
        ),
        "CartPoleNoVel-v1",
    ),
    "ppo": (
        td.PPO(torso=SMALL, num_envs=4, rollout_length=16, minibatch_size=32, normalize_observation=True),
        "CartPole-v1",
    ),
    "ppo with memory": (
        td.PPO(torso=SMALL, core=td.LSTM(width=8), num_envs=4, rollout_length=16, minibatch_size=32),
        "CartPoleNoVel-v1",
    ),
    "alphazero": (
        td.AlphaZero(
            torso=SMALL,
            simulations=4,
            considered=4,
            num_envs=4,
            rollout_length=6,
            gradient_steps=2,
            replay=td.Uniform(capacity=240, batch_size=16, warmup=24),
        ),
        "pgx/tic_tac_toe",
    ),
    "sac": (
        td.SAC(torso=SMALL, replay=REPLAY, num_envs=4, normalize_observation=True),
        "Pendulum-v1",
    ),
}


def test_the_list_is_complete():
    playing = {name for name in ALGORITHMS if not getattr(algorithm_class(name), "offline", False)}
    assert {name.split()[0] for name in CASES} == playing
    assert all(isinstance(algorithm, algorithm_class(name.split()[0])) for name, (algorithm, _) in CASES.items())


def arrays(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


@cache
def driver_of(algorithm, env, runs):
    """Traced and compiled once for all that ask for it."""
    env = td.make(env) if isinstance(env, str) else env
    return ScanDriver(expand(algorithm, runs), env, describe(env, 10_000, "test"), runs)


@pytest.fixture(scope="module", autouse=True)
def _drivers():
    yield
    driver_of.cache_clear()


def run(algorithm, env, seeds=(0,), iterations=12, split=None):
    driver = driver_of(algorithm, env, len(seeds))
    state = driver.init(jax.vmap(random_key)(jnp.asarray(seeds)))
    warm = warm_iterations(algorithm)
    if warm:
        state = driver.advance(state, warm, True)
    for n in split or (iterations,):
        state = driver.advance(state, n)
    return driver, state


LONG = ("alphazero", "ppo with memory", "dqn with memory")
MOST = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CASES]


@pytest.mark.parametrize("name", MOST)
def test_structure_and_dtypes_are_stable(name):
    """`learn` gives back what it took, leaf for leaf, and every metric is a finite number."""
    driver, state = run(*CASES[name])
    like = driver.like()
    assert jax.tree.structure(like) == jax.tree.structure(state)
    for expected, found in zip(jax.tree.leaves(like), jax.tree.leaves(state)):
        assert (expected.shape, expected.dtype) == (found.shape, found.dtype)
    assert np.isfinite(state.tally.sums).all()
    assert int(state.tally.count[0]) == 12
    health = set(state.tally.names)
    assert {"rollout/reward_mean", "train/update_norm"} <= health
    if name.split()[0] in ("dqn", "sac", "ppo", "alphazero"):
        assert "train/gradient_norm" in health
    assert health & {"train/td_error", "train/explained_variance"}
    assert health & {"train/q_value", "train/value"}


@pytest.mark.parametrize("name", MOST)
def test_seeds(name):
    """A seed reproduces bit for bit, also in other chunks; another differs; an axis of seeds is the same runs."""
    algorithm, env = CASES[name]
    _, one = run(algorithm, env)
    driver_of.cache_clear()  # traced anew, it is the same program
    _, again = run(algorithm, env, split=(1, 4, 7))
    for a, b in zip(arrays(one), arrays(again)):
        np.testing.assert_array_equal(a, b)
    _, both = run(algorithm, env, seeds=(5, 0))
    for a, b in zip(arrays(one.agent), arrays(both.agent)):
        np.testing.assert_allclose(a[0], b[1], rtol=2e-3, atol=2e-4)
    other = [np.abs(a[0].astype(float) - a[1]).max() for a in arrays(both.agent)]
    assert max(other) > 1e-3


OTHERS = [(1, "dqn", 1), (2, "dqn", 2), (2, "sac", 1)]


@pytest.mark.parametrize(
    ("seeds", "name", "gradient_steps"),
    [(1, "dqn", 2), (2, "dqn", 1), (1, "sac", 1), *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)],
)
def test_the_storage_is_not_copied(seeds, name, gradient_steps):
    """The compiled step's scratch memory stays far below the replay storage, alone and under `vmap`.

    CartPole's reward is constant, which has tempted XLA to write it twice.
    """
    algorithm, env = CASES[name]
    replay = td.Uniform(capacity=400_000, batch_size=16, warmup=32)
    algorithm = dataclasses.replace(algorithm, replay=replay, gradient_steps=gradient_steps)
    env = td.make(env)
    driver = ScanDriver(algorithm, env, describe(env, 10_000, "test"), seeds)
    storage = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(driver.like().memory)) / driver.devices
    for warm in (True, False):
        scratch = driver.compile(warm).memory_analysis().temp_size_in_bytes
        assert scratch < storage / 20, f"{scratch / 1e6:.1f} MB of scratch beside {storage / 1e6:.1f} MB of storage"


def test_a_copied_storage_is_noticed(monkeypatch):
    """The check above fails for an update that returns a changed storage."""
    from thorndike.drivers import scan

    improve = scan.improve

    def copies(algorithm, agent, memory, rollout, key):
        shifted = jax.tree.map(lambda x: jnp.roll(x, 1, 0), memory.data)
        return improve(algorithm, agent, memory._replace(data=shifted), rollout, key)

    monkeypatch.setattr(scan, "improve", copies)
    with pytest.raises(AssertionError, match="scratch"):
        test_the_storage_is_not_copied(1, "dqn", 2)


@pytest.mark.parametrize("name", MOST)
def test_the_actor_is_enough_to_act(name):
    """Acting from the exported part alone, greedily: deterministic, in the action space, for any batch size."""
    algorithm, env = CASES[name]
    _, state = run(algorithm, env, iterations=2)
    agent = jax.tree.map(lambda x: x[0], state.agent)
    actor = algorithm.actor(agent)
    now = jax.tree.map(lambda x: x[0], state.now)
    space = td.make(env).action_space
    for n in (1, 3):
        few = jax.tree.map(lambda x, n=n: x[:n], now._replace(sim=()))
        actions = [algorithm.act(actor, algorithm.carry(n), few, jax.random.key(k), False)[0] for k in (0, 1)]
        np.testing.assert_array_equal(*actions)
        for action in np.asarray(actions[0]):
            assert space.contains(action.astype(space.dtype) if space.shape else space.dtype.type(action))


@td.config
class AnySpaces:
    """An environment of chosen spaces: reward 1 where the action equals a code that the observation shows."""

    action: str = "discrete"
    observation: str = "vector"
    masked: bool = False
    max_steps: int = 10

    @property
    def action_space(self):
        return {
            "discrete": Discrete(3, start=5),
            "multidiscrete": MultiDiscrete([2, 3]),
            "multibinary": MultiBinary(3),
            "box": Box(np.array([0.0, -4.0], np.float32), np.array([10.0, 4.0], np.float32)),
        }[self.action]

    @property
    def observation_space(self):
        return {
            "vector": Box(-1, 1, (2,)),
            "image": Box(0, 255, (12, 12, 2), np.uint8),
            "dict": Dict({"b": Discrete(2), "a": Box(-1, 1, (2, 2)), "c": MultiBinary(2), "d": MultiDiscrete([2, 3])}),
        }[self.observation]

    def _obs(self, bit):
        if self.observation == "vector":
            return jnp.stack([2.0 * bit - 1, 0.5])
        if self.observation == "image":
            return jnp.broadcast_to((255 * bit).astype(jnp.uint8), (12, 12, 2))
        code = jnp.int32(bit)
        return {
            "b": code,
            "a": jnp.full((2, 2), bit),
            "c": jnp.stack([code, code]).astype(jnp.int8),
            "d": jnp.stack([code, code]),
        }

    def _info(self):
        return {"mask": jnp.array([True, False, True])} if self.masked else {}

    def reset(self, key):
        bit = jax.random.bernoulli(key).astype(jnp.float32)
        return Step(bit, self._obs(bit), info=self._info())

    def step(self, bit, action, key):
        first = jnp.ravel(action)[0].astype(jnp.float32)
        low = {"discrete": 5.0, "box": 0.0}.get(self.action, 0.0)
        want = {"discrete": low + 2 * bit, "box": 10.0 * bit}.get(self.action, bit)
        reward = -jnp.abs(first - want) / (10.0 if self.action == "box" else 1.0)
        later = jax.random.bernoulli(key).astype(jnp.float32)
        return Step(later, self._obs(later), reward, False, self._info())


def score(state):
    return float(np.asarray(state.episodes.returns).mean())


@pytest.mark.parametrize("action", ["discrete", "multidiscrete", "multibinary", "box"])
def test_ppo_learns_in_every_action_space(action):
    """The first component of the action has to follow the observation; 10 steps an episode, 0 is perfect."""
    algorithm = td.PPO(
        torso=SMALL, learning_rate=1e-2, num_envs=16, rollout_length=10, minibatch_size=160, discount=0.5
    )
    _, state = run(algorithm, AnySpaces(action=action), iterations=150)
    assert score(state) > (-1.5 if action == "box" else -0.5), score(state)


@pytest.mark.parametrize("observation", ["image", "dict"])
@pytest.mark.parametrize("kind", ["ppo", pytest.param("dqn", marks=pytest.mark.slow)])
def test_images_and_nested_observations(kind, observation):
    if kind == "ppo":
        algorithm = td.PPO(
            torso=SMALL, learning_rate=2e-3, num_envs=16, rollout_length=10, minibatch_size=160, discount=0.5
        )
    else:
        replay = td.Uniform(capacity=1000, batch_size=32, warmup=160)
        algorithm = td.DQN(
            torso=SMALL,
            learning_rate=1e-3,
            replay=replay,
            num_envs=16,
            discount=0.5,
            target_period=20,
            exploration=td.Epsilon(start=0.2, end=0.0),
        )
    _, state = run(algorithm, AnySpaces(observation=observation), iterations=60 if kind == "ppo" else 500)
    assert score(state) > -2.5, score(state)  # at random: -10


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_masks_are_obeyed(kind):
    """An illegal action is never taken, in warm-up, training or evaluation, however good it looks."""
    seen = []

    @td.config
    class Watching(AnySpaces):
        def step(self, bit, action, key):
            jax.debug.callback(lambda a: seen.append(np.asarray(a)), action)
            answer = super().step(bit, action, key)
            return answer._replace(reward=jnp.where(action == 6, 100.0, answer.reward))

    env = Watching(masked=True)
    if kind == "ppo":
        algorithm = td.PPO(torso=SMALL, num_envs=4, rollout_length=10, minibatch_size=40)
    else:
        algorithm = td.DQN(torso=SMALL, replay=REPLAY, num_envs=4)
    run(algorithm, env, iterations=20)
    jax.effects_barrier()
    actions = np.concatenate([np.ravel(a) for a in seen])
    assert len(actions) > 80
    assert set(actions) == {5, 7}
