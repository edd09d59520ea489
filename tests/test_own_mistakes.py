"""The mistakes that people make in an algorithm of their own: one clear sentence, before anything is compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.checks.answers import check_methods
from thorndike.cli import main
from thorndike.envs import make
from thorndike.runs.storage.environments import describe
from thorndike.runs.training.validation import validate


class State(NamedTuple):
    weight: Any
    count: Any


@td.config
class Right:
    """Linear, on policy, and right: what the wrong ones below differ from."""

    rate: float = 0.1  # step size
    num_envs: int = 3
    rollout_length: int = 5

    def supports(self, spec):
        return None

    def init(self, key, spec):
        return State(jnp.zeros((4, 2)), jnp.int32(0))

    def actor(self, state):
        return state.weight

    def carry(self, actor, n):
        return ()

    def act(self, actor, carry, now, key, explore):
        return (now.obs @ actor).argmax(-1), carry, {}

    def learn(self, state, rollout, key):
        error = rollout.steps.reward.mean()
        return State(state.weight + self.rate * error, state.count + 1), {"error": error}


@td.config
class Untyped(Right):
    """With an attribute that is no field."""

    temperature = 0.5


def changed(**methods: Any) -> Any:
    """An algorithm that differs from `Right` in some methods."""
    return td.config(type("Mine", (Right,), {"__doc__": "Of one's own.", "__module__": __name__, **methods}))()


ENVS = {"JAX": lambda: make("CartPole-v1"), "host": lambda: make("gymnasium/CartPole-v1")}


def refusal(algorithm: Any, env: Any = None) -> str:
    env = env or ENVS["JAX"]()
    with pytest.raises(td.ConfigError) as caught:
        validate(algorithm, env, 100, 1)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("where", ENVS)
def test_what_is_right_passes(where):
    env = ENVS[where]()
    check_methods(Right(), env, describe(env, 100, ""))
    validate(Right(rate=np.array([0.1, 0.2])), env, 100, 1)


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        # init
        ({"init": lambda self, key, spec: State(jnp.zeros((4, 2)), 0)},
         "Mine.init returns the Python number 0 as state.count: write jnp.int32(0)"),
        ({"init": lambda self, key, spec: State(jnp.zeros((4, 2)), "none")},
         "Mine.init returns state.count, a str, which is no array"),
        ({"init": lambda self, spec: State(jnp.zeros((4, 2)), 0)}, "Mine.init must take (self, key, spec), and takes"),
        ({"init": lambda self, key, spec: 1 / 0}, "Mine.init (test_own_mistakes.py, line "),
        # carry
        ({"carry": lambda self, actor, n: jnp.zeros(7)},
         "Mine.carry returns an array of shape [7]: its first axis must be that of the 3 environments"),
        # act
        ({"act": lambda self, actor, carry, now, key, explore: (now.obs @ actor).argmax(-1)},
         "Mine.act must return (action, carry, extras), extras a dict, {} if empty, not int32[3]"),
        ({"act": lambda self, actor, carry, now, key, explore: ((now.obs @ actor).argmax(-1), carry)},
         "extras a dict, {} if empty, not a tuple of 2"),
        ({"act": lambda self, actor, carry, now, key, explore: (now.obs @ actor, carry, {})},
         "must return actions of shape [3] for 3 environments and Discrete(2), not [3, 2] (logits, in the place"),
        ({"act": lambda self, actor, carry, now, key, explore: ((now.obs @ actor)[0].argmax(), carry, {})},
         "must return actions of shape [3] for 3 environments and Discrete(2), not []"),
        ({"act": lambda self, actor, carry, now, key, explore: ((now.obs @ actor).max(-1), carry, {})},
         "must return whole numbers for Discrete(2), not float32: use .astype(int)"),
        ({"act": lambda self, actor, carry, now, key, explore: ((now.obs @ actor).argmax(-1), now.reward, {})},
         "Mine.act must return the carry that it got, of the same structure, shapes and dtypes"),
        ({"act": lambda self, actor, carry, now, key, explore: ((now.obs @ actor).argmax(-1), carry, {"p": 0.5})},
         "Mine.act returns the Python number 0.5 as extras['p']: write jnp.float32(0.5)"),
        ({"act": lambda self, actor, carry, now, key: ((now.obs @ actor).argmax(-1), carry, {})},
         "Mine.act must take (self, actor, carry, now, key, explore), and takes (self, actor, carry, now, key)"),
        ({"act": lambda self, actor, carry, now, key, explore: 1 if now.reward.sum() > 0 else 0},
         "branches on an array, whose values are not known when programs are compiled: use jnp.where or lax.cond"),
        ({"act": lambda self, actor, carry, now, key, explore: (np.asarray(now.obs).argmax(-1), carry, {})},
         "hands an array to NumPy or Python, which wants its values: use jax.numpy"),
        # learn
        ({"learn": lambda self, state, rollout, key: state},
         "Mine.learn must return (state, metrics), metrics a dict, not a State"),
        ({"learn": lambda self, state, rollout, key: (state, {"loss": rollout.steps.reward})},
         "Mine.learn returns the metric 'loss' of shape [5, 3]: a metric is one number, its mean say"),
        ({"learn": lambda self, state, rollout, key: (state, {"loss": None})},
         "Mine.learn returns the metric 'loss' as None: a metric is one number"),
        ({"learn": lambda self, state, rollout, key: (state._replace(count=state.count + 0.5), {})},
         "Mine.learn must return a state like that of init, of the same structure, shapes and dtypes: "
         "float32[] where int32[] was due, at .count"),
        ({"learn": lambda self, state, rollout, key: (state._replace(weight=state.weight[:3]), {})},
         "float32[3, 2] where float32[4, 2] was due, at .weight"),
        ({"learn": lambda self, state, rollout, key: (tuple(state), {})}, "where a State with .weight, .count was due"),
        ({"learn": lambda self, state, rollout, key: (state, {"loss": rollout.steps.rewards})},
         "has no attribute 'rewards'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ENVS)
def test_each_mistake_is_named(methods, says, where):
    text = refusal(changed(**methods), ENVS[where]())
    assert says in text, text


def test_what_updates_is_asked_too():
    replay = td.Uniform(capacity=64, batch_size=8, warmup=16)
    common = {"__annotations__": {"replay": td.Uniform, "replay_ratio": td.config.__globals__["Static"]}}
    common |= {"replay": replay, "replay_ratio": 0.5, "learn": property()}
    good = lambda self, state, batch, key: (state, {"error": batch.reward, "loss": batch.reward.mean()})  # noqa: E731
    env = ENVS["JAX"]()
    check_methods(changed(update=good, **common), env, describe(env, 100, ""))
    bad = lambda self, state, batch, key: ({"weight": state.weight}, {})  # noqa: E731
    assert "Mine.update must return a state like that of init" in refusal(changed(update=bad, **common))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("carry", "lacks carry; def carry(self, actor, n), which returns the memory of n environments for acting"),
        ("act", "is not an algorithm"),
        ("learn", "lacks learn; def learn(self, state, rollout, key), which returns (state, metrics)"),
        ("init", "lacks init; def init(self, key, spec), which returns the state: a pytree of arrays"),
    ],
)
def test_missing_methods_are_named_with_what_they_return(name, says):
    parts = {key: value for key, value in vars(Right).items() if callable(value) and not key.startswith("__")}
    parts |= {"num_envs": 3, "rollout_length": 5}
    del parts[name]
    lacking = td.config(type("Mine", (), {"__doc__": "Of one's own.", **parts}))
    assert says in refusal(lacking())


def test_fields_without_a_type_and_classes_without_their_decorator(capsys):
    @td.config
    class Mine(Right):
        """With a field that is none."""

        temperature = 0.5

    with pytest.raises(td.ConfigError, match=r"Mine.temperature has no type: .* write temperature: float = 0.5"):
        Mine(temperature=1.0)
    assert "hint: Mine.temperature has no type: to make it a field, write" in str(td.check(Mine))
    assert main(["train", f"{__name__}:Untyped", "CartPole-v1", "--temperature", "0.7"]) == 2
    assert "Untyped.temperature has no type" in capsys.readouterr().err

    class Plain(Right):
        """A subclass that was not decorated."""

    assert "Plain needs @td.config above its class" in refusal(Plain())

    class Cart(td.CartPole):
        """An environment, likewise."""

    assert "Cart needs @td.config above its class" in refusal(Right(), Cart())
    with pytest.raises(td.ConfigError, match=r"takes its fields by name, PPO\(learning_rate=...\); the environment is"):
        td.PPO("MlpPolicy", "CartPole-v1")


def test_the_report_says_it_too():
    report = td.check(changed(init=lambda self, key, spec: State(jnp.zeros((4, 2)), 0)))
    assert not report.ok
    assert "NO  its methods answer what drivers expect: Mine.init returns the Python number 0" in str(report)


def test_the_line_at_fault_is_in_ones_own_file():
    def learn(self, state, rollout, key):
        return state, {"loss": jnp.dot(rollout.steps.obs, jnp.zeros(3)).mean()}

    text = refusal(changed(learn=learn))
    line = learn.__code__.co_firstlineno + 1
    assert f"Mine.learn (test_own_mistakes.py, line {line}) failed with" in text


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"total_timesteps": 100}, "td.train has no argument 'total_timesteps': it is called steps here"),
        ({"verbose": 1}, "no argument 'verbose': it is called progress here"),
        ({"callback": None}, "it is called on_row here"),
        ({"eval_freq": 10}, "it is called evaluate_every here"),
        ({"gamma": 0.9}, "'gamma': it is called discount here, a field of the algorithm: td.preset('ppo', "),
        ({"lr": 0.9}, "a field of the algorithm: td.preset('ppo', 'CartPole-v1', learning_rate=...)"),
        ({"ent_coef": 0.9}, "entropy_coefficient or temperature here, a field of the algorithm"),
        ({"policy_kwargs": {}}, "torso, such as td.Torso(widths=(64, 64)) here, a field of the algorithm"),
        ({"clip": 0.1}, "'clip': it is a field of the algorithm: td.preset('ppo', 'CartPole-v1', clip=...)"),
        ({"step": 10}, "td.train has no argument 'step' (did you mean 'steps'?)"),
    ],
)  # fmt: skip
def test_names_of_other_libraries(arguments, says):
    with pytest.raises(td.ConfigError) as caught:
        td.train("ppo", "CartPole-v1", **arguments)
    assert says in str(caught.value)


def test_the_class_is_named_where_it_was_given():
    with pytest.raises(td.ConfigError, match=r"td.DQN\(replay=td...\(capacity=...\)\)"):
        td.train(td.DQN(), "CartPole-v1", buffer_size=100)
    with pytest.raises(td.ConfigError, match=r"td.resume has no argument 'total_timesteps': it is called steps here"):
        td.resume("nowhere", total_timesteps=3)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("CartPole-v1", "ppo", "td.train('ppo', 'CartPole-v1')"),
        ("CartPole-v1", td.PPO(), "td.train(..., 'CartPole-v1')"),
        (td.CartPole(), "dqn", "td.train('dqn', ...)"),
        (lambda: gymnasium.make("CartPole-v1"), td.PPO, "the algorithm comes first"),
    ],
)
def test_swapped_arguments(first, second, says):
    with pytest.raises(td.ConfigError) as caught:
        td.train(first, second)
    assert says in str(caught.value)


def test_a_run_where_an_agent_is_meant_and_the_reverse(tmp_path):
    run = td.train(Right(num_envs=2, rollout_length=4), "CartPole-v1", 16, out=tmp_path / "run", progress=False)
    with pytest.raises(td.CheckpointError, match=r"is a run: td.open_run\(.*\).agent\(\) is its agent"):
        td.load(run.path)
    agent = run.agent().save(tmp_path / "agent.td")
    for function in (td.open_run, td.resume, td.plot):
        with pytest.raises(td.CheckpointError, match=r"is a file, and a run is a directory .* opened by td.load"):
            function(agent)


def test_where_there_is_no_preset_it_is_said(capfd, monkeypatch, tmp_path):
    from thorndike.runs.training.loop import Loop

    monkeypatch.setattr(Loop, "__init__", lambda self, *args: None)
    monkeypatch.setattr(Loop, "go", lambda self: None)
    td.train("dqn", "DeepSea", 16, out=tmp_path / "one", progress=False)
    said = capfd.readouterr().err
    assert said.startswith("no preset for dqn on DeepSea: its defaults are used; it has presets for ")
    td.train("ppo", "CartPole-v1", 16, out=tmp_path / "two", progress=False)  # whose preset is the defaults
    td.train(td.DQN(), "MountainCar-v0", 16, out=tmp_path / "three", progress=False)
    assert capfd.readouterr().err == ""
