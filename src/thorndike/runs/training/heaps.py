"""Free memory goes back to the system while a run goes on, as glibc does not see to by itself.

glibc keeps a heap for each thread. Compilation leaves a hundred megabytes free there, and what one thread of XLA
allocates another one frees, so each heap stays as high as it ever was. `malloc_trim` hands back what is free inside of
heaps, but of tops only the main thread's. The others' go back where something is freed below them while the trim
threshold is low. Were it always low, each update would have to map its memory anew: it is low for one chunk of work in
ten seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from typing import Any

SECONDS = 10.0  # between two times that free memory is handed back
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers what mallopt sets
HIGHEST = 32 << 20  # bytes, the most that a block may have and not be mapped by itself; where glibc adapts, the limit


class Heaps:
    """What is free goes back every `SECONDS`. Elsewhere than with glibc nothing is done."""

    def __init__(self) -> None:
        self.since, self.low = time.monotonic(), False

    def __enter__(self) -> Heaps:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.settle()

    def tend(self) -> None:
        """To be called between two chunks of work."""
        if self.low:
            self.settle()
        elif time.monotonic() - self.since > SECONDS:
            self.since, self.low = time.monotonic(), True
            libc("mallopt", MMAP_THRESHOLD, HIGHEST)  # setting one of the two ends glibc's own adapting of both
            libc("mallopt", TRIM_THRESHOLD, 0)

    def settle(self) -> None:
        """Hand back what is free inside of heaps, and leave their tops alone from now on."""
        if self.low:
            self.low = False
            libc("mallopt", TRIM_THRESHOLD, 2 * HIGHEST)
            libc("malloc_trim", 0)


def libc(function: str, *numbers: int) -> None:
    """Call it where the C library has it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library, or Windows
        getattr(ctypes.CDLL(None), function)(*numbers)
