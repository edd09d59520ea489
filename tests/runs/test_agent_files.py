"""An agent's file: read as it was written, or refused."""

from __future__ import annotations

import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
import small_runs as small
from safetensors.numpy import save_file

import thorndike as td
from thorndike.errors import CheckpointError, ConfigError
from thorndike.runs.storage import checkpoint


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_a_loaded_agent_acts_the_same(name, runs, tmp_path):
    agent = runs(name).agent()
    with pytest.raises(ConfigError, match=r"is a directory: name a file in it, such as .*agent\.td"):
        agent.save(tmp_path)
    path = agent.save(tmp_path / "new" / "agent.td")
    loaded = td.load(path)
    assert loaded.algorithm == agent.algorithm
    assert (loaded.spec.observation, loaded.spec.action) == (agent.spec.observation, agent.spec.action)
    obs = np.random.default_rng(0).normal(size=(256, agent.spec.observation.shape[0])).astype(np.float32)
    assert np.array_equal(loaded.act(obs), agent.act(obs))
    agent.reset(1)
    loaded.reset(1)
    assert np.array_equal(loaded.act(obs, explore=True), agent.act(obs, explore=True))
    if name == "PPO":
        mean = np.asarray(jax.tree.leaves(loaded.actor.statistics)[0])
        assert [np.asarray(x).tobytes() for x in jax.tree.leaves(loaded.actor)] == [
            np.asarray(x).tobytes() for x in jax.tree.leaves(agent.actor)
        ]
        assert np.any(mean != 0)
        fresh = small.PPO.init(jax.random.key(0), agent.spec).statistics
        without = td.Agent(agent.algorithm, agent.spec, agent.actor._replace(statistics=fresh))
        assert not np.array_equal(without.act(obs), agent.act(obs))  # they matter


def test_a_tilde_is_the_home_directory(ppo, tmp_path, monkeypatch):
    """Of all that is written and read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    agent = ppo.agent()
    assert agent.save("~/agent.td") == tmp_path / "agent.td"
    assert td.load("~/agent.td").algorithm == agent.algorithm
    ppo.plot("~/curve.svg")
    assert ppo.watch("~/film.gif", frames=3).path == tmp_path / "film.gif"
    data = ppo.record(1, "~/data")
    assert (data.path, len(td.Dataset("~/data"))) == (tmp_path / "data", len(data))
    assert {path.name for path in tmp_path.iterdir()} == {"agent.td", "curve.svg", "film.gif", "data"}


def test_flipped_bits_and_cuts_of_an_agents_file_are_noticed(ppo, tmp_path):
    path = ppo.agent().save(tmp_path / "agent.td")
    data, rng = path.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(data[:8], "little")
    flips = [
        (int(at), 1 << rng.integers(8)) for at in [*rng.integers(0, header, 250), *rng.integers(0, len(data), 100)]
    ]
    for at, bit in flips:
        changed = bytearray(data)
        changed[at] ^= bit
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            td.load(path)
    for length in {0, 1, 8, header, len(data) - 1, *map(int, rng.integers(0, len(data), 30))}:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            td.load(path)


def test_files_that_are_no_agents_are_refused(ppo, tmp_path):
    path, rng = tmp_path / "agent.td", np.random.default_rng(0)
    good = {"format": 1, "algorithm": {"type": "PPO"}, "spec": {}}
    metas = ["", "{", "null", "[]", "5", "{}", '{"format": 2}', "[" * 10_000, json.dumps(good)]
    for meta in metas:
        save_file({"a": np.zeros(3, np.float32)}, path, {"thorndike": meta})
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            td.load(path)
    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match="is not an agent's file"):
        td.load(path)
    shutil.copy(ppo.path / "checkpoints" / f"{small.STEPS:012d}" / checkpoint.ARRAYS, path)
    with pytest.raises(CheckpointError, match="is not an agent's file"):
        td.load(path)
    for junk in (b"", b"{}", b"\x80\x04\x95", b"PK\x03\x04", *(rng.bytes(n) for n in (1, 8, 9, 100, 10_000))):
        path.write_bytes(junk)
        with pytest.raises(CheckpointError, match="is not an agent's file"):
            td.load(path)
    for missing in (tmp_path / "nowhere.td", tmp_path):
        with pytest.raises(CheckpointError, match="there is no file"):
            td.load(missing)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_full_disk_leaves_the_file_that_was_there(part, runs, tmp_path):
    path = runs("PPO").agent().save(tmp_path / "agent.td")
    good, other = path.read_bytes(), runs("DQN").agent()
    full = int(part * len(other.save(tmp_path / "other.td").read_bytes()))
    (tmp_path / "other.td").unlink()
    for name, kept in (("agent.td", "agent.td is as it was before"), ("new.td", "There is no new.td yet")):
        with (
            small.files_up_to(full),
            pytest.raises(CheckpointError, match=f"could not write .*: File too large. {kept}"),
        ):
            other.save(tmp_path / name)
    assert path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [path]
    assert other.save(path).read_bytes() != good


def test_an_agent_is_on_the_disk_before_it_has_its_name(ppo, tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        order.append(os.fstat(handle).st_size)
        fsync(handle)

    def replaced(old, new):
        order.append(new.name)
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    path = ppo.agent().save(tmp_path / "agent.td")
    assert order == [path.stat().st_size, "agent.td"]


def test_an_agent_is_saved_where_a_link_leads_and_in_place_of_no_pipe(ppo, tmp_path):
    (tmp_path / "newest.td").symlink_to("agent.td")
    assert ppo.agent().save(tmp_path / "newest.td") == tmp_path / "newest.td"
    assert td.load(tmp_path / "agent.td").algorithm == ppo.algorithm
    assert (tmp_path / "newest.td").is_symlink()
    os.mkfifo(tmp_path / "pipe.td")
    with pytest.raises(ConfigError, match=r"pipe\.td is a pipe or a device: name a file"):
        ppo.agent().save(tmp_path / "pipe.td")
