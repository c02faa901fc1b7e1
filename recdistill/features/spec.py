"""The feature specification: one file that the trainer, the bundle and the device file follow.

It does not know values. `vocabulary`, `catalogue` and `encode` turn values into rows.

Example:
    >>> spec = FeatureSpec(item={"genres": Field("category", capacity=32)}, context={"hour": Field("number")})
    >>> spec.rows("item.genres"), spec.rows("context.hour")
    (41, 2)
    >>> FeatureSpec.from_json(spec.to_json()) == spec
    True
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from recdistill.errors import ConfigError, DataError
from recdistill.given import read_text
from recdistill.text import did_you_mean, misfit

MAX_ROWS: Final = 1 << 26  # of one table: rows must fit in memory, and row numbers in int32
_CONTEXT_HASHED_DEFAULT: Final = 8  # what `Field.hashed` is when nobody chose it

_NO_HASHED: Final = "must be 0 for a context field: an unknown value is row 0, as on a device"

Kind = Literal["category", "number", "text", "vector"]


class FeatureError(DataError):
    """A value that does not fit the specification.

    Args:
        field: Path of the field, as the caller writes it (`context.hour`, `item.genres`).
        problem: What is wrong with it, and what is right.
        row: Which request or item of the batch, or None when there is just one.
    """

    def __init__(self, field: str, problem: str, row: int | None = None) -> None:
        super().__init__(f"{field}: {problem}" if row is None else f"request {row}: {field}: {problem}")
        self.field = field
        self.problem = problem
        self.row = row


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One attribute of items or one context value.

    Args:
        kind: "category" takes a text, number, flag or a list of them; "number" a number or flag; "text" a text or a
            list of texts; "vector" a list of `size` numbers.
        capacity: Rows admitted (category) or hash buckets (text).
        hashed: Rows that values without a row of their own share (category of an item only).
        max_values: How many values (category) or n-grams (text) of one field count; further ones are ignored.
        mean: Number: what is subtracted from a value.
        std: Number: what the difference is divided by.
        size: Length of a vector.
        ngrams: Text: shortest and longest run of words that is hashed.
        min_seen: Category: how often a value must be seen before it gets a row of its own. Not given: once.
    """

    kind: Kind
    capacity: int = 1024
    hashed: int = _CONTEXT_HASHED_DEFAULT
    max_values: int = 8
    mean: float = 0.0
    std: float = 1.0
    size: int = 0
    ngrams: tuple[int, int] = (1, 2)
    min_seen: int | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Numbers become floats, so that equal specifications have equal JSON."""
        for name in ("mean", "std"):
            msgspec.structs.force_setattr(self, name, float(getattr(self, name)))
        msgspec.structs.force_setattr(self, "ngrams", tuple(self.ngrams))
        if self.min_seen == 1:
            msgspec.structs.force_setattr(self, "min_seen", msgspec.UNSET)

    @property
    def width(self) -> int:
        """Columns of the field in a batch: values, n-grams, (number, present), or components."""
        return {"category": self.max_values, "text": self.max_values, "number": 2, "vector": self.size}[self.kind]


class HistorySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of the newest events count, and which actions have a row of their own, from row 1 on."""

    length: int = 50
    actions: tuple[str, ...] = ()


class IdSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many items get a row of their own, and how many rows the others share.

    Args:
        capacity: Rows of items.
        hashed: Rows that items without a row of their own share.
        min_seen: How often an item must be seen before it gets a row: as a candidate, in a history, or with a label.
            Not given: every item of the catalogue gets one while there is room.
    """

    capacity: int = 100_000
    hashed: int = 64
    min_seen: int | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """1 is what it is when nothing is given."""
        if self.min_seen == 1:
            msgspec.structs.force_setattr(self, "min_seen", msgspec.UNSET)


class VocabularySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How ids and category values lose their rows. Time is counted in examples that the student has learnt.

    Args:
        evict: Whether a value that is used more may take the row of one that is used less when all rows are taken.
        half_life: After so many examples a use counts half.
        keep_withdrawn: An item that was withdrawn, and that no list has named for so many examples, is forgotten: its
            slot in the catalogue is given back.
    """

    evict: bool = True
    half_life: int = 1_000_000
    keep_withdrawn: int = 1_000_000


class FeatureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the student knows of items and requests.

    Fields are sorted by name, so their order in the file changes no result.

    Args:
        history: The user's history.
        id: The item's own row.
        item: Attributes of items by name.
        context: Context values by name. A category has no hashed rows here: an unknown value is row 0, as on a device.
        vocabulary: How rows are lost. Not given: by the defaults.

    Raises:
        ConfigError: When a value is out of range; it names the field.
    """

    format: int = 1
    history: HistorySpec = HistorySpec()
    id: IdSpec = IdSpec()
    item: dict[str, Field] = {}
    context: dict[str, Field] = {}
    # Settings that came later are not in the JSON form when nobody chose them, so older specifications keep their hash.
    vocabulary: VocabularySpec | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Sorts the fields, sets `hashed` of context fields to 0, and checks all values."""
        msgspec.structs.force_setattr(self, "item", {name: self.item[name] for name in sorted(self.item)})
        context = {}
        for name in sorted(self.context):
            field = self.context[name]
            if field.hashed == _CONTEXT_HASHED_DEFAULT or field.kind != "category":
                field = msgspec.structs.replace(field, hashed=0)
            context[name] = field
        msgspec.structs.force_setattr(self, "context", context)
        if self.vocabulary == VocabularySpec():
            msgspec.structs.force_setattr(self, "vocabulary", msgspec.UNSET)
        msgspec.structs.force_setattr(self, "history", HistorySpec(self.history.length, tuple(self.history.actions)))
        _check(self)

    @classmethod
    def load(cls, path: Path) -> FeatureSpec:
        """Reads a TOML file.

        Raises:
            ConfigError: When it cannot be read, has a key that is not known (the nearest known one is named) or a value
                out of range.
        """
        advice = "let `recdistill init` write one there, or name another one with --set features.file=FILE"
        text = read_text(Path(path), ConfigError, what="feature specifications", advice=advice)
        try:
            return cls.from_dict(tomllib.loads(text))
        except (tomllib.TOMLDecodeError, RecursionError) as problem:
            raise ConfigError(f"{path}: is not TOML: {problem}") from None
        except ConfigError as problem:
            raise ConfigError(f"{path}: {problem}") from None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> FeatureSpec:
        """Builds a specification from plain dicts, as TOML or JSON give them.

        Raises:
            ConfigError: As `load`.
        """
        _refuse_unknown_keys(table)
        try:
            return msgspec.convert(table, cls)
        except msgspec.ValidationError as problem:
            found = misfit(problem)
            raise ConfigError(f"{found.path}: {found.problem}" if found.path else found.problem) from None

    def to_json(self) -> bytes:
        """The JSON form. The same specification always has the same bytes."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_json(cls, text: bytes) -> FeatureSpec:
        """Reads `to_json`.

        Raises:
            ConfigError: As `load`.
        """
        try:
            table = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise ConfigError(f"the feature specification is not JSON: {problem}") from None
        if not isinstance(table, dict):
            raise ConfigError("the feature specification is not a JSON object")
        return cls.from_dict(table)

    @property
    def hash(self) -> str:
        """SHA-256 of `to_json`, in hexadecimal digits."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def rows(self, key: str) -> int:
        """Height of a field's table.

        A category has the unknown row, hashed rows and admitted rows. A text has the unknown row and its buckets. For
        other kinds it is the number of columns.

        Args:
            key: "id", "item.<field>" or "context.<field>".

        Raises:
            ConfigError: When there is no such field.
        """
        if key == "id":
            return 1 + self.id.hashed + self.id.capacity
        field = self.field(key)
        if field.kind == "category":
            return 1 + field.hashed + field.capacity
        return 1 + field.capacity if field.kind == "text" else field.width

    def field(self, key: str) -> Field:
        """The field of "item.<field>" or "context.<field>".

        Raises:
            ConfigError: When there is no such field.
        """
        side, _, name = key.partition(".")
        found = {"item": self.item, "context": self.context}.get(side, {}).get(name)
        if found is None:
            raise ConfigError(f"the feature specification has no field {key!r}")
        return found

    def vocabulary_keys(self) -> tuple[str, ...]:
        """Keys of the fields whose values are admitted one by one: "id", then categories by name."""
        items = [f"item.{name}" for name, field in self.item.items() if field.kind == "category"]
        context = [f"context.{name}" for name, field in self.context.items() if field.kind == "category"]
        return ("id", *items, *context)

    def reserved(self, key: str) -> tuple[int, int]:
        """Hashed rows and capacity of a vocabulary key."""
        if key == "id":
            return self.id.hashed, self.id.capacity
        field = self.field(key)
        return field.hashed, field.capacity

    def min_seen(self, key: str) -> int:
        """How often a value of a vocabulary key must be seen before it gets a row of its own."""
        chosen = self.id.min_seen if key == "id" else self.field(key).min_seen
        return 1 if isinstance(chosen, msgspec.UnsetType) else chosen

    @property
    def shape(self) -> FeatureSpec:
        """The same without what may differ in a student that takes over the weights of another one.

        That is how many rows its vocabulary has, and how they are given and lost.
        """
        alike = {"capacity": 1, "min_seen": msgspec.UNSET}

        def of(fields: Mapping[str, Field]) -> dict[str, Field]:
            return {
                name: msgspec.structs.replace(field, **alike) if field.kind == "category" else field
                for name, field in fields.items()
            }

        return msgspec.structs.replace(
            self,
            id=msgspec.structs.replace(self.id, **alike),
            item=of(self.item),
            context=of(self.context),
            vocabulary=msgspec.UNSET,
        )

    @property
    def losing(self) -> VocabularySpec:
        """How rows are lost, with the defaults where nothing is given."""
        return VocabularySpec() if isinstance(self.vocabulary, msgspec.UnsetType) else self.vocabulary


def _check(spec: FeatureSpec) -> None:
    if spec.format != 1:
        raise ConfigError(f"format: {spec.format} is not known, this version reads format 1")
    _range("history.length", spec.history.length, 1, 10_000)
    _range("number of history.actions", len(spec.history.actions), 0, 255)
    if len(set(spec.history.actions)) != len(spec.history.actions) or "" in spec.history.actions:
        raise ConfigError("history.actions: each action must be named once, and none may be empty")
    _range("id.capacity", spec.id.capacity, 1, MAX_ROWS)
    _range("id.hashed", spec.id.hashed, 0, 1 << 20)
    _range("id.min_seen", spec.min_seen("id"), 1, 1 << 20)
    _range("vocabulary.half_life", spec.losing.half_life, 1, 1 << 40)
    _range("vocabulary.keep_withdrawn", spec.losing.keep_withdrawn, 1, 1 << 40)
    for side, fields in (("item", spec.item), ("context", spec.context)):
        _range(f"number of {side} fields", len(fields), 0, 256)
        for name, field in fields.items():
            _check_field(f"{side}.{name}", name, field)
            if side == "context" and field.hashed:
                raise ConfigError(f"{side}.{name}.hashed: {_NO_HASHED}")


def _check_field(key: str, name: str, field: Field) -> None:
    # Names become names of tensors, of tables in a checkpoint and of inputs of an ONNX graph.
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ConfigError(f"{key}: a field name has 1 to 64 letters, digits, _ or -")
    _range(f"{key}.capacity", field.capacity, 1, MAX_ROWS)
    _range(f"{key}.hashed", field.hashed, 0, 1 << 20)
    _range(f"{key}.max_values", field.max_values, 1, 1_024)
    if not isinstance(field.min_seen, msgspec.UnsetType):
        _range(f"{key}.min_seen", field.min_seen, 1, 1 << 20)
        if field.kind != "category":
            raise ConfigError(f"{key}.min_seen: belongs to a category, this is a {field.kind}")
    if not math.isfinite(field.mean):
        raise ConfigError(f"{key}.mean: must be finite, not {field.mean}")
    if not (math.isfinite(field.std) and field.std > 0):
        raise ConfigError(f"{key}.std: must be finite and above 0, not {field.std}")
    if field.kind == "vector":
        _range(f"{key}.size", field.size, 1, 4_096)
    elif field.size:
        raise ConfigError(f"{key}.size: belongs to a vector, this is a {field.kind}")
    if not 1 <= field.ngrams[0] <= field.ngrams[1] <= 5:
        raise ConfigError(f"{key}.ngrams: must be two numbers from 1 to 5, the smaller first, not {list(field.ngrams)}")


def _range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{name}: must be {least} to {most}, not {value}")


def _refuse_unknown_keys(table: Mapping[str, Any]) -> None:
    _known("", table, FeatureSpec)
    for name, kind in (("history", HistorySpec), ("id", IdSpec), ("vocabulary", VocabularySpec)):
        if isinstance(table.get(name), Mapping):
            _known(f"{name}.", table[name], kind)
    for side in ("item", "context"):
        fields = table.get(side)
        for name, field in fields.items() if isinstance(fields, Mapping) else ():
            if isinstance(field, Mapping):
                _known(f"{side}.{name}.", field, Field)
                if side == "context" and field.get("hashed"):
                    raise ConfigError(f"{side}.{name}.hashed: {_NO_HASHED}")


def _known(path: str, table: Mapping[str, Any], kind: type[msgspec.Struct]) -> None:
    names = kind.__struct_fields__
    for key in table:
        if key not in names:
            hint = did_you_mean(str(key), names, otherwise="known keys: " + ", ".join(names))
            raise ConfigError(f"{path}{key}: is not a known key; {hint}")
