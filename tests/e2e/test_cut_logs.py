"""A log that was cut back and has grown again is noticed, on both kinds of log; whatever else goes away is no cut.

`Disk` is the storage of one log: it keeps what stands on it now, and later puts that back in place of what came since.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.power import FILES, Platter

from recdistill.config import LogSettings
from recdistill.errors import CheckpointError, OutOfRange, StreamError, WrongLog
from recdistill.stream import Log, Position, TopicPartition, open_log
from recdistill.stream.embedded import EmbeddedLog, generations
from recdistill.stream.testing import COMPACT_SOON, compacted, everything

B = TopicPartition("b", 0)


class EmbeddedDisk:
    def __init__(self, folder: Path) -> None:
        self.folder, self.copy = folder / "now", folder / "kept"
        self.settings = LogSettings(path=str(self.folder / "log.sqlite"))

    def keep(self) -> None:
        """As of now, while the log is open: the file and what is beside it, as a power cut would leave them."""
        self.copy.mkdir()
        for name in FILES:
            shutil.copy(self.folder / name, self.copy)

    def put_back(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder)


class KafkaDisk:
    """The data of one topic goes back; what the broker knows of itself stays, as after unclean ends."""

    def __init__(self, folder: Path, start: Callable) -> None:
        self.copy = folder / "kept"
        self.broker = start()
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        self.settings = LogSettings(kind="kafka", brokers=self.broker.bootstrap, prefix=self.prefix)

    @property
    def data(self) -> Path:
        return self.broker.log.parent / "data" / f"{self.prefix}b-0"

    def keep(self) -> None:
        self.broker.stop()
        shutil.copytree(self.data, self.copy)
        self.broker.start()

    def put_back(self) -> None:
        self.broker.kill()
        shutil.rmtree(self.data)
        shutil.copytree(self.copy, self.data)
        self.broker.start()


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedDisk | KafkaDisk]:
    if request.param == "embedded":
        yield EmbeddedDisk(tmp_path)
        return
    chosen = KafkaDisk(tmp_path, request.getfixturevalue("kafka_broker_factory"))
    yield chosen
    chosen.broker.kill()


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    if request.param == "kafka":
        chosen = LogSettings(
            kind="kafka", brokers=request.getfixturevalue("kafka_brokers"), prefix=f"t{uuid.uuid4().hex[:8]}."
        )
    else:
        chosen = LogSettings(path=str(tmp_path / "log.sqlite"))
    with closing(open_log(chosen)) as opened:
        opened.create_topics({"b": 1, "c": 2}, configs={"b": {**COMPACT_SOON, "cleanup.policy": "compact,delete"}})
        yield opened


def write(log: Log, count: int, key: str = "k{}") -> int:
    """Writes messages in transactions of two by a new stage; returns the end."""
    with closing(log.stage("writer")) as stage:
        for n in range(0, count, 2):
            with stage.transaction() as transaction:
                for m in (n, n + 1):
                    transaction.send("b", b"%d" % m, key=key.format(m).encode())
    return end(log)


def end(log: Log) -> int:
    with closing(log.source([B])) as source:
        return source.bounds(B)[1]


def witness(log: Log, position: Position) -> dict[str, str]:
    """Through JSON, as a checkpoint saves it."""
    found: dict[str, str] = json.loads(json.dumps(log.witness(position)))
    return found


def test_a_log_that_was_cut_back_and_has_grown_again_is_noticed(
    disk: EmbeddedDisk | KafkaDisk, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(disk.settings)
    log.create_topics({"b": 1})
    kept = write(log, 6)
    early = witness(log, {B: kept})
    disk.keep()
    log.check_witness({B: kept}, early)
    saved = write(log, 8)
    late = witness(log, {B: saved})
    log.check_witness({B: saved}, late)
    log.close()

    disk.put_back()
    with closing(open_log(disk.settings)) as log:
        assert end(log) == kept
        with pytest.raises(OutOfRange, match=f"position {saved} of b/0"):
            log.check_witness({B: saved}, late)
        log.check_witness({B: kept}, early)
        while (now := write(log, 2)) <= saved:
            pass  # as new records would come
        assert saved < now
        with closing(log.source([B], {B: saved})):
            pass  # by the numbers alone it is a position like any other
        # SQLite's file has forgotten that generation altogether; a broker knows where the epoch ended.
        cut = f"{kept} at the latest" if isinstance(disk, EmbeddedDisk) else str(kept)
        with pytest.raises(WrongLog, match=f"b/0 was read up to {saved}, .* from {cut} on it holds other") as caught:
            log.check_witness({B: saved}, late)
        assert f"a checkpoint at {kept} or before" in str(caught.value)
        log.check_witness({B: kept}, early)
        log.check_witness({B: now}, witness(log, {B: now}))
        with caplog.at_level(logging.WARNING):
            log.check_witness({B: saved}, None)  # as an older version saved it
        assert f"the saved position (b/0 at {saved}) has no witness" in caplog.text


def test_what_goes_away_by_right_is_no_cut(log: Log) -> None:
    taken: dict[int, dict[str, str]] = {}
    for n in range(4):
        write(log, 2, "many times {}")
        write(log, 2, f"once {n} {{}}")
        middle = end(log) - 2
        for position in (middle, end(log)):
            taken[position] = witness(log, {B: position})

    def check_all(beginning: int = 0) -> None:
        for position, text in taken.items():
            if position >= beginning:
                log.check_witness({B: position}, text)

    check_all()
    write(log, 2, "and later ones {}")
    check_all()
    compacted(log, "b")
    before = everything(log, "b")
    assert [message.key for message in before].count(b"many times 0") == 1
    assert before[0].offset < before[1].offset, "compacted"
    check_all()
    if isinstance(log, EmbeddedLog):
        assert log.remove(B, [message.offset for message in before[:-1]]) == len(before) - 1
        assert log.remove(B, [0, 10_000]) == 0
        assert [message.offset for message in everything(log, "b")] == [before[-1].offset]
        check_all()
    third = sorted(taken)[2]
    trim(log, third)
    check_all(third)
    with pytest.raises(OutOfRange, match="position"):
        log.check_witness({B: third - 1}, taken[third])
    for position in taken:
        if position >= third:  # what is saved from here on, too
            log.check_witness({B: position}, witness(log, {B: position}))
    trim(log, end(log))
    check_all(end(log))
    log.check_witness({B: end(log)}, witness(log, {B: end(log)}))
    write(log, 2, "again {}")
    log.check_witness({B: end(log)}, witness(log, {B: end(log)}))


def trim(log: Log, before: int) -> None:
    if isinstance(log, EmbeddedLog):
        log.trim(B, before)
        return
    import kafka

    with closing(kafka.KafkaAdminClient(bootstrap_servers=log.brokers._servers)) as admin:  # type: ignore[attr-defined]
        admin.delete_records({kafka.TopicPartition(f"{log.prefix}b", 0): before})  # type: ignore[attr-defined]


def test_a_position_behind_a_hole_of_any_size(log: Log) -> None:
    write(log, 2, "first {}")
    with closing(log.stage("writer")) as stage, stage.transaction() as transaction:
        for n in range(700):
            transaction.send("b", b"%d" % n, key=b"the same")
    hole = end(log) - 2
    write(log, 2, "last {}")
    with closing(log.stage("writer")) as stage, stage.transaction() as transaction:
        transaction.send("b", b"once more", key=b"the same")
    compacted(log, "b")
    offsets = [message.offset for message in everything(log, "b")]
    assert max(b - a for a, b in itertools.pairwise(offsets)) > 700
    text = witness(log, {B: hole})
    assert text
    log.check_witness({B: hole}, text)


def test_many_partitions_at_once_and_those_that_are_empty(log: Log) -> None:
    c0, c1 = TopicPartition("c", 0), TopicPartition("c", 1)
    with closing(log.stage("writer")) as stage, stage.transaction() as transaction:
        transaction.send("c", b"x", partition=1)
    position = {B: 0, c0: 0, c1: 2}
    found = witness(log, position)
    assert list(found) == ["c/1"], "where nothing ever stood there is nothing to vouch for"
    log.check_witness(position, found)
    log.check_witness({B: 0, c0: 0}, None)
    log.check_witness({}, {})


@pytest.mark.parametrize("text", ["", "nonsense", "1:", "-1", "a:b:c", "3:2:1;"])
def test_a_text_that_is_no_witness_is_refused(log: Log, text: str) -> None:
    position = {B: write(log, 2)}
    with pytest.raises((CheckpointError, WrongLog), match=r"witness .* is not one|was read up to"):
        log.check_witness(position, {"b/0": text})


@pytest.mark.kafka
def test_a_record_of_another_time_is_noticed_where_the_epochs_agree(kafka_brokers: str) -> None:
    """As after a whole cluster was put back with its own memory: it counts the same epochs again."""
    with closing(open_log(LogSettings(kind="kafka", brokers=kafka_brokers, prefix=f"t{uuid.uuid4().hex[:8]}."))) as log:
        log.create_topics({"b": 1})
        position = {B: write(log, 6)}
        records = log.witness(position)["b/0"].split(",")
        assert len(records) == 3
        for changed in range(3):
            offset, epoch, time_ms = records[changed].split(":")
            other = [*records]
            other[changed] = f"{offset}:{epoch}:{int(time_ms) + 1}"
            with pytest.raises(WrongLog, match=f"from {offset} at the latest on it holds other"):
                log.check_witness(position, {"b/0": ",".join(other)})
        later = records[-1].replace(":0:", ":7:")  # an epoch that this broker has never seen
        with pytest.raises(WrongLog, match="at the latest"):
            log.check_witness(position, {"b/0": later})


def test_what_a_witness_vouches_for_outlasts_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "log"
    platter = Platter(folder, monkeypatch)
    with closing(EmbeddedLog(folder / FILES[0])) as log:
        log.create_topics({"b": 1})
        saved = write(log, 6)
        with closing(log.source([B])) as reader:
            reader.read(1)
            assert platter.flushed == 0, "SQLite alone has not flushed it"
            text = witness(log, {B: saved})
            lost = write(log, 40)
            late = generations_of(folder / FILES[0])
        cut_off = platter.after_a_power_cut(tmp_path / "cut")
    with closing(EmbeddedLog(cut_off)) as log:
        assert end(log) == saved < lost
        log.check_witness({B: saved}, text)
        assert [message.value for message in everything(log, "b")] == [b"%d" % n for n in range(6)]
        assert write(log, 60) > lost
        log.check_witness({B: saved}, text)
        with pytest.raises(WrongLog, match=f"from {saved} on it holds other"):
            log.check_witness({B: lost}, {"b/0": f"{late[0][0]}:{late[0][1]}"})
        with pytest.raises(WrongLog, match=f"from {late[1][0]} at the latest on"):
            log.check_witness({B: lost}, {"b/0": f"{late[1][0]}:{late[1][1]}"})


def generations_of(path: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT start, name FROM generations ORDER BY start").fetchall()


def test_a_log_that_is_gone_cannot_be_flushed(tmp_path: Path) -> None:
    with closing(EmbeddedLog(tmp_path / "log" / FILES[0])) as log:
        log.create_topics({"b": 1})
        shutil.rmtree(tmp_path / "log")
        with pytest.raises(StreamError, match=r"cannot flush the log .*; check the disk, and that the log is still"):
            log.sync()


def test_writers_that_take_turns_do_not_make_a_generation_each_time(tmp_path: Path) -> None:
    path = tmp_path / FILES[0]
    with closing(EmbeddedLog(path)) as log:
        log.create_topics({"b": 1})
        with closing(log.stage("one")) as one, closing(log.stage("two")) as two:
            for n in range(20):
                with (one, two)[n % 2].transaction() as transaction:
                    transaction.send("b", b"%d" % n)
        assert len(generations_of(path)) == 1
        for _ in range(5):
            write(log, 2)
        assert len(generations_of(path)) == 6
        log.trim(B, end(log) - 1)
        assert len(generations_of(path)) == 1, "what no position needs is forgotten"


def test_an_aborted_transaction_takes_part_in_its_generation(tmp_path: Path) -> None:
    """A position may stand behind nothing but a gap; written over after a cut, that is noticed too."""
    kept = tmp_path / "kept.sqlite"
    with closing(EmbeddedLog(tmp_path / FILES[0])) as log:
        log.create_topics({"b": 1})
        write(log, 2)
        with closing(sqlite3.connect(tmp_path / FILES[0])) as source, closing(sqlite3.connect(kept)) as copy:
            source.backup(copy)
        stage = log.stage("writer")
        with pytest.raises(ZeroDivisionError), stage.transaction() as transaction:  # noqa: PT012
            transaction.send("b", b"never")
            raise ZeroDivisionError
        stage.close()
        saved = end(log)
        text = witness(log, {B: saved})
    with closing(EmbeddedLog(kept)) as log:
        assert write(log, 4) > saved
        with pytest.raises(WrongLog, match="was read up to"):
            log.check_witness({B: saved}, text)


def test_a_log_of_an_older_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / FILES[0]
    with closing(EmbeddedLog(path)) as log:
        log.create_topics({"b": 1, "empty": 1})
        saved = write(log, 4)
    with closing(sqlite3.connect(path)) as connection:  # as it was before there were generations
        connection.executescript("DROP TABLE generation; DROP TABLE generations;")
    with closing(EmbeddedLog(path)) as log, closing(EmbeddedLog(path)) as other:
        text = witness(log, {B: saved})
        assert text
        write(other, 4)
        log.check_witness({B: saved}, text)
        assert [start for start, _ in generations_of(path)] == [0, saved]


def test_generations_against_a_plain_model() -> None:
    """Random histories that are cut and go on: a witness holds exactly as long as what stood before it was not cut."""
    chance = random.Random(5)
    for _ in range(200):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        generations.make(connection)
        history: list[int] = []  # which life each offset was written in
        saved: list[tuple[list[int], str | None]] = []
        for life in range(chance.randrange(1, 6)):
            generations.renew(connection)
            for _ in range(chance.randrange(0, 4)):
                generations.note(connection, 1, len(history))
                history += [life] * chance.randrange(1, 4)
                position = chance.randrange(len(history) + 1)
                saved.append((history[:position], generations.witness(connection, 1, position)))
            if chance.random() < 0.5:  # the log is cut, with all that was noted since
                del history[chance.randrange(len(history) + 1) :]
                connection.execute("DELETE FROM generations WHERE start >= ?", (len(history),))
        for before, text in saved:
            if len(before) <= len(history):
                found = None if text is None else generations.cut(connection, 1, len(before), text)
                assert (found is None) == (before == history[: len(before)]), (before, history, text)
        connection.close()
