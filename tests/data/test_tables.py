"""Tables: the same rows from CSV, JSONL and Parquet, and one clear sentence for whatever is wrong in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pyarrow import parquet
from support.tries import tries

from recdistill.data.mapping import TableMapping
from recdistill.data.tables import import_table
from recdistill.errors import ConfigError, DataError, RecdistillError
from recdistill.records import Candidate, Event, Feedback, Impression, Item, Ranking, Record, to_json

ITEMS = """
kind = "items"
[columns]
id = "movie_id"
time = { column = "added", unit = "iso" }
[attributes]
title = "name"
genres = { column = "class", type = "texts" }
year = { column = "released", type = "number" }
seen = { column = "seen", type = "flag" }
"""
ITEM_ROWS: list[dict[str, Any]] = [
    {"movie_id": "1", "name": "Zoë, the \"first\"", "class": ["drama", "war"], "released": 1994, "seen": True,
     "added": "2026-01-01T00:00:01Z", "other": "ignored"},
    {"movie_id": "2", "name": "B", "class": [], "released": None, "seen": False, "added": "1970-01-02", "other": ""},
]  # fmt: skip
WANTED = [
    Item(
        "1",
        attributes={"title": 'Zoë, the "first"', "genres": ["drama", "war"], "year": 1994.0, "seen": True},
        time_us=1_767_225_601_000_000,
    ),
    Item("2", attributes={"title": "B", "genres": [], "seen": False}, time_us=86_400_000_000),
]


def mapping(folder: Path, text: str) -> TableMapping:
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return TableMapping.load(path)


def csv_text(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    def cell(value: Any) -> str:
        text = "" if value is None else "|".join(map(str, value)) if isinstance(value, list) else str(value)
        return '"' + text.replace('"', '""') + '"'

    lines = [delimiter.join(map(cell, rows[0]))] + [delimiter.join(map(cell, row.values())) for row in rows]
    return "\r\n".join(lines) + "\r\n"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        path.write_text(csv_text(rows, "\t" if path.suffix == ".tsv" else ","), encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_the_same_rows_in_every_format(tmp_path: Path, ending: str) -> None:
    got = list(import_table(write(tmp_path / f"t.{ending}", ITEM_ROWS), None, mapping(tmp_path, ITEMS)))
    wanted = WANTED
    if ending in ("csv", "tsv"):  # an empty cell says nothing, an empty list does
        wanted = [WANTED[0], Item("2", attributes={"title": "B", "seen": False}, time_us=86_400_000_000)]
    assert got == wanted


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_impressions_with_lists_beside_each_other(tmp_path: Path, ending: str) -> None:
    rows = [
        {"request": 7, "at": 5000, "who": "u", "past": ["a", "b"], "past_at": [1000, 2000], "offered": ["x", "y"],
         "score": [0.5, -1.0], "blocked": ["z"], "device": "tv"}
    ]  # fmt: skip
    text = """
    [columns]
    id = "request"
    user = "who"
    history = "past"
    history_times = { column = "past_at", unit = "ms" }
    time = { column = "at", unit = "ms" }
    candidates = "offered"
    logged_scores = "score"
    exclude = "blocked"
    [context]
    device = "device"
    """
    path = write(tmp_path / f"t.{ending}", rows)
    assert list(import_table(path, "impressions", mapping(tmp_path, text))) == [
        Impression(
            "7",
            5_000_000,
            "u",
            (Event("a", 1_000_000), Event("b", 2_000_000)),
            {"device": "tv"},
            (Candidate("x", 0.5), Candidate("y", -1.0)),
            ("z",),
        )
    ]


def test_feedback_gets_an_id_of_its_own_when_it_has_none(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("impression_id,item,time\nr,a,3\nr,b,4\n")
    rows = list(import_table(path, "feedback", TableMapping(constants={"action": "buy", "value": 2.5})))
    assert rows == [
        Feedback("r/a/buy/3000000", "r", "a", "buy", 2.5, 3_000_000),
        Feedback("r/b/buy/4000000", "r", "b", "buy", 2.5, 4_000_000),
    ]


def test_without_a_mapping(tmp_path: Path) -> None:
    """Columns by the names of fields; a JSONL row is the record itself, of any kind."""
    table = tmp_path / "t.csv"
    table.write_text("\ufeffid,version,withdrawn,attributes.colour,extra\na,3,true,red,1\n", encoding="utf-8")
    assert list(import_table(table, "items")) == [Item("a", 3, True, {"colour": "red"})]
    table.write_text("id,version\na,2026-01-01T02:00:01+02:00\n")  # the time of a change is its version
    assert list(import_table(table, "items")) == [Item("a", 1_767_225_601_000_000)]
    ranking = Ranking(Impression("r", 5, candidates=(Candidate("a"),)), "t", "1", "logit", (0.5,), (True,))
    lines = tmp_path / "t.jsonl"
    lines.write_bytes(to_json(ranking) + b"\n")
    assert list(import_table(lines, "rankings")) == [ranking]


@pytest.mark.parametrize(
    ("cell", "unit", "time_us"),
    [
        ("1.5", "s", 1_500_000),
        ("1767225601123456", "us", 1_767_225_601_123_456),
        ("1767225601123", "ms", 1_767_225_601_123_000),
        ("2026-01-01T02:00:01+02:00", "iso", 1_767_225_601_000_000),
        ("2026-01-01 00:00:01.000001", "iso", 1_767_225_601_000_001),
    ],
)
def test_times(tmp_path: Path, cell: str, unit: str, time_us: int) -> None:
    (tmp_path / "t.csv").write_text(f"id,ts\na,{cell}\n")
    text = f'[columns]\ntime = {{ column = "ts", unit = "{unit}" }}'
    assert [one.time_us for one in import_table(tmp_path / "t.csv", "items", mapping(tmp_path, text))] == [time_us]


def test_parquet_times_and_ids_keep_their_meaning(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 1, 0, 0, 1, 5, tzinfo=UTC)
    write(tmp_path / "t.parquet", [{"id": 12.0, "time": moment}, {"id": 13.0, "time": None}])
    assert list(import_table(tmp_path / "t.parquet", "items")) == [
        Item("12", time_us=1_767_225_601_000_005),
        Item("13"),
    ]


WRONG_TABLES = [
    # name, text, kind, sentence
    ("t.csv", "", "items", ""),  # an empty table holds no rows, and that is no error
    ("t.csv", "name\nx\n", "items", "t.csv: has no column 'id', which items need"),
    ("t.csv", "id,id\nx,y\n", "items", "t.csv, line 1: the header names column 'id' twice"),
    ("t.csv", "id,version\na\n", "items", "t.csv, line 2: has 1 cells where the header has 2"),
    (
        "t.csv",
        "id,version\na,1\n\nb,two\n",
        "items",
        "t.csv, line 4, column 'version': must be a finite number, not 'two'",
    ),
    ("t.csv", "id,version\na,1.5\n", "items", "column 'version': must be a whole number from 0 on, not 1.5"),
    ("t.csv", "id,version\na,-1\n", "items", "column 'version': must be a whole number from 0 on, not -1"),
    ("t.csv", "id,version\na,inf\n", "items", "column 'version': must be a finite number"),
    ("t.csv", "id,withdrawn\na,maybe\n", "items", "column 'withdrawn': must be true or false, not 'maybe'"),
    ("t.csv", 'id\n""\n', "items", "t.csv, line 2, column 'id': is empty"),
    ("t.csv", f"id\n{'x' * 600}\n", "items", "t.csv, line 2: id has 600 characters"),
    ("t.csv", 'id,name\n"a","b"\n"c,d\n', "items", "t.csv, line 3: a quote is not closed before the end of the table"),
    ("t.csv", "id,time\na,yesterday\n", "items", "must be a time in s since 1970, not 'yesterday'"),
    (
        "t.csv",
        "id,time\na,17672256011\nb,17672256012\nc,1767225601123456\n",
        "items",
        "line 4, column 'time': '1767225601123456' in s since 1970 is no time before the year 10000; set its unit",
    ),
    (
        "t.csv",
        "id,time\na,-5\n",
        "items",
        "t.csv, line 2, column 'time': '-5' is before 1970, and no record can be older",
    ),
    ("t.csv", "impression_id,item,action,time\nr,,click,1\n", "feedback", "line 2, column 'item': is empty"),
    ("t.csv", "impression_id,item,time\nr,a,1\n", "feedback", "has no column 'action', which feedback need"),
    ("t.csv", "impression_id,item,action,time,value\nr,a,c,1,1e99\n", "feedback", "line 2: value"),
    ("t.csv", "id,time,candidates,logged_scores\nr,1,a|b,1\n", "impressions", "has 1 values for 2 candidates"),
    ("t.csv", "id,time,candidates,history,history_times\nr,1,a,h,1|2\n", "impressions", "has 2 values for 1 history"),
    ("t.csv", "id,time,candidates\nr,1,a|a\n", "impressions", "candidates hold 'a' twice"),
    ("t.csv", "id,time,candidates,exclude\nr,1,a,a\n", "impressions", "'a' is both in exclude and in candidates"),
    ("t.csv", "id,time,candidates,history,history_times\nr,1,a,h,9\n", "impressions", "later than its request"),
    ("t.csv", "id,time,candidates,propensities\nr,1,a,1.5\n", "impressions", "is 1.5, not above 0 and at most 1"),
    ("t.csv", "id\na\n", "itmes", "'itmes' is no kind of record; did you mean 'items'?"),
    ("t.csv", "id\na\n", None, "which kind are its rows? Name one of items"),
    ("t.csv", "id\na\n", "rankings", "rankings can be imported from JSONL without a mapping only"),
    ("t.csv", "user\na\n", "interactions", "interactions are no records yet"),
    ("t.jsonl", '{"id": "a"}\n[1]\n', "items", "t.jsonl, line 2: must be an object"),
    ("t.jsonl", '{"id": "a"}\n{"id": \n', "items", "t.jsonl, line 2: is not JSON"),
    (
        "t.jsonl",
        '{"id": "a", "colour": 1}\n',
        "items",
        "t.jsonl, line 1: not an item: Object contains unknown field `colour`",
    ),
    ("t.jsonl", '{"id": 7}\n', "items", "t.jsonl, line 1: not an item: Expected `str`, got `int`"),
    ("t.parquet", "PAR1 nonsense", "items", "t.parquet, after row 0: is not Parquet"),
    ("t.xls", "PK\x03\x04nonsense", "items", "t.xls: is a zip archive or an Excel file; convert it to CSV"),
    ("t.json", '[\n{"id": "a"}\n]\n', "items", "t.json: is one JSON list; write one object a line"),
    ("t.csv", "id\n\xff\xfe\xfd\n", "items", "is no text in an encoding that can be guessed; set encoding"),
]


@pytest.mark.parametrize(("name", "text", "kind", "sentence"), WRONG_TABLES)
def test_wrong_tables_get_one_sentence(tmp_path: Path, name: str, text: str, kind: str | None, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1" if "\xff" in text else "utf-8"))
    if not sentence:
        assert list(import_table(path, kind)) == []
        return
    with pytest.raises(RecdistillError) as caught:
        list(import_table(path, kind))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


WRONG_MAPPINGS = [
    ("nonsense", "is not TOML"),
    ('kind = "item"', "kind: invalid enum value 'item'; one of"),
    ("colums = {}", "unknown key 'colums'; did you mean 'columns'?"),
    ('delimiter = "\\n"', "delimiter: must be one or more characters, without quotes and line ends"),
    ('encoding = "utf-9"', "encoding: 'utf-9' is no encoding of text that Python knows"),
    ('header = ["a", "a"]', "header: must name each column once"),
    ('quote = "x"', "quote: invalid enum value 'x'"),
    ('list_separator = ""', "list_separator: must not be empty"),
    ('kind = "feedback"', "is imported as items, but its mapping is for feedback"),
    ('[columns]\nidd = "name"', "items have no field 'idd'; did you mean 'id'?"),
    ('[columns]\nid = "nam"', "columns.id: the table has no column 'nam'; did you mean 'name'?"),
    ('[columns]\nid = "name"\n[constants]\nid = "x"', "id has both a column and a constant"),
    ('[columns]\nid = { column = "name", type = "text" }', "columns.id.type: the field's type is known"),
    (
        '[columns]\nid = { column = "name", unit = "h" }',
        "columns.id.unit: must be s, ms, us, ns, iso or a form such as",
    ),
    ('[columns]\nid = "name"\n[context]\nhour = "name"', "items have no [context]"),
    ('[columns]\nid = "name"\n[attributes]\nyear = "yr"', "attributes.year: the table has no column 'yr'"),
    (
        '[columns]\nid = "name"\n[attributes]\nn = { column = "name", type = "number" }',
        "column 'name' (attributes.n): must be",
    ),
    (
        '[columns]\nid = "name"\n[constants]\nversion = "x"',
        "line 2, constant 'version': must be a finite number, not 'x'",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG_MAPPINGS)
def test_wrong_mappings_get_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "t.csv").write_text("name,other\na,1\n")
    (tmp_path / "mapping.toml").write_text(text)
    with pytest.raises(RecdistillError) as caught:
        list(import_table(tmp_path / "t.csv", "items", tmp_path / "mapping.toml"))
    assert sentence in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list(import_table(tmp_path / "no.csv", "items"))
    with pytest.raises(ConfigError, match=r"no.toml: cannot be read"):
        list(import_table(tmp_path / "no.csv", "items", tmp_path / "no.toml"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        list(import_table(tmp_path / "folder.csv", "items"))


def _try(path: Path, kind: str) -> tuple[list[Record], str]:
    """The records, or none and the sentence of the one kind of error there may be."""
    try:
        return list(import_table(path, kind)), ""
    except RecdistillError as problem:
        return [], str(problem)


_CELLS = st.one_of(
    st.text(max_size=12), st.integers().map(str), st.floats().map(str), st.sampled_from(["", "a|b", "1|x"])
)


@tries(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(_CELLS, _CELLS, _CELLS, _CELLS, _CELLS), min_size=1, max_size=4))
def test_any_cells_give_records_or_one_sentence(tmp_path: Path, rows: list[tuple[str, ...]]) -> None:
    path = tmp_path / "t.csv"
    names = ("id", "time", "candidates", "history", "logged_scores")
    path.write_bytes(csv_text([dict(zip(names, row, strict=True)) for row in rows]).encode("utf-8", "surrogatepass"))
    got, sentence = _try(path, "impressions")
    assert len(got) == len(rows) or "t.csv" in sentence
    assert "\n" not in sentence


@tries(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), ending=st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
def test_any_bytes_give_records_or_one_sentence(tmp_path: Path, data: bytes, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    path.write_bytes(data)
    _, sentence = _try(path, "items")
    assert "\n" not in sentence


def test_rows_are_read_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,version\na,1\nb,wrong\n")
    rows = import_table(path, "items")
    assert next(rows) == Item("a", 1)
    with pytest.raises(DataError, match="line 3"):
        next(rows)
