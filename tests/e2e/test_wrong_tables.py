"""Three hundred damaged tables, made from good ones by a seed: each is imported whole or refused in one sentence.

What holds for every one of them: no traceback; one line on stderr if it is refused, and then nothing was written; and
no row is lost: the lines of the file are its header, the records that were written, and the line ends inside of their
cells. The count of lines is Python's own, not that of the reader.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.records import TOPICS, Feedback, Impression, Item, Record, decode
from recdistill.stream import Log, Source, open_log

EACH = 75
Cells = list[list[str]]

HEADS = {
    "items": ["id", "version", "time", "attributes.title", "attributes.price"],
    "impressions": ["id", "time", "user", "candidates", "logged_scores", "context.device"],
    "feedback": ["id", "impression_id", "item", "action", "value", "time"],
}
ODD = [
    "", " ", '"', '""', '"x', 'x"', '"a, b"', "nan", "inf", "-inf", "1e999", "-1", "0", "true", "\\N", "null", "[]",
    "{}", "[1, 'a']", "2020-13-45", "2020-01-02", "9" * 40, "a|b|c", "a||b", "|", "::", ";", "\t", ",", "x" * 600, "ü",
    "\x00", "\x1b[31m", "\u2028", "😀", "y" * 200_000, "1_000", "٣", "١٢", "=1+1", "'", "`", "#", "NaT", "1.5.2",
    "é" * 40,
]  # fmt: skip
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252", "utf-32"]


def _good(rng: random.Random, kind: str) -> Cells:
    """A good table with its header."""

    def row(n: int) -> list[str]:
        match kind:
            case "items":
                return [f"i{n}", str(rng.randrange(5)), str(1_600_000_000 + n), f"Title {n}", f"{rng.random():.3f}"]
            case "impressions":
                items = rng.sample([f"i{m}" for m in range(30)], 3)
                scores = [f"{rng.random():.3f}" for _ in items]
                return [f"r{n}", str(1_600_000_000 + n), f"u{n % 7}", "|".join(items), "|".join(scores), "tv"]
        return [f"f{n}", f"r{n}", f"i{n}", rng.choice(["click", "buy"]), "1", str(1_600_000_000 + n)]

    return [list(HEADS[kind]), *(row(n) for n in range(rng.randrange(1, 25)))]


def _spoil_cells(rng: random.Random, table: Cells) -> None:
    row = rng.randrange(len(table))
    column = rng.randrange(len(table[row])) if table[row] else 0
    match rng.randrange(6):
        case 0 | 1 | 2:
            table[row][column] = rng.choice(ODD)
        case 3:
            table[row] = table[row][:-1] if rng.random() < 0.5 else [*table[row], "more"]
        case 4:
            table.insert(row, list(table[row]))
        case 5:
            table[row][column] += rng.choice(ODD)


def _spoil_bytes(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data)) if data else 0
    match rng.randrange(8):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + rng.choice([b"\x00", b"\xff", b"\xe9", b'"', b"'", b"\r", b"\n\n", b"\xc3"]) + data[at:]
        case 2:
            return data[:at] + data[at + 1 :]
        case 3:
            return data.replace(b"\n", b"\r\n", rng.randrange(1, 9)).replace(b"\n", b"\r", rng.randrange(2))
        case 4:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 5:
            return data[:at] + data[at:].replace(b"\n", b'"\n', 1)
    return data


def _text(rng: random.Random, table: Cells) -> tuple[bytes, str, str]:
    """The bytes, the encoding they are in, and the ending."""
    delimiter, ending = rng.choice(
        [(",", "csv"), ("\t", "tsv"), (";", "csv"), ("::", "dat"), ("|", "txt"), (" ", "txt")]
    )
    quoted = rng.random() < 0.4
    if delimiter == "|":
        table = [[cell.replace("|", ";") for cell in row] for row in table]
    lines = [delimiter.join('"' + c.replace('"', '""') + '"' if quoted else c for c in row) for row in table]
    encoding = rng.choice(ENCODINGS) if rng.random() < 0.3 else "utf-8"
    return ("\n".join(lines) + "\n").encode(encoding, "replace"), encoding, ending


def _json_lines(rng: random.Random, table: Cells) -> tuple[bytes, str, str]:
    odd: list[Any] = [
        None,
        True,
        5,
        1.5,
        10**30,
        [],
        ["a", 1],
        {},
        {"a": 1},
        "",
        "a" * 600,
        [[1]],
        -1,
        1e-320,
        "\ud800",
    ]
    lines = []
    for row in table[1:]:
        one: dict[str, Any] = {}
        for name, cell in zip(table[0], row, strict=False):
            side, _, key = name.partition(".")
            value: Any = cell
            if name in ("version", "value", "time"):
                value = int(cell) if cell.isdecimal() and cell.isascii() and len(cell) < 20 else cell
            if name == "candidates":
                value = [{"item": item} for item in cell.split("|")]
            if name == "logged_scores":
                continue
            if rng.random() < 0.02:
                value = rng.choice(odd)
            if key:
                one.setdefault(side, {})[key] = value
            else:
                one["time_us" if name == "time" else name] = value
        lines.append(json.dumps(one))
    if lines and rng.random() < 0.3:
        lines[rng.randrange(len(lines))] = rng.choice(
            ["[", "{}", "null", "{" * 5000, '{"id": NaN}', '{"id": "a",}', "[1]", '{"id": "a"} {"id": "b"}', "﻿{}"]
        )
    return ("\n".join(lines) + "\n").encode("utf-8", "replace"), "utf-8", rng.choice(["jsonl", "JSONL", "ndjson"])


def _parquet(rng: random.Random, table: Cells) -> tuple[bytes, str, str]:
    odd: list[Callable[[int], Any]] = [
        lambda n: pa.array([None] * n, pa.string()),
        lambda n: pa.array([float("nan")] * n),
        lambda n: pa.array([float("inf")] * n),
        lambda n: pa.array([b"\xff"] * n),
        lambda n: pa.array([[1, None]] * n),
        lambda n: pa.array([{"a": 1}] * n),
        lambda n: pa.array([2**62] * n, pa.timestamp("us")),
        lambda n: pa.array([-5] * n, pa.timestamp("ns")),
        lambda n: pa.array([True] * n),
        lambda n: pa.array(["x"] * n).dictionary_encode(),
    ]
    rows = [[*row, *[""] * len(table[0])][: len(table[0])] for row in table[1:]]
    names = [name or str(n) for n, name in enumerate(dict.fromkeys(table[0]))]
    columns = {name: pa.array([row[n] for row in rows]) for n, name in enumerate(names)}
    if rng.random() < 0.6:
        columns[rng.choice(names)] = rng.choice(odd)(len(rows))
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes(), "", "parquet"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Log, Source]]:
    """One log for all tables, and a reader of what each of them adds."""
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    before = os.environ.get("RECDISTILL__LOG__PATH")
    os.environ["RECDISTILL__LOG__PATH"] = str(path)
    try:
        assert main(["topics", "create", "--quiet"]) == 0
        with closing(open_log(LogSettings(path=str(path)))) as log, closing(log.source(list(HEADS))) as source:
            yield log, source
    finally:
        os.environ.pop("RECDISTILL__LOG__PATH")
        if before is not None:
            os.environ["RECDISTILL__LOG__PATH"] = before


def _added(source: Source) -> list[Record]:
    found = []
    while some := source.read(10_000, timeout_s=0):
        found += [decode(TOPICS[one.tp.topic], one.value) for one in some]
    return found


def _line_ends(record: Record) -> int:
    """Lines of the file, beside the first one of the row, that the texts of a record hold."""
    texts: list[Any] = []
    if isinstance(record, Item):
        texts = [record.id, *record.attributes.values()]
    elif isinstance(record, Impression):
        texts = [record.id, record.user, *record.context.values(), *(one.item for one in record.candidates)]
    elif isinstance(record, Feedback):
        texts = [record.id, record.impression_id, record.item, record.action]
    return sum(bool(line.strip()) for text in texts if isinstance(text, str) for line in text.split("\n")[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"), [("text", _text), ("lines", _json_lines), ("parquet", _parquet), ("bytes", _text)]
)
def test_a_damaged_table_is_imported_whole_or_refused_in_one_sentence(
    name: str,
    form: Callable[[random.Random, Cells], tuple[bytes, str, str]],
    world: tuple[Log, Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _, source = world
    codes: Counter[int] = Counter()
    for seed in range(EACH):
        rng = random.Random(f"{name}-{seed}")
        kind = rng.choice(list(HEADS))
        table = _good(rng, kind)
        for _ in range(rng.randrange(3)):
            _spoil_cells(rng, table)
        data, encoding, ending = form(rng, table)
        if name == "bytes" or rng.random() < 0.2:
            for _ in range(rng.randrange(1, 4)):
                data = _spoil_bytes(rng, data)
        path = tmp_path / f"{name}-{seed}.{ending}"
        path.write_bytes(data)
        capsys.readouterr()
        code = main(["import", path.name, "--kind", kind, "--again"])
        out, errors = capsys.readouterr()
        added = _added(source)
        where = f"{name}-{seed}: {errors}"
        codes[code] += 1
        assert code in (0, 2, 3), where
        assert "Traceback" not in errors, where
        assert "should have explained" not in errors, where
        if code:
            assert out == "", where
            assert errors.startswith("error: "), where
            assert errors.count("\n") == 1, where
            assert path.name in errors, where
            assert len(errors) < 1200, where
            assert added == [], where
            continue
        assert out.splitlines()[0] == (f"{len(added)} {kind}" if added else "the table is empty"), where
        if encoding:
            text = data.decode(encoding, "replace")
            lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
            header = 0 if ending.lower() in ("jsonl", "ndjson") or not lines else 1
            assert len(lines) == header + len(added) + sum(map(_line_ends, added)), where
        else:
            assert len(added) == parquet.read_metadata(path).num_rows, where
    assert min(codes[0], codes[2] + codes[3]) > EACH / 10, codes  # both sides are tried
