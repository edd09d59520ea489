"""Weights of 8 bits: how far they round, what they earn, and that worse files are refused."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from test_export import agent_of

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.evaluate import evaluate
from thorndike.drivers.rule import NOBODY
from thorndike.serve import quantised
from thorndike.serve.export import export
from thorndike.serve.onnx_file import OnnxPolicy
from thorndike.serve.quantised import OnnxPlayer, Quantised, quantise
from thorndike.types import Spec

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    agent = td.PPO(torso=td.Torso(widths=(64, 64), init="uniform"))
    return td.train(agent, "CartPole-v1", 2048, out=tmp_path_factory.mktemp("q") / "run", progress=False)


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    file = export(run.agent(), tmp_path_factory.mktemp("q") / "policy.onnx", check=64)
    quantised._write(file.path, file.path.with_suffix(".int8.onnx"))
    return file


def weights(path):
    model = onnx.load(path)
    return {x.name: onnx.numpy_helper.to_array(x) for x in model.graph.initializer}, [
        n.op_type for n in model.graph.node
    ]


def test_weights_are_rounded_by_column(made):
    """|W - s W₈| ≤ s / 2 for each column, with the scale that 7 bits of a column's largest weight ask for."""
    before, _ = weights(made.path)
    after, ops = weights(made.path.with_suffix(".int8.onnx"))
    assert "MatMulInteger" in ops
    assert "MatMul" not in ops
    matrices = [name for name, x in before.items() if x.dtype == np.float32 and f"{name}_quantized" in after]
    assert len(matrices) >= 3
    for name in matrices:
        w, whole, scale = before[name], after[f"{name}_quantized"], after[f"{name}_scale"]
        assert whole.dtype == np.int8
        assert scale.shape == (w.shape[1],)
        assert np.abs(whole).max() <= 64
        np.testing.assert_allclose(scale, np.abs(w).max(0) / 64, rtol=0.02)
        assert (np.abs(w - scale * whole.astype(np.float32)) <= 0.51 * scale).all()


def test_both_files_play_as_the_agent(run, made):
    """The player of the float file earns what the agent earns in the same episodes, and the smaller one nearly so."""
    agent = run.evaluate(5).returns[0]
    files = made.path, made.path.with_suffix(".int8.onnx")
    found = [evaluate(OnnxPlayer(OnnxPolicy(x), run.spec), NOBODY, run.env, 5).returns[0] for x in files]
    np.testing.assert_array_equal(found[0], agent)
    assert files[1].stat().st_size < 0.6 * files[0].stat().st_size
    other = OnnxPlayer(OnnxPolicy(files[0]), Spec(run.spec.observation, Discrete(2, start=1), 1, "t"))
    assert not np.array_equal(evaluate(other, NOBODY, run.env, 5).returns[0], agent)  # another start, other actions


@pytest.mark.parametrize("case", ["memory", "image"])
def test_memory_and_single_observations(case, tmp_path):
    """Carries go from call to call; a file of one observation at a time is asked for each."""
    import jax

    from thorndike.types import Timestep

    agent = agent_of(case)
    player = OnnxPlayer(OnnxPolicy(export(agent, tmp_path / "policy.onnx", check=32).path), agent.spec)
    agent.reset()
    carry, n = player.carry((), 3), 3
    first, none = np.ones(n, bool), np.zeros(n, np.float32)
    for _ in range(3):
        obs = np.stack([agent.spec.observation.sample() for _ in range(n)])
        obs = obs if obs.dtype.kind == "u" else np.clip(obs, -5, 5)
        now = Timestep(obs, none, ~first, ~first, obs, first, {})
        action, carry, _ = player.act((), carry, now, jax.random.key(0), False)
        np.testing.assert_array_equal(np.asarray(action), agent.act(obs, first=first))
        first = np.zeros(n, bool)


def test_a_worse_file_is_refused(run, made, monkeypatch):
    """A fall of 1% or more, also below 0, and one that is no number; a rise is none."""

    def of(before, after):
        return Quantised(made.path, (2, 1), (np.full(20, before), np.full(20, after)), ())  # type: ignore[arg-type]

    assert of(500.0, 496.0).fall == pytest.approx(0.008)
    assert of(-100.0, -102.0).fall == pytest.approx(0.02)
    assert of(-100.0, -90.0).fall < 0
    assert of(0.0, 0.0).fall == 0
    assert of(0.0, -1.0).fall > 1
    write = quantised._write

    def shuffled(path, out):
        write(path, out)
        model = onnx.load(out)
        for x in model.graph.initializer:
            if x.name.endswith("_quantized"):
                x.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(x), x.name))
        constants = {x.name: onnx.numpy_helper.to_array(x) for x in model.graph.initializer}
        about = {e.key: e.value for e in model.metadata_props} | {"sha256": quantised.digest(constants)}
        onnx.helper.set_model_props(model, about)
        onnx.save(model, out)

    monkeypatch.setattr(quantised, "_write", shuffled)  # the network turned round
    monkeypatch.setattr(quantised, "CALLS", 20)
    with pytest.raises(td.CheckpointError, match=r"falls from .* so that file was not kept"):
        quantise(made, run.env, run.spec)
    assert not made.path.with_suffix(".int8.onnx").exists()
    assert made.path.exists()


def test_tables_have_nothing_to_round(tmp_path):
    file = export(agent_of("table"), tmp_path / "policy.onnx", check=32)
    with pytest.raises(td.IncompatibleError, match="8 bits would change nothing"):
        quantise(file, None, Spec(Discrete(5), Box(0, 1, (1,), np.float32), 1, "t"))


def test_command(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quantised, "FALL", 0.5)  # the agent is hardly trained
    monkeypatch.setattr(quantised, "CALLS", 50)
    out = tmp_path / "policy.onnx"
    assert main(["export", str(run.path), "--out", str(out), "--check", "32", "--int8"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("smaller", "in the same 20 episodes", "p99", "are about size"))
    assert out.with_suffix(".int8.onnx").is_file()
    assert main(["latency", str(out.with_suffix(".int8.onnx")), "--calls", "20"]) == 0
    assert main(["export", str(run.path), "--out", str(tmp_path / "policy.py"), "--int8"]) == 2
    assert "--int8 makes an .onnx file" in capsys.readouterr().err
