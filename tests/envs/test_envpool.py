"""EnvPool: its endings in the terms of `HostBatch`, all at once or as they are ready; Atari to learn and to score."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import thorndike as td
from thorndike.drivers import overlap
from thorndike.drivers.evaluate import APART, evaluate
from thorndike.envs.adapters.envpool import EnvPoolBatch
from thorndike.runs.record import record
from thorndike.runs.video import film
from thorndike.types import Transition

LIMIT, COPIES = 12, 5


def walk(env, steps=60, seed=4, copies=COPIES, action=None):
    """Timesteps [T + 1, E] and actions [T, E], random ones or always `action`."""
    rng = np.random.default_rng(0)
    with env.batch(copies, seed=seed) as batch:
        now, actions = batch.reset(), []
        given, kept = [now], [jax.tree.map(np.copy, now)]
        for _ in range(steps):
            chosen = [sample(env.action_space, rng) if action is None else action for _ in range(copies)]
            actions.append(np.stack(chosen))
            given.append(batch.step(actions[-1]))
            kept.append(jax.tree.map(np.copy, given[-1]))
    jax.tree.map(np.testing.assert_array_equal, given, kept)  # no later step wrote into them
    return jax.tree.map(lambda *xs: np.stack(xs), *given), np.stack(actions)


def sample(space, rng):
    return rng.integers(space.n) if hasattr(space, "n") else rng.uniform(space.low, space.high).astype(np.float32)


def check_endings(times, limit):
    """`first` after either end and at the start, never both ends, truncated at the limit by an own count."""
    assert times.first[0].all()
    assert not times.reward[0].any()
    count = np.zeros(times.first.shape[1], int)
    for t in range(1, len(times.first)):
        count += 1
        ended = times.terminated[t] | times.truncated[t]
        assert not (times.terminated[t] & times.truncated[t]).any()
        np.testing.assert_array_equal(times.truncated[t], (count == limit) & ~times.terminated[t])
        np.testing.assert_array_equal(times.first[t], ended)
        count[ended] = 0


@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_transition_is_gymnasiums(asynchronous):
    """CartPole: `final_obs` follows from `obs` by Gymnasium's own dynamics, also with an episode's last step."""
    times, actions = walk(td.make("envpool/CartPole-v1", max_episode_steps=LIMIT, asynchronous=asynchronous))
    check_endings(times, LIMIT)
    assert times.terminated.any()
    assert times.truncated.any()
    world = gymnasium.make("CartPole-v1").unwrapped
    for t in range(len(actions)):
        for i in range(COPIES):
            world.reset()
            world.state = times.obs[t, i].astype(np.float64)
            obs, reward, terminated, _, _ = world.step(int(actions[t, i]))
            np.testing.assert_allclose(times.final_obs[t + 1, i], obs, rtol=1e-4, atol=1e-4)
            assert times.reward[t + 1, i] == reward
            assert times.terminated[t + 1, i] == terminated
    going = ~times.first
    np.testing.assert_array_equal(times.obs[going], times.final_obs[going])
    assert (np.abs(times.obs[times.first]) <= 0.05).all()  # Gymnasium's first states
    assert len(np.unique(times.obs[times.first], axis=0)) == times.first.sum()


def spaces_of(space):
    return dict(space.spaces) if hasattr(space, "spaces") else space


@pytest.mark.parametrize("name", ["HalfCheetah-v4", "CheetahRun-v1", "Pendulum-v1"])
def test_other_families(name):
    env = td.make(f"envpool/{name}", max_episode_steps=LIMIT)
    times, _ = walk(env, steps=30)
    check_endings(times, LIMIT)
    shapes = jax.tree.map(lambda space: (space.shape, space.dtype), spaces_of(env.observation_space))
    assert jax.tree.map(lambda x: (x.shape[2:], x.dtype), times.obs) == shapes
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(times.obs))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_hopper_that_falls_has_ended(asynchronous):
    """Gymnasium's rule: height above 0.7, angle within 0.2."""
    times, _ = walk(td.make("envpool/Hopper-v4", max_episode_steps=40, asynchronous=asynchronous), steps=60)
    check_endings(times, 40)
    height, angle = times.final_obs[..., 0], times.final_obs[..., 1]
    np.testing.assert_array_equal(times.terminated[1:], ((height <= 0.7) | (np.abs(angle) >= 0.2))[1:])
    assert times.terminated.any()


def test_seeds():
    env = td.make("envpool/Pendulum-v1", max_episode_steps=LIMIT)
    (first, _), (again, _), (other, _) = (walk(env, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.obs, again.obs)
    assert not np.array_equal(first.obs, other.obs)


def test_several_seeds_share_the_environments():
    env = td.make("envpool/CartPole-v1")
    together = walk(env, seed=[1, 2], copies=4)[0]
    for rows, seed in ((slice(0, 2), 1), (slice(2, 4), 2)):
        with env.batch(2, seed=seed) as batch:
            np.testing.assert_array_equal(batch.reset().obs, together.obs[0, rows])


def test_atari_is_learned_by_lives_and_evaluated_by_games():
    env = td.make("envpool/Breakout-v5", max_episode_steps=10_000)
    assert env.observation_space.shape == (4, 84, 84)
    lives, _ = walk(env, steps=300, copies=2)
    games, _ = walk(env.evaluation, steps=300, copies=2)
    assert lives.terminated.sum() >= 3 * games.terminated.sum() >= 3  # five lives
    check_endings(lives, 10_000)
    invaders = td.make("envpool/SpaceInvaders-v5")  # worth 5 to 30 points each
    clipped, points = walk(invaders, steps=100, copies=2)[0], walk(invaders.evaluation, steps=100, copies=2)[0]
    assert set(np.unique(clipped.reward)) == {0.0, 1.0}
    assert points.reward.max() >= 5
    assert td.make("envpool/Breakout-v5", episodic_life=False).options == {"episodic_life": False, "reward_clip": True}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_new_game_begins_at_the_time_limit_even_where_a_life_is_lost_then(asynchronous):
    """Whoever never fires loses a life every `life` steps; the limit counts the game, of five lives."""
    never = {"copies": 1, "action": 0}
    lives, _ = walk(td.make("envpool/Breakout-v5", asynchronous=asynchronous), steps=130, **never)
    (life,) = np.flatnonzero(lives.terminated[:, 0])[:1]
    assert np.flatnonzero(lives.first[:, 0]).tolist() == list(range(0, 131, life))
    for limit in (3 * life, 3 * life + 5):
        env = td.make("envpool/Breakout-v5", max_episode_steps=int(limit), asynchronous=asynchronous)
        times, _ = walk(env, steps=2 * limit, **never)
        cut = [] if limit == 3 * life else [limit, 2 * limit]
        lost = [t for game in (0, limit) for t in range(game + life, game + limit + 1, life)]
        assert np.flatnonzero(times.truncated[:, 0]).tolist() == cut
        assert np.flatnonzero(times.terminated[:, 0]).tolist() == lost
        games, _ = walk(env.evaluation, steps=2 * limit, **never)
        assert np.flatnonzero(games.truncated[:, 0]).tolist() == [limit, 2 * limit]
        assert not games.terminated.any()


@td.config
class Still:
    """An algorithm that does nothing."""

    def carry(self, n):
        return ()

    def act(self, actor, carry, now, key, explore):
        return jnp.zeros(len(now.first), jnp.int32), carry, {}


def test_evaluation_records_and_films_play_whole_games(tmp_path):
    """Whoever never fires loses each ball all the same, as in learning, and the game after five; none is endless."""
    result = evaluate(Still(), {"x": jnp.zeros(1)}, td.make("envpool/Breakout-v5", max_episode_steps=2_000), 2)
    assert (result.returns == 0).all()
    lives, _ = walk(td.make("envpool/Breakout-v5"), steps=40, copies=1, action=0)
    (first,) = np.flatnonzero(lives.terminated[:, 0])[:1]
    assert (result.lengths == 5 * first).all()
    env = td.make("envpool/Breakout-v5")
    still = SimpleNamespace(algorithm=Still(), actor={}, spec=SimpleNamespace(action=env.action_space))
    (episode,) = record(still, env, 1)
    assert len(episode.rewards) == 5 * first
    film(still, env, tmp_path / "film.gif", most_frames=first)
    with Image.open(tmp_path / "film.gif") as picture:
        shown = [np.asarray(picture.convert("L")) for _ in (picture.seek(i) for i in range(picture.n_frames))]
    seen = walk(env.evaluation, steps=first - 1, copies=1, action=0, seed=APART)[0].obs[:, 0, -1]  # the newest of four
    changed = np.concatenate([[True], (seen[1:] != seen[:-1]).any((1, 2))])  # a film shows equal ones as one
    np.testing.assert_allclose(shown, seen[changed].repeat(4, 1).repeat(4, 2), atol=8)  # in fewer colours


def test_a_fall_at_the_time_limit_is_a_fall():
    """EnvPool itself calls it a truncation."""
    for asynchronous in (False, True):
        env = td.make("envpool/CartPole-v1", max_episode_steps=9, asynchronous=asynchronous)
        times, _ = walk(env, steps=9, copies=16, action=1)
        fallen = np.abs(times.final_obs[9, :, 2]) > 12 * np.pi / 180
        assert fallen.any()
        assert not fallen.all()
        np.testing.assert_array_equal(times.terminated[9], fallen)
        np.testing.assert_array_equal(times.truncated[9], ~fallen & ~times.terminated[:9].any(0))


def ready_rollout(batch, now, carry, length):
    """The rollout of a policy that pushes to where the pole leans, with the count of its steps as its memory."""

    def act(carry, now, key):
        carry = np.where(now.first, 0, carry) + 1
        return (now.obs[..., 2] > 0).astype(np.int64), carry, {"count": carry}, key + 1

    return overlap.rollout(act, batch, now, carry, 0, length)


def check_rows(steps: Transition, last):
    """Every row is one environment's own experience, in order: what is seen is what came of the step before."""
    np.testing.assert_array_equal(steps.action, (steps.obs[..., 2] > 0).astype(int))
    after = np.concatenate([steps.obs[0, 1:], last.obs]), np.concatenate([steps.first[0, 1:], last.first])
    np.testing.assert_array_equal(after[1], steps.ended[0])
    np.testing.assert_array_equal(after[0][~after[1]], steps.next_obs[0][~after[1]])
    moved = steps.obs[..., 0] + 0.02 * steps.obs[..., 1]  # CartPole's Euler step, into ends too
    np.testing.assert_allclose(steps.next_obs[..., 0], moved, atol=1e-5)
    assert after[1].any()
    count = np.zeros(COPIES, int)
    for t in range(steps.first.shape[1]):
        count = np.where(steps.first[0, t], 0, count) + 1
        np.testing.assert_array_equal(steps.extras["count"][0, t], count)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in Linux's /proc")
def test_an_asynchronous_pool_steps_on_every_core_until_it_is_closed():
    def now():
        return len(os.listdir("/proc/self/task"))

    def threads_of(**options):
        env = td.make("envpool/CartPole-v1", asynchronous=True, **options)
        before = now()
        with env.batch(64) as batch:
            batch.reset()
            made = now() - before
        assert now() == before
        with pytest.raises(td.EnvError, match="the batch is closed; make a new one"):
            batch.reset()
        return made

    one = threads_of(num_threads=1)
    assert threads_of(num_threads=3) == one + 2
    assert threads_of() == one - 1 + min(64, os.cpu_count())


def test_rollout_of_whatever_is_ready():
    env = td.make("envpool/CartPole-v1", max_episode_steps=LIMIT, asynchronous=True)
    with env.batch(COPIES) as batch:
        now = jax.tree.map(lambda x: x[None], batch.reset())
        rollout, carry, key = ready_rollout(batch, now, np.zeros((1, COPIES), int), 40)
        check_rows(rollout.steps, rollout.last)
        assert key > 40 * COPIES / 3 - 1  # in groups of three at most
        assert rollout.steps.truncated.any()
        np.testing.assert_array_equal(rollout.carry, 0)
        more, _, _ = ready_rollout(batch, rollout.last, carry, 1)
        expected = np.where(rollout.last.first, 0, carry) + 1
        np.testing.assert_array_equal(more.steps.extras["count"][0], expected)


def pendulum_rewards():
    """Whether each row's reward is that of what it saw and did."""

    def act(carry, now, key):
        return np.clip(now.obs[..., 2:], -1, 1), carry, {}, key

    env = td.make("envpool/Pendulum-v1", max_episode_steps=LIMIT, asynchronous=True)
    with env.batch(COPIES) as batch:
        now = jax.tree.map(lambda x: x[None], batch.reset())
        steps = overlap.rollout(act, batch, now, np.zeros((1, COPIES)), 0, 30)[0].steps
    cos, sin, speed = np.moveaxis(steps.obs.astype(float), -1, 0)
    torque = steps.action[..., 0]
    cost = np.arctan2(sin, cos) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
    return np.abs(steps.reward + cost).max() < 1e-3


def test_rewards_are_those_of_their_rows(monkeypatch):
    assert pendulum_rewards()
    receive = EnvPoolBatch.receive

    def another(self, count):
        rows, answer = receive(self, count)
        return rows, answer._replace(reward=answer.reward[::-1])

    monkeypatch.setattr(EnvPoolBatch, "receive", another)
    assert not pendulum_rewards()


@pytest.mark.parametrize("bug", ["rows of another", "forgets who is slow"])
def test_check_of_rows_bites(monkeypatch, bug):
    env = td.make("envpool/CartPole-v1", max_episode_steps=LIMIT, asynchronous=True)
    right = overlap._store

    def wrong(into, values, at, axes=()):
        if bug == "rows of another" and isinstance(at, tuple):
            at = (at[0], np.roll(at[1], 1))
        if bug == "forgets who is slow" and isinstance(at, tuple):
            at = (np.full_like(at[0], at[0].min()), at[1])
        return right(into, values, at, axes)

    monkeypatch.setattr(overlap, "_store", wrong)
    with env.batch(COPIES) as batch:
        now = jax.tree.map(lambda x: x[None], batch.reset())
        rollout, *_ = ready_rollout(batch, now, np.zeros((1, COPIES), int), 40)
    with pytest.raises(AssertionError):
        check_rows(rollout.steps, rollout.last)


@pytest.mark.parametrize("asynchronous", [pytest.param(False, marks=pytest.mark.slow), True])
def test_ppo_learns(tmp_path, asynchronous):
    """Random play scores about 22."""
    kwargs = {"asynchronous": asynchronous}
    run = td.train(td.PPO(), "envpool/CartPole-v1", 30_000, env_kwargs=kwargs, out=tmp_path / "run", progress=False)
    assert run.evaluate(episodes=8).mean > 100
    assert td.open_run(tmp_path / "run").env.id == "CartPole-v1"


def test_says_no_more_than_it_should():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        td.make("envpool/Pendulum-v1").batch(1).reset()


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: td.make("envpool/Pog-v5"), td.UnknownNameError, "did you mean 'Pong-v5'"),
        (lambda: td.make("envpool/Pong-v5", skip=3), td.ConfigError, "no option skip; it has .*frame_skip"),
        (lambda: td.make("envpool/Pong-v5", frame_skip="a"), td.ConfigError, "frame_skip should be a whole number"),
        (lambda: td.make("envpool/Pong-v5", stack_num=0), td.ConfigError, "stack_num should be .* from 1"),
        (lambda: td.make("envpool/CartPole-v1", num_threads=-1), td.ConfigError, "num_threads should be .* from 0"),
        (lambda: td.make("envpool/CartPole-v1", num_envs=3), td.ConfigError, "no option num_envs"),
        (lambda: td.make("envpool/Pong-v5", img_height="84"), td.ConfigError, "img_height"),
        (lambda: td.make("envpool/CartPole-v1").batch(0), td.ConfigError, "num_envs must be positive"),
        (
            lambda: td.train(td.PPO(), "envpool/CartPole-v1", 100, on_env_error="restart"),
            td.ConfigError,
            "cannot be restarted",
        ),
        (lambda: td.make("envpool/Pong-v5").batch(1, on_error="restart"), td.ConfigError, "on_env_error"),
        (lambda: td.make("envpool/CartPole-v1").batch(2).step(np.zeros(3, int)), td.ConfigError, "needs \\(2,\\)"),
        (
            lambda: td.train(td.PPO(), "envpool/CartPole-v1", 100, seeds=2, env_kwargs={"asynchronous": True}),
            td.ConfigError,
            "one by one",
        ),
    ],
)
def test_refusals(monkeypatch, tmp_path, act, error, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"(?i){says}"):
        act()
    assert not list(tmp_path.iterdir())  # before anything started


class Spoilt:
    """A pool whose third step answers something that is not finite."""

    def __init__(self, pool, part):
        self.pool, self.part, self.steps = pool, part, 0

    def __getattr__(self, name):
        return getattr(self.pool, name)

    def step(self, *given):
        answer = [np.array(x) if isinstance(x, np.ndarray) else x for x in self.pool.step(*given)]
        self.steps += 1
        if self.steps == 3:
            answer[self.part].flat[-1] = np.inf
        return tuple(answer)


@pytest.mark.parametrize(("part", "name"), [(0, "observation"), (1, "reward")])
def test_what_is_not_finite_is_named(part, name):
    with td.make("envpool/CartPole-v1").batch(3) as batch:
        batch._pool = Spoilt(batch._pool, part)
        batch.reset()
        for _ in range(2):
            batch.step(np.zeros(3, int))
        with pytest.raises(td.EnvError, match=f"environment 2 of EnvPool's CartPole-v1: its {name} is not finite"):
            batch.step(np.zeros(3, int))


class Shuffled:
    """A pool that hands its environments over in an order of its own."""

    def __init__(self, pool):
        self.pool, self.rng = pool, np.random.default_rng(1)

    def __getattr__(self, name):
        return getattr(self.pool, name)

    def mixed(self, answer):
        order = self.rng.permutation(len(answer[0]))
        return jax.tree.map(lambda x: x[order], answer)

    def reset(self, *given):
        return self.mixed(self.pool.reset(*given))

    def step(self, *given):
        return self.mixed(self.pool.step(*given))


def test_the_order_in_which_a_pool_answers_does_not_matter():
    class Mixed(type(td.make("envpool/CartPole-v1"))):
        def _pool(self, *given):
            return Shuffled(super()._pool(*given))

    options = {"max_episode_steps": LIMIT}
    ours, theirs = walk(td.make("envpool/CartPole-v1", **options)), walk(Mixed("CartPole-v1", **options))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert ours[0].truncated.any()
    assert ours[0].terminated.any()
