"""The settings of the translator, `[translate]`, and of when a stage halts, `[bad_records]`.

They know nothing of where settings come from.

Example:
    >>> TranslateTopic(topic="web.views", mappings=["views.map.toml"]).format
    'json'
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class TranslateTopic(Struct, frozen=True, forbid_unknown_fields=True):
    """`[[translate.topics]]`: one topic of somebody else."""

    topic: Annotated[
        str,
        Meta(
            min_length=1,
            pattern="^[A-Za-z0-9._-]+$",
            description="Its whole name. `log.prefix` is not put before it.",
        ),
    ]
    mappings: Annotated[
        list[str],
        Meta(
            min_length=1,
            description="Mapping files. With several, each says by `[only]` which messages it means.",
        ),
    ]
    format: Annotated[
        Literal["json", "avro", "protobuf"],
        Meta(description="How its messages are written."),
    ] = "json"
    schema: Annotated[
        str,
        Meta(
            description="avro, protobuf: a file with the schema, instead of the registry: an Avro schema in JSON, or a "
            "FileDescriptorSet (`protoc --include_imports --descriptor_set_out=FILE`)."
        ),
    ] = ""
    message: Annotated[
        str, Meta(description="protobuf with a file: full name of the message. Empty: the file has only one.")
    ] = ""


class SchemaRegistrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[translate.registry]`: a schema registry that speaks Confluent's protocol."""

    url: Annotated[str, Meta(description="Its address, such as `https://registry:8081`. Empty: there is none.")] = ""
    user: Annotated[
        str, Meta(description="User of basic authentication. `env:NAME` takes a variable of the environment.")
    ] = ""
    password: Annotated[str, Meta(description="Its password; `env:NAME` as above.")] = ""
    token: Annotated[str, Meta(description="Bearer token instead of both; `env:NAME` as above.")] = ""
    ca_file: Annotated[str, Meta(description="Certificates to trust, beside those of the system.")] = ""
    timeout_s: Annotated[float, Meta(gt=0, description="Longest time for one answer.")] = 10.0


class TranslateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[translate]`: the translator. It reads your topics, and writes impressions, feedback and items."""

    topics: Annotated[
        list[TranslateTopic],
        Meta(description="One `[[translate.topics]]` for each topic that is read."),
    ] = []
    registry: SchemaRegistrySettings = SchemaRegistrySettings()
    batch: Annotated[int, Meta(ge=1, description="Most messages translated, and committed, at once.")] = 1000
    wait_s: Annotated[float, Meta(gt=0, description="Longest wait for the first message of a batch.")] = 0.5
    patience_s: Annotated[
        float,
        Meta(
            ge=0,
            description="How long the translator waits for a schema registry that does not answer. Then it stops. "
            "Nothing is lost.",
        ),
    ] = 600.0
    worker: Annotated[
        int,
        Meta(
            ge=0,
            description="Number of this process, from 0. Of all partitions it reads every `workers`-th one, "
            "and this number says where it begins.",
        ),
    ] = 0
    workers: Annotated[int, Meta(ge=1, description="How many workers share the partitions.")] = 1


class BadRecordSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[bad_records]`: when translator, scorer and joiner stop, because too many records cannot be used."""

    most: Annotated[
        int,
        Meta(
            ge=0,
            description="A stage stops when it cannot use more than so many of its last `of` records. It "
            "does not write the batch in which that happens, so the batch is read again. 0: a stage never "
            "stops.",
        ),
    ] = 500
    of: Annotated[int, Meta(ge=1, le=1_000_000, description="How many of the last records are looked at.")] = 1000
