"""Tells a full disk from other failures, however deep in the causes of an error it lies.

SQLite, MLflow and numpy each say it in their own way, and errors of our own are raised from theirs.

It knows nothing of which file was written.

Example:
    >>> try:
    ...     try:
    ...         raise OSError(errno.ENOSPC, "No space left on device")
    ...     except OSError as e:
    ...         raise ValueError("the page cannot be written") from e
    ... except ValueError as e:
    ...     disk_is_full(e)
    True
    >>> disk_is_full(OSError(errno.EACCES, "Permission denied"))
    False
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NUMBERS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_WORDS: Final = ("database or disk is full", "No space left on device", "Disk quota exceeded")
"""For what reaches us as text: from SQLite, and from a server."""


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that there is no space left."""
    return any(
        (isinstance(one, OSError) and one.errno in _NUMBERS) or any(words in str(one) for words in _WORDS)
        for one in _with_causes(error)
    )


def folder_of(error: BaseException, otherwise: str) -> str:
    """The folder of the file that an error, or one that it was raised from, names.

    Args:
        error: The error.
        otherwise: What is returned where none names a file.
    """
    names = (getattr(one, "filename", None) for one in _with_causes(error))
    return next((str(Path(name).parent) for name in names if isinstance(name, str)), otherwise)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
