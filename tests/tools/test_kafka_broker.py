"""The broker fixture holds what it promises: transactions are real, and data, address and broker survive a kill."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from tools import kafka_broker
from tools.kafka_broker import KafkaBroker


def _new_topic(bootstrap: str) -> str:
    topic = f"broker-{uuid.uuid4().hex}"
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    finally:
        admin.close()
    return topic


def _committed(bootstrap: str, topic: str) -> list[bytes]:
    """Everything before the end of what is committed."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    try:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        end = consumer.end_offsets([partition])[partition]
        values: list[bytes] = []
        deadline = time.monotonic() + 20
        while consumer.position(partition) < end:
            assert time.monotonic() < deadline, f"at {consumer.position(partition)} of {end}"
            values += [record.value for batch in consumer.poll(timeout_ms=200).values() for record in batch]
        return values
    finally:
        consumer.close()


@pytest.mark.kafka
def test_only_committed_transactions_are_read(kafka_brokers: str) -> None:
    topic = _new_topic(kafka_brokers)
    producer = KafkaProducer(bootstrap_servers=kafka_brokers, transactional_id=topic, compression_type="lz4")
    producer.init_transactions()
    for values, finish in (
        ([b"1", b"2"], producer.commit_transaction),
        ([b"lost"], producer.abort_transaction),
        ([b"3"], producer.commit_transaction),
    ):
        producer.begin_transaction()
        for value in values:
            producer.send(topic, value)
        finish()
    producer.close()
    assert _committed(kafka_brokers, topic) == [b"1", b"2", b"3"]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("end", [KafkaBroker.kill, KafkaBroker.stop])
def test_data_and_address_survive(
    end: Callable[[KafkaBroker], None], kafka_broker_factory: Callable[..., KafkaBroker]
) -> None:
    broker = kafka_broker_factory()
    address, pid = broker.bootstrap, broker.pid
    topic = _new_topic(address)
    producer = KafkaProducer(bootstrap_servers=address)
    producer.send(topic, b"kept").get(timeout=20)
    producer.close()

    end(broker)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    broker.start()

    assert broker.bootstrap == address
    assert broker.pid != pid
    assert _committed(address, topic) == [b"kept"]


@pytest.mark.kafka
def test_a_misspelt_topic_is_not_made(kafka_brokers: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka_brokers, max_block_ms=1500)
    with pytest.raises(Exception, match=r"(?i)topic|metadata|timeout"):
        producer.send(f"misspelt-{uuid.uuid4().hex}", b"x").get(timeout=5)
    producer.close()


def test_settings_replace_those_of_the_template(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path, settings={"num.io.threads": "1", "log.retention.ms": "5000"})
    broker._ports = (1, 2)
    lines = broker._properties(tmp_path / "data").splitlines()
    assert [line for line in lines if "num.io.threads" in line] == ["num.io.threads=1"]
    assert "log.retention.ms=5000" in lines
    assert "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2" in lines


def test_missing_parts_are_one_line_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019' >&2\n")
    java.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _name: str(java))
    assert kafka_broker.missing_parts(tmp_path) == f"no Kafka broker in {tmp_path}; type: make setup-kafka"
    (tmp_path / "kafka_2.13-4.3.1.jar").touch()
    why = 'the Kafka broker needs Java 17 or newer, not openjdk version "11.0.2" 2019; type: make setup-kafka'
    assert kafka_broker.missing_parts(tmp_path) == why
    java.write_text("#!/bin/sh\necho 'openjdk version \"21\" 2023-09-19' >&2\n")
    assert kafka_broker.missing_parts(tmp_path) is None
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert kafka_broker.missing_parts(tmp_path) == "no Java on the path for the Kafka broker; type: make setup-kafka"
