"""Makes the C library give memory back to the system, so that a rush of clients leaves nothing behind.

glibc keeps what was freed, in one place for each thread, and keeps larger and larger blocks the larger those were that
the program used. Both help programs that need the memory again. An endpoint would show the worst hour of its life for
ever after. Other C libraries have none of this, and then nothing happens here.

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

_MMAP_THRESHOLD: Final = (-3, 4 << 20)  # a block of this size comes from the system, and goes back when it is freed
_ARENA_MAX: Final = (-8, 2)  # places where freed memory is kept


def keep_little() -> None:
    """Lets the process keep less memory from now on. Call it before its threads begin."""
    with contextlib.suppress(OSError, AttributeError):
        for name, value in (_MMAP_THRESHOLD, _ARENA_MAX):
            ctypes.CDLL(None).mallopt(name, value)


def give_back(*, circles: bool = True) -> None:
    """Gives freed memory back. It may run in any thread.

    Args:
        circles: Whether to look for objects that point at each other and at which nothing else points. A few of them
            keep whole blocks of Python's memory from being given back. All other threads wait meanwhile, a time that
            grows with the number of objects.
    """
    if circles:
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
