"""What only Kafka has: brokers that restart, transactions that others abort or leave open, retention, SASL, kills."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer

from recdistill.config import LogSettings
from recdistill.errors import ConfigError, Fenced, OutOfRange, StreamError, WrongLog
from recdistill.stream import Source, TopicPartition, check_identity, open_log

kafka = pytest.importorskip("kafka")

from recdistill.stream.kafka import KafkaLog  # noqa: E402 - only with the client

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).resolve().parents[2]
IN, OUT = TopicPartition("in", 0), TopicPartition("out", 0)

COPIER = """
import sys
from recdistill.stream import TopicPartition
from recdistill.stream.kafka import KafkaLog
log = KafkaLog(sys.argv[1], prefix=sys.argv[2])
tp = TopicPartition("in", 0)
stage = log.stage("copier", [tp])
source = log.source([tp], stage.position())
print("started", flush=True)
while True:
    messages = source.read(3, 0.2)
    if messages:
        with stage.transaction() as transaction:
            for message in messages:
                transaction.send("out", message.value)
            transaction.commit_inputs(source.position(), str(int(stage.note() or 0) + len(messages)))
"""


def new_log(brokers: str, **options: str) -> KafkaLog:
    log = KafkaLog(brokers, prefix=f"t{uuid.uuid4().hex[:8]}.", options=options)
    log.create_topics({"in": 1, "out": 1})
    return log


@pytest.fixture
def log(kafka_brokers: str) -> Iterator[KafkaLog]:
    opened = new_log(kafka_brokers)
    yield opened
    opened.close()


def drain(source: Source, tp: TopicPartition = OUT, patience_s: float = 60) -> list[bytes | None]:
    values = []
    deadline = time.monotonic() + patience_s
    end = source.bounds(tp)[1]
    while source.position()[tp] < end:
        assert time.monotonic() < deadline, f"stuck at {source.position()} before {end}"
        values += [message.value for message in source.read(1000, 0.5)]
    return values


def foreign_producer(log: KafkaLog, brokers: str) -> object:
    producer = kafka.KafkaProducer(bootstrap_servers=brokers, transactional_id=f"{log.prefix}foreign")
    producer.init_transactions()
    return producer


def test_what_others_abort_or_leave_open_stays_invisible(log: KafkaLog, kafka_brokers: str) -> None:
    producer = foreign_producer(log, kafka_brokers)
    topic = f"{log.prefix}out"
    source = log.source([OUT])
    for value, end in ((b"yes", "commit"), (b"no", "abort"), (b"also", "commit"), (b"never", "abort")):
        producer.begin_transaction()
        producer.send(topic, value, partition=0)
        producer.flush()
        getattr(producer, f"{end}_transaction")()
    assert drain(source) == [b"yes", b"also"]
    assert source.position() == {OUT: 8}, "four records and four ends of transactions"
    producer.begin_transaction()
    producer.send(topic, b"open", partition=0)
    producer.flush()
    with closing(log.stage("writer")) as writer, writer.transaction() as transaction:
        transaction.send("out", b"behind the open one")
    assert source.bounds(OUT)[1] == 8, "the end is the last stable offset"
    assert source.read(timeout_s=0.5) == []
    producer.abort_transaction()
    deadline = time.monotonic() + 20
    while (source.bounds(OUT)[1]) == 8:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert drain(source) == [b"behind the open one"]
    assert source.position() == {OUT: source.bounds(OUT)[1]}
    producer.close()
    source.close()


def test_a_position_on_the_end_of_a_transaction_resumes(log: KafkaLog) -> None:
    stage = log.stage("writer")
    for n in range(3):
        with stage.transaction() as transaction:
            transaction.send("out", b"%d" % n)
    for offset, expected in ((0, [b"0", b"1", b"2"]), (1, [b"1", b"2"]), (2, [b"1", b"2"]), (5, []), (6, [])):
        source = log.source([OUT], {OUT: offset})
        assert drain(source) == expected
        assert source.position() == {OUT: 6}
        source.close()
    stage.close()


def test_retention_is_out_of_range_with_numbers(log: KafkaLog, kafka_brokers: str) -> None:
    stage = log.stage("writer")
    for n in range(4):
        with stage.transaction() as transaction:
            transaction.send("out", b"%d" % n)
    source = log.source([OUT])
    admin = kafka.KafkaAdminClient(bootstrap_servers=kafka_brokers)
    admin.delete_records({kafka.TopicPartition(f"{log.prefix}out", 0): 4})
    admin.close()
    assert source.bounds(OUT)[0] == 4
    with pytest.raises(OutOfRange, match=r"position 0 of out/0 is outside of what the log holds \(4 to 8\)"):
        source.read(timeout_s=10)
    with pytest.raises(OutOfRange, match="position 1 of out/0"):
        log.source([OUT], {OUT: 1})
    with closing(log.source([OUT])) as rest:
        assert drain(rest) == [b"2", b"3"]
    stage.close()
    source.close()


def test_a_topic_that_was_made_again_is_not_taken_for_the_old_one(log: KafkaLog, kafka_brokers: str) -> None:
    source = log.source(["out"])
    saved = source.identity()
    source.close()
    admin = kafka.KafkaAdminClient(bootstrap_servers=kafka_brokers)
    admin.delete_topics([f"{log.prefix}out"])
    admin.close()
    while "out" in log.topics():
        time.sleep(0.05)
    log.create_topics({"out": 1})
    with closing(log.source(["out"])) as source, pytest.raises(WrongLog, match="topic 'out' has id"):
        check_identity(saved, source.identity())


def test_the_topics_settings_reach_the_broker(kafka_brokers: str, tmp_path: Path) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    chosen = {"log.kind": "kafka", "log.brokers": kafka_brokers, "log.prefix": prefix}
    settings = [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "recdistill", "topics", "create", *settings]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    resources = [
        kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, f"{prefix}{topic}")
        for topic in ("items", "examples")
    ]
    with closing(kafka.KafkaAdminClient(bootstrap_servers=kafka_brokers)) as admin:
        items, examples = (str(admin.describe_configs([resource])) for resource in resources)
    assert "'compact'" in items
    assert "'604800000'" in items.partition("min.compaction.lag.ms")[2][:200], "seven days"
    assert "'compact'" not in examples


def test_positions_are_a_group_that_dashboards_can_see(log: KafkaLog, kafka_brokers: str) -> None:
    stage = log.stage("joiner", [IN])
    with stage.transaction() as transaction:
        transaction.commit_inputs({IN: 0}, "noted")
    stage.close()
    consumer = kafka.KafkaConsumer(bootstrap_servers=kafka_brokers, group_id=f"{log.prefix}joiner")
    committed = consumer.committed(kafka.TopicPartition(f"{log.prefix}in", 0), metadata=True)
    assert (committed.offset, committed.metadata) == (0, "noted")
    consumer.close()


def test_sigkill_at_random_moments_copies_each_message_exactly_once(log: KafkaLog, kafka_brokers: str) -> None:
    count = 600
    filler = log.stage("fill")
    for first in range(0, count, 100):
        with filler.transaction() as transaction:
            for n in range(first, first + 100):
                transaction.send("in", b"%d" % n)
    filler.close()
    chance = random.Random(3)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    copied: list[int] = []
    moved = 0
    for _ in range(5):
        command = [sys.executable, "-c", COPIER, kafka_brokers, log.prefix]
        copier = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert copier.stdout is not None
        assert copier.stdout.readline() == b"started\n"
        time.sleep(0.1 + chance.random() * 0.6)
        copier.send_signal(signal.SIGKILL)
        copier.communicate()
        owner = log.stage("copier", [IN])  # ends what the dead one left open
        source = log.source([OUT])
        now = [int(value or b"-1") for value in drain(source)]
        assert now == list(range(len(now)))
        assert owner.note() == (str(len(now)) if now else "")
        moved += len(now) > len(copied)
        copied = now
        owner.close()
        source.close()
    assert moved >= 2, "the copier was killed before it did anything"
    assert len(copied) < count, "the kills came too late to mean anything"


def test_a_broker_that_restarts_is_waited_for(kafka_broker_factory: Callable) -> None:
    broker = kafka_broker_factory()
    log = new_log(broker.bootstrap)
    stop = threading.Event()
    written_all = threading.Event()  # only then is the number written the last one
    written: list[bytes] = []
    copied = [0]
    failures: list[BaseException] = []

    def write() -> None:
        writer = log.stage("writer")
        while not stop.is_set():
            with writer.transaction() as transaction:
                transaction.send("in", b"%d" % len(written))
            written.append(b"%d" % len(written))
            time.sleep(0.01)
        writer.close()
        written_all.set()

    def copy() -> None:
        stage = log.stage("copier", [IN])
        source = log.source([IN], stage.position())
        while not written_all.is_set() or copied[0] < len(written):
            messages = source.read(50, 0.2)
            if messages:
                with stage.transaction() as transaction:
                    for message in messages:
                        transaction.send("out", message.value)
                    transaction.commit_inputs(source.position())
                copied[0] += len(messages)
        stage.close()
        source.close()

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - shown by the assertions below
            failures.append(error)
            written_all.set()

    def wait_for_more(count: int) -> None:
        target, deadline = copied[0] + count, time.monotonic() + 240
        while copied[0] < target:
            assert failures == []
            assert time.monotonic() < deadline, f"stuck at {copied[0]} of {target}, {len(written)} written"
            time.sleep(0.05)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (write, copy)]
    for thread in threads:
        thread.start()
    try:
        wait_for_more(20)
        # From this thread, because a broker lives no longer than the thread that started it.
        for end in (broker.stop, broker.kill):
            end()
            time.sleep(1)
            broker.start()
            wait_for_more(20)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=240)  # a commit whose outcome is not known may wait for the broker for two minutes
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)
    source = log.source([OUT])
    assert drain(source) == written
    assert log.topics() == {"in": 1, "out": 1}
    source.close()
    log.close()


def test_a_stage_that_failed_says_what_to_do(log: KafkaLog) -> None:
    old = log.stage("step", [IN])
    new = log.stage("step", [IN])
    with pytest.raises(Fenced), old.transaction() as transaction:
        transaction.send("out", b"1")
    with pytest.raises(Fenced, match="newer process"):
        old.position()
    old.close()
    old.close()
    assert new.position() == {IN: 0}
    new.close()


@pytest.mark.parametrize("inputs", [[IN], []])
def test_a_fence_that_nobody_stands_behind_is_got_over(
    log: KafkaLog, kafka_brokers: str, inputs: list, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a broker dies between raising a producer's epoch and saying so: there is no newer process."""
    stage = log.stage("step", inputs)
    other = KafkaProducer(bootstrap_servers=kafka_brokers, transactional_id=f"{log.prefix}step")
    other.init_transactions()
    other.close()
    for number in range(2):
        with stage.transaction() as transaction:
            transaction.send("out", b"%d" % number)
            if inputs:
                transaction.commit_inputs({IN: number + 1})
    assert stage.position() == ({IN: 2} if inputs else {})
    assert "connecting the stage" in caplog.text
    stage.close()
    source = log.source([OUT])
    assert drain(source) == [b"0", b"1"]
    source.close()


def test_of_two_that_fence_each_other_the_later_one_stays(log: KafkaLog) -> None:
    old, new = log.stage("step", [IN]), log.stage("step", [IN])
    old._writer.recover(time.monotonic() + 30)  # as if it had looked just before the new one wrote its name
    with new.transaction() as transaction:
        transaction.send("out", b"new")
        transaction.commit_inputs({IN: 1})
    with pytest.raises(Fenced), old.transaction() as transaction:
        transaction.send("out", b"old")
    for stage in (old, new):
        stage.close()
    source = log.source([OUT])
    assert drain(source) == [b"new"]
    source.close()


@pytest.mark.parametrize("inputs", [[IN], []])
@pytest.mark.parametrize("went_through", [False, True])
def test_a_commit_of_unknown_outcome_is_written_exactly_once(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, inputs: list, went_through: bool
) -> None:
    stage = log.stage("step", inputs)
    with stage.transaction() as transaction:
        transaction.send("out", b"0")
    commit = stage._writer.client.commit_transaction

    def fail() -> None:
        if went_through:
            commit()
        raise kafka.errors.KafkaConnectionError("the wire was cut")

    monkeypatch.setattr(stage._writer.client, "commit_transaction", fail)
    with stage.transaction() as transaction:
        transaction.send("out", b"1")
        if inputs:
            transaction.commit_inputs({IN: 0}, "one")
    assert "connecting the stage" in caplog.text
    with stage.transaction() as transaction:
        transaction.send("out", b"2")
    source = log.source([OUT])
    assert drain(source) == [b"0", b"1", b"2"]
    assert stage.note() == ("one" if inputs else "")
    source.close()
    stage.close()


def test_a_commit_of_unknown_outcome_gives_way_to_a_stage_that_went_on(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = log.stage("step", [IN])

    def fail() -> None:
        new = log.stage("step", [IN])
        with new.transaction() as transaction:
            transaction.send("out", b"new")
            transaction.commit_inputs({IN: 0}, "new")
        new.close()
        raise kafka.errors.KafkaConnectionError("the wire was cut")

    monkeypatch.setattr(old._writer.client, "commit_transaction", fail)
    with pytest.raises(Fenced), old.transaction() as transaction:  # noqa: PT012 - the block is the test
        transaction.send("out", b"old")
        transaction.commit_inputs({IN: 0}, "old")
    source = log.source([OUT])
    assert drain(source) == [b"new"]
    source.close()


def test_no_broker_is_one_sentence() -> None:
    started = time.monotonic()
    with pytest.raises(StreamError, match=r"cannot reach Kafka at 127\.0\.0\.1:1: .*check log\.brokers"):
        open_log(LogSettings(kind="kafka", brokers="127.0.0.1:1", options={"bootstrap_timeout_ms": 500}))
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ssl_cafil": "x"}, r"log.options.ssl_cafil: no option of kafka-python \(did you mean ssl_cafile\?\)"),
        ({"isolation_level": "read_uncommitted"}, "recdistill sets this itself"),
        ({"value_deserializer": "x"}, "recdistill sets this itself"),
        ({"acks": 0}, "recdistill sets this itself"),
        ({"security_protocol": "PLAIN"}, "must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL, not 'PLAIN'"),
        ({"fetch_max_bytes": "many"}, "must be a number, like 52428800, not 'many'"),
        ({"request_timeout_ms": True}, "must be a number"),
        ({"ssl_cafile": "/does/not/exist"}, "there is no file '/does/not/exist'"),
        ({"ssl_check_hostname": 1}, "must be true or false, like True"),
    ],
)
def test_options_that_do_not_fit(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        KafkaLog("127.0.0.1:1", options=options)
    with pytest.raises(ConfigError, match="name at least one broker"):
        KafkaLog(" , ")


def test_what_a_closed_stage_wrote_is_before_the_end_for_every_reader(log: KafkaLog) -> None:
    source = log.source([OUT])
    for count in range(1, 21):
        stage = log.stage("writer")
        with stage.transaction() as transaction:
            transaction.send("out", b"%d" % count)
        stage.close()
        assert source.bounds(OUT)[1] >= 2 * count  # a message and the end of its transaction take an offset each
    assert drain(source) == [b"%d" % count for count in range(1, 21)]
    source.close()


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_wrong_values_of_options_are_one_sentence(kafka_brokers: str) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}."

    def use(options: dict) -> None:  # some only show when used
        with closing(KafkaLog(kafka_brokers, prefix=prefix, options=options)) as log:
            log.create_topics({"in": 1})
            log.stage("x").close()
            with closing(log.source(["in"])) as source:
                source.read(timeout_s=0.1)

    for options in (
        {"sasl_mechanism": "NONE", "security_protocol": "SASL_PLAINTEXT"},
        {"security_protocol": "SSL"},
        {"compression_type": "none at all"},
    ):
        with pytest.raises((StreamError, ConfigError)) as caught:
            use({**options, "bootstrap_timeout_ms": 1500})
        assert "\n" not in str(caught.value), options
    del caught
    gc.collect()  # kafka-python does not close what fails to greet; it is collected here, not in another test


def test_sasl_is_passed_through(kafka_broker_factory: Callable) -> None:
    login = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="broker" password="b" user_broker="b" user_loop="secret";'
    )
    broker = kafka_broker_factory(
        settings={
            "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.plaintext.plain.sasl.jaas.config": login,
        }
    )
    options = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "loop",
        "sasl_plain_password": "secret",
    }
    log = new_log(broker.bootstrap, **options)
    with closing(log.stage("writer")) as writer, writer.transaction() as transaction:
        transaction.send("out", b"hello")
    with closing(log.source([OUT])) as source:
        assert drain(source) == [b"hello"]
    log.close()
    with pytest.raises(StreamError, match="check log.brokers and the security options") as caught:
        KafkaLog(broker.bootstrap, options={**options, "sasl_plain_password": "wrong", "bootstrap_timeout_ms": 2000})
    assert "wrong" not in str(caught.value)


def test_an_answer_that_lacks_a_partition_is_asked_for_again(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client raises KeyError then. It was seen while a scorer looked whether its last transaction is visible."""
    from kafka import KafkaConsumer

    real, stumbles = KafkaConsumer.end_offsets, iter([True, False, True])

    def end_offsets(self: KafkaConsumer, partitions: list, *rest: object, **more: object) -> dict:
        if next(stumbles, False):
            raise KeyError(partitions[0])
        found: dict = real(self, partitions, *rest, **more)
        return found

    log.create_topics({"few": 2})
    with closing(log.stage("writer")) as stage:
        monkeypatch.setattr(KafkaConsumer, "end_offsets", end_offsets)
        for value in (b"1", b"2", b"3"):
            with stage.transaction() as transaction:
                transaction.send("few", value, partition=0)
        source = log.source(["few"])
        stumbles = iter([True])
        assert source.bounds(TopicPartition("few", 0))[1] >= 3
        source.close()
