"""The topic `bundles`: a distiller announces each bundle that it has put into the registry's store.

An announcement is one JSON object. A distiller that was killed may announce a bundle again, to be sure. Readers compare
content hashes, and the first announcement counts.

It knows nothing of what is in a bundle.

Example:
    >>> made = MadeBundle("ab" * 32, step=8, lanes=None, items=3, made_at="2026-01-02T03:04:05+00:00", size=900)
    >>> read_made(write_made(made)) == made
    True
    >>> read_made(b"{}")
    Traceback (most recent call last):
    recdistill.errors.DecodeError: not an announced bundle: Object missing required field `content_hash`
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from recdistill.errors import DecodeError, StreamError
from recdistill.stream.contract import Source, Stage
from recdistill.stream.lanes import LanePosition
from recdistill.stream.letters import Delivery, Outgoing, deliver
from recdistill.stream.standard import BUNDLES
from recdistill.stream.up_to import up_to

READ = 500
"""Announcements read at a time."""


class MadeBundle(Struct, frozen=True):
    """A bundle that is in the store.

    Attributes:
        content_hash: The content hash of the bundle.
        step: Step of the student when the bundle was made.
        lanes: Where in `examples` its student stopped learning; None where that is not known.
        items: First offset of `items` that its catalogue has not seen.
        made_at: When, in ISO 8601.
        size: Bytes of its files.
        event_us: Time of the newest list that its student learnt from, in microseconds; 0 where that is not known.
        learnt_us: When the student learnt from it; 0 where that is not known.
        ledger: The head of the ledger when it was announced; empty where there was none.
    """

    content_hash: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    step: Annotated[int, Meta(ge=0)]
    lanes: LanePosition | None
    items: Annotated[int, Meta(ge=0)]
    made_at: str
    size: Annotated[int, Meta(ge=0)]
    event_us: Annotated[int, Meta(ge=0)] = 0
    learnt_us: Annotated[int, Meta(ge=0)] = 0
    ledger: str = ""


def write_made(made: MadeBundle) -> bytes:
    """The value of an announcement."""
    return msgspec.json.encode(made)


def read_made(value: bytes | None) -> MadeBundle:
    """Reads an announcement.

    Raises:
        DecodeError: It is not an announcement.
    """
    try:
        return msgspec.json.decode(value or b"", type=MadeBundle)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise DecodeError(f"not an announced bundle: {e}") from e


def announce(stage: Stage, made: MadeBundle) -> bool:
    """Writes an announcement. Returns whether the log took it; otherwise it is a dead letter.

    Raises:
        Fenced: A newer writer of this stage exists.
        StreamError: The log cannot be written.
    """
    one = Outgoing(BUNDLES.topic, write_made(made), key=made.content_hash.encode())
    return not deliver(stage, "announce", lambda _: Delivery([one]))


def made_bundles(source: Source) -> tuple[list[MadeBundle], list[str]]:
    """Reads announcements from a source's position to the end.

    Returns each content once, oldest first, and a line for each message that cannot be read.

    Args:
        source: A source of `bundles`. It is at the end afterwards.

    Raises:
        StreamError: The log cannot be read.
    """
    found: dict[str, MadeBundle] = {}
    unreadable = []
    for message in up_to(source, BUNDLES, source.bounds(BUNDLES)[1], READ):
        try:
            made = read_made(message.value)
        except DecodeError as e:
            unreadable.append(f"{message.tp} offset {message.offset}: {e}")
        else:
            found.setdefault(made.content_hash, made)
    return list(found.values()), unreadable


def check_topic(topics: dict[str, int]) -> None:
    """Checks that a log has the topic for announcements.

    Raises:
        StreamError: It has no such topic: an older version made the log.
    """
    if BUNDLES.topic not in topics:
        raise StreamError(
            f"there is no topic {BUNDLES.topic!r}; make the topics that are missing with `recdistill topics create`"
        )
