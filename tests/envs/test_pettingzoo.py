"""PettingZoo's parallel environments: rows of agents beside the environments themselves, and independent PPO."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Dict
from parallel_cases import Painters, Pair, Strange, Telling

import thorndike as td


@pytest.mark.parametrize("pair", [Pair, Telling])
def test_rows_of_an_uneven_pair(pair):
    """Padding, ids, masks (shown, or told), shifted actions, an agent that is out, and both ends, by hand."""
    env = td.ParallelEnvironment(pair)
    assert (env.agents, env.id, env.masked) == (2, "pair", True)
    assert env.observation_space.shape == (5,)
    assert env.action_space == gymnasium.spaces.Discrete(3)
    with env.batch(4, workers="serial") as batch:
        now = batch.reset()
        np.testing.assert_array_equal(now.obs, [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]] * 2)
        np.testing.assert_array_equal(now.info["mask"], [[1, 1, 1], [1, 0, 0]] * 2)
        assert now.first.all()
        t, episode = 0, 0
        for _ in range(20):
            action = np.array([2, t % 2, 0, 0])
            now, t = batch.step(action), t + 1
            out, length = t > 2, 4 if episode % 2 == 0 else 3
            short = [0, 0, 0, 0, 1] if out else [-t, 0, 0, 0, 1]
            np.testing.assert_array_equal(now.final_obs, [[t, 10 * t, episode, 1, 0], short] * 2)
            paid = [0, 0] if out else [105 + action[1], 105 + action[3]]
            np.testing.assert_array_equal(now.reward, [2, paid[0], 0, paid[1]])
            ended = t == length
            np.testing.assert_array_equal(now.truncated, [ended and length == 4] * 4)
            np.testing.assert_array_equal(now.terminated, [ended and length == 3] * 4)
            np.testing.assert_array_equal(now.first, [ended] * 4)
            if ended:
                t, episode = 0, episode + 1
                np.testing.assert_array_equal(now.obs, [[0, 0, episode, 1, 0], [0, 0, 0, 0, 1]] * 2)
            else:
                np.testing.assert_array_equal(now.obs, now.final_obs)
            legal = [True, bool(t % 2), False] if t < 3 else [True, True, False]
            np.testing.assert_array_equal(now.info["mask"], [[1, 1, 1], legal] * 2)
        assert episode > 4


class Rllibs(Pair):
    """Calls what it sees as RLlib does."""

    def observation_space(self, agent):
        space = super().observation_space(agent)
        if agent == "long":
            return space
        return Dict({"observations": space["observation"], "action_mask": space["action_mask"]})

    def _see(self):
        seen = super()._see()
        if "short" in seen:
            seen["short"]["observations"] = seen["short"].pop("observation")
        return seen


def test_observations_may_have_another_name_beside_their_mask():
    named, plain = td.ParallelEnvironment(Rllibs), td.ParallelEnvironment(Pair)
    assert named.observation_space == plain.observation_space
    with named.batch(2) as one, plain.batch(2) as other:
        first, second = one.reset(), other.reset()
        np.testing.assert_array_equal(first.obs, second.obs)
        np.testing.assert_array_equal(first.info["mask"], second.info["mask"])


class NoInfos(Telling):
    """Its `infos` are none."""

    def reset(self, seed=None, options=None):
        return super().reset(seed, options)[0], None


class OtherMask(Telling):
    """Tells a mask of another size."""

    def apart(self, seen):
        seen, masks = super().apart(seen)
        masks["short"] = {"action_mask": np.ones(9, np.int8)}
        return seen, masks


class ToldPainters(Painters):
    """Acts in floats, and tells masks all the same."""

    def reset(self, seed=None, options=None):
        return super().reset(seed, options)[0], {agent: {"action_mask": np.ones(2)} for agent in self.agents}


def test_infos_of_other_kinds():
    env = td.ParallelEnvironment(NoInfos)  # whose masks are those of the actions that an agent has
    with env.batch(2, workers="serial") as batch:
        np.testing.assert_array_equal(batch.reset().info["mask"], [[1, 1, 1], [1, 1, 0]])
    with pytest.raises(td.IncompatibleError, match=r"action_mask in infos has shape \(9,\), not \(2,\)"):
        td.ParallelEnvironment(OtherMask)
    env = td.ParallelEnvironment(ToldPainters)
    assert not env.masked
    with env.batch(2, workers="serial") as batch:
        assert batch.reset().info == {}


def test_a_world_that_cannot_begin_is_named():
    def exits(*_, **__):
        raise SystemExit(3)

    with pytest.raises(td.EnvError, match="could not be made: SystemExit: 3"):
        td.ParallelEnvironment(exits, name="pair")
    broken = type("Broken", (Pair,), {"reset": exits})
    with pytest.raises(td.EnvError, match="pair failed in its first reset: SystemExit: 3"):
        td.ParallelEnvironment(broken)


def test_pictures_and_actions_in_floats():
    env = td.ParallelEnvironment(Painters)
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (2, 2, 1), np.uint8)
    with env.batch(4, workers="serial") as batch:
        now, rng = batch.reset(), np.random.default_rng(0)
        for t in range(1, 10):
            action = rng.uniform([-3, -1], [3, 6], (4, 2)).astype(np.float32)
            now = batch.step(action)
            taken = np.clip(action, [-2, 0], [2, 5])
            np.testing.assert_allclose(now.reward, taken @ [1, 100], rtol=1e-5)
            seen = (t - 1) % 4 + 1
            assert now.final_obs.dtype == np.uint8
            np.testing.assert_array_equal(now.final_obs[:, 0, 1, 0], [seen, 255 - seen] * 2)
            np.testing.assert_array_equal(now.obs[:, 1, 0, 0], [seen % 4, 255 - seen % 4] * 2)
            assert now.terminated.tolist() == [seen == 4] * 4


def test_a_world_that_fails_is_made_anew_where_that_is_asked_for():
    env, still = td.ParallelEnvironment(Painters, breaks=True), np.zeros((2, 2), np.float32)
    with env.batch(2, workers="serial", on_error="restart") as batch:
        batch.reset()
        times = [batch.step(still) for _ in range(6)]
        assert [bool(now.first.all()) for now in times] == [False, False, True] * 2
        assert batch.restarts == 2
    with env.batch(2, workers="serial") as batch:
        batch.reset()
        for _ in range(2):
            batch.step(still)
        with pytest.raises(td.EnvError, match="out of paint"):
            batch.step(still)


def test_a_task_that_ends_with_the_clock_has_ended():
    with td.ParallelEnvironment(Pair, fault="both").batch(2, workers="serial") as batch:
        times = [batch.reset(), *(batch.step(np.zeros(2, int)) for _ in range(7))]
    assert [int(now.truncated[0]) for now in times] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert [int(now.terminated[0]) for now in times] == [0, 0, 0, 0, 0, 0, 0, 1]


def test_an_agent_that_was_cut_early_is_not_forgotten():
    """Odd episodes end because `long` is done, one step after `short` was cut: its successor has a value."""
    for fault, cuts in (("", [4]), ("cut early", [4, 7])):
        with td.ParallelEnvironment(Pair, fault=fault).batch(2, workers="serial") as batch:
            batch.reset()
            times = [batch.step(np.array([0, t % 2])) for t in range(7)]
        ended = [t + 1 for t, now in enumerate(times) if now.first.all()]
        assert ended == [4, 7]
        assert [t + 1 for t, now in enumerate(times) if now.truncated.all()] == cuts
        assert all((now.terminated == (now.first & ~now.truncated)).all() for now in times)


def test_agents_who_all_have_ended_end_the_episode():
    with td.ParallelEnvironment(Pair, fault="stays").batch(2, workers="serial") as batch:
        times = [batch.reset(), *(batch.step(np.zeros(2, int)) for _ in range(7))]
    assert [int(now.first[0]) for now in times] == [1, 0, 0, 0, 1, 0, 0, 1]


def test_seeds_do_not_share_a_world(tmp_path):
    """Eight agents of three seeds are 24, which is a multiple of two agents, but not of whole worlds of three."""
    with pytest.raises(td.ConfigError, match="multiple of 3: 9, say"):
        td.train(td.PPO(num_envs=8), "pettingzoo/simple_spread_v3", 100, seeds=3, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", ["serial", "process"])
def test_simple_spread_beside_itself(workers):
    """mpe2's own environment, with the same seeds and actions, sees, pays and ends the same."""
    from mpe2 import simple_spread_v3

    env, rng = td.make("pettingzoo/simple_spread_v3", agent_ids=False), np.random.default_rng(0)
    worlds = [simple_spread_v3.parallel_env() for _ in range(2)]
    seen = [list(world.reset(seed=70_049 + i)[0].values()) for i, world in enumerate(worlds)]  # 7 * 10007 + i
    with env.batch(6, seed=7, workers=workers) as batch:
        now = batch.reset()
        np.testing.assert_array_equal(now.obs, np.concatenate(seen))
        for t in range(1, 26):
            action = rng.integers(0, 5, 6)
            now, rewards, seen = batch.step(action), [], []
            for i, world in enumerate(worlds):
                obs, paid, _, cut, _ = world.step(dict(zip(world.agents, action[3 * i : 3 * i + 3])))
                seen, rewards = seen + list(obs.values()), rewards + list(paid.values())
                assert all(cut.values()) == (t == 25)
            np.testing.assert_array_equal(now.final_obs, np.array(seen, np.float32))
            np.testing.assert_allclose(now.reward, rewards, rtol=1e-6)
            assert now.truncated.tolist() == [t == 25] * 6
            assert not now.terminated.any()
        assert not np.array_equal(now.obs, now.final_obs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_independent_ppo_on_simple_spread(tmp_path, seed):
    """The preset. Random play earns -27.2 for each agent (standard deviation of an episode 8.4)."""
    run = td.train("ppo", "pettingzoo/simple_spread_v3", 100_000, seed=seed, out=tmp_path, progress=False)
    reached = run.evaluate(episodes=100).mean
    print(f"simple_spread, seed {seed}: {reached:.1f}")
    assert reached > -23.5


def test_evaluation_is_per_agent_and_whole_worlds(tmp_path):
    """`Pair` pays `long` its action and `short` 105 and its action for two steps: an episode has one mean."""
    env = td.ParallelEnvironment(Pair)
    algorithm = td.PPO(num_envs=4, rollout_length=8, minibatch_size=16, epochs=1)
    run = td.train(algorithm, env, 64, out=tmp_path / "run", progress=False)
    result = run.evaluate(episodes=3)
    assert result.returns.shape == (1, 3)
    assert ((result.returns >= 105) & (result.returns <= 111)).all()
    assert set(result.lengths.ravel()) <= {3, 4}
    with pytest.raises(td.ConfigError, match="what its 2 agents do is not drawn"):
        run.watch(tmp_path / "film.gif")
    data = run.record(4, explore=True)  # from whom any number of agents may learn
    clone = td.train(td.BC(batch_size=2), env, 4, dataset=data, out=tmp_path / "clone", progress=False)
    assert clone.evaluate(episodes=1).returns.shape == (1, 1)


def turns():
    from mpe2 import simple_spread_v3

    return simple_spread_v3.env()


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: td.make("pettingzoo/simple_spred_v3"), td.UnknownNameError, "did you mean 'simple_spread_v3'"),
        (lambda: td.make("pettingzoo/simple_spread_v3", Q=3), td.ConfigError, "cannot be made"),
        (lambda: td.make("pettingzoo/simple_spread_v3", local_ratio=2), td.ConfigError, "cannot be made"),
        (lambda: td.make("pettingzoo/simple_spread_v3", name="x"), td.ConfigError, "named by its id"),
        (lambda: td.make(Pair()), td.ConfigError, "ParallelEnvironment"),
        (lambda: td.ParallelEnvironment(Pair()), td.ConfigError, "not a function that makes"),
        (lambda: td.ParallelEnvironment(turns), td.ConfigError, "give parallel_env"),
        (lambda: td.make(Pair), td.ConfigError, "ParallelEnvironment"),
        (lambda: td.ParallelEnvironment(dict), td.ConfigError, "not a PettingZoo ParallelEnv"),
        (lambda: td.ParallelEnvironment(Strange), td.IncompatibleError, "must see vectors"),
        (lambda: td.ParallelEnvironment(Pair).batch(3), td.ConfigError, "multiple: 4"),
        (lambda: td.ParallelEnvironment(Pair).batch(4).step(np.zeros(3, int)), td.ConfigError, "needs \\(4,\\)"),
    ],
)
def test_refusals(act, error, says):
    with pytest.raises(error, match=says):
        act()


def paint(dtype, shape=(2, 2, 1), value=0):
    return lambda seen: seen.update(long=np.full(shape, value, dtype))


@pytest.mark.parametrize(
    ("world", "show", "says"),
    [
        (Pair, lambda seen: seen.update(long=np.zeros(2)), r"observation of 'long' has shape \(2,\), its space says"),
        (Pair, lambda seen: seen.update(long=np.zeros(5)), r"observation of 'long' has shape \(5,\), its space says"),
        (Pair, lambda seen: seen.update(long=1.0), r"observation of 'long' has shape \(\), its space says \(3,\)"),
        (Pair, lambda seen: seen.pop("long"), "'long' is among its agents, and observations do not say what it sees"),
        (Pair, lambda seen: seen["short"].update(action_mask=np.ones(3)), r"action_mask of 'short' has shape \(3,\)"),
        (Painters, paint(np.uint8, (1, 2, 1)), r"observation of 'long' has shape \(1, 2, 1\), its space says"),
        (Painters, paint(np.float32, value=0.5), "has dtype float32, its space says uint8"),
        (Painters, paint(np.int64, value=300), "has dtype int64, its space says uint8"),
    ],
)
def test_what_an_agent_may_not_see_is_named(world, show, says):
    class Lying(world):
        def _see(self):
            seen = super()._see()
            if self.t == 1:
                show(seen)
            return seen

    with td.ParallelEnvironment(Lying).batch(4, workers="serial") as batch:
        batch.reset()
        with pytest.raises(td.EnvError, match=rf"environment 0 failed in step 1 .*{says}"):
            batch.step(np.zeros((4, *batch.worlds.action_space.shape[1:]), batch.worlds.action_space.dtype))


def test_a_reward_that_is_missing_is_named():
    class Stingy(Pair):
        def step(self, actions):
            seen, rewards, *more = super().step(actions)
            rewards.pop("short")
            return seen, rewards, *more

    with td.ParallelEnvironment(Stingy).batch(4, workers="serial") as batch:
        batch.reset()
        with pytest.raises(td.EnvError, match="'short' has played, and rewards do not say what it earned"):
            batch.step(np.zeros(4, int))


def test_bad_reward_names_the_world():
    with td.ParallelEnvironment(Pair, fault="nan").batch(4, workers="serial") as batch:
        batch.reset()
        with pytest.raises(td.EnvError, match=r"environment 0 failed in step 1 .*not finite"):
            batch.step(np.zeros(4, int))
