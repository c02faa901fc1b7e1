"""Protobuf by dynamic descriptors: bytes worked out by hand, protoc's own descriptors, and schemas that change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from support.schema_registry import Schemas, schema_registry

from recdistill.data.foreign import Registry, decoder_of
from recdistill.errors import ConfigError, DataError

VIEW = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "slot.proto";
message Other { int32 n = 1; }
message View {
  string id = 1;
  google.protobuf.Timestamp at = 2;
  repeated Slot slots = 3;
  double value = 4;
  Device device = 5;
  map<string, string> tags = 6;
  google.protobuf.StringValue user = 7;
  optional int64 page = 8;
  enum Device { UNKNOWN = 0; PHONE = 1; }
  message Inner { bool clicked = 1; }
}
"""
SLOT = """
syntax = "proto3";
package shop;
message Slot { string sku = 1; Slot next = 2; }
"""
BY_HAND = bytes.fromhex(
    "0a 03 72 2d 31"  # field 1, a text of 3 bytes: r-1
    "12 06 08 80 df ed ca 06"  # field 2, a message of 6 bytes: seconds (field 1) 1,767,600,000
    "1a 03 0a 01 61"  # field 3: a message with field 1, a
    "1a 03 0a 01 62"
    "28 01"  # field 5: 1
    "32 06 0a 01 6b 12 01 76"  # field 6, an entry: k, v
    "3a 03 0a 01 75"  # field 7, a wrapper: u
)
FIELDS = {
    "id": "r-1",
    "at": datetime(2026, 1, 5, 8, tzinfo=UTC),
    "slots": [{"sku": "a"}, {"sku": "b"}],
    "value": 0.0,
    "device": "PHONE",
    "tags": {"k": "v"},
    "user": "u",
}


@pytest.fixture
def schemas() -> Iterator[Schemas]:
    with schema_registry() as found:
        yield found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What protoc makes of the two files."""
    folder = tmp_path_factory.mktemp("proto")
    (folder / "view.proto").write_text(VIEW)
    (folder / "slot.proto").write_text(SLOT)
    protoc = Path(sys.executable).with_name("protoc")
    out = folder / "view.desc"
    command = [protoc, f"-I{folder}", "--include_imports", f"--descriptor_set_out={out}", "view.proto"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def add(schemas: Schemas, compiled: Path) -> int:
    files = {file.name: file.SerializeToString() for file in FileDescriptorSet.FromString(compiled.read_bytes()).file}
    schemas.add(SLOT, "PROTOBUF", serialized=files["slot.proto"], subject="slot")
    references = [{"name": "slot.proto", "subject": "slot", "version": 1}]
    return schemas.add(VIEW, "PROTOBUF", serialized=files["view.proto"], references=references)


def framed(number: int, place: bytes, body: bytes) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + place + body


def test_a_message_written_by_hand_from_the_specification(schemas: Schemas, compiled: Path) -> None:
    number = add(schemas, compiled)
    decode = decoder_of("protobuf", registry=Registry(schemas.url))
    assert decode(framed(number, b"\x02\x02", BY_HAND)) == FIELDS, "message 1 of the file, zigzag"
    assert decode(framed(number, b"\x00", b"\x08\x05")) == {"n": 5}, "one 0 is short for message 0"
    assert decode(framed(number, b"\x04\x02\x00", b"\x08\x01")) == {"clicked": True}, "message 0 inside message 1"
    assert decode(framed(number, b"\x02\x02", b"\x40\x00"))["page"] == 0, "what is present may be 0"


def test_a_file_of_protoc_instead_of_a_registry(compiled: Path) -> None:
    decode = decoder_of("protobuf", schema=compiled, message="shop.View")
    assert decode(BY_HAND) == FIELDS
    assert decode(framed(70_000, b"\x02\x02", BY_HAND)) == FIELDS, "a frame may stand before it"
    with pytest.raises(ConfigError, match=r"has no message 'shop.Veiw'; did you mean 'shop.View'"):
        decoder_of("protobuf", schema=compiled, message="shop.Veiw")


def test_a_schema_or_a_certificate_without_an_end_is_a_sentence() -> None:
    for decoder in (
        lambda: decoder_of("protobuf", schema="/dev/zero", message="shop.View"),
        lambda: decoder_of(
            "protobuf", message="shop.View", registry=Registry("https://127.0.0.1:9", ca_file="/dev/zero")
        ),
    ):
        with pytest.raises(ConfigError, match="^/dev/zero: is not a regular file; (give|set) "):
            decoder()


def test_a_newer_writer_s_fields_are_passed_over(schemas: Schemas, compiled: Path) -> None:
    decode = decoder_of("protobuf", schema=compiled, message="shop.View")
    assert decode(BY_HAND + b"\xfa\x01\x03new") == FIELDS


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"", "it is empty"),
        (framed(2, b"\x02\x14", b""), r"the frame names message \[10\], which schema 2 does not have"),
        (framed(2, b"\x02\x01", b""), "negative"),
        (framed(2, b"\x80", b""), "cut short"),
        (framed(2, b"\x40", b""), "32 message indexes, more than 16"),
        (framed(2, b"\x02\x02", b"\x0a\xff"), "is no protobuf message shop.View"),
        (framed(2, b"\x02\x02", b"\x0a\x01\xff"), "is no protobuf message shop.View"),
        (framed(2, b"\x02\x02", b"\x12\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), "with a wrong value"),
        (framed(9, b"\x00", b""), "does not know schema 9"),
        (framed(3, b"\x00", b""), "schema 3 is AVRO, not PROTOBUF"),
        (framed(4, b"\x00", b""), "gives the text of a .proto file, not its descriptor"),
        (framed(5, b"\x00", b""), "its protobuf schema needs slot.proto, which is not there"),
    ],
)
def test_what_is_no_such_message(schemas: Schemas, compiled: Path, value: bytes, sentence: str) -> None:
    assert add(schemas, compiled) == 2
    schemas.add('"string"')
    schemas.add(SLOT, "PROTOBUF")
    files = {file.name: file.SerializeToString() for file in FileDescriptorSet.FromString(compiled.read_bytes()).file}
    schemas.add(VIEW, "PROTOBUF", serialized=files["view.proto"])
    with pytest.raises(DataError, match=sentence):
        decoder_of("protobuf", registry=Registry(schemas.url))(value)


def test_many_messages_in_each_other_are_no_danger(schemas: Schemas, compiled: Path) -> None:
    body = b""
    for _ in range(2_000):
        size = len(body)
        body = b"\x12" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + body
    with pytest.raises(DataError, match="is no protobuf message"):
        decoder_of("protobuf", schema=compiled, message="shop.Slot")(body)
