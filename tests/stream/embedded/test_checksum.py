"""The embedded log notices changed bytes, and says which message is damaged; a log without checksums still opens."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.errors import Damaged, StreamError
from recdistill.stream import Log, Message, TopicPartition, open_log
from recdistill.stream.testing import everything

TP = TopicPartition("examples", 0)


def _open(path: Path) -> Log:
    return open_log(LogSettings(path=str(path)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of 40 messages in two transactions, closed."""
    path = tmp_path / "log.sqlite"
    log = _open(path)
    log.create_topics({"examples": 1, "items": 1, "dead-letters": 1})
    with closing(log.stage("writer")) as stage:
        for part in range(2):
            with stage.transaction() as transaction:
                for n in range(20):
                    value = random.Random(100 * part + n).randbytes(700)
                    about = (("n", b"%d" % n),) if n % 2 else ()
                    transaction.send("examples", value, key=b"key-%d" % n, headers=about, time_us=1_000 + n)
    log.close()
    return path


def _change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        (table,) = file.execute("SELECT id FROM partitions WHERE topic = 'examples'").fetchone()
        assert file.execute(statement.replace("TABLE", f"messages_{table}")).rowcount > 0


@pytest.mark.parametrize(
    "change",
    [
        "value = zeroblob(700)",
        "value = NULL",
        "value = 'text'",
        "value = substr(value, 1, 699)",
        "key = x'6b'",
        "key = NULL",
        "headers = x'90'",
        "time_us = 7",
        "time_us = 1e30",
        "crc = crc + 1",
    ],
)
def test_a_changed_message_is_one_sentence_with_its_place(path: Path, change: str) -> None:
    _change(path, f"UPDATE TABLE SET {change} WHERE offset = 7")
    log = _open(path)
    with closing(log.source([TP])) as source:
        assert [message.offset for message in source.read(1000, 0.0)] == list(range(7)), "what is before it is given"
        for _ in range(2):
            with pytest.raises(
                Damaged, match=r"message at offset 7 of examples/0 in the log .* is damaged .*`recdistill topics mend`"
            ):
                source.read(1000, 0.0)
        source.seek({TP: 8})
        assert source.read(1000, 0.0)[0].offset == 8
    log.close()


def test_another_partition_does_not_hide_it(path: Path) -> None:
    log = _open(path)
    with closing(log.stage("w")) as stage, stage.transaction() as transaction:
        transaction.send("items", b"x")
    _change(path, "UPDATE TABLE SET value = x'00' WHERE offset = 0")
    with closing(log.source(["items", "examples"])) as source:
        for _ in range(2):
            with pytest.raises(Damaged, match="offset 0 of examples/0"):
                source.read(1000, 0.0)
    log.close()


def test_mending_moves_it_to_the_dead_letters_and_stages_go_on(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _change(path, "UPDATE TABLE SET value = substr(value, 1, 9) WHERE offset IN (7, 25)")
    where = ["--set", f"log.path={path}"]
    assert main(["topics", "mend", *where]) == 0
    said = capsys.readouterr().out
    assert said == (
        "40 messages have a checksum, and 2 of them were damaged\n"
        "  examples/0 offset 7 is now in the dead letters\n  examples/0 offset 25 is now in the dead letters\n"
    )
    log = _open(path)
    left = [message.offset for message in everything(log, "examples") if message.value is not None]
    assert left == [n for n in range(41) if n not in (7, 20, 25)]
    letters = everything(log, "dead-letters")
    assert [(dict(m.headers)["offset"], m.value) for m in letters] == [
        (b"7", random.Random(7).randbytes(700)[:9]),
        (b"25", random.Random(104).randbytes(700)[:9]),
    ]
    log.close()
    assert main(["topics", "mend", *where]) == 0
    assert capsys.readouterr().out == "42 messages have a checksum, and 0 of them were damaged\n"


def test_a_log_of_an_older_version_opens_reads_and_takes_new_messages(path: Path) -> None:
    """Before there were checksums the tables had no such column."""
    with closing(sqlite3.connect(path)) as file, file:
        for (number,) in file.execute("SELECT id FROM partitions").fetchall():
            file.execute(f"ALTER TABLE messages_{number} DROP COLUMN crc")
    log = _open(path)
    before = everything(log, "examples")
    assert len(before) == 40
    with closing(log.stage("writer")) as stage, stage.transaction() as transaction:
        transaction.send("examples", b"new", key=b"k", time_us=1)
    assert [message.value for message in everything(log, "examples")[40:]] == [b"new"]
    _change(path, "UPDATE TABLE SET value = x'00' WHERE offset = 42")
    with closing(log.source([TP], {TP: 42})) as source, pytest.raises(Damaged, match="offset 42"):
        source.read(1000, 0.0)
    _change(path, "UPDATE TABLE SET value = x'00' WHERE offset = 3")
    with closing(log.source([TP], {TP: 3})) as source:
        assert source.read(1, 0.0)[0].value == b"\x00", "it had no checksum"
    log.close()


def test_a_flipped_bit_anywhere_is_said_or_changes_no_message(path: Path, tmp_path: Path) -> None:
    """Any one bit of the messages' own pages: each read gives what was written, or an error that names it."""
    log = _open(path)
    right = {message.offset: message for message in everything(log, "examples")}
    log.close()
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as file:
        (table,) = file.execute("SELECT id FROM partitions WHERE topic = 'examples'").fetchone()
        (page,) = file.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (f"messages_{table}",)).fetchone()
        (size,) = file.execute("PRAGMA page_size").fetchone()
    values = [whole.find(message.value or b"") for message in right.values()]
    assert min(values) > 0, "the values are in the file as they are"
    chance, said = random.Random(5), list[str]()
    for number in range(60):
        # Half of the bits in values, half anywhere in the pages behind the header of the tree.
        at = chance.choice(values) + chance.randrange(700) if number % 2 else chance.randrange(page * size, len(whole))
        hurt = bytearray(whole)
        hurt[at] ^= 1 << chance.randrange(8)
        copy = tmp_path / f"hurt-{number}.sqlite"
        copy.write_bytes(hurt)
        found: list[Message] = []
        try:
            log = _open(copy)
            with closing(log.source([TP])) as source:
                while some := source.read(5, 0.0):
                    found += some
            log.close()
        except StreamError as error:
            said.append(str(error))
        for message in found:
            assert right[message.offset] == message, f"bit at {at}"
    assert len(said) >= 30, "each bit in a value is found"
    assert all("damaged" in sentence for sentence in said)
