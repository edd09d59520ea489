"""Configurations: what JAX sees as a leaf, what compiles again, what survives JSON, what is refused and how."""

from __future__ import annotations

import dataclasses
import json
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms import algorithm_class, entries
from thorndike.configuration import check, config, from_json, is_config, swept, to_json, type_name
from thorndike.drivers.learner import gradient_steps
from thorndike.errors import ConfigError
from thorndike.exports import known_configs
from thorndike.presets import preset_for


@config
class Inner:
    scale: float = 2.0
    power: int = 1

    def check(self) -> None:
        if np.any(np.asarray(self.scale) < 0):
            raise ConfigError("Inner.scale must not be negative")


@config
class Other:
    shift: float = 1.0


@config
class Outer:
    rate: float = 0.1
    bonus: float | None = None
    inner: Inner = Inner()
    either: Inner | Other = Other()
    size: int = 3
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = (1, 2)
    name: str = "x"
    limit: int | None = None


KNOWN = {type_name(cls): cls for cls in (Inner, Other, Outer)}.get
DEFAULTS = [algorithm_class(name)() for name in entries()]


def leaf_names(value) -> set[str]:
    return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(value)[0]}


def test_float_fields_are_leaves_and_no_others():
    assert leaf_names(Outer()) == {".rate", ".inner.scale", ".either.shift"}
    assert leaf_names(Outer(bonus=1.0, either=Inner())) == {".rate", ".bonus", ".inner.scale", ".either.scale"}
    doubled = jax.tree.map(lambda x: 2 * x, Outer())
    assert doubled == Outer(rate=0.2, inner=Inner(scale=4.0), either=Other(shift=2.0))


@pytest.mark.parametrize("value", DEFAULTS, ids=lambda v: type(v).__name__)
def test_every_algorithm_has_the_leaves_that_its_annotations_say(value):
    def expected(value, prefix=""):
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if is_config(item):
                yield from expected(item, f"{prefix}.{field.name}")
            elif isinstance(item, float) and field.type.partition(" ")[0] != "Static":
                yield f"{prefix}.{field.name}"

    assert leaf_names(value) == set(expected(value))
    assert leaf_names(value)
    check(value)


def test_configs_are_frozen_keyword_only_values():
    value = Outer()
    assert value == Outer()
    assert value != Outer(size=4)
    assert is_config(value)
    assert not is_config(3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.rate = 1.0
    with pytest.raises(ConfigError, match="by name"):
        Outer(0.1)
    with pytest.raises(ConfigError, match="did you mean 'rate'"):
        Outer(rat=0.1)


def count_traces(cls):
    traces = []

    @jax.jit
    def f(value, x):
        traces.append(value)
        return x * value.rate ** (value.size if value.mode == "a" else 1)

    return f, traces


def test_floats_do_not_recompile_and_static_fields_do():
    f, traces = count_traces(Outer)
    assert float(f(Outer(rate=2.0), 1.0)) == 8
    for same in (Outer(rate=3.0), Outer(rate=2.5, inner=Inner(scale=7.0)), Outer(either=Other(shift=0.0))):
        f(same, 1.0)
    assert len(traces) == 1
    assert float(f(Outer(rate=3.0), 1.0)) == 27
    different = [
        Outer(size=2), Outer(mode="b"), Outer(widths=(1,)), Outer(flag=True), Outer(name="y"), Outer(limit=1),
        Outer(inner=Inner(power=2)), Outer(either=Inner()), Outer(bonus=0.0),
    ]  # fmt: skip
    for i, value in enumerate(different):
        f(value, 1.0)
        assert len(traces) == 2 + i, value
    for value in different:
        f(dataclasses.replace(value, rate=9.0), 1.0)
    assert len(traces) == 1 + len(different)


def test_configs_stack_and_vmap():
    many = jax.tree.map(
        lambda *xs: jnp.stack(xs), *(Outer(rate=float(i), inner=Inner(scale=i + 0.5)) for i in range(3))
    )
    got = jax.vmap(lambda value: value.rate * 10 + value.inner.scale + value.size)(many)
    np.testing.assert_allclose(got, [3.5, 14.5, 25.5])


def through_json(value, known):
    return from_json(json.loads(json.dumps(to_json(value))), known)


@pytest.mark.parametrize("value", DEFAULTS, ids=lambda v: type(v).__name__)
def test_json_round_trip_of_every_algorithm(value):
    assert through_json(value, known_configs()) == value
    assert to_json(value)["type"] == type(value).__name__


def test_json_round_trip_of_presets_and_alternatives():
    classes = [algorithm_class(name) for name in entries()]
    for cls, env in [(c, env) for c in classes if hasattr(c, "presets") for env in c.presets()]:
        fields, steps = preset_for(cls, env)
        assert steps is not None
        value = dataclasses.replace(cls(), **fields)
        check(value)
        assert through_json(value, known_configs()) == value
    value = td.DQN(exploration=td.Softmax(end=0.1), torso=td.Torso(widths=()), learning_rate=np.float32(0.5), tau=1)
    assert through_json(value, known_configs()) == value
    value = Outer(bonus=0.5, either=Inner(scale=3), widths=(), limit=7)
    assert through_json(value, KNOWN) == value


def test_a_preset_is_that_of_the_environment():
    assert preset_for(td.PPO, "gymnasium/CartPole-v1") == preset_for(td.PPO, "CartPole-v1")
    assert preset_for(td.PPO, "CartPole-v1")[1] == 100_000
    assert preset_for(td.PPO, "envpool/Pong-v5")[0]["num_envs"] == 128
    for other in ("ALE/Pong-v5", "gymnasium/ALE/Pong-v5", "Pong-v5", "", None):  # other tasks
        assert preset_for(td.PPO, other) == ({}, None)


def test_json_round_trip_of_sweeps():
    rates, ends = np.array([1e-3, 3e-4, 1e-4], np.float32), jnp.array([0.1, 0.2, 0.3])
    sweeps = [
        td.PPO(learning_rate=rates, value_clip=ends),
        td.SAC(temperature=rates),
        td.DQN(discount=ends, exploration=td.Epsilon(end=ends), tau=np.array([0.5])),
    ]
    for value in sweeps:
        again = through_json(value, known_configs())
        assert jax.tree.structure(again) == jax.tree.structure(value)
        for old, new in zip(jax.tree.leaves(value), jax.tree.leaves(again)):
            assert np.shape(old) == np.shape(new)
            np.testing.assert_array_equal(np.float32(new), np.float32(old))
    assert swept(through_json(sweeps[0], known_configs())) == 3


def test_json_is_plain():
    text = json.dumps(to_json(td.DQN(learning_rate=jnp.array([0.5, 0.25]), num_envs=np.int64(4))), allow_nan=False)
    data = json.loads(text)
    assert data["learning_rate"] == [0.5, 0.25]
    assert data["num_envs"] == 4
    torso = {"type": "Torso", "widths": None, "activation": "relu", "init": "uniform", "parts": []}
    assert torso.items() <= data["torso"].items()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"type": "PPQ"}, "unknown configuration type 'PPQ': it was saved by another version"),
        ({"type": "os.system"}, "unknown configuration type 'os.system'"),
        ({"rate": 1.0}, "unknown configuration type .None."),
        ({"type": ["PPO"]}, "unknown configuration type"),
        ({"type": "PPO", "torso": {"type": "Torsoo"}}, "unknown configuration type 'Torsoo'"),
        ({"type": "PPO", "clap": 0.1, "bat": 1}, "PPO has no field bat, clap: it was saved by another version"),
        ({"type": "PPO", "clip": "0.1"}, r"PPO\.clip should be a finite float .*, got '0.1'"),
        ({"type": "PPO", "clip": float("nan")}, r"PPO\.clip"),
        ({"type": "PPO", "epochs": 1.5}, r"PPO\.epochs should be int, got 1.5"),
        ({"type": "PPO", "torso": {"type": "Uniform"}}, r"PPO\.torso should be Torso"),
        ({"type": "PPO", "torso": {"type": "Torso", "widths": [64, "64"]}}, r"PPO\.torso\.widths|Torso\.widths"),
    ],
)
def test_bad_json_is_refused_with_its_reason(data, message):
    with pytest.raises(ConfigError, match=message):
        from_json(data, known_configs())


BAD = [
    (Outer(rate="fast"), "rate"), (Outer(rate=None), "rate"), (Outer(rate=True), "rate"),
    (Outer(rate=np.inf), "rate"), (Outer(rate=[0.1, 0.2]), "rate"), (Outer(rate=[0.1, [0.2]]), "rate"),
    (Outer(rate=np.ones((2, 2))), "rate"), (Outer(rate=np.array([])), "rate"), (Outer(rate=np.array([True])), "rate"),
    (Outer(rate={"a": 1}), "rate"), (Outer(bonus="x"), "bonus"), (Outer(size=3.0), "size"),
    (Outer(size=True), "size"), (Outer(size=None), "size"), (Outer(flag=1), "flag"), (Outer(flag="no"), "flag"),
    (Outer(mode="c"), "mode"), (Outer(mode=np.array(["a", "b"])), "mode"), (Outer(widths=[1, 2]), "widths"),
    (Outer(widths=(1, 2.0)), "widths"), (Outer(widths=3), "widths"), (Outer(name=3), "name"),
    (Outer(limit=1.5), "limit"), (Outer(inner=Other()), "inner"), (Outer(inner=3), "inner"),
    (Outer(inner=Inner), "inner"), (Outer(inner=None), "inner"), (Outer(either=Outer()), "either"),
    (Outer(either="greedy"), "either"), (Outer(inner=Inner(scale="x")), "inner.scale"),
    (Outer(either=Other(shift=np.nan)), "either.shift"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "field"), BAD, ids=lambda x: x if isinstance(x, str) else "")
def test_wrong_types_are_named(value, field):
    with pytest.raises(ConfigError, match=rf"^Outer\.{field} should be .*, got "):
        check(value)


def test_right_types_pass():
    good = [
        Outer(), Outer(rate=1), Outer(rate=np.float32(1)), Outer(rate=jnp.float32(1)), Outer(rate=np.arange(3)),
        Outer(rate=jnp.ones(2)), Outer(bonus=0.5), Outer(bonus=np.ones(2)), Outer(size=np.int64(3)),
        Outer(either=Inner()), Outer(widths=()), Outer(limit=4), Outer(mode="b"),
    ]  # fmt: skip
    for value in good:
        check(value)


def test_nested_checks_run():
    with pytest.raises(ConfigError, match=r"Inner\.scale must not be negative"):
        check(Outer(inner=Inner(scale=-1.0)))
    with pytest.raises(ConfigError, match=r"Inner\.scale must not be negative"):
        check(Outer(either=Inner(scale=np.array([1.0, -1.0]))))
    with pytest.raises(ConfigError, match="warmup"):
        check(td.DQN(replay=td.Uniform(capacity=10, warmup=20)))
    with pytest.raises(ConfigError, match="minibatches of 1 set normalize_advantage to False"):
        check(td.PPO(minibatch_size=1))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, (4, 256)),
        ({"num_envs": 1}, (1, 128)),
        ({"num_envs": 3}, (2, 192)),
        ({"rollout_length": 100}, (3, 266)),
        ({"minibatch_size": 7, "num_envs": 2, "rollout_length": 8}, (2, 8)),
        ({"core": td.GRU(), "minibatch_size": 256}, (4, 2)),
        ({"core": td.GRU(), "num_envs": 3, "minibatch_size": 100}, (3, 1)),
    ],
)
def test_a_rollout_of_any_size_is_cut_into_equal_minibatches(sizes, expected):
    algorithm = td.PPO(**sizes)
    check(algorithm)
    assert algorithm.cut == expected


def test_a_ratio_of_less_than_one_update_is_refused():
    algorithm = td.SAC(replay_ratio=0.1)
    with pytest.raises(ConfigError, match=r"replay_ratio 0.1 of a rollout of 1 steps .* rollout_length to 10 or more"):
        gradient_steps(algorithm)
    assert gradient_steps(td.SAC(replay_ratio=0.1, rollout_length=10)) == 1
    assert gradient_steps(td.SAC(num_envs=8)) == 8
    assert gradient_steps(td.DQN()) == 4


IMPOSSIBLE = {
    td.PPO: {
        "learning_rate": (-1e-3,), "discount": (1.5, -0.5, 99.0), "trace": (2.0, -1.0), "clip": (-0.2, 0.0),
        "max_grad_norm": (-1.0, 0.0), "value_coefficient": (-1.0,), "entropy_coefficient": (-1.0,),
        "target_kl": (-0.1,), "value_clip": (-1.0,), "minibatch_size": (0,), "epochs": (0,), "num_envs": (0,),
    },
    td.DQN: {
        "learning_rate": (-1.0,), "discount": (1.01,), "tau": (5.0, -1.0, 0.0), "huber": (-1.0, 0.0),
        "max_grad_norm": (-1.0,), "replay_ratio": (0.0,), "target_period": (0,),
        "exploration": (td.Epsilon(start=1.5), td.Epsilon(end=-0.1), td.Softmax(end=0.0)),
    },
    td.SAC: {
        "tau": (2.0, -1.0), "temperature": (-1.0,), "initial_temperature": (-1.0,), "critics": (0,), "discount": (2.0,),
        "replay": (td.Uniform(capacity=10, warmup=100), td.Uniform(batch_size=0)),
    },
    td.QLearning: {"learning_rate": (-0.5, 3.0), "discount": (1.5,)},
    td.BC: {"learning_rate": (-1.0,), "batch_size": (0,), "optimiser": (td.Adam(weight_decay=-1.0),)},
    td.AlphaZero: {"simulations": (0,), "learning_rate": (-1.0,), "temperature": (-1.0,)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [(cls, field, value) for cls, fields in IMPOSSIBLE.items() for field, values in fields.items() for value in values],
)
def test_impossible_numbers_are_refused(cls, field, value):
    with pytest.raises(ConfigError, match=field):
        check(cls(**{field: value}))
    if isinstance(value, float) and field != "replay_ratio":
        with pytest.raises(ConfigError, match=field):
            check(cls(**{field: np.array([getattr(cls(), field) or 0.5, value])}))


@pytest.mark.parametrize("classes", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_configs_of_different_classes_are_different_to_jax(classes):
    """Though their fields are equal: otherwise, now and then, one is answered by what was compiled for another."""
    structures = [jax.tree.structure(value) for value in (td.SARSA(), td.QLearning(), td.ExpectedSARSA())]
    assert len(set(structures)) == 3
    assert structures[0] != structures[1] != structures[2]
    assert structures[0] == jax.tree.structure(td.SARSA(learning_rate=0.1))
    answer = jax.jit(lambda one, x: one.answer(x))

    def variant(n):
        @config
        class Variant:
            scale: float = 1.0

            def answer(self, x):
                return self.scale * x + n

        return Variant()

    assert [float(answer(variant(n), 0.0)) for n in range(classes)] == list(range(classes))


def test_swept():
    assert swept(Outer()) is None
    assert swept(Outer(rate=np.float32(1), inner=Inner(scale=jnp.float32(2)))) is None
    assert swept(Outer(rate=np.ones(4))) == 4
    assert swept(Outer(rate=np.ones(4), inner=Inner(scale=jnp.ones(4)))) == 4
    assert swept(Outer(rate=np.ones(1))) == 1
    with pytest.raises(ConfigError, match=r"one length, got lengths \[2, 4\]"):
        swept(Outer(rate=np.ones(4), either=Other(shift=np.ones(2))))
