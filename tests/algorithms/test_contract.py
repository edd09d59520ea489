"""One contract for every algorithm, over the catalogue of all of them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, CASES, OFFLINE, PLAN, arrays, begin, changed, driver_for, shared, start_of, started
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.algorithms import algorithm_class, entries
from thorndike.configuration import from_json, to_json
from thorndike.drivers.scan import ScanDriver
from thorndike.exports import known_configs
from thorndike.ops.distributions import Categorical, Normal, TanhNormal
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.storage.arrays import from_arrays, to_arrays
from thorndike.runs.storage.environments import describe
from thorndike.schedules import settled
from thorndike.types import Step, Transition

SMALL = td.Torso(widths=(16, 16), activation="tanh")  # ReLU can die of pictures that are all black or all white
REPLAY = td.Uniform(capacity=200, batch_size=16, warmup=32)


@pytest.fixture(scope="module", autouse=True)
def _shared():
    yield
    shared.cache_clear()
    start_of.cache_clear()


@pytest.mark.parametrize("name", entries())
def test_registration(name):
    """The catalogue, read from the source, and the class agree; every case is of its own class."""
    entry, cls = entries()[name], algorithm_class(name)
    assert cls.__name__ == entry.class_name
    assert getattr(td, entry.class_name) is cls
    for word in (name, entry.class_name, *entry.aliases):
        assert algorithm_class(word) is cls
    assert cls.small()
    assert all(type(algorithm) is cls for algorithm, _ in cls.small().values())
    assert cls.__doc__


@pytest.mark.parametrize("name", ALL)
def test_settings_survive_json(name):
    algorithm, _ = ALL[name]
    assert from_json(to_json(algorithm), known_configs()) == algorithm


LOSSES = {"td_error", "explained_variance", "loss", "policy_gradient_loss", "model_loss", "best_score"}


@pytest.mark.parametrize("name", CASES)
def test_structure_and_metrics(name):
    """`learn` gives back what it took, leaf for leaf, and every metric is a finite number."""
    driver = shared(name)
    state = driver.advance(started(name, driver), 12)
    like = driver.like()
    assert jax.tree.structure(like) == jax.tree.structure(state)
    for expected, found in zip(jax.tree.leaves(like), jax.tree.leaves(state)):
        assert (expected.shape, expected.dtype) == (found.shape, found.dtype)
    assert np.isfinite(state.tally.sums).all()
    assert int(state.tally.count[0]) == 12
    names = {metric.removeprefix("train/") for metric in state.tally.names if metric.startswith("train/")}
    assert "rollout/reward_mean" in state.tally.names
    assert names & LOSSES
    if hasattr(state.agent, "optimiser") or hasattr(state.agent, "optimisers"):
        assert {"gradient_norm", "update_norm"} <= names


PLANNERS = ("value-iteration", "policy-iteration", "mpc")  # experience teaches them nothing


@pytest.mark.parametrize("name", CASES)
def test_chunks_seeds_and_checkpoints(name):
    """Results do not depend on how a run is cut into chunks, nor on being saved and read back in between, bit for bit;
    they do depend on the seed, those of planners only in what happened."""
    driver = shared(name)
    one = driver.advance(started(name, driver), 8)
    cut = driver.advance(driver.advance(started(name, driver), 1), 3)
    cut = from_arrays({k: np.array(x) for k, x in to_arrays(cut).items()}, driver.like(), "the state")
    cut = driver.advance(driver.place(cut), 4)
    for a, b in zip(arrays(one), arrays(cut)):
        np.testing.assert_array_equal(a, b)
    other = driver.advance(begin(driver, (1,)), 8)
    part = (lambda state: state.now) if name.split()[0] in PLANNERS else (lambda state: state.agent)
    assert any((a != b).any() for a, b in zip(arrays(part(one)), arrays(part(other))))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_program_repeats_and_runs_are_independent(name):
    """A program that is compiled anew gives the same, bit for bit; two runs side by side are the runs alone."""
    one = driver_for(name).advance(begin(shared(name)), 8)
    anew = driver_for(name)
    for a, b in zip(arrays(one), arrays(anew.advance(begin(anew), 8))):
        np.testing.assert_array_equal(a, b)
    both = driver_for(name, runs=2)
    both = both.advance(begin(both, (5, 0)), 8)
    for a, b in zip(arrays(one.agent), arrays(both.agent)):
        np.testing.assert_allclose(a[0], b[1], rtol=2e-3, atol=2e-4)
    part = both.now if name.split()[0] in PLANNERS else both.agent
    assert max(np.abs(a[0].astype(float) - a[1]).max() for a in arrays(part)) > 1e-3


def acting(name):
    """An algorithm, its actor and a timestep after a few iterations; leading axis [E], without the simulator."""
    driver = shared(name)
    state = jax.tree.map(lambda x: x[0], driver.advance(started(name, driver), 2))
    algorithm = CASES[name][0]
    return algorithm, algorithm.actor(state.agent), state.now._replace(sim=())


ALONE = [name for name in CASES if name.split()[0] != "mpc"]  # the others need the simulator to act


@pytest.mark.parametrize("name", ALONE)
def test_the_actor_is_enough_to_act(name):
    """Acting from the exported part alone, greedily: in the action space, for any batch size, and one of the likeliest
    actions of `look`; the same for every key where that is one action."""
    algorithm, actor, now = acting(name)
    space = td.make(CASES[name][1]).action_space
    for n in {1, min(3, len(now.reward))}:
        few = jax.tree.map(lambda x, n=n: x[:n], now)
        carry = algorithm.carry(actor, n)
        pi = algorithm.look(actor, carry, few, False)[0].pi if name.split()[0] not in SEARCHES else ()
        actions = [np.asarray(algorithm.act(actor, carry, few, jax.random.key(k), False)[0]) for k in range(6)]
        alone = np.ones(n, bool)
        if isinstance(pi, Categorical):
            likeliest = np.asarray(pi.logits == pi.logits.max(-1, keepdims=True))
            alone = likeliest.sum(-1) == 1
            assert all(likeliest[np.arange(n), action].all() for action in actions)
        for other in actions[1:]:
            np.testing.assert_array_equal(actions[0][alone], other[alone])
        for action in actions[0]:
            assert space.contains(action.astype(space.dtype) if space.shape else space.dtype.type(action))


DRAWS = 4000
AIMS = ("hiro",)  # while they explore, what is drawn first is a goal
GUESSES = ("dreamer",)  # `act` draws the state too, for each environment its own; `look` shows the likeliest
SEARCHES = ("alphazero", "alphago", "muzero")  # what they play is not drawn from what their network thinks


@pytest.mark.parametrize("name", [name for name in ALONE if name.split()[0] not in SEARCHES + AIMS + GUESSES])
def test_actions_are_drawn_from_what_look_says(name):
    """The distribution in `look` is the one that exploring actions come from."""
    algorithm, actor, now = acting(name)
    many = jax.tree.map(lambda x: jnp.repeat(x[:1], DRAWS, 0), now)
    carry = algorithm.carry(actor, DRAWS)
    look, _ = algorithm.look(actor, carry, many, True)
    action = algorithm.act(actor, carry, many, jax.random.key(0), True)[0]
    one = jax.tree.map(lambda x: x[0] if jnp.ndim(x) > (isinstance(look.pi, Normal)) else x, look.pi)
    if isinstance(look.pi, Categorical):
        p = np.exp(np.asarray(one.log_probs))
        frequency = np.bincount(np.asarray(action), minlength=len(p)) / DRAWS
        assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / DRAWS)
        assert p.sum() == pytest.approx(1, abs=1e-4)
    elif isinstance(look.pi, (Normal, TanhNormal)):
        units = algorithm_actions(actor).from_environment(action)
        units = jnp.arctanh(jnp.clip(units, -1 + 1e-6, 1 - 1e-6)) if isinstance(look.pi, TanhNormal) else units
        z = (units - look.pi.mean) * jnp.exp(-look.pi.log_std)
        assert np.abs(z.mean(0)).max() < 5 / np.sqrt(DRAWS)
        assert np.abs(z.std(0) - 1).max() < 5 / np.sqrt(2 * DRAWS)


def algorithm_actions(actor):
    policy = actor.policy
    return policy.actions if hasattr(policy, "actions") else policy.head.actions


# Values that make a difference, where the general rule below does not: limits that nothing reaches otherwise.
STRONG = {
    "sigma": 0.4,
    "smoothing": 0.5,
    "max_grad_norm": 1e-3,
    "huber": 1e-3,
    "clip": 1e-4,
    "start": 0.5,
    "end": 0.6,
    "fraction": 0.1,
    "bonus": 1e3,
    "free_nats": 100.0,
}
# Fields without any effect in these cases, and why.
WITHOUT: dict[tuple[str, str], str] = {
    ("ddpg", "smoothing_clip"): "its targets are not smoothed",
    ("dqn", "curiosity.discount"): "what is new earns with the rewards, and is discounted as they are",
    ("ppo-kl", "clip"): "the penalty takes its place",
    ("trpo", "shrink"): "whole steps are good enough in these cases: see test_trpo_parts.py",
    ("rainbow", "exploration.fraction"): "its ε stays at 0",
    **{(name, "huber"): "its loss is not Huber's" for name in ("c51", "qr-dqn", "iqn", "rainbow")},
}


def fields_of(algorithm):
    """The paths of an algorithm's numbers, and a function that replaces one of them."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(algorithm)
    for i, (path, value) in enumerate(leaves):
        name = jax.tree_util.keystr(path)[1:]
        new = STRONG.get(name.rpartition(".")[2], 0.5 * value + (0.1 if value != 0.2 else 0.05))
        replaced = [new if j == i else other for j, (_, other) in enumerate(leaves)]
        yield name, jax.tree.unflatten(structure, replaced)


def equal(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(arrays(a), arrays(b)))


@pytest.mark.parametrize("algorithm", sorted({name.split()[0] for name in CASES}))
def test_every_number_makes_a_difference(algorithm):
    """Each float field changes what acting and learning lead to, or the agent at the start, in one of the cases."""
    idle = {}
    for name in (name for name in CASES if name.split()[0] == algorithm):
        given, spec = CASES[name][0], shared(name).spec
        plain = shared(name).advance(started(name, shared(name)), 12)
        for field, other in fields_of(given):
            driver = changed(name, other)
            found = driver.advance(started(name, driver), 12)
            same = equal((plain.agent, plain.now), (found.agent, found.now))
            if same:
                settings = (settled(a, 0, PLAN, 0) for a in (given, other))
                same = equal(*(jax.jit(lambda key, a=a, spec=spec: a.init(key, spec))(random_key(0)) for a in settings))
            idle[field] = same and idle.get(field, True)
    excused = {field for name, field in WITHOUT if name == algorithm}
    assert {field for field, same in idle.items() if same} == excused


@pytest.mark.parametrize("name", OFFLINE)
def test_every_number_of_an_offline_algorithm_makes_a_difference(name):
    """Each float field changes what updates on a batch lead to."""
    algorithm, env = ALL[name]
    spec = describe(td.make(env), 100, "test")
    rng, shape = np.random.default_rng(0), spec.observation.shape
    obs, after = (jnp.asarray(rng.normal(size=(8, *shape)), jnp.float32) for _ in range(2))
    action = jnp.asarray([spec.action.sample() for _ in range(8)])
    reward, terminated = jnp.asarray(rng.normal(size=8), jnp.float32), jnp.asarray(rng.random(8) < 0.2)
    batch = Transition(obs, (), action, {}, reward, terminated, (), after, {})

    @jax.jit
    def learned(algorithm, key):
        state = algorithm.init(key, spec)
        for _ in range(3):
            state, metrics = algorithm.update(state, batch, key)
        return state, metrics

    plain, metrics = learned(algorithm, random_key(0))
    assert set(metrics) & LOSSES
    assert all(np.isfinite(x).all() for x in arrays(metrics))
    for field, other in fields_of(algorithm):
        assert not equal(plain, learned(other, random_key(0))[0]), f"{field} changes nothing"


PLANTED = 100.0  # the step of every environment, over all episodes, in which a NaN comes


def first_bad(state):
    """The iteration at which the first metric was not finite."""
    bad = np.asarray(state.tally.bad)
    assert (bad >= 0).any()
    return bad[bad >= 0].min()


@pytest.mark.parametrize("where", ["reward", "obs"])
@pytest.mark.parametrize("name", CASES)
def test_nan_of_the_environment(name, where):
    """The rollout in which it comes is the last. (A search of 4 looks 4 steps ahead, not into the rollout before.)"""
    if where == "obs" and not hasattr(shared(name).spec.observation, "low"):
        pytest.skip("its observations are whole numbers")
    if hasattr(CASES[name][0], "gather"):
        pytest.skip("it begins its episodes itself, and this counter with them")
    driver = changed(name, **{where: PLANTED})
    state = driver.advance(started(name, driver), 200)
    assert first_bad(state) == (PLANTED - 1) // CASES[name][0].rollout_length
    assert int(state.iterations[0]) == first_bad(state) + 1


@pytest.mark.parametrize("name", [name for name in ALONE if name != "go-explore"])  # to it, not finite is not known
def test_nan_in_any_parameter(name):
    """Each array of the agent in turn, those of its optimiser and its statistics too."""
    driver = shared(name)
    state = driver.advance(started(name, driver), 2)  # SARSA has a step that waits then
    leaves, structure = jax.tree.flatten(jax.device_get(state._replace(key=jax.random.key_data(state.key))))
    kind = jax.random.key_impl(random_key(0))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]
    floats = [i for i, p in enumerate(paths) if p.startswith(".agent") and leaves[i].dtype.kind == "f"]
    assert floats
    start = int(leaves[paths.index(".iterations")][0])
    for i in floats:
        spoilt = jax.tree.unflatten(structure, [np.full_like(x, np.nan) if j == i else x for j, x in enumerate(leaves)])
        spoilt = spoilt._replace(key=jax.random.wrap_key_data(jnp.asarray(spoilt.key), impl=kind))
        after = driver.advance(driver.place(spoilt), 3)
        assert (np.asarray(after.tally.bad) >= 0).any(), paths[i]
        assert first_bad(after) == start, paths[i]


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
    algorithm = dataclasses.replace(algorithm, replay=replay, replay_ratio=gradient_steps / algorithm.num_envs)
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


def run(algorithm, env, iterations):
    env = td.make(env)
    driver = ScanDriver(expand(algorithm, 1), env, describe(env, 10_000, "test"), 1)
    return driver.advance(begin(driver), iterations)


def score(state):
    """The mean return of the last 100 episodes."""
    slots, there = state.episodes.slots(100)
    return float(np.take_along_axis(np.asarray(state.episodes.returns), slots, 1)[there].mean())


@pytest.mark.parametrize("action", ["discrete", "multidiscrete", "multibinary", "box"])
def test_ppo_learns_in_every_action_space(action):
    """The first component of the action has to follow the observation; 10 steps an episode, 0 is perfect."""
    algorithm = td.PPO(
        torso=SMALL, learning_rate=1e-2, num_envs=16, rollout_length=10, minibatch_size=160, discount=0.5
    )
    state = run(algorithm, AnySpaces(action=action), iterations=150)
    assert score(state) > (-1.5 if action == "box" else -0.5), score(state)


@pytest.mark.parametrize("observation", [pytest.param("image", marks=pytest.mark.slow), "dict"])
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
    state = run(algorithm, AnySpaces(observation=observation), iterations=60 if kind == "ppo" else 500)
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
