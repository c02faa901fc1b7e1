"""Records <-> framed protobuf. The only rules here are those of the schema.

The frame is Confluent's: 0x00, the schema id (4 bytes, big endian; 0 without a registry), the place of the message in
its file, the body.

Most events and candidates were seen a moment ago: a user's next request has the same history, with one event more. So
there is a second form of the schema, in which events and candidates are bytes. A memory of limited size finds the
struct for such bytes. Both forms read and write the same bytes on the wire.

It does not know which records are valid: `checks` knows that.

Example:
    >>> prefix(Impression).hex()
    '00000000000208'
    >>> read(Item, write(Item("a", attributes={"year": 1994})))
    Item(id='a', version=0, withdrawn=False, attributes={'year': 1994.0}, time_us=0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, get_args

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClassesForFiles

from recdistill._wire import records_pb2 as wire
from recdistill.records import framing
from recdistill.records.checks import Invalid
from recdistill.records.framing import frame
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

SCALES: Final[tuple[Scale, ...]] = get_args(Scale)  # in the order of the enumerations in the schema
ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)
LABEL_STATES: Final[tuple[LabelState, ...]] = get_args(LabelState)


def form(as_bytes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Another form of the schema, in which some fields are bytes. It reads and writes the same bytes on the wire.

    On the wire an inner message, or a run of packed numbers, is a length and bytes, and so is a bytes field.

    Args:
        as_bytes: For some messages, the fields that are bytes: inner messages, and lists of numbers.

    Returns:
        The class of each message, by its name.
    """
    file = FileDescriptorProto()
    wire.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        for field in message.field:
            if field.name in as_bytes.get(message.name, ()):
                if field.type != FieldDescriptorProto.TYPE_MESSAGE:
                    field.label = FieldDescriptorProto.LABEL_OPTIONAL
                field.type = FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
    pool = DescriptorPool()  # a separate pool, because the names are those of the schema
    pool.Add(file)
    classes = GetMessageClassesForFiles([file.name], pool)
    return {name.rpartition(".")[2]: made for name, made in classes.items()}


_OPAQUE: Final = form({"Impression": ("history", "candidates")})
_MESSAGES: Final[dict[type[Any], Any]] = {
    Item: wire.Item,
    Impression: _OPAQUE["Impression"],
    Ranking: _OPAQUE["Ranking"],
    Feedback: wire.Feedback,
    Example: _OPAQUE["Example"],
}


def write(record: Record) -> bytes:
    """Frames a record.

    Equal records have equal bytes. The errors of protobuf (TypeError, ValueError) are not changed.
    """
    kind = type(record)
    body: bytes = _WRITERS[kind](record).SerializeToString(deterministic=True)
    return _PREFIXES[kind] + body


def read(kind: type[R], value: bytes) -> R:
    """Reads a framed record. The schema id is ignored: there is no schema registry yet.

    Raises:
        Invalid: When the frame, an enumeration or the mask of scores is wrong.
        google.protobuf.message.DecodeError: When the body is not the message.
    """
    record: R = _READERS[kind](_MESSAGES[kind].FromString(body_of(kind, value)))
    return record


def body_of(kind: type[Any], value: bytes) -> bytes:
    """A framed value without its frame.

    Raises:
        Invalid: When the frame is wrong.
    """
    prefix = _PREFIXES[kind]
    return value[len(prefix) :] if value.startswith(prefix) else _unframe(kind, value)


def with_unknown(kind: type[Any], value: bytes) -> bytes | None:
    """A valid framed value in the frame that is written here, if a newer writer has put fields into it.

    A newer version may have more fields, in the record itself or in a part of it. Whoever passes the record on must
    not drop them.

    Args:
        kind: The record.
        value: A value that `read` accepts.

    Returns:
        The value with all of its fields; None where each of them is known, or where the value is JSON.
    """
    if value[:1] == b"{":
        return None
    body = body_of(kind, value)
    message = getattr(wire, kind.__name__).FromString(body)
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return _PREFIXES[kind] + body if message.ByteSize() < size else None


def write_around(record: Ranking | Example, inner: bytes) -> bytes | None:
    """Frames a record around the impression or the ranking in it. The bytes of that part are copied from another value.

    Args:
        record: What to frame.
        inner: The framed value that `record.impression`, or `record.ranking`, was read from.

    Returns:
        The value, equal to that of `write` if `write` made `inner`; None if `inner` is JSON.
    """
    if inner[:1] == b"{":
        return None
    body = body_of(Impression if isinstance(record, Ranking) else Ranking, inner)
    message = _MESSAGES[type(record)]()
    if isinstance(record, Ranking):
        _write_scores(record, message)
    else:
        _write_labels(record, message)
    # The inner part is field 1 of both messages, and fields are written in the order of their numbers. So its bytes
    # come first.
    head = _INNER + framing.varint(len(body))
    rest: bytes = message.SerializeToString(deterministic=True)
    return b"".join((_PREFIXES[type(record)], head, body, rest))


def around_ranking(value: bytes, labels: Sequence[float], state: LabelState) -> bytes:
    """Frames an example around a framed ranking, whose bytes are copied.

    Raises:
        ValueError: The ranking has another frame than that of `write`.
    """
    prefix = _PREFIXES[Ranking]
    if not value.startswith(prefix):
        raise ValueError("the ranking has not the frame in which it is written here")
    message = _MESSAGES[Example](labels=labels, label_state=LABEL_STATES.index(state))
    head = _INNER + framing.varint(len(value) - len(prefix))
    rest: bytes = message.SerializeToString(deterministic=True)
    return b"".join((_PREFIXES[Example], head, value[len(prefix) :], rest))


def opaque(kind: type[Any]) -> Any:
    """The message of a record in which events and candidates are bytes."""
    return _MESSAGES[kind]


def candidate_of(value: bytes) -> Candidate:
    """The candidate that some bytes are; they were checked."""
    return _candidates.get(value) or _new_candidate(value)


def prefix(kind: type[Any]) -> bytes:
    """The head of a value of this kind, as it is written here."""
    return _PREFIXES[kind]


_INDEXES: Final[dict[type[Any], int]] = {
    kind: list(wire.DESCRIPTOR.message_types_by_name).index(kind.__name__) for kind in _MESSAGES
}
_PREFIXES: Final[dict[type[Any], bytes]] = {kind: frame([index]) for kind, index in _INDEXES.items()}
_INNER: Final = bytes([1 << 3 | 2])  # tag of field 1 with a length


def _unframe(kind: type[Any], value: bytes) -> bytes:
    """Body of a value with another head than ours.

    With another schema id, the message may have any place in its file.
    """
    schema_id = framing.schema_of(value)
    indexes, at = framing.place_of(value, framing.HEAD)
    if schema_id == 0 and indexes != [_INDEXES[kind]]:
        raise Invalid(f"the frame names message {indexes} of the schema, this is {[_INDEXES[kind]]}")
    return value[at:]


# --- messages ----------------------------------------------------------------------------------------------------


def _write_value(value: Value, message: Any) -> None:
    if isinstance(value, str):
        message.text = value
    elif isinstance(value, bool):  # before numbers: True is an int
        message.flag = value
    elif isinstance(value, list):
        listed = message.vector if value and not isinstance(value[0], str) else message.texts
        listed.values.extend(value)
        listed.SetInParent()  # an empty list is a value too
    else:
        message.number = value


def read_values(messages: Mapping[str, Any], name: str) -> dict[str, Value]:
    """Attributes or a context as they are in memory.

    Raises:
        Invalid: When one has no value.
    """
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
    # Nearly always all flags are true: then no loop is needed.
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
    message = wire.Item(id=item.id, version=item.version, withdrawn=item.withdrawn, time_us=item.time_us)
    for key, value in item.attributes.items():
        _write_value(value, message.attributes[key])
    return message


def _read_item(message: Any) -> Item:
    attributes = read_values(message.attributes, "attributes")
    return Item(
        id=message.id,
        version=message.version,
        withdrawn=message.withdrawn,
        attributes=attributes,
        time_us=message.time_us,
    )


# Events and candidates that were read or written a short time ago. Only short ones are kept, so the memory has a limit.
_MOST_KEPT: Final = 100_000
_MOST_KEPT_BYTES: Final = 128
_events: Final[dict[bytes, Event]] = {}
_candidates: Final[dict[bytes, Candidate]] = {}
_event_bytes: Final[dict[Event, bytes]] = {}
_candidate_bytes: Final[dict[str, bytes]] = {}  # without scores: 0.0 equals -0.0, but not its bytes


def _keep(memory: dict[Any, Any], key: Any, value: Any, size: int) -> None:
    if size <= _MOST_KEPT_BYTES:
        if len(memory) >= _MOST_KEPT:
            memory.clear()
        memory[key] = value


def _new_event(value: bytes) -> Event:
    message = wire.Event.FromString(value)
    event = Event(message.item, message.time_us, message.action)
    _keep(_events, value, event, len(value))
    return event


def _new_candidate(value: bytes) -> Candidate:
    message = wire.Candidate.FromString(value)
    candidate = Candidate(
        message.item,
        message.logged_score if message.HasField("logged_score") else None,
        message.propensity if message.HasField("propensity") else None,
    )
    _keep(_candidates, value, candidate, len(value))
    return candidate


def _new_event_bytes(event: Event) -> bytes:
    value = wire.Event(item=event.item, action=event.action, time_us=event.time_us).SerializeToString()
    _keep(_event_bytes, event, value, len(value))
    return value


def _new_candidate_bytes(candidate: Candidate) -> bytes:
    if candidate.logged_score is not None or candidate.propensity is not None:
        scores = {"logged_score": candidate.logged_score, "propensity": candidate.propensity}
        return wire.Candidate(item=candidate.item, **scores).SerializeToString()
    value = wire.Candidate(item=candidate.item).SerializeToString()
    _keep(_candidate_bytes, candidate.item, value, len(value))
    return value


def _write_impression(impression: Impression, into: Any = None) -> Any:
    message = _OPAQUE["Impression"]() if into is None else into
    message.id = impression.id
    message.time_us = impression.time_us
    if impression.user is not None:
        message.user = impression.user
    get_event = _event_bytes.get
    message.history.extend([get_event(event) or _new_event_bytes(event) for event in impression.history])
    for key, value in impression.context.items():
        _write_value(value, message.context[key])
    get = _candidate_bytes.get
    message.candidates.extend(
        [
            (get(one.item) if one.logged_score is None and one.propensity is None else None)
            or _new_candidate_bytes(one)
            for one in impression.candidates
        ]
    )
    message.origin = ORIGINS.index(impression.origin)
    message.served_by = impression.served_by
    message.exclude.extend(impression.exclude)
    return message


def _read_impression(message: Any) -> Impression:
    get_event, get_candidate = _events.get, _candidates.get
    return Impression(
        id=message.id,
        time_us=message.time_us,
        user=message.user if message.HasField("user") else None,
        history=tuple([get_event(value) or _new_event(value) for value in message.history]),
        context=read_values(message.context, "context") if message.context else {},
        candidates=tuple([get_candidate(value) or _new_candidate(value) for value in message.candidates]),
        exclude=tuple(message.exclude),
        origin=_enumerated(ORIGINS, message.origin, "origin"),
        served_by=message.served_by,
    )


def _write_ranking(ranking: Ranking, into: Any = None) -> Any:
    message = _OPAQUE["Ranking"]() if into is None else into
    _write_impression(ranking.impression, message.impression)
    _write_scores(ranking, message)
    return message


def _write_scores(ranking: Ranking, message: Any) -> None:
    """Writes all fields of a ranking except its impression."""
    message.teacher_id = ranking.teacher_id
    message.teacher_version = ranking.teacher_version
    message.scale = SCALES.index(ranking.scale)
    message.scores.extend(ranking.scores)
    message.scored = _pack(ranking.scored)
    message.scored_at_us = ranking.scored_at_us
    message.catalogue_as_of = ranking.catalogue_as_of
    if ranking.sampled != 1.0:  # so a ranking without a budget has the same bytes as before budgets existed
        message.sampled = ranking.sampled
    message.candidates_sampled.extend(ranking.candidates_sampled)
    if ranking.self_agreement is not None:
        message.self_agreement = ranking.self_agreement


def _read_ranking(message: Any) -> Ranking:
    scores = tuple(message.scores)
    return Ranking(
        impression=_read_impression(message.impression),
        teacher_id=message.teacher_id,
        teacher_version=message.teacher_version,
        scale=_enumerated(SCALES, message.scale, "scale"),
        scores=scores,
        scored=_unpack(message.scored, len(scores)),
        scored_at_us=message.scored_at_us,
        catalogue_as_of=message.catalogue_as_of,
        sampled=message.sampled if message.HasField("sampled") else 1.0,
        candidates_sampled=tuple(message.candidates_sampled),
        self_agreement=message.self_agreement if message.HasField("self_agreement") else None,
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
    return Feedback(
        id=message.id,
        impression_id=message.impression_id,
        item=message.item,
        action=message.action,
        value=message.value,
        time_us=message.time_us,
    )


def _write_example(example: Example) -> Any:
    message: Any = _OPAQUE["Example"]()
    _write_ranking(example.ranking, message.ranking)
    _write_labels(example, message)
    return message


def _write_labels(example: Example, message: Any) -> None:
    """Writes all fields of an example except its ranking."""
    message.labels.extend(example.labels)
    message.label_state = LABEL_STATES.index(example.label_state)


def _read_example(message: Any) -> Example:
    state = _enumerated(LABEL_STATES, message.label_state, "label_state")
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
