"""The gated transformer: one pass over a stretch against one step at a time, and who sees what of the past."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box

import thorndike as td
from thorndike.nets.recurrent import after, ahead, last, unroll
from thorndike.nets.transformer import Layer, Transformer, Window

T, E = 12, 3
SPACE = Box(-1, 1, (2,))


def network(memory=4):
    """Its distances matter: their biases are not zero."""
    core = td.GTrXL(width=8, layers=2, heads=2, memory=memory, gate_bias=0.0)
    made = core.build(jax.random.key(0), td.Torso(widths=(6,)).build(jax.random.key(1), SPACE))
    noise = lambda x: x + jax.random.normal(jax.random.key(x.size), x.shape)  # noqa: E731
    return core, eqx.tree_at(lambda n: [layer.distance for layer in n.layers], made, replace_fn=noise)


def stretch(seed=0, ends=0.2):
    rng = np.random.default_rng(seed)
    first = jnp.asarray(rng.random((T, E)) < ends).at[0].set(jnp.arange(E) == 1)
    return jnp.asarray(rng.normal(size=(T, E, 2)), jnp.float32), first


def traced():
    """`unroll` with the memory after it, compiled for each length that it is called with, and traced anew."""

    def run(made, obs, first, carry):
        features, trail = unroll(made, obs, first, carry)
        return features, trail, after(made, trail)

    return jax.jit(run)


def step_by_step(run, made, obs, first, carry):
    """Features [T, E, W] of one step at a time, and the memory after each."""
    features, memories = [], []
    for t in range(len(obs)):
        x, _, carry = run(made, obs[t : t + 1], first[t : t + 1], carry)
        features.append(x[0])
        memories.append(carry)
    return jnp.stack(features), memories


def remembered(core, made):
    """A window with something in it, of which not all belongs to the episode under way."""
    return traced()(made, *stretch(7), core.carry(E))[2]


def distance(memory=4):
    """How far one pass over a stretch is from one step at a time, in features and in what is remembered."""
    (core, made), run = network(memory), traced()
    carry, (obs, first) = remembered(core, made), stretch()
    features, _, now = run(made, obs, first, carry)
    slowly, memories = step_by_step(run, made, obs, first, carry)
    later = memories[-1]
    assert (now.there == later.there).all()
    inputs = jnp.where(now.there[..., None, None], now.inputs - later.inputs, 0)
    return max(float(jnp.abs(features - slowly).max()), float(jnp.abs(inputs).max()))


@pytest.mark.parametrize("memory", [1, 4, T, 2 * T])
def test_one_pass_is_one_step_at_a_time(memory):
    """With episodes that begin inside, and reach shorter and longer than the stretch."""
    assert stretch()[1].sum() > 4
    assert distance(memory) < 1e-5


@pytest.mark.parametrize("bug", ["no reset", "one step too far", "one step too near", "distances from the start"])
def test_bugs_are_noticed(bug, monkeypatch):
    seen, call = Transformer._seen, Layer.__call__
    if bug == "no reset":
        wrong = lambda self, episode, own, ago: seen(self, 0 * episode, 0 * own, ago)  # noqa: E731
        monkeypatch.setattr(Transformer, "_seen", wrong)
    elif bug == "distances from the start":
        late = lambda self, x, past, mask, ago, own: call(self, x, past, mask, jnp.maximum(ago, ago[-1]), own)  # noqa: E731
        monkeypatch.setattr(Layer, "__call__", late)
    else:
        more = 1 if bug == "one step too far" else -1
        wrong = lambda self, episode, own, ago: (  # noqa: E731
            (ago >= 0) & (ago <= self.memory + more) & (episode[:, None, :] == own[:, :, None])
        )
        monkeypatch.setattr(Transformer, "_seen", wrong)
    if bug in ("no reset", "one step too near"):
        core, made = network()
        features = traced()(made, *stretch(), core.carry(E))[0]
        monkeypatch.undo()
        right = traced()(made, *stretch(), core.carry(E))[0]
        assert float(jnp.abs(features - right).max()) > 1e-3
    else:
        assert distance() > 1e-4


def test_an_episode_does_not_see_the_one_before():
    """Features behind a first step have no gradient from what lies before it, and some from what lies behind it."""
    core, made = network(memory=T)
    obs, first = stretch(ends=0.0)
    first = first.at[6].set(True)
    carry = remembered(core, made)
    gradient = jax.jit(jax.grad(lambda obs: unroll(made, obs, first, carry)[0][9].sum()))(obs)
    reached = np.abs(np.asarray(gradient)).sum((1, 2)) > 0
    assert not reached[:6].any()
    assert reached[6:10].all()
    assert not reached[10:].any()


def test_reach():
    """In one layer a step sees `memory` steps back and no further."""
    core = td.GTrXL(width=8, layers=1, heads=2, memory=3, gate_bias=0.0)
    made = core.build(jax.random.key(0), td.Torso(widths=(6,)).build(jax.random.key(1), SPACE))
    obs, first = stretch(ends=0.0)
    gradient = jax.jit(jax.grad(lambda obs: unroll(made, obs, first, core.carry(E))[0][9].sum()))(obs)
    np.testing.assert_array_equal(np.flatnonzero(np.abs(np.asarray(gradient)).sum((1, 2))), [6, 7, 8, 9])


def test_what_was_remembered_has_no_gradient():
    core, made = network()
    obs, first = stretch(ends=0.0)
    carry = remembered(core, made)
    gradient = jax.jit(jax.grad(lambda x: unroll(made, obs, first, Window(x, carry.there))[0].sum()))(carry.inputs)
    assert not np.asarray(gradient).any()


def test_one_step_ahead_of_each_step():
    """As if that observation had come next in the same episode, whatever did; of the last steps alone too."""
    (core, made), run = network(), traced()
    carry, (obs, first), (there, _) = remembered(core, made), stretch(), stretch(3)
    trail = run(made, obs, first, carry)[1]
    found = jax.jit(ahead)(made, trail, there)
    no = jnp.zeros((1, E), bool)
    for t, memory in enumerate(step_by_step(run, made, obs, first, carry)[1]):
        expected = run(made, there[t : t + 1], no, memory)[0][0]
        np.testing.assert_allclose(found[t], expected, atol=1e-5)
    late = jax.jit(lambda trail, obs: ahead(made, last(made, trail, 3), obs))(trail, there[-3:])
    np.testing.assert_allclose(late, found[-3:], atol=1e-5)


def test_a_large_gate_bias_passes_the_input_on():
    core = td.GTrXL(width=8, layers=1, heads=2, memory=4, gate_bias=20.0)
    made = core.build(jax.random.key(0), td.Torso(widths=(6,)).build(jax.random.key(1), SPACE))
    obs, first = stretch()
    features = traced()(made, obs, first, core.carry(E))[0]
    np.testing.assert_allclose(features, made.embed(made.torso(obs)), atol=1e-4)


def test_refusals():
    with pytest.raises(td.ConfigError, match="multiple of heads"):
        td.GTrXL(width=10, heads=4).check()
    with pytest.raises(td.ConfigError, match="positive"):
        td.GTrXL(memory=0).check()
