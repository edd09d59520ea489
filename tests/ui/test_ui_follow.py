"""Metrics as they grow: torn lines, files begun anew, damage, and any size."""

from __future__ import annotations

import itertools
import json
import os

import pytest

from thorndike.runs.storage.metrics import MetricsFile
from thorndike.ui import follow
from thorndike.ui.follow import Follower, Sparse, row_of


def line(steps, **tags):
    return json.dumps({"steps": steps, **tags}) + "\n"


def steps(found):
    return [row["steps"] for row in found[1]]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_only_what_came_since(file):
    follower = Follower(file)
    assert follower.read() == (False, [])
    metrics = MetricsFile(file)
    for n in range(3):
        metrics.write({"steps": n, "train/loss": 0.5})
        assert steps(follower.read()) == [n]
    assert follower.read() == (False, [])
    metrics.close()


def test_a_torn_line_waits_for_its_end(file):
    """Cut at every byte: no row is lost, told twice or told wrong."""
    text = line(1, a=1.25) + line(2, a=[1.0, None, 3.0])
    for cut in range(len(text)):
        file.write_text(text[:cut])
        follower = Follower(file)
        first = steps(follower.read())
        with file.open("a") as more:
            more.write(text[cut:])
        assert first + steps(follower.read()) == [1, 2]


def test_a_reader_of_torn_lines_would_be_noticed(file, monkeypatch):
    """The mutant: the position is moved to the end of what was read."""

    def take(self, piece):
        self.at += len(piece)
        rows = (follow.parsed(text.decode()) for text in piece.split(b"\n"))
        return [row_of(row) for row in rows if row is not None]

    monkeypatch.setattr(Follower, "_take", take)
    text = line(1, a=1.25) + line(2, a=2.0)
    file.write_text(text[:-5])
    follower = Follower(file)
    first = steps(follower.read())
    with file.open("a") as more:
        more.write(text[-5:])
    assert first + steps(follower.read()) == [1]


def test_damaged_lines_are_passed_over(file):
    damaged = ["", "{", "[]", "null", '{"steps": true, "a": {}}', '{"a": 1}', '{"steps": 5, "a": "x"}', "\ufffd" * 9]
    file.write_bytes(line(1, a=1.0).encode() + "\n".join(damaged).encode() + b"\n\xff\xfe\n" + line(2, a=2.0).encode())
    assert steps(Follower(file).read()) == [1, 2]


def test_a_file_that_is_begun_anew(file):
    """As resuming does, which drops the rows beyond its checkpoint."""
    metrics = MetricsFile(file)
    for n in range(10):
        metrics.write({"steps": n})
    metrics.close()
    follower = Follower(file)
    follower.read()
    metrics = MetricsFile(file, keep_until=4)
    metrics.write({"steps": 5})
    metrics.close()
    anew, rows = follower.read()
    assert anew
    assert [row["steps"] for row in rows] == list(range(6))
    file.write_text("")
    assert follower.read() == (True, [])


def test_a_long_line_is_passed_over(file, monkeypatch):
    monkeypatch.setattr(follow, "PIECE", 256)
    file.write_text(line(1, a=1.0) + "x" * 1000 + "\n" + line(2, a=2.0) + "y" * 700)
    follower = Follower(file)
    assert steps(follower.read()) == [1, 2]
    with file.open("a") as more:
        more.write("\n" + line(3, a=3.0))
    assert steps(follower.read()) == [3]


@pytest.mark.parametrize("many", [1, 999, 2000, 2001, 50_000])
def test_many_rows_are_thinned_evenly(many):
    kept = Sparse(1000)
    for n in range(many):
        kept.add(n)
    found = kept.rows()
    assert found[0] == 0
    assert found[-1] == many - 1
    assert min(many, 1000) <= len(found) <= 2001
    gaps = {b - a for a, b in itertools.pairwise(found[:-1])}
    assert len(gaps) <= 1


def test_what_a_row_says():
    row = {"steps": 3, "one": 2.5, "many": [1.0, None, 3.0], "none": None, "nan": float("nan"), "big": 10**400}
    assert row_of(row) == {"steps": 3, "tags": {"one": [2.5, 2.5, 2.5], "many": [2.0, 1.0, 3.0]}}
    assert row_of({"steps": 10**400}) is None
    assert row_of({"steps": 1, "a": [1.7e308, 1.7e308]})["tags"]["a"][0] == pytest.approx(1.7e308)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_is_not_read(file, kind, tmp_path):
    (tmp_path / "other").write_text(line(1))
    make = {"link": lambda: file.symlink_to(tmp_path / "other"), "folder": file.mkdir, "pipe": lambda: os.mkfifo(file)}
    make[kind]()
    assert Follower(file).read() == (False, [])
