"""What a watch knows of its teachers: all that a checkpoint has to hold of it, and nothing that does anything.

It knows nothing of how any of it is found.

Example:
    >>> State(at=3).known
    {}
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from recdistill.watch.figures import Figure

Reason = Literal["", "order", "labels", "chance", "new"]


class Window(Struct):
    """What was seen of a teacher that is not learnt from, since `start`."""

    start: int = 0
    lists: int = 0
    order: Figure = msgspec.field(default_factory=Figure)
    labels: Figure = msgspec.field(default_factory=Figure)


class Known(Struct):
    """What is known of one teacher."""

    first: int
    last: int = 0
    seen: int = 0
    batches: int = 0
    trusted: bool = True
    proven: bool = False
    """Whether it has been better than chance, by student or labels."""
    reason: Reason = ""
    why: str = ""
    since: int = 0
    order: Figure = msgspec.field(default_factory=Figure)
    labels: Figure = msgspec.field(default_factory=Figure)
    location: Figure = msgspec.field(default_factory=Figure)
    spread: Figure = msgspec.field(default_factory=Figure)
    window: Window = msgspec.field(default_factory=Window)
    curve: list[float] = []
    curve_lists: float = 0.0


class Masked(Struct, array_like=True):
    """Lists of a teacher that later passes leave out: `start` up to, not including, `end`; −1 while it lasts."""

    teacher: str
    start: int
    end: int = -1


class State(Struct):
    """All that a checkpoint has to hold of a watch."""

    at: int = 0
    again: int = 0
    learnt: int = 0
    """Behind the last list that a trusted teacher had scored."""
    known: dict[str, Known] = {}
    masked: list[Masked] = []
