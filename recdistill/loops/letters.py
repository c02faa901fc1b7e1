"""Dead letters for a person: which there are, what each says, and how it is sent again, once.

A letter that is sent again becomes a record of the topic that it was for. A letter of the translator becomes the
records that the mappings make of it now: somebody else's topic is never written. In the same transaction a mark is
written behind the letters, in their topic: so a letter is never sent twice, also after a kill, and also where the same
message has two letters. A mark has the header `sent`, and says which message it is about.

It knows nothing of the command line.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.stream import dead_letter, open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics(standard_topics())
    ...     bad = Message(TopicPartition("items", 0), 3, b"a", b'{"ide": "a"}', 0)  # a message that nobody could read
    ...     with log.stage("join").transaction() as transaction:
    ...         one = dead_letter(bad, ValueError("no id"), "join")
    ...         transaction.send(DEAD_LETTERS, one.value, key=one.key, headers=one.headers)
    ...     [letter] = read(log)
    ...     mended = Mended(letter, b'{"id": "a"}')
    ...     sent = [send(log, [mended], {}) for _ in range(2)]
    ...     log.close()
    >>> letter.stage, letter.error, [counts["sent"] for counts in sent]
    ('join', 'ValueError: no id', [1, 0])
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, NamedTuple

import msgspec

from recdistill.data.foreign import Withdrawn
from recdistill.errors import DataError, StreamError
from recdistill.records import (
    DEAD_LETTERS,
    TOPIC_OF,
    TOPICS,
    Encoded,
    Record,
    decode,
    decode_item,
    encode_again,
    encoded,
    key_of,
    to_json,
)
from recdistill.stream import OUTSIDE, Log, Message, TopicPartition, Transaction

STAGE: Final = "dead-letters"
_SENT: Final = "sent"
_AT_ONCE: Final = 100
_WAIT_S: Final = 0.5

ToRecords = Callable[[Message], Sequence[Encoded | Withdrawn]]
FromFields = Callable[[Mapping[str, Any], str], Sequence[Encoded | Withdrawn]]


class Theirs(NamedTuple):
    """What understands the messages of somebody else's topic."""

    fields: Callable[[Message], Mapping[str, Any]]
    records: ToRecords
    of_fields: FromFields


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter.

    Attributes:
        number: Its offset in the topic.
        time_us: When it was written.
        stage: Who gave up on the record.
        error: Why.
        topic: Where the record was, or was for.
        partition: Its partition there; None: it was in no log.
        offset: Its offset there.
        message: The record, as it is in the letter.
        bytes: Size of the whole, where the letter holds the beginning only.
        sha256: Of the whole.
        sent: Whether it was sent again.
    """

    number: int
    time_us: int
    stage: str
    error: str
    topic: str
    partition: int | None
    offset: int | None
    message: Message
    bytes: int | None
    sha256: str
    sent: bool = False

    @property
    def place(self) -> str:
        """Where the record is or was for, for a person."""
        plain = self.topic.removeprefix(OUTSIDE)
        return plain if self.offset is None else f"{plain}/{self.partition} at {self.offset}"

    @property
    def mark(self) -> str:
        """What tells it from all others. A message has the same mark in each letter that a stage wrote of it."""
        if self.offset is None:
            return f"letter {self.number}"
        return f"{self.stage} {self.topic}/{self.partition} {self.offset}"


class Mended(NamedTuple):
    """A letter as it is to be sent.

    Attributes:
        letter: The letter.
        value: The record; of somebody else's topic, its bytes as they came.
        fields: Somebody else's topic: its fields, where a person changed them.
    """

    letter: Letter
    value: bytes | None
    fields: Mapping[str, Any] | None = None


def read(log: Log, *, records: bool = True) -> list[Letter]:
    """All letters that the log still holds, the oldest first.

    Args:
        log: Where they lie.
        records: Each with its record. There may be many letters: whoever only lists them takes them without.

    Raises:
        StreamError: The log cannot be read.
    """
    letters: list[Letter] = []
    sent: set[str] = set()
    for message in _all(log):
        headers = {name: value.decode(errors="replace") for name, value in message.headers}
        if _SENT in headers:
            sent.add(headers[_SENT])
        else:
            letters.append(_letter(message if records else message._replace(value=None), headers))
    return [msgspec.structs.replace(one, sent=one.mark in sent) for one in letters]


def marks(log: Log) -> set[str]:
    """The marks of all letters that were sent again.

    Raises:
        StreamError: The log cannot be read.
    """
    found = (dict(message.headers).get(_SENT) for message in _all(log))
    return {mark.decode(errors="replace") for mark in found if mark is not None}


def whole(log: Log, letter: Letter) -> bytes | None:
    """The record of a letter, all of it.

    Raises:
        DataError: The letter holds its beginning only, and it is no longer where it was.
    """
    if letter.bytes is None:
        return letter.message.value
    if letter.offset is not None and letter.partition is not None:
        tp = TopicPartition(letter.topic, letter.partition)
        try:
            with closing(log.source([tp], {tp: letter.offset})) as source:
                found = source.read_from(tp, 1, _WAIT_S)
                while not found and source.position()[tp] <= letter.offset < source.bounds(tp)[1]:
                    found = source.read_from(tp, 1, _WAIT_S)  # the log had not answered yet
        except StreamError:
            found = []
        value = found[0].value if found and found[0].offset == letter.offset else None
        if value is not None and hashlib.sha256(value).hexdigest() == letter.sha256:
            return value
    raise DataError(
        f"letter {letter.number}: holds the first {len(letter.message.value or b''):,} of {letter.bytes:,} bytes, and "
        f"the whole is no longer at {letter.place}; write the record to its topic again from where it came"
    )


def fields_of(letter: Letter, value: bytes | None, theirs: Mapping[str, Theirs]) -> dict[str, Any] | None:
    """The fields of a record that a person can read and mend; None where it is no record at all.

    Args:
        letter: The letter.
        value: The whole record.
        theirs: What understands the topics of others.
    """
    try:
        if (their := theirs.get(letter.topic)) is not None:
            return dict(their.fields(letter.message._replace(value=value)))
        if value is not None and value[:1] == b"{":
            found = msgspec.json.decode(value)
            return found if isinstance(found, dict) else None
        if letter.topic in TOPICS:
            found = msgspec.json.decode(to_json(decode(TOPICS[letter.topic], value)))
            return found if isinstance(found, dict) else None
    except (DataError, msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return None


def send(log: Log, mended: Sequence[Mended], theirs: Mapping[str, Theirs]) -> Counter[str]:
    """Sends letters again. Each is checked before the first one is sent.

    Args:
        log: Where to.
        mended: The letters, as they are to be sent.
        theirs: What understands the topics of others.

    Returns:
        Counts: sent (letters), already (letters that were sent before), and the records written, by topic.

    Raises:
        DataError: One is still no record. Nothing was sent.
        StreamError: The log cannot be written. What is sent and marked stays so.
    """
    ready = [(one.letter, _records(log, one, theirs)) for one in mended]
    counts: Counter[str] = Counter()
    with closing(log.stage(STAGE)) as stage:
        # The stage has one owner, so nobody else marks a letter after this look without our commit failing.
        sent = marks(log)
        todo = []
        for letter, records in ready:
            if letter.mark in sent:
                counts["already"] += 1
                continue
            sent.add(letter.mark)
            todo.append((letter, records))
        for start in range(0, len(todo), _AT_ONCE):
            some = todo[start : start + _AT_ONCE]
            with stage.transaction() as transaction:
                for letter, records in some:
                    for record in records:
                        _write(transaction, record, counts)
                    transaction.send(DEAD_LETTERS, b"sent again", headers=_marked(letter))
            counts["sent"] += len(some)
    return counts


def _records(log: Log, one: Mended, theirs: Mapping[str, Theirs]) -> Sequence[Encoded | Withdrawn]:
    letter = one.letter
    try:
        if (their := theirs.get(letter.topic)) is not None:
            if one.fields is not None:
                found = their.of_fields(one.fields, letter.place)
            else:
                found = their.records(letter.message._replace(value=one.value))
            if not found:
                raise DataError("no mapping means it")
            return found
        if letter.topic not in TOPICS:
            why = (
                "it is a topic of somebody else; name it in [[translate.topics]], or say --topic and --mapping"
                if letter.stage == "translate"
                else "it holds no records"
            )
            raise DataError(f"nothing can be sent to {letter.topic.removeprefix(OUTSIDE)!r}: {why}")
        if letter.topic == "items":
            record: Record = decode_item(letter.message.key, one.value)
            if one.value is None:
                return [Withdrawn(key_of(record).decode())]
        else:
            record = decode(TOPICS[letter.topic], one.value)
        return [encoded(record, encode_again(record, one.value, _before(log, letter)))]
    except DataError as e:
        raise type(e)(f"letter {letter.number}: {e}") from None


def _before(log: Log, letter: Letter) -> bytes | None:
    """The record as the letter has it, whole; None where only a part of it is left."""
    try:
        return whole(log, letter)
    except DataError:
        return None


def _write(transaction: Transaction, record: Encoded | Withdrawn, counts: Counter[str]) -> None:
    if isinstance(record, Withdrawn):
        transaction.send("items", None, key=record.id.encode())
        counts["withdrawn"] += 1
        return
    topic = TOPIC_OF[record.kind]
    transaction.send(topic, record.value, key=record.key)
    counts[topic] += 1


def _marked(letter: Letter) -> list[tuple[str, bytes]]:
    return [(_SENT, letter.mark.encode()), ("letter", str(letter.number).encode()), ("topic", letter.topic.encode())]


def _letter(message: Message, headers: Mapping[str, str]) -> Letter:
    def number(name: str) -> int | None:
        text = headers.get(name, "")
        return int(text) if text.isascii() and text.isdecimal() else None

    originals = [(n.removeprefix("original."), v) for n, v in message.headers if n.startswith("original.")]
    topic, partition, offset = headers.get("topic", ""), number("partition"), number("offset")
    return Letter(
        number=message.offset,
        time_us=message.time_us,
        stage=headers.get("stage", ""),
        error=headers.get("error", ""),
        topic=topic,
        partition=partition,
        offset=offset,
        message=Message(
            tp=TopicPartition(topic, -1 if partition is None else partition),
            offset=-1 if offset is None else offset,
            key=message.key,  # the header of this name has the beginning of one that is too long for a letter
            value=message.value,
            time_us=number("time_us") or 0,
            headers=tuple(originals),
        ),
        bytes=number("bytes"),
        sha256=headers.get("sha256", ""),
    )


def _all(log: Log) -> Iterator[Message]:
    topics = log.topics()
    if DEAD_LETTERS not in topics:
        raise StreamError(f"there is no topic {DEAD_LETTERS!r}; make the topics with `recdistill topics create`")
    tp = TopicPartition(DEAD_LETTERS, 0)
    with closing(log.source([tp])) as source:
        end = source.bounds(tp)[1]
        while source.position()[tp] < end:
            yield from source.read_from(tp, 1000, _WAIT_S)
