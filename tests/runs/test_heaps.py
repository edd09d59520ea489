"""Memory that is free goes back to the system while a run goes on."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest
from small_runs import PPO

import thorndike as td
from thorndike.runs.training import heaps

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is done")
START = """
import threading
from thorndike.runs.training import heaps

def held():  # anonymous memory of this process, in MB
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

heaps.SECONDS = -1
ours = heaps.Heaps()
ours.tend()
ours.tend()
print(held())
"""
SMALL = """
pieces = [bytes(2000) for _ in range(150_000)]
last = pieces.pop()
del pieces
print(held())
"""
LARGE = """
def work():
    first, *blocks = [bytearray(1 << 20) for _ in range(30)]
    del blocks
    print(held())
    for _ in range(2):
        todo.acquire()
        bytearray(1 << 17)
        done.release()

todo, done = threading.Semaphore(0), threading.Semaphore(0)
thread = threading.Thread(target=work)
thread.start()

def other_thread_goes_on():
    todo.release()
    done.acquire()

other_thread_goes_on()
"""
TEND, TRIM, GO_ON = "ours.tend()\n", 'heaps.libc("malloc_trim", 0)\n', "other_thread_goes_on()\n"


def megabytes(*script):
    """What the process held at each look, above the first."""
    command = [sys.executable, "-c", "".join([START, *script, "print(held())"])]
    looks = np.array(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(), float)
    return (looks - looks[0])[1:]


@glibc
def test_what_is_free_inside_of_a_heap_goes_back():
    """Of 300 MB in small pieces, freed below one that is kept: glibc alone goes on to hold them."""
    kept, after = megabytes(SMALL, TEND, TEND)
    assert kept > 150 > 3 * after


@glibc
def test_the_free_top_of_a_threads_heap_goes_back():
    """30 MB, freed by a thread that goes on: `malloc_trim` leaves them."""
    assert min(megabytes(LARGE, TRIM, GO_ON)) > 25
    kept, after = megabytes(LARGE, TEND, GO_ON, TEND)
    assert kept > 25 > 5 * after


def test_a_run_does_both_and_ends_with_the_tops_left_alone(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(heaps, "SECONDS", -1.0)
    monkeypatch.setattr(heaps, "libc", lambda *call: calls.append(call))
    td.train(PPO, "CartPole-v1", 1000, out=tmp_path, progress=False)
    assert ("mallopt", heaps.TRIM_THRESHOLD, 0) in calls
    assert calls[-2:] == [("mallopt", heaps.TRIM_THRESHOLD, 2 * heaps.HIGHEST), ("malloc_trim", 0)]
