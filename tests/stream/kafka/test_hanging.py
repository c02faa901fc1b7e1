"""Transactions that a broker decided and never finished: made by hand on a real broker, ended by the next stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaProducer
from kafka import TopicPartition as WirePartition

from recdistill.stream import TopicPartition
from recdistill.stream.kafka import KafkaLog

pytestmark = pytest.mark.kafka

OUT = TopicPartition("out", 0)


@pytest.fixture(scope="module")
def trusting_broker(kafka_broker_factory: Callable) -> str:
    """A broker that takes the records of a transaction without asking its coordinator about it."""
    settings = {"transaction.partition.verification.enable": "false"}
    return str(kafka_broker_factory(settings=settings).bootstrap)


@pytest.fixture
def log(trusting_broker: str, request: pytest.FixtureRequest) -> Iterator[KafkaLog]:
    opened = KafkaLog(trusting_broker, prefix=f"{request.node.name.split('[')[-1].strip(']')}.")
    opened.create_topics({"out": 1})
    yield opened
    opened.close()


def wait_until(done: Callable[[], bool], patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def leave_open(log: KafkaLog, value: bytes, *, commit: bool) -> None:
    """Decides one transaction, then writes a record that belongs to it for the partition, but not for the coordinator.

    That is what is left when a broker notes that all partitions have their markers, and one of them has none.
    """
    name, wire = log.prefix + "writer", WirePartition(log.prefix + "out", 0)
    producer = KafkaProducer(
        bootstrap_servers=log.brokers.settings(KafkaProducer, {})["bootstrap_servers"], transactional_id=name
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(wire.topic, b"before", partition=0).get(30)
    (producer.commit_transaction if commit else producer.abort_transaction)()
    source = log.source([OUT])
    wait_until(lambda: source.bounds(OUT)[1] == 2)  # the record and its marker: a later marker would end what follows
    source.close()
    producer.begin_transaction()
    producer._transaction_manager._partitions_in_transaction.add(wire)  # so it is not announced to the coordinator
    producer.send(wire.topic, value, partition=0).get(30)
    producer.close(timeout=0)


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "aborted"])
def test_it_ends_as_it_was_decided_when_the_stage_is_opened_again(
    log: KafkaLog, commit: bool, caplog: pytest.LogCaptureFixture
) -> None:
    leave_open(log, b"hanging", commit=commit)
    source = log.source([OUT])
    stuck = source.bounds(OUT)[1]
    time.sleep(1)
    assert source.bounds(OUT)[1] == stuck  # readers stop before the record, and nothing happens by itself
    stage = log.stage("writer")
    assert f"{'committed' if commit else 'aborted'} a transaction of {log.prefix}writer but did not tell" in caplog.text
    with stage.transaction() as transaction:
        transaction.send("out", b"after")
    stage.close()
    found = []
    deadline = time.monotonic() + 60
    while b"after" not in found and time.monotonic() < deadline:
        found += [message.value for message in source.read(100, 0.5)]
    assert found == ([b"before", b"hanging", b"after"] if commit else [b"after"])
    source.close()
    # Now nothing hangs, and nothing is told.
    caplog.clear()
    log.stage("writer").close()
    assert "did not tell" not in caplog.text
