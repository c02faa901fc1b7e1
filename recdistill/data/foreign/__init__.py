"""Messages of somebody else's topics -> records: JSON, Avro and protobuf, by the same mapping that reads tables.

`decoder_of` makes what reads the bytes of a topic. A `Translator` makes records of what was read.

It knows nothing of logs.

Example:
    >>> from recdistill.data.mapping import TableMapping
    >>> views = TableMapping(
    ...     kind="impressions", columns={"id": "request", "time": "shown_at", "candidates": "slots.sku"}
    ... )
    >>> translate = Translator("web.views", [views], decoder_of("json"))
    >>> value = b'{"request": "r-1", "shown_at": "2026-01-05T08:00:00Z", "slots": [{"sku": "a"}, {"sku": "b"}]}'
    >>> [one] = translate(Raw("web.views/0 at 17", value))
    >>> one.id, one.time_us, [shown.item for shown in one.candidates]
    ('r-1', 1767600000000000, ['a', 'b'])
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from recdistill.data.foreign.plain import read_json
from recdistill.data.foreign.schemas import Decode, Registry
from recdistill.data.foreign.translator import Raw, Translator, Withdrawn
from recdistill.errors import ConfigError

__all__ = ["FORMATS", "Decode", "Form", "Raw", "Registry", "Translator", "Withdrawn", "decoder_of"]

Form = Literal["json", "avro", "protobuf"]
FORMATS: Final = ("json", "avro", "protobuf")


def decoder_of(
    form: Form, *, registry: Registry | None = None, schema: Path | None = None, message: str = ""
) -> Decode:
    """What reads the bytes of a topic.

    Args:
        form: How its messages are written.
        registry: Where schemas are asked for. JSON needs none.
        schema: A file that holds the schema instead: an Avro schema, or a FileDescriptorSet of protobuf.
        message: protobuf with a file: the full name of the message.

    Raises:
        ConfigError: There is no schema, or the file holds none.
    """
    if form == "json":
        return read_json
    if form == "avro":
        from recdistill.data.foreign.avro import Avro

        return Avro(_one(registry, schema, "an Avro schema, FILE.avsc"), schema)
    from recdistill.data.foreign.protobuf import Protobuf

    wanted = "a FileDescriptorSet: protoc --include_imports --descriptor_set_out=FILE"
    return Protobuf(_one(registry, schema, wanted), schema, message)


def _one(registry: Registry | None, schema: Path | None, wanted: str) -> Registry | None:
    if registry is None and schema is None:
        raise ConfigError(
            f"translate: a topic of Avro or protobuf needs its schema; set translate.registry.url, or schema ({wanted})"
        )
    return registry
