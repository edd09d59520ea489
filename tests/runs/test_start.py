"""Warm starts: what is taken from a run, an agent or a file, what is not, and what is said of it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Discrete
from safetensors.numpy import save_file

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.scan import ScanDriver
from thorndike.errors import CheckpointError, ConfigError
from thorndike.runs.storage import checkpoint
from thorndike.runs.training import loop
from thorndike.runs.training import start as start_module
from thorndike.runs.training.start import subtrees

ADAM = ".optimiser[0].mu[0]"  # the mean of the gradients of all small parameters


@td.config
class Three(td.CartPole):
    """CartPole with a third action, which pushes to the left, too."""

    action_space = Discrete(3)

    def step(self, state, action, key):
        return super().step(state, jnp.minimum(action, 1), key)


def first(run: td.Run) -> dict[str, np.ndarray]:
    """The agents' arrays before the first step."""
    found = checkpoint.load(run.path / "checkpoints" / f"{0:012d}", checkpoint.AGENT)[0]
    return {name.removeprefix(checkpoint.AGENT): x for name, x in found.items()}


def last(run: td.Run) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(checkpoint.AGENT): x
        for name, x in small.arrays(run).items()
        if name.startswith(checkpoint.AGENT)
    }


def start(name: str, out, source, **more) -> td.Run:
    return small.train(name, out, start=source, **{"steps": 32, "keep": 9, **more})


def test_from_a_run_of_the_same_kind_everything_but_the_clock_is_taken(ppo, tmp_path, capfd):
    run = start("PPO", tmp_path / "run", ppo)
    here, there = first(run), last(ppo)
    assert small.differing(here, there) == [".clock.steps", ".clock.total"]
    assert np.abs(here[ADAM]).max() > 0
    assert (here[".clock.steps"], here[".clock.total"]) == (0, 32)
    assert capfd.readouterr().err == f"start: the whole state of {ppo.journal.shell_path} at step 320\n"
    assert run.info["start"] == {
        "run": str(ppo.path), "steps": 320, "environment": "CartPole-v1", "taken": ["all"],
    }  # fmt: skip
    assert run.status["state"] == "finished"


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_each_algorithm_goes_on_with_its_whole_state(name, runs, tmp_path):
    run = start(name, tmp_path / "run", runs(name).path)
    clocks = {".clock.steps", ".clock.total"}
    assert set(small.differing(first(run), last(runs(name)))) == clocks


def test_with_other_actions_the_head_begins_anew(ppo, tmp_path, capfd):
    run = start("PPO", tmp_path / "run", ppo, env=Three())
    here, there = first(run), last(ppo)
    fresh = last(small.train("PPO", tmp_path / "fresh", env=Three(), steps=16))
    taken = [name for name in here if name in there and here[name].shape == there[name].shape]
    for name in taken:
        new = "optimiser" in name or "clock" in name
        assert np.array_equal(here[name], there[name]) != new or np.ptp(there[name]) == 0, name
    head = [name for name in here if ".policy.head" in name]
    assert len(head) == 2
    assert [here[name].shape[1:] for name in head] == [fresh[name].shape[1:] for name in head]
    assert np.abs(here[ADAM]).max() == 0
    said = capfd.readouterr().err.splitlines()[0]
    assert said == (
        f"start: params.policy.torso, params.critic, statistics, scaling from {ppo.journal.shell_path} at step 320; "
        "not taken: params.policy.head, optimiser, clock "
        "(params.policy.head.linear.weight is float32[4, 3] here, float32[4, 2] there, and 1 more)"
    )


@pytest.mark.parametrize(("parts", "taken"), [
    (("policy.torso",), ["params.policy.torso", "statistics"]),
    (("torso",), ["params.policy.torso", "params.critic.torso", "statistics"]),
    ("params.policy", ["params.policy", "statistics"]),
    (("policy.head",), ["params.policy.head"]),
    (("critic.head", "policy.torso.mlp.layers[0]"), ["params.policy.torso", "params.critic.head", "statistics"]),
])  # fmt: skip
def test_parts_limit_it_and_statistics_go_with_a_torso(parts, taken, ppo, tmp_path):
    run = start("PPO", tmp_path / "run", ppo, parts=parts, steps=16)
    assert run.info["start"]["taken"] == taken
    here, there = first(run), last(ppo)
    fresh = first(start("PPO", tmp_path / "other", ppo, parts=("critic.head.bias",), steps=16))
    for name in here:
        inside = any(name.startswith(f".{part}") for part in taken)
        source = there if inside else fresh
        assert np.array_equal(here[name], source[name]) or "critic.head" in name, name
    assert (run.agent().act(np.zeros(4)) in (0, 1)) is True


def test_an_agent_is_acted_by_from_the_first_step(tmp_path, runs):
    """The target network follows, and the memory is filled by the agent, not at random."""
    dqn = runs("DQN")
    agent = dqn.agent()
    algorithm = dataclasses.replace(small.DQN, exploration=td.Epsilon(start=0.0, end=0.0))
    run = start("DQN", tmp_path / "run", agent, algorithm=algorithm, checkpoint_steps=16)
    here = first(run)
    for name, x in here.items():
        if name.startswith(".target"):
            assert np.array_equal(x, here[name.replace(".target", ".q")])
            assert np.array_equal(x, last(dqn)[name.replace(".target", ".q")])
    state = checkpoint.load(run.path / "checkpoints" / f"{16:012d}")[0]
    obs, action = state[".memory.data.obs"][0], state[".memory.data.action"][0]
    played = agent.act(obs[:16].reshape(-1, 4))
    assert np.array_equal(played, action[:16].ravel()), (played, action[:16].ravel())
    assert len(set(played.tolist())) <= 2
    assert run.info["start"]["agent"] == "DQN"


def test_an_agents_file_and_a_run_that_learned_otherwise(tmp_path, ppo):
    """BC is fine-tuned by PPO; what it calls policy is PPO's params.policy."""
    data = ppo.record(3, tmp_path / "data")
    clone = td.BC(torso=small.TORSO, normalize_observation=True, batch_size=8)
    bc = td.train(clone, "CartPole-v1", 20, dataset=data, out=tmp_path / "bc", log_every=20, progress=False)
    file = bc.agent().save(tmp_path / "bc.td")
    for source in (bc, file, bc.agent()):
        run = start("PPO", tmp_path / f"run-{type(source).__name__}", source, steps=16)
        assert run.info["start"]["taken"] == ["params.policy", "statistics"]
        assert np.array_equal(first(run)[".params.policy.head.linear.weight"], last(bc)[".policy.head.linear.weight"])
    back = td.train(clone, "CartPole-v1", 20, dataset=data, start=run, out=tmp_path / "back", progress=False)
    assert back.info["start"]["taken"] == ["policy", "statistics"]
    assert np.array_equal(first(back)[".policy.head.linear.weight"], last(run)[".params.policy.head.linear.weight"])


def test_a_safetensors_file_has_arrays_by_their_paths(tmp_path):
    """As other libraries name them, too."""
    plain = dataclasses.replace(small.PPO, normalize_observation=False)
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    save_file({"mlp.layers.0.weight": weight, "other": np.zeros(3, np.float32)}, tmp_path / "encoder.safetensors")
    for parts in (None, ("policy.torso",)):
        out = tmp_path / str(parts)
        run = start("PPO", out, str(tmp_path / "encoder.safetensors"), algorithm=plain, steps=16, parts=parts)
        same = {name for name, x in first(run).items() if x[0].shape == (4, 4) and np.array_equal(x[0], weight)}
        policy, critic = (f".params.{net}.torso.mlp.layers[0].weight" for net in ("policy", "critic"))
        assert same == ({policy} if parts else {policy, critic})
        assert run.info["start"]["file"] == str(tmp_path / "encoder.safetensors")


@pytest.mark.parametrize(("seeds", "rows"), [(2, [0, 1]), (3, [0, 0, 0])])
def test_seeds_start_from_their_own_or_all_from_the_first(seeds, rows, tmp_path, capfd):
    source = small.train("PPO", tmp_path / "source", seeds=2, steps=32)
    run = start("PPO", tmp_path / "run", source, seeds=seeds)
    for name, x in first(run).items():
        if ".params" in name:
            assert np.array_equal(x, last(source)[name][rows]), name
    assert ("the first of its 2 agents" in capfd.readouterr().err) == (seeds == 3)


@pytest.mark.parametrize("env", ["gymnasium/CartPole-v1", small.FiveSteps])
def test_on_the_host(env, ppo, tmp_path):
    run = start("PPO", tmp_path / "run", ppo, env=env, workers="serial")
    assert set(small.differing(first(run), last(ppo))) == {".clock.steps", ".clock.total"}
    assert run.status["state"] == "finished"


def test_a_run_that_is_killed_at_once_goes_on_from_what_it_started_from(ppo, tmp_path, monkeypatch):
    """Which may be gone by then."""
    source = shutil.copytree(ppo.path, tmp_path / "source")
    whole = start("PPO", tmp_path / "whole", source)

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(ScanDriver, "advance", lambda *args: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            start("PPO", tmp_path / "run", source)
    shutil.rmtree(source)
    run = td.resume(tmp_path / "run", progress=False)
    assert small.differing(small.arrays(run), small.arrays(whole)) == []
    assert run.info["start"]["run"] == str(source)


def test_an_interrupted_run_goes_on_bit_for_bit(runs, tmp_path, monkeypatch):
    """Also in its warm-up, which is not random."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    whole = start("DQN", tmp_path / "whole", runs("DQN"), steps=64, log_every=16)
    small.interrupt(monkeypatch, 16)
    with pytest.raises(KeyboardInterrupt):
        start("DQN", tmp_path / "run", runs("DQN"), steps=64, log_every=16)
    run = td.resume(tmp_path / "run", progress=False)
    assert small.differing(small.arrays(run), small.arrays(whole)) == []


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(tmp_path, source, error=ConfigError, **more) -> str:
    with pytest.raises(error) as raised:
        start("PPO", tmp_path / "refused", source, **more)
    assert not (tmp_path / "refused").exists()
    return str(raised.value)


def test_nothing_at_all_fits(runs, tmp_path):
    wide = dataclasses.replace(
        small.PPO, torso=td.Torso(widths=(5,)), normalize_observation=False, normalize_reward=False
    )
    text = refused(tmp_path, runs("SAC"), algorithm=wide)
    assert "nothing of " in text
    assert "fits PPO: params.policy.torso.mlp.layers.0.weight is float32[4, 5] here, " in text


@pytest.mark.parametrize(("parts", "text"), [
    (("actor",), "no part of PPO is called 'actor': params, statistics, scaling"),
    (("policy.torso", "pol"), "no part of PPO is called 'pol'"),
    (("policy.head",), "nothing of 'policy.head' fits .*: params.policy.head.linear.weight is "
                       r"float32\[4, 3\] here, float32\[4, 2\] there"),
])  # fmt: skip
def test_a_part_that_is_not_there_or_does_not_fit(parts, text, ppo, tmp_path):
    assert re.search(text, refused(tmp_path, ppo, env=Three(), parts=parts))


@pytest.mark.parametrize("here", [True, False])
def test_networks_see_what_they_have_learned_from(here, ppo, tmp_path):
    """Observations normalised there and not here, or here and not there."""
    plain = dataclasses.replace(small.PPO, normalize_observation=False, learning_rate=1e-3)
    source = ppo if not here else small.train("PPO", tmp_path / "plain", algorithm=plain, steps=16)
    algorithm = small.PPO if here else plain
    text = refused(tmp_path, source, algorithm=algorithm)
    assert f"set normalize_observation={not here}" in text
    run = start("PPO", tmp_path / "run", source, algorithm=algorithm, parts=("policy.head",), steps=16)
    assert run.status["state"] == "finished"  # heads have nothing to do with it


def test_what_is_not_there_or_damaged(ppo, tmp_path):
    assert "there is no file" in refused(tmp_path, tmp_path / "nowhere", CheckpointError)
    assert "no run.json in it" in refused(tmp_path, tmp_path, CheckpointError)
    assert "start must be a run, an agent, or a path" in refused(tmp_path, 3)
    file = ppo.agent().save(tmp_path / "agent.td")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert "is damaged" in refused(tmp_path, file, CheckpointError)
    (tmp_path / "no.txt").write_text("no")
    assert "is not a readable safetensors file" in refused(tmp_path, tmp_path / "no.txt", CheckpointError)
    copy = shutil.copytree(ppo.path, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    assert "has no checkpoint yet" in refused(tmp_path, copy, CheckpointError)
    assert "parts say what is taken of start" in refused(tmp_path, None, parts=("policy",))


def test_an_agent_that_has_diverged(tmp_path):
    rates = dataclasses.replace(small.PPO, learning_rate=np.array([1e30, 1e-3]))
    source = small.train("PPO", tmp_path / "source", algorithm=rates, steps=64)
    assert "diverged at step 16: start from another" in refused(tmp_path, source)
    run = start("PPO", tmp_path / "run", source.agent(configuration=1), steps=16)
    assert run.status["state"] == "finished"
    bad = jax.tree.map(lambda x: np.full_like(x, np.nan) if x.dtype == np.float32 else x, run.agent().actor)
    agent = td.Agent(small.PPO, run.spec, bad)
    assert "is not finite: start from something else" in refused(tmp_path, agent)


def test_the_command_line(ppo, tmp_path, capsys):
    argv = ["train", "ppo", "CartPole-v1", *small.PPO_FLAGS, "--steps", "16", "--out", str(tmp_path / "run")]
    assert main([*argv, "--start", str(ppo.path), "--parts", "policy.torso", "critic"]) == 0
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["start"]["taken"] == ["params.policy.torso", "params.critic", "statistics"]
    assert "start: params.policy.torso" in capsys.readouterr().err


def test_subtrees():
    names = ["a.b.c", "a.b.d", "a.e", "f.g"]
    assert subtrees(["a.b.c", "a.b.d"], names) == ["a.b"]
    assert subtrees(["a.b.c", "a.e"], names) == ["a.b.c", "a.e"]
    assert subtrees(names, names) == ["a", "f"]
    assert subtrees([], names) == []


# --- what it is for ---------------------------------------------------------------------------------------------------


@td.config
class Swapped(td.CartPole):
    """CartPole whose two actions have changed places."""

    def step(self, state, action, key):
        return super().step(state, 1 - action, key)


def test_a_policy_that_is_taken_sees_what_it_has_learned_from(ppo, tmp_path, monkeypatch):
    """It says of any observation what it said before; without the statistics that go with it, it does not."""
    obs = 0.3 * np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    said = ppo.agent().probabilities(obs)
    run = start("PPO", tmp_path / "run", ppo, parts=("policy",), steps=16)
    np.testing.assert_array_equal(run.agent(step=0).probabilities(obs), said)
    monkeypatch.setattr(start_module, "STATISTICS", "none of them")
    mutant = start("PPO", tmp_path / "mutant", ppo, parts=("policy",), steps=16)
    assert np.abs(mutant.agent(step=0).probabilities(obs) - said).max() > 1e-3


def frozen(source, out, **more) -> td.Run:
    torso = dataclasses.replace(small.TORSO, frozen=True)
    return start("PPO", out, source, algorithm=dataclasses.replace(small.PPO, torso=torso), env=Swapped(), **more)


@pytest.mark.parametrize("parts", [("torso",), None])
def test_a_frozen_torso_stays_as_it_is_and_heads_move(parts, ppo, tmp_path, monkeypatch):
    """To the bit, also where all of a run is taken; with the moments of its optimiser the torso would move."""
    run = frozen(ppo, tmp_path / "run", parts=parts)
    torso = lambda of: {name: x for name, x in of.items() if ".params" in name and ".torso" in name}  # noqa: E731
    assert small.differing(torso(last(run)), torso(last(ppo))) == []
    assert run.info["start"]["taken"] != ["all"]
    for net in ("policy", "critic"):
        head = f".params.{net}.head.{'linear.' if net == 'policy' else ''}weight"
        assert np.abs(last(run)[head] - first(run)[head]).max() > 0
    if parts is None:
        monkeypatch.setattr(start_module, "_freezes", lambda algorithm: False)
        moved = frozen(ppo, tmp_path / "mutant")
        assert small.differing(torso(last(moved)), torso(last(ppo)))


@pytest.mark.slow
def test_torsos_that_balance_one_pole_balance_another_sooner(tmp_path):
    """Heads that are taken, too, begin with the wrong action."""
    algorithm = td.preset("ppo", "CartPole-v1")
    pole = td.train(algorithm, "CartPole-v1", 100_000, out=tmp_path / "pole", progress=False)
    how = {"steps": 3_072, "seeds": 3, "progress": False}

    def begun(name, **more):
        return td.train(algorithm, Swapped(), **more, out=tmp_path / name, **how)

    run = begun("begun", start=pole, parts=("torso",))
    scratch = begun("fresh").evaluate(20).per_run
    assert min(run.evaluate(20).per_run) >= 450
    assert np.mean(scratch) <= 400
    heads = begun("heads", start=pole, parts=("policy", "critic"))
    assert max(heads.evaluate(20, step=0).per_run) < 12
