r"""Protobuf messages, read with the schema that they were written with.

The schema comes from a registry, by the id in Confluent's frame, as a descriptor (`?format=serialized`, which the
registries of Confluent, Redpanda and Karapace give); or from a file with a FileDescriptorSet. The text of a .proto file
is not read: only protoc does that.

A field without presence has its default where the message leaves it out. A time of `google.protobuf.Timestamp` is a
time, a wrapper is what it wraps, an enumeration is its name. Fields that the schema does not have are passed over.

It knows nothing of HTTP.

Example:
    >>> file = FileDescriptorProto(name="v.proto", package="shop", syntax="proto3")
    >>> message = file.message_type.add(name="View")
    >>> field = message.field.add(name="id", number=1, type=FieldDescriptorProto.TYPE_STRING)
    >>> reader = Protobuf(None, None, "shop.View", files=[file])
    >>> reader(b"\x0a\x03r-1")
    {'id': 'r-1'}
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from google.protobuf import (
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message_factory import GetMessageClass

from recdistill.data.foreign.schemas import MAX_KNOWN, Registry, Schema
from recdistill.errors import ConfigError, DataError, DecodeError
from recdistill.given import read_bytes
from recdistill.records import place_of, schema_of
from recdistill.text import cut, did_you_mean, escaped

__all__ = ["FieldDescriptorProto", "FileDescriptorProto", "Protobuf"]

_HEAD: Final = 5
_OWN: Final = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
}
"""Files that every protobuf has, so that registries seldom hold them."""

_TIME: Final = "google.protobuf.Timestamp"
_WRAPPERS: Final = frozenset(f"google.protobuf.{name}" for name in wrappers_pb2.DESCRIPTOR.message_types_by_name)
_Read = Callable[[bytes], dict[str, Any]]


class Protobuf:
    """Reads messages.

    Args:
        registry: Where schemas are; it is not asked where there is a file.
        file: A FileDescriptorSet.
        message: Full name of the message in it, `package.Name`.
        files: The descriptors themselves, instead of a file.

    Raises:
        ConfigError: The file holds no such message.
    """

    def __init__(
        self,
        registry: Registry | None,
        file: Path | None,
        message: str = "",
        *,
        files: Sequence[FileDescriptorProto] = (),
    ) -> None:
        self._registry = registry
        self._known: dict[tuple[int, tuple[int, ...]], _Read] = {}
        self._one: _Read | None = None
        if file is not None or files:
            self._one = _of_files(files or _set_of(Path(str(file))), message, str(file or "the descriptors"))

    def __call__(self, value: bytes) -> dict[str, Any]:
        """The fields of a message.

        Raises:
            DataError: It cannot be read.
            SchemaAway: The registry does not answer.
        """
        if self._one is not None:
            # No message begins with 0: that is no field. So it is the frame, whose schema is the file's.
            at = place_of(value, _HEAD)[1] if value[:1] == b"\x00" else 0
            return self._one(value[at:])
        number = schema_of(value)
        indexes, at = place_of(value, _HEAD)
        key = (number, tuple(indexes))
        if key not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = self._of(number, indexes)
        return self._known[key](value[at:])

    def _of(self, number: int, indexes: Sequence[int]) -> _Read:
        if self._registry is None:
            raise ConfigError("translate: protobuf messages need translate.registry.url, or schema")
        schema = self._registry.by_id(number, serialized=True)
        if schema.kind != "PROTOBUF":
            raise DataError(f"schema {number} is {cut(escaped(schema.kind), 20)}, not PROTOBUF")
        others = self._registry.with_references(schema, serialized=True)
        files = [_file(name, other) for name, other in others.items()]
        own = _file(f"schema-{number}.proto", schema)
        found = _pool([*files, own]).FindFileByName(own.name)
        level: Any = list(found.message_types_by_name.values())
        for depth, index in enumerate(indexes, 1):
            if index >= len(level):
                break
            if depth == len(indexes):
                return _reader(level[index])
            # The entries of maps are messages that no .proto file names, so they are not counted.
            level = [one for one in level[index].nested_types if not one.GetOptions().map_entry]
        raise DataError(f"the frame names message {list(indexes)}, which schema {number} does not have")


def _file(name: str, schema: Schema) -> FileDescriptorProto:
    try:
        found = FileDescriptorProto.FromString(base64.b64decode(schema.text, validate=True))
    except (binascii.Error, ValueError, ProtobufError):
        raise DataError(
            "the schema registry gives the text of a .proto file, not its descriptor; set schema to a file "
            "(protoc --include_imports --descriptor_set_out=FILE) and message to the name of the message"
        ) from None
    found.name = name
    return found


def _set_of(path: Path) -> list[FileDescriptorProto]:
    text = read_bytes(path, advice="give the file that protoc --descriptor_set_out wrote")
    try:
        found = FileDescriptorSet.FromString(text)
    except ProtobufError:
        raise ConfigError(
            f"{path}: is no FileDescriptorSet; make one with protoc --include_imports --descriptor_set_out={path}"
        ) from None
    return list(found.file)


def _of_files(files: Sequence[FileDescriptorProto], message: str, source: str) -> _Read:
    names = [
        f"{file.package}.{one.name}" if file.package else one.name
        for file in files
        if file.name not in _OWN
        for one in file.message_type
    ]
    if not message and len(names) == 1:
        message = names[0]
    try:
        return _reader(_pool(files).FindMessageTypeByName(message))
    except KeyError:
        hint = did_you_mean(message, names, otherwise=f"it has {', '.join(names[:10]) or 'none'}")
        raise ConfigError(f"{source}: has no message {message!r}; {hint}") from None
    except DataError as e:
        raise ConfigError(f"{source}: {e}") from None


def _pool(files: Sequence[FileDescriptorProto]) -> DescriptorPool:
    """A pool of its own, so that the names of two schemas never meet."""
    pool = DescriptorPool()
    there = {file.name for file in files}
    try:
        for name, own in _OWN.items():
            if name not in there:
                copy = FileDescriptorProto()
                own.CopyToProto(copy)
                pool.Add(copy)
        waiting = list(files)
        added = set(_OWN) - there
        while waiting:
            ready = [file for file in waiting if set(file.dependency) <= added]
            if not ready:
                lacking = sorted({name for file in waiting for name in file.dependency} - there - added)
                raise DataError(f"its protobuf schema needs {', '.join(lacking[:3]) or 'itself'}, which is not there")
            for file in ready:
                pool.Add(file)
                added.add(file.name)
            waiting = [file for file in waiting if file.name not in added]
    except (TypeError, ValueError) as e:
        raise DataError(f"its protobuf schema cannot be read: {cut(escaped(str(e)), 200)}") from None
    return pool


def _reader(descriptor: Descriptor) -> _Read:
    parse = GetMessageClass(descriptor).FromString
    plans: dict[str, Callable[[Any], Any]] = {}
    plain = _plan(descriptor, plans)

    def read(body: bytes) -> dict[str, Any]:
        try:
            found: dict[str, Any] = plain(parse(body))
        except ProtobufError:
            raise DecodeError(f"is no protobuf message {descriptor.full_name}") from None
        except (ValueError, OverflowError) as e:
            raise DecodeError(f"is a protobuf message {descriptor.full_name} with a wrong value: {e}") from None
        return found

    return read


def _plan(descriptor: Descriptor, plans: dict[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """What makes plain data of a message. It is made once for each kind of message, which may hold itself."""
    name = descriptor.full_name
    if name == _TIME:
        return lambda message: message.ToDatetime(tzinfo=UTC)
    if name in _WRAPPERS:
        return lambda message: message.value
    if name in plans:
        return plans[name]
    fields: list[tuple[str, bool, Callable[[Any], Any] | None]] = []

    def plain(message: Any) -> dict[str, Any]:
        found = {}
        for field, presence, made in fields:
            if presence and not message.HasField(field):
                continue
            value = getattr(message, field)
            found[field] = value if made is None else made(value)
        return found

    plans[name] = plain
    fields += [(field.name, field.has_presence, _of_field(field, plans)) for field in descriptor.fields]
    return plain


def _of_field(field: FieldDescriptor, plans: dict[str, Callable[[Any], Any]]) -> Callable[[Any], Any] | None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        member = _of_field(inner.fields_by_name["value"], plans)
        return lambda values: _mapped(values, member)
    one: Callable[[Any], Any] | None = None
    if inner is not None:
        one = _plan(inner, plans)
    elif field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        one = lambda number: names.get(number, number)  # noqa: E731 - one of several ways to make a value
    if not field.is_repeated:
        return one
    return list if one is None else lambda values: [one(value) for value in values]


def _mapped(values: Mapping[Any, Any], member: Callable[[Any], Any] | None) -> dict[str, Any]:
    return {str(key): values[key] if member is None else member(values[key]) for key in values}
