"""Would another form of examples be quicker to read than the protobuf of today?

One example is one message in each form. It is read from bytes to flat arrays: ids as one run of bytes, scores, labels,
times. *Checked* is what the distiller does, with every check. The other rows do no check at all, so that only the forms
differ: what they could win at most is the distance to the second row.

- *as it is*: an example as it travels. Candidates and events are small messages; protobuf hands them out as bytes.
- *packed*: parallel fields. All ids of a list are one run of bytes with their lengths beside it; times are packed too.
- *Arrow IPC*: a record batch of one row, without its schema. The last row has 256 examples in one message: no
  place in the log would name an example then, so it is only for comparison.

    python -m benchmarks.bench_wire
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClassesForFiles

from benchmarks.bench_log import example
from benchmarks.forms import Options
from recdistill.records import Example, codec, encode, read_columns

BATCH = 256
_TEXTS = ("id", "user", "teacher_id", "teacher_version", "served_by")
_NUMBERS = ("time_us", "scored_at_us", "catalogue_as_of", "scale", "origin", "label_state")
_RUNS = ("items", "item_sizes", "scores", "scored", "labels", "events", "event_sizes", "times", "actions")


def packed_class() -> Any:
    file = FileDescriptorProto(name="packed.proto", package="bench", syntax="proto3")
    message = file.message_type.add(name="Packed")
    kinds = [(_TEXTS, "STRING"), (_NUMBERS, "INT64"), (_RUNS, "BYTES")]
    for number, (name, kind) in enumerate(((name, kind) for names, kind in kinds for name in names), 1):
        message.field.add(
            name=name, number=number, label=1, type=getattr(FieldDescriptorProto, f"TYPE_{kind}"), json_name=name
        )
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClassesForFiles(["packed.proto"], pool)["bench.Packed"]


def parts(one: Example) -> dict[str, Any]:
    """The fields of an example in the packed form."""
    ranking, asked = one.ranking, one.ranking.impression
    items = [candidate.item.encode() for candidate in asked.candidates]
    events = [event.item.encode() for event in asked.history]
    return {
        "id": asked.id,
        "user": asked.user or "",
        "teacher_id": ranking.teacher_id,
        "teacher_version": ranking.teacher_version,
        "served_by": asked.served_by,
        "time_us": asked.time_us,
        "scored_at_us": ranking.scored_at_us,
        "catalogue_as_of": ranking.catalogue_as_of,
        "scale": codec.SCALES.index(ranking.scale),
        "origin": codec.ORIGINS.index(asked.origin),
        "label_state": codec.LABEL_STATES.index(one.label_state),
        "items": b"".join(items),
        "item_sizes": np.array([len(item) for item in items], "<u2").tobytes(),
        "scores": np.array(ranking.scores, "<f4").tobytes(),
        "scored": np.packbits(ranking.scored, bitorder="little").tobytes(),
        "labels": np.array(one.labels, "<f4").tobytes(),
        "events": b"".join(events),
        "event_sizes": np.array([len(item) for item in events], "<u2").tobytes(),
        "times": np.array([event.time_us for event in asked.history], "<i8").tobytes(),
        "actions": bytes(len(events)),
    }


def flat(rows: list[tuple[Any, ...]]) -> list[Any]:
    """Fields of each example -> arrays of all: texts stay lists, numbers and runs become arrays."""
    columns = list(zip(*rows, strict=True))
    numbers = [np.array(column, np.int64) for column in columns[5:11]]
    runs = [np.frombuffer(b"".join(column), kind) for column, kind in zip(columns[11:], _KINDS, strict=True)]
    return [*columns[:5], *numbers, *runs]


_KINDS = ("u1", "<u2", "<f4", "u1", "<f4", "u1", "<u2", "<i8", "u1")
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _TEXTS]
    + [(name, pa.int64()) for name in _NUMBERS]
    + [
        ("items", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("scored", pa.binary()),
        ("labels", pa.list_(pa.float32())),
        ("events", pa.list_(pa.string())),
        ("times", pa.list_(pa.int64())),
        ("actions", pa.binary()),
    ]
)


def arrow(examples: list[Example]) -> bytes:
    """Some examples as one message."""
    rows = []
    for one in examples:
        asked = one.ranking.impression
        rows.append(
            parts(one)
            | {
                "items": [candidate.item for candidate in asked.candidates],
                "scores": list(one.ranking.scores),
                "labels": list(one.labels),
                "events": [event.item for event in asked.history],
                "times": [event.time_us for event in asked.history],
            }
        )
    batch = pa.RecordBatch.from_pylist([{name: row[name] for name in _SCHEMA.names} for row in rows], _SCHEMA)
    written: bytes = batch.serialize().to_pybytes()
    return written


def read_arrow(values: list[bytes]) -> None:
    """Record batches -> one table, whose columns are flat arrays."""
    batches = [pa.ipc.read_record_batch(pa.py_buffer(value), _SCHEMA) for value in values]
    pa.Table.from_batches(batches).combine_chunks()


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, messages=2_560, rounds=1)
    parser.add_argument("--messages", type=int, default=10_240)
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def main() -> None:
    chosen = options().parse_args()
    examples = [example(n, lambda chance: int(1_000_000 ** chance.random()) - 1) for n in range(chosen.messages)]
    forms = {"plain": [encode(one) for one in examples]}
    packed = packed_class()
    forms["packed"] = [packed(**parts(one)).SerializeToString() for one in examples]
    forms["arrow"] = [arrow([one]) for one in examples]
    forms["many"] = [arrow(examples[start : start + BATCH]) for start in range(0, len(examples), BATCH)]
    opaque = codec.form(
        {"Impression": ("history", "candidates"), "Ranking": ("scores", "candidates_sampled"), "Example": ("labels",)}
    )["Example"]
    head = len(codec.prefix(Example))

    def plain(values: list[bytes]) -> None:
        rows, members = [], []
        for value in values:
            message = opaque.FromString(value[head:])
            ranking = message.ranking
            asked = ranking.impression
            members += asked.candidates
            members += asked.history
            texts = (asked.id, asked.user, ranking.teacher_id, ranking.teacher_version, asked.served_by)
            numbers = (asked.time_us, ranking.scored_at_us, ranking.catalogue_as_of, ranking.scale, asked.origin)
            empty = (b"", b"", ranking.scores, ranking.scored, message.labels, b"", b"", b"", b"")
            rows.append((*texts, *numbers, message.label_state, *empty))
        flat(rows)
        np.fromiter(map(len, members), np.int64, len(members))
        np.frombuffer(b"".join(members), np.uint8)

    def read_packed(values: list[bytes]) -> None:
        names = _TEXTS + _NUMBERS + _RUNS
        messages = map(packed.FromString, values)
        flat([tuple([getattr(message, name) for name in names]) for message in messages])

    def in_batches(read: Callable[[list[bytes]], Any], values: list[bytes], size: int) -> None:
        for start in range(0, len(values), size):
            read(values[start : start + size])

    ways: dict[str, tuple[str, Callable[[], None]]] = {
        "as it is, checked": ("plain", lambda: in_batches(lambda v: read_columns(Example, v), forms["plain"], BATCH)),
        "as it is": ("plain", lambda: in_batches(plain, forms["plain"], BATCH)),
        "packed": ("packed", lambda: in_batches(read_packed, forms["packed"], BATCH)),
        "Arrow IPC": ("arrow", lambda: in_batches(read_arrow, forms["arrow"], BATCH)),
        "Arrow IPC, 256 in a message": ("many", lambda: in_batches(read_arrow, forms["many"], 1)),
    }
    times_us: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, (_, way) in ways.items():
            started = time.process_time()
            way()
            times_us[name].append((time.process_time() - started) / len(examples) * 1e6)
    print(f"{len(examples):,} examples of 50 candidates and 20 events; median of {chosen.rounds} rounds\n")
    print(f"{'µs an example':>14}  {'bytes an example':>17}  form")
    for name, (form, _) in ways.items():
        size = sum(map(len, forms[form])) / len(examples)
        print(f"{statistics.median(times_us[name]):14.1f}  {size:17,.0f}  {name}")


if __name__ == "__main__":
    main()
