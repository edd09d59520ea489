"""A JAX environment that does not answer as it promised is told so, in its own terms, when a program is traced."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

import thorndike as td
from thorndike.drivers.health import health, sizes, strays
from thorndike.drivers.match import Random, match
from thorndike.envs.batched import Batched
from thorndike.errors import DivergedError, EnvError
from thorndike.nets.torso import example
from thorndike.runs.results.record import record
from thorndike.runs.storage import checkpoint
from thorndike.runs.training import loop
from thorndike.types import Transition

PPO = td.PPO(num_envs=2, rollout_length=4, minibatch_size=8, torso=td.Torso(widths=(4,)))
GOOD = td.Step({"t": jnp.int32(0)}, jnp.zeros(3), 1.0, False)


def mine(fresh: Any = GOOD, stepped: Any = GOOD, space: Any = None, limit: int = 10) -> Any:
    """An environment that answers what it is given here."""

    @td.config
    class Mine:
        max_steps: int = limit

        @property
        def observation_space(self):
            return space or Box(-1, 1, (3,))

        @property
        def action_space(self):
            return Discrete(2)

        def reset(self, key):
            return fresh

        def step(self, state, action, key):
            return stepped

    return Mine()


def asked(env: Any):
    """One reset and one step of two copies, as a program sees them."""
    world = Batched(env, 2)

    def ask(key):
        now = world.reset(key)
        return world.step(now, jnp.zeros(2, jnp.int32), key)

    return jax.eval_shape(ask, jax.random.key(0))


IMAGE = Box(0, 255, (8, 8, 3), np.uint8)
PAIR = Dict({"a": Box(-1, 1, (3,)), "b": Discrete(4)})
BAD = {
    "Mine.reset gives an observation .*float32.4. where float32.3. was due": {"fresh": GOOD._replace(obs=jnp.zeros(4))},
    "Mine.step gives an observation .*int32.3. where float32.3. was due": {
        "stepped": GOOD._replace(obs=jnp.zeros(3, jnp.int32))
    },
    "Mine.reset gives an observation .*float32.8, 8, 3. where uint8.8, 8, 3. was due": {
        "space": IMAGE, "fresh": GOOD._replace(obs=jnp.zeros((8, 8, 3))),
    },
    "a dict with .'a'. where a dict with .'a'., .'b'. was due": {
        "space": PAIR, "fresh": GOOD._replace(obs={"a": jnp.zeros(3)}),
    },
    "float32.. where int32.. was due, at .'b'.": {
        "space": PAIR, "fresh": GOOD._replace(obs={"a": jnp.zeros(3), "b": jnp.float32(0)}),
    },
    "Mine.step gives a reward of shape .1,.: it has to be one number": {"stepped": GOOD._replace(reward=jnp.ones(1))},
    "Mine.step gives a terminated of shape .3,.": {"stepped": GOOD._replace(terminated=jnp.zeros(3, bool))},
    r"Mine.reset must return td.Step\(.*and returned a tuple": {"fresh": (jnp.zeros(3), {})},
    "Mine.step must return td.Step.*and returned a tuple": {"stepped": (jnp.zeros(3), 1.0, False, False, {})},
    "the state that Mine.step gives .*float32.. where int32.. was due, at .'t'.": {
        "stepped": GOOD._replace(state={"t": jnp.float32(0)})
    },
    "the state that Mine.step gives .*a dict with .'t'., .'x'. where a dict with .'t'. was due": {
        "stepped": GOOD._replace(state={"t": jnp.int32(0), "x": jnp.zeros(2)})
    },
    "the info that Mine.step gives .*a dict with .'mask'. where a dict with nothing in it was due": {
        "stepped": GOOD._replace(info={"mask": jnp.ones(2, bool)})
    },
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_said(text):
    with pytest.raises(EnvError, match=text):
        asked(mine(**BAD[text]))


def test_episodes_after_the_first_are_looked_at_too():
    env = mine()
    type(env).again = lambda self, state, key: GOOD._replace(obs=jnp.zeros(4))
    with pytest.raises(EnvError, match=r"Mine.again gives an observation .*float32.4. where float32.3. was due"):
        asked(env)


def test_what_is_right_passes():
    for env in (
        mine(),
        mine(fresh=GOOD._replace(reward=0), stepped=GOOD._replace(terminated=jnp.int32(1))),
        mine(fresh=GOOD._replace(obs=np.zeros(3)), stepped=GOOD._replace(reward=np.float64(2))),
    ):
        now = asked(env)
        assert (now.obs.shape, now.reward.shape, now.terminated.dtype) == ((2, 3), (2,), bool)


@pytest.mark.parametrize("part", ["fresh", "stepped"])
def test_a_run_says_so_before_it_begins(part, tmp_path):
    with pytest.raises(EnvError, match=r"Mine.* gives an observation that is not of its space") as caught:
        td.train(PPO, mine(**{part: GOOD._replace(obs=jnp.zeros(4))}), 16, out=tmp_path / "run", progress=False)
    assert len(caught.traceback) < 6
    assert not (tmp_path / "run").exists()


# --- values, which are looked at where they come ----------------------------------------------------------------------


MANY = Dict({"z": Discrete(3, start=2), "a": Box(0, 9, (2,), np.uint8), "m": MultiDiscrete([2, 5]), "x": Box(-1, 1)})
FINE = {"z": 2, "a": [0, 9], "m": [1, 4], "x": [20.9]}  # whole numbers inside, a float by less than ten widths of 2


@td.config
class Straying:
    """Every observation is `fine`, but for one part of the `at`-th step over all episodes (0: of the reset)."""

    part: str
    value: tuple[int, ...]
    at: int
    max_steps = 3
    observation_space = MANY
    action_space = Discrete(2)

    def given(self, stray: Any) -> Any:
        obs = jax.tree.map(jnp.asarray, FINE, is_leaf=lambda x: isinstance(x, list))
        obs[self.part] = jnp.where(stray, jnp.asarray(self.value).reshape(obs[self.part].shape), obs[self.part])
        return {name: obs[name].astype(x.dtype) for name, x in example(MANY).items()}

    def reset(self, key):
        return td.Step(jnp.int32(0), self.given(self.at == 0), 0.0, False)

    def again(self, state, key):
        return td.Step(state, self.given(False), 0.0, False)

    def step(self, state, action, key):
        return td.Step(state + 1, self.given(state + 1 == self.at), 1.0, False)


@td.config
class Unequal:
    """Of some of its copies, told by a number that each shows, step `at` alone shows or earns infinity.

    Or, as the part "told", such a copy earns 2 instead of 1 with every step.
    """

    part: str
    at: int = 12
    max_steps = 20
    observation_space, action_space = Box(0, 1), Discrete(2)

    def reset(self, key):
        lot = jax.random.uniform(key, (1,))
        return td.Step((jnp.int32(0), lot), lot)

    def step(self, state, action, key):
        t, lot = state
        strange = jnp.where((t + 1 == self.at) & (lot < 0.4), jnp.inf, 0.0)
        obs, reward = (lot + strange, 1.0) if self.part == "observation_max" else (lot, 1.0 + strange[0])
        return td.Step((t + 1, lot), obs, 1.0 + (lot[0] < 0.4) if self.part == "told" else reward)

    def render(self, state):
        return np.zeros((8, 8, 3), np.uint8)


@td.config
class UnequalGame(Unequal):
    """The same for two players who take turns: the 12th move ends it, and wins or is strange as a copy is told by."""

    players = 2

    def step(self, state, action, key):
        t, lot = state
        later = Unequal.step(self, state, action, key)
        won = jnp.where((t == 11) & (lot[0] < 0.4), 1.0, 0.0)
        return later._replace(reward=won if self.part == "told" else later.reward - 1.0, terminated=t == 11)

    def player(self, state):
        return state[0] % 2


@pytest.mark.parametrize("part", ["observation_max", "reward_mean"])
@pytest.mark.parametrize("learner", ["PPO", "DQN", "a memory being filled"])
def test_the_environment_is_named(learner, part, tmp_path, monkeypatch):
    """The first at fault, which is fine again when its rollout of 8 steps ends.

    Of the six copies of seed 38 the third is the first, and not the only one.
    """
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    torso, copies = td.Torso(widths=(4,)), 6
    replay = td.Uniform(capacity=1000, batch_size=8, warmup=1000 if learner == "a memory being filled" else 8)
    algorithm = (
        td.PPO(num_envs=copies, rollout_length=8, minibatch_size=24, torso=torso)
        if learner == "PPO"
        else td.DQN(num_envs=copies, rollout_length=8, replay=replay, torso=torso)
    )
    with pytest.raises(DivergedError, match=rf"rollout/{part} .* at step 96 in environment \d") as caught:
        td.train(
            algorithm, Unequal(part=part), 1200, seed=38, out=tmp_path / "run", progress=False, checkpoint_every=0.0,
        )  # fmt: skip
    arrays, meta, _ = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert meta["iterations"] == 1
    (lots,) = [x for name, x in arrays.items() if name.endswith(".now.obs")]
    at_fault = lots[..., 0] < 0.4
    assert np.argwhere(at_fault).tolist() == [[0, 2], [0, 5]]
    assert " in environment 2." in str(caught.value)
    assert td.open_run(tmp_path / "run", classes=[Unequal]).status["error"] in str(caught.value)


@pytest.fixture(scope="module")
def innocent(tmp_path_factory):
    """A run on `Unequal` that ended before anything was strange."""
    path = tmp_path_factory.mktemp("unequal") / "run"
    td.train(PPO, Unequal(part="told"), 16, seeds=2, out=path, progress=False)
    return path


WHAT = {"observation_max": "showed an observation that is not finite", "reward_mean": "gave a reward that is not fin"}


@pytest.mark.parametrize("at", [12, Unequal.max_steps])
@pytest.mark.parametrize("part", WHAT)
def test_evaluation_and_recording_name_the_environment(innocent, part, at):
    right, wrong = (td.open_run(innocent, env=Unequal(part=kind, at=at)) for kind in ("told", part))
    for seed in range(3):
        first = np.flatnonzero(right.evaluate(6, seed=seed).returns[0] == 40)[0]
        text = rf"environment {first} \(Unequal\) {WHAT[part]}.*by step {at} of its episode"
        with pytest.raises(EnvError, match=text):
            wrong.evaluate(6, seed=seed)
        first = np.flatnonzero([x.rewards.sum() == 40 for x in record(right.agent(), right.env, 6, seed)])[0]
        with pytest.raises(EnvError, match=rf"environment {first} \(Unequal\) {WHAT[part]}"):
            wrong.record(6, seed=seed)


@pytest.mark.parametrize("part", WHAT)
def test_a_film_of_such_an_environment_is_not_made(innocent, part, tmp_path):
    right, wrong = (td.open_run(innocent, env=Unequal(part=kind)) for kind in ("told", part))
    assert right.watch(tmp_path / "right.gif", episodes=6).returns.count(40) > 0
    with pytest.raises(EnvError, match=rf"environment 0 \(Unequal\) {WHAT[part]}"):
        wrong.watch(tmp_path / "wrong.gif", episodes=6)
    assert not (tmp_path / "wrong.gif").exists()


@pytest.mark.parametrize("part", WHAT)
def test_a_match_names_the_game(part):
    right, wrong = (UnequalGame(part=kind) for kind in ("told", part))
    player, firsts = Random(right.action_space), set()
    for seed in range(6):
        fine = match(right, player, player, 7, seed)
        decided = np.flatnonzero(np.concatenate([-fine.first, fine.second]) == 1)  # by the 12th move, the second's
        assert set(fine.results) <= {-1, 0, 1}
        assert fine.lengths.tolist() == [12] * 7
        with pytest.raises(EnvError, match=rf"environment {decided[0]} \(UnequalGame\) {WHAT[part]}"):
            match(wrong, player, player, 7, seed)
        firsts.add(decided[0])
    assert len(firsts) > 1


def test_who_is_at_fault_by_brute_force():
    """Who showed it first, in time and then by index; who earned it, where nobody showed it."""
    rng, look = np.random.default_rng(0), jax.jit(partial(health, Box(0, 1, (2,))))
    named = set()
    for _ in range(200):
        obs, after = (rng.uniform(0, 1, (3, 4, 2)).astype(np.float32) for _ in range(2))
        reward = np.zeros((3, 4), np.float32)
        for values in (obs, after, reward):
            for _ in range(rng.integers(3)):
                values[tuple(rng.integers(values.shape))] = rng.choice([np.nan, np.inf, -np.inf])
        no = np.zeros((3, 4), bool)
        steps = Transition(obs, no, no, {}, reward, no, no, after, {})
        metrics, culprit, _ = look(steps)
        order = [(t, e) for t in range(3) for e in range(4)]
        showed = [e for t, e in order if not np.isfinite([*obs[t, e], *after[t, e]]).all()]
        earned = [e for t, e in order if not np.isfinite(reward[t, e])]
        assert culprit == (showed or earned or [-1])[0]
        assert np.isfinite(metrics["rollout/observation_max"]) == (not showed)
        assert np.isfinite(metrics["rollout/reward_mean"]) == (not earned)
        named.add(int(culprit))
    assert named == {-1, 0, 1, 2, 3}


@pytest.mark.parametrize(("part", "value", "at"), [("z", (5,), 0), ("a", (3, 10), 6)])
def test_values_outside_of_the_space_are_said_once(part, value, at, tmp_path, capfd):
    """In a reset, or in the last step of an episode: learning goes on."""
    run = td.train(PPO, Straying(part=part, value=value, at=at), 96, out=tmp_path / "run", progress=False)
    assert run.status["state"] == "finished"
    said = capfd.readouterr().err
    assert said.count(f"warning: an observation was as large as {max(value)}, outside of its space") == 1


STRAYS = {
    "z": [(1,), (5,)], "a": [(3, 10)], "m": [(-1, 0), (2, 0), (0, 5)], "x": [(22,), (-22,)],
}  # fmt: skip


@pytest.mark.parametrize(("part", "value"), [(part, value) for part in STRAYS for value in STRAYS[part]])
def test_which_values_are_outside(part, value):
    """Gymnasium says so too; one value of a batch is enough."""
    obs = {name: np.array(x, MANY[name].dtype) for name, x in FINE.items()}
    assert all(MANY[name].contains(obs[name]) for name in "zam")
    batch = {name: jnp.asarray(np.stack([x] * 4)) for name, x in obs.items()}
    assert strays(MANY, batch) == 0
    obs[part] = np.array(value, MANY[part].dtype).reshape(MANY[part].shape)
    assert not MANY[part].contains(obs[part])
    strayed = {name: x.at[2].set(obs[name]) for name, x in batch.items()}
    assert strays(MANY, batch, strayed) == max(abs(x) for x in value if x not in np.ravel(FINE[part])) > 0


def test_where_every_value_of_a_dtype_is_let_in_nothing_is_looked_at():
    assert sizes(IMAGE, np.zeros((2, 8, 8, 3), np.uint8)) == []
    assert strays(IMAGE, np.zeros((2, 8, 8, 3), np.uint8)) == 0


class Odd(gymnasium.Env):
    """On the host: its second step fails."""

    observation_space, action_space = Box(-1, 1, (3,)), Discrete(2)
    breaks = True

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.breaks and self.t == 2:
            raise ValueError("broken")
        return np.zeros(3, np.float32), 1.0, self.t == 3, False, {}


def test_a_run_that_failed_before_it_left_anything_leaves_its_directory_free(tmp_path, monkeypatch):
    with pytest.raises(EnvError, match="broken"):
        td.train(PPO, Odd, 16, out=tmp_path, workers="serial", progress=False)
    monkeypatch.setattr(Odd, "breaks", False)
    assert td.train(PPO, Odd, 16, out=tmp_path, workers="serial", progress=False).status["state"] == "finished"


@pytest.mark.parametrize("limit", [0, -1])
def test_a_time_limit_is_needed(limit, tmp_path):
    with pytest.raises(td.ConfigError, match=f"Mine needs max_steps, its time limit, in 32 bits: it is {limit}"):
        td.train(td.PPO(), mine(limit=limit), 1024, out=tmp_path / "run", progress=False)
