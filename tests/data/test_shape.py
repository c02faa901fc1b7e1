"""The guess of how a table is written: public shapes, and what a mapping says instead of the guess."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from recdistill.data.rows import read_rows
from recdistill.data.shape import TableForm, guess
from recdistill.errors import DataError

# Name, bytes, sentence, names of the columns, and the first row. All made by hand in the form of public data sets.
SHAPES: list[tuple[str, bytes, str, tuple[str, ...], list[str]]] = [
    (
        "ratings.dat",  # MovieLens-1M
        b"1::1193::5::978300760\n1::661::3::978302109\n2::914::3::978301968\n",
        "delimiter '::', no header (columns 1 to 4), UTF-8",
        ("1", "2", "3", "4"),
        ["1", "1193", "5", "978300760"],
    ),
    (
        "movies.dat",
        "1::Toy Story (1995)::Animation|Comedy\n2::\"Cats\" (1998)::Drama\n3::Cité, La (1995)::War\n".encode(
            "cp1252"
        ),
        "delimiter '::', no header (columns 1 to 3), cp1252, quotes are letters as any other",
        ("1", "2", "3"),
        ["1", "Toy Story (1995)", "Animation|Comedy"],
    ),
    (
        "u.data",  # MovieLens-100K
        b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
        "delimiter a tab, no header (columns 1 to 4), UTF-8",
        ("1", "2", "3", "4"),
        ["196", "242", "3", "881250949"],
    ),
    (
        "u.item",
        b"1|Toy Story (1995)|01-Jan-1995||0|1\n2|GoldenEye (1995)|01-Jan-1995||1|0\n",
        "delimiter '|', no header (columns 1 to 6), UTF-8",
        ("1", "2", "3", "4", "5", "6"),
        ["1", "Toy Story (1995)", "01-Jan-1995", "", "0", "1"],
    ),
    (
        "ml.inter",  # RecBole's atomic files
        b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n",
        "delimiter a tab, UTF-8",
        ("user_id", "item_id", "rating", "timestamp"),
        ["196", "242", "3", "881250949"],
    ),
    (
        "ratings.csv",  # MovieLens-25M
        b"userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n1,306,3.5,1147868817\n",
        "delimiter ',', UTF-8",
        ("userId", "movieId", "rating", "timestamp"),
        ["1", "296", "5.0", "1147880044"],
    ),
    (
        "movies.csv",
        b'movieId,title,genres\n11,"American President, The (1995)",Comedy|Drama\n12,Heat (1995),Action\n',
        "delimiter ',', UTF-8",
        ("movieId", "title", "genres"),
        ["11", "American President, The (1995)", "Comedy|Drama"],
    ),
    (
        "BX-Books.csv",  # Book-Crossing
        '"ISBN";"Title";"Year"\n"0195153448";"Mythology; a & b";"2002"\n"2080674722";"Ça ira";"1998"\n'.encode(
            "cp1252"
        ),
        "delimiter ';', cp1252",
        ("ISBN", "Title", "Year"),
        ["0195153448", "Mythology; a & b", "2002"],
    ),
    (
        "Electronics.csv",  # Amazon's ratings: no header
        b"0132793040,AKM1MP6P0OYPR,5.0,1365811200\n0321732944,A2CX7LUOHB2NDG,5.0,1341100800\n",
        "delimiter ',', no header (columns 1 to 4), UTF-8",
        ("1", "2", "3", "4"),
        ["0132793040", "AKM1MP6P0OYPR", "5.0", "1365811200"],
    ),
    (
        "news.tsv",  # MIND
        b'N1\tnews\tus\t"Wheel" guest\tAs music\nN2\tnews\tus\tTitle\t"All of it"\nN3\tsports\tracing\tThree\tx\n',
        "delimiter a tab, no header (columns 1 to 5), UTF-8, quotes are letters as any other",
        ("1", "2", "3", "4", "5"),
        ["N1", "news", "us", '"Wheel" guest', "As music"],
    ),
    (
        "export.csv",  # a .csv that has tabs
        b"user_id\titem_id\ttime\n2177\t3\t965779200\n",
        "delimiter a tab, UTF-8",
        ("user_id", "item_id", "time"),
        ["2177", "3", "965779200"],
    ),
    ("plain.txt", b"user item\n1 2\n1 3\n", "delimiter blanks, UTF-8", ("user", "item"), ["1", "2"]),
    ("hive", b"u1\x01i1\x0117\nu2\x01i2\x0118\n", "delimiter \\x01, no header (columns 1 to 3), UTF-8", ("1", "2", "3"),
     ["u1", "i1", "17"]),
    ("ids.csv", b"id\na\nb\n", "one column, UTF-8", ("id",), ["a"]),
    ("t.csv", "\ufeffid,name\na,Zoë\n".encode(), "delimiter ',', UTF-8", ("id", "name"), ["a", "Zoë"]),
    ("t.csv", "id,name\na,Zoë\n".encode("utf-16"), "delimiter ',', utf-16", ("id", "name"), ["a", "Zoë"]),
    ("t.csv", "id,name\na,Zoë\n".encode("utf-16-be"), "delimiter ',', UTF-16", ("id", "name"), ["a", "Zoë"]),
    ("old.csv", b"id,name\ra,x\rb,y\r", "delimiter ',', UTF-8", ("id", "name"), ["a", "x"]),
    ("T.CSV", b"id, name\r\na, x y\r\n", "delimiter ',', UTF-8", ("id", "name"), ["a", "x y"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "sentence", "columns", "first"), SHAPES)
def test_public_shapes(
    tmp_path: Path, name: str, data: bytes, sentence: str, columns: tuple[str, ...], first: list[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    shape = guess(path)
    assert shape.sentence() == sentence
    assert tuple(one.name for one in shape.columns) == columns
    rows = list(read_rows(path, shape))
    assert list(rows[0].cells.values()) == first
    # What the shape says as settings reads the same rows.
    said = guess(path, TableForm(**shape.settings()))
    assert [row.cells for row in read_rows(path, said)] == [row.cells for row in rows]


def _zst(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("ending", "pack"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", _zst), ("", gzip.compress)],
)
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", b"id,year\na,1999\nb,2001\n"),
        ("t.jsonl", b'{"id": "a", "year": "1999"}\n{"id": "b", "year": "2001"}\n'),
    ],
)
def test_compressed_tables(tmp_path: Path, ending: str, pack: Any, name: str, data: bytes) -> None:
    path = tmp_path / (name + ending)
    path.write_bytes(pack(data))
    assert [dict(row.cells) for row in read_rows(path)] == [{"id": "a", "year": "1999"}, {"id": "b", "year": "2001"}]
    cut = tmp_path / f"cut-{name}{ending}"
    whole = pack(b"".join(data.replace(b"1999", str(n).encode()) for n in range(5000)))
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut-t\.(csv|jsonl).*(damaged or cut off|cannot be read)"):
        list(read_rows(cut))


def test_what_the_columns_are(tmp_path: Path) -> None:
    path = tmp_path / "behaviors.tsv"
    path.write_text(
        "1\tU13\t11/13/2019 8:36:57 AM\tN1 N2 N3 N4\t[1, 2]\ta|b\t1.5\t1573600000000\tTrue\t\n"
        "2\tU14\t11/14/2019 2:00:00 PM\tN2 N3 N4 N5\t[3]\tb\tNaN\t1573600001000\tFalse\t\n"
    )
    found = [(one.type, one.unit, one.separator) for one in guess(path).columns]
    assert found == [
        ("number", None, None),
        ("text", None, None),
        ("time", "%m/%d/%Y %I:%M:%S %p", None),
        ("texts", None, " "),
        ("numbers", None, "json"),
        ("texts", None, "|"),
        ("number", None, None),
        ("number", "ms", None),
        ("flag", None, None),
        (None, None, None),
    ]


@pytest.mark.parametrize(
    ("cells", "unit"),
    [
        (["978300760"], "s"),
        (["978300760123"], "ms"),
        (["978300760123456"], "us"),
        (["978300760123456789"], "ns"),
        (["2001-01-01 10:00:00"], "iso"),
        (["2001-01-01T10:00:00Z", "2001-01-02"], "iso"),
        (["31/12/2001", "01/02/2001"], "%d/%m/%Y"),
        (["12/31/2001", "01/02/2001"], "%m/%d/%Y"),
        (["01/02/2001"], None),  # in doubt: nothing is guessed
        (["31.12.2001 17:05"], "%d.%m.%Y %H:%M"),
        (["01-Jan-1995"], "%d-%b-%Y"),
        (["5"], None),
    ],
)
def test_units_of_times(tmp_path: Path, cells: list[str], unit: str | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,time\n" + "".join(f"a,{cell}\n" for cell in cells))
    assert guess(path).columns[1].unit == unit


@pytest.mark.slow
def test_a_byte_that_is_no_utf8_far_behind_the_head(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"id,name\n" + b"a,xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n" * 110_000 + "b,Zoë\n".encode("cp1252")
    )
    shape = guess(path)
    assert shape.encoding == "cp1252"
    assert list(read_rows(path, shape))[-1].cells["name"] == "Zoë"


def test_a_mapping_says_more_than_the_guess(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('1;"a\n2;b"\n')
    form = TableForm(delimiter=";", quote='"', multiline=True, header=["n", "text"])
    assert [dict(row.cells) for row in read_rows(path, guess(path, form))] == [{"n": "1", "text": "a\n2;b"}]
    form = TableForm(delimiter=";", quote="", header=False)
    assert [row.cells["2"] for row in read_rows(path, guess(path, form))] == ['"a', 'b"']


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF8, "UTF8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (b"", "utf-16-le"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_name_where_a_mapping_names_the_encoding(
    tmp_path: Path, mark: bytes, encoding: str
) -> None:
    for name, text, cells in (("t.csv", "id,n\na,1\n", {"id": "a", "n": "1"}), ("t.jsonl", '{"id": "a"}', {"id": "a"})):
        path = tmp_path / name
        path.write_bytes(mark + text.encode(encoding))
        [row] = read_rows(path, guess(path, TableForm(encoding=encoding)))
        assert row.cells == cells


def test_parquet_needs_no_guess(tmp_path: Path) -> None:
    path = tmp_path / "t.pq"
    parquet.write_table(pa.table({"id": ["a"], "tags": [["x", "y"]]}), path)
    shape = guess(path)
    assert (shape.kind, shape.sentence()) == ("parquet", "Parquet")
    assert [(one.name, one.type) for one in shape.columns] == [("id", "text"), ("tags", "texts")]
