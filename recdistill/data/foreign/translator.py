"""One message of somebody else's topic -> the records that it means, as mappings say.

A topic may have several mappings, of several kinds: each says by `only` which messages it means. A message that none of
them means is passed over. Beside the fields of its value, a message has `@key`, `@time` (when its log took it),
`@place` (topic, partition and offset: an id for lists that have none) and `@headers.NAME`.

A message without a value is a tombstone: with a mapping of items, it withdraws the item that is its key.

It knows nothing of logs, or of how a value is written.

Example:
    >>> mapping = TableMapping(kind="items", columns={"id": "sku"}, attributes={"price": "offer.price"})
    >>> translate = Translator("shop.products", [mapping], lambda value: {"sku": "a1", "offer": {"price": 7.5}})
    >>> translate(Raw("shop.products/0 at 3", b"..."))[0].attributes
    {'price': 7.5}
    >>> translate(Raw("shop.products/0 at 4", None, key=b"a1"))
    [Withdrawn(id='a1')]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from recdistill.data.cells import GUESSED
from recdistill.data.fit import Fit
from recdistill.data.foreign.schemas import Decode
from recdistill.data.mapping import Column, TableMapping
from recdistill.data.reader import Reader, encode_row
from recdistill.data.rows import Row
from recdistill.errors import ConfigError, DataError, DecodeError
from recdistill.features import FeatureSpec
from recdistill.records import MAX_TIME_US, Encoded, Item, Record, encoded

KINDS: Final = ("items", "impressions", "feedback")
"""What a topic may hold."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Raw(NamedTuple):
    """A message as it came."""

    where: str
    """Its place, for errors and for `@place`."""
    value: bytes | None
    key: bytes | None = None
    time_us: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


class Withdrawn(NamedTuple):
    """An item that is withdrawn, whatever version of it holds."""

    id: str


class Translator:
    """Translates the messages of one topic.

    Args:
        topic: Its name, for errors.
        mappings: One or more.
        decode: Reads a value.
        spec: What a model may see: texts become numbers where it says so.

    Raises:
        ConfigError: A mapping does not fit.
    """

    def __init__(
        self, topic: str, mappings: Sequence[TableMapping], decode: Decode, *, spec: FeatureSpec | None = None
    ) -> None:
        if not mappings:
            raise ConfigError(f"translate: topic {topic!r} has no mapping; name one, a TOML file")
        self._decode, self._fit = decode, Fit(spec)
        self._readers: list[tuple[str, Reader]] = []
        for mapping in mappings:
            kind = mapping.kind
            if kind == "interactions":
                raise ConfigError(
                    f"mapping of {topic}: lists cannot be made of interactions as they come, since a list needs what "
                    "came after it; write them to a file and use `recdistill import`"
                )
            if kind is None:
                raise ConfigError(f"mapping of {topic}: kind is not set; set it to {', '.join(KINDS)}")
            self._readers.append((kind, Reader(topic, kind, mapping, None, unit=GUESSED, implied=False)))
        names = [name for mapping in mappings for name in _names(mapping)]
        self._extras = any(name.startswith("@") for name in names)
        for name in names:
            if name.startswith("@") and name not in _OWN and not name.startswith("@headers."):
                raise ConfigError(f"mapping of {topic}: there is no {name!r}; a message has {', '.join(_OWN)}, "
                                  "@headers.NAME")  # fmt: skip
        self._withdraws = any(kind == "items" for kind, _ in self._readers)

    def __call__(self, raw: Raw) -> list[Record | Withdrawn]:
        """The records of a message; none if no mapping means it.

        Raises:
            DataError: It cannot be understood.
            SchemaAway: A schema registry does not answer.
        """
        if raw.value is None:
            return [self._withdrawn(raw)]
        return [record for record, _ in self._records(self.fields(raw), raw.where)]

    def encoded(self, raw: Raw) -> list[Encoded | Withdrawn]:
        """As `translate(raw)`, with the bytes of each record."""
        if raw.value is None:
            return [self._withdrawn(raw)]
        return self.encoded_fields(self.fields(raw), raw.where)

    def encoded_fields(self, fields: Mapping[str, Any], where: str) -> list[Encoded | Withdrawn]:
        """The records of a message whose fields are known, as `fields` gave them.

        Raises:
            DataError: They cannot be understood.
        """
        return [encoded(record, value) for record, value in self._records(fields, where)]

    def fields(self, raw: Raw) -> dict[str, Any]:
        """The fields of a message that has a value.

        Raises:
            DataError: It cannot be read.
            SchemaAway: A schema registry does not answer.
        """
        try:
            found = self._decode(raw.value or b"")
        except DataError as e:
            raise type(e)(f"{raw.where}: {e}") from None
        return {**found, **_extras_of(raw)} if self._extras else found

    def _records(self, fields: Mapping[str, Any], where: str) -> Iterator[tuple[Record, bytes]]:
        row = Row(where, fields, None)
        for _, reader in self._readers:
            for record in reader.records(row):
                fitting = self._fit(record, where)
                yield fitting, encode_row(fitting, where)

    def _withdrawn(self, raw: Raw) -> Withdrawn:
        if not self._withdraws:
            raise DecodeError(f"{raw.where}: has no value (a tombstone), and only items can be withdrawn")
        try:
            name: Any = (raw.key or b"").decode()
            if name.startswith('"'):  # a key may be written as JSON
                name = msgspec.json.decode(name)
            encode_row(Item(name), raw.where)  # the rules of ids
        except (UnicodeDecodeError, msgspec.DecodeError):
            key = (raw.key or b"")[:40]
            raise DecodeError(f"{raw.where}: is a tombstone, and its key is no text: {key!r}") from None
        return Withdrawn(str(name))


_OWN: Final = ("@key", "@time", "@place")


def _names(mapping: TableMapping) -> Iterator[str]:
    for section in (mapping.columns, mapping.attributes, mapping.context):
        for column in section.values():
            if isinstance(column, Column):
                yield from (column.column, *column.also)
            else:
                yield column
    yield from mapping.only


def _extras_of(raw: Raw) -> dict[str, Any]:
    headers = {name: value.decode(errors="replace") for name, value in raw.headers}
    known = 0 < raw.time_us <= MAX_TIME_US  # who writes a message chooses its time, and may write any number
    return {
        "@key": None if raw.key is None else raw.key.decode(errors="replace"),
        "@time": _EPOCH + timedelta(microseconds=raw.time_us) if known else None,
        "@place": raw.where.replace(" at ", ":"),
        "@headers": headers,
    }
