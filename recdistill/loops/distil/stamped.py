"""The topic `items`, read exactly as far as a stamp says.

A scorer stamps each ranking with the position of `items` that its catalogue stood at. Whoever learns from the ranking
must bring its own catalogue to that same position: every record before the stamp, and none after it. Offsets have
gaps, so a difference of offsets is not a number of messages. Messages that were read too early wait here until their
stamp comes.

An example can come with a stamp that lies behind the end of `items`: somebody wrote it by hand. `refuse` finds it, so
that it becomes a dead letter.

It knows nothing of catalogues: it hands out messages.

Example:
    >>> import tempfile
    >>> from recdistill.stream.embedded import EmbeddedLog
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(f"{folder.name}/log.sqlite")
    >>> made = log.create_topics({"items": 1})
    >>> stage = log.stage("writer")
    >>> for value in (b"a", b"b", b"c"):
    ...     with stage.transaction() as transaction:  # each takes two offsets
    ...         transaction.send("items", value)
    >>> items = StampedItems(log)
    >>> [[message.value for message in block] for block in items.until(4)], items.next
    ([[b'a', b'b']], 4)
    >>> items.close(); stage.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from recdistill.errors import DataError, DecodeError, OutOfRange
from recdistill.records import Item, decode_item
from recdistill.stream import Log, LogIdentity, Message, TopicPartition, check_identity

ITEMS: Final = TopicPartition("items", 0)

_FETCH: Final = 1000
"""Messages read at once."""

_WAIT_S: Final = 0.2
"""Longest wait for one answer of the log. What lies before a stamp is there already."""


_GIVE_UP_AFTER: Final = 100
"""So many examples in a row may have an impossible stamp. More are no accident."""


class StampedItems:
    """Reads `items` up to one stamp after the other. For one thread.

    Args:
        log: Where `items` is read, from its beginning.
    """

    def __init__(self, log: Log) -> None:
        self._source = log.source([ITEMS])
        self._ahead: deque[Message] = deque()
        self.next = self._source.position()[ITEMS]
        """Everything before this offset has been handed out, and nothing behind it."""
        self._end = self.next
        self._impossible = 0  # examples in a row whose stamp is behind the end

    def identity(self) -> LogIdentity:
        """What `next` belongs to."""
        return self._source.identity()

    def seek(self, identity: LogIdentity, position: int) -> None:
        """Goes on at a saved position.

        Args:
            identity: What the position belongs to.
            position: The next offset.

        Raises:
            WrongLog: It belongs to another log.
            OutOfRange: The log does not hold it.
        """
        check_identity(identity, self._source.identity())
        self._source.seek({ITEMS: position})
        self._ahead.clear()
        self.next = position

    def refuse(self, stamp: int) -> Exception | None:
        """Why an example with this stamp cannot be learnt: it names records that were never written. None if it can.

        Raises:
            OutOfRange: So do many examples in a row. Then it is the log that is wrong.
        """
        if stamp > self._end:
            self._end = self._source.bounds(ITEMS)[1]
        if stamp <= self._end:
            self._impossible = 0
            return None
        self._impossible += 1
        problem = _beyond(stamp, self._end)
        if self._impossible > _GIVE_UP_AFTER:
            raise problem
        return problem

    def beginning(self) -> int:
        """The first offset that the log still holds."""
        return self._source.bounds(ITEMS)[0]

    def until(self, stamp: int) -> Iterator[list[Message]]:
        """Hands out every message before a stamp that has not been handed out, in order, block by block.

        A block counts as taken when the next one is asked for, or the end.

        Raises:
            OutOfRange: `items` ends before the stamp.
        """
        if self.next < stamp and not self._covers(stamp):
            self._check(stamp)
        while self.next < stamp:
            if not self._covers(stamp):
                read = self._source.read(_FETCH, _WAIT_S)
                self._ahead.extend(read)
                if not read:
                    self._check(stamp)
            block = []
            while self._ahead and self._ahead[0].offset < stamp:
                block.append(self._ahead.popleft())
            # What was read ends at the first message that waits, or where the source stands.
            end = self._ahead[0].offset if self._ahead else self._source.position()[ITEMS]
            if block:
                yield block
            self.next = max(self.next, min(stamp, end))

    def close(self) -> None:
        """Closes the source."""
        self._source.close()

    def _covers(self, stamp: int) -> bool:
        """Whether all that lies before the stamp has been read."""
        return bool(self._ahead) or self._source.position()[ITEMS] >= stamp

    def _check(self, stamp: int) -> None:
        if stamp > (end := self._source.bounds(ITEMS)[1]):
            raise _beyond(stamp, end)


def decoded(messages: Sequence[Message]) -> tuple[list[int], list[Item], dict[int, DataError]]:
    """The items of some messages: the places of those that can be read, their records, and why the others cannot."""
    places, records, refused = list[int](), list[Item](), dict[int, DataError]()
    for place, message in enumerate(messages):
        try:
            records.append(decode_item(message.key, message.value))
            places.append(place)
        except DecodeError as e:
            refused[place] = e
    return places, records, refused


def _beyond(stamp: int, end: int) -> OutOfRange:
    """The error for a stamp behind the end of `items`."""
    return OutOfRange(
        f"an example was scored with the catalogue as of {stamp}, but items ends at {end}; "
        "the topic was made again or truncated, so go back to the log the rankings came from"
    )
