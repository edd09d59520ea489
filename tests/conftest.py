"""Every test runs on the CPU, or on the platforms in TEST_PLATFORM (`cuda,cpu`). They share one cache of compiled
programs, and write nothing into the checkout.

Most of the default suite's time is compilation, of programs that then run for a moment. There XLA emits its code the
older way, which takes a third of the time, and LLVM optimises little (in `tests/learning` as much as ever). XLA's own
passes are the same. Slow tests, and what the README's demo trains, are compiled as users compile them. What is left is
Python, tracing programs; the garbage collector need not look at all the modules again and again.
"""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

# Before jax is imported; subprocesses inherit it.
os.environ["JAX_PLATFORMS"] = os.environ.get("TEST_PLATFORM", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "thorndike-tests-xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest

QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def is_brief(config):
    return config.option.markexpr == "not slow"


def pytest_configure(config):
    flags = os.environ.get("XLA_FLAGS", "")
    if is_brief(config) and QUICK not in flags:  # the workers inherit it
        os.environ["XLA_FLAGS"] = f"{flags} {QUICK}"


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="session", autouse=True)
def _elsewhere(tmp_path_factory):
    """A working directory outside the checkout: td.train writes runs/ where it stands."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(scope="module", autouse=True)
def _programs(request):
    """How they are compiled, here and in subprocesses; those of a module go with it: hundreds would fill the memory."""
    import jax

    brief = is_brief(request.config) and request.path.parent.name != "learning"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(brief))
    jax.config.update("jax_disable_most_optimizations", brief)
    yield
    jax.clear_caches()
