"""What steps earn besides rewards: in transitions, in metrics, on both paths, and never another step's."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.drivers import scan
from thorndike.drivers.host import HostDriver, Packed
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.batched import Batched
from thorndike.errors import EnvError

LIMIT = 3  # steps of an episode
SPACE = Box(0, 9, (1,), np.float32)


@td.config
class Counter:
    """Counts its steps; step t costs 10 t, and is t fast, at an expense of 1."""

    task: int = LIMIT
    max_steps = LIMIT
    observation_space, action_space = SPACE, Discrete(2)

    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.zeros(1), info={"state": jnp.zeros(2)})

    def step(self, state, action, key):
        t = state + 1
        info = {"state": jnp.array([t, 2.0 * t]), "cost": 10.0 * t, "success": t == self.task}
        info |= {"terms": {"speed": jnp.float32(t), "energy": -1.0}, "log": {"height": t * t}}
        return td.Step(t, jnp.array([t], jnp.float32), jnp.float32(t) - 1.0, info=info)


class HostCounter(gymnasium.Env):
    observation_space, action_space = SPACE, Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        info = {"cost": 10 * self.t, "is_success": self.t == LIMIT, "height": self.t**2, "text": "unused"}
        return np.array([self.t], np.float32), self.t - 1.0, False, self.t == LIMIT, info


NAMES = ("cost", "is_success", "height")
PPO = td.PPO(num_envs=2, rollout_length=8, minibatch_size=8, epochs=1, torso=small.TORSO)


def experience(on_host):
    """A rollout of eight steps [T, E], in which episodes are cut after three."""
    spec = td.Spec(SPACE, Discrete(2), 1000)
    state = PPO.init(jax.random.key(0), spec)
    if not on_host:
        world = Batched(Counter(), 2)
        start = (PPO.actor(state), PPO.carry(None, 2), world.reset(jax.random.key(1)), jax.random.key(2))
        return scan.rollout(PPO, world, *start, "explore")[0].steps
    env = GymnasiumEnvironment(HostCounter)
    with HostDriver(PPO, env, spec, [0], workers="serial", log_info=NAMES) as driver:
        first = lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree)  # noqa: E731
        carry, key = first(PPO.carry(None, 2)), jax.random.split(jax.random.key(2), 1)
        agent = Packed(first(state))
        move = driver._act[False](driver.settings, agent, carry, driver.observe(), key, None)
        steps = driver.rollout(agent, carry, key, None, move, False)[0].steps
    return jax.tree.map(lambda x: np.asarray(x)[0], steps)


def check_costs(steps):
    t = np.array([1, 2, 3, 1, 2, 3, 1, 2])
    np.testing.assert_array_equal(np.asarray(steps.info["cost"])[:, 0], 10 * t)
    np.testing.assert_array_equal(np.asarray(steps.info["success"])[:, 0], t == LIMIT)
    np.testing.assert_array_equal(np.asarray(steps.info["log"]["height"])[:, 1], t**2)
    np.testing.assert_array_equal(np.asarray(steps.next_obs)[:, 0, 0], t)  # the step whose cost it is


@pytest.mark.parametrize("on_host", [False, True])
def test_a_step_has_what_it_earned(on_host, monkeypatch):
    check_costs(experience(on_host))
    right = scan.transition

    def of_the_step_before(now, action, extras, later):
        earned = jax.tree.map(lambda x: np.roll(x, 1, 0) if on_host else jnp.zeros_like(x), later.earned)
        return right(now, action, extras, later._replace(earned=earned))

    monkeypatch.setattr(scan, "transition", of_the_step_before)
    monkeypatch.setattr("thorndike.drivers.host.transition", lambda n, a, e, l: right(n, a, e, l._replace(earned={})))
    with pytest.raises((AssertionError, KeyError)):
        check_costs(experience(on_host))


def test_what_is_shown_with_an_observation_belongs_to_it():
    """The central state at an observation, and at its true successor, also where an episode was cut."""
    steps = experience(on_host=False)
    t = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(steps.info["state"][:, 0], np.stack([t, 2 * t], -1))
    np.testing.assert_array_equal(steps.info["next_state"][:, 0], np.stack([t + 1, 2 * (t + 1)], -1))


def test_metrics_have_sums_and_last_values_of_episodes(tmp_path):
    run = small.train("PPO", tmp_path / "run", env=Counter(), algorithm=PPO, steps=96)
    row = small.rows(run)[-1]
    assert row["rollout/ep_cost_mean"] == 60.0
    assert row["rollout/success_rate"] == 1.0
    assert (row["rollout/ep_speed_mean"], row["rollout/ep_energy_mean"]) == (6.0, -3.0)
    assert row["rollout/ep_height_mean"] == 9.0
    assert "rollout/success_rate" not in small.rows(small.train("PPO", tmp_path / "plain", steps=96))[-1]


def test_numbers_of_info_are_logged_on_the_host(tmp_path):
    run = td.train(PPO, HostCounter, 96, out=tmp_path / "run", log_info=NAMES, evaluate_every=48, progress=False)
    row = small.rows(run)[-1]
    assert (row["rollout/ep_cost_mean"], row["rollout/success_rate"], row["rollout/ep_height_mean"]) == (60.0, 1.0, 9.0)
    assert (row["eval/ep_cost_mean"], row["eval/success_rate"]) == (60.0, 1.0)
    found = td.open_run(run.path, HostCounter).evaluate(3)
    np.testing.assert_array_equal(found.earned["cost"], [[60.0] * 3])
    assert "cost 60; height 9; success 1" in str(found)
    with pytest.raises(td.ConfigError, match=r"CartPole is another: a JAX environment names them itself"):
        td.train(PPO, "CartPole-v1", 96, log_info=["energy"], out=tmp_path / "jax", progress=False)


def test_costs_of_repeated_actions_add_up():
    env = td.ActionRepeat(env=Counter(), times=2)
    key = jax.random.key(0)
    step = env.step(env.reset(key).state, jnp.int32(0), key)
    assert float(step.info["cost"]) == 30.0
    assert float(step.info["terms"]["speed"]) == 3.0
    assert float(step.info["log"]["height"]) == 4.0  # the last


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ({"energy": 1.0}, "'energy'; it may have .*\"log\""),
        ({"success": jnp.zeros(3)}, '"success". of shape'),
        ({"terms": 1.0}, "no dict of numbers by name"),
        ({"log": {"a": jnp.zeros(2)}}, "no dict of numbers by name"),
        ({"log": {"a": 1.0}, "terms": {"a": 1.0}}, "'a' in info twice"),
        ({"log": {"cost": 1.0}}, "'cost' in info twice"),
        ({"cost": jnp.zeros((2, 2))}, '"cost". of shape'),
    ],
)
def test_what_info_may_not_say_is_refused(info, says):
    @td.config
    class Wrong(Counter):
        def step(self, state, action, key):
            return td.Step(state, jnp.zeros(1), 0.0, info={"state": jnp.zeros(2), **info})

    world = Batched(Wrong(), 2)
    with pytest.raises(EnvError, match=says):
        jax.eval_shape(lambda key: world.step(world.reset(key), jnp.zeros(2, jnp.int32), key), jax.random.key(0))


def test_a_cost_that_is_not_finite_is_a_fault(tmp_path):
    @td.config
    class Wrong(Counter):
        def step(self, state, action, key):
            step = Counter.step(self, state, action, key)
            return step._replace(info={**step.info, "cost": jnp.float32(jnp.nan)})

    with pytest.raises(td.DivergedError, match="A cost, or a term"):
        small.train("PPO", tmp_path / "run", env=Wrong(), algorithm=PPO, steps=96)


@pytest.mark.parametrize(("name", "says"), [("nothing", "no 'nothing'.*'height'"), ("text", "should be a number")])
def test_numbers_that_info_has_not_are_named(name, says):
    with GymnasiumEnvironment(HostCounter).batch(2, log_info=(name,)) as batch:
        batch.reset()
        with pytest.raises(EnvError, match=says):
            [batch.step(np.zeros(2, int)) for _ in range(LIMIT)]
