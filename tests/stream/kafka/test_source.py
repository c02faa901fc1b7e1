"""Reading partitions in turn, as lanes are read: what is at hand of one of them never silences another one."""

from __future__ import annotations

import uuid

import pytest

from recdistill.config import LogSettings
from recdistill.stream import TopicPartition, open_log

pytestmark = pytest.mark.kafka

LANES = [TopicPartition("a", n) for n in range(2)]


def test_a_partition_that_was_paused_while_the_client_held_its_records_is_read_on(
    kafka_brokers: str,
) -> None:
    """More records of each than the reader keeps, so that both are paused, and none is written meanwhile."""
    log = open_log(LogSettings(kind="kafka", brokers=kafka_brokers, prefix=f"t{uuid.uuid4().hex[:8]}."))
    log.create_topics({"a": 2})
    written = 7_000
    stage = log.stage("writer")
    for first in range(0, written, 500):
        with stage.transaction() as transaction:
            for n in range(first, first + 500):
                for tp in LANES:
                    transaction.send("a", b"%d" % n + b"." * 1_500, partition=tp.partition)
    source = log.source(["a"])
    found: dict[TopicPartition, list[int]] = {tp: [] for tp in LANES}
    silent = 0
    while silent < 20 and sum(map(len, found.values())) < 2 * written:
        for tp in LANES:
            messages = source.read_from(tp, 500, 0.5)
            silent = 0 if messages else silent + 1
            found[tp] += [int((message.value or b"").rstrip(b".")) for message in messages]
    assert found == {tp: list(range(written)) for tp in LANES}
    source.close()
    stage.close()
    log.close()
