"""Memory that is free goes back to the system while a run goes on."""

from __future__ import annotations

import platform

import pytest
from small_runs import PPO

import thorndike as td
from thorndike.runs import loop


def held():
    """Anonymous memory of this process, in kB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim")
def test_free_memory_is_handed_back():
    """Of 300 MB in small pieces, freed below one that is kept: glibc alone goes on to hold them."""
    loop.trim_memory()
    before = held()
    pieces = [bytes(2000) for _ in range(150_000)]
    last = pieces.pop()
    del pieces
    kept = held() - before
    loop.trim_memory()
    assert kept > 150_000 > 3 * (held() - before)
    assert len(last) == 2000


def test_a_run_hands_it_back(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(loop, "TRIM_SECONDS", 0.0)
    monkeypatch.setattr(loop, "trim_memory", lambda: calls.append(1))
    td.train(PPO, "CartPole-v1", 1000, out=tmp_path, progress=False)
    assert calls
