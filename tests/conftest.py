"""Every test runs on the CPU, or on the platforms in TEST_PLATFORM (`cuda,cpu`). They share one cache of compiled
programs, and write nothing into the checkout."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Before jax is imported; subprocesses inherit it.
os.environ["JAX_PLATFORMS"] = os.environ.get("TEST_PLATFORM", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "thorndike-tests-xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest


@pytest.fixture(scope="session", autouse=True)
def _elsewhere(tmp_path_factory):
    """A working directory outside the checkout: td.train writes runs/ where it stands."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Compiled programs of a module go with it: hundreds of them would fill the memory."""
    yield
    import jax

    jax.clear_caches()
