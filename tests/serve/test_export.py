"""Exported policies against the agents themselves; each part of the pipeline that is left out is noticed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import thorndike as td
from thorndike.cli import main
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent
from thorndike.schedules import settled
from thorndike.serve import export as exporting
from thorndike.serve import policy as policies
from thorndike.serve.onnx_file import OnnxPolicy
from thorndike.types import Spec

onnxruntime = pytest.importorskip("onnxruntime")
TORSO = td.Torso(widths=(8, 8), init="uniform")
IMAGES = td.Torso(images="small", widths=(8,))
VECTOR = Box(np.array([-1, -np.inf, 0], np.float32), np.array([1, np.inf, 5], np.float32))
ARMS = Box(np.array([-3.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32))
PARTS = Dict({"speed": Box(-1, 1, (2,), np.float32), "gear": Discrete(3)})
ROOMS = td.four_rooms()
PPO = {"torso": TORSO, "normalize_observation": True}

CASES = {
    "discrete": (td.PPO(**PPO), Spec(VECTOR, Discrete(3, start=2), 1, "t")),
    "masked": (td.PPO(**PPO), Spec(VECTOR, Discrete(4), 1, "t", True)),
    "multidiscrete": (td.PPO(**PPO), Spec(PARTS, MultiDiscrete([2, 3]), 1, "t", True)),
    "multibinary": (td.PPO(**PPO), Spec(VECTOR, MultiBinary(3), 1, "t")),
    "clipped": (td.PPO(**PPO), Spec(VECTOR, ARMS, 1, "t")),
    "whole": (td.PPO(**PPO), Spec(VECTOR, Box(0, 200, (2,), np.uint8), 1, "t")),
    "memory": (td.PPO(**PPO, core=td.GRU(width=4)), Spec(VECTOR, Discrete(3), 1, "t")),
    "lstm": (td.PPO(**PPO, core=td.LSTM(width=4)), Spec(VECTOR, ARMS, 1, "t")),
    "image": (td.PPO(torso=IMAGES), Spec(Box(0, 255, (10, 10, 3), np.uint8), Discrete(3), 1, "t")),
    "dqn": (td.DQN(torso=TORSO), Spec(VECTOR, Discrete(3), 1, "t")),
    "sac": (td.SAC(torso=TORSO), Spec(VECTOR, ARMS, 1, "t")),
    "mbpo": (td.MBPO(agent=td.SAC(torso=TORSO), model=td.Gaussians(widths=(8,))), Spec(VECTOR, ARMS, 1, "t")),
    "dreamer": (td.Dreamer(), Spec(VECTOR, Discrete(3), 1, "t")),
    "table": (td.QLearning(), Spec(Discrete(5), Discrete(3), 1, "t")),
    "options": (td.OptionCritic(torso=TORSO), Spec(VECTOR, Discrete(3), 1, "t")),
    "goals": (td.HIRO(), Spec(VECTOR, ARMS, 1, "t")),
    "blocks": (td.FeudalQ(block=4), Spec(ROOMS.observation_space, Discrete(4), 1, "t", model=ROOMS)),
}  # fmt: skip


PLANS = (td.PETS(planner=td.CEM(population=8, elites=2), horizon=3), Spec(VECTOR, ARMS, 1, "t"))


def agent_of(case: str) -> Agent:
    """An agent nobody trained, all of whose numbers, those that normalise too, differ from their first ones."""
    algorithm, spec = CASES.get(case, PLANS)
    algorithm = settled(algorithm, 0, 100, 0)
    actor = algorithm.actor(algorithm.init(random_key(0), spec))
    rng = np.random.default_rng(1)
    move = lambda x: x + np.abs(rng.normal(0, 0.5, x.shape)).astype(x.dtype) if x.dtype.kind == "f" else x  # noqa: E731
    return Agent(algorithm, spec, jax.tree.map(lambda x: move(np.asarray(x)), actor))


@pytest.mark.parametrize("case", CASES)
def test_onnx_acts_as_the_agent(case, tmp_path):
    found = exporting.export(agent_of(case), tmp_path / "policy.onnx", check=200)
    assert found.checked >= 200
    assert found.difference < 1e-5
    assert found.batch == (1 if case in ("image", "table", "options", "blocks") else None)
    carries = [name for name in found.inputs if name.startswith("carry")]
    assert len(carries) == {"memory": 1, "lstm": 2, "dreamer": 3, "options": 1, "goals": 2, "blocks": 3}.get(case, 0)
    assert ("first" in found.inputs) == bool(carries)
    assert ("mask" in found.inputs) == (case in ("masked", "multidiscrete"))


@pytest.mark.parametrize("case", ["discrete", "multidiscrete", "clipped", "memory", "dqn", "sac", "options", "blocks"])
def test_a_module_of_numpy_acts_as_the_agent(case, tmp_path):
    agent = agent_of(case)
    assert exporting.export(agent, tmp_path / "policy.py", check=200).difference < 1e-5
    if case == "discrete":
        code = (
            "import sys, policy; print(policy.act([[0.1, 0.2, 0.3]])); print(sorted(m for m in sys.modules if "
            "m.partition('.')[0] in ('jax', 'onnxruntime', 'thorndike')))"
        )
        said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path, env={}).splitlines()
        assert said == [f"[{agent.act([0.1, 0.2, 0.3])}]", "[]"]


def test_whole_numbers_are_divided_as_jax_does(tmp_path):
    """Towards zero, and -1 where the divisor is 0; `//` alone, which goes down, would differ."""
    exporting.export(agent_of("blocks"), tmp_path / "policy.py", check=10)
    spec = importlib.util.spec_from_file_location("policy", tmp_path / "policy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    some = np.array([-(2**31), -9, -7, -2, -1, 0, 1, 2, 7, 9, 2**31 - 1], np.int32)
    x, y = (z.ravel() for z in np.meshgrid(some, some[1:]))
    expected = np.asarray(jax.lax.div(x, y))
    with np.errstate(over="ignore"):
        found, down = module.divide(x, y), x // np.where(y == 0, 1, y)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32
    assert (down != expected)[y != 0].any()
    halves = np.array([1.0, -3.0], np.float32)
    np.testing.assert_array_equal(module.divide(halves, np.float32(2)), [0.5, -1.5])


def left_out(name):
    """A part of the pipeline that is not in the graph, while the agent has it."""
    made = exporting.policy_of

    def mutant(agent):
        with pytest.MonkeyPatch.context() as patch:
            if name == "normalisation":
                patch.setattr("thorndike.nets.actor_critic.normalise_tree", lambda statistics, obs: obs)
            elif name == "clipping":
                patch.setattr(policies, "to_environment", lambda space, action: action)
            elif name == "scaling":
                patch.setattr("thorndike.nets.policy.Actions.to_environment", lambda self, action: action)
            elif name == "mask":
                real = policies.Timestep
                patch.setattr(policies, "Timestep", lambda *args: real(*args[:-1], {"mask": args[-1]["mask"] | True}))
            elif name == "first":
                real = policies.Timestep
                patch.setattr(policies, "Timestep", lambda *args: real(*args[:5], args[5] & False, args[6]))
            return made(agent)

    return mutant


@pytest.mark.parametrize(
    ("case", "part"),
    [
        ("clipped", "normalisation"),
        ("clipped", "clipping"),
        ("sac", "scaling"),
        ("masked", "mask"),
        ("lstm", "first"),
    ],
)
def test_what_is_left_out_is_noticed(case, part, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "policy_of", left_out(part))
    with pytest.raises(td.CheckpointError, match="does not act as the agent does"):
        exporting.export(agent_of(case), tmp_path / "policy.onnx", check=300)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_says_why(tmp_path, monkeypatch):
    agent = agent_of("sac")
    with pytest.raises(td.ConfigError, match="exported to"):
        agent.export(tmp_path / "policy.pt")
    with pytest.raises(td.ConfigError, match="at least 1"):
        agent.export(tmp_path / "policy.onnx", check=0)
    with pytest.raises(td.IncompatibleError, match=r"PETS.* cannot be exported"):  # its planner sorts what it drew
        agent_of("pets").export(tmp_path / "policy.onnx")
    monkeypatch.delitem(sys.modules["thorndike.serve.operators"].__dict__["SAME"], "tanh")
    with pytest.raises(td.IncompatibleError, match="operation 'tanh' has no translation"):
        agent.export(tmp_path / "policy.onnx")


def test_damaged_files_are_not_run(tmp_path):
    path = exporting.export(agent_of("dqn"), tmp_path / "policy.onnx", check=10).path
    data = bytearray(path.read_bytes())
    run = OnnxPolicy(path)
    import onnx

    model = onnx.load_model_from_string(bytes(data))
    largest = max((x for x in model.graph.initializer), key=lambda x: len(x.raw_data))
    at = bytes(data).index(largest.raw_data)
    data[at + 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(td.CheckpointError, match="is damaged"):
        OnnxPolicy(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(td.CheckpointError, match="is no ONNX file"):
        OnnxPolicy(path)
    assert run.about["algorithm"]["type"] == "DQN"


def test_commands(tmp_path, capsys):
    agent, out = agent_of("sac").save(tmp_path / "agent.td"), tmp_path / "policy.onnx"
    assert main(["export", str(agent), "--out", str(out), "--check", "64"]) == 0
    assert "batches of any size" in capsys.readouterr().out
    assert main(["latency", str(out), "--calls", "50", "--budget", "10s"]) == 0
    assert "p99" in capsys.readouterr().out
    assert main(["latency", str(out), "--calls", "50", "--budget", "0.001us"]) == 1
    assert "over budget" in capsys.readouterr().err
    assert main(["latency", str(agent), "--calls", "20"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("JAX", "NumPy", "ONNX Runtime"))
    assert main(["latency", str(out), "--budget", "soon"]) == 2
    assert "a budget is a time such as 25ms" in capsys.readouterr().err
    assert main(["export", str(agent), "--out", "policy.pt"]) == 2
