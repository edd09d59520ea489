"""What is suggested: the kind of problem of environments whose kind is known, and algorithms that can serve them."""

from __future__ import annotations

import dataclasses
import json

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike import probing, suggestion
from thorndike.algorithms import algorithm_class, entries
from thorndike.choosing import serves
from thorndike.cli import main
from thorndike.commands.train import train_arguments
from thorndike.runs.storage.environments import describe


@td.config
class Lights:
    """Three lights, of which one is on. `leads`: the action says which is next. `pays`: who names the one that is on is
    paid; "first": who says 0 is paid; "nothing": nobody is."""

    leads: bool = False
    pays: str = "lit"
    max_steps: int = 8
    lights: int = 3

    @property
    def observation_space(self):
        return Box(0.0, 1.0, (self.lights,), np.float32)

    @property
    def action_space(self):
        return Discrete(3)

    def reset(self, key):
        on = jax.random.randint(key, (), 0, self.lights)
        return td.Step(on, jax.nn.one_hot(on, self.lights))

    def step(self, state, action, key):
        drawn = jax.random.randint(key, (), 0, self.lights)
        on = jnp.where(self.leads, action % self.lights, drawn).astype(state.dtype)
        paid = {"lit": action == state, "first": action == 0, "nothing": state > 5}[self.pays]
        return td.Step(on, jax.nn.one_hot(on, self.lights), paid.astype(jnp.float32))


@td.config
class Arms:
    """Three arms, one step, one observation; which arm pays is drawn, most often the last."""

    max_steps: int = 1

    observation_space = Discrete(1)
    action_space = Discrete(3)

    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.int32(0))

    def step(self, state, action, key):
        paid = jax.random.bernoulli(key, (1 + action) / 4)
        return td.Step(state, state, paid.astype(jnp.float32), True)


class HostLights(gymnasium.Env):
    """Lights on the host: who names the one that is on is paid, and nothing else depends on it."""

    observation_space, action_space = Box(0.0, 1.0, (3,), np.float32), Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), {}

    def seen(self):
        self.on = int(self.np_random.integers(3))
        return np.eye(3, dtype=np.float32)[self.on]

    def step(self, action):
        reward, self.t = float(action == self.on), self.t + 1
        return self.seen(), reward, False, self.t == 8, {}


CASES = [  # environment, what else is said, the kind, the first algorithm
    ("FrozenLake-v1", {}, "plan", "value-iteration"),
    ("Blackjack-v1", {}, "table", "q-learning"),
    ("BlockingMaze", {}, "table", "dyna-q"),
    ("CartPole-v1", {}, "values", "ppo"),
    ("CartPole-v1", {"steps": 20_000}, "values", "dqn"),
    ("Pendulum-v1", {}, "control", "ppo"),
    ("gymnasium/Pendulum-v1", {}, "control", "sac"),
    ("DeepSea", {}, "plan", "value-iteration"),
    ("DoorsTrials", {}, "memory", "rl2"),
    ("TMaze", {}, "memory", "ppo"),
    ("RepeatPrevious", {}, "memory", "ppo"),  # where actions lead nowhere
    ("CartPole-v1", {"memory": True}, "memory", "ppo"),
    ("BitFlip", {}, "goals", "dqn"),
    ("Reach", {}, "goals", "sac"),
    (Arms(), {}, "bandit", "q-learning"),
    (Lights(), {}, "contextual bandit", "dqn"),
    (Lights(max_steps=1), {}, "contextual bandit", "dqn"),
    (HostLights, {}, "contextual bandit", "dqn"),
    (Lights(leads=True), {}, "values", "ppo"),
    (Lights(leads=True, pays="nothing"), {}, "values", "ppo"),
    (Lights(pays="first"), {}, "rule", None),
    (Lights(pays="nothing"), {}, "nothing", None),
    ((Box(-1, 1, (3,)), Discrete(2)), {"dataset": True}, "recorded", "bc"),
]


@pytest.mark.parametrize(("env", "said", "kind", "first"), CASES, ids=lambda x: str(x)[:40])
def test_known_kinds(env, said, kind, first):
    found = td.suggest(env, **said)
    assert found.kind == kind
    names = [idea.name for idea in found.first]
    assert (names[0] if names else None) == first
    assert len({(idea.name, idea.options) for idea in found.first}) == len(names)
    spec = describe(td.make(env), 1, "")
    for name in (*names, *found.others):
        assert serves(algorithm_class(name)(), spec) is None, name
    assert suggestion.KINDS[kind] in str(found)
    json.dumps(dataclasses.asdict(found))


def test_the_tree_names_algorithms_and_options_that_exist():
    base = probing.Facts(
        "discrete", None, None, False, True, False, False, False, 1, False, True, True, None, False, False
    )
    seen, options = set(), set()
    for kind in suggestion.KINDS:
        for changes in ({}, {"silent": True, "repeats": True}, {"states": 4, "actions": 2}, {"action": "box"}):
            for plenty in (True, False):
                for idea in suggestion._ideas(kind, dataclasses.replace(base, **changes), plenty):
                    seen.add(idea.name)
                    options.add((idea.name, idea.options))
    for name, words in options:
        [algorithm], _, _ = train_arguments([name, "nobody:Knows", *words.split()])
        assert (algorithm != algorithm_class(name)()) == bool(words)
    assert seen <= set(entries())
    assert len(seen) > 15


@pytest.mark.parametrize(
    ("name", "env", "kind"),
    [  # a fact that is not looked at: the environment whose kind is then missed
        ("leads", Lights(), "contextual bandit"),
        ("constant", Lights(pays="first"), "rule"),
        ("one_step", Arms(), "bandit"),
        ("model", td.GridWorld(), "plan"),
        ("goals", td.BitFlip(), "goals"),
        ("pays", Lights(pays="nothing"), "nothing"),
    ],
)
def test_every_fact_is_needed(name, env, kind, monkeypatch):
    blind = {"leads": True, "constant": None, "one_step": False, "model": False, "goals": False, "pays": True}
    assert td.suggest(env).kind == kind
    real = probing.probe
    monkeypatch.setattr(
        suggestion, "probe", lambda env, spec: dataclasses.replace(real(env, spec), **{name: blind[name]})
    )
    assert td.suggest(env).kind != kind


def test_plays_that_do_not_share_their_chance_see_influence_everywhere(monkeypatch):
    """The mutant: another seed of the environment for other actions."""
    real = probing._compiled
    monkeypatch.setattr(
        probing, "_compiled", lambda env: lambda seed, choice, *rest: real(env)(seed + 7 * choice, choice, *rest)
    )
    assert td.suggest(Lights()).kind != "contextual bandit"


def test_spaces_alone_cannot_be_played():
    with pytest.raises(td.ConfigError, match="dataset=True"):
        td.suggest((Box(-1, 1, (3,)), Discrete(2)))


def test_command(capsys):
    assert main(["suggest", "CartPole-v1", "--steps", "1000000"]) == 0
    assert "thorndike train ppo CartPole-v1" in capsys.readouterr().out
    assert main(["suggest", "CartPole-v1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "values"
    assert main(["suggest", "CartPol-v1"]) == 2
