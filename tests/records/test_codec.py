"""What is kept of events and candidates between records, and records framed around what they came from."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill._wire import records_pb2 as wire
from recdistill.errors import DataError, DecodeError
from recdistill.records import (
    MAX_BYTES,
    Candidate,
    Event,
    Example,
    Impression,
    Ranking,
    codec,
    decode,
    encode,
    encode_around,
    framing,
    to_json,
)

ids = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=12)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
scores = st.floats(-(2.0**39), 2.0**39, width=32)
chances = st.floats(2.0**-30, 1, width=32)


@st.composite
def impressions(draw: st.DrawFn) -> Impression:
    items = draw(st.lists(ids, unique=True, max_size=8))
    times = sorted(draw(st.lists(st.integers(1, 50), max_size=6)))
    return Impression(
        draw(ids),
        100,
        draw(st.none() | ids),
        tuple(Event(draw(ids), time, draw(st.sampled_from(["", "view"]))) for time in times),
        draw(st.dictionaries(ids, ids | floats32 | st.booleans() | st.lists(ids, max_size=3), max_size=3)),
        tuple(Candidate(item, draw(st.none() | scores), draw(st.none() | chances)) for item in items),
        tuple(draw(st.lists(ids.filter(lambda one: one not in items), max_size=4))),
        draw(st.sampled_from(["product", "student", "sweep", "served"])),
        draw(st.sampled_from(["", "abc"])),
    )


def ranking_of(impression: Impression) -> Ranking:
    count = len(impression.candidates)
    scores = tuple(0.5 * index - 1 for index in range(count))
    scored = tuple(index % 3 > 0 for index in range(count))
    return Ranking(impression, "bst", "3", "logit", scores, scored, 7, 200, 0.5, (0.25,) * count)


def example_of(ranking: Ranking) -> Example:
    return Example(ranking, tuple(float(index % 2) for index in range(len(ranking.scores))), "closed")


@tries(200)
@given(impressions())
def test_the_bytes_are_those_of_the_schema(impression: Impression) -> None:
    value = encode(impression)
    plain = wire.Impression.FromString(value[len(codec.frame([4])) :])
    events = [(event.item, event.time_us, event.action) for event in plain.history]
    assert events == [(event.item, event.time_us, event.action) for event in impression.history]
    assert [one.item for one in plain.candidates] == [one.item for one in impression.candidates]
    for one, candidate in zip(plain.candidates, impression.candidates, strict=True):
        assert one.HasField("logged_score") == (candidate.logged_score is not None)
        assert one.HasField("propensity") == (candidate.propensity is not None)
        assert one.logged_score == (candidate.logged_score or 0.0)
        assert one.propensity == (candidate.propensity or 0.0)
    # Unknown to whoever wrote it: the plain classes give the same bytes.
    assert plain.SerializeToString(deterministic=True) == value[len(codec.frame([4])) :]
    assert decode(Impression, value) == impression


def test_zeros_of_either_sign_stay_themselves() -> None:
    for score in (0.0, -0.0, 0.0):
        value = encode(Impression("i", 1, candidates=(Candidate("a", score),)))
        found = decode(Impression, value).candidates[0].logged_score
        assert found is not None
        assert struct.pack("d", found) == struct.pack("d", score)


def test_an_event_time_that_only_equals_a_whole_number_is_refused() -> None:
    encode(Impression("i", 9, history=(Event("a", 1),)))
    with pytest.raises(DataError, match="not a whole number"):
        encode(Impression("i", 9, history=(Event("a", 1.0),)))  # type: ignore[arg-type]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_MOST_KEPT", 5)
    memories = (codec._events, codec._candidates, codec._event_bytes, codec._candidate_bytes)
    for memory in memories:
        memory.clear()  # type: ignore[attr-defined]
    for number in range(40):
        long = f"{number}" * 200
        names = [f"n{number}-{index}" for index in range(3)] + [long]
        impression = Impression(
            "i", 9, history=tuple(Event(name, 1) for name in names), candidates=tuple(map(Candidate, names))
        )
        assert decode(Impression, encode(impression)) == impression
        assert all(0 < len(memory) <= 5 for memory in memories)
        assert not any(long in repr(memory) for memory in memories)


def test_an_event_or_candidate_that_is_no_message_is_refused() -> None:
    head = codec.frame([4])
    for field in (4, 6):
        broken = wire.Impression(id="i", time_us=9).SerializeToString() + bytes([field << 3 | 2, 2, 0x0A, 0x05])
        with pytest.raises(DecodeError, match="not this message"):
            decode(Impression, head + broken)
        not_utf8 = wire.Impression(id="i", time_us=9).SerializeToString() + bytes([field << 3 | 2, 3, 0x0A, 1, 0xFF])
        with pytest.raises(DecodeError, match="not this message"):
            decode(Impression, head + not_utf8)


@tries(200)
@given(impressions())
def test_a_record_around_another_has_the_bytes_that_it_would_have(impression: Impression) -> None:
    inner = encode(impression)
    ranking = ranking_of(decode(Impression, inner))
    value = encode_around(ranking, inner)
    assert value == encode(ranking)
    example = example_of(decode(Ranking, value))
    assert encode_around(example, value) == encode(example)


@tries(50)
@given(impressions(), st.sampled_from(["json", "another schema id", "unknown field", "twice"]))
def test_whatever_the_inner_value_is_like_the_record_is_the_same(impression: Impression, how: str) -> None:
    inner = encode(impression)
    if how == "json":
        inner = to_json(impression)
    elif how == "another schema id":
        inner = b"\0" + struct.pack(">I", 70_000) + b"\0" + inner[len(codec.frame([4])) :]
    elif how == "unknown field":
        inner += b"\xf8\x07\x05"  # field 127, a varint
    else:
        inner += b"\x10\x64"  # time_us once more: the last one counts
    ranking = ranking_of(decode(Impression, inner))
    value = encode_around(ranking, inner)
    assert decode(Ranking, value) == decode(Ranking, encode(ranking))
    example = example_of(decode(Ranking, value))
    assert decode(Example, encode_around(example, value)) == decode(Example, encode(example))


def test_what_a_value_holds_beside_the_record_cannot_make_the_next_one_too_large() -> None:
    impression = Impression("i", 1, candidates=(Candidate("a"), Candidate("b")))
    value = encode(impression)
    often = value + b"\x10\x01" * ((MAX_BYTES - len(value)) // 2)  # time_us again and again
    ranking = ranking_of(decode(Impression, often))
    assert encode_around(ranking, often) == encode(ranking)


def test_a_field_of_a_newer_version_is_not_dropped_to_make_room() -> None:
    """The list goes to the dead letters, whole."""
    value = encode(Impression("i", 1, candidates=(Candidate("a"), Candidate("b"))))
    room = MAX_BYTES - len(value) - 8
    inner = value + b"\xfa\x07" + framing.varint(room) + b"x" * room  # field 127, bytes
    with pytest.raises(DataError, match="cannot write this ranking: .* bytes with its key, more than"):
        encode_around(ranking_of(decode(Impression, inner)), inner)


def test_what_is_around_the_copied_part_is_checked() -> None:
    inner = encode(Impression("i", 1, candidates=(Candidate("a"), Candidate("b"))))
    ranking = ranking_of(decode(Impression, inner))
    with pytest.raises(DataError, match="1 scores"):
        encode_around(msgspec.structs.replace(ranking, scores=(1.0,)), inner)
    with pytest.raises(DataError, match="cannot write this ranking: teacher_id is empty"):
        encode_around(msgspec.structs.replace(ranking, teacher_id=""), inner)
    example = msgspec.structs.replace(example_of(ranking), labels=(0.0, -1.0))
    with pytest.raises(DataError, match="cannot write this example: a label is -1.0, below 0"):
        encode_around(example, encode(ranking))
