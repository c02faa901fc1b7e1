"""Round trips on generated records, hostile bytes, the frame, and every rule that a record keeps."""

import contextlib
import json
import math
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.errors import DataError, DecodeError
from recdistill.limits import MAX_JSON, MIN_CHANCE
from recdistill.records import (
    DEAD_LETTERS,
    MAX_ID,
    MAX_TIME_US,
    TOPIC_OF,
    TOPICS,
    Candidate,
    Event,
    Example,
    Feedback,
    Impression,
    Invalid,
    Item,
    Ranking,
    Record,
    check_history,
    check_values,
    decode,
    encode,
    key_of,
    to_json,
)

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
ids = texts.filter(bool)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
scores = st.floats(-(2.0**39), 2.0**39, width=32)
amounts = st.floats(-1e9, 1e9, width=32)
chances = st.floats(MIN_CHANCE, 1, width=32)
doubles = st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(0, MAX_TIME_US)
values = st.one_of(
    texts, doubles, st.booleans(), st.lists(texts, max_size=4), st.lists(floats32, min_size=1, max_size=4)
)
fields = st.dictionaries(ids, values, max_size=4)


@st.composite
def impressions(draw: st.DrawFn) -> Impression:
    now = draw(times)
    listed = draw(st.lists(ids, unique=True, max_size=20))
    cut = draw(st.integers(0, len(listed)))
    known = sorted(draw(st.lists(st.integers(0, now or MAX_TIME_US), max_size=6)))
    unknown = draw(st.lists(st.just(0), max_size=2))
    history = tuple(Event(draw(ids), time, draw(texts)) for time in unknown + known)
    return Impression(
        draw(ids),
        now,
        draw(st.none() | ids),
        history,
        draw(fields),
        tuple(Candidate(item, draw(st.none() | scores), draw(st.none() | chances)) for item in listed[:cut]),
        tuple(listed[cut:]),
        draw(st.sampled_from(["product", "student", "sweep"])),
        draw(texts),
    )


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    impression = draw(impressions())
    count = len(impression.candidates)
    return Ranking(
        impression,
        draw(ids),
        draw(ids),
        draw(st.sampled_from(["unbounded", "logit", "probability", "rank"])),
        tuple(draw(st.lists(scores, min_size=count, max_size=count))),
        tuple(draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        draw(times),
        draw(st.integers(0, 2**63 - 1)),
        draw(st.just(1.0) | chances),
        tuple(draw(st.just([]) | st.lists(chances, min_size=count, max_size=count))),
    )


@st.composite
def examples(draw: st.DrawFn) -> Example:
    ranking = draw(rankings())
    count = len(ranking.scores)
    labels = draw(st.lists(st.floats(0, 2.0**39, width=32), min_size=count, max_size=count))
    return Example(ranking, tuple(labels), draw(st.sampled_from(["none", "closed"])))


records = st.one_of(
    st.builds(Item, ids, st.integers(0, 2**63 - 1), st.booleans(), fields, times),
    impressions(),
    rankings(),
    st.builds(Feedback, ids, ids, ids, ids, amounts, times),
    examples(),
)


@tries(300)
@given(records)
def test_both_forms_come_back_equal(record: Record) -> None:
    assert decode(type(record), encode(record)) == record
    assert decode(type(record), to_json(record)) == record


def test_equal_records_have_equal_bytes() -> None:
    names = [f"x{index}" for index in range(50)]
    forward, backward = (dict.fromkeys(order, 1.0) for order in (names, names[::-1]))
    assert encode(Item("a", attributes=forward)) == encode(Item("a", attributes=backward))


@tries(50)
@given(records)
def test_keys_are_ids(record: Record) -> None:
    match record:
        case Item() | Impression():
            expected = record.id
        case Feedback():
            expected = record.impression_id
        case Ranking():
            expected = record.impression.id
        case Example():
            expected = record.ranking.impression.id
    assert key_of(record) == expected.encode()


def sample(candidates: int = 3) -> Example:
    impression = Impression(
        "imp-1",
        1_000_000,
        "u1",
        (Event("i7", 10, "view"), Event("i8", 20)),
        {"device": "phone", "hour": 7.0, "new": True, "tags": ["a", "b"], "v": [0.5, 1.0]},
        tuple(Candidate(f"c{index}", 0.5 * index, 0.25) for index in range(candidates)),
        ("seen",),
    )
    ranking = Ranking(impression, "bst", "3", "logit", (1.0,) * candidates, (True,) * candidates, 2_000_000, 4)
    return Example(ranking, (1.0,) + (0.0,) * (candidates - 1), "closed")


SAMPLES: list[Record] = [
    Item("a", 3, False, {"genres": ["war"], "year": 1994.0, "v": [1.0, 2.0], "title": "Ä"}, 5),
    sample().ranking.impression,
    sample().ranking,
    Feedback("f", "imp-1", "c0", "click", 1.0, 7),
    sample(),
    sample(9),
]


def test_ten_thousand_mutations_raise_only_decode_errors() -> None:
    rng = random.Random(20240607)
    seeds = [(type(record), form(record)) for record in SAMPLES for form in (encode, to_json)]
    refused = 0
    reasons: set[str] = set()
    for _ in range(10_000):
        kind, value = rng.choice(seeds)
        data = bytearray(value)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(7):
                case 0 if data:  # one bit
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                case 1:  # cut short
                    del data[at:]
                case 2:  # a piece of another record
                    other = rng.choice(seeds)[1]
                    start = rng.randrange(len(other))
                    data[at:at] = other[start : start + rng.randint(1, 40)]
                case 3:  # a piece lost
                    del data[at : at + rng.randint(1, 20)]
                case 4:  # noise
                    data[at:at] = rng.randbytes(rng.randint(1, 8))
                case 5:  # a piece again
                    data[at:at] = data[at : at + rng.randint(1, 60)]
                case 6:  # tokens that break JSON or numbers
                    data[at:at] = rng.choice(
                        [b"1e999", b"NaN", b"null", b"-1", b"[[[[", b'"\\ud800"', b"{}", b"0" * 400, b"\xff", b"9" * 30]
                    )
        wanted = rng.choice(list(TOPICS.values())) if rng.random() < 0.2 else kind
        try:
            record = decode(wanted, bytes(data))
        except DecodeError as problem:
            refused += 1
            reasons.add(str(problem))
        else:
            assert decode(wanted, encode(record)) == record  # whatever passes is whole
    assert refused > 5_000
    assert all(reason.isprintable() and len(reason) < 600 for reason in reasons)


@tries(300)
@given(st.sampled_from(list(TOPICS.values())), st.binary(max_size=200))
def test_noise_raises_only_decode_errors(kind: type[Record], noise: bytes) -> None:
    for value in (noise, b"{" + noise, b"\0\0\0\0\0" + noise, encode(SAMPLES[0])[:7] + noise):
        with contextlib.suppress(DecodeError):
            decode(kind, value)


# --- the frame


def zigzag(number: int) -> bytes:
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = b""
    while number > 127:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


ITEM_BODY = b"\x0a\x01a"  # field 1, text "a": written by hand


def test_the_frame_is_written_as_confluent_does() -> None:
    # Item is the second message of the file: one index, 1.
    assert encode(Item("a")) == b"\0" + struct.pack(">I", 0) + zigzag(1) + zigzag(1) + ITEM_BODY
    assert encode(SAMPLES[4])[:7] == b"\0\0\0\0\0" + zigzag(1) + zigzag(7)


@pytest.mark.parametrize("indexes", [zigzag(1) + zigzag(1), b"\0", zigzag(2) + zigzag(3) + zigzag(300)])
def test_another_schema_id_may_place_the_message_anywhere(indexes: bytes) -> None:
    assert decode(Item, b"\0" + struct.pack(">I", 70_000) + indexes + ITEM_BODY) == Item("a")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "empty"),
        (b"\x01\0\0\0\0\x02\x02", "starts with 0x01"),
        (b"\0\0\0\0", "cut short after"),
        (b"\0\0\0\0\0\0", r"message \[0\]"),
        (b"\0\0\0\0\0" + zigzag(1) + zigzag(5), r"message \[5\]"),
        (b"\0\0\0\0\0" + zigzag(2) + zigzag(1) + zigzag(1), r"message \[1, 1\]"),
        (b"\0\0\0\0\1" + zigzag(-1), "negative"),
        (b"\0\0\0\0\1" + zigzag(1) + zigzag(-3), "negative"),
        (b"\0\0\0\0\1" + zigzag(1_000_000), "more than 16"),
        (b"\0\0\0\0\1" + b"\xff" * 20, "too long"),
        (b"\0\0\0\0\1" + zigzag(3) + zigzag(1), "cut short"),
    ],
)
def test_wrong_frames_are_refused(head: bytes, reason: str) -> None:
    body = ITEM_BODY if head and "short" not in reason else b""
    with pytest.raises(DecodeError, match=reason):
        decode(Item, head + body)


def test_an_item_is_not_an_impression() -> None:
    with pytest.raises(DecodeError, match="not an impression: the frame names message"):
        decode(Impression, encode(Item("a")))


def test_no_value_is_refused() -> None:
    with pytest.raises(DecodeError, match="tombstone"):
        decode(Item, None)


def test_fields_of_a_later_schema_are_read_past() -> None:
    assert decode(Item, encode(Item("a")) + b"\xf8\x07\x05") == Item("a")  # field 127, a varint


# --- rules


def changed(record: Record, **changes: object) -> Record:
    return msgspec.structs.replace(record, **changes)


IMPRESSION = sample().ranking.impression
RANKING = sample().ranking


@dataclass
class Wrong:
    record: Record
    reason: str


WRONG = [
    Wrong(Item(""), "id is empty"),
    Wrong(Item("x" * (MAX_ID + 1)), "id has 513 characters"),
    Wrong(Item("a\0b"), "NUL"),
    Wrong(Item("a", -1), "version"),
    Wrong(Item("a", 2**63), "version"),
    Wrong(Item("a", time_us=-1), "time_us"),
    Wrong(Item("a", time_us=MAX_TIME_US + 1), "time_us"),
    Wrong(Item("a", attributes={"": 1.0}), "field name of attributes is empty"),
    Wrong(Item("a", attributes={"x": math.nan}), "attributes.x is nan"),
    Wrong(Item("a", attributes={"\n\x1b": "y" * 70_000}), r"attributes.\\n\\x1b has"),
    Wrong(Item("a", attributes={"x": math.inf}), "attributes.x is inf"),
    Wrong(Item("a", attributes={"x": [1.0, math.inf]}), r"attributes.x\[1\] is inf"),
    Wrong(Item("a", attributes={"x": [1e39]}), r"attributes.x\[0\] is 1e\+39"),
    Wrong(Item("a", attributes={"x": "y" * 70_000}), "attributes.x has 70000 characters"),
    Wrong(Item("a", attributes={"x": ["y"] * 5_000}), "attributes.x has 5000 entries"),
    Wrong(Item("a", attributes={"x": ["y", 1.0]}), "attributes.x mixes"),  # type: ignore[dict-item]
    Wrong(Item("a", attributes={f"x{index}": 1.0 for index in range(300)}), "attributes has 300 entries"),
    Wrong(changed(IMPRESSION, user=""), "user is empty"),
    Wrong(changed(IMPRESSION, served_by="x" * 513), "served_by"),
    Wrong(changed(IMPRESSION, history=(Event(""),)), r"history\[0\].item is empty"),
    Wrong(changed(IMPRESSION, history=(Event("a", 9), Event("b", 0), Event("c", 8))), "oldest first: 8 comes after 9"),
    Wrong(changed(IMPRESSION, history=(Event("a", 1_000_001),)), "later than its request"),
    Wrong(changed(IMPRESSION, history=(Event("a", -1),)), "oldest time_us"),
    Wrong(changed(IMPRESSION, history=(Event("a"),) * 10_001), "history has 10001 entries"),
    Wrong(changed(IMPRESSION, history=(Event("a", 0, "x" * 600),)), "action of history has 600"),
    Wrong(changed(IMPRESSION, context={"x": math.nan}), "context.x is nan"),
    Wrong(changed(IMPRESSION, candidates=(Candidate("a"), Candidate("b"), Candidate("a"))), "'a' twice"),
    Wrong(changed(IMPRESSION, candidates=(Candidate("a"), Candidate(""))), r"candidates\[1\].item is empty"),
    Wrong(changed(IMPRESSION, candidates=(Candidate("a", math.nan),)), "logged_score"),
    Wrong(changed(IMPRESSION, candidates=(Candidate("a", 1e39),)), "logged_score"),
    Wrong(changed(IMPRESSION, candidates=(Candidate("a", None, 0.0),)), "propensity of candidates is 0"),
    Wrong(changed(IMPRESSION, candidates=(Candidate("a", None, 1.5),)), "propensity of candidates is 1.5"),
    Wrong(changed(IMPRESSION, candidates=(Candidate("b"), Candidate("a", None, math.nan))), "is nan"),
    Wrong(changed(IMPRESSION, exclude=("seen", "c1")), "'c1' is both"),
    Wrong(changed(IMPRESSION, exclude=("",)), r"exclude\[0\] is empty"),
    Wrong(changed(RANKING, teacher_id=""), "teacher_id is empty"),
    Wrong(changed(RANKING, teacher_version=""), "teacher_version is empty"),
    Wrong(changed(RANKING, scores=(1.0,)), "1 scores and 3 marks in scored for 3 candidates"),
    Wrong(changed(RANKING, scored=(True,)), "3 scores and 1 marks"),
    Wrong(changed(RANKING, scores=(1.0, -math.inf, 2.0)), r"scores\[1\] is -inf"),
    Wrong(changed(RANKING, scores=(1e308, 1e308, 1e308)), r"scores\[0\] is 1e\+308"),
    Wrong(changed(RANKING, scored_at_us=-5), "scored_at_us"),
    Wrong(changed(RANKING, catalogue_as_of=-1), "catalogue_as_of"),
    Wrong(changed(RANKING, sampled=0.0), "sampled is 0.0, not above 0 and at most 1"),
    Wrong(changed(RANKING, sampled=1e-50), "sampled is 1e-50"),
    Wrong(changed(RANKING, sampled=1.5), "sampled is 1.5"),
    Wrong(changed(RANKING, sampled=math.nan), "sampled is nan"),
    Wrong(changed(RANKING, candidates_sampled=(0.5,)), "1 entries in candidates_sampled for 3 candidates"),
    Wrong(changed(RANKING, candidates_sampled=(0.5, 0.0, 1.0)), "an entry of candidates_sampled is 0.0"),
    Wrong(changed(RANKING, impression=changed(IMPRESSION, id="")), "id is empty"),
    Wrong(changed(sample(), labels=(0.0,)), "1 labels for 3 candidates"),
    Wrong(changed(sample(), labels=(0.0, -1.0, 0.0)), "a label is -1.0, below 0"),
    Wrong(changed(sample(), labels=(0.0, math.nan, 0.0)), r"labels\[1\] is nan"),
    Wrong(Feedback("", "i", "a", "click"), "id is empty"),
    Wrong(Feedback("f", "", "a", "click"), "impression_id is empty"),
    Wrong(Feedback("f", "i", "", "click"), "item is empty"),
    Wrong(Feedback("f", "i", "a", ""), "action is empty"),
    Wrong(Feedback("f", "i", "a", "click", math.inf), "value"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.reason)
def test_a_broken_rule_is_named_when_written_and_when_read(wrong: Wrong) -> None:
    with pytest.raises(DataError, match=wrong.reason):
        encode(wrong.record)
    if not any(name in repr(wrong.record) for name in ("nan", "inf")):  # JSON has neither
        with pytest.raises(DecodeError, match=wrong.reason):
            decode(type(wrong.record), to_json(wrong.record))


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (Item, '{"id": "a"', "truncated"),
        (Item, "{}", "missing required field `id`"),
        (Item, '{"id": 3}', r"Expected `str`, got `int` - at `\$.id`"),
        (Item, '{"id": "a", "colour": 1}', "unknown field `colour`"),
        (Item, '{"id": "a", "attributes": {"x": null}}', "attributes"),
        (Item, '{"id": "a", "attributes": {"x": {"y": 1}}}', "attributes"),
        (Item, '{"id": "a", "attributes": {"x": [[1]]}}', "attributes"),
        (Item, '{"id": "a", "attributes": {"x": NaN}}', "invalid"),
        (Item, '{"id": "a", "attributes": {"x": 1e999}}', "range"),
        (Item, '{"id": "a"} {"id": "b"}', "trailing"),
        (Impression, '{"id": "r"}', "time_us"),
        (Impression, '{"id": "r", "time_us": 1, "origin": "phone"}', "origin"),
        (Impression, '{"id": "r", "time_us": 1.5}', "time_us"),
        (Impression, '{"id": "r", "time_us": 1, "candidates": ["a"]}', r"candidates\[0\]"),
    ],
)
def test_wrong_json_is_refused(kind: type[Record], text: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(kind, text.encode())


def test_json_is_natural() -> None:
    item = decode(Item, b'{"id":"a","attributes":{"n":3,"ns":[1,2],"t":"x","ts":["x"],"f":true}}')
    assert item.attributes == {"n": 3.0, "ns": [1.0, 2.0], "t": "x", "ts": ["x"], "f": True}
    assert isinstance(item.attributes["n"], float)
    assert isinstance(item.attributes["f"], bool)
    assert decode(Feedback, b'{"id":"f","impression_id":"i","item":"a","action":"rate","value":4}').value == 4.0
    assert json.loads(to_json(item))["attributes"]["ts"] == ["x"]


def test_json_numbers_are_rounded_as_on_the_wire() -> None:
    rounded = struct.unpack("f", struct.pack("f", 0.1))[0]
    item = decode(Item, b'{"id":"a","attributes":{"v":[0.1],"d":0.1}}')
    assert item.attributes == {"v": [rounded], "d": 0.1}


def test_deep_nesting_and_huge_records_are_refused() -> None:
    deep = b'{"id":"a","attributes":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    with pytest.raises(DecodeError):
        decode(Item, deep)
    with pytest.raises(DecodeError):
        decode(Item, b'{"id":"a","x":' + b'{"x":' * 100_000)
    with pytest.raises(DecodeError):  # groups of an unknown field, each in the one before
        decode(Item, encode(Item("a")) + b"\x53" * 100_000 + b"\x54" * 100_000)
    with pytest.raises(DecodeError, match="more than"):
        decode(Item, b"{" + b" " * MAX_JSON)
    with pytest.raises(DataError, match="more than"):
        encode(Item("a", attributes={f"k{index}": ["y" * 60_000] * 3 for index in range(100)}))


def _length(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def test_invalid_protobuf_values_are_refused() -> None:
    head = encode(Item("a"))
    entry = b"\x0a\x01x\x12\x00"  # the map entry x -> a Value without a kind
    with pytest.raises(DecodeError, match=r"attributes\.x has no value"):
        decode(Item, head + b"\x22" + _length(len(entry)) + entry)
    with pytest.raises(DecodeError, match="not this message"):
        decode(Item, encode(Item("a"))[:7] + b"\x0a\x01\xff")  # not UTF-8
    with pytest.raises(DecodeError, match=r"scale is 9, not 0 to 3 \(unbounded, logit, probability, rank\)"):
        decode(Ranking, encode(RANKING) + b"\x20\x09")
    for mask, reason in ((b"\x0f", "marks more than 3"), (b"\x07\x00", "2 bytes for 3 scores"), (b"", "0 bytes")):
        with pytest.raises(DecodeError, match=reason):
            decode(Ranking, encode(RANKING) + b"\x32" + _length(len(mask)) + mask)


def test_the_mask_of_scores_has_the_least_significant_bit_first() -> None:
    scored = tuple(index in (0, 3, 9) for index in range(10))
    ranking = Ranking(sample(10).ranking.impression, "t", "1", "rank", tuple(map(float, range(10))), scored)
    assert b"\x32\x02" + bytes([0b1001, 0b10]) in encode(ranking)


def test_a_ranking_without_a_budget_has_the_bytes_it_always_had() -> None:
    # Field 9 is a fixed 32-bit float, tag 9 << 3 | 5; field 10 a packed list of them, tag 10 << 3 | 2.
    budgeted = changed(RANKING, sampled=0.25, candidates_sampled=(1.0, 0.5, 0.125))
    tail = b"\x4d" + struct.pack("<f", 0.25) + b"\x52\x0c" + struct.pack("<3f", 1.0, 0.5, 0.125)
    assert encode(budgeted) == encode(RANKING) + tail
    old = decode(Ranking, encode(RANKING))
    assert (old.sampled, old.candidates_sampled) == (1.0, ())
    assert decode(Ranking, b'{"impression": {"id": "r", "time_us": 1}, "teacher_id": "t", "teacher_version": "1", '
                  b'"scale": "logit", "scores": [], "scored": []}').sampled == 1.0  # fmt: skip


def test_lone_surrogates_are_an_error_not_a_traceback() -> None:
    for record in (Item("\ud800"), Item("a", attributes={"x": "\ud800"}), Item("a", attributes={"x": ["\ud800"]})):
        with pytest.raises(DataError, match="surrogate"):
            encode(record)


def test_values_that_are_no_record_yet_are_checked_the_same() -> None:
    check_values({"a": 1, "b": ["x"]}, "context")
    check_history((Event("a", 3),), 3)
    with pytest.raises(DataError, match=r"context.a is None|context.a is a NoneType"):
        check_values({"a": None}, "context")  # type: ignore[dict-item]
    with pytest.raises(DataError, match="later than its request"):
        check_history((Event("a", 4),), 3)


@pytest.mark.parametrize(
    ("values", "field", "problem"),
    [
        ({"a": math.nan}, "context.a", "is nan, not a finite number"),
        ({"my own key": math.inf}, "context.my own key", "is inf, not a finite number"),
        ({"a": [1.0, math.nan]}, "context.a[1]", "is nan, not a finite 32-bit number"),
        ({"a": ["x", 1]}, "context.a", "mixes texts and numbers in one list"),
        ({"a": "x" * 70_000}, "context.a", "has 70000 characters, more than 65536"),
        ({"": 1}, "context", "a field name of context is empty"),
        ({str(i): 1 for i in range(300)}, "context", "has 300 entries, more than 256"),
    ],
)
def test_what_is_wrong_names_its_field_apart(values: Any, field: str, problem: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_values(values, "context")
    assert (caught.value.field, caught.value.problem) == (field, problem)


@pytest.mark.parametrize(
    ("history", "field", "problem"),
    [
        ((Event("a"), Event("")), "history[1].item", "is empty"),
        ((Event("a", 5), Event("b", 4)), "history", "is not oldest first: 4 comes after 5"),
        ((Event("a", -5),), "history", "the oldest time_us of history is -5, not microseconds"),
        ((Event("a", action="\0"),), "history", "an action of history holds a NUL or half a surrogate pair"),
    ],
)
def test_a_wrong_event_names_its_place_apart(history: tuple[Event, ...], field: str, problem: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_history(history, 0)
    assert caught.value.field == field
    assert caught.value.problem.startswith(problem)


def test_the_json_schema_takes_what_is_written_and_no_other_shape() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    path = Path(__file__).resolve().parents[2] / "schemas" / "records.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(path.read_text()))
    for record in SAMPLES:
        validator.validate(json.loads(to_json(record)))
    for wrong in ({"id": 3}, {"id": "a", "colour": 1}, {"id": "r", "time_us": 1, "origin": "phone"}):
        assert not validator.is_valid(wrong)


def test_every_topic_has_its_record() -> None:
    assert set(TOPICS) == {"items", "impressions", "rankings", "feedback", "examples", "held-out"}
    assert {
        Item: "items",
        Impression: "impressions",
        Ranking: "rankings",
        Feedback: "feedback",
        Example: "examples",
    } == TOPIC_OF
    assert DEAD_LETTERS not in TOPICS
