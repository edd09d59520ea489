"""Where environments on the host say which actions are legal, in which shapes, and what is never taken for that."""

from __future__ import annotations

import itertools
import logging
from functools import partial
from typing import Any

import gymnasium as gym
import host_cases as cases
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.masks import choosable, legal_sample, mask_sizes
from thorndike.errors import EnvError, IncompatibleError

BOX, BITS = Box(0, 1, (4,), np.float32), Box(0, 1, (4,), np.int8)


class Turns(gym.Env):
    """At time t the actions t % 4 and t % 4 + 1 are legal, told in a `way`; it insists on them. It ends by truncation.

    `parts` are those of the observation beside its mask.
    """

    action_space: Any = Discrete(4, start=3)

    def __init__(self, way="info", parts=("observation",)):
        self.way, self.parts, self.t = way, parts, 0
        inside = {part: BOX for part in parts} | {"action_mask": BITS}
        self.observation_space = Dict(inside) if way == "observation" else BOX
        if way == "method":
            self.action_masks = self.mask

    def mask(self):
        return np.isin(np.arange(4), [self.t % 4, (self.t + 1) % 4])

    def told(self):
        return self.mask()

    def row(self):
        """What is to be made of it."""
        return self.mask().tolist()

    def show(self):
        seen = np.eye(4, dtype=np.float32)[self.t % 4]
        if self.way == "observation":
            return dict.fromkeys(self.parts, seen) | {"action_mask": self.mask().astype(np.int8)}, {}
        return seen, {"action_mask": self.told()} if self.way == "info" else {}

    def allows(self, action):
        return self.mask()[action - 3]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.show()

    def step(self, action):
        assert self.allows(action), f"{action} is illegal"
        self.t += 1
        obs, info = self.show()
        return obs, 0.0, False, self.t == 6, info


class Masker(gym.Wrapper):
    """Has the method, as sb3-contrib's ActionMasker, around an environment that says nothing."""

    def action_masks(self):
        return list(self.env.unwrapped.mask())


class Rows(Turns):
    """Two parts: the first as above, of the second all. As the mask `given` has it."""

    action_space = MultiDiscrete([4, 2], start=[0, 1])
    given = staticmethod(lambda one, two: np.concatenate([one, two]))

    def told(self):
        return self.given(self.mask(), np.ones(2, bool))

    def row(self):
        return [*self.mask(), True, True]

    def allows(self, action):
        return self.mask()[action[0]]


class Bits(Turns):
    """Four bits that may be 1 where the action would be legal; where t % 4 is the place a bit has to be 1."""

    action_space = MultiBinary(4)
    shape: tuple[int, ...] = (4, 2)

    def told(self):
        return np.stack([np.arange(4) != self.t % 4, self.mask()], -1).reshape(self.shape)

    def row(self):
        return [choice for i in range(4) for choice in (i != self.t % 4, self.mask()[i])]

    def allows(self, action):
        return action[self.t % 4] == 1 and not (action.astype(bool) & ~self.mask()).any()


WAYS = {
    "info": Turns,
    "observation": partial(Turns, "observation"),
    "RLlib's observations": partial(Turns, "observation", ("observations",)),
    "an observation of several parts": partial(Turns, "observation", ("near", "far")),
    "method": partial(Turns, "method"),
    "a wrapper's method": lambda: Masker(Turns("nothing")),
    "below wrappers": lambda: gym.wrappers.TimeLimit(Masker(Turns("nothing")), 3),
    "MultiDiscrete": Rows,
    "MultiDiscrete in parts": lambda: with_given(lambda one, two: (one, two.astype(np.int8))),
    "MultiDiscrete in lists": lambda: with_given(lambda one, two: [one.tolist(), two.tolist()]),
    "MultiBinary": Bits,
    "MultiBinary, flat": lambda: with_shape((8,)),
}


def with_given(given):
    env = Rows()
    env.given = given
    return env


def with_shape(shape):
    env = Bits()
    env.shape = shape
    return env


def random_legal(space, mask, rng):
    """By hand: a choice of each part, from 0."""
    starts = np.cumsum([0, *mask_sizes(space)])
    chosen = [rng.choice(np.flatnonzero(mask[a:b])) for a, b in itertools.pairwise(starts)]
    return np.reshape(chosen, space.shape or ())


@pytest.mark.parametrize(("way", "workers"), [*((way, "serial") for way in WAYS), ("observation", "process")])
def test_legal_actions_are_found(way, workers):
    """As they are at what is seen, and at the true successor where an episode was cut."""
    env, rng, plain = GymnasiumEnvironment(WAYS[way]), np.random.default_rng(0), WAYS[way]().unwrapped
    assert env.masked
    with env.batch(2, 0, workers) as batch:
        now, t = batch.reset(), 0
        for _ in range(14):
            plain.t = t
            assert now.info["mask"].tolist() == [plain.row()] * 2
            now, t = batch.step(np.stack([random_legal(env.action_space, row, rng) for row in now.info["mask"]])), t + 1
            plain.t = t
            assert now.info["final_mask"].tolist() == [plain.row()] * 2
            t = 0 if now.truncated[0] else t


def test_the_observation_is_what_is_beside_the_mask():
    for parts, space in ((("observations",), BOX), (("near", "far"), Dict({"near": BOX, "far": BOX}))):
        env = GymnasiumEnvironment(Turns, way="observation", parts=parts)
        assert env.observation_space == space
        with env.batch(1) as batch:
            obs = batch.reset().obs
        np.testing.assert_array_equal(obs if space == BOX else obs["far"], np.eye(4)[:1])
    env = GymnasiumEnvironment(InInfoToo)  # told in `info`, the observation stays as it is
    assert (env.masked, env.observation_space) == (True, InInfoToo().observation_space)


class InInfoToo(Turns):
    """Says it twice."""

    def __init__(self):
        super().__init__("observation")

    def show(self):
        return super().show()[0], {"action_mask": self.mask()}


SHORT = {
    "one part": (lambda: with_given(lambda a, b: a), r'info\["action_mask"\] has shape \(4,\); .* needs \(6,\), or'),
    "padded": (lambda: with_given(lambda a, b: np.ones((2, 4))), r"has shape \(2, 4\); MultiDiscrete.* needs \(6,\)"),
    "padded parts": (lambda: with_given(lambda a, b: (a, a)), "parts of 4, 4 choices; .* arrays with 4, 2 entries"),
    "by value": (lambda: with_shape((2, 4)), r"has shape \(2, 4\); MultiBinary\(4\) needs \(8,\) or \(4, 2\): for"),
    "ragged": (lambda: with_given(lambda a, b: [a.tolist(), [[1], [1, 0]]]), "has parts of 4, 1, 2 choices"),
    "observation": (lambda: Sized("observation"), r'the observation\'s "action_mask" has shape \(3,\)'),
    "method": (lambda: Sized("method"), r"action_masks\(\) has shape \(3,\); Discrete\(4, start=3\) needs \(4,\)"),
    "continuous": (lambda: Sized("box"), "cannot be for Box.*: only Discrete, MultiDiscrete and MultiBinary actions"),
}  # fmt: skip


class Sized(Turns):
    """A mask of another size, or for no list of actions."""

    def __init__(self, way):
        super().__init__("info" if way == "box" else way)
        self.action_space = Box(0, 1) if way == "box" else self.action_space

    def mask(self):
        return np.ones(3, bool)


@pytest.mark.parametrize("name", SHORT)
def test_masks_of_another_size_are_refused_and_the_right_one_named(name):
    make, text = SHORT[name]
    with pytest.raises(IncompatibleError, match=text):
        GymnasiumEnvironment(make)


def test_a_mask_in_the_observation_of_continuous_actions_is_a_part_of_it():
    env = Turns("observation")
    env.action_space = Box(0, 1)
    made = GymnasiumEnvironment(env)
    assert (made.masked, made.observation_space) == (False, env.observation_space)


def test_a_mask_of_something_else_is_not_taken_for_legal_actions(caplog):
    class Sensors(cases.Counter):
        """Which of its two sensors are on."""

        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0], {"mask": np.array([1, 0])}

    with caplog.at_level(logging.WARNING, "thorndike"):
        env = GymnasiumEnvironment(Sensors)
        assert not env.masked
        with env.batch(2) as batch:
            assert batch.reset().info == {}
    (record,) = caplog.records
    assert 'info["mask"] has an entry for each action and is not used: legal actions are called' in record.getMessage()
    caplog.clear()
    GymnasiumEnvironment("CartPole-v1")
    assert not caplog.records


def test_a_method_that_asks_for_something_is_not_that_one():
    class Other(cases.Counter):
        def action_masks(self, state):
            return state

    assert not GymnasiumEnvironment(Other).masked


def test_steps_that_are_measured_are_legal():
    """To choose how to step, some are taken with random actions."""
    taken = []

    class Counted(Rows):
        def step(self, action):
            result = super().step(action)
            taken.append(action)
            return result

    GymnasiumEnvironment(Counted)._slow(8, 5.0, "raise")
    assert len(taken) == 30


FAILING = {
    "the observation has no 'action_mask', which its space has": partial(Turns, "observation"),
    r"info\['action_mask'\] allows no action": partial(Turns, "method"),
    r"info\['action_mask'\] has shape \(3,\); Discrete": Turns,
}


@pytest.mark.parametrize("text", FAILING)
def test_what_goes_wrong_later_is_said(text):
    class Later(gym.Wrapper):
        def step(self, action):
            result = super().step(action)
            if "observation" in text:
                result[0].pop("action_mask")
            elif "allows" in text:
                self.unwrapped.action_masks = lambda: np.zeros(4)
            else:
                result[4]["action_mask"] = np.ones(3)
            return result

    with GymnasiumEnvironment(lambda: Later(FAILING[text]())).batch(1) as batch:
        batch.reset()
        with pytest.raises(EnvError, match=rf"in step 1 .*: {text}"):
            batch.step(np.array([0]))


def test_one_part_without_a_choice_is_a_fault():
    """Though the other part has some."""
    env = with_given(lambda one, two: np.concatenate([one, two]))
    batch = GymnasiumEnvironment(env).batch(1)
    batch.reset()
    env.given = lambda one, two: np.concatenate([one, 0 * two])
    with pytest.raises(EnvError, match="allows no action"):
        batch.step(np.array([[0, 0]]))


def test_a_method_is_not_asked_where_the_task_has_ended():
    class Ends(Turns):
        def mask(self):
            assert self.t < 2, "over"
            return super().mask()

        def step(self, action):
            self.t += 1
            return np.zeros(4, np.float32), 1.0, self.t == 2, False, {}

    with GymnasiumEnvironment(lambda: Ends("method")).batch(1) as batch:
        batch.reset()
        batch.step(np.array([0]))
        assert batch.step(np.array([0])).info["final_mask"].all()


def test_workers_that_look_for_masks_do_not_import_jax():
    class Told(cases.Modules):
        def action_masks(self):
            return np.ones(2)

    with GymnasiumEnvironment(Told).batch(1, 0, "process") as batch:
        assert batch.reset().obs[0, 0] == 0.0


@pytest.mark.parametrize(
    "space", [Discrete(5, start=-2), MultiDiscrete([[2, 3], [1, 4]], start=[[1, 0], [0, 7]]), MultiBinary((2, 2))]
)
def test_samples_are_legal_and_all_that_is_legal_comes(space):
    sizes, rng = mask_sizes(space), np.random.default_rng(0)
    for _ in range(5):
        parts = [rng.permutation(np.arange(n) <= rng.integers(n)) for n in sizes]
        mask = np.concatenate(parts)
        assert choosable(mask, sizes)
        found = [legal_sample(space, mask) for _ in range(200)]
        assert all(space.contains(x) for x in found)
        taken = (np.stack(found) - getattr(space, "start", 0)).reshape(200, -1).astype(int)
        for column, part in zip(taken.T, parts):
            np.testing.assert_array_equal(np.unique(column), np.flatnonzero(part))


def test_what_leaves_a_choice_in_every_part():
    """All masks of parts of 2, 1 and 3 choices."""
    masks = np.array(list(np.ndindex(*[2] * 6)), bool)
    expected = [row[:2].any() and row[2] and row[3:].any() for row in masks]
    np.testing.assert_array_equal(choosable(masks, (2, 1, 3)), expected)
    np.testing.assert_array_equal(choosable(masks, (6,)), masks.any(1))


# --- to the end of a run ---------------------------------------------------------------------------------------------

PPO = td.PPO(torso=td.Torso(widths=(8,)), num_envs=4, rollout_length=16, minibatch_size=64, epochs=1)


@pytest.mark.parametrize(
    "way",
    [
        "RLlib's observations",
        "MultiBinary",
        pytest.param("method", marks=pytest.mark.slow),
        pytest.param("an observation of several parts", marks=pytest.mark.slow),
    ],
)
def test_runs_agents_and_datasets_keep_to_them(way, tmp_path):
    """The environment insists; the agent takes its observations as they are, and a dataset knows the masks."""
    run = td.train(PPO, WAYS[way], 128, out=tmp_path / "run", progress=False, workers="serial")
    assert run.evaluate(3).lengths.tolist() == [[6] * 3]
    run.agent().save(tmp_path / "agent.td")
    agent, env = td.load(tmp_path / "agent.td"), WAYS[way]()
    obs, info = env.reset(seed=0)
    for _ in range(6):
        mask = env.get_wrapper_attr("action_masks")() if way == "method" else info.get("action_mask")
        if mask is not None:
            with pytest.raises(IncompatibleError, match="say which those are"):
                agent.act(obs)
        obs, *_, info = env.step(agent.act(obs, mask=mask, explore=True))
    data = run.record(4, tmp_path / "data", explore=True)
    assert data.fit(run.spec).masks.shape == (4 * 7, 8 if way == "MultiBinary" else 4)
    bc = td.BC(torso=td.Torso(widths=(8,)))
    cloned = td.train(bc, WAYS[way], 20, dataset=data, out=tmp_path / "bc", progress=False, workers="serial")
    assert cloned.evaluate(3).lengths.tolist() == [[6] * 3]


def test_episodes_as_the_environment_gave_them_have_their_masks(tmp_path):
    env = Turns("observation", ("observations",))
    seen, actions = [env.reset(seed=0)[0]], []
    for _ in range(6):
        actions.append(3 + seen[-1]["action_mask"].argmax())
        seen.append(env.step(actions[-1])[0])
    observations = {name: np.stack([obs[name] for obs in seen]) for name in seen[0]}
    no, end = np.zeros(6, bool), np.arange(6) == 5
    data = td.Dataset.write(tmp_path / "data", [td.Episode(observations, actions, np.zeros(6), no, end)])
    spec = td.Spec(GymnasiumEnvironment(env).observation_space, env.action_space)
    batch = data.fit(spec)[np.arange(6)]
    np.testing.assert_array_equal(batch.info["mask"], observations["action_mask"][:-1])
    np.testing.assert_array_equal(batch.obs, observations["observations"][:-1])


def test_a_batch_of_observations_may_hold_masks(tmp_path):
    way = "RLlib's observations"
    agent = td.train(PPO, WAYS[way], 64, out=tmp_path / "run", progress=False, workers="serial").agent()
    masks = np.eye(4, dtype=np.int8)
    taken = agent.act({"observations": np.zeros((4, 4), np.float32), "action_mask": masks})
    assert taken.tolist() == [3, 4, 5, 6]
    assert agent.act(np.zeros(4, np.float32), mask=masks[2]) == 5
    with pytest.raises(IncompatibleError, match=r"the mask has shape \(3,\); Discrete"):
        agent.act(np.zeros(4, np.float32), mask=np.ones(3))
