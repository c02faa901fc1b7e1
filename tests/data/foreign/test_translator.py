"""A message of somebody else: whatever is in it, there are records or one sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from recdistill.data.foreign import Raw, Translator, decoder_of
from recdistill.data.mapping import TableMapping
from recdistill.errors import DataError
from recdistill.records import MAX_TIME_US, Item


def of(value: bytes, time_us: int = 0, **columns: str) -> Any:
    mapping = TableMapping(kind="items", columns={"id": "sku", **columns}, attributes={"tags": "tags"})
    [found] = Translator("shop", [mapping], decoder_of("json"))(Raw("shop/0 at 7", value, time_us=time_us))
    return found


def test_a_number_of_hundreds_of_digits_is_an_id() -> None:
    long = b"1" * 400
    assert of(b'{"sku": %s, "tags": ["a", %s]}' % (long, long)) == Item(
        long.decode(), attributes={"tags": ["a", long.decode()]}
    )


def test_a_version_keeps_all_of_its_digits() -> None:
    """A sequence number of a database is above 2^53, and the higher version must hold."""
    first, second = (of(b'{"sku": "a", "v": %d}' % version, version="v") for version in (2**62 + 1, 2**62 + 2))
    assert (first.version, second.version) == (2**62 + 1, 2**62 + 2)


@pytest.mark.parametrize("time_us", [0, -5, MAX_TIME_US + 1, 2**62, (2**63 - 1) * 1000])
def test_a_time_that_no_clock_shows_is_not_known(time_us: int) -> None:
    assert of(b'{"sku": "a"}', time_us, time="@time").time_us == 0
    feedback = TableMapping(
        kind="feedback", columns={"impression_id": "i", "item": "sku", "time": "@time"}, constants={"action": "click"}
    )
    with pytest.raises(DataError, match="shop/0 at 7, column '@time' .time.: is empty"):
        Translator("shop", [feedback], decoder_of("json"))(
            Raw("shop/0 at 7", b'{"i": "r", "sku": "a"}', time_us=time_us)
        )


def test_the_time_of_a_message_is_a_time() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert of(b'{"sku": "a"}', int(moment.timestamp()) * 1_000_000, time="@time").time_us == 1_767_225_600_000_000
