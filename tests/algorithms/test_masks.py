"""Legal actions on their way from the environment to acting and learning, where they differ at every step; and where
there are none."""

import dataclasses
import re

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.drivers.host import HostDriver, Packed
from thorndike.drivers.match import Random, match
from thorndike.drivers.scan import rollout
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.batched import Batched, is_masked
from thorndike.nets.policy import PolicyHead
from thorndike.runs.storage.environments import describe
from thorndike.types import Rollout

LIMIT, KEY = 4, jax.random.key(0)
PPO = td.PPO(torso=td.Torso(widths=(8,)), num_envs=4, rollout_length=10, minibatch_size=40, epochs=1)
DQN = td.DQN(learning_rate=1e-3, torso=td.Torso(widths=(8,)), num_envs=4, rollout_length=10)


@td.config
class Turns:
    """At time t action t % 3 is illegal, and t is observed."""

    max_steps: int = LIMIT

    @property
    def observation_space(self):
        return Box(0, 10, (1,))

    @property
    def action_space(self):
        return Discrete(3)

    def show(self, t):
        return td.Step(t, jnp.float32(t)[None], 0.0, False, {"mask": jnp.arange(3) != t % 3})

    def reset(self, key):
        return self.show(jnp.int32(0))

    def step(self, t, action, key):
        return self.show(t + 1)


class HostTurns(gymnasium.Env):
    """The same on the host."""

    observation_space, action_space = Box(0, 10, (1,)), Discrete(3)

    def show(self):
        return np.array([self.t], np.float32), {"action_mask": np.arange(3) != self.t % 3}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.show()

    def step(self, action):
        assert action != self.t % 3, "an illegal action"
        self.t += 1
        obs, info = self.show()
        return obs, 0.0, False, self.t == LIMIT, info


SPEC = td.Spec(Turns().observation_space, Turns().action_space, 1000, masked=True)


def experience(algorithm, on_host):
    """A state, and a rollout of ten steps in which episodes are cut."""
    state = algorithm.init(jax.random.key(0), SPEC)
    if not on_host:
        world = Batched(Turns(), algorithm.num_envs)
        now = world.reset(jax.random.key(1))
        start = (algorithm.actor(state), algorithm.carry(None, algorithm.num_envs), now, jax.random.key(2))
        return state, rollout(algorithm, world, *start, "explore")[0]
    with HostDriver(algorithm, GymnasiumEnvironment(HostTurns), SPEC, [0], workers="serial") as driver:
        first = lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree)  # noqa: E731
        carry, key = first(algorithm.carry(None, algorithm.num_envs)), jax.random.split(jax.random.key(2), 1)
        agent = Packed(first(state))
        move = driver._act[False](driver.settings, agent, carry, driver.observe(), key, None)
        found = driver.rollout(agent, carry, key, None, move, False)[0]
    return state, jax.tree.map(lambda x: jnp.asarray(x)[0], found)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=["ppo", "dqn"])
def test_masks_are_those_of_what_is_seen(algorithm, on_host):
    """`mask` belongs to `obs` and `next_mask` to the true successor, also where an episode was cut."""
    steps = experience(algorithm, on_host)[1].steps
    assert steps.truncated.sum() == 2 * 4
    np.testing.assert_array_equal(steps.info["mask"], np.arange(3) != steps.obs % 3)
    np.testing.assert_array_equal(steps.info["next_mask"], np.arange(3) != steps.next_obs % 3)
    assert (steps.action != steps.obs[..., 0] % 3).all()


@pytest.mark.parametrize("core", [None, td.GRU(width=8)])
def test_the_first_pass_of_ppo_is_over_what_acted(core):
    """The ratio is 1 only for the distribution over legal actions."""
    algorithm = dataclasses.replace(PPO, core=core)
    state, found = experience(algorithm, False)
    assert abs(float(algorithm.learn(state, found, jax.random.key(0))[1]["approx_kl"])) < 1e-6
    blind = found._replace(steps=found.steps._replace(info={}))
    assert float(algorithm.learn(state, blind, jax.random.key(0))[1]["approx_kl"]) > 0.01


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=["ppo", "dqn"])
def test_actions_are_legal(algorithm, explore):
    state, t, no = algorithm.init(jax.random.key(0), SPEC), np.arange(300) % 9, jnp.zeros(300, bool)
    obs, mask = jnp.asarray(t, jnp.float32)[:, None], jnp.arange(3) != t[:, None] % 3
    now = td.Timestep(obs, jnp.zeros(300), no, no, obs, no, {"mask": mask})
    action, *_ = algorithm.act(algorithm.actor(state), algorithm.carry(None, 300), now, jax.random.key(0), explore)
    assert mask[np.arange(300), action].all()


@td.config
class Whole:
    """Of two bits and of a choice of three it says in a `form` what is legal, by the time t, which is observed."""

    form: str = "pairs"
    max_steps: int = LIMIT

    @property
    def observation_space(self):
        return Box(0, 10, (1,))

    @property
    def action_space(self):
        return MultiDiscrete([2, 3], start=[1, 0]) if self.form == "parts" else MultiBinary(2)

    def show(self, t):
        bits = jnp.array([[[True, True], [True, False]], [[False, True], [True, True]]])[t % 2]  # may be 0, may be 1
        forms = {
            "pairs": lambda: bits,
            "flat": lambda: bits.ravel(),
            "parts": lambda: (bits[0], jnp.arange(3) != t % 3),
        }
        return td.Step(t, jnp.float32(t)[None], 0.0, False, {"mask": forms[self.form]()})

    def reset(self, key):
        return self.show(jnp.int32(0))

    def step(self, t, action, key):
        return self.show(t + 1)


@pytest.mark.parametrize("how", ["explore", "random", "exploit"])
@pytest.mark.parametrize("form", ["pairs", "flat", "parts"])
def test_masks_of_several_parts_are_kept_to(form, how):
    """In every form, and all that is legal is done; two actions of each part where both are legal."""
    env = Whole(form=form)
    algorithm = dataclasses.replace(PPO, num_envs=64, rollout_length=8, minibatch_size=512)
    spec = td.Spec(env.observation_space, env.action_space, 1000, masked=True)
    state, world = algorithm.init(jax.random.key(0), spec), Batched(env, 64)
    start = (algorithm.actor(state), algorithm.carry(None, 64), world.reset(jax.random.key(1)), jax.random.key(2))
    steps = rollout(algorithm, world, *start, how)[0].steps
    assert steps.info["mask"].dtype == bool
    t, action = np.asarray(steps.obs[..., 0], int), np.asarray(steps.action)
    for time in range(LIMIT):
        first, second = action[t == time].T
        if form == "parts":
            legal = ({0, 1} if time % 2 == 0 else {1}, {0, 1, 2} - {time % 3})
        else:
            legal = ({0, 1}, {0}) if time % 2 == 0 else ({1}, {0, 1})
        for taken, allowed in ((first, legal[0]), (second, legal[1])):
            assert set(taken) <= allowed if how == "exploit" else set(taken) == allowed
    if how != "random":
        assert abs(float(algorithm.learn(state, Rollout(steps, start[1], start[2]), KEY)[1]["approx_kl"])) < 1e-6


def test_bits_that_are_not_free_add_nothing():
    """To the likelihood and the entropy; those that are free are as without a mask (SciPy's)."""
    head = PolicyHead(jax.random.key(0), 3, MultiBinary(4))
    head = eqx.tree_at(lambda h: h.linear.bias, head, jnp.array([0.3, -2.0, 1.0, 40.0]))
    features = np.random.default_rng(0).normal(0, 30, (50, 3)).astype(np.float32)
    mask = jnp.array([[1, 1], [0, 1], [1, 0], [1, 1]], bool)
    p = scipy.special.expit(np.asarray(head.linear(features), float))
    rows = jnp.broadcast_to(mask.ravel(), (50, 8))
    pi = head(jnp.asarray(features), rows)
    samples = np.asarray(jax.vmap(pi.sample)(jax.random.split(jax.random.key(1), 2000)))
    assert (samples[..., 1] == 1).all()
    assert (samples[..., 2] == 0).all()
    free = scipy.stats.bernoulli(p[:, [0, 3]])
    np.testing.assert_allclose(samples[..., [0, 3]].mean(0), p[:, [0, 3]], atol=0.06)
    np.testing.assert_allclose(pi.entropy(), free.entropy().sum(-1), atol=1e-5)
    action = samples[0]
    np.testing.assert_allclose(pi.log_prob(action), free.logpmf(action[:, [0, 3]]).sum(-1), rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda h: h(jnp.asarray(features), rows).entropy().sum())(head)
    assert np.isfinite(gradient.linear.weight).all()
    assert (gradient.linear.bias[1:3] == 0).all()


def test_an_agent_asks_which_actions_are_legal(tmp_path):
    agent = td.train(PPO, Turns(), 40, out=tmp_path / "run", progress=False).agent()
    for t in range(3):
        with pytest.raises(td.IncompatibleError, match="say which those are, mask="):
            agent.act(np.array([t], np.float32))
        mask = np.arange(3) == t
        assert agent.act(np.array([t], np.float32), mask=mask) == t


@pytest.mark.parametrize("env", [Turns(), HostTurns], ids=["jax", "host"])
def test_legal_actions_are_recorded_and_learned_with(env, tmp_path):
    """A policy that knows nothing yet gives each of the two legal actions 1/2."""
    small = {"torso": td.Torso(widths=(8,)), "replay": td.Uniform(capacity=100, batch_size=8, warmup=8)}
    dqn = td.DQN(**small)
    dataset = td.train(dqn, env, 60, out=tmp_path / "run", progress=False).record(40, explore=True)
    bc = td.BC(torso=td.Torso(widths=(8,)))
    run = td.train(bc, env, 1, dataset=dataset, out=tmp_path / "bc", progress=False)
    assert run.metrics()["train/log_likelihood"][0] == pytest.approx(np.log(1 / 2), abs=0.02)
    batch = dataset[np.arange(len(dataset))]
    np.testing.assert_array_equal(batch.info["mask"], np.arange(3) != batch.obs % 3)
    np.testing.assert_array_equal(batch.info["next_mask"], np.arange(3) != batch.next_obs % 3)
    learned = td.train(dqn, env, 20, dataset=dataset, out=tmp_path / "off", progress=False)
    assert learned.status["state"] == "finished"


# --- where there are none --------------------------------------------------------------------------------------------


@td.config
class Blocked:
    """From time `at` on nothing is legal, in the copies whose number is high; of MultiDiscrete the second part.

    With `ends` the episode terminates then, which is no fault; else it may be cut there. `looks` says what it shows.
    """

    at: int = 4
    parts: bool = False
    ends: bool = False
    max_steps: int = 4

    observation_space = Box(0, 10, (2,))

    @property
    def action_space(self):
        return MultiDiscrete([2, 2]) if self.parts else Discrete(2)

    def show(self, t, lot):
        some = (t < self.at) | (lot < 0.5)
        mask = jnp.stack([jnp.bool_(True)] * 2 + [some] * 2) if self.parts else jnp.stack([some] * 2)
        over = (t >= self.at) & self.ends
        return td.Step((t, lot), jnp.stack([jnp.float32(t), lot]), 1.0, over, {"mask": mask})

    def reset(self, key):
        return self.show(jnp.int32(0), jax.random.uniform(key))

    def step(self, state, action, key):
        return self.show(state[0] + 1, state[1])

    def render(self, state):
        return np.zeros((4, 4, 3), np.uint8)


REPLAY = td.Uniform(capacity=1000, batch_size=8, warmup=8)
WARM = dataclasses.replace(DQN, replay=dataclasses.replace(REPLAY, warmup=1000), rollout_length=1)
LEARNING = dataclasses.replace(DQN, replay=REPLAY, rollout_length=1)
TEXT = r"rollout/legal_actions was the first .* at step {} in environment {}.*allowed no action: info\[\"mask\"\]"


@pytest.mark.parametrize(
    ("algorithm", "env", "step"),
    [
        (PPO, Blocked(), 40),  # with its rollout of 10 steps, in the fourth of which the episode is cut
        (LEARNING, Blocked(), 16),
        (WARM, Blocked(), 16),
        (LEARNING, Blocked(at=0), 4),  # in the reset
        (LEARNING, Blocked(at=2), 8),  # in the midst of an episode: where the second step led to
        (PPO, Blocked(parts=True), 40),
    ],
)
def test_a_run_in_which_nothing_is_legal_stops(algorithm, env, step, tmp_path):
    world = Batched(env, 4)
    with pytest.raises(td.DivergedError, match="legal_actions") as caught:
        td.train(algorithm, env, 400, out=tmp_path / "run", progress=False)
    found = re.search(TEXT.format(step, r"(\d)"), str(caught.value))
    assert found, caught.value
    lots = jax.jit(world.reset)(jax.random.split(jax.random.key(0), 3)[1]).obs[:, 1]
    assert lots[int(found.group(1))] >= 0.5
    assert (lots[: int(found.group(1))] < 0.5).all()


def test_where_the_task_ends_nothing_needs_to_be_legal(tmp_path):
    run = td.train(LEARNING, Blocked(ends=True, max_steps=9), 200, out=tmp_path / "run", progress=False)
    assert run.status["state"] == "finished"
    mean = run.metrics()["rollout/legal_actions"]
    assert (mean[np.isfinite(mean)] > 1).all()
    assert run.evaluate(6).lengths.tolist() == [[4] * 6]
    blocked = td.open_run(run.path, env=Blocked(max_steps=9))
    for look in (lambda: blocked.evaluate(6), lambda: blocked.record(6), lambda: blocked.watch(episodes=9)):
        with pytest.raises(
            td.EnvError, match=r"environment \d \(Blocked\) allowed no action: info\[\"mask\"\] was false"
        ):
            look()


@td.config
class BlockedGame(Blocked):
    """The same for two players."""

    players = 2

    def player(self, state):
        return state[0] % 2


def test_a_game_in_which_nothing_is_legal_is_no_match():
    anyone = Random(Blocked().action_space)
    assert len(match(BlockedGame(ends=True), anyone, anyone, 6).results) == 6
    with pytest.raises(td.EnvError, match=r"environment \d \(BlockedGame\) allowed no action"):
        match(BlockedGame(max_steps=9), anyone, anyone, 6)


WRONG = {
    "Answers.reset gives info..mask.., which has shape .3,.; Discrete.2. needs .2,.": {"mask": jnp.ones(3, bool)},
    "Answers.reset gives info with an .action_mask.: JAX environments tell legal actions as info..mask..": {
        "action_mask": jnp.ones(2, bool)
    },
    "Answers.reset gives an observation with an .action_mask.: JAX environments tell legal actions as info": {},
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mask_that_does_not_fit_is_said_before_a_run_begins(text, tmp_path):
    @td.config
    class Answers(Turns):
        @property
        def action_space(self):
            return Discrete(2)

        @property
        def observation_space(self):
            return Dict({"t": Box(0, 10, (1,)), "action_mask": MultiBinary(2)})

        def show(self, t):
            seen = {"t": jnp.float32(t)[None], "action_mask": jnp.ones(2, jnp.int8)}
            return td.Step(t, seen, 0.0, False, WRONG[text])

    with pytest.raises(td.EnvError, match=text):
        td.train(PPO, Answers(), 40, out=tmp_path / "run", progress=False)


def test_whether_there_are_masks_is_seen_in_the_first_step():
    """Also through wrappers, and without an attribute of the environment's that says so."""
    assert not hasattr(Turns, "masked")
    for env in (Turns(), td.TimeLimit(env=Turns(), steps=3), td.StickyActions(env=Turns()), td.FrameStack(env=Whole())):
        assert is_masked(env)
        assert describe(env, 1, "").masked
    assert not is_masked(td.CartPole())
    assert is_masked(GymnasiumEnvironment(HostTurns))


def test_a_dataset_without_masks_is_refused_where_there_are_some(tmp_path):
    no, end = np.zeros(4, bool), np.arange(4) == 3
    episode = td.Episode(np.zeros((5, 1), np.float32), np.ones(4, int), np.zeros(4), no, end)
    data = td.Dataset.write(tmp_path / "data", [episode])
    with pytest.raises(td.IncompatibleError, match="does not say which actions were legal"):
        td.train(LEARNING, Turns(), 10, dataset=data, out=tmp_path / "run", progress=False)
    no_choice = np.ones((5, 4), bool)
    no_choice[-1, 2:] = False
    pairs = episode._replace(actions=np.zeros((4, 2), int), masks=no_choice, observations=np.zeros((5, 2), np.float32))
    blocked = Blocked(parts=True)
    with pytest.raises(td.ConfigError, match="masks that allow nothing where an episode was cut"):
        td.Dataset.write(tmp_path / "pairs", [pairs]).fit(describe(blocked, 1, ""))
