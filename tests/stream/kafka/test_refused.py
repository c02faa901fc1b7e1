"""A time that the brokers do not take stops no stage: what is made of such a message has the present time."""

from __future__ import annotations

import time
import uuid
from contextlib import closing

import pytest
from kafka import KafkaProducer

from recdistill.config import LogSettings
from recdistill.errors import DecodeError
from recdistill.stream import Delivery, Message, Outgoing, TopicPartition, deliver, open_log
from recdistill.stream.testing import everything

pytestmark = pytest.mark.kafka

IN = TopicPartition("impressions", 0)
HOUR_MS = 3_600_000


def test_a_log_whose_clock_went_back_is_written(kafka_brokers: str) -> None:
    """What the brokers took two hours ago has a time that they would not take today."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    before_ms = time.time_ns() // 1_000_000
    with closing(open_log(LogSettings(kind="kafka", brokers=kafka_brokers, prefix=prefix))) as log:
        any_time = {"message.timestamp.after.max.ms": str(2**63 - 1)}
        log.create_topics({"impressions": 1, "rankings": 1, "dead-letters": 1}, configs={"impressions": any_time})
        producer = KafkaProducer(bootstrap_servers=kafka_brokers)
        for n, ahead_ms in enumerate((-HOUR_MS, 5 * HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS)):
            producer.send(f"{prefix}impressions", b"%d" % n, key=b"k", timestamp_ms=before_ms + ahead_ms).get(20)
        producer.close()
        with closing(log.stage("score", [IN])) as stage, closing(log.source([IN])) as source:
            read: list[Message] = []
            while len(read) < 4:
                read += source.read(10, 5.0)
            outgoing = [Outgoing("rankings", one.value, key=one.key, source=one) for one in read[:3]]
            dead = [(read[3], DecodeError("no impression"))]
            refused = deliver(stage, "score", lambda _: Delivery(outgoing, dead, source.position()))
            assert refused == {}
            assert stage.position() == {IN: 4}
        rankings, [letter] = everything(log, "rankings"), everything(log, "dead-letters")
        after_ms = time.time_ns() // 1_000_000
        assert [one.value for one in rankings] == [b"0", b"1", b"2"]
        assert rankings[0].time_us == (before_ms - HOUR_MS) * 1000, "what is taken keeps the log's time"
        assert all(before_ms <= one.time_us // 1000 <= after_ms for one in (*rankings[1:], letter))
        assert letter.value == b"3"
        assert int(dict(letter.headers)["time_us"]) == (before_ms + 3 * HOUR_MS) * 1000
