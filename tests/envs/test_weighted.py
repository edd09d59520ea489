"""Weighted sums of named terms of the reward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.configuration import check, from_json, swept, swept_fields, to_json
from thorndike.exports import known_configs
from thorndike.settings import flat


@td.config
class Runner:
    """Runs as fast as its action says, at an expense of its square."""

    max_steps = 5
    observation_space, action_space = Box(0, 9, (1,), np.float32), Discrete(3)

    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.zeros(1))

    def step(self, state, action, key):
        terms = {"speed": jnp.float32(action), "energy": -(jnp.float32(action) ** 2)}
        return td.Step(state, jnp.zeros(1), jnp.float32(99), info={"terms": terms})


def step(env, action):
    key = jax.random.key(0)
    return env.step(env.reset(key).state, jnp.int32(action), key)


def test_the_reward_is_the_weighted_sum():
    env = td.Weighted(env=Runner(), weights={"speed": 3.0, "energy": 0.5})
    for action in range(3):
        assert float(step(env, action).reward) == 3.0 * action - 0.5 * action**2
    assert float(step(td.Weighted(env=Runner(), weights={"speed": 3.0}), 2).reward) == 6.0
    assert float(step(env, 2).info["terms"]["energy"]) == -4.0  # still told


def test_weights_are_leaves_and_survive_json():
    env = td.Weighted(env=Runner(), weights={"speed": np.array([1.0, 2.0], np.float32), "energy": 0.5})
    check(env)
    assert swept(env) == 2
    assert swept_fields(env) == {"weights.speed": [1.0, 2.0]}
    again = from_json(to_json(env), known_configs([Runner]))
    assert jax.tree.structure(again) == jax.tree.structure(env)
    np.testing.assert_array_equal(again.weights["speed"], [1.0, 2.0])
    assert flat(to_json(env))["weights.energy"] == 0.5


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({}, "needs weights by the names of terms"),
        ({"speed": "fast"}, "weights should be numbers by name"),
        ([("speed", 1.0)], "weights should be numbers by name"),
    ],
)
def test_what_are_no_weights_is_refused(weights, says):
    with pytest.raises(td.ConfigError, match=says):
        check(td.Weighted(env=Runner(), weights=weights))


def test_terms_that_there_are_not_are_named():
    with pytest.raises(td.ConfigError, match=r"Runner has no term height; it has energy, speed"):
        step(td.Weighted(env=Runner(), weights={"height": 1.0}), 0)
    with pytest.raises(td.ConfigError, match=r"CartPole names no terms"):
        step(td.Weighted(env=td.CartPole(), weights={"height": 1.0}), 0)


def test_learning_follows_the_weights(tmp_path):
    """The best action is 2 where speed counts much, and 0 where energy does."""
    ppo = td.PPO(torso=td.Torso(widths=(8,)), num_envs=8, rollout_length=16, minibatch_size=64, learning_rate=1e-2)
    for energy, best in ((0.1, 2), (2.0, 0)):
        env = td.Weighted(env=Runner(), weights={"speed": 1.0, "energy": energy})
        run = td.train(ppo, env, 8_000, out=tmp_path / str(best), progress=False)
        assert run.agent().act(np.zeros(1, np.float32)) == best


def test_one_program_trains_for_several_weights(tmp_path):
    """The trade-off between two objectives: speed where energy costs little, rest where it costs much."""
    ppo = td.PPO(torso=td.Torso(widths=(8,)), num_envs=8, rollout_length=16, minibatch_size=64, learning_rate=1e-2)
    env = td.Weighted(env=Runner(), weights={"speed": 1.0, "energy": np.array([0.1, 2.0], np.float32)})
    run = td.train(ppo, env, 8_000, seeds=2, out=tmp_path / "run", progress=False, evaluate_every=4_000)
    members = run.members()
    assert [(m["seed"], round(m["env.weights.energy"], 3)) for m in members] == [(0, 0.1), (1, 0.1), (0, 2.0), (1, 2.0)]
    row = {name: values[-1] for name, values in run.metrics().items() if name != "steps"}
    np.testing.assert_allclose(row["eval/ep_speed_mean"], [10, 10, 0, 0])
    assert row["rollout/ep_energy_mean"][2] > row["rollout/ep_energy_mean"][0]
    again = td.open_run(run.path, classes=[Runner])
    found = again.evaluate(4)
    np.testing.assert_allclose(found.earned["speed"], [[10] * 4, [10] * 4, [0] * 4, [0] * 4])
    np.testing.assert_allclose(found.per_run, [10 - 0.1 * 20, 10 - 0.1 * 20, 0, 0], rtol=1e-5)
    assert [str(key) for key, _ in found.by_configuration()] == [f"{{'env.weights.energy': {x}}}" for x in (0.1, 2.0)]
    alone = td.Weighted(env=Runner(), weights={"speed": 1.0, "energy": 2.0})
    single = td.train(ppo, alone, 8_000, seed=1, out=tmp_path / "single", progress=False)
    np.testing.assert_allclose(
        single.metrics()["rollout/ep_rew_mean"][:, 0], run.metrics()["rollout/ep_rew_mean"][:, 3], rtol=1e-4
    )
    td.resume(run.path, steps=10_000, classes=[Runner], progress=False)


def test_lengths_of_sweeps_agree(tmp_path):
    env = td.Weighted(env=Runner(), weights={"speed": 1.0, "energy": np.array([0.1, 2.0], np.float32)})
    with pytest.raises(td.ConfigError, match=r"one length, got lengths \[2, 3\]"):
        td.train(td.PPO(clip=np.array([0.1, 0.2, 0.3])), env, 8_000, out=tmp_path / "run", progress=False)
