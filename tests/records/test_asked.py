"""Impressions that are read together beside `decode`: the same are accepted and refused, and they are equal."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.odd_lists import EDITS
from support.tries import tries

from recdistill._wire import records_pb2 as wire
from recdistill.errors import DecodeError
from recdistill.limits import MAX_TIME_US, MIN_CHANCE
from recdistill.records import Candidate, Event, Impression, asked, codec, decode, encode, read_impressions, to_json

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
ids = texts.filter(bool) | st.sampled_from(["a", "ü", "日本", "x" * 127, "x" * 128, "é" * 300, "\x12\x18"])
scores = st.floats(-(2.0**39), 2.0**39, width=32)
chances = st.floats(MIN_CHANCE, 1, width=32)
times = st.sampled_from([0, 1, 127, 128, MAX_TIME_US]) | st.integers(0, MAX_TIME_US)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
values = st.one_of(texts, floats, st.booleans(), st.lists(texts, max_size=3), st.lists(floats, min_size=1, max_size=3))


@st.composite
def impressions(draw: st.DrawFn) -> Impression:
    now = draw(times)
    listed = draw(st.lists(ids, unique=True, max_size=10))
    count = draw(st.integers(0, len(listed)))
    known = sorted(draw(st.lists(st.integers(0, now or MAX_TIME_US), max_size=5)))
    bare = draw(st.booleans())
    return Impression(
        draw(ids),
        now,
        draw(st.none() | ids),
        tuple(Event(draw(ids), time, draw(st.sampled_from(["", "click"]) | texts)) for time in known),
        draw(st.dictionaries(ids, values, max_size=2)),
        tuple(
            Candidate(one) if bare else Candidate(one, draw(st.none() | scores), draw(st.none() | chances))
            for one in listed[:count]
        ),
        tuple(listed[count:]) if draw(st.booleans()) else (),
        draw(st.sampled_from(["product", "student", "sweep", "served"])),
        draw(texts),
    )


def decoded(value: bytes | None) -> Impression | DecodeError:
    try:
        return decode(Impression, value)
    except DecodeError as error:
        return error


def agreed(written: Sequence[bytes | None]) -> int:
    """Reads values in both ways, which must agree. Returns how many are valid."""
    valid = 0
    for value, found in zip(written, read_impressions(written), strict=True):
        expected = decoded(value)
        if isinstance(expected, DecodeError):
            assert str(found) == str(expected)
            continue
        valid += 1
        assert found == expected
        assert isinstance(found, Impression)
        assert encode(found) == encode(expected), "0.0 equals -0.0, but not its bytes"
    return valid


@tries(100)
@given(st.lists(impressions(), max_size=7), st.integers(0, 5))
def test_generated_impressions_are_read_the_same(records: list[Impression], empty: int) -> None:
    bare = [encode(Impression(f"e{n}", n)) for n in range(empty)]
    assert agreed([encode(one) for one in records] + bare) == len(records) + empty


@tries(60)
@given(st.lists(impressions(), min_size=4, max_size=6))
def test_what_encode_writes_takes_the_quick_way(records: list[Impression]) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("the slow way was taken")

    assert asked.read([encode(one) for one in records], decode=slow) == records


def ordinary(number: int = 0) -> Impression:
    history = (Event("a", 0), Event("b", 3, "click"), Event("c", 200, "view"), Event("ü", 200))
    candidates = (*(Candidate(f"item-{n}") for n in range(9)), Candidate("x" * 200), Candidate("y" * 150, -0.0, 0.5))
    return Impression(f"i{number}", 300, "u", history, {"hour": 3.0, "tags": ["x"]}, candidates, ("z", "w"), "student")


def test_damaged_values_are_refused_or_read_the_same() -> None:
    chance = random.Random(5)
    whole = encode(ordinary())
    damaged: list[bytes | None] = []
    for _ in range(4000):
        value = bytearray(whole)
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            at = chance.randrange(len(value))
            match chance.randrange(4):
                case 0:
                    value[at] ^= 1 << chance.randrange(8)
                case 1:
                    value[at] = chance.choice([0, 1, 10, 18, 24, 127, 128, 255])
                case 2:
                    del value[at]
                case _:
                    value[at:at] = value[at : at + chance.randrange(12)]
        damaged.append(bytes(value))
    valid = sum(agreed(damaged[start : start + 200]) for start in range(0, len(damaged), 200))
    assert 100 < valid < 3900, "both ways were gone"


def odd_ones() -> dict[str, bytes | None]:
    """Values that are no usual ones."""
    whole = encode(ordinary())
    prefix = codec.prefix(Impression)
    body = whole[len(prefix) :]
    changed: dict[str, bytes | None] = {
        "none": None,
        "empty": b"",
        "json": to_json(ordinary()),
        "bad json": b'{"id": 3}',
        "another frame": b"\0\0\0\0\7" + whole[5:],
        "no body": prefix,
        "an unknown field": whole + b"\xfa\x07\x01x",
        "time twice": whole + b"\x10\x64",
        "too large": prefix + body + b"\xfa\x07" + b"\xff\xff\x3f" + bytes(0xFFFFF),
    }
    for name, edit in EDITS.items():
        one = wire.Impression.FromString(body)
        edit(one)
        changed[name] = prefix + one.SerializeToString(deterministic=True)
    return changed


def test_each_odd_value_among_others_is_read_the_same() -> None:
    found = odd_ones()
    good = [encode(ordinary(number)) for number in range(4)]
    for name, value in found.items():
        assert agreed([*good[:2], value, *good[2:]]) >= 4, name
        assert agreed([value]) <= 1, name
    assert 4 <= agreed([*good, *found.values()]) < len(good) + len(found) - 18


def test_nothing_is_read_of_nothing() -> None:
    assert read_impressions([]) == []


@pytest.mark.parametrize("count", [1, 3, 4, 40])
def test_however_many_come_together_each_is_itself(count: int) -> None:
    lists = [msgspec.structs.replace(ordinary(n), time_us=300 + n) for n in range(count)]
    assert read_impressions([encode(one) for one in lists]) == lists
