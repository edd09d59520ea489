"""Observations against Gymnasium's own flattening, and a torso's options one by one."""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from pathlib import Path

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

import thorndike as td
from nets.oracles import convolutions_in_scipy, mlp_in_numpy, with_biases
from thorndike.configuration import check, from_json, to_json
from thorndike.errors import ConfigError
from thorndike.exports import known_configs
from thorndike.nets import observations as observations_module
from thorndike.nets.conv1d import Readings
from thorndike.nets.features import Cosines
from thorndike.nets.observations import Numbers, normalised
from thorndike.nets.torso import Torso, example, leaves, names
from thorndike.ops.optimise import Adam, begin, descend

KEY = jax.random.key(0, impl="rbg")  # compiles faster than the default

# --- observations -----------------------------------------------------------------------------------------------------

VECTORS = {
    "discrete": Discrete(5, start=2),
    "multidiscrete": MultiDiscrete([3, 2, 4]),
    "shifted": MultiDiscrete([3, 2], start=[-1, 4]),
    "grid of choices": MultiDiscrete([[3, 2], [2, 4]], start=[[0, 1], [2, 3]]),
    "bits": MultiBinary(4),
    "grid of bits": MultiBinary([2, 2]),
    "box": Box(-3, 3, (3,)),
    "matrix": Box(-3, 3, (2, 3)),
    "number": Box(-3, 3, ()),
    "double": Box(-3, 3, (2,), np.float64),
    "whole numbers without bounds": Box(-np.inf, np.inf, (3,), np.int32),
    "nested": Dict(
        {
            "z": Discrete(3),
            "a": Tuple((Box(-1, 1, (2,)), MultiBinary(2), Dict({"y": Discrete(2), "b": Box(0, 1, (1,))}))),
        }
    ),
}
TORSO = Torso(widths=(7, 6), activation="tanh", init="uniform")


def apply(network, obs):
    """Compiled anew at each call, so that a planted bug is not hidden by JAX's cache."""
    return jax.jit(lambda network, obs: network(obs))(network, obs)


def observations(space, n: int):
    """Samples, and the pytree of their arrays [n, ...]."""
    space.seed(3)
    rows = [space.sample() for _ in range(n)]
    return rows, jax.tree.map(lambda like, *xs: np.stack(xs).astype(like.dtype), example(space), *rows)


@pytest.mark.parametrize("name", VECTORS)
def test_network_reads_what_gymnasium_flattens(name):
    space = VECTORS[name]
    network = TORSO.build(KEY, space)
    rows, obs = observations(space, 6)
    expected = mlp_in_numpy(network.mlp, np.stack([gymnasium.spaces.flatten(space, row) for row in rows]))
    assert network.features == 6
    assert len(np.unique(np.round(expected, 5), axis=0)) > 1  # the observations differ
    folded = apply(network, jax.tree.map(lambda x: x.reshape((2, 3, *x.shape[1:])), obs))
    np.testing.assert_allclose(folded, expected.reshape(2, 3, 6), rtol=1e-4, atol=1e-5)
    if name in ("nested", "number", "discrete"):
        single = apply(network, jax.tree.map(lambda x: x[0], obs))
        np.testing.assert_allclose(single, expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("discrete", "Choice"), ("shifted", "Choices"), ("nested", "Numbers")])
def test_network_check_bites(monkeypatch, name, kind):
    """Starts that are ignored, and numbers in another order, are seen."""
    cls = getattr(observations_module, kind)
    right = cls.__call__

    def wrong(self, x):
        if kind == "Numbers":
            return right(self, x)[..., ::-1]
        field = "start" if kind == "Choice" else "starts"
        bug = object.__new__(cls)
        for part in dataclasses.fields(self):
            object.__setattr__(bug, part.name, getattr(self, part.name))
        object.__setattr__(bug, field, 0 if kind == "Choice" else (0,) * len(self.starts))
        return right(bug, x)

    monkeypatch.setattr(cls, "__call__", wrong)
    space = VECTORS[name]
    network = TORSO.build(KEY, space)
    rows, obs = observations(space, 6)
    expected = mlp_in_numpy(network.mlp, np.stack([gymnasium.spaces.flatten(space, row) for row in rows]))
    assert np.abs(np.asarray(apply(network, obs)) - expected).max() > 0.01


def test_network_reads_dicts_in_jax_order_whatever_theirs():
    parts = {"b": Box(-1, 1, (2,)), "a": Discrete(3)}
    network = TORSO.build(KEY, Dict(OrderedDict(parts)))
    rows, obs = observations(Dict(parts), 4)
    expected = np.stack([np.concatenate([np.eye(3)[row["a"]], row["b"]]) for row in rows])
    np.testing.assert_allclose(network(obs), mlp_in_numpy(network.mlp, expected), rtol=1e-4, atol=1e-5)


def test_network_with_images_and_an_extra_vector():
    space = Dict({"eye": Box(0, 255, (20, 23, 3), np.uint8), "arm": Box(-1, 1, (2,)), "tool": Discrete(3)})
    network = with_biases(TORSO.build(KEY, space, extra=2))
    rows, obs = observations(space, 3)
    extra = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    eye = network.encoders[1].network
    inputs = [
        np.concatenate([row["arm"], convolutions_in_scipy(eye, row["eye"] / 255), np.eye(3)[row["tool"]], more])
        for row, more in zip(rows, extra)
    ]
    np.testing.assert_allclose(network(obs, extra), mlp_in_numpy(network.mlp, np.stack(inputs)), rtol=1e-3, atol=1e-4)


def test_names_of_parts():
    space = VECTORS["nested"]
    assert names(space) == ["a/0", "a/1", "a/2/b", "a/2/y", "z"]
    assert len(leaves(space)) == 5
    assert names(Box(0, 1, (2,))) == [""]


# --- options ----------------------------------------------------------------------------------------------------------

BOX = Box(-1, 1, (5,))


def sizes(network):
    return [layer.weight.shape for layer in network.mlp.layers]


def test_default_widths_and_activations():
    """What they were for vectors, the Nature network's behind images, ReLU behind convolutions over one axis too."""
    default = Torso().build(KEY, BOX)
    assert (sizes(default), default.mlp.activation) == ([(5, 64), (64, 64)], "tanh")
    image = Torso().build(KEY, Box(0, 255, (6, 6, 1), np.uint8), extra=1)
    assert (sizes(image), image.mlp.activation) == ([(4 * 4 * 16 + 1, 512)], "relu")
    lidar = Torso(parts=(("", td.Conv1D(channels=(2,))),)).build(KEY, Box(0, 1, (9,)))
    assert (sizes(lidar), lidar.mlp.activation) == ([(3 * 2, 64), (64, 64)], "relu")
    assert Torso(widths=()).build(KEY, BOX).features == 5
    assert Torso(activation="tanh").build(KEY, Box(0, 1, (6, 6, 1))).mlp.activation == "tanh"


def test_norm_dropout_and_init_reach_the_layers():
    network = Torso(widths=(8, 3), norm="layer", dropout=0.5, init="he").build(KEY, BOX)
    assert [norm.scale.shape for norm in network.mlp.norms] == [(8,), (3,)]
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_allclose(network(x), mlp_in_numpy(network.mlp, x), rtol=1e-4, atol=1e-5)
    assert not np.allclose(network(x), network(x, key=jax.random.key(0)))
    assert not np.allclose(network.mlp.layers[0].weight, Torso(widths=(8, 3)).build(KEY, BOX).mlp.layers[0].weight)


@pytest.mark.parametrize("space", [BOX, Box(0, 255, (6, 6, 1), np.uint8)])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_torso_stays_as_it_is(space, frozen):
    """Ten steps of Adam move the head, and of a frozen torso not a bit; its values are the same."""
    network, plain = (
        with_biases(Torso(widths=(4,), frozen=f, norm="layer").build(KEY, space)) for f in (frozen, False)
    )
    obs = np.stack([space.sample() for _ in range(8)])
    np.testing.assert_array_equal(apply(network, obs), apply(plain, obs))
    params = (network, jax.random.normal(KEY, (4,)))
    optimiser = Adam().build(1e-2, 1.0)
    state = begin(optimiser, params)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(lambda p: ((p[0](obs) @ p[1] - 1) ** 2).mean())(params)
        return descend(optimiser, gradient, state, params)[:2]

    for _ in range(10):
        params, state = step(params, state)
    moved = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(params[0]), jax.tree.leaves(network))]
    assert any(moved) != frozen
    assert not np.allclose(params[1], jax.random.normal(KEY, (4,)))


def test_named_parts_have_their_own_encoders():
    space = Dict(
        {
            "lidar": Box(0, 10, (20,)),
            "pose": Dict({"angle": Box(-3, 3, (1,)), "gear": Discrete(3)}),
            "v": Box(-1, 1, (2,)),
        }
    )
    parts = (("pose/angle", td.Fourier(order=4)), ("lidar", td.Conv1D(channels=(4,), kernel=3, stride=1)))
    network = Torso(widths=(6,), parts=parts).build(KEY, space)
    lidar, angle, _, v = network.encoders
    assert isinstance(lidar, Readings)
    assert isinstance(angle, Cosines)
    assert isinstance(v, Numbers)
    assert sizes(network) == [(18 * 4 + 5 + 3 + 2, 6)]
    rows, obs = observations(space, 3)
    by_hand = []
    for row in rows:
        turn = np.cos(np.pi * np.arange(5) * (row["pose"]["angle"] + 3) / 6)
        by_hand.append([*lidar(row["lidar"]), *turn, *np.eye(3)[row["pose"]["gear"]], *row["v"]])
    np.testing.assert_allclose(network(obs), mlp_in_numpy(network.mlp, np.array(by_hand)), rtol=1e-4, atol=1e-4)


def test_a_small_grey_board_is_convolved_on_demand():
    board = Box(0, 3, (6, 7), np.int8)
    assert isinstance(Torso().encoder(KEY, "", board), Numbers)
    named = Torso(parts=(("", td.ResidualCNN(channels=4, blocks=1)),), widths=(5,)).build(KEY, board)
    assert sizes(named) == [(6 * 7 * 4, 5)]


def test_normalised_floats_are_not_scaled():
    """An algorithm that normalises observations hands on deviations; whole numbers are scaled all the same."""
    space = Dict({"eye": Box(0, 255, (4, 4, 1)), "ids": Box(0, 10, (2,), np.int32), "v": Box(-1, 1, (2,), np.float64)})
    eye, ids, _ = Torso().build(KEY, normalised(space)).encoders
    assert eye.seen.scale is None
    np.testing.assert_allclose(ids(jnp.array([5, 10])), [0.5, 1.0])
    assert Torso().build(KEY, space).encoders[0].seen.scale is not None
    assert jax.tree.map(jnp.shape, example(normalised(space))) == jax.tree.map(jnp.shape, example(space))


@pytest.mark.parametrize(
    ("torso", "text"),
    [
        (Torso(widths=(0,)), "Torso.widths must be positive"),
        (Torso(widths=[3]), "Torso.widths should be"),
        (Torso(widths=(3.0,)), "Torso.widths should be"),
        (Torso(widths=(1,) * 129), "at most 128 layers"),
        (Torso(activation="swish"), "Torso.activation should be"),
        (Torso(init="zeros"), "Torso.init should be"),
        (Torso(norm="batch"), "Torso.norm should be"),
        (Torso(images="vgg"), "Torso.images should be"),
        (Torso(dropout=1.0), "Torso.dropout must be at least 0 and less than 1"),
        (Torso(dropout=np.array([0.1, 0.2])), "Torso.dropout should be .*cannot be swept"),
        (Torso(parts=(("a", td.Fourier()), ("a", td.Fourier()))), "names .'a'. more than once"),
        (Torso(parts=(("a", td.Fourier(order=0)),)), "Fourier.order must be positive"),
        (Torso(parts=(("a", td.GRU()),)), "Torso.parts should be"),
        (Torso(parts=(("a", td.Fourier(order=1.5)),)), r"Torso.parts\['a'\].order should be int"),
    ],
)
def test_torso_check(torso, text):
    with pytest.raises(ConfigError, match=text):
        check(torso)
    check(TORSO)


def test_parts_that_are_not_there_are_said():
    space = Dict({"lidar": Box(0, 1, (9,)), "v": Box(-np.inf, np.inf, (2,))})
    with pytest.raises(ConfigError, match=r"there is no 'lider'.*did you mean 'lidar'"):
        Torso(parts=(("lider", td.Fourier()),)).build(KEY, space)
    with pytest.raises(ConfigError, match=r"Torso.parts\['v'\]: Fourier needs numbers with finite bounds"):
        Torso(parts=(("v", td.Fourier()),)).build(KEY, space)


@pytest.mark.parametrize("algorithm", [td.PPO, td.DQN, td.TD3, td.AlphaZero])
def test_dropout_is_refused_where_nothing_would_drop(algorithm):
    with pytest.raises(ConfigError, match=f"{algorithm.__name__} does not use Torso.dropout"):
        check(algorithm(torso=Torso(dropout=0.1)))


def test_bc_drops_while_it_learns_and_not_while_it_acts():
    spec, n = td.Spec(BOX, Discrete(3)), np.zeros(6, np.float32)
    obs = np.stack([BOX.sample() for _ in n])
    batch = td.Transition(obs, n > 0, n.astype(np.int32), {}, n, n > 0, n > 0, obs, {})
    now = td.Timestep(obs, n, n > 0, n > 0, obs, n > 0, {})
    for rate, differs in [(0.5, True), (None, False)]:
        algorithm = td.BC(torso=Torso(widths=(32,), dropout=rate))
        state = algorithm.init(KEY, spec)
        update = jax.jit(algorithm.update)
        losses = [float(update(state, batch, jax.random.key(k))[1]["loss"]) for k in (0, 1)]
        assert (losses[0] != losses[1]) == differs
        acted = [algorithm.act(algorithm.actor(state), (), now, jax.random.key(k), False)[0] for k in (0, 1)]
        np.testing.assert_array_equal(*acted)


def test_torsos_as_json():
    """Encoders are known from the torso's annotations; others are not."""
    torso = Torso(parts=(("a", td.Fourier(order=2)), ("b/0", td.ImpalaCNN(channels=(4, 8)))), dropout=0.1, widths=None)
    known = known_configs()
    assert from_json(to_json(torso), known) == torso
    data = to_json(torso)
    data["parts"][0][1]["type"] = "GRU"
    with pytest.raises(ConfigError, match="GRU has no field order"):
        from_json(data, known)


def test_alphazero_has_convolutions_where_they_are_asked_for(tmp_path):
    """Its own torso reads a board as a vector, "residual" has four blocks of 64 channels; a smaller tower learns."""
    game = td.make("pgx/tic_tac_toe")
    spec = td.Spec(game.observation_space, game.action_space, 100, masked=True, model=game)

    def encoder(torso):
        network = jax.eval_shape(lambda: td.AlphaZero(torso=torso).init(jax.random.key(0), spec)).network
        return network.torso.encoders[0]

    assert isinstance(encoder(td.AlphaZero().torso), Numbers)
    assert encoder(Torso(images="residual")).network.stages[0].blocks[3][1].kernel.shape == (3, 3, 64, 64)
    tower = Torso(widths=(8,), parts=(("", td.ResidualCNN(channels=4, blocks=1)),))
    algorithm = td.AlphaZero(
        torso=tower, simulations=2, num_envs=4, rollout_length=4, replay_ratio=1 / 16,
        replay=td.Uniform(capacity=64, batch_size=8, warmup=1),
    )  # fmt: skip
    run = td.train(algorithm, game, 48, out=tmp_path / "run", progress=False)
    assert run.agent().actor.network.torso.encoders[0].network.first.bias.any()  # which begins at 0
    assert run.metrics()["train/update_norm"][-1] > 0


# --- networks of your own ---------------------------------------------------------------------------------------------


class Net(eqx.Module):
    """An `eqx.nn.MLP`, with a function among its leaves, on observations and what comes with them."""

    mlp: eqx.nn.MLP
    features: int = eqx.field(static=True)

    def __call__(self, obs, extra=None, key=None):
        x = obs if extra is None else jnp.concatenate([obs, extra], -1)
        return jnp.vectorize(self.mlp, signature="(i)->(o)")(x)


@td.config
class Mine(td.Torso):
    """A torso with a field of its own; its activation is another function object with each call of `build`."""

    width: int = 8

    def build(self, key, space, extra=0):
        mlp = eqx.nn.MLP(space.shape[0] + extra, 6, self.width, 2, lambda x: jnp.sin(x) + 0.1 * x, key=key)
        return td.FromEquinox(Net(mlp, 6))


def test_a_module_from_equinox_is_safe_under_transformations():
    module = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    network, x = td.FromEquinox(module), jnp.ones(3)
    assert all(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(network))
    np.testing.assert_allclose(jax.jit(lambda n, x: n(x))(network, x), module(x), rtol=1e-6)
    loss = lambda n, x: (n(x) ** 2).sum()  # noqa: E731
    expected = jax.tree.leaves(eqx.filter_grad(loss)(module, x))
    for a, b in zip(jax.tree.leaves(jax.grad(loss)(network, x)), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    many = jax.vmap(lambda key: td.FromEquinox(eqx.nn.MLP(3, 2, 4, 1, key=key)))(jax.random.split(jax.random.key(0), 3))
    out = jax.vmap(lambda n, x: n(x), (0, None))(many, x)
    one = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.split(jax.random.key(0), 3)[1])
    np.testing.assert_allclose(out[1], one(x), rtol=1e-5)


def test_networks_from_equinox_with_the_same_functions_are_of_one_kind():
    def structure(torso, add=0.0):
        return jax.tree.structure(torso.build(jax.random.key(0), BOX))

    assert structure(Mine()) == structure(Mine())
    assert hash(structure(Mine())) == hash(structure(Mine()))
    assert structure(Mine()) != structure(Mine(width=9))
    plus = lambda n: td.FromEquinox(eqx.nn.Lambda(lambda x: x + n))  # noqa: E731
    assert jax.tree.structure(plus(1)) == jax.tree.structure(plus(1)) != jax.tree.structure(plus(2))


def test_arrays_that_cannot_be_learned_are_refused():
    class Table(eqx.Module):
        order: object

    for array in (jnp.arange(3), np.arange(3), jax.random.key(0)):
        with pytest.raises(ConfigError, match=r"Table holds .* which cannot be learned"):
            td.FromEquinox(Table(array))


TINY = {"replay": td.Uniform(capacity=200, batch_size=8, warmup=8), "num_envs": 2}
OWN = {
    "ppo": (td.PPO(torso=Mine(), num_envs=2, rollout_length=8, minibatch_size=8, epochs=2), "CartPole-v1"),
    "sac": (td.SAC(torso=Mine(width=5), **TINY), "Pendulum-v1"),
}


@pytest.mark.parametrize("name", OWN)
def test_a_torso_of_your_own_is_trained_saved_and_loaded(name, tmp_path):
    algorithm, env = OWN[name]
    run = td.train(algorithm, env, steps=48, out=tmp_path / "run", progress=False)
    fresh = jax.tree.leaves(algorithm.actor(algorithm.init(jax.random.key(0), run.agent().spec)))
    agent = run.agent()
    assert len(jax.tree.leaves(agent.actor)) == len(fresh)
    agent.save(tmp_path / "agent.td")
    loaded = td.load(tmp_path / "agent.td", classes=[Mine])
    assert loaded.algorithm == algorithm
    rng = np.random.default_rng(0)
    for obs in rng.normal(size=(5, *agent.spec.observation.shape)).astype(np.float32):
        np.testing.assert_array_equal(agent.act(obs, explore=True), loaded.act(obs, explore=True))
    with pytest.raises(td.CheckpointError, match="Mine is a class of your own"):
        td.load(tmp_path / "agent.td")
    again = td.resume(run.path, steps=96, classes=[Mine], progress=False)
    assert again.metrics()["steps"][-1] == 96


def test_the_guide_says_what_works(tmp_path):
    """Its blocks of Python run, and the torso of the last one learns."""
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    scope = {"td": td}
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    for block in blocks:
        exec(block, scope)
        if "algorithm" in scope:
            check(scope["algorithm"])
    algorithm = dataclasses.replace(scope["algorithm"], num_envs=2, rollout_length=8, minibatch_size=16, epochs=1)
    run = td.train(algorithm, "CartPole-v1", steps=32, out=tmp_path / "run", progress=False)
    agent = td.load(run.agent().save(tmp_path / "agent.td"), classes=[scope["MyTorso"]])
    assert agent.algorithm.torso.depth == 3
    assert {name for name in td.__all__ if name.endswith(("CNN", "Conv1D", "Fourier", "TileCoding"))} <= set(
        re.findall(r"\w+", text)
    )
