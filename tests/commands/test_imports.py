"""`recdistill import` through the command line: tables as people have them, imports that are stopped or repeated."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from recdistill.cli import main
from recdistill.commands import datasets, imports
from recdistill.commands.verb import Bar
from recdistill.config import LogSettings
from recdistill.loops import feed
from recdistill.records import codec
from recdistill.stream import Outgoing, TopicPartition, open_log, standard_topics

ROOT = Path(__file__).resolve().parents[2]
EVENTS = {"Impression": "impressions", "Feedback": "feedback"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RECDISTILL")]:
        monkeypatch.delenv(name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs one command line. Returns exit code, stdout and stderr."""

    def call(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(argv))
        out, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return code, out, errors

    assert call("topics", "create")[0] == 0
    return call


Run = Callable[..., tuple[int, str, str]]


def records(run: Run, topic: str) -> list[dict[str, Any]]:
    code, out, _ = run("inspect", topic, "--json", "-n", "100000")
    assert code == 0
    return [json.loads(line)["record"] for line in out.splitlines()]


# Quotes


def test_a_quote_that_is_not_closed_swallows_no_row(run: Run) -> None:
    Path("t.tsv").write_text('id\tattributes.title\n1\t"A\n2\t"...B"\n3\tC\n')
    code, out, errors = run("import", "t.tsv", "--kind", "items")
    assert (code, out) == (0, "3 items\n")
    assert errors == "t.tsv: delimiter a tab, UTF-8, quotes are letters as any other\n"
    assert [(one["id"], one["attributes"]["title"]) for one in records(run, "items")] == [
        ("1", '"A'), ("2", '"...B"'), ("3", "C")
    ]  # fmt: skip


def test_a_title_that_begins_with_a_quote(run: Run) -> None:
    Path("t.tsv").write_text('id\tattributes.title\n1\t"Great Performances" Cats\n2\tB\n')
    assert run("import", "t.tsv", "--kind", "items")[:2] == (0, "2 items\n")
    assert records(run, "items")[0]["attributes"] == {"title": '"Great Performances" Cats'}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('id,attributes.t\n"1","a"\n"2","b\n"3","c"\n', "line 3: a quote is not closed, and line 4 looks like a row"),
        ('id,attributes.t\n"1","a"\n"2","b"x\n', "t.csv, line 3: after the end of a quoted cell comes 'x'"),
        ('id,attributes.t\n"1","a"\n"2","b\n', "t.csv, line 3: a quote is not closed before the end of the table"),
    ],
)  # fmt: skip
def test_a_broken_quote_in_a_quoted_table_is_refused(run: Run, text: str, sentence: str) -> None:
    Path("t.csv").write_text(text)
    code, out, errors = run("import", "t.csv", "--kind", "items")
    assert (code, out) == (3, "")
    assert sentence in errors
    assert records(run, "items") == []


def test_quotes_are_a_setting(run: Run) -> None:
    Path("t.csv").write_text("id,text\n1,'a, b'\n2,'c\n2,d'\n")
    Path("map.toml").write_text('kind = "items"\nquote = "\'"\nmultiline = true\n[attributes]\ntext = "text"\n')
    code, _, errors = run("import", "t.csv", "--mapping", "map.toml")
    assert (code, errors) == (0, "t.csv: delimiter ',', UTF-8, quotes ', cells may hold line ends\n")
    assert [one["attributes"]["text"] for one in records(run, "items")] == ["a, b", "c\n2,d"]


# Delimiters, endings, encodings


@pytest.mark.parametrize("delimiter", [";", "\t", "::", "|"])
def test_other_delimiters_in_a_csv(run: Run, delimiter: str) -> None:
    Path("t.csv").write_text("id,attributes.a,attributes.b\n1,x,y\n2,z,w\n".replace(",", delimiter))
    assert run("import", "t.csv", "--kind", "items")[:2] == (0, "2 items\n")
    assert records(run, "items")[1]["attributes"] == {"a": "z", "b": "w"}


def test_a_wrong_delimiter_says_so(run: Run) -> None:
    Path("t.csv").write_text("user_id item_id time\n1 2 3\n")
    Path("map.toml").write_text('kind = "feedback"\ndelimiter = ","\n[columns]\nitem = "item_id"\n')
    code, _, errors = run("import", "t.csv", "--mapping", "map.toml")
    assert code == 2
    assert "it has one column only, 'user_id item_id time'; set delimiter in the mapping" in errors


def test_movielens_as_it_was_published(run: Run) -> None:
    Path("movies.dat").write_bytes('1::Cité, La (1995)::Drama|War\n2::"Heat" (1995)::Action\n'.encode("latin-1"))
    Path("map.toml").write_text(
        'kind = "items"\n[columns]\nid = "1"\n[attributes]\ntitle = "2"\ngenres = { column = "3", type = "texts" }\n'
    )
    assert run("import", "movies.dat", "--mapping", "map.toml")[:2] == (0, "2 items\n")
    assert [one["attributes"] for one in records(run, "items")] == [
        {"title": "Cité, La (1995)", "genres": ["Drama", "War"]},
        {"title": '"Heat" (1995)', "genres": ["Action"]},
    ]


def test_recboles_columns_have_types(run: Run) -> None:
    Path("ml.item").write_text("item_id:token\tyear:float\tclass:token_seq\n1\t1995\tAction War\n2\t\tDrama\n")
    Path("map.toml").write_text(
        'kind = "items"\n[columns]\nid = "item_id:token"\n[attributes]\nyear = { column = "year", type = "number" }\n'
        'genres = { column = "class", type = "texts" }\n'
    )
    assert run("import", "ml.item", "--mapping", "map.toml")[:2] == (0, "2 items\n")
    assert [one["attributes"] for one in records(run, "items")] == [
        {"year": 1995.0, "genres": ["Action", "War"]}, {"genres": ["Drama"]}
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["x.JSONL", "x.jsonl.gz", "x.NDJSON", "x.txt"])
def test_json_lines_by_any_name(run: Run, name: str) -> None:
    data = b'{"id": "a", "attributes": {"colour": "red"}}\n'
    Path(name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert run("import", name, "--kind", "items")[:2] == (0, "1 items\n")
    assert records(run, "items")[0]["attributes"] == {"colour": "red"}


def test_utf16_and_bytes_that_are_no_text(run: Run) -> None:
    Path("t.csv").write_bytes("id,attributes.t\na,Zoë\n".encode("utf-16"))
    assert run("import", "t.csv", "--kind", "items")[:2] == (0, "1 items\n")
    assert records(run, "items")[0]["attributes"] == {"t": "Zoë"}
    Path("b.csv").write_bytes("id,attributes.t\nа,Зоя и Яна\n".encode("cp1251"))
    code, _, errors = run("import", "b.csv", "--kind", "items")
    assert code == 3
    assert "b.csv: is no text in an encoding that can be guessed; set encoding in the mapping (such as cp1251" in errors
    Path("map.toml").write_text('kind = "items"\nencoding = "cp1251"\n')
    assert run("import", "b.csv", "--mapping", "map.toml")[:2] == (0, "1 items\n")
    assert records(run, "items")[1]["attributes"] == {"t": "Зоя и Яна"}


def test_blanks_around_cells_are_the_same_everywhere(run: Run) -> None:
    Path("lists.csv").write_text("id, time, candidates\nr1, 5, a | b\n")
    Path("clicks.csv").write_text("impression_id, item, action, time\nr1, b, click, 6\n r1 ,a , buy,7\n")
    parquet.write_table(pa.table({"id": ["a ", " b"]}), "items.parquet")
    assert run("import", "lists.csv", "--kind", "impressions")[0] == 0
    assert run("import", "clicks.csv", "--kind", "feedback")[0] == 0
    assert run("import", "items.parquet", "--kind", "items")[0] == 0
    shown = [one["item"] for one in records(run, "impressions")[0]["candidates"]]
    clicks = records(run, "feedback")
    assert shown == [one["id"] for one in records(run, "items")] == ["a", "b"]
    assert [(one["impression_id"], one["item"], one["action"]) for one in clicks] == [
        ("r1", "b", "click"), ("r1", "a", "buy")
    ]  # fmt: skip


def test_a_cell_of_a_million_characters(run: Run) -> None:
    names = [f"item-{n:07}" for n in range(20_000)]
    Path("t.csv").write_text("id,time,candidates\nr1,5," + "|".join(names) + "\n")
    code, out, _ = run("import", "t.csv", "--kind", "impressions", "--check")
    assert (code, "1 rows are right" in out, "1 lists of 20,000.0 items" in out) == (0, True, True)


# Values


def test_one_candidate_may_have_no_score(run: Run) -> None:
    head = "id,time,candidates,logged_scores,propensities,history,history_actions,history_times\n"
    Path("t.csv").write_text(
        head + "r1,9,a|b|c,1.5||0.5,.5|nan|1,x|y,|buy,|5\n" + "r2,9,a|b|c,1.5|NA|0.5,,,,\n" + "r3,9,a|b,|,,,,\n"
    )
    assert run("import", "t.csv", "--kind", "impressions")[:2] == (0, "3 impressions\n")
    one, two, three = records(run, "impressions")
    assert [c.get("logged_score") for c in one["candidates"]] == [1.5, None, 0.5]
    assert [c.get("propensity") for c in one["candidates"]] == [0.5, None, 1.0]
    assert [(e["item"], e["action"], e["time_us"]) for e in one["history"]] == [("x", "", 0), ("y", "buy", 5_000_000)]
    assert [c.get("logged_score") for c in two["candidates"]] == [1.5, None, 0.5]
    assert [c.get("logged_score") for c in three["candidates"]] == [None, None]
    parquet.write_table(
        pa.table({"id": ["p"], "time": [9], "candidates": [["a", "b"]], "logged_scores": [[None, 2.0]]}), "t.parquet"
    )
    assert run("import", "t.parquet", "--kind", "impressions")[:2] == (0, "1 impressions\n")
    assert [c.get("logged_score") for c in records(run, "impressions")[3]["candidates"]] == [None, 2.0]


def test_what_says_nothing_is_a_setting(run: Run) -> None:
    Path("t.csv").write_text("id,version,attributes.brand\nNA,NA,NA\nb,-,-\n")
    code, _, errors = run("import", "t.csv", "--kind", "items")
    assert (code, "line 3, column 'version': must be a finite number, not '-'" in errors) == (3, True)
    Path("map.toml").write_text('kind = "items"\nmissing = ["-"]\n[constants]\nversion = 1\n')
    assert run("import", "t.csv", "--mapping", "map.toml")[:2] == (0, "2 items\n")
    assert [(one["id"], one.get("attributes")) for one in records(run, "items")] == [
        ("NA", {"brand": "NA"}), ("b", {})
    ]  # fmt: skip


FEATURES = """
[item.price]
kind = "number"
[item.code]
kind = "text"
[context.age]
kind = "number"
"""


def test_numbers_as_the_features_say(run: Run) -> None:
    Path("features.toml").write_text(FEATURES)
    Path("t.csv").write_text("id,attributes.price,attributes.code,attributes.zip\na,3.50,7,01234\nb,nan,8,9\n")
    Path("t.jsonl").write_text('{"id": "c", "attributes": {"price": "4", "code": 5}}\n')
    Path("l.csv").write_text("id,time,candidates,context.age\nr,1,a|b,40\n")
    assert run("import", "t.csv", "--kind", "items")[0] == 0
    assert run("import", "t.jsonl", "--kind", "items")[0] == 0
    assert run("import", "l.csv", "--kind", "impressions")[0] == 0
    assert [one["attributes"] for one in records(run, "items")] == [
        {"price": 3.5, "code": "7", "zip": "01234"}, {"code": "8", "zip": "9"}, {"price": 4.0, "code": "5"}
    ]  # fmt: skip
    assert records(run, "impressions")[0]["context"] == {"age": 40.0}
    Path("bad.csv").write_text("id,attributes.price\na,3.50\nb,cheap\n")
    code, _, errors = run("import", "bad.csv", "--kind", "items")
    assert code == 3
    assert "bad.csv, line 3: attributes.price: is 'cheap', but the feature specification says a number" in errors


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("1969-12-31", "'1969-12-31' is before 1970, and no record can be older; leave this row out"),
        ("-86400", "'-86400' is before 1970, and no record can be older; leave this row out"),
        ("-86400.5", "'-86400.5' is before 1970"),
    ],
)
def test_times_before_1970(run: Run, cell: str, sentence: str) -> None:
    Path("t.tsv").write_text(f"id\ttime\na\t{cell}\n")
    code, _, errors = run("import", "t.tsv", "--kind", "items")
    assert code == 3
    assert sentence in errors
    assert "CSV" not in errors


def _parquet_types() -> list[tuple[str, Any]]:
    import datetime as dt
    import decimal

    return [
        ("dates", pa.array([dt.date(2020, 1, 2)])),
        ("nanoseconds", pa.array([1_577_836_800_123_456_789], pa.timestamp("ns", "UTC"))),
        ("a zone", pa.array([1_577_836_800], pa.timestamp("s", "Europe/Berlin"))),
        ("a wrong zone", pa.array([1_577_836_800], pa.timestamp("s", "Mars/Olympus"))),
        ("far away", pa.array([2**55], pa.timestamp("ms"))),
        ("durations", pa.array([dt.timedelta(1)])),
        ("times of day", pa.array([dt.time(1, 2)])),
        ("bytes", pa.array([b"a\xff"])),
        ("decimals", pa.array([decimal.Decimal("1.5")])),
        ("half floats", pa.array([1.5], pa.float16())),
        ("dictionaries", pa.array(["x"]).dictionary_encode()),
        ("structs", pa.array([{"a": 1}])),
        ("maps", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))),
        ("nulls", pa.nulls(1)),
        ("lists of lists", pa.array([[[1]]])),
        ("large numbers", pa.array([2**63], pa.uint64())),
        ("infinite", pa.array([float("inf")])),
    ]


@pytest.mark.many
@pytest.mark.parametrize(
    ("name", "column"), _parquet_types(), ids=lambda value: value if isinstance(value, str) else ""
)
@pytest.mark.parametrize("field", ["id", "time", "attributes.x"])
def test_every_type_of_parquet_is_a_record_or_one_sentence(run: Run, name: str, column: Any, field: str) -> None:
    table = {"id": ["a"], field: column}
    parquet.write_table(pa.table(table), "t.parquet")
    code, out, errors = run("import", "t.parquet", "--kind", "items")
    assert "should have explained" not in errors
    if code:
        assert code == 3
        assert errors.startswith("error: t.parquet, ")
        assert errors.count("\n") == 1
    else:
        assert out == "1 items\n"


def test_inspect_in_a_terminal_that_is_not_utf8(run: Run) -> None:
    Path("t.csv").write_text("id,attributes.t\na,Зоя\n")
    assert run("import", "t.csv", "--kind", "items")[0] == 0
    done = subprocess.run(
        [sys.executable, "-m", "recdistill", "inspect", "items"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u0417\u043e\u044f" in done.stdout


# Whole, once, and resumable


def _items(count: int, start: int = 0) -> str:
    return "id,attributes.n\n" + "".join(f"i{n},{n}\n" for n in range(start, start + count))


@pytest.mark.slow
def test_the_same_records_are_written_once(run: Run) -> None:
    Path("t.csv").write_text(_items(5000))
    Path("same.jsonl").write_text(
        "".join(json.dumps({"id": f"i{n}", "attributes": {"n": str(n)}}) + "\n" for n in range(5000))
    )
    assert run("import", "t.csv", "--kind", "items", "--quiet") == (0, "5,000 items\n", "")
    for name in ("t.csv", "same.jsonl"):
        assert run("import", name, "--kind", "items", "--quiet")[:2] == (
            0,
            "nothing was written: all 5,000 records are in the log already; --again writes them once more\n",
        )
    assert len(records(run, "items")) == 5000
    assert run("import", "t.csv", "--kind", "items", "--again", "--quiet")[:2] == (0, "5,000 items\n")
    assert len(records(run, "items")) == 10_000


class _Signalling(Bar):
    """A bar that does something when a part of the work is done."""

    at: tuple[str, Callable[[], None]]

    def __init__(self, title: str, args: Any) -> None:
        super().__init__(title, args)
        self._work = title

    def __call__(self, done: int, total: int | None) -> None:
        work, act = self.at
        if self._work == work:
            act()


def _when(monkeypatch: pytest.MonkeyPatch, work: str, act: Callable[[], None]) -> None:
    """Calls `act` each time the import tells of progress in a part of its work."""
    for module in (imports, datasets):
        monkeypatch.setattr(module, "Bar", type("Bar", (_Signalling,), {"at": (work, act)}))


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_sigterm_ends_with_a_code_and_the_same_command_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("t.csv").write_text(_items(7000))
    with monkeypatch.context() as patch:
        _when(patch, "check", _end)
        code, out, errors = run("import", "t.csv", "--kind", "items")
        assert (code, out) == (130, "")
        assert errors == "error: stopped while the records were checked; nothing was written\n"
        assert records(run, "items") == []
        _when(patch, "write", _end)
        for done in (2000, 4000, 6000):
            code, out, errors = run("import", "t.csv", "--kind", "items", "--quiet")
            assert (code, out) == (130, "")
            assert errors == (
                f"error: stopped: {done:,} of 7,000 records are in the log; the same command writes the rest\n"
            )
    assert run("import", "t.csv", "--kind", "items")[:2] == (0, "1,000 items (6,000 records were there already)\n")
    assert [one["id"] for one in records(run, "items")] == [f"i{n}" for n in range(7000)]


@pytest.mark.slow
def test_an_import_that_died_anywhere_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each commit, and just before each: the same records in the same order, none twice."""
    Path("t.csv").write_text(_items(7000))

    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    with monkeypatch.context() as patch:
        _when(patch, "write", die)  # after a commit
        with pytest.raises(Died):
            main(["import", "t.csv", "--kind", "items"])
    sent = 0

    def die_in_the_transaction(*told: Any, **named: Any) -> Outgoing:
        nonlocal sent
        sent += 1
        if sent == 1500:
            raise Died
        return Outgoing(*told, **named)

    with monkeypatch.context() as patch:
        patch.setattr(feed, "Outgoing", die_in_the_transaction)
        with pytest.raises(Died):
            main(["import", "t.csv", "--kind", "items"])
    assert len(records(run, "items")) == 2000
    assert run("import", "t.csv", "--kind", "items")[:2] == (0, "5,000 items (2,000 records were there already)\n")
    assert [one["id"] for one in records(run, "items")] == [f"i{n}" for n in range(7000)]


@pytest.mark.slow
def test_imports_of_other_tables_do_not_fence_each_other(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.csv").write_text(_items(5000))
    Path("b.csv").write_text(_items(3000, 5000))
    Path("c.csv").write_text(
        "impression_id,item,action,time\n" + "".join(f"r{n},i{n},click,{n}\n" for n in range(3000))
    )
    inner: list[int] = []

    def others() -> None:
        if not inner:
            inner.append(1)
            inner.append(main(["import", "b.csv", "--kind", "items"]))
            inner.append(main(["import", "c.csv", "--kind", "feedback"]))

    with monkeypatch.context() as patch:
        _when(patch, "write", others)
        assert run("import", "a.csv", "--kind", "items")[0] == 0
    assert inner == [1, 0, 0]
    assert sorted(int(one["id"][1:]) for one in records(run, "items")) == list(range(8000))
    assert len(records(run, "feedback")) == 3000


@pytest.mark.slow
def test_two_imports_of_the_same_table_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer one takes over, and writes what the older one had not written."""
    Path("a.csv").write_text(_items(5000))
    inner: list[int] = []

    def the_same() -> None:
        if not inner:
            inner.append(1)
            inner.append(main(["import", "a.csv", "--kind", "items"]))

    with monkeypatch.context() as patch:
        _when(patch, "write", the_same)
        code, _, errors = run("import", "a.csv", "--kind", "items", "--quiet")
    assert (code, inner) == (4, [1, 0])
    assert "a newer process has taken over" in errors
    assert [one["id"] for one in records(run, "items")] == [f"i{n}" for n in range(5000)]


def test_a_table_that_changes_while_it_is_imported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("t.csv").write_text(_items(5000))
    real = feed.feed_once

    def changed(*args: Any, **named: Any) -> Any:
        with Path("t.csv").open("a") as file:
            file.write("late,1\n")
        return real(*args, **named)

    monkeypatch.setattr(feed, "feed_once", changed)
    # What was checked is written, and nothing else. The changed file is another table.
    assert run("import", "t.csv", "--kind", "items")[:2] == (0, "5,000 items\n")
    assert [one["id"] for one in records(run, "items")] == [f"i{n}" for n in range(5000)]


def test_each_record_is_encoded_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    write = codec.write

    def counted(record: Any) -> bytes:
        seen[type(record).__name__] += 1
        return write(record)

    monkeypatch.setattr(codec, "write", counted)
    Path("items.csv").write_text(_items(50))
    Path("lists.csv").write_text("id,time,candidates\n" + "".join(f"r{n},{2000 - n},i1|i2\n" for n in range(40)))
    rows = [(f"u{n % 4}", f"i{n * 7 % 53}", 1_000_000 + n) for n in range(300)]
    Path("log.csv").write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    assert run("import", "items.csv", "--kind", "items")[0] == 0
    assert dict(seen) == {"Item": 50}
    assert run("import", "lists.csv", "--kind", "impressions")[0] == 0
    assert dict(seen) == {"Item": 50, "Impression": 40}
    seen.clear()
    assert run("import", "log.csv", "--kind", "interactions")[0] == 0
    written = Counter({"Item": 53 - 50, **{kind: len(records(run, topic)) for kind, topic in EVENTS.items()}})
    written["Impression"] -= 40
    assert seen == written


@pytest.mark.slow
def test_a_table_of_too_many_columns_is_refused_at_once(run: Run) -> None:
    wide = [f"c{n}" for n in range(200_000)]
    Path("t.csv").write_text("id," + ",".join(wide) + "\n" + "1," * 200_000 + "1\n")
    Path("t.jsonl").write_text(json.dumps({"id": "a", **dict.fromkeys(wide, 1)}) + "\n")
    parquet.write_table(pa.table({name: [1] for name in wide[:5000]}), "t.parquet")
    Path("map.toml").write_text('kind = "items"\n[columns]\nid = "c1"\n')
    for name, columns in (("t.csv", "200,001"), ("t.jsonl", "200,001"), ("t.parquet", "5,000")):
        began = time.process_time()
        code, _, errors = run("import", name, "--mapping", "map.toml")
        assert code == 3
        assert errors == (
            f"error: {name}: has {columns} columns, more than 4,096; a table has one row for each item, list or event: "
            "turn it, or set delimiter and quote in the mapping\n"
        )
        assert time.process_time() - began < 10
    assert run("init", "t.csv")[0] == 3


def test_a_table_that_is_not_there(run: Run) -> None:
    Path("events.csv").write_text("")
    code, _, errors = run("import", "event.csv", "--kind", "items")
    assert (code, errors) == (3, "error: event.csv: does not exist; did you mean events.csv?\n")
    code, _, errors = run("import", "nothing.csv", "--kind", "items")
    assert (code, errors) == (
        3, f"error: nothing.csv: does not exist; it was looked for in {Path.cwd()}; give the path of a table\n"
    )  # fmt: skip
    code, _, errors = run("import", "no/such.csv", "--kind", "items")
    assert (code, errors) == (
        3, f"error: no/such.csv: does not exist; there is no folder {Path.cwd()}/no; give the path of a table\n"
    )  # fmt: skip


@pytest.mark.slow
def test_a_data_set_that_is_stopped_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"u{n % 40}", f"i{n * 7 % 53}", 1_000_000 + n) for n in range(3000)]
    Path("log.csv").write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    with monkeypatch.context() as patch:
        _when(patch, "write", _end)
        code, out, errors = run("import", "log.csv", "--kind", "interactions", "--quiet")
        assert (code, out) == (130, "")
        assert errors.startswith("error: stopped: ")
    assert run("import", "log.csv", "--kind", "interactions")[0] == 0
    first = [one["id"] for one in records(run, "impressions")]
    assert len(set(first)) == len(first) > 1000
    assert len(records(run, "items")) == 53
    assert "nothing was written" in run("import", "log.csv", "--kind", "interactions")[1]


@pytest.mark.slow
@pytest.mark.e2e
def test_a_process_that_is_killed_goes_on(run: Run) -> None:
    """SIGKILL of a real process, as soon as the log holds something of it."""
    Path("t.csv").write_text(_items(20_000))
    argv = [sys.executable, "-m", "recdistill", "import", "t.csv", "--kind", "items"]
    process = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 120
    # The end of the topic is asked, and no record is read: that would take as long as the rest of the import.
    with closing(open_log(LogSettings())) as log:
        log.create_topics(standard_topics())
        with closing(log.source(["items"])) as source:
            while not source.bounds(TopicPartition("items", 0))[1]:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.002)
    process.kill()
    process.wait()
    held = len(records(run, "items"))
    assert 0 < held < 20_000
    assert run("import", "t.csv", "--kind", "items")[:2] == (
        0, f"{20_000 - held:,} items ({held:,} records were there already)\n"
    )  # fmt: skip
    assert [one["id"] for one in records(run, "items")] == [f"i{n}" for n in range(20_000)]
