"""Columns beside `decode`: the same values are accepted and refused, and what was read is the same."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.odd_lists import EDITS
from support.tries import tries

from recdistill._wire import records_pb2 as wire
from recdistill.errors import DecodeError
from recdistill.limits import MAX_TIME_US, MIN_CHANCE
from recdistill.records import (
    Candidate,
    Columns,
    Event,
    Example,
    Impression,
    Ranking,
    codec,
    decode,
    encode,
    framing,
    read_columns,
    to_json,
)
from recdistill.records import columns as quick

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
odd = ["a", "item-7", "ü", "日本", "x" * 127, "x" * 128, "é" * 300, "\n\n", "\x12\x18"]
ids = texts.filter(bool) | st.sampled_from(odd)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
scores = st.floats(-(2.0**39), 2.0**39, width=32)
chances = st.floats(MIN_CHANCE, 1, width=32)
times = st.sampled_from([0, 1, 127, 128, MAX_TIME_US]) | st.integers(0, MAX_TIME_US)
values = st.one_of(
    texts, floats32, st.booleans(), st.lists(texts, max_size=3), st.lists(floats32, min_size=1, max_size=3)
)


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    now = draw(times)
    listed = draw(st.lists(ids, unique=True, max_size=12))
    count = draw(st.integers(0, len(listed)))
    known = sorted(draw(st.lists(st.integers(0, now or MAX_TIME_US), max_size=5)))
    history = tuple(Event(draw(ids), time, draw(texts)) for time in draw(st.permutations([0, *known])) if time == 0)
    history += tuple(Event(draw(ids), time, draw(st.sampled_from(["", "click", "view"]) | texts)) for time in known)
    bare = draw(st.booleans())
    impression = Impression(
        draw(ids),
        now,
        draw(st.none() | ids),
        history,
        draw(st.dictionaries(ids, values, max_size=2)),
        tuple(
            Candidate(one) if bare else Candidate(one, draw(st.none() | scores), draw(st.none() | chances))
            for one in listed[:count]
        ),
        tuple(listed[count:]) if draw(st.booleans()) else (),
        draw(st.sampled_from(["product", "student", "sweep", "served"])),
        draw(texts),
    )
    several = st.lists(scores, min_size=count, max_size=count)
    return Ranking(
        impression,
        draw(ids),
        draw(ids),
        draw(st.sampled_from(["unbounded", "logit", "probability", "rank"])),
        tuple(draw(several)),
        tuple(draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        draw(times),
        draw(st.integers(0, 2**63 - 1)),
        draw(st.just(1.0) | chances),
        tuple(draw(st.just([]) | st.lists(chances, min_size=count, max_size=count))),
        draw(st.none() | st.floats(-1, 1, width=32)),
    )


@st.composite
def examples(draw: st.DrawFn) -> Example:
    ranking = draw(rankings())
    count = len(ranking.scores)
    labels = draw(st.lists(st.floats(0, 2.0**39, width=32), min_size=count, max_size=count))
    return Example(ranking, tuple(labels), draw(st.sampled_from(codec.LABEL_STATES)))


def held(columns: Columns, records: Sequence[Example | Ranking]) -> None:
    """Holds columns against the records, field by field."""
    found = [one.ranking if isinstance(one, Example) else one for one in records]
    asked = [one.impression for one in found]
    assert columns.ids == [one.id for one in asked]
    assert columns.users == [one.user for one in asked]
    assert columns.times_E.tolist() == [one.time_us for one in asked]
    assert columns.origins == [one.origin for one in asked]
    assert columns.served_by == [one.served_by for one in asked]
    assert columns.contexts == [one.context for one in asked]
    assert columns.excluded == [one.exclude for one in asked]
    assert columns.teachers == [f"{one.teacher_id}@{one.teacher_version}" for one in found]
    assert columns.scales == [one.scale for one in found]
    assert columns.scored_at_E.tolist() == [one.scored_at_us for one in found]
    assert columns.stamps_E.tolist() == [one.catalogue_as_of for one in found]
    assert columns.sampled_E.tolist() == [one.sampled for one in found]
    agreements = [None if math.isnan(one) else one for one in columns.agreement_E.tolist()]
    assert agreements == [one.self_agreement for one in found]
    assert columns.counts_E.tolist() == [len(one.candidates) for one in asked]
    assert list(columns.items) == [each.item for one in asked for each in one.candidates]
    assert columns.scores_C.tolist() == [score for one in found for score in one.scores]
    assert columns.scored_C.tolist() == [real for one in found for real in one.scored]
    assert columns.chanced_E.tolist() == [bool(one.candidates_sampled) for one in found]
    expected = [p for one in found for p in one.candidates_sampled or (1.0,) * len(one.scores)]
    assert columns.chances_C.tolist() == expected
    known = [None if math.isnan(one) else one for one in columns.propensities_C.tolist()]
    assert known == [each.propensity for one in asked for each in one.candidates]
    assert columns.events_E.tolist() == [len(one.history) for one in asked]
    assert list(columns.event_items) == [event.item for one in asked for event in one.history]
    assert [columns.actions[place] for place in columns.action_H.tolist()] == [
        event.action for one in asked for event in one.history
    ]
    assert columns.event_times_H.tolist() == [event.time_us for one in asked for event in one.history]
    labels = [label for one in records for label in (one.labels if isinstance(one, Example) else (0.0,) * 99)]
    if all(isinstance(one, Example) for one in records):
        assert columns.labels_C.tolist() == labels
        assert columns.states == [one.label_state for one in records if isinstance(one, Example)]
    for row, one in enumerate(asked):
        assert columns.request(row) == msgspec.structs.replace(one, candidates=(), exclude=(), user=None)


def agreed(kind: type[Example] | type[Ranking], written: Sequence[bytes | None]) -> int:
    """Reads values in both ways, which must agree. Returns how many are valid."""
    valid: list[Example | Ranking] = []
    wrong: dict[int, str] = {}
    for place, value in enumerate(written):
        try:
            valid.append(decode(kind, value))
        except DecodeError as error:
            wrong[place] = str(error)
    columns, refused = read_columns(kind, written)
    assert {place: str(error) for place, error in refused.items()} == wrong
    held(columns, valid)
    return len(valid)


@tries(80)
@given(st.lists(examples(), min_size=1, max_size=5))
def test_generated_examples_are_read_the_same(records: list[Example]) -> None:
    assert agreed(Example, [encode(one) for one in records]) == len(records)


@tries(60)
@given(st.lists(rankings(), max_size=4))
def test_generated_rankings_are_read_the_same(records: list[Ranking]) -> None:
    assert agreed(Ranking, [encode(one) for one in records]) == len(records)


@tries(60)
@given(st.lists(examples(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_what_encode_writes_takes_the_quick_way(records: list[Example], chance: random.Random) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("the slow way was taken")

    found, refused = quick.read(Example, [encode(one) for one in records], decode=slow)
    assert len(found) == len(records)
    assert not refused


def ordinary(number: int = 0) -> Example:
    history = (Event("a", 0), Event("b", 3, "click"), Event("c", 200, "view"), Event("ü", 200))
    candidates = tuple(Candidate(f"item-{n}") for n in range(9))
    asked = Impression(f"i{number}", 300, "u", history, {"hour": 3.0, "tags": ["x"]}, candidates, ("z", "y"), "student")
    ranking = Ranking(asked, "t", "1", "logit", tuple(map(float, range(9))), (True,) * 9, 400, 7, 0.5, (0.5,) * 9, 0.25)
    return Example(ranking, (0.0,) * 8 + (1.0,), "closed")


def small() -> Example:
    asked = Impression("i", 9, history=(Event("a", 3, "click"), Event("b", 5)), candidates=(Candidate("a", 1.0),))
    return Example(Ranking(asked, "t", "1", "logit", (1.5,), (True,)), (1.0,), "closed")


@pytest.mark.parametrize("record", [ordinary(), small()], ids=["full", "small"])
@pytest.mark.parametrize("kind", [Example, Ranking])
def test_damaged_values_are_refused_or_read_the_same(record: Example, kind: type[Example]) -> None:
    chance = random.Random(5)
    whole = encode(record if kind is Example else record.ranking)
    damaged: list[bytes | None] = []
    for _ in range(6000):
        value = bytearray(whole)
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            if not value:
                break
            match chance.randrange(5):
                case 0:
                    value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
                case 1:
                    value[chance.randrange(len(value))] = chance.choice([0, 1, 10, 18, 24, 127, 128, 255])
                case 2:
                    del value[chance.randrange(len(value))]
                case 3:
                    at, size = chance.randrange(len(value)), chance.randrange(12)
                    value[at:at] = value[at : at + size]
                case _:
                    del value[chance.randrange(len(value)) :]
        damaged.append(bytes(value))
    valid = sum(agreed(kind, damaged[start : start + 200]) for start in range(0, len(damaged), 200))
    assert 100 < valid < 5900  # both ways were gone


def inside(edit: Callable[[Any], object]) -> Callable[[Any], object]:
    """The edit of an impression, made in the one that an example holds."""
    return lambda one: edit(one.ranking.impression)


def odd_ones() -> dict[str, bytes | None]:
    """Values that are no usual ones."""
    record = ordinary()
    whole = encode(record)
    prefix, body = codec.prefix(Example), whole[len(codec.prefix(Example)) :]
    message = wire.Example.FromString(body)
    ranking = message.ranking.SerializeToString()
    unpacked = b"".join(b"\x15" + np.float32(0).tobytes() for _ in range(9))
    changed = {
        "none": None,
        "empty": b"",
        "json": to_json(record),
        "bad json": b'{"ranking": 3}',
        "another frame": b"\0\0\0\0\7" + whole[5:],
        "no body": prefix,
        "a ranking": encode(record.ranking),
        "an unknown field": whole + b"\xfa\x07\x01x",
        "labels twice": whole + b"\x12\x04" + bytes(4),
        "labels unpacked too": whole + unpacked,
        "state twice": whole + b"\x18\x00",
        "state unknown": whole + b"\x18\x09",
        "state below 0": whole + b"\x18" + b"\xff" * 9 + b"\x01",
        "ranking twice": prefix + b"\x0a\x00" + body,
        "ranking in two parts": prefix + b"\x0a" + framing.varint(len(ranking)) + ranking + body,
        "long varint": whole[:-1] + b"\x81\x00",
    }
    for name, edit in {
        **{name: inside(edit) for name, edit in EDITS.items()},
        "teacher's score nan": lambda one: one.ranking.scores.__setitem__(3, math.nan),
        "teacher's score huge": lambda one: one.ranking.scores.__setitem__(3, 2e12),
        "label below 0": lambda one: one.labels.__setitem__(3, -1),
        "label -0": lambda one: one.labels.__setitem__(3, -0.0),
        "label nan": lambda one: one.labels.__setitem__(3, math.nan),
        "one label more": lambda one: one.labels.append(1),
        "mask too long": lambda one: setattr(one.ranking, "scored", b"\xff\x02"),
        "mask too short": lambda one: setattr(one.ranking, "scored", b"\xff"),
        "scale unknown": lambda one: setattr(one.ranking, "scale", 9),
        "no teacher": lambda one: setattr(one.ranking, "teacher_version", ""),
        "sampled 0": lambda one: setattr(one.ranking, "sampled", 0),
        "sampled tiny": lambda one: setattr(one.ranking, "sampled", 2.0**-40),
        "sampled 1 written": lambda one: setattr(one.ranking, "sampled", 1),
        "a chance above 1": lambda one: one.ranking.candidates_sampled.__setitem__(2, 1.5),
        "stamp below 0": lambda one: setattr(one.ranking, "catalogue_as_of", -1),
        "agreement above 1": lambda one: setattr(one.ranking, "self_agreement", 1.5),
        "agreement nan": lambda one: setattr(one.ranking, "self_agreement", math.nan),
    }.items():
        one = wire.Example.FromString(body)
        edit(one)
        changed[name] = prefix + one.SerializeToString(deterministic=True)
    return changed


def test_each_odd_value_among_others_is_read_the_same() -> None:
    found = odd_ones()
    good = [encode(ordinary(number)) for number in range(3)]
    for name, value in found.items():
        assert agreed(Example, [good[0], value, good[1]]) >= 2, name
        assert agreed(Example, [value]) <= 1, name
    assert 6 <= agreed(Example, list(found.values())) < len(found) - 20


def test_a_float_packed_in_two_runs_is_all_read() -> None:
    """A packed list may come in parts; the last part alone would be another list."""
    record = small()
    whole = encode(record)
    labels = b"\x12\x04" + np.float32(1).tobytes()
    more = whole.replace(labels + b"\x18", b"\x12\x00" + labels + b"\x18")
    assert more != whole
    assert agreed(Example, [more]) == 1


def test_no_value_makes_empty_columns() -> None:
    columns, refused = read_columns(Example, [])
    assert (len(columns), refused) == (0, {})
    assert list(columns.items) == []
    assert columns.scores_C.shape == (0,)
    assert len(Columns.join([columns, columns])) == 0


def test_joined_columns_are_those_of_all_values() -> None:
    written = [encode(ordinary(number)) for number in range(5)] + [encode(small())]
    whole = read_columns(Example, written)[0]
    joined = Columns.join([read_columns(Example, part)[0] for part in (written[:2], [], written[2:5], written[5:])])
    for field in fields(Columns):
        expected, found = getattr(whole, field.name), getattr(joined, field.name)
        if field.name in ("actions", "action_H"):
            assert [joined.actions[at] for at in joined.action_H] == [whole.actions[at] for at in whole.action_H]
        elif field.name in ("items", "event_items"):
            assert list(found) == list(expected)
        elif isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
        else:
            assert found == expected
