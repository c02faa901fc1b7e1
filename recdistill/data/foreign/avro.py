r"""Avro messages, read with the schema that they were written with.

The schema comes from a registry, by the id in Confluent's frame; or from a file, for messages without a frame. A field
that was added since is in what is read, and one that was removed is not: the mapping says what is needed.

Two forms of schema are refused, because a small message of such a schema could take all memory or end the process: a
record that holds itself, and a list whose members take no bytes. So is a decimal of more than `MOST_DECIMAL` bytes: its
digits take the square of its length in time.

It knows nothing of HTTP.

Example:
    >>> view = '{"type": "record", "name": "View", "fields": [{"name": "id", "type": "string"}]}'
    >>> Avro(None, None, text=view)(b"\x06r-1")  # a length of 3, zigzag, and the text
    {'id': 'r-1'}
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from recdistill.data.foreign.schemas import MAX_KNOWN, Registry
from recdistill.errors import ConfigError, DataError, DecodeError
from recdistill.given import read_text
from recdistill.records import schema_of
from recdistill.text import cut, escaped

MOST_DECIMAL: Final = 64
"""Bytes of a decimal: 153 digits."""

_HEAD: Final = 5
_NESTED: Final = ("record", "error")


class Avro:
    """Reads messages.

    Args:
        registry: Where schemas are; None: there is one schema, in a file.
        file: The file.
        text: The schema itself, instead of a file.

    Raises:
        ConfigError: The file holds no schema.
    """

    def __init__(self, registry: Registry | None, file: Path | None, *, text: str = "") -> None:
        import fastavro

        readers = fastavro.read.LOGICAL_READERS
        for name in ("bytes-decimal", "fixed-decimal"):
            readers[name] = readers[name] if isinstance(readers[name], _Short) else _Short(readers[name])
        self._avro, self._registry = fastavro, registry
        self._known: dict[int, Any] = {}
        self._one: Any = None
        if file is not None or text:
            text = text or read_text(Path(str(file)), ConfigError, what="Avro schemas", advice="give a schema in JSON")
            try:
                self._one = self._parsed(text, {})
            except DataError as e:
                raise ConfigError(f"{file or 'the schema'}: {e}") from None

    def __call__(self, value: bytes) -> dict[str, Any]:
        """The fields of a message.

        Raises:
            DataError: It cannot be read.
            SchemaAway: The registry does not answer.
        """
        if self._one is not None:
            # Messages without a frame: a record's first byte may be 0 too, so a frame could not be told from it.
            return self._read(value, self._one, 0)
        number = schema_of(value)
        return self._read(value, self._of(number), _HEAD)

    def _of(self, number: int) -> Any:
        if number not in self._known:
            if self._registry is None:
                raise ConfigError("translate: Avro messages need translate.registry.url, or schema")
            schema = self._registry.by_id(number)
            if schema.kind != "AVRO":
                raise DataError(f"schema {number} is {cut(escaped(schema.kind), 20)}, not AVRO")
            named: dict[str, Any] = {}
            for other in self._registry.with_references(schema).values():
                self._parsed(other.text, named)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[number] = self._parsed(schema.text, named)
        return self._known[number]

    def _parsed(self, text: str, named: dict[str, Any]) -> Any:
        """The schema in the library's form; names that are defined stay in `named`."""
        try:
            tree = json.loads(text)
            found = self._avro.parse_schema(tree, named_schemas=named)
            if why := _danger(found, named, (), set()):
                raise DataError(f"its Avro schema {why}")
        except DataError:
            raise
        except Exception as e:  # noqa: BLE001 - the library has errors of many kinds for a schema that is none
            why = cut(escaped(str(e) or type(e).__name__), 200)
            raise DataError(f"its Avro schema cannot be read: {why}") from None
        return found

    def _read(self, value: bytes, schema: Any, start: int) -> dict[str, Any]:
        body = io.BytesIO(value)
        body.seek(start)
        try:
            found = self._avro.schemaless_reader(body, schema, None)
        except Exception as e:  # noqa: BLE001 - and for a message that does not fit
            raise DecodeError(
                f"is no Avro message of its schema: {cut(escaped(str(e) or type(e).__name__), 200)}"
            ) from None
        if (rest := len(value) - body.tell()) > 0:
            raise DecodeError(f"is no Avro message of its schema: {rest} bytes are left behind it")
        if not isinstance(found, dict):
            raise DecodeError(f"is an Avro {type(found).__name__}, not a record")
        return found


class _Short:
    """Reads a decimal, unless it is too long.

    Args:
        read: The library's own way.
    """

    def __init__(self, read: Callable[..., Any]) -> None:
        self._read = read

    def __call__(self, data: bytes, *schemas: Any) -> Any:
        """The number."""
        if len(data) > MOST_DECIMAL:
            raise ValueError(f"a decimal has {len(data):,} bytes, more than {MOST_DECIMAL}")
        return self._read(data, *schemas)


def _danger(schema: Any, named: dict[str, Any], inside: tuple[str, ...], safe: set[str]) -> str:
    """Why a schema is refused; empty if it is not. `safe` has the names that were looked at."""
    if isinstance(schema, str):
        if schema in inside:
            return f"has a record that holds itself ({schema}); such records are not read here"
        return _danger(named[schema], named, inside, safe) if schema in named and schema not in safe else ""
    if isinstance(schema, list):
        return next((why for one in schema if (why := _danger(one, named, inside, safe))), "")
    kind = schema.get("type")
    if kind in _NESTED:
        name = schema["name"]
        if name in inside:
            return f"has a record that holds itself ({name}); such records are not read here"
        deeper = (*inside, name)
        found = next((why for field in schema["fields"] if (why := _danger(field["type"], named, deeper, safe))), "")
        if not found:
            safe.add(name)
        return found
    if kind == "array":
        if not _takes_bytes(schema["items"], named):
            return "has a list whose members take no bytes; such lists are not read here"
        return _danger(schema["items"], named, inside, safe)
    if kind == "map":
        return _danger(schema["values"], named, inside, safe)
    return _danger(kind, named, inside, safe) if isinstance(kind, dict | list) else ""


def _takes_bytes(schema: Any, named: dict[str, Any]) -> bool:
    """Whether each value of a schema has at least one byte. The schema does not hold itself."""
    if isinstance(schema, str):
        return _takes_bytes(named[schema], named) if schema in named else schema != "null"
    if isinstance(schema, list):
        return True  # the number of the branch is a byte
    kind = schema.get("type")
    if kind in _NESTED:
        return any(_takes_bytes(field["type"], named) for field in schema["fields"])
    if kind == "fixed":
        return int(schema["size"]) > 0
    return _takes_bytes(kind, named) if isinstance(kind, dict | list) else kind != "null"
