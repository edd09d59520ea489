"""Tabular methods against dynamic programming, on the cliff, in Gymnasium's toy environments, over any finite spaces.

Cliff walking (Sutton & Barto, example 6.6): 500 episodes, α = 0.5, γ = 1, ε = 0.1, 20 seeds. Thresholds from exact runs
of the algorithms' definitions: online returns -49.5 ± 6.4 (Q-learning), -27.1 ± 6.3 (SARSA), -20.0 ± 1.4 (Expected
SARSA).
"""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from trained import greedy, trained

import thorndike as td
from thorndike.algorithms.tabular import td_control
from thorndike.algorithms.tabular.numbering import Numbering
from thorndike.drivers.scan import ScanDriver
from thorndike.envs import BUILT_IN
from thorndike.runs.storage.environments import describe

STEPS = {"q-learning": 9_000, "sarsa": 14_000, "expected-sarsa": 9_000}  # about 500 episodes each
CLASSES = {"q-learning": td.QLearning, "sarsa": td.SARSA, "expected-sarsa": td.ExpectedSARSA}


def cliff(tmp_path, name, **fields):
    algorithm = td.preset(name, "CliffWalking-v1", **fields)
    run = trained(tmp_path, algorithm, "CliffWalking-v1", STEPS[name], seeds=20)
    return run, np.array(run.status["return_mean"])


def check(name, run, online):
    if name == "q-learning":
        assert (greedy(run, 2) == -13).all(), greedy(run, 2)
        assert -60 < online.mean() < -40, online.mean()
    else:
        assert online.mean() > {"sarsa": -35, "expected-sarsa": -24}[name], online.mean()


@pytest.mark.parametrize("name", STEPS)
def test_cliff_walking(name, tmp_path):
    run, online = cliff(tmp_path, name)
    assert 300 < run.metrics()["rollout/episodes"][-1].mean() < 900
    check(name, run, online)


def test_the_three_targets_in_closed_form():
    """One update from a known table: max, expectation under ε-greedy, and the action that was taken next."""
    from thorndike.types import Rollout, Transition

    q = np.array([[1.0, 2.0, 3.0], [4.0, 8.0, 6.0]], np.float32)
    now = Transition(
        obs=np.array([[0], [1]]), first=np.zeros((2, 1), bool), action=np.array([[1], [2]]), extras={},
        reward=np.array([[10.0], [0.0]], np.float32), terminated=np.array([[False], [True]]),
        truncated=np.zeros((2, 1), bool), next_obs=np.array([[1], [0]]), info={},
    )  # fmt: skip
    epsilon = 0.3
    expected = {
        "q-learning": 10 + 0.9 * 8.0,
        "expected-sarsa": 10 + 0.9 * (0.7 * 8.0 + 0.3 * 6.0),
        "sarsa": 10 + 0.9 * 6.0,
    }

    for name, target in expected.items():
        algorithm = CLASSES[name](discount=0.9, learning_rate=0.5, exploration=td.Epsilon(start=epsilon, end=epsilon))
        state = algorithm.init(jax.random.key(0), td.Spec(Discrete(2), Discrete(3), 100))._replace(q=jax.numpy.array(q))
        after, _ = algorithm.learn(state, Rollout(now, (), None), jax.random.key(1))
        assert np.isclose(after.q[0, 1], 2.0 + 0.5 * (target - 2.0)), name
        if name != "sarsa":  # its second step still waits
            assert np.isclose(after.q[1, 2], 6.0 + 0.5 * (0.0 - 6.0)), name


def learned(algorithm, q, obs, action, reward, next_obs, terminated=True, mask=None):
    """The table after one step [E] from `q`; SARSA finishes it with the next one, in another episode or the same."""

    from thorndike.types import Rollout, Transition

    obs, action, next_obs, reward = (np.atleast_2d(x) for x in (obs, action, next_obs, np.float32(reward)))
    ended = np.full(obs.shape, terminated)
    info = {} if mask is None else {"next_mask": np.asarray(mask)[None]}
    steps = Transition(obs, ended & False, action, {}, reward, ended, ~ended, next_obs, info)
    state = algorithm.init(jax.random.key(0), td.Spec(Discrete(q.shape[0]), Discrete(q.shape[1]), 100))
    state, _ = algorithm.learn(state._replace(q=jax.numpy.array(q)), Rollout(steps, (), None), jax.random.key(1))
    if isinstance(algorithm, td.SARSA):
        begun = steps._replace(first=~steps.first)
        state, _ = algorithm.learn(state, Rollout(begun, (), None), jax.random.key(1))
    return np.asarray(state.q)


@pytest.mark.parametrize("name", STEPS)
def test_environments_that_meet_move_a_value_by_their_mean(name):
    """Six of eight took the same action in the same state: Q moves by α times their mean error, not by their sum."""
    algorithm = CLASSES[name](num_envs=8, learning_rate=0.5)
    reward = [-1, -2, -3, -1, -2, -3, -4, -8]
    after = learned(algorithm, np.zeros((2, 2), np.float32), [0] * 7 + [1], [1] * 6 + [0, 1], reward, [0] * 8)
    np.testing.assert_allclose(after, [[-2.0, -1.0], [0.0, -4.0]])


@pytest.mark.parametrize("name", STEPS)
def test_what_is_not_legal_next_is_worth_nothing(name):
    """Truncated, so that SARSA too takes the policy's mean: of the legal actions, of which the best is worth 6."""
    q = np.array([[1.0, 2.0, 3.0], [4.0, 8.0, 6.0]], np.float32)
    algorithm = CLASSES[name](num_envs=1, discount=0.9, learning_rate=0.5, exploration=td.Epsilon(start=0.3, end=0.3))
    legal, all_of_them = 0.7 * 6.0 + 0.3 * 5.0, 0.7 * 8.0 + 0.3 * 6.0
    for mask, best, mean in (([[True, False, True]], 6.0, legal), (None, 8.0, all_of_them)):
        after = learned(algorithm, q, 0, 1, 10.0, 1, False, mask)
        target = 10 + 0.9 * (best if name == "q-learning" else mean)
        np.testing.assert_allclose(after[0, 1], 2.0 + 0.5 * (target - 2.0), rtol=1e-6)


@pytest.mark.parametrize("explore", [False, True])
def test_a_tables_actions_are_legal(explore):

    algorithm = td.QLearning(exploration=td.Epsilon(start=0.5, end=0.5))
    state = algorithm.init(jax.random.key(0), td.Spec(Discrete(1), Discrete(3), 100))
    state, no = state._replace(q=np.float32([[1, 2, 3]])), np.zeros(300, bool)
    obs, mask = np.zeros(300, int), np.tile([True, True, False], (300, 1))
    now = td.Timestep(obs, np.zeros(300), no, no, obs, no, {"mask": mask})
    action, *_ = algorithm.act(algorithm.actor(state), (), now, jax.random.key(0), explore)
    assert set(np.asarray(action).tolist()) == ({0, 1} if explore else {1})


def test_a_step_that_waited_when_a_run_was_resumed_is_not_finished_by_another_episode():

    from thorndike.types import Rollout, Transition

    algorithm = td.SARSA(num_envs=2)
    state = algorithm.init(jax.random.key(0), td.Spec(Discrete(4), Discrete(2), 100))
    waiting = {name: np.full(2, value) for name, value in {"s": 0, "a": 1, "next": 1}.items()}
    waiting |= {"known": np.array([0, 1]), "target": np.array([5.0, 7.0])}
    no = np.zeros((1, 2), bool)
    then = Transition(
        obs=np.full((1, 2), 2), first=~no, action=np.ones((1, 2), int), extras={}, reward=np.zeros((1, 2)),
        terminated=no, truncated=no, next_obs=np.full((1, 2), 3), info={},
    )  # fmt: skip
    for steps, learned in ((then, 7.0), (then._replace(first=no), 6.0)):  # the one whose episode had ended; both
        after, _ = algorithm.learn(state._replace(waiting=waiting), Rollout(steps, (), None), jax.random.key(1))
        expected = algorithm.learning_rate * learned
        assert np.isclose(after.q[0, 1], expected), (after.q, expected)


def test_swapped_targets_learn_the_other_path(tmp_path, monkeypatch):
    """Q-learning's maximum in SARSA's place walks the cliff's edge; an expectation in Q-learning's place does not."""
    monkeypatch.setattr(td.ExpectedSARSA, "next_value", td.QLearning.next_value)
    _, online = cliff(tmp_path, "expected-sarsa")
    assert online.mean() < -40, online.mean()  # as Q-learning's own
    monkeypatch.undo()
    average = lambda self, q, level, mask: (self.exploration.probabilities(q, level, mask) * q).sum(-1)  # noqa: E731
    monkeypatch.setattr(td.QLearning, "next_value", average)
    run, online = cliff(tmp_path, "q-learning")
    assert (greedy(run, 2) == -15).mean() > 0.5  # a row away from the edge
    assert online.mean() > -30, online.mean()


def test_an_unmasked_termination_misses_the_value_of_the_start(tmp_path, monkeypatch):
    """The start is worth -13. Values that go on beyond the goal, where the table was never touched, are not."""

    def value_of_the_start():
        run, _ = cliff(tmp_path, "q-learning", initial_value=5.0)
        return np.asarray(run.agent().actor.q)[36].max()

    assert abs(value_of_the_start() + 13) < 0.5
    monkeypatch.setattr(
        td_control, "td_target", lambda reward, next_value, terminated, discount: reward + discount * next_value
    )
    assert abs(value_of_the_start() + 13) > 4


# --- dynamic programming ----------------------------------------------------------------------------------------------


SLIPPERY = td.GridWorld(map=("...", "S#C", "..G"), step_reward=-1.0, goal_reward=5.0, cliff_reward=-5.0, slip=0.3)
RANDOM = td.Epsilon(start=1.0, end=1.0)


def optimal_values(env, discount):
    """Q* [S, A] by value iteration: Q(s, a) <- R(s, a) + γ Σ_s' P(s' | s, a) max_a' Q(s', a')."""
    probability, reward, _ = env.transitions()
    q = np.zeros_like(reward)
    for _ in range(10_000):
        new = reward + discount * probability @ q.max(1)
        if np.abs(new - q).max() < 1e-10:
            break
        q = new
    return q


def random_values(env, discount):
    """Q of the uniformly random policy [S, A], by a linear system: V = r + γ P V, averaged over actions."""
    probability, reward, _ = env.transitions()
    v = np.linalg.solve(np.eye(len(reward)) - discount * probability.mean(1), reward.mean(1))
    return reward + discount * probability @ v


def error_of(tmp_path, name):
    """How far the values that a random walk teaches are from the exact ones, at the most, over cells that are visited;
    Q-learning's should be the optimal policy's, the others' the random policy's. Of 3 seeds [R]."""
    algorithm = CLASSES[name](learning_rate=td.Linear(0.1, 0.0), discount=0.9, exploration=RANDOM, num_envs=16)
    run = trained(tmp_path, algorithm, SLIPPERY, 1_000_000, seeds=3)
    exact = (optimal_values if name == "q-learning" else random_values)(SLIPPERY, 0.9)
    visited = [i for i, char in enumerate("".join(SLIPPERY.map)) if char in "S."]
    return np.abs(np.asarray(run.actors().q)[:, visited] - exact[visited]).max((1, 2))


@pytest.mark.parametrize("name", STEPS)
def test_values_are_those_of_dynamic_programming(name, tmp_path):
    assert (error_of(tmp_path, name) < 0.4).all()


def test_a_table_that_learns_the_wrong_policys_values_misses_them(tmp_path, monkeypatch):
    monkeypatch.setattr(td.ExpectedSARSA, "next_value", td.QLearning.next_value)
    assert (error_of(tmp_path, "expected-sarsa") > 1).all()


# --- ties -------------------------------------------------------------------------------------------------------------


def test_greedy_actions_share_ties_and_look_says_so():
    """Of five actions two are best, and of the three that the mask leaves two others: each half of the time."""
    algorithm, n = td.QLearning(), 4_000
    state = algorithm.init(jax.random.key(0), td.Spec(Discrete(1), Discrete(5), 100))
    actor = algorithm.actor(state._replace(q=jnp.array([[2.0, 1.0, 2.0, 1.0, 0.0]])))
    no, obs = np.zeros(n, bool), np.zeros(n, int)
    for mask, best in ((None, {0, 2}), ([False, True, False, True, True], {1, 3})):
        info = {} if mask is None else {"mask": np.tile(mask, (n, 1))}
        now = td.Timestep(obs, np.zeros(n), no, no, obs, no, info)
        action = np.asarray(algorithm.act(actor, (), now, jax.random.key(1), False)[0])
        expected = [0.5 if a in best else 0.0 for a in range(5)]
        np.testing.assert_allclose(np.exp(algorithm.look(actor, (), now, False)[0].pi.log_probs[0]), expected)
        counts = np.bincount(action, minlength=5)
        assert set(np.flatnonzero(counts)) == best
        assert np.abs(counts[list(best)] / n - 0.5).max() < 5 * 0.5 / np.sqrt(n)


def test_evaluation_is_no_worse_than_training_where_many_actions_are_best(tmp_path, monkeypatch):
    """Without a discount every way to the goal of FourRooms is worth 1. Taking the first of equal actions walks in
    circles: half of the episodes never arrive."""
    run = trained(tmp_path, td.QLearning(discount=1.0, learning_rate=0.5), "FourRooms", 100_000, seeds=2)
    assert (greedy(run, 40) > 0.9).all(), greedy(run, 40)
    monkeypatch.setattr(td_control, "choose_best", lambda key, values, mask=None: values.argmax(-1))
    assert (greedy(run, 41) < 0.8).all(), greedy(run, 41)


# --- bonuses for what was tried seldom --------------------------------------------------------------------------------


def bonus_run(tmp_path, env, count_bonus, name="q-learning"):
    algorithm = td.preset(name, env, count_bonus=count_bonus)
    return trained(tmp_path, algorithm, env, {"RiverSwim": 100_000, "DeepSea": 20_000}[env], seeds=3)


@pytest.mark.parametrize("env", ["RiverSwim", "DeepSea"])
def test_a_count_bonus_explores(env, tmp_path):
    """Where a small reward is near and a large one far, and where one dive of 1,024 pays: with it, not without."""
    least, without = {"RiverSwim": (10.0, 1.0), "DeepSea": (0.98, 0.1)}[env]
    assert (greedy(bonus_run(tmp_path, env, td.preset("q-learning", env).count_bonus)) >= least).all()
    assert (greedy(bonus_run(tmp_path, env, None)) <= without).all()


@pytest.mark.slow
def test_a_bonus_that_never_shrinks_does_not(tmp_path, monkeypatch):
    """Where visits are not counted, what was tried first looks best for ever."""
    moved = td.QLearning.moved
    monkeypatch.setattr(td.QLearning, "moved", lambda self, q, visits, *a: (moved(self, q, visits, *a)[0], visits))
    assert (greedy(bonus_run(tmp_path, "DeepSea", 0.1)) <= 0.1).all()


def test_the_values_are_those_of_mbie_eb():
    """For given visits: Q(s, a) = R + γ Σ P(s' | s, a) max_a' [Q(s', a') + β / √(1 + N(s', a'))], by value iteration
    (Strehl & Littman 2008, eq. 6, with the bonus of s, a itself added where it is chosen)."""
    env, beta, discount, rng = td.RiverSwim(), 0.5, 0.9, np.random.default_rng(0)
    p, r, _ = env.transitions()
    n = rng.integers(0, 50, r.shape).astype(np.float32)
    bonus, q = beta / np.sqrt(1 + n), np.zeros(r.shape)
    for _ in range(500):
        q = r + discount * p @ (q + bonus).max(1)
    algorithm = td.QLearning(count_bonus=beta, discount=discount)
    hoped = jax.vmap(lambda s: algorithm.hoped(jnp.float32(q), jnp.asarray(n), s))(jnp.arange(6))
    np.testing.assert_allclose(hoped, q + bonus, rtol=1e-5)
    with_itself = np.zeros(r.shape)  # MBIE-EB's own form
    for _ in range(500):
        with_itself = r + bonus + discount * p @ with_itself.max(1)
    np.testing.assert_allclose(hoped, with_itself, rtol=1e-4)


# --- Gymnasium's toy environments -------------------------------------------------------------------------------------

SCORES = {  # at least, with each algorithm's preset; the best that can be expected by dynamic programming
    "GridWorld": (3.0, 3.0),
    "CliffWalking-v1": (-19.0, -13.0),  # SARSA keeps away from the edge
    "CliffWalkingSlippery-v1": (-90.0, -64.7),  # so it does here
    "FourRooms": (0.99, 1.0),
    "DynaMaze": (1.0, 1.0),
    "FrozenLake-v1": (0.70, 0.744),
    "FrozenLake8x8-v1": (0.75, 0.913),
    "Taxi-v4": (7.5, 7.93),
    "BoatRace": (35.0, 47.0),
    "DeepSea": (0.98, 0.99),
    "RiverSwim": (10.0, 12.62),
    "Blackjack-v1": (-0.06, -0.043),
}
QUICK = [("q-learning", name) for name in ("FrozenLake-v1", "Taxi-v4", "Blackjack-v1")]
REST = [pytest.param(a, e, marks=pytest.mark.slow) for a in CLASSES for e in SCORES if (a, e) not in QUICK]


@pytest.mark.parametrize(("name", "env"), [*QUICK, *REST])
def test_presets_learn(name, env, tmp_path):
    run = td.train(name, env, seeds=3, out=tmp_path / "run", progress=False)
    returns = run.evaluate(20_000 if env == "Blackjack-v1" else 1_000).returns
    least, best = SCORES[env]
    assert (returns.mean(1) >= least).all(), returns.mean(1)
    assert (returns.mean(1) <= best + 4 * returns.std(1) / np.sqrt(returns.shape[1]) + 1e-3).all(), returns.mean(1)


MEMORY = ("RepeatPrevious", "TMaze", "BlockingMaze", "ShortcutMaze")  # what is seen is not the state: see test_dyna.py
TASKS = ("Bandit", "Doors", "DarkRoom", "RandomMDP")  # no table serves all tasks of a family
LARGE = ("LargeDynaMaze",)  # one level of values is slow there: see test_hierarchy.py


def test_every_built_in_environment_that_tables_can_serve_has_a_preset():
    envs = {name: td.make(name) for name in BUILT_IN if name not in MEMORY + TASKS + LARGE}
    specs = {name: td.Spec(env.observation_space, env.action_space, 100) for name, env in envs.items()}
    served = {name for name, spec in specs.items() if td.QLearning().supports(spec) is None}
    assert served == set(td.QLearning.presets())


def test_the_best_game_of_blackjack():
    """Sutton and Barto's rules by dynamic programming: the player's hands from the greatest sum down, the dealer's ends
    by recursion. The best policy that sees only sum, card and ace is what tables can learn."""
    deck = np.array([0] + [1 / 13] * 9 + [4 / 13])

    @functools.cache
    def dealer(total, ace):
        value = total + 10 if ace and total + 10 <= 21 else total
        if value >= 17:
            return np.eye(22)[value if value <= 21 else 0]
        return sum(deck[c] * dealer(total + c, ace or c == 1) for c in range(1, 11))

    @functools.cache
    def stick(value, shown):
        ends = sum(deck[c] * dealer(shown + c, 1 in (shown, c)) for c in range(1, 11))
        return ends[:value].sum() - ends[value + 1 :].sum()

    @functools.cache
    def best(total, ace, shown):
        if total > 21:
            return -1.0
        value = total + 10 if ace and total + 10 <= 21 else total
        hit = sum(deck[c] * best(total + c, ace or c == 1, shown) for c in range(1, 11))
        return max(hit, stick(value, shown))

    def natural(shown):  # it wins unless the dealer has one too
        return 1 - (deck[10] if shown == 1 else deck[1] if shown == 10 else 0.0)

    optimum = sum(
        deck[a] * deck[b] * deck[shown] * (natural(shown) if {a, b} == {1, 10} else best(a + b, 1 in (a, b), shown))
        for a in range(1, 11)
        for b in range(1, 11)
        for shown in range(1, 11)
    )
    assert optimum == pytest.approx(SCORES["Blackjack-v1"][1], abs=1e-3), optimum


# --- any finite spaces ------------------------------------------------------------------------------------------------


@td.config
class Codes:
    """One step an episode: reward 1 where the action repeats the code that is seen, among parts of many kinds."""

    masked: bool = False
    max_steps: int = 5

    observation_space = Dict(
        {
            "z": Tuple((Discrete(3, start=5), MultiBinary(2))),
            "a": MultiDiscrete([[2, 3]], start=[[1, -1]]),
        }
    )
    action_space = MultiDiscrete([3, 2], start=[4, 0])

    def _seen(self, key):
        code, bits, other = jax.random.randint(key, (3,), 0, jnp.array([3, 4, 6]))
        both = jnp.stack([bits // 2, bits % 2]).astype(jnp.int8)
        seen = {"a": jnp.stack([other // 3 + 1, other % 3 - 1])[None], "z": (code + 5, both)}
        mask = jnp.concatenate([jnp.arange(3) == code, jnp.ones(2, bool)])
        return td.Step((code, bits % 2), seen, info={"mask": mask} if self.masked else {})

    def reset(self, key):
        return self._seen(key)

    def step(self, state, action, key):
        right = (action[0] - 4 == state[0]) & (action[1] == state[1])
        return self._seen(key)._replace(reward=jnp.where(right, 1.0, 0.0), terminated=jnp.bool_(True))


def numbered(space, samples=300):
    """What `Numbering` says of members of a space, and NumPy's count of the same components."""
    numbering = Numbering.of(space)
    members = [space.sample() for _ in range(samples)]
    batch = jax.tree.map(lambda *xs: np.stack(xs), *members)
    rows = np.concatenate([np.reshape(x, (samples, -1)) for x in jax.tree.leaves(batch)], 1) - numbering.starts
    return numbering, batch, np.asarray(numbering.number(batch)), np.ravel_multi_index(rows.T, numbering.sizes)


@pytest.mark.parametrize(
    ("space", "count"),
    [
        (Discrete(7, start=-3), 7),
        (MultiDiscrete([[3, 4], [2, 5]]), 120),
        (MultiBinary((2, 2)), 16),
        (Tuple((Discrete(32), Discrete(11), Discrete(2))), 704),
        (Codes.observation_space, 72),
    ],
)
def test_members_of_finite_spaces_have_numbers(space, count):
    space.seed(0)
    numbering, batch, numbers, expected = numbered(space)
    assert numbering.count == count
    np.testing.assert_array_equal(numbers, expected)
    assert len(set(numbers.tolist())) > min(count, 300) / 4
    if not isinstance(space, (Dict, Tuple)):
        np.testing.assert_array_equal(numbering.member(jnp.asarray(numbers)), batch)


def test_a_joint_action_is_legal_where_each_part_is():
    numbering, rng = Numbering.of(MultiDiscrete([3, 2, 4])), np.random.default_rng(0)
    mask = rng.random((50, 9)) < 0.6
    expected = [[m[a] and m[3 + b] and m[5 + c] for a in range(3) for b in range(2) for c in range(4)] for m in mask]
    np.testing.assert_array_equal(numbering.legal(jnp.asarray(mask)), expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_any_finite_spaces_are_learned(name, masked, tmp_path):
    """Right in each of the 72 states and 6 actions; the agent that is saved is too."""
    algorithm = CLASSES[name](learning_rate=0.5, num_envs=16, exploration=td.Epsilon(start=0.5, end=0.5))
    run = trained(tmp_path, algorithm, Codes(masked=masked), 20_000)
    assert run.agent().actor.q.shape == (72, 6)
    assert greedy(run, 200) == 1.0
    agent = td.load(run.agent().save(tmp_path / "codes.td"))
    seen = {"a": np.array([[2, 0]]), "z": (np.int64(6), np.array([0, 1], np.int8))}
    mask = np.array([0, 1, 0, 1, 1], bool) if masked else None
    np.testing.assert_array_equal(agent.act(seen, mask=mask), [5, 1])


def test_tuples_are_learned_from_on_the_host_too(tmp_path):
    run = trained(tmp_path, td.QLearning(num_envs=8), "gymnasium/Blackjack-v1", 2_000)
    assert run.agent().actor.q.shape == (704, 2)
    assert run.agent().act((21, 10, 1)) in (0, 1)


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (MultiDiscrete([100] * 4), Discrete(4), r"400,000,000 entries, and 50,000,000 are the most"),
        (MultiBinary(40), Discrete(2), r"has 2,199,023,255,552 entries"),
        (Box(0, 1, (2,)), Discrete(2), r"a table needs observations of Discrete, .*, not Box"),
        (Discrete(2), MultiBinary(2), r"MultiDiscrete actions, not Discrete\(2\) and MultiBinary"),
        (Tuple((Discrete(2), Box(0, 1, (2,)))), Discrete(2), r"a table needs observations of"),
    ],
)
def test_what_no_table_holds_is_refused(observation, action, message):
    problem = td.QLearning().supports(td.Spec(observation, action, 100))
    assert re.search(message, problem), problem


@td.config
class Long:
    """A walk through a million states."""

    max_steps: int = 50

    observation_space = Discrete(1_000_000)
    action_space = Discrete(4)

    def reset(self, key):
        state = jax.random.randint(key, (), 0, 1_000_000)
        return td.Step(state, state)

    def step(self, state, action, key):
        state = (7 * state + action) % 1_000_000
        return td.Step(state, state, 0.1 * (state % 10))


def scratch(name, runs):
    """Bytes of scratch memory of the compiled loop, as a part of the tables."""
    env = Long()
    driver = ScanDriver(CLASSES[name](num_envs=8), env, describe(env, 10_000, "test"), runs)
    return driver.compile().memory_analysis().temp_size_in_bytes / (16e6 * runs / driver.devices)


@pytest.mark.parametrize(("name", "runs"), [("q-learning", 1), ("q-learning", 2), ("sarsa", 1), ("expected-sarsa", 1)])
def test_a_large_table_is_written_in_place(name, runs):
    """A step costs what its environments cost, whatever the table's size."""
    assert scratch(name, runs) < 0.05


def test_a_copied_table_is_noticed(monkeypatch):
    moved = td.QLearning.moved
    copied = lambda self, q, visits, *args: moved(self, q + 0.0 * jnp.roll(q, 1, 0), visits, *args)  # noqa: E731
    monkeypatch.setattr(td.QLearning, "moved", copied)
    assert scratch("q-learning", 1) > 0.5
