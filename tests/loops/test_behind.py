"""Messages are read again wherever the log still holds them."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path

import pytest

from recdistill.errors import OutOfRange
from recdistill.loops.behind import NEAR, Behind
from recdistill.stream import Log, TopicPartition
from recdistill.stream.embedded import EmbeddedLog

RANKINGS = TopicPartition("rankings", 0)


def written(log: Log, count: int) -> None:
    log.create_topics({"rankings": 1})
    with closing(log.stage("writer")) as stage, stage.transaction() as transaction:
        for n in range(count):
            transaction.send("rankings", b"%d" % n, key=b"k")


def read(behind: Behind, *offsets: int) -> list[bytes | None]:
    found = behind.read((RANKINGS, offset) for offset in offsets)
    return [found[RANKINGS, offset].value for offset in offsets if (RANKINGS, offset) in found]


def test_near_and_far_places_are_read_in_any_order(tmp_path: Path) -> None:
    with closing(EmbeddedLog(tmp_path / "log.sqlite")) as log:
        written(log, 3 * NEAR)
        with closing(log.source([RANKINGS])) as source:
            behind = Behind(source)
            assert read(behind, 5, 7, 2 * NEAR + 9, 6) == [b"5", b"7", b"409", b"6"]
            assert read(behind, 3) == [b"3"]
            log.remove(RANKINGS, [8])
            assert read(behind, 8, 9, 3 * NEAR) == [b"9"], "what is not there any more is not in the answer"


def test_retention_that_passed_the_cursor_does_not_hide_what_is_there(tmp_path: Path) -> None:
    with closing(EmbeddedLog(tmp_path / "log.sqlite")) as log:
        written(log, 20)
        with closing(log.source([RANKINGS])) as source:
            behind = Behind(source)
            assert read(behind, 2) == [b"2"]
            log.trim(RANKINGS, 10)
            assert read(behind, 14, 12) == [b"14", b"12"]
            with pytest.raises(OutOfRange, match=r"position 9 of rankings/0 is outside of what the log holds \(10 to"):
                read(behind, 9)


@pytest.mark.kafka
def test_the_same_on_kafka(kafka_brokers: str) -> None:
    from recdistill.stream.kafka import KafkaLog

    with closing(KafkaLog(kafka_brokers, prefix=f"t{uuid.uuid4().hex[:8]}.")) as log:
        written(log, 20)
        with closing(log.source([RANKINGS])) as source:
            behind = Behind(source)
            assert read(behind, 2) == [b"2"]
            source.seek({RANKINGS: 3})  # so that the client has nothing at hand of what follows
            log.delete_before(RANKINGS, 10)
            assert read(behind, 14, 12) == [b"14", b"12"]
