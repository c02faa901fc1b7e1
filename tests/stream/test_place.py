"""Places in a log as a person types them, against the standard library's clock."""

from __future__ import annotations

from datetime import datetime

import pytest

from recdistill.errors import UsageError
from recdistill.stream import TopicPartition, read_place, write_position, write_time

LANE = TopicPartition("examples", 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2019-11-13", datetime.fromisoformat("2019-11-13T00:00:00+00:00").timestamp()),
        (" 2019-11-13T08:30 ", datetime.fromisoformat("2019-11-13T08:30:00+00:00").timestamp()),
        ("2019-11-13T08:30:00+02:00", datetime.fromisoformat("2019-11-13T06:30:00+00:00").timestamp()),
        ("2019-11-13 08:30:00Z", datetime.fromisoformat("2019-11-13T08:30:00+00:00").timestamp()),
        ("@1573634700", 1573634700),
        ("@1573634700.25", 1573634700.25),
    ],
)
def test_a_time_is_iso_or_seconds(text: str, seconds: float) -> None:
    place = read_place(text)
    assert place.time_us == round(seconds * 1_000_000)
    assert place.lone is None
    assert not place.offsets
    assert read_place(write_time(place.time_us)).time_us == place.time_us


def test_a_number_alone_is_an_offset_also_where_it_could_be_a_date() -> None:
    assert read_place("20191113").lone == 20191113
    assert read_place("2019").offset(LANE) == 2019
    with pytest.raises(UsageError, match="write examples/0:OFFSET,examples/1:OFFSET$"):
        read_place("2019").offset(LANE, partitions=2)


def test_a_position_is_what_the_verbs_print() -> None:
    position = {TopicPartition("examples", 1): 9, LANE: 12}
    text = write_position(position)
    assert text == "examples/0:12,examples/1:9"
    assert read_place(text).offsets == position
    with pytest.raises(UsageError, match="does not say the offset of examples/2"):
        read_place(text).offset(TopicPartition("examples", 2), partitions=4)


def test_a_time_of_a_wrong_clock_is_told_in_seconds() -> None:
    """A client of Kafka may write nanoseconds where milliseconds are meant."""
    assert write_time(253_402_300_799_999_999) == "9999-12-31T23:59:59.999999Z"
    assert write_time(253_402_300_800_000_000) == "@253402300800"
    assert write_time(1_767_225_600 * 10**15) == "@1767225600000000000"
    assert write_time(-1000) == "1969-12-31T23:59:59.999000Z"


def test_words_only_where_a_verb_takes_them() -> None:
    assert read_place("beginning", words=True).word == "beginning"
    assert read_place("latest", words=True).word == "latest"
    with pytest.raises(UsageError, match="'latest' is no place in a log: write a time"):
        read_place("latest")
    with pytest.raises(UsageError, match="write beginning, latest, a time"):
        read_place("newest", words=True)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-5", "1.5", "@", "@-1", "@1e9", "@nan", "1969-12-31", "2019-13-01", "2019-11-31T25:00", "examples/0",
        "examples/0:", "examples/0:-1", "examples/x:1", "examples/0:1,", "examples/0:1,examples/0:2", "٣", "1" * 19,
        "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "x" * 5000, "\x1b[31m",
    ],
)  # fmt: skip
def test_all_else_is_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="is no place in a log") as found:
        read_place(text)
    assert len(str(found.value)) < 300
    assert str(found.value).isprintable()
