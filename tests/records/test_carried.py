"""Fields of a newer version: they stay where a record is passed on, and where others of its fields are changed."""

import msgspec
import pytest

from recdistill._wire import records_pb2 as wire
from recdistill.errors import DataError
from recdistill.records import Candidate, Feedback, Impression, Item, decode, encode, encode_again, to_json
from recdistill.records.carried import again, changed
from recdistill.records.framing import varint

CLICK = Feedback("f", "i", "a", "click", 1.0, 5)


def field(number: int, form: int, content: bytes) -> bytes:
    return varint(number << 3 | form) + content


FIELDS = [field(99, 0, b"\x05"), field(99, 1, bytes(8)), field(1000, 2, b"\x03abc"), field(2000, 5, b"abcd")]


@pytest.mark.parametrize("beside", [*FIELDS, b"".join(FIELDS)])
def test_fields_of_every_form_stay(beside: bytes) -> None:
    value = encode(CLICK) + beside
    assert decode(Feedback, value) == CLICK
    assert again(CLICK, value) == value
    other = msgspec.structs.replace(CLICK, item="b")
    assert changed(other, value) == encode(other) + beside
    assert encode_again(other, to_json(other), value) == encode(other) + beside
    assert encode_again(CLICK, value, value) == value


def test_fields_between_those_that_are_known_stay_too() -> None:
    value = encode(CLICK)
    head = value[:7] + FIELDS[2]
    other = msgspec.structs.replace(CLICK, item="b")
    assert changed(other, head + value[7:]) == encode(other) + FIELDS[2]


def test_what_has_none_is_written_as_ever() -> None:
    assert again(CLICK, encode(CLICK)) is None
    for before in (encode(CLICK), to_json(CLICK), None, b"", b"noise", b"\0\0\0\0\0\1\6\xff"):
        assert changed(CLICK, before) is None
        assert encode_again(CLICK, encode(CLICK), before) == encode(CLICK)
    assert encode_again(Item("a"), encode(Item("a")), encode(Item("a"))) == encode(Item("a"))


def test_what_has_no_place_after_a_change_is_refused() -> None:
    asked = Impression("i", 9, candidates=(Candidate("a"),))
    message = wire.Impression.FromString(encode(asked)[7:])
    message.candidates[0].MergeFromString(FIELDS[0])
    value = encode(asked)[:7] + message.SerializeToString()
    assert again(asked, value) == value
    with pytest.raises(DataError, match="a change would drop them"):
        changed(msgspec.structs.replace(asked, time_us=8), value)
