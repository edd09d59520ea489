"""What one does with a run: evaluate, plot, watch, act."""

from __future__ import annotations

import json
import shutil
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from matplotlib.text import Annotation
from PIL import Image

import thorndike as td
from thorndike.drivers.evaluate import APART, evaluate
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.host.worker import env_seeds
from thorndike.errors import (
    ConfigError,
    IncompatibleError,
)
from thorndike.runs.results.actors import expand
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.record import record
from thorndike.runs.results.video import film
from thorndike.runs.storage import checkpoint

# --- evaluation -------------------------------------------------------------------------------------------------------


class Uneven(small.FiveSteps):
    """On the host: episodes of 1 step or of 9, by the seed; each pays what is done."""

    seeds: list = []

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.seeds.append(seed)
            self.length = 9 if seed % 2 else 1
        return super().reset(seed=seed, options=options)

    def step(self, action):
        obs, *_ = super().step(action)
        return obs, float(action), self.t == self.length, False, {}


@td.config
class EverySecond(td.CartPole):
    """CartPole's sights, five steps long, which pay what is done."""

    max_steps: int = 5

    def step(self, state, action, key):
        return super().step(state, action, key)._replace(reward=jnp.float32(action), terminated=False)


@td.config
class Counts:
    """Does 1 in every second step of an episode, as its memory tells it; when it explores it does nothing."""

    def carry(self, actor, n):
        return jnp.zeros(n, jnp.int32)

    def act(self, actor, carry, now, key, explore):
        carry = jnp.where(now.first, 0, carry) + 1
        return jnp.where(explore, 0, carry % 2), carry, {}


NOTHING = {"x": jnp.zeros(1)}


def test_short_episodes_count_no_more_than_long_ones():
    """Of every environment on the host the same number is counted; greedy, with memory; other seeds than training's."""
    Uneven.seeds.clear()
    result = evaluate(Counts(), NOTHING, GymnasiumEnvironment(Uneven), 16)
    assert sorted(result.lengths[0]) == [1] * 8 + [9] * 8
    np.testing.assert_array_equal(result.returns, (result.lengths + 1) // 2)
    assert set(Uneven.seeds) - {0} == set(env_seeds(APART, 8))  # 0 is that of a first look


def test_evaluation_remembers_and_does_not_explore():
    np.testing.assert_array_equal(evaluate(Counts(), NOTHING, EverySecond(), 4).returns, [[3.0] * 4])


def test_recordings_and_films_remember_too(tmp_path):
    env = EverySecond()
    agent = Agent(Counts(), td.Spec(env.observation_space, env.action_space), NOTHING)
    for episode in record(agent, env, 3):
        assert episode.actions.tolist() == [1, 0, 1, 0, 1]
    assert film(agent, env, tmp_path / "film.gif").returns == [3.0]


def test_an_agent_forgets_where_an_episode_begins():
    env, obs = EverySecond(), np.zeros((3, 4), np.float32)
    agent = Agent(Counts(), td.Spec(env.observation_space, env.action_space), NOTHING)
    firsts = [True, [False, True, False], False, True, False]
    taken = [agent.act(obs, first=first).tolist() for first in firsts]
    assert taken == [[1, 1, 1], [0, 1, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]]
    with pytest.raises(td.IncompatibleError, match=r"first to be one bool, or 3 of them, got shape \(2,\)"):
        agent.act(obs, first=[True, False])


# --- what one does with a run -----------------------------------------------------------------------------------------


def test_evaluation_says_how_good_the_agent_is(ppo):
    result = ppo.evaluate(7)
    assert result.returns.shape == result.lengths.shape == (1, 7)
    assert np.array_equal(result.returns, result.lengths)  # CartPole pays 1 a step
    assert (result.mean, result.per_run) == (result.returns.mean(), [result.returns.mean()])
    data = result.to_json()
    assert list(data) == ["episodes", "mean", "std", "median", "iqm", "ci95", "per_run", "members"]
    assert data["episodes"] == 7
    assert data["std"] == pytest.approx(result.returns.std())
    assert data["median"] == np.median(result.returns)
    assert data["ci95"][0] <= data["iqm"] <= data["ci95"][1]
    assert json.loads(json.dumps(data)) == data
    assert "over 1 x 7 episodes" in str(result)
    assert np.array_equal(ppo.evaluate(7).returns, result.returns)
    assert not np.array_equal(ppo.evaluate(7, seed=1).returns, result.returns)
    for wrong in (0, 2.5, "3"):
        for played in (ppo.evaluate, ppo.record, lambda n: ppo.watch(episodes=n)):
            with pytest.raises(ConfigError, match="episodes must be at least 1"):
                played(wrong)


def test_a_run_draws_its_curve_and_films_its_agent(ppo, tmp_path):
    ppo.plot(tmp_path / "new" / "curve.png")
    assert Image.open(tmp_path / "new" / "curve.png").size > (300, 200)
    td.plot([ppo, ppo], tmp_path / "curve.svg")
    assert "<svg" in (tmp_path / "curve.svg").read_text()
    with pytest.raises(ConfigError, match=r"cannot write .*curve\.xyz"):
        ppo.plot(tmp_path / "curve.xyz")
    film = ppo.watch()
    assert film.path == ppo.path / "video" / "320.gif"
    with Image.open(film.path) as picture:
        frames = []
        for i in range(picture.n_frames):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB")))
    assert len(frames) > 1
    assert any((frame != frames[0]).any() for frame in frames)
    assert len(film.returns) == 1
    assert film._repr_html_().startswith("<img")
    with pytest.raises(ConfigError, match=r"films are \.gif or \.mp4"):
        ppo.watch(tmp_path / "film.avi")
    with pytest.raises(ConfigError, match="tabular"):
        ppo.picture()


def test_a_tabular_run_paints_its_table(tmp_path):
    grid = td.GridWorld(map=("S..", ".#.", "..G"), max_steps=30)
    run = td.train(td.QLearning(), grid, steps=2000, out=tmp_path / "run", progress=False)
    assert run.evaluate(3).mean == 7.0  # three steps of -1, then the goal's 10
    run = td.open_run(run.path)
    assert run.env == grid
    run.picture(tmp_path / "table.png")
    assert Image.open(tmp_path / "table.png").size > (100, 100)
    assert run.agent().act(0) in (1, 2)
    with Image.open(run.watch(tmp_path / "walk.gif").path) as film:
        assert film.n_frames > 1


def test_frozen_lake_is_painted_and_taxi_is_no_grid(tmp_path):
    """FrozenLake's actions, left, down, right and up, are arrows in these directions: in the cell before the goal."""
    options = {"is_slippery": False}
    run = td.train("q-learning", "FrozenLake-v1", 40_000, env_kwargs=options, out=tmp_path / "lake", progress=False)
    assert run.evaluate(3).mean == 1.0
    texts = [text.get_text() for text in run.picture(tmp_path / "lake.png").axes[0].texts]
    assert texts.count("hole") == 4
    assert texts.count("goal") == 1
    for action, way in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
        q = np.zeros((16, 4))
        q[14, action] = 1
        arrows = [text for text in run.env.picture(q).axes[0].texts if isinstance(text, Annotation)]
        (arrow,) = [x for x in arrows if np.hypot(*np.subtract(x.xy, (2, 2.9))) < 0.5]
        np.testing.assert_allclose(np.subtract(arrow.xy, (2, 2.9)), 0.3 * np.array(way), atol=1e-9)
    with Image.open(run.watch(tmp_path / "walk.gif").path) as film:
        assert film.n_frames > 1
    taxi = td.train(td.QLearning(), "Taxi-v4", 200, out=tmp_path / "taxi", progress=False)
    with pytest.raises(ConfigError, match="Taxi's states are no cells of a grid"):
        taxi.picture()


def test_a_damaged_checkpoint_is_passed_over_with_a_word(ppo, tmp_path):
    shutil.copytree(ppo.path, tmp_path / "run")
    run = td.resume(tmp_path / "run", small.STEPS + 64, progress=False)
    newest, before = (run.path / "checkpoints" / f"{step:012d}" for step in (small.STEPS + 64, small.STEPS))
    (newest / checkpoint.ARRAYS).write_bytes((newest / checkpoint.ARRAYS).read_bytes()[:-1])
    assert before.is_dir()
    with pytest.warns(UserWarning, match=rf"skipped a checkpoint: .*{newest.name}"):
        found = td.open_run(run.path).evaluate(5)
    assert np.array_equal(found.returns, ppo.evaluate(5).returns)


def test_an_agent_acts_on_one_observation_or_many(ppo):
    agent, obs = ppo.agent(), np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    actions = agent.act(obs)
    assert actions.shape == (32,)
    assert set(actions) == {0, 1}
    assert [int(agent.act(x)) for x in obs] == list(actions)
    assert np.shape(agent.act(obs[0])) == ()
    assert agent.act(obs[0].tolist()) == actions[0]
    assert list(agent.act(obs.tolist())) == list(actions)
    assert list(agent.act(obs.astype(np.float64))) == list(actions)
    assert agent.act(np.asarray(obs[:1])).shape == (1,)
    agent.reset(3)
    sampled = [agent.act(obs, explore=True) for _ in range(2)]
    assert not np.array_equal(*sampled)
    agent.reset(3)
    assert np.array_equal(agent.act(obs, explore=True), sampled[0])
    for wrong in (obs[0, :3], obs[:, :3], obs[None], 1.0, {"a": obs}, "text", [[1.0, 2.0], [3.0]], None):
        with pytest.raises(IncompatibleError, match="expected an observation of Box"):
            agent.act(wrong)


def test_masks_that_do_not_fit_are_refused():
    spec = td.Spec(Box(-1, 1, (2,)), MultiDiscrete([2, 3]), masked=True)
    agent = Agent(small.PPO, spec, small.PPO.actor(small.PPO.init(jax.random.key(0), spec)))
    obs, parts = np.zeros((3, 2), np.float32), (np.array([0, 1]), np.array([0, 0, 1], np.int8))
    assert list(agent.act(obs[0], mask=parts)) == list(agent.act(obs[0], mask=np.concatenate(parts))) == [1, 2]
    assert agent.act(obs, mask=np.tile(np.concatenate(parts), (3, 1))).tolist() == [[1, 2]] * 3
    with pytest.raises(IncompatibleError, match="the mask allows no action"):
        agent.act(obs[0], mask=np.zeros(5))
    with pytest.raises(IncompatibleError, match="the observation is not finite"):
        agent.act([np.nan, 0.0], mask=np.ones(5))
    with pytest.raises(IncompatibleError, match="the mask allows no action"):
        agent.act(obs[0], mask=np.array([0, 0, 1, 1, 1]))
    for seen, mask, text in (
        (obs[0], [1, 0, 0], r"has shape \(3,\); MultiDiscrete.* needs \(5,\), or a tuple"),
        (obs[0], (parts[1], parts[0]), "has parts of 3, 2 choices; .*arrays with 2, 3 entries"),
        (obs, np.concatenate(parts), r"has shape \(5,\), and there are 3 observations: give 3 masks"),
        (obs, np.ones((2, 5)), r"has shape \(2, 5\), and there are 3 observations"),
        (obs, np.ones((3, 4)), r"has shape \(4,\); MultiDiscrete.* needs \(5,\)"),
        (obs, parts, "the mask is a tuple, and there are 3 observations: give an array"),
    ):
        with pytest.raises(IncompatibleError, match=text):
            agent.act(seen, mask=mask)
    with pytest.raises(IncompatibleError, match="empty batch"):
        agent.act(obs[:0], mask=np.ones((0, 5)))


@pytest.mark.parametrize(
    "space",
    [Discrete(3, dtype=np.uint8), MultiDiscrete([2, 3], dtype=np.uint8), MultiBinary(2), Discrete(2, start=5)],
)
def test_actions_have_the_dtype_of_their_space(space):
    spec = td.Spec(Box(-1, 1, (2,)), space)
    agent = Agent(small.PPO, spec, small.PPO.actor(small.PPO.init(jax.random.key(0), spec)))
    action = agent.act(np.zeros(2, np.float32))
    assert np.asarray(action).dtype == space.dtype
    assert space.contains(action)


def test_whole_numbers_beyond_32_bits_are_refused():
    spec = td.Spec(Box(0, 2**40, (1,), np.int64), Discrete(2))
    agent = Agent(small.PPO, spec, small.PPO.actor(small.PPO.init(jax.random.key(0), spec)))
    agent.act(np.array([7]))
    with pytest.raises(IncompatibleError, match="whole numbers have 32 bits here"):
        agent.act(np.array([7 + 2**32]))


COUNTED = Dict(
    {"z": Discrete(5, start=-2), "m": MultiDiscrete([2, 3]), "b": MultiBinary(2), "i": Box(-3, 7, (2,), np.int8)}
)
SEEN = {"z": 2, "m": [1, 2], "b": [0, 1], "i": [7, -3]}


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("z", [3, -3, 5, 1.0, 0.5]), ("m", [[2, 0], [0, -1], [0.0, 1.0]]), ("b", [[0, 2], [-1, 0], [0.5, 3.0]]),
        ("i", [[8, 0], [0, -4]]),
    ],
)  # fmt: skip
def test_observations_outside_of_their_space_are_refused(part, wrong):
    """Single, and as one of a batch; what is inside is answered."""
    spec = td.Spec(COUNTED, Discrete(2))
    agent = Agent(small.PPO, spec, small.PPO.actor(small.PPO.init(jax.random.key(0), spec)))
    assert agent.act(SEEN) in (0, 1)
    for value in wrong:
        text = (
            r"expected whole numbers, of \w+Discrete|expected whole numbers, of Discrete|the observation is outside of"
        )
        with pytest.raises(IncompatibleError, match=text):
            agent.act(SEEN | {part: value})
        many = {name: np.stack([np.asarray(x)] * 3) for name, x in SEEN.items()}
        many[part] = np.stack([many[part][0], value, many[part][0]])
        with pytest.raises(IncompatibleError, match=text):
            agent.act(many)


def test_a_table_has_no_row_for_what_is_not_in_its_space(tmp_path):
    agent = td.train(td.QLearning(), "FourRooms", steps=64, out=tmp_path / "run", progress=False).agent()
    n = agent.spec.observation.n
    for wrong in (n, -1, 2.5, np.float32(1)):
        with pytest.raises(IncompatibleError, match=rf"the observation is outside of Discrete\({n}\)|whole numbers"):
            agent.act(wrong)
    assert agent.act([0, n - 1]).shape == (2,)


@pytest.mark.parametrize("env", ["CartPole-v1", "gymnasium/CartPole-v1"])
def test_whoever_else_is_evaluated(env, ppo):
    """An agent's episodes are its own: beside others, and whatever these did."""
    one = ppo.actors()
    nothing = jax.tree.map(np.zeros_like, one)
    bias = lambda actor: actor.policy.head.linear.bias  # noqa: E731
    left, right = (eqx.tree_at(bias, nothing, np.array([push], np.float32)) for push in ([1, 0], [0, 1]))
    three = jax.tree.map(lambda *xs: np.concatenate(xs), left, one, right)
    algorithm = expand(ppo.algorithm, 1)
    alone, beside = (evaluate(algorithm, actors, td.make(env), 9) for actors in (one, three))
    np.testing.assert_array_equal(alone.returns[0], beside.returns[1])
    assert not np.array_equal(beside.returns[0], beside.returns[2])


def test_environments_are_stepped_as_in_training_when_they_are_looked_at(tmp_path, monkeypatch):
    lock = threading.Lock()

    def make():
        with lock:
            return small.FiveSteps()

    monkeypatch.setattr(GymnasiumEnvironment, "_slow", lambda *_: True)  # so that "auto" means processes
    run = small.train("PPO", tmp_path / "run", env=make, workers="serial")
    assert run.evaluate(4).lengths.tolist() == [[5] * 4]
    assert run.record(4).lengths.tolist() == [5] * 4
    with pytest.raises(ConfigError, match="cannot be sent to a worker process"):
        small.train("PPO", tmp_path / "other", env=make)


DAMAGED = ("5", "null", "[]", '{"a": 1}', '{"steps": "x"}', '{"steps": 1, "a": "x"}', '{"steps": 1, "a": [{}]}')


@pytest.mark.parametrize("line", [*DAMAGED, "[" * 100_000], ids=range(len(DAMAGED) + 1))
def test_a_damaged_row_of_metrics_is_passed_over(line, ppo, tmp_path):
    shutil.copytree(ppo.path, tmp_path / "run")
    run = td.open_run(tmp_path / "run")
    before = run.metrics()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    after = run.metrics()
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    run.plot(tmp_path / "curve.png")
    assert td.resume(run.path, progress=False).status["state"] == "finished"


def test_continuous_actions_lie_within_bounds(runs):
    actions = runs("SAC").agent().act(100 * np.random.default_rng(0).normal(size=(64, 3)), explore=True)
    assert actions.shape == (64, 1)
    assert actions.dtype == np.float32
    assert (np.abs(actions) <= 2).all()
    assert np.abs(actions).max() > 0.1
