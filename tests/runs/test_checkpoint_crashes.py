"""Checkpoints: whatever happens while one is written, there is a good one, and no more than are kept."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import small_runs as small

from thorndike.errors import CheckpointError
from thorndike.ops.keys import random_key
from thorndike.runs.storage import arrays, checkpoint
from thorndike.runs.storage.arrays import encode

FILES = (checkpoint.ARRAYS, checkpoint.STATE, checkpoint.MANIFEST)


class Killed(BaseException):
    """The process ends here."""


def tree(step: int) -> dict:
    return {"a": np.arange(1000) * step, "b": np.float32(step), "key": random_key(step)}


def save(folder: Path, step: int, keep: int = 3) -> None:
    checkpoint.save(folder, step, tree(step), {"step": step}, keep)


def newest(folder: Path) -> int:
    """The step of the newest whole checkpoint, whose contents are checked."""
    found, meta, _ = checkpoint.load_newest(folder)
    assert np.array_equal(found["['a']"], np.arange(1000) * meta["step"])
    assert np.array_equal(found["['key']"], jax.random.key_data(random_key(meta["step"])))
    return meta["step"]


def test_what_is_kept_is_said_as_it_is(tmp_path, monkeypatch):
    """Nothing, where the very first save fails."""

    def full(path, pieces):
        raise OSError(errno.ENOSPC, "No space left on device")

    write = checkpoint.write
    for kept in ("There is none yet", "The last good one is kept"):
        monkeypatch.setattr(checkpoint, "write", full)
        with pytest.raises(CheckpointError, match=f"No space left on device. {kept}; free some space"):
            save(tmp_path, 2)
        monkeypatch.setattr(checkpoint, "write", write)
        save(tmp_path, 1)


class Crash:
    """Makes the n-th call of anything that touches the disk fail: before its work, after it, or halfway."""

    def __init__(self, monkeypatch, at: int, error: BaseException, when: str):
        self.at, self.error, self.when, self.calls = at, error, when, 0
        for owner, name in [
            (os, "fsync"), (os, "open"), (Path, "rename"), (Path, "mkdir"), (shutil, "rmtree"), (checkpoint, "write"),
            (arrays, "write"),
        ]:  # fmt: skip
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name), name))

    def wrap(self, function, name):
        def wrapped(*args, **kwargs):
            self.calls += 1
            if self.calls != self.at:
                return function(*args, **kwargs)
            if self.when == "after":
                function(*args, **kwargs)
            elif self.when == "halfway" and name == "write":
                data = encode(args[1], {}) if isinstance(args[1], dict) else b"".join(args[1])
                args[0].write_bytes(data[: len(data) // 2])
            elif self.when == "halfway" and name == "rmtree" and Path(args[0]).is_dir():
                sorted(Path(args[0]).iterdir())[0].unlink()
            if kwargs.get("ignore_errors") and isinstance(self.error, OSError):
                return None
            raise self.error

        return wrapped


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Files, then their folder, then the name, then the folder that holds it."""
    order, fsync, rename = [], os.fsync, Path.rename

    def synced(handle):
        order.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def renamed(self, target):
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    save(tmp_path / "checkpoints", 1, 2)
    assert set(order[:3]) == set(FILES)
    assert order[3:] == [f".{1:012d}.tmp", "rename", "checkpoints"]


@pytest.mark.parametrize("when", ["before", "after", "halfway"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Killed()], ids=["full", "killed"])
@pytest.mark.parametrize("situation", ["new", "over a damaged one", "pruning", "keeping one"])
def test_a_crash_at_any_moment_leaves_a_whole_checkpoint(situation, error, when, tmp_path):
    keep = 1 if situation == "keeping one" else 2
    for at in range(1, 60):
        folder = tmp_path / str(at)
        for step in range(1, 4 if situation == "pruning" else 2):
            save(folder, step, keep)
        last, step = (3, 4) if situation == "pruning" else (1, 2)
        if situation == "over a damaged one":
            save(folder, 2, keep)
            (folder / f"{2:012d}" / checkpoint.ARRAYS).write_bytes(b"no")
        with pytest.MonkeyPatch.context() as patch:
            crash = Crash(patch, at, error, when)
            try:
                save(folder, step, keep)
            except Killed:
                pass
            except CheckpointError as refused:
                complaint = str(refused)
                assert "No space left on device. The last good one is kept" in complaint
        assert newest(folder) in (last, step)
        if crash.calls < at:
            break
        save(folder, step + 1, keep)  # life goes on
        assert newest(folder) == step + 1
        assert not list(folder.glob(".*")), "rubbish stays"
        assert len(checkpoint.steps(folder)) <= keep
    assert 10 < at < 59
    assert newest(folder) == step


# --- keeping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_only_the_newest_are_kept(keep, tmp_path):
    for step in range(1, 8):
        save(tmp_path, step, keep)
        assert checkpoint.steps(tmp_path) == list(range(max(1, step - keep + 1), step + 1))


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_later_one_never_costs_the_good_one(keep, tmp_path):
    for step in (10, 30):
        save(tmp_path, step, 5)
    (tmp_path / f"{30:012d}" / checkpoint.ARRAYS).write_bytes(b"")
    assert newest(tmp_path) == 10  # a run goes on from here
    save(tmp_path, 20, keep)
    assert newest(tmp_path) == 20


@pytest.mark.parametrize("moment", ["before", "while"])
def test_what_a_trainer_removes_meanwhile_is_not_missed(moment, tmp_path, monkeypatch):
    """The next checkpoint is there when the last one goes: three times before one is read, or while it is."""
    save(tmp_path, 1)
    owner, name = (checkpoint, "load") if moment == "before" else (arrays, "read")
    real, moves = getattr(owner, name), iter([2, 3, 4])

    def meanwhile(path, prefix):
        if (step := next(moves, None)) is not None:
            save(tmp_path, step, 1)
        return real(path, prefix)

    monkeypatch.setattr(owner, name, meanwhile)
    found, meta, damaged = checkpoint.load_newest(tmp_path)
    assert (meta["step"], damaged) == (4, [])
    assert np.array_equal(found["['a']"], np.arange(1000) * 4)


def test_a_folder_that_only_looks_like_a_step_is_none(tmp_path):
    save(tmp_path, 5)
    (tmp_path / "²").mkdir()  # a digit, but no number
    assert checkpoint.steps(tmp_path) == [5]
    save(tmp_path, 6)
    assert newest(tmp_path) == 6


# --- a disk that refuses ----------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"could not save a checkpoint in .*file.*: .*[Nn]ot a directory"):
        save(tmp_path / "file", 1)
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "mkdir", lambda *a, **k: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system"))
        )
        with pytest.raises(CheckpointError, match=r"Read-only file system.*make the folder writable"):
            save(tmp_path, 1)
    if os.geteuid() != 0:  # nothing is read-only to root
        tmp_path.chmod(0o500)
        with pytest.raises(CheckpointError, match="Permission denied"):
            save(tmp_path, 1)
        tmp_path.chmod(0o700)


def test_a_full_disk_costs_no_checkpoint(tmp_path, monkeypatch):
    save(tmp_path, 1)
    real = os.fsync

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*free some space"):
        save(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == [f"{1:012d}"]  # what was half written does not fill it further
    monkeypatch.setattr(os, "fsync", real)
    assert newest(tmp_path) == 1
    save(tmp_path, 2)
    assert newest(tmp_path) == 2


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.99])
def test_a_disk_that_is_full_at_any_place_costs_no_checkpoint(part, tmp_path):
    save(tmp_path, 1)
    size = (tmp_path / f"{1:012d}" / checkpoint.ARRAYS).stat().st_size
    with small.files_up_to(int(part * size)), pytest.raises(CheckpointError, match=r"File too large.*is kept"):
        save(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == [f"{1:012d}"]
    assert newest(tmp_path) == 1


@pytest.mark.parametrize("when", ["before", "after", "halfway"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Killed()], ids=["full", "killed"])
def test_a_crash_at_any_moment_leaves_a_best_one(error, when, tmp_path):
    for at in range(1, 40):
        folder = tmp_path / str(at)
        checkpoint.save_best(folder, tree(1), {"steps": 1})
        with pytest.MonkeyPatch.context() as patch:
            crash = Crash(patch, at, error, when)
            with contextlib.suppress(CheckpointError, Killed):
                checkpoint.save_best(folder, tree(2), {"steps": 2})
        found, meta = checkpoint.load(checkpoint.place(folder, "best"))
        assert np.array_equal(found["['a']"], np.arange(1000) * meta["steps"])
        checkpoint.save_best(folder, tree(3), {"steps": 3})
        save(folder, 3)
        assert checkpoint.load(checkpoint.place(folder, "best"))[1] == {"steps": 3}
        assert sorted(path.name for path in folder.iterdir()) == [f"{3:012d}", "best"]
        if crash.calls < at:
            assert at > 6
            return
    raise AssertionError("it never ran through")
