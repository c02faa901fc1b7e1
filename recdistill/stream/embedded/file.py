"""The SQLite file of the embedded log: it opens, makes and locks the file, and explains its errors to a person.

It knows nothing of stages or of what is inside a message.

Example:
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = f"{folder.name}/log.sqlite"
    >>> with explained(path, "open"):
    ...     connection = connect(path, checked_options({}))
    ...     identity = initialise(connection, path, timeout_s=10)
    >>> connection.execute("PRAGMA journal_mode").fetchone()
    ('wal',)
    >>> connection.close(); folder.cleanup()
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from recdistill.errors import ConfigError, LogChanged, StreamError, WrongLog
from recdistill.stream.contract import suggest
from recdistill.stream.embedded import generations

log_ = logging.getLogger(__name__)

Options = Mapping[str, str | int | float | bool]

_APPLICATION_ID = 0x7265636C  # "recl": marks a SQLite file as one of ours
_OPTIONS: dict[str, str | int | float | bool] = {"synchronous": "NORMAL", "busy_timeout_s": 60.0}
_SYNCHRONOUS = ("NORMAL", "FULL")
# Records of 3 KB waste a third of SQLite's default page of 4 KiB. Pages larger than this one were not faster.
_PAGE_BYTES = 16_384
_WAL_KEEP_BYTES = 64 << 20

_SCHEMA = """
CREATE TABLE cluster (id TEXT NOT NULL);
CREATE TABLE topics (name TEXT PRIMARY KEY, id TEXT NOT NULL, partitions INTEGER NOT NULL);
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    beginning INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition));
CREATE TABLE stages (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, note TEXT NOT NULL DEFAULT '');
CREATE TABLE positions (
    stage TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (stage, topic, partition)) WITHOUT ROWID;
"""


def checked_options(options: Options) -> dict[str, str | int | float | bool]:
    """Options with their defaults.

    Raises:
        ConfigError: An option that does not exist or does not fit.
    """
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"log.options.{name}: the embedded log has no such option{suggest(name, _OPTIONS)}")
    result: dict[str, str | int | float | bool] = {**_OPTIONS, **options}
    if result["synchronous"] not in _SYNCHRONOUS:
        raise ConfigError(f"log.options.synchronous: must be NORMAL or FULL, not {result['synchronous']!r}")
    seconds = result["busy_timeout_s"]
    if isinstance(seconds, (bool, str)) or not 0 < seconds <= 3600:
        raise ConfigError(f"log.options.busy_timeout_s: must be a number above 0 and at most 3600, not {seconds!r}")
    return result


@contextmanager
def explained(path: str, doing: str) -> Iterator[None]:
    """Turns an error of SQLite into one sentence that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            advice = (
                "another process holds it for too long: look for one that hangs, or raise the log option busy_timeout_s"
            )
        elif "full" in text:
            advice = "free some disk space and start again; nothing was lost"
        elif "readonly" in text and doing == "write":
            advice = "the file or its disk is read-only here, so it can be read and not written"
        elif "malformed" in text or "not a database" in text:
            advice = "the file is damaged or is no log: restore it from a copy, or choose another path"
        else:
            advice = "check that the folder exists, is on a local disk and can be written"
        raise StreamError(f"cannot {doing} the log {path}: {text}; {advice}") from error


def connect(path: str, options: Options) -> sqlite3.Connection:
    """Opens a connection. Any thread may use it, but only one at a time.

    Args:
        path: The file; its folder exists.
        options: From `checked_options`.
    """
    _make_private(path)
    connection = sqlite3.connect(
        path, timeout=float(str(options["busy_timeout_s"])), isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA synchronous = {options['synchronous']}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEEP_BYTES}")
    connection.execute("PRAGMA mmap_size = 1073741824")
    return connection


def _make_private(path: str) -> None:
    """Makes the file, if it is missing, so that only its owner can read it: it will hold histories of users.

    SQLite gives the files beside it (`-wal`, `-shm`) the same rights. A file that exists keeps those that it has.
    """
    with contextlib.suppress(OSError):  # SQLite says better what is wrong
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def connect_read_only(path: str) -> sqlite3.Connection:
    """Opens a connection to a log that cannot be written here, for instance on a read-only disk.

    Without the right to write, SQLite can read the file `-wal`, where the newest commits are, only if another process
    has the log open. Where it cannot, the log is read without them, and a warning says so.
    """
    place = f"file:{quote(str(Path(path).absolute()))}"
    try:
        return _readable(f"{place}?mode=ro")
    except sqlite3.OperationalError:
        wal = Path(f"{path}-wal")
        if wal.exists() and wal.stat().st_size:
            log_.warning("%s is read-only here: its newest records, in %s, are not read", path, wal.name)
        return _readable(f"{place}?mode=ro&immutable=1")


def _readable(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


_UNWRITABLE: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def is_read_only(error: sqlite3.Error, path: str) -> bool:
    """Whether a log is there, and only cannot be written."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in _UNWRITABLE and Path(path).is_file() and os.access(path, os.R_OK)


class Inode:
    """Which file stood under a path, so that a process notices when it is removed or replaced.

    A process goes on writing into a file that has no name any more, and nobody else ever sees what it wrote.

    Args:
        path: The file; it exists.
    """

    def __init__(self, path: str) -> None:
        self._path, self._was = path, _inode(path)

    def check(self) -> None:
        """Makes sure that the file is still the one under its path. It costs microseconds.

        Raises:
            LogChanged: It is not.
        """
        now = _inode(self._path)
        if now == self._was:
            return
        what = "was removed" if now is None else "was replaced by another file"
        raise LogChanged(
            f"the log {self._path} {what} while this process used it, and what is written to the old file is lost; "
            "stop all processes that use it, put the log back or make a new one, and start them again"
        )


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One write transaction. It is IMMEDIATE: a read lock cannot wait for a writer and then become a write lock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def initialise(connection: sqlite3.Connection, path: str, timeout_s: float) -> str:
    """Makes the tables if the file is new. Several processes may try at once.

    Args:
        connection: A new connection.
        path: Its file, for the error.
        timeout_s: How long to wait for another process.

    Returns:
        The id of the log.

    Raises:
        WrongLog: The file is a SQLite file of something else.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        # So that `EmbeddedLog.shrink` can give pages back to the disk one after the other.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _switch_to_wal(connection, timeout_s)
        with writing(connection):
            # Another process may have been faster. Look again, now that no other process can write.
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise WrongLog(f"{path} is a SQLite file of something else; choose another path for the log")
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute("INSERT INTO cluster VALUES (?)", (str(uuid.uuid4()),))
                generations.make(connection)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    elif connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'generations'").fetchone() is None:
        with writing(connection):  # a log of an older version
            generations.adopt(connection)
    _adopt_checksums(connection)
    return str(connection.execute("SELECT id FROM cluster").fetchone()[0])


def _adopt_checksums(connection: sqlite3.Connection) -> None:
    """Gives the tables of an older version a column for checksums. What they hold already stays without.

    A log that can only be read stays as it is.
    """
    lacking = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'messages_*' "
        "AND NOT EXISTS (SELECT 1 FROM pragma_table_info(sqlite_master.name) AS c WHERE c.name = 'crc')"
    )
    try:
        if connection.execute(lacking).fetchone() is not None:
            with writing(connection):
                for (name,) in connection.execute(lacking).fetchall():
                    connection.execute(f"ALTER TABLE {name} ADD COLUMN crc INTEGER")
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise


def _switch_to_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Turns WAL mode on. SQLite does not wait while another process does the same, so this function waits."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
