"""Where a person stands in the log: their lists, what was made of them, and what they did with them.

Impressions name the user; so do rankings, examples, held-out lists and what a teacher is asked again, since each holds
its impression. Feedback names the impression. A dead letter holds any of these, perhaps damaged: then the bytes of the
user's id, as a word of its own, are enough; and of feedback those of the impression's id.

It knows nothing of how a record is removed.

Example:
    >>> mentions("u-7", b'{"user": "u-7", "id": 3'), mentions("u-7", b'{"user": "u-71"}'), mentions("u-7", None)
    (True, False, False)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

from msgspec import Struct

from recdistill.errors import DecodeError
from recdistill.records import DEAD_LETTERS, TOPICS, Example, Feedback, Impression, Ranking, decode
from recdistill.stream import CHECKS, HELD_OUT, Log, Message, TopicPartition

_HOLD: Final[dict[str, type[Any]]] = {
    "impressions": Impression,
    "rankings": Ranking,
    "examples": Example,
    HELD_OUT.topic: Example,
    CHECKS.topic: Ranking,
}
"""Topics whose records hold an impression."""

ORDER: Final = ("feedback", DEAD_LETTERS, CHECKS.topic, HELD_OUT.topic, "examples", "rankings", "impressions")
"""In this order records are removed. What was removed first is found again by what is removed last, so a run that was
killed is finished by the next one.
"""


class Traces(Struct, frozen=True):
    """Where a person stands.

    Attributes:
        ids: Of their impressions.
        places: Their messages in each partition, oldest first: offset, key and time of the log.
    """

    ids: frozenset[str]
    places: dict[TopicPartition, list[tuple[int, bytes | None, int]]]

    def of(self, topic: str) -> dict[TopicPartition, list[tuple[int, bytes | None, int]]]:
        """Those of one topic."""
        return {tp: found for tp, found in self.places.items() if tp.topic == topic and found}

    def count(self, topic: str) -> int:
        """How many messages of a topic."""
        return sum(len(found) for found in self.of(topic).values())


def trace(log: Log, user: str) -> Traces:
    """Looks for a person in every topic.

    Args:
        log: The log.
        user: The `user` of their impressions.

    Raises:
        StreamError: The log cannot be read.
    """
    topics = log.topics()
    ids: set[str] = set()
    places: dict[TopicPartition, list[tuple[int, bytes | None, int]]] = {}

    def look(topic: str, theirs: Callable[[Message], bool]) -> None:
        for tp in (TopicPartition(topic, number) for number in range(topics.get(topic, 0))):
            found = [(one.offset, one.key, one.time_us) for one in _all(log, tp) if theirs(one)]
            if found:
                places[tp] = found

    for topic, kind in _HOLD.items():
        look(topic, lambda message, kind=kind: _is_theirs(message, kind, user, ids))  # type: ignore[misc]
    look("feedback", lambda message: _gave(message, ids))
    look(DEAD_LETTERS, lambda message: _in_letter(message, user, ids))
    return Traces(frozenset(ids), places)


def mentions(user: str, value: bytes | None) -> bool:
    """Whether bytes that are no record hold an id: as a word of its own, or as a user's field of a broken record."""
    plain = user.encode()
    word = rb"(?<![\w.-])" + re.escape(plain) + rb"(?![\w.-])"
    field = b"\x1a" + bytes([len(plain)]) + plain if len(plain) < 128 else plain
    return value is not None and (field in value or re.search(word, value) is not None)


def _all(log: Log, tp: TopicPartition) -> Iterator[Message]:
    with closing(log.source([tp])) as source:
        _, end = source.bounds(tp)
        while source.position()[tp] < end:
            yield from (one for one in source.read_from(tp, 1000, 0.2) if one.offset < end)


def _is_theirs(message: Message, kind: type[Any], user: str, ids: set[str]) -> bool:
    value = message.value or b""
    # JSON may write a character in another way, so only frames are passed over by their bytes.
    if not value.startswith(b"{") and user.encode() not in value:
        return False
    impression = _impression(kind, value)
    if impression is None:
        return mentions(user, value)
    if impression.user != user:
        return False
    ids.add(impression.id)
    return True


def _impression(kind: type[Any], value: bytes) -> Impression | None:
    try:
        record = decode(kind, value)
    except DecodeError:
        return None
    if isinstance(record, Example):
        record = record.ranking
    found: Impression = record.impression if isinstance(record, Ranking) else record
    return found


def _gave(message: Message, ids: set[str]) -> bool:
    """Whether feedback is about one of these lists. One that cannot be read is, where its key or its bytes name one."""
    try:
        return decode(Feedback, message.value).impression_id in ids
    except DecodeError:
        value = message.value or b""
        named = (message.key or b"").decode(errors="replace") in ids
        return named or any(one.encode() in value and mentions(one, value) for one in ids)


def _in_letter(message: Message, user: str, ids: set[str]) -> bool:
    value, headers = message.value or b"", dict(message.headers)
    kind = TOPICS.get(headers.get("topic", b"").decode(errors="replace"))
    if kind is Feedback and _gave(message, ids):
        return True
    if kind in (Impression, Ranking, Example):
        impression = _impression(kind, value)
        if impression is not None:
            return impression.user == user
    keys = {message.key, headers.get("key")} - {None}
    return mentions(user, value) or any(key is not None and key.decode(errors="replace") in ids for key in keys)
