"""Starts this Python again with the memory of the C library, for a process that answers for months.

Python keeps small objects in blocks of a megabyte. A block goes back to the system when nothing in it is used. After a
rush of clients a few objects are left in each of many blocks, and all of them stay. The C library gives back single
pages. Python reads its choice (`PYTHONMALLOC`) only when it starts.

It knows nothing of what the process does.

Example:
    >>> plain_memory(["python", "serve.py"], {"PYTHONMALLOC": "pymalloc"})  # somebody has chosen: it goes on
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

CHOICE: Final = "PYTHONMALLOC"


def plain_memory(command: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Starts the same command again, in this process, unless somebody has chosen already or this is no Linux.

    Call it before anything else was begun: nothing of this program is left.

    Args:
        command: The interpreter and its arguments. None: those of this process.
        environment: Its environment. None: that of this process.
    """
    command = sys.orig_argv if command is None else command
    environment = os.environ if environment is None else environment
    if CHOICE in environment or sys.platform != "linux" or not sys.executable:
        return
    os.execve(sys.executable, [sys.executable, *command[1:]], {**environment, CHOICE: "malloc"})  # noqa: S606
