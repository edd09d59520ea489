"""gymnax, pgx, Brax and Playground beside themselves: what their own code answers, and what is refused."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.envs.adapters import brax as robots
from thorndike.envs.batched import Batched
from thorndike.runs.results.video import filmable, seen

FEW = ["Pendulum-v1", "Breakout-MinAtar", "Catch-bsuite", "FourRooms-misc"]
DOWNLOADS = "MNISTBandit-bsuite"


def gymnax_names():
    import gymnax

    names = [name for name in gymnax.registered_envs if name != DOWNLOADS]
    return [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in names]


def actions_of(space, key, count):
    if isinstance(space, Discrete):
        return jax.random.randint(key, (count,), 0, int(space.n))
    assert isinstance(space, Box)
    return jax.random.uniform(key, (count, *space.shape), minval=space.low, maxval=space.high)


@pytest.mark.parametrize("name", gymnax_names())
def test_gymnax_ends_and_answers_as_its_own_step_says(name):
    """gymnax's `step`, which resets itself, gives the same ends, rewards and last observations as ours."""
    import gymnax

    env, (theirs, params) = td.make(f"gymnax/{name}"), gymnax.make(name)
    count = min(2 * env.max_steps + 10, 2_600)
    actions = actions_of(env.action_space, jax.random.key(1), count)

    def one(carry, x):
        state, steps = carry
        action, key = x
        _, after, reward, terminated, truncated, info = theirs.step(key, state, action, params)
        own = env.step(state, action, jax.random.split(key)[0])
        steps = steps + 1
        cut = (steps >= env.max_steps) & ~own.terminated
        apart = jnp.stack(
            [jnp.isclose(reward, own.reward, atol=1e-5), terminated == own.terminated, (truncated & ~terminated) == cut]
        )
        seen = jnp.asarray(info["final_observation"], own.obs.dtype).reshape(own.obs.shape)
        return (after, jnp.where(terminated | truncated, 0, steps)), (apart, seen, own.obs, terminated | truncated)

    start = env.reset(jax.random.key(0)).state
    keys = jax.random.split(jax.random.key(2), count)
    _, (same, seen, obs, ended) = jax.jit(lambda s: jax.lax.scan(one, (s, 0), (actions, keys)))(start)
    assert np.asarray(same).all(0).tolist() == [True, True, True]
    np.testing.assert_allclose(seen, obs, rtol=1e-5, atol=1e-5)
    assert ended.any()
    assert all(env.observation_space.contains(one) for one in np.asarray(obs)[:50])


def test_gymnax_is_gymnasium_in_cartpole():
    """An oracle that is neither: the same pole from the same state, step by step until it falls."""
    env, world = td.make("gymnax/CartPole-v1"), gymnasium.make("CartPole-v1").unwrapped
    state = env.reset(jax.random.key(3)).state
    world.reset(seed=0)
    world.state = np.array([state.x, state.x_dot, state.theta, state.theta_dot], np.float64)
    for t in range(200):
        step = env.step(state, jnp.int32(t % 3 > 0), jax.random.key(t))
        state = step.state
        obs, _, terminated, _, _ = world.step(int(t % 3 > 0))
        np.testing.assert_allclose(step.obs, obs, rtol=1e-4, atol=1e-4)
        assert bool(step.terminated) == terminated
        if terminated:
            return
    raise AssertionError("the pole never fell")


def check_robot(env):
    batch = Batched(env, 2)
    step = jax.jit(batch.step)
    now = jax.jit(batch.reset)(jax.random.key(0))
    for t in range(1, 7):
        now = step(now, jnp.full((2, *env.action_space.shape), 0.02 * t), jax.random.key(t))
        assert np.isfinite(now.final_obs).all()
        assert now.truncated.tolist() == [t % env.max_steps == 0] * 2
        assert not now.terminated.any()


def test_brax():
    """Beside its own `step`, until the pendulum's angle passes 0.2: an end of the task, and a fresh pendulum."""
    from brax.envs import get_environment

    batch, theirs = Batched(td.make("brax/inverted_pendulum", max_steps=50), 2), get_environment("inverted_pendulum")
    step, now = jax.jit(batch.step), jax.jit(batch.reset)(jax.random.key(0))
    own, fallen = jax.jit(jax.vmap(theirs.step)), np.zeros(2, bool)
    for t in range(12):
        after = own(now.sim.state, jnp.ones((2, 1)))
        now = step(now, jnp.ones((2, 1)), jax.random.key(t))
        np.testing.assert_allclose(now.final_obs, after.obs, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(now.reward, after.reward)
        down = np.abs(now.final_obs[:, 1]) > 0.2
        np.testing.assert_array_equal(now.terminated, down)
        np.testing.assert_array_equal(now.first, down)
        assert not now.truncated.any()
        assert (np.abs(now.obs[down, 1]) < 0.05).all()
        fallen |= down
    assert fallen.all()


def test_options_of_minatar():
    sticky, six = td.make("pgx/minatar-breakout"), td.make("pgx/minatar-breakout", use_minimal_action_set=False)
    assert (sticky.action_space.n, six.action_space.n) == (3, 6)
    assert six.max_steps == 10_000


@pytest.mark.parametrize("sticky", [0.0, 0.3])
def test_chance_of_minatar(sticky):
    """Where the paddle is after a step to the right: with sticky actions it did as before, stand still, at times."""
    env = td.make("pgx/minatar-breakout", sticky_action_prob=sticky)
    start = env.reset(jax.random.key(0)).state
    keys = jax.random.split(jax.random.key(1), 1000)
    after = jax.jit(jax.vmap(lambda key: env.step(start, jnp.int32(2), key).obs))(keys)
    stood = (after[..., 0] == env.reset(jax.random.key(0)).obs[..., 0]).all((1, 2))
    assert abs(stood.mean() - sticky) < 0.06  # four standard deviations


@pytest.mark.parametrize(
    "name",
    ["breakout", *(pytest.param(name, marks=pytest.mark.slow) for name in ("asterix", "seaquest", "space_invaders"))],
)
def test_minatar_ends_and_pays_as_pgx_says(name):
    """Beside pgx's own state, to the end of an episode of random play."""
    import pgx

    env, theirs = td.make(f"pgx/minatar-{name}"), pgx.make(f"minatar-{name}")
    ours, step = jax.jit(env.step), jax.jit(theirs.step)
    state = env.reset(jax.random.key(3)).state
    ends = 0
    for t in range(1000):
        key = jax.random.key(t)
        action = jax.random.randint(key, (), 0, env.action_space.n)
        after, now = step(state, action, key), ours(state, action, key)
        assert bool(now.terminated) == bool(after.terminated)
        assert float(now.reward) == float(after.rewards[0])
        np.testing.assert_array_equal(now.obs, after.observation)
        ends, state = ends + bool(after.terminated), now.state
        if ends:
            break
    assert ends


def test_minatar_is_filmed_in_colours():
    """pgx draws no frames: each plane of what the agent sees has a colour of its own."""
    for name in ("pgx/minatar-breakout", "gymnax/Breakout-MinAtar"):
        env = td.make(name)
        obs = np.asarray(env.reset(jax.random.key(0)).obs)
        frame = seen(obs)
        assert filmable(env)
        assert frame.shape == (320, 320, 3)
        cells = frame[::32, ::32]
        assert (frame == cells.repeat(32, 0).repeat(32, 1)).all()
        np.testing.assert_array_equal((cells > 0).any(-1), obs.any(-1))
        paddle, ball = cells[obs[..., 0] > 0], cells[obs[..., 1] > 0]
        assert not (paddle[0] == ball[0]).all()
    assert not filmable(td.make("gymnax/CartPole-v1"))
    assert filmable(td.FrameStack(env=td.CartPole(), frames=2))
    assert not filmable(td.FrameStack(env=td.make("gymnax/CartPole-v1"), frames=2))


@pytest.mark.slow
def test_playground():
    if importlib.util.find_spec("mujoco_playground") is None:
        pytest.skip("MuJoCo Playground is not installed")
    env = td.make("playground/CartpoleBalance")
    assert env.max_steps == 1000
    assert td.make("playground/CartpoleBalance", episode_length=100).max_steps == 100
    repeated = td.make("playground/CartpoleBalance", action_repeat=2)
    assert isinstance(repeated, td.ActionRepeat)
    assert repeated.max_steps == 500
    check_robot(td.make("playground/CartpoleBalance", max_steps=3))
    from mujoco_playground import registry

    theirs, key = registry.load("CartpoleBalance"), jax.random.key(0)
    step, own = jax.jit(env.step), jax.jit(theirs.step)
    now, state = jax.jit(env.reset)(key), jax.jit(theirs.reset)(key)
    for t in range(5):
        action = jnp.full(1, 0.3 * t)
        now, state = step(now.state, action, key), own(state, action)
        np.testing.assert_allclose(now.obs, state.obs, rtol=1e-5, atol=1e-5)
        assert (float(now.reward), bool(now.terminated)) == (pytest.approx(float(state.reward)), bool(state.done))


def test_playground_repeats_actions_where_its_configuration_says_so(monkeypatch):
    config = SimpleNamespace(episode_length=1000, action_repeat=4)
    spaces = {"observation_size": 3, "action_size": 1}
    monkeypatch.setattr(robots, "load", lambda *_: SimpleNamespace(_config=config, **spaces))
    env = robots.make("playground", "Any")
    assert isinstance(env, td.ActionRepeat)
    assert (env.times, env.max_steps) == (4, 250)
    config.action_repeat = 1
    assert robots.make("playground", "Any").max_steps == 1000


def test_run_names_its_environment(tmp_path):
    """What a run writes down is enough to make the environment again."""
    td.train(td.PPO(num_envs=4, rollout_length=8, minibatch_size=16), "gymnax/Catch-bsuite", steps=64,
             env_kwargs={"max_steps_in_episode": 5}, out=tmp_path / "run", progress=False)  # fmt: skip
    again = td.open_run(tmp_path / "run")
    assert again.env == td.make("gymnax/Catch-bsuite", max_steps_in_episode=5)
    assert again.evaluate(episodes=2).returns.shape[-1] == 2


@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        ("gymnax/CartPole", {}, td.UnknownNameError, "did you mean 'CartPole-v1'"),
        ("gymnax/CartPole-v1", {"gravty": 1.0}, td.ConfigError, "its parameters: .*gravity"),
        ("gymnax/CartPole-v1", {"max_steps_in_episode": 0}, td.ConfigError, "positive whole number"),
        ("gymnax/CartPole-v1", {"max_steps_in_episode": True}, td.ConfigError, "positive whole number"),
        ("gymnax/CartPole-v1", {"max_steps_in_episode": float("inf")}, td.ConfigError, "positive whole number"),
        ("gymnax/CartPole-v1", {"gravity": "a"}, td.ConfigError, "gravity of gymnax's CartPole-v1 should be a number"),
        ("gymnax/CartPole-v1", {"gravity": np.ones(2)}, td.ConfigError, "plain value"),
        ("gymnax/CartPole-v1", {"replace": 1}, td.ConfigError, "cannot be made so"),
        ("gymnax/CartPole-v1", {"name": "x"}, td.ConfigError, "named by its id, gymnax/CartPole-v1"),
        ("gymnax/FrozenLake-misc", {"map_name": "9x9"}, td.ConfigError, "cannot be made so"),
        ("gymnax/", {}, td.UnknownNameError, "gymnax has no environment ''"),
        ("pgx/minatar-breakout", {"sticky": 0.5}, td.ConfigError, "cannot be made with"),
        ("pgx/go_9x9", {"komi": 6.5}, td.ConfigError, "go_9x9 takes no options"),
        ("pgx/minatar-breakout", {"max_steps": 0}, td.ConfigError, "max_steps must be positive"),
        ("brax/ant", {"max_steps": -1}, td.ConfigError, "max_steps must be positive"),
        ("brax/ant", {"max_steps": True}, td.ConfigError, "max_steps should be int"),
        ("pgx/minatar-brakout", {}, td.UnknownNameError, "did you mean 'minatar-breakout'"),
        ("brax/at", {}, td.UnknownNameError, "did you mean 'ant'"),
        ("brax/ant", {"legs": 3}, td.ConfigError, "legs"),
    ],
)
def test_refusals(name, options, error, says):
    with pytest.raises(error, match=f"(?i){says}"):
        td.make(name, **options)
