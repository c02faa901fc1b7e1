"""Makes the C library give memory back to the system after many clients came at once.

glibc keeps memory that was freed, separately for each thread. If a program used large blocks, glibc also keeps large
blocks. Both help programs that soon need the memory again. But an endpoint would for ever keep the memory of its
busiest hour. With other C libraries this module does nothing.

It knows nothing of connections or bodies.

Example:
    >>> keep_little()
    >>> give_back()
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

_MMAP_THRESHOLD: Final = (-3, 4 << 20)  # blocks from this size on come from the system, and go back when freed
_ARENA_MAX: Final = (-8, 2)  # places where freed memory is kept


def keep_little() -> None:
    """Makes the process keep less memory from now on. Call it before the threads begin."""
    with contextlib.suppress(OSError, AttributeError):
        for name, value in (_MMAP_THRESHOLD, _ARENA_MAX):
            ctypes.CDLL(None).mallopt(name, value)


def give_back(*, circles: bool = True) -> None:
    """Gives freed memory back. It may run in any thread.

    Args:
        circles: Whether to look for objects that point only at each other. A few such objects can keep whole blocks of
            Python's memory. All other threads wait meanwhile, the longer the more objects there are.
    """
    if circles:
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
