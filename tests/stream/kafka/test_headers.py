"""A header's name may be any bytes: such a record is read, and so are those behind it."""

from __future__ import annotations

import uuid

import pytest
from kafka import KafkaProducer
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from recdistill.config import LogSettings
from recdistill.stream import open_log
from recdistill.stream.kafka.headers import read_any_name


class _Latin(str):
    """A name as a program writes it that knows nothing of UTF-8."""

    def encode(self, *_: object) -> bytes:
        return super().encode("latin-1")


@pytest.mark.parametrize("compression", [DefaultRecordBatch.CODEC_NONE, DefaultRecordBatch.CODEC_GZIP])
def test_a_batch_is_read_to_its_end(compression: int) -> None:
    read_any_name()
    made = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=9999,
    )
    names = ["plain", _Latin("café"), "straße"]
    for n, name in enumerate(names):
        made.append(n, timestamp=n, key=b"k", value=b"value %d" % n, headers=[(name, b"%d" % n), ("more", None)])
    records = list(DefaultRecordBatch(bytes(made.build())))
    assert [one.value for one in records] == [b"value 0", b"value 1", b"value 2"]
    assert {type(one.value) for one in records} == {bytes}
    assert [one.headers[0] for one in records] == [("plain", b"0"), ("caf\ufffd", b"1"), ("straße", b"2")]


@pytest.mark.kafka
def test_a_source_goes_on_behind_it(kafka_brokers: str) -> None:
    """All of them are one batch."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    log = open_log(LogSettings(kind="kafka", brokers=kafka_brokers, prefix=prefix))
    log.create_topics({"a": 1})
    producer = KafkaProducer(bootstrap_servers=kafka_brokers, linger_ms=500)
    for n in range(9):
        producer.send(f"{prefix}a", b"%d" % n, headers=[(_Latin("café") if n == 4 else "plain", b"x")])
    producer.close()
    source = log.source(["a"])
    found = []
    for _ in range(20):
        found += source.read(100, 0.5)
        if len(found) == 9:
            break
    assert [message.value for message in found] == [b"%d" % n for n in range(9)]
    assert found[4].headers == (("caf\ufffd", b"x"),)
    source.close()
    log.close()
