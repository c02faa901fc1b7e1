"""What only the embedded log has: one file, several processes, kills, retention on request, its options."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from recdistill.config import LogSettings
from recdistill.errors import ConfigError, OutOfRange, StreamError, WrongLog
from recdistill.stream import TopicPartition, open_log
from recdistill.stream.embedded import EmbeddedLog, EmbeddedSource
from recdistill.stream.embedded.tables import Tables

ROOT = Path(__file__).resolve().parents[2]
OUT = TopicPartition("out", 0)

WRITER = """
import sys
from recdistill.stream.embedded import EmbeddedLog
path, name, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
log = EmbeddedLog(path)
log.create_topics({"out": 1, "in": 1})
stage = log.stage(name)
for n in range(count):
    with stage.transaction() as transaction:
        for part in range(size):
            transaction.send("out", b"%s %d %d" % (name.encode(), n, part), headers=[("of", b"%d" % size)])
print("done", flush=True)
"""

# Copies until it is killed: reads what is there, writes it together with its position and a count.
COPIER = """
import sys
from recdistill.stream.embedded import EmbeddedLog
from recdistill.stream import TopicPartition
log = EmbeddedLog(sys.argv[1])
tp = TopicPartition("in", 0)
stage = log.stage("copier", [tp])
source = log.source([tp], stage.position())
print("started", flush=True)
while True:
    messages = source.read(7, 0.2)
    with stage.transaction() as transaction:
        for message in messages:
            transaction.send("out", message.value + b"x" * 20000)
        transaction.commit_inputs(source.position(), str(int(stage.note() or 0) + len(messages)))
"""


def start(code: str, *args: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def drain(source: EmbeddedSource) -> list[bytes]:
    values = []
    while source.position()[OUT] < source.bounds(OUT)[1]:
        values += [message.value or b"" for message in source.read(1000, 0.1)]
    return values


def test_several_processes_write_at_once_and_a_reader_sees_whole_transactions_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.sqlite"  # all four race to make folder, file and topics
    writers = [start(WRITER, path, f"w{n}", 40, 5) for n in range(3)]
    log = EmbeddedLog(path)
    log.create_topics({"in": 1, "out": 1})
    source = log.source(["out"])
    values: list[bytes] = []
    deadline = time.monotonic() + 60
    while len(values) < 3 * 40 * 5 and time.monotonic() < deadline:
        values += [message.value or b"" for message in source.read(17, 0.2)]
    for writer in writers:
        output, errors = writer.communicate(timeout=30)
        assert output == b"done\n", errors.decode()
    assert len(values) == 600
    parsed = [value.split() for value in values]
    for first in range(0, 600, 5):  # a transaction is never torn apart or mixed with another
        assert len({(name, n) for name, n, _ in parsed[first : first + 5]}) == 1
        assert [part for _, _, part in parsed[first : first + 5]] == [b"%d" % part for part in range(5)]
    for name in (b"w0", b"w1", b"w2"):
        assert [int(n) for who, n, part in parsed if who == name and part == b"0"] == list(range(40))
    assert drain(source) == []
    source.close()
    log.close()


@pytest.mark.slow
def test_sigkill_at_random_moments_leaves_each_transaction_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = EmbeddedLog(path)
    log.create_topics({"in": 1, "out": 1})
    stage = log.stage("fill")
    count = 3000
    for first in range(0, count, 500):
        with stage.transaction() as transaction:
            for n in range(first, first + 500):
                transaction.send("in", b"%d " % n)
    chance = random.Random(11)
    kills = 0
    killed_early = 0
    while kills < 8:
        copier = start(COPIER, path)
        assert copier.stdout is not None
        assert copier.stdout.readline() == b"started\n"
        time.sleep(chance.random() * 0.15)
        copier.send_signal(signal.SIGKILL)
        copier.communicate()
        kills += 1
        with_position = log.stage("reader of positions", [TopicPartition("in", 0)])
        with_position.close()
        copied = [int(value.split()[0]) for value in drain(log.source(["out"]))]
        # Exactly once: the output is a prefix of the input, whatever the moment of death.
        assert copied == list(range(len(copied)))
        owner = log.stage("copier", [TopicPartition("in", 0)])
        assert owner.note() == (str(len(copied)) if copied else "")
        owner.close()
        killed_early += len(copied) < count
    assert killed_early >= 2, "the kills came too late to mean anything"
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()
    log.close()


def test_trim_is_retention(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"out": 1})
    stage = log.stage("writer", [OUT])
    for n in range(5):
        with stage.transaction() as transaction:
            transaction.send("out", b"%d" % n)
    source = log.source(["out"])
    log.trim(OUT, 4)  # messages are at 0, 2, 4, 6, 8
    assert source.bounds(OUT) == (4, 10)
    with pytest.raises(OutOfRange, match=r"position 0 of out/0 is outside of what the log holds \(4 to 10\)"):
        source.read()
    with pytest.raises(OutOfRange):
        log.source(["out"], {OUT: 3})
    assert drain(log.source(["out"])) == [b"2", b"3", b"4"]
    assert stage.position() == {OUT: 4}, "nothing was committed: the beginning"
    log.trim(OUT, 1)
    assert source.bounds(OUT) == (4, 10), "what is gone does not come back"
    log.trim(OUT, 1_000)
    assert source.bounds(OUT) == (10, 10)
    with stage.transaction() as transaction:
        transaction.send("out", b"later")
    assert [message.offset for message in log.source(["out"]).read()] == [10], "offsets are never used again"
    log.close()


def test_compaction_keeps_the_newest_of_each_key_and_what_has_none(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"out": 2})
    stage = log.stage("writer")
    for n, key in enumerate([b"a", None, b"b", b"a", None, b"b"]):
        with stage.transaction() as transaction:
            transaction.send("out", b"%d" % n, key=key, partition=0)
            transaction.send("out", b"%d" % n, key=key, partition=1)
    with stage.transaction() as transaction:
        transaction.send("out", None, key=b"b", partition=1)
    assert log.compact("out") == 5
    left = {0: [b"1", b"3", b"4", b"5"], 1: [b"1", b"3", b"4", None]}
    for partition, values in left.items():
        source = log.source([TopicPartition("out", partition)])
        assert [message.value for message in source.read()] == values
        source.close()
    assert log.compact("out") == 0
    stage.close()
    log.close()


def test_single_messages_are_removed(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"out": 1})
    stage = log.stage("writer")
    with stage.transaction() as transaction:
        for n in range(6):
            transaction.send("out", b"%d" % n)
    source = log.source(["out"])
    assert log.remove(OUT, [1, 4, 5, 99]) == 3
    assert [message.offset for message in source.read()] == [0, 2, 3]
    assert source.position() == {OUT: 7}
    assert source.bounds(OUT) == (0, 7)
    for thing in (source, stage, log):
        thing.close()


def test_an_abort_leaves_a_gap(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"out": 1})
    stage = log.stage("writer")
    for fail in (True, False):
        try:
            with stage.transaction() as transaction:
                transaction.send("out", b"1")
                transaction.send("out", b"2")
                if fail:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
    source = log.source(["out"])
    assert [message.offset for message in source.read()] == [3, 4]
    assert source.bounds(OUT) == (0, 6)
    log.close()


def test_a_full_partition_does_not_starve_another(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"out": 3})
    with log.stage("writer").transaction() as transaction:
        for n in range(300):
            transaction.send("out", b"%d" % n, partition=n % 3)
    source = log.source(["out"])
    seen = Counter(message.tp.partition for _ in range(3) for message in source.read(50))
    assert set(seen) == {0, 1, 2}
    log.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"syncronous": "FULL"}, r"no such option \(did you mean synchronous\?\)"),
        ({"synchronous": "OFF"}, "must be NORMAL or FULL, not 'OFF'"),
        ({"busy_timeout_s": "long"}, "must be a number above 0"),
        ({"busy_timeout_s": True}, "must be a number above 0"),
        ({"busy_timeout_s": 0}, "must be a number above 0"),
        ({"sasl_mechanism": "PLAIN"}, "the embedded log has no such option"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        open_log(LogSettings(path=str(tmp_path / "log.sqlite"), options=options))


def test_full_synchronous_is_passed_on(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "log.sqlite", prefix="", options={"synchronous": "FULL"})
    with closing(tables.connect()) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    tables.close()


def test_files_that_are_no_log(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"this is not a database, and long enough to be sure of it " * 20)
    with pytest.raises(StreamError, match="damaged or is no log"):
        EmbeddedLog(junk)
    assert junk.read_bytes().startswith(b"this is not"), "it is left as it was"
    foreign = tmp_path / "foreign.sqlite"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()
    with pytest.raises(WrongLog, match="something else"):
        EmbeddedLog(foreign)
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamError, match="cannot make the folder"):
        EmbeddedLog(tmp_path / "file" / "log.sqlite")
    with pytest.raises(StreamError, match="unable to open"):
        EmbeddedLog(tmp_path)


def test_a_writer_that_hangs_becomes_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = EmbeddedLog(path, options={"busy_timeout_s": 0.2})
    log.create_topics({"out": 1})
    stage = log.stage("writer")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StreamError, match="another process holds it for too long"), stage.transaction() as transaction:
        transaction.send("out", b"1")
    assert log.source(["out"]).read(timeout_s=0) == [], "readers do not wait for writers"
    other.execute("ROLLBACK")
    with stage.transaction() as transaction:
        transaction.send("out", b"2")
    assert [message.value for message in log.source(["out"]).read()] == [b"2"]
    log.close()


@pytest.mark.slow
def test_writing_and_reading_keep_up_with_bare_sqlite(tmp_path: Path) -> None:
    value = os.urandom(3000)
    count = 15_000
    connection = sqlite3.connect(tmp_path / "bare.sqlite", isolation_level=None)
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE m (offset INTEGER PRIMARY KEY, time_us INTEGER, key BLOB, value BLOB)")
    started = time.monotonic()
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO m VALUES (?, ?, ?, ?)", ((n, n, b"key", value) for n in range(count)))
    connection.execute("COMMIT")
    bare_s = time.monotonic() - started
    connection.close()
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"out": 1})
    stage = log.stage("writer")
    started = time.monotonic()
    with stage.transaction() as transaction:
        for _ in range(count):
            transaction.send("out", value, key=b"key")
    write_s = time.monotonic() - started
    started = time.monotonic()
    assert len(drain(log.source(["out"]))) == count
    read_s = time.monotonic() - started
    log.close()
    # Loose, because other work shares the machine; measured alone: 1.3 and .5.
    assert write_s < 5 * bare_s + 2, f"bare {bare_s:.2f} s, writing {write_s:.2f} s"
    assert read_s < 5 * bare_s + 2, f"bare {bare_s:.2f} s, reading {read_s:.2f} s"


def test_a_new_log_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    """It holds histories of users. The usual umask would let everybody on the machine read it."""
    before = os.umask(0o022)
    try:
        log = EmbeddedLog(tmp_path / "new" / "log.sqlite")
        log.create_topics({"items": 1})
        made = sorted((tmp_path / "new").iterdir())
        assert {path.name for path in made} >= {"log.sqlite", "log.sqlite-wal"}
        assert {oct(path.stat().st_mode & 0o777) for path in made} == {"0o600"}
        log.close()
        (tmp_path / "new" / "log.sqlite").chmod(0o640)  # whoever wants a group to read it says so once
        EmbeddedLog(tmp_path / "new" / "log.sqlite").close()
        assert (tmp_path / "new" / "log.sqlite").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
