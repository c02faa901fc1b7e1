"""Decides which connections may be open, how long each may wait, and which are closed when there are too many.

A connection waits for something: the rest of a head, the rest of a body, the next request, or a client that is slow to
take the answer. Each of these has a time limit. When there are too many connections, some that wait are closed: first
those that never sent a request, then those that have waited longest. If none can be closed, the new one is refused.

Connections that are refused or closed are counted. The log gets one line from time to time, not one for each.

It does not know HTTP: a connection is anything with the fields of `Connection`.

Example:
    >>> class Line:
    ...     served, waiting, since, until, address = False, True, 0.0, 10.0, "10.0.0.1"
    ...     def end(self, *, late): print("late" if late else "no more room")
    >>> gate = Gate(most=2, per_address=0, counts=Counter())
    >>> one, two, three = Line(), Line(), Line()
    >>> two.since = 5.0
    >>> gate.enter(one, 0.0), gate.enter(two, 5.0), gate.enter(three, 9.0)
    no more room
    ('', '', '')
    >>> gate.sweep(60.0)
    late
    late
    late
    False
"""

from __future__ import annotations

import logging
from collections import Counter
from itertools import islice
from typing import Final, Protocol

log_ = logging.getLogger(__name__)

EVICTED: Final = 20  # when there is no more room, one in so many connections is closed
YOUNG_S: Final = 0.2  # a connection that has waited less than this is not closed
SAY_S: Final = 10.0  # the log gets at most one line in this time
LEAVING: Final = 64  # so many refused connections may still be open for a moment, so that their clients see the answer
AT_ONCE: Final = 50  # so many connections are ended at a time; then requests are answered before the next ones end
FILES: Final = 256  # so many open files the process needs for other things than connections


class Connection(Protocol):
    """What the gate sees of a connection."""

    served: bool
    """Whether it has sent a whole head of a request before."""
    waiting: bool
    """Whether it waits for a request, or for the rest of a head."""
    since: float
    """When it began to wait."""
    address: str
    """The address of its client."""

    @property
    def until(self) -> float:
        """The time after which it has waited too long."""
        ...

    def end(self, *, late: bool) -> None:
        """Ends it: it waited too long (`late`), or there is no more room."""


class Gate:
    """The open connections of an endpoint. Only the thread of its event loop uses it.

    Args:
        most: How many connections may be open at once.
        per_address: How many connections one address may have. 0: there is no such limit.
        counts: Counts to add to.
    """

    def __init__(self, *, most: int, per_address: int, counts: Counter[str]) -> None:
        self._most, self._per_address, self._counts = most, per_address, counts
        self._open: dict[Connection, None] = {}
        self._leaving: dict[Connection, None] = {}  # refused or cut off, but not closed yet
        self._from: Counter[str] = Counter()
        self._said_at = -SAY_S
        self._unsaid: Counter[str] = Counter()
        self.closing = False
        """Whether the process is about to stop: each answer is then the last one of its connection."""
        self.gone = 0
        """How many connections have left."""
        self.entered = 0.0
        """When the newest connection came."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def connections(self) -> list[Connection]:
        """The open connections."""
        return list(self._open)

    def enter(self, connection: Connection, now: float) -> str:
        """Lets a connection in. Returns why it may not come in; empty: it may."""
        self.entered = now
        if self._per_address and self._from[connection.address] >= self._per_address:
            return self._refused(connection, f"there are {self._per_address} connections from this address already")
        if len(self._open) >= self._most and not self._make_room(now):
            return self._refused(connection, f"there are {self._most} connections already")
        self._open[connection] = None
        self._from[connection.address] += 1
        return ""

    @property
    def crowded(self) -> bool:
        """Whether so many refused connections are still open that the next one gets no answer."""
        return len(self._leaving) > LEAVING

    def leave(self, connection: Connection) -> None:
        """Removes a connection. It may have been removed already."""
        self._leaving.pop(connection, None)
        self._out(connection)

    def _out(self, connection: Connection) -> None:
        if connection not in self._open:
            return
        del self._open[connection]
        self.gone += 1
        self._from[connection.address] -= 1
        if self._from[connection.address] <= 0:
            del self._from[connection.address]

    def sweep(self, now: float) -> bool:
        """Ends connections that have waited too long, and writes to the log if it is time.

        Returns:
            Whether there are more of them, so that the next sweep should be soon.
        """
        late = list(islice((one for one in self._open if one.until < now), AT_ONCE))
        for connection in late:
            self.count("late_connections")
            connection.end(late=True)
        for connection in [one for one in self._leaving if one.until < now]:
            connection.end(late=True)
        self.say(now)
        return len(late) == AT_ONCE

    def count(self, what: str) -> None:
        """Counts something that was refused or closed."""
        self._counts[what] += 1
        self._unsaid[what] += 1

    def say(self, now: float) -> None:
        """Writes a line about what was refused or closed since the last line, if it is time for one."""
        if not self._unsaid or now - self._said_at < SAY_S:
            return
        log_.warning(
            "clients were refused or cut off: %s; %d connections are open, at most %d may be",
            ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in sorted(self._unsaid.items())),
            len(self._open),
            self._most,
        )
        self._said_at = now
        self._unsaid.clear()

    def _make_room(self, now: float) -> bool:
        """Ends some connections that wait. It ends many at once, because to find them it must look at all of them."""
        able = [one for one in self._open if one.waiting and now - one.since >= YOUNG_S]
        able.sort(key=lambda one: (one.served, one.since))
        for connection in able[: max(1, self._most // EVICTED)]:
            self.count("evicted_connections")
            self._leaving[connection] = None
            self._out(connection)
            connection.end(late=False)
        return bool(able)

    def _refused(self, connection: Connection, why: str) -> str:
        self.count("refused_connections")
        self._leaving[connection] = None
        return why


def room_for_files(wanted: int) -> int:
    """How many connections may be open. The process may open only so many files, and each connection is one.

    The limit of the process is raised as far as possible. If it is still too low, a line in the log says so.
    """
    try:
        import resource
    except ImportError:  # not on Windows
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError) as e:
            log_.debug("the limit of open files stays at %d: %s", soft, e)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    room = max(1, soft - FILES if soft >= 2 * FILES else soft // 2)
    log_.warning(
        "at most %d connections are taken, not the %d of rank.max_connections: this process may open %d files; "
        "raise that with `ulimit -n`, or LimitNOFILE in systemd",
        room,
        wanted,
        soft,
    )
    return room
