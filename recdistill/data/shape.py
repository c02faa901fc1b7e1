r"""How a table is written: delimiter, quotes, encoding, header, columns. `guess` looks at the head of a file.

What a mapping sets is not guessed. What is guessed is said aloud (`Shape.sentence`), and can be set instead: the keys
of `TableForm` stand at the top of a mapping file.

| key | what it says | guessed from |
| --- | --- | --- |
| `compression` | none, gz, bz2, xz or zst | the first bytes |
| `encoding` | a codec of Python, as in utf-8, cp1252, utf-16 | the byte order mark, else the bytes |
| `delimiter` | between cells: one or more characters; a blank is any number of blanks | what cuts all lines alike |
| `quote` | the character around cells, or "" where a quote is a letter as any other | whether all quotes are closed |
| `multiline` | whether a quoted cell may hold lines that look like rows | never: false |
| `header` | true, false (columns are "1", "2", …), or the names of the columns | names and types of the first line |
| `missing` | cells that say nothing; an empty cell always does | nan, NA, null, … where a number or time is wanted |
| `list_separator` | what stands between the members of a list in one cell, or "json" | the cells |

It knows nothing of records.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978302109\n")
    ...     shape = guess(Path(folder, "ratings.dat"))
    >>> shape.sentence()
    "delimiter '::', no header (columns 1 to 4), UTF-8"
    >>> [(one.name, one.type, one.unit) for one in shape.columns][2:]
    [('3', 'number', None), ('4', 'number', 's')]
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from recdistill.data.columns import NOTHING, Seen, atomic, check_width, look, number
from recdistill.data.files import (
    ENDINGS,
    Compression,
    compression_of,
    encoding_of,
    explained,
    opened,
    past_mark,
    stranger,
)
from recdistill.data.lines import Broken, Cut, rows_of
from recdistill.errors import DataError

_HEAD = 4 << 20  # bytes that are looked at
_WHOLE = 256 << 20  # bytes up to which all of a text is tried as UTF-8
_ROWS = 1000
_DELIMITERS = ("::", "\t", ";", ",", "|", "\x01", " ")
_JSON_LINES = (".jsonl", ".ndjson", ".jsonlines")
_NAMES: Final = {
    "::": "'::'", "\t": "a tab", " ": "blanks", "\x01": "\\x01",
}  # fmt: skip
_ENCODINGS: Final = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}
_KNOWN: Final = frozenset((
    "id", "user", "item", "time", "user_id", "item_id", "userid", "itemid", "movieid", "rating", "timestamp", "title",
    "name", "action", "event", "impression_id", "candidates", "history", "session", "session_id", "product_id",
    "category", "price", "label", "value", "genres",
))  # fmt: skip
_WORD: Final = re.compile(r"[^\W\d][\w .:/()#%-]{0,63}")

Quote = Literal['"', "'", ""]


class TableForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What a mapping says about how a table is written. None: it is guessed."""

    compression: Compression | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: Quote | None = None
    multiline: bool = False
    header: bool | list[str] | None = None
    missing: list[str] | None = None
    list_separator: str | None = None


class Shape(Struct, frozen=True, kw_only=True):
    """How a table is written, and what its columns are in a sample.

    Attributes:
        kind: Text, one JSON object a line, or Parquet.
        compression: How the file is compressed.
        encoding: Of its text, as a codec of Python.
        delimiter: Between the cells of a text.
        quote: Around cells of a text; empty if quotes mean nothing.
        multiline: Whether a quoted cell may hold lines that look like rows.
        header: Whether the first line of a text names the columns.
        named: Names of the columns that a mapping gave, if any.
        columns: The columns in the order of the table. Of JSON lines, those of the sample.
        rows: How many rows were looked at.
        missing: Cells that say nothing. None: nan, NA, null and so on where a number or a time is wanted.
        list_separator: What a mapping says about lists; None leaves it to the columns.
        guessed: The settings that nobody gave.
    """

    kind: Literal["text", "jsonl", "parquet"]
    compression: Compression = "none"
    encoding: str = "utf-8"
    delimiter: str = ""
    quote: str = ""
    multiline: bool = False
    header: bool = True
    named: tuple[str, ...] = ()
    columns: tuple[Seen, ...] = ()
    rows: int = 0
    missing: tuple[str, ...] | None = None
    list_separator: str | None = None
    guessed: frozenset[str] = frozenset()

    def sentence(self) -> str:
        """How the table is read, in a few words."""
        packed = "" if self.compression == "none" else f", {self.compression}"
        if self.kind == "parquet":
            return f"Parquet{packed}"
        encoding = _ENCODINGS.get(self.encoding, self.encoding)
        if self.kind == "jsonl":
            return f"JSON lines, {encoding}{packed}"
        parts = [f"delimiter {_NAMES.get(self.delimiter, repr(self.delimiter))}"]
        if len(self.columns) == 1:
            parts = ["one column"]
        if not self.header:
            parts.append(
                f"no header (columns {self.columns[0].name} to {self.columns[-1].name})" if self.columns else ""
            )
        parts.append(encoding)
        if self.quote != '"':
            parts.append(f"quotes {self.quote}" if self.quote else "quotes are letters as any other")
        if self.multiline:
            parts.append("cells may hold line ends")
        return ", ".join(filter(None, parts)) + packed

    def settings(self) -> dict[str, Any]:
        """The keys of a mapping file that say the same, as far as they are not the common ones."""
        found: dict[str, Any] = {}
        if self.compression != "none":
            found["compression"] = self.compression
        if self.kind == "text":
            if self.encoding != "utf-8":
                found["encoding"] = self.encoding
            found["delimiter"] = self.delimiter
            if self.quote != '"':
                found["quote"] = self.quote
            if self.multiline:
                found["multiline"] = True
            found["header"] = list(self.named) if self.named else self.header
        if self.missing is not None:
            found["missing"] = list(self.missing)
        if self.list_separator is not None:
            found["list_separator"] = self.list_separator
        return found

    def column(self, name: str) -> Seen | None:
        """The column of a name, which may have its type as in RecBole's headers (`user_id:token`)."""
        plain = atomic(name)
        wanted = {name, plain[0]} if plain else {name}
        return next((one for one in self.columns if one.name in wanted), None)


def guess(path: Path | str, form: TableForm | None = None) -> Shape:
    """Looks at the head of a file.

    Args:
        path: The file.
        form: What is known already; a mapping is such a form.

    Raises:
        DataError: It cannot be read, or it is no table.
    """
    path = Path(path)
    form = form or TableForm()
    with explained(path), path.open("rb") as file:
        magic = file.read(16)
    compression = form.compression or compression_of(magic)
    common: dict[str, Any] = {
        "compression": compression,
        "missing": None if form.missing is None else tuple(form.missing),
        "list_separator": form.list_separator,
        "guessed": frozenset(
            name for name in ("delimiter", "quote", "encoding", "header") if getattr(form, name) is None
        ),
    }
    ending = _ending(path)
    if ending == ".parquet" or magic.startswith(b"PAR1"):
        if compression != "none":
            raise DataError(
                f"{path}: is a compressed Parquet file; decompress it (Parquet compresses its columns itself)"
            )
        return _parquet(path, common)
    with opened(path, compression) as file:
        head = file.read(_HEAD)
        whole = len(head) < _HEAD
        if what := stranger(head):
            raise DataError(f"{path}: is {what}; convert it to CSV, JSON lines or Parquet")
        encoding = past_mark(form.encoding, head) if form.encoding else encoding_of(head, whole=whole)
        if encoding == "utf-8" and form.encoding is None and not whole:
            encoding = _to_the_end(head, file)
    if encoding is None:
        raise DataError(
            f"{path}: is no text in an encoding that can be guessed; set encoding in the mapping (such as cp1251, "
            "shift_jis or gb18030), or convert the file"
        )
    lines = _lines(path, head, encoding, whole=whole)
    common["encoding"] = encoding
    first = next((line.strip() for line in lines if line.strip()), "")
    if ending in _JSON_LINES or (form.delimiter is None and _is_object(first)):
        return _json_lines(path, lines, common)
    if first.startswith("[") and ending == ".json":
        raise DataError(f"{path}: is one JSON list; write one object a line (`jq -c '.[]'` does it)")
    return _text(path, lines, form, ending, common)


def _to_the_end(head: bytes, file: Any) -> str | None:
    """UTF-8 if all of the text is, or else what the first part of it that is not suggests."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    seen = 0
    while head and seen < _WHOLE:
        seen += len(head)
        following = file.read(_HEAD)
        try:
            decoder.decode(head, final=not following)
        except UnicodeDecodeError:
            return encoding_of(head)
        head = following
    return "utf-8"


def _lines(path: Path, head: bytes, encoding: str, *, whole: bool) -> list[str]:
    try:
        text = codecs.getincrementaldecoder(encoding)("replace").decode(head, final=whole)
    except (LookupError, UnicodeError) as e:
        raise DataError(f"{path}: encoding {encoding!r} cannot be read ({e}); set another one in the mapping") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if whole or len(lines) == 1 else lines[:-1]  # the last one may be cut


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in ENDINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _is_object(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


# Text


class _Way(NamedTuple):
    """One way to cut the lines: the rows that it gives, and whether it gave all of them."""

    cut: Cut
    rows: list[list[str]]
    clean: bool

    @property
    def alike(self) -> float:
        """Share of rows with as many cells as the first one."""
        return sum(len(row) == len(self.rows[0]) for row in self.rows) / len(self.rows) if self.rows else 0.0


def _text(path: Path, lines: list[str], form: TableForm, ending: str, common: dict[str, Any]) -> Shape:
    way = _way(lines, form, ending)
    rows = way.rows
    declared: dict[str, str] = {}
    named = tuple(form.header) if isinstance(form.header, list) else ()
    check_width(path.name, max(len(named), *(len(row) for row in rows[:2])) if rows else len(named))
    header = bool(rows) and (_has_header(rows) if form.header is None else form.header is True)
    if header:
        names, rows = rows[0], rows[1:]
        declared = {plain[0]: plain[1] for name in names if (plain := atomic(name))}
        names = header_names(names)
    else:
        names = list(named) or [str(n) for n in range(1, len(rows[0]) + 1 if rows else 1)]
    columns = tuple(
        look(name, [row[n] for row in rows[:_ROWS] if n < len(row)], declared.get(name)) for n, name in enumerate(names)
    )
    return Shape(
        kind="text",
        delimiter=way.cut.delimiter,
        quote=way.cut.quote,
        multiline=form.multiline,
        header=header or (not rows and form.header is None),
        named=named,
        columns=columns,
        rows=min(len(rows), _ROWS),
        **common,
    )


def header_names(cells: Iterable[str]) -> list[str]:
    """Names of columns: without RecBole's types, and with the number of the column where there is no name."""
    return [(plain[0] if (plain := atomic(name)) else name) or str(n) for n, name in enumerate(cells, 1)]


def _way(lines: list[str], form: TableForm, ending: str) -> _Way:
    """The best way to cut the lines: as many alike as possible, then the usual delimiter of the ending."""
    some = [line for line in islice(lines, 4 * _ROWS) if line.strip()][:200]
    if form.delimiter is not None:
        return _quoted(lines, form, form.delimiter)
    usual = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(ending)
    order = sorted(_DELIMITERS, key=lambda delimiter: delimiter != usual)
    best, most = usual or ",", 0.0
    for delimiter in order:
        if some and delimiter in some[0].strip():
            way = _quoted(some, form, delimiter)
            width = len(way.rows[0]) if way.rows else 1
            alike = way.alike if width > 1 and not (delimiter == " " and way.alike < 1) else 0.0
            if alike > most + 0.01:
                best, most = delimiter, alike
    return _quoted(lines, form, best)


def _quoted(lines: list[str], form: TableForm, delimiter: str) -> _Way:
    """Cuts the lines with quotes if they are all closed, else without."""
    if form.quote is not None:
        return _cut(lines, Cut(delimiter, form.quote, form.multiline))
    with_quotes = _cut(lines, Cut(delimiter, '"', form.multiline))
    if with_quotes.clean:
        return with_quotes
    without = _cut(lines, Cut(delimiter, "", form.multiline))
    # One wrong quote in a table with quoted cells is a mistake, and is not to be read over. Between tabs quotes are
    # mostly letters: there only a column of quoted cells counts.
    share = _quoted_share(without.rows)
    letters = share < 0.5 if delimiter in ("\t", "::", "\x01") else share == 0 and without.alike == 1
    return without if letters else with_quotes


def _quoted_share(rows: list[list[str]]) -> float:
    """The largest share of cells in quotes that a column has."""
    columns: dict[int, list[bool]] = {}
    for row in rows:
        for n, cell in enumerate(row):
            columns.setdefault(n, []).append(len(cell) > 1 and cell.startswith('"') and cell.endswith('"'))
    return max((sum(column) / len(column) for column in columns.values()), default=0.0)


def _cut(lines: Sequence[str], cut: Cut) -> _Way:
    rows: list[list[str]] = []
    try:
        for _, cells in rows_of(lines, cut):
            rows.append(cells)
    except Broken as e:
        # A cell at the end of the sample may go on after it.
        return _Way(cut, rows, e.line > len(lines) - 2 and len(rows) > _ROWS)
    return _Way(cut, rows, clean=True)


def _has_header(rows: list[list[str]]) -> bool:
    first, rest = rows[0], rows[1:_ROWS]
    names = [cell.lower() for cell in first]
    if all(atomic(name) for name in names) or any(
        name in _KNOWN or name.startswith(("attributes.", "context.")) for name in names
    ):
        return True
    if any(number(cell) is not None for cell in first) or not any(first):
        return False
    for n in range(len(first)):
        column = [row[n] for row in rest if n < len(row) and row[n].lower() not in NOTHING]
        if column and all(number(cell) is not None for cell in column):
            return True
    again = any(first[n] == row[n] for row in rest for n in range(min(len(first), len(row))))
    return not again and len(set(first)) == len(first) and all(not cell or _WORD.fullmatch(cell) for cell in first)


# JSON lines and Parquet


def _json_lines(path: Path, lines: list[str], common: dict[str, Any]) -> Shape:
    columns: dict[str, list[Any]] = {}
    rows = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            break
        if rows == _ROWS or not isinstance(found, dict):
            break
        rows += 1
        for name, cell in found.items():
            columns.setdefault(name, []).append(cell)
        check_width(path.name, len(columns))
    return Shape(kind="jsonl", columns=tuple(look(name, cells) for name, cells in columns.items()), rows=rows, **common)


def _parquet(path: Path, common: dict[str, Any]) -> Shape:
    from recdistill.data.parquet import batches

    columns: dict[str, list[Any]] = {}
    rows = 0
    for names, cells in islice(batches(path, batch=_ROWS), 1):
        rows = len(cells)
        for name in names:
            columns[name] = [row[name] for row in cells]
    return Shape(
        kind="parquet", columns=tuple(look(name, cells) for name, cells in columns.items()), rows=rows, **common
    )
