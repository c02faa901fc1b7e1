r"""A file of a table -> its bytes, without their compression, and the encoding of its text.

It knows nothing of rows, columns or records.

Example:
    >>> compression_of(b"\x1f\x8b\x08..."), encoding_of("Zoë".encode("cp1252"))
    ('gz', 'cp1252')
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Literal

from recdistill.errors import DataError
from recdistill.installed import how_to_install

Compression = Literal["none", "gz", "bz2", "xz", "zst"]

ENDINGS: Final = {".gz": "gz", ".gzip": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst", ".zstd": "zst"}
"""Endings of compressed files. The content decides; an ending is only taken off before the next one is read."""

_MAGIC: Final[tuple[tuple[bytes, Compression], ...]] = (
    (b"\x1f\x8b", "gz"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
)
_OTHERS: Final = (
    (b"PK\x03\x04", "a zip archive or an Excel file"),
    (b"\xd0\xcf\x11\xe0", "an Excel file"),
    (b"SQLite format 3", "a SQLite file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"ARROW1", "an Arrow file"),
    (b"%PDF", "a PDF"),
    (b"\x80\x04\x95", "a pickle"),
    (b"\x93NUMPY", "a numpy file"),
)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its first bytes are the same
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARKED: Final = {
    "utf-8": (codecs.BOM_UTF8, "utf-8-sig"),
    "utf-16-le": (codecs.BOM_UTF16_LE, "utf-16"),
    "utf-16-be": (codecs.BOM_UTF16_BE, "utf-16"),
    "utf-32-le": (codecs.BOM_UTF32_LE, "utf-32"),
    "utf-32-be": (codecs.BOM_UTF32_BE, "utf-32"),
}
"""Encodings that leave a mark in the text: the mark, and the encoding that takes it off."""
_MOST_NAMES = 10_000  # in a folder, that are compared with the name of a file that is not there
_MOST_FOREIGN = 1 / 3  # share of letters outside of ASCII up to which a text is taken for cp1252; Cyrillic has far more


def compression_of(head: bytes) -> Compression:
    """How a file is compressed, by its first bytes."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "none")


def stranger(head: bytes) -> str:
    """What a file is that holds no table we read; empty if it may be one."""
    return next((what for magic, what in _OTHERS if head.startswith(magic)), "")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an error of reading a file into one sentence.

    Raises:
        DataError: The file is missing, is no regular file, cannot be read, or its compression is damaged.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(f"{path}: is no regular file, and a table is read more than once; save it to a file first")
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist; {_advice(path)}") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; give a file") from None
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as e:
        raise DataError(f"{path}: its compression is damaged or cut off ({e}); fetch the file again") from None
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from None


def _advice(path: Path) -> str:
    """What to do about a file that is not there: a name in its folder that is like it, or where it was looked for."""
    folder = path.parent.resolve()
    if not folder.is_dir():
        return f"there is no folder {folder}; give the path of a table"
    with suppress(OSError):
        names = [one.name for one in islice(folder.iterdir(), _MOST_NAMES) if one.is_file()]
        if near := get_close_matches(path.name, names, n=1):
            return f"did you mean {near[0]}?"
    return f"it was looked for in {folder}; give the path of a table"


@contextmanager
def opened(path: Path, compression: Compression) -> Iterator[IO[bytes]]:
    """Opens a file for reading, without its compression. The errors of reading are those of `explained`."""
    with explained(path), _open(path, compression) as file:
        yield file


def _open(path: Path, compression: Compression) -> Any:
    match compression:
        case "gz":
            return gzip.open(path, "rb")
        case "bz2":
            return bz2.open(path, "rb")
        case "xz":
            return lzma.open(path, "rb")
        case "zst":
            try:
                import pyarrow as pa
            except ImportError:
                raise DataError(f"{path.name}: zstd needs pyarrow; type: {how_to_install('data')}") from None
            return pa.PythonFile(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), mode="r")
    return path.open("rb")


def encoding_of(head: bytes, *, whole: bool = True) -> str | None:
    """The encoding of a text, as a codec of Python.

    A byte order mark decides. Else NULs at every second place are UTF-16, and what decodes as UTF-8 is UTF-8. The rest
    is cp1252, the common superset of latin-1, as long as most letters are ASCII.

    Args:
        head: The first bytes.
        whole: Whether they are all there are. Else the last character may be cut.

    Returns:
        None if it is no text, or in an encoding that cannot be guessed.
    """
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    even, odd = head[0:4096:2], head[1:4096:2]
    if len(head) >= 4 and odd.count(0) > 0.6 * len(odd) and even.count(0) < 0.2 * len(even):
        return "utf-16-le"
    if len(head) >= 4 and even.count(0) > 0.6 * len(even) and odd.count(0) < 0.2 * len(odd):
        return "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return _single_byte(head)
    return "utf-8"


def past_mark(encoding: str, head: bytes) -> str:
    """An encoding that somebody named, or the one that also takes off the byte order mark that the text begins with.

    Example:
        >>> past_mark("utf-8", codecs.BOM_UTF8 + b"id"), past_mark("utf-8", b"id"), past_mark("cp1252", b"id")
        ('utf-8-sig', 'utf-8', 'cp1252')
    """
    with suppress(LookupError):
        mark, other = _MARKED.get(codecs.lookup(encoding).name, (b"", encoding))
        return other if mark and head.startswith(mark) else encoding
    return encoding


def _single_byte(head: bytes) -> str | None:
    foreign = len(re.findall(rb"[\x80-\xff]", head))
    letters = len(re.findall(rb"[A-Za-z]", head))
    controls = len(re.findall(rb"[\x00-\x08\x0e-\x1f]", head))
    if controls > 0.01 * len(head) or foreign > _MOST_FOREIGN * (foreign + letters):
        return None
    try:
        head.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def known_encoding(name: str) -> bool:
    """Whether Python has a text encoding of this name."""
    try:
        "a".encode(name)
    except (LookupError, UnicodeError, ValueError, TypeError):
        return False
    return True
