"""Records <-> framed protobuf, with no rule but the schema's own.

The frame is Confluent's: 0x00, the schema id (4 bytes, big endian; 0 without a registry), where the message stands in
its file, the body.

It does not know which records are valid: `checks` does.

Example:
    >>> frame([1]).hex()
    '00000000000202'
    >>> read(Item, write(Item("a", attributes={"year": 1994})))
    Item(id='a', version=0, withdrawn=False, attributes={'year': 1994.0}, time_us=0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, get_args

from recdistill._wire import records_pb2 as wire
from recdistill.records.checks import Invalid
from recdistill.records.structs import (
    Candidate,
    Event,
    Example,
    Feedback,
    Impression,
    Item,
    LabelState,
    Origin,
    R,
    Ranking,
    Record,
    Scale,
    Value,
)

_SCALES: Final[tuple[Scale, ...]] = get_args(Scale)  # in the order of the enumerations in the schema
_ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)
_LABEL_STATES: Final[tuple[LabelState, ...]] = get_args(LabelState)
_MESSAGES: Final[dict[type[Any], Any]] = {
    Item: wire.Item,
    Impression: wire.Impression,
    Ranking: wire.Ranking,
    Feedback: wire.Feedback,
    Example: wire.Example,
}


def write(record: Record) -> bytes:
    """Frames a record; equal records have equal bytes. The errors of protobuf (TypeError, ValueError) pass through."""
    kind = type(record)
    body: bytes = _WRITERS[kind](record).SerializeToString(deterministic=True)
    return _PREFIXES[kind] + body


def read(kind: type[R], value: bytes) -> R:
    """Reads a framed record. The schema id is read past: there is no registry yet.

    Raises:
        Invalid: When the frame, an enumeration or the mask of scores is wrong.
        google.protobuf.message.DecodeError: When the body is not the message.
    """
    prefix = _PREFIXES[kind]
    body = value[len(prefix) :] if value.startswith(prefix) else _unframe(kind, value)
    record: R = _READERS[kind](_MESSAGES[kind].FromString(body))
    return record


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def frame(indexes: Sequence[int], schema_id: int = 0) -> bytes:
    """Head of a value: magic 0, schema id, where the message stands in its file.

    The place is a count and that many indexes as zigzag varints; `[0]` alone is one 0 byte.
    """
    head = b"\x00" + schema_id.to_bytes(4, "big")
    if list(indexes) == [0]:
        return head + b"\x00"
    return head + b"".join(_varint(number << 1) for number in (len(indexes), *indexes))  # zigzag of a number >= 0


_INDEXES: Final[dict[type[Any], int]] = {
    kind: list(wire.DESCRIPTOR.message_types_by_name).index(kind.__name__) for kind in _MESSAGES
}
_PREFIXES: Final[dict[type[Any], bytes]] = {kind: frame([index]) for kind, index in _INDEXES.items()}


def _unframe(kind: type[Any], value: bytes) -> bytes:
    """Body of a frame that does not start as ours do. Another schema id may place the message anywhere in its file."""
    if value[:1] != b"\x00":
        first = f"it starts with 0x{value[0]:02x}" if value else "it is empty"
        raise Invalid(f"{first}, not with the framing byte 0x00 or the `{{` of JSON")
    if len(value) < 6:
        raise Invalid(f"the frame is cut short after {len(value)} bytes")
    schema_id = int.from_bytes(value[1:5], "big")
    at = 5
    numbers: list[int] = []
    count = 1
    while len(numbers) < count:
        number = shift = 0
        while True:
            if at >= len(value) or shift > 28:
                raise Invalid("the message indexes of the frame are cut short or too long")
            byte = value[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        number = (number >> 1) ^ -(number & 1)
        if number < 0:
            raise Invalid("the message indexes of the frame are negative")
        if count == 1 and not numbers:
            if number == 0:
                numbers = [1, 0]
                break
            if number > 16:
                raise Invalid(f"the frame has {number} message indexes, more than 16")
            count = number + 1
        numbers.append(number)
    indexes = numbers[1:]
    if schema_id == 0 and indexes != [_INDEXES[kind]]:
        raise Invalid(f"the frame names message {indexes} of the schema, this is {[_INDEXES[kind]]}")
    return value[at:]


# --- messages ----------------------------------------------------------------------------------------------------


def _write_value(value: Value) -> Any:
    if isinstance(value, bool):  # before numbers: True is an int
        return wire.Value(flag=value)
    if isinstance(value, str):
        return wire.Value(text=value)
    if isinstance(value, list):
        message: Any = wire.Value()
        listed = message.vector if value and not isinstance(value[0], str) else message.texts
        listed.values.extend(value)
        listed.SetInParent()  # an empty list is a value too
        return message
    return wire.Value(number=value)


def _read_values(messages: Mapping[str, Any], name: str) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for key, message in messages.items():
        kind = message.WhichOneof("kind")
        if kind is None:
            raise Invalid(f"{name}.{key} has no value")
        value = getattr(message, kind)
        values[key] = list(value.values) if kind in ("texts", "vector") else value
    return values


def _enumerated(names: Sequence[Any], number: int, name: str) -> Any:
    if not 0 <= number < len(names):
        raise Invalid(f"{name} is {number}, not 0 to {len(names) - 1} ({', '.join(names)})")
    return names[number]


# A byte of the mask as eight flags, least significant bit first.
_FLAGS: Final = tuple(tuple(bool(byte >> bit & 1) for bit in range(8)) for byte in range(256))


def _pack(flags: Sequence[bool]) -> bytes:
    count = len(flags)
    # Nearly always all of them: no loop then.
    bits = (1 << count) - 1 if all(flags) else sum(1 << index for index, flag in enumerate(flags) if flag)
    return bits.to_bytes((count + 7) // 8, "little")


def _unpack(mask: bytes, count: int) -> tuple[bool, ...]:
    if len(mask) != (count + 7) // 8:
        raise Invalid(f"scored has {len(mask)} bytes for {count} scores")
    flags = tuple(chain.from_iterable(map(_FLAGS.__getitem__, mask)))
    if any(flags[count:]):
        raise Invalid(f"scored marks more than {count} scores")
    return flags[:count]


def _write_item(item: Item) -> Any:
    return wire.Item(
        id=item.id,
        version=item.version,
        withdrawn=item.withdrawn,
        attributes={key: _write_value(value) for key, value in item.attributes.items()},
        time_us=item.time_us,
    )


def _read_item(message: Any) -> Item:
    attributes = _read_values(message.attributes, "attributes")
    return Item(message.id, message.version, message.withdrawn, attributes, message.time_us)


def _write_impression(impression: Impression, into: Any = None) -> Any:
    message = wire.Impression() if into is None else into
    message.id = impression.id
    message.time_us = impression.time_us
    if impression.user is not None:
        message.user = impression.user
    add = message.history.add
    for event in impression.history:
        add(item=event.item, action=event.action, time_us=event.time_us)
    for key, value in impression.context.items():
        message.context[key].CopyFrom(_write_value(value))
    add = message.candidates.add
    for candidate in impression.candidates:
        if candidate.logged_score is None and candidate.propensity is None:
            add(item=candidate.item)
        else:
            add(item=candidate.item, logged_score=candidate.logged_score, propensity=candidate.propensity)
    message.origin = _ORIGINS.index(impression.origin)
    message.served_by = impression.served_by
    message.exclude.extend(impression.exclude)
    return message


_has = wire.Candidate.HasField  # looked up once: on the instance it costs as much as the answer
_event_fields = attrgetter("item", "time_us", "action")


def _read_impression(message: Any) -> Impression:
    # A list keeps the wrappers of the members alive, so that each is made once.
    listed = list(message.candidates)
    candidates = tuple(
        [
            Candidate(
                one.item,
                one.logged_score if _has(one, "logged_score") else None,
                one.propensity if _has(one, "propensity") else None,
            )
            for one in listed
        ]
    )
    return Impression(
        message.id,
        message.time_us,
        message.user if message.HasField("user") else None,
        tuple([Event(*fields) for fields in map(_event_fields, message.history)]),
        _read_values(message.context, "context") if message.context else {},
        candidates,
        tuple(message.exclude),
        _enumerated(_ORIGINS, message.origin, "origin"),
        message.served_by,
    )


def _write_ranking(ranking: Ranking, into: Any = None) -> Any:
    message = wire.Ranking() if into is None else into
    _write_impression(ranking.impression, message.impression)
    message.teacher_id = ranking.teacher_id
    message.teacher_version = ranking.teacher_version
    message.scale = _SCALES.index(ranking.scale)
    message.scores.extend(ranking.scores)
    message.scored = _pack(ranking.scored)
    message.scored_at_us = ranking.scored_at_us
    message.catalogue_as_of = ranking.catalogue_as_of
    if ranking.sampled != 1.0:  # so that a ranking without a budget has the bytes that it always had
        message.sampled = ranking.sampled
    message.candidates_sampled.extend(ranking.candidates_sampled)
    return message


def _read_ranking(message: Any) -> Ranking:
    scores = tuple(message.scores)
    return Ranking(
        _read_impression(message.impression),
        message.teacher_id,
        message.teacher_version,
        _enumerated(_SCALES, message.scale, "scale"),
        scores,
        _unpack(message.scored, len(scores)),
        message.scored_at_us,
        message.catalogue_as_of,
        message.sampled if message.HasField("sampled") else 1.0,
        tuple(message.candidates_sampled),
    )


def _write_feedback(feedback: Feedback) -> Any:
    return wire.Feedback(
        id=feedback.id,
        impression_id=feedback.impression_id,
        item=feedback.item,
        action=feedback.action,
        value=feedback.value,
        time_us=feedback.time_us,
    )


def _read_feedback(message: Any) -> Feedback:
    return Feedback(message.id, message.impression_id, message.item, message.action, message.value, message.time_us)


def _write_example(example: Example) -> Any:
    message: Any = wire.Example()
    message.label_state = _LABEL_STATES.index(example.label_state)
    _write_ranking(example.ranking, message.ranking)
    message.labels.extend(example.labels)
    return message


def _read_example(message: Any) -> Example:
    state = _enumerated(_LABEL_STATES, message.label_state, "label_state")
    return Example(_read_ranking(message.ranking), tuple(message.labels), state)


_WRITERS: Final[dict[type[Any], Callable[[Any], Any]]] = {
    Item: _write_item,
    Impression: _write_impression,
    Ranking: _write_ranking,
    Feedback: _write_feedback,
    Example: _write_example,
}
_READERS: Final[dict[type[Any], Callable[[Any], Any]]] = {
    Item: _read_item,
    Impression: _read_impression,
    Ranking: _read_ranking,
    Feedback: _read_feedback,
    Example: _read_example,
}
