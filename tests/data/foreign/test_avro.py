"""Avro: values worked out by hand from the specification, another library's writer, and schemas that change."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from support.schema_registry import Schemas, schema_registry

from recdistill.data.foreign import Registry, decoder_of
from recdistill.data.foreign.avro import Avro
from recdistill.errors import ConfigError, DataError, DecodeError

VIEW: dict[str, Any] = {
    "type": "record",
    "name": "View",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "user", "type": ["null", {
            "type": "record", "name": "User", "fields": [{"name": "id", "type": "long"}]}]},
        {"name": "slots", "type": {"type": "array", "items": {
            "type": "record", "name": "Slot",
            "fields": [{"name": "sku", "type": "string"}, {"name": "score", "type": "float"}]}}},
    ],
}  # fmt: skip
BY_HAND = bytes.fromhex(
    "06 72 2d 31"  # a text of 3 bytes (zigzag: 6), r-1
    "80 b0 dc d2 f1 66"  # 1,767,600,000,000, zigzag 3,535,200,000,000, seven bits at a time
    "02 0e"  # branch 1 of the union: 7
    "04"  # a block of 2 members
    "02 61 00 00 00 3f"  # a, 0.5
    "02 62 00 00 80 be"  # b, -0.25
    "00"  # the end of the blocks
)
FIELDS = {
    "id": "r-1",
    "at": datetime(2026, 1, 5, 8, tzinfo=UTC),
    "user": {"id": 7},
    "slots": [{"sku": "a", "score": 0.5}, {"sku": "b", "score": -0.25}],
}


@pytest.fixture
def schemas() -> Iterator[Schemas]:
    with schema_registry() as found:
        yield found


def written(schema: dict[str, Any], fields: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), fields)
    return out.getvalue()


def framed(number: int, body: bytes) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + body


def test_a_message_written_by_hand_from_the_specification(schemas: Schemas, tmp_path: Path) -> None:
    number = schemas.add(VIEW)
    assert decoder_of("avro", registry=Registry(schemas.url))(framed(number, BY_HAND)) == FIELDS
    assert written(VIEW, FIELDS) == BY_HAND, "another writer agrees"
    (tmp_path / "view.avsc").write_text(json.dumps(VIEW))
    assert decoder_of("avro", schema=tmp_path / "view.avsc")(BY_HAND) == FIELDS


def test_a_schema_that_rests_on_others(schemas: Schemas) -> None:
    schemas.add(VIEW["fields"][3]["type"]["items"] | {"namespace": "shop"}, subject="slot")
    fields = [VIEW["fields"][0], {"name": "slots", "type": {"type": "array", "items": "shop.Slot"}}]
    number = schemas.add(
        {**VIEW, "fields": fields}, references=[{"name": "shop.Slot", "subject": "slot", "version": 1}]
    )
    body = bytes.fromhex("06722d31 02 0261 0000003f 00")
    found = decoder_of("avro", registry=Registry(schemas.url))(framed(number, body))
    assert found == {"id": "r-1", "slots": [{"sku": "a", "score": 0.5}]}


def test_each_message_is_read_with_the_schema_that_it_was_written_with(schemas: Schemas) -> None:
    """Fields come, go and get other names: an old message and a new one stand side by side."""
    old = schemas.add({**VIEW, "fields": VIEW["fields"][:2]})
    added = {"name": "page", "type": "string"}
    new = schemas.add({**VIEW, "fields": [{"name": "request", "type": "string"}, added]})
    decode = decoder_of("avro", registry=Registry(schemas.url))
    assert decode(framed(old, BY_HAND[:10])) == {"id": "r-1", "at": FIELDS["at"]}
    assert decode(framed(new, b"\x06r-2\x08home")) == {"request": "r-2", "page": "home"}
    assert decode(framed(old, BY_HAND[:10]))["id"] == "r-1"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"", "it is empty"),
        (b'{"id": 1}', "it starts with 0x7b"),
        (b"\x00\x00\x00", "cut short"),
        (framed(99, BY_HAND), "does not know schema 99"),
        (framed(1, BY_HAND[:-3]), "no Avro message of its schema"),
        (framed(1, BY_HAND + b"x"), "1 bytes are left behind it"),
        (framed(1, b"\xff" * 40), "no Avro message of its schema"),
        (framed(1, b"\x80\x80\x80\x80\x80\x80\x20abc"), "no Avro message of its schema"),
        (framed(1, b"\x02\xff" + BY_HAND[4:]), "no Avro message of its schema"),
        (framed(2, b"\x06r-1"), "schema 2 is PROTOBUF, not AVRO"),
        (framed(3, b"\x06r-1"), "an Avro str, not a record"),
    ],
)
def test_what_is_no_such_message(schemas: Schemas, value: bytes, sentence: str) -> None:
    schemas.add(VIEW)
    schemas.add("syntax = 'proto3';", "PROTOBUF")
    schemas.add('"string"')
    with pytest.raises(DataError, match=sentence):
        decoder_of("avro", registry=Registry(schemas.url))(value)


ITSELF = {"type": "record", "name": "A", "fields": [{"name": "n", "type": ["null", "A"]}]}


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (ITSELF, r"a record that holds itself \(A\)"),
        ({"type": "map", "values": ITSELF}, "itself"),
        ({"type": "array", "items": "null"}, "members take no bytes"),
        ({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}, "members take no bytes"),
        ({"type": "record", "name": "C", "fields": [{"name": "x", "type": "nothing"}]}, "cannot be read"),
        ("{", "cannot be read"),
    ],
)  # fmt: skip
def test_a_schema_with_which_a_small_message_could_end_the_process(schema: Any, sentence: str) -> None:
    """A hundred thousand records in each other end the library's reader, and the process, without an exception."""
    with pytest.raises(ConfigError, match=sentence):
        Avro(None, None, text=schema if isinstance(schema, str) else json.dumps(schema))


def test_without_any_schema_it_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"set translate.registry.url, or schema \(an Avro schema"):
        decoder_of("avro")
    with pytest.raises(DecodeError, match="is not JSON"):
        decoder_of("json")(b"\x00\x00\x00\x00\x07\x02")


PRICE = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}


@pytest.mark.parametrize("kind", ["bytes", "fixed"])
def test_a_decimal_of_a_megabyte_is_refused_at_once(kind: str) -> None:
    """The digits of a number take the square of its length: a megabyte would take minutes."""
    size = {"name": "N", "size": 1_000_000} if kind == "fixed" else {}
    fields = [{"name": "price", "type": {**PRICE, "type": kind, **size}}]
    decode = Avro(None, None, text=json.dumps({"type": "record", "name": "V", "fields": fields}))
    length = b"" if kind == "fixed" else b"\x80\x89\x7a"
    with pytest.raises(DecodeError, match="a decimal has 1,000,000 bytes, more than 64"):
        decode(length + b"\x11" * 1_000_000)


def test_a_decimal_is_what_it_was() -> None:
    decode = Avro(
        None, None, text=json.dumps({"type": "record", "name": "V", "fields": [{"name": "p", "type": PRICE}]})
    )
    assert decode(b"\x04\x04\xd2") == {"p": Decimal("12.34")}
