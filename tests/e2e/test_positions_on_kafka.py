"""On a real broker: positions that it forgets, topics that are deleted or grow, retention that loses items."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import world
from support.small_shop import Shop, open_shop

from recdistill.config import LogSettings
from recdistill.errors import RecdistillError, WrongLog
from recdistill.loops import score
from recdistill.loops.feed import feed
from recdistill.stream import Log, TopicPartition, open_log
from recdistill.teachers.function import FunctionTeacher

kafka = pytest.importorskip("kafka")
pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


@pytest.fixture
def shop(
    kafka_brokers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shop:
    settings = LogSettings(kind="kafka", brokers=kafka_brokers, prefix=f"t{uuid.uuid4().hex[:8]}.")
    return open_shop(tmp_path, monkeypatch, capsys, settings)


@pytest.fixture
def admin(kafka_brokers: str) -> Iterator[kafka.KafkaAdminClient]:
    client = kafka.KafkaAdminClient(bootstrap_servers=kafka_brokers)
    yield client
    client.close()


def forget(admin: kafka.KafkaAdminClient, shop: Shop, stage: str) -> None:
    """What a broker does offsets.retention.minutes after the last commit."""
    group = shop.settings.prefix + stage
    with closing(shop.log()) as log:
        tps = [
            kafka.TopicPartition(shop.settings.prefix + topic, partition)
            for topic, count in log.topics().items()
            for partition in range(count)
        ]
    admin.delete_group_offsets(group, tps)


def test_a_position_that_the_broker_forgot_stops_the_stage_and_names_it(
    shop: Shop, admin: kafka.KafkaAdminClient
) -> None:
    shop.write(lists=40, partitions=2)
    assert shop.figures("score", "--drain")["rankings"] == 40
    examples = shop.figures("join", "--drain")["examples"]
    assert examples > 0
    forget(admin, shop, "score")
    forget(admin, shop, "join")
    for verb, stage in (("score", "score"), ("join", "join")):
        code, _, err = shop.type(verb, "--drain")
        assert code == 4, err
        assert f"{stage}' ran before, and the brokers have forgotten its position" in err
        assert f"`recdistill {verb} --from beginning`" in err
        assert err.count("\n") == 1
    assert len(shop.read("rankings")) == 40
    assert len(shop.read("examples")) == examples
    # The sentence has the exact place, and what comes later is done once.
    with closing(shop.log()) as log:
        made = world.impressions(60)[40:]
        feed(log, [*made, *world.feedback(made)])
    place = err.split("go on exactly there with `--from ")[1].split("`")[0]
    _, _, said = shop.type("score", "--drain")
    assert (
        shop.figures("score", "--drain", "--from", said.split("there with `--from ")[1].split("`")[0])["rankings"] == 20
    )
    assert shop.figures("join", "--drain", "--from", place)["examples"] >= 15
    ids = [message.key for message in shop.read("examples")]
    assert len(ids) == len(set(ids)) > examples


def test_a_scorer_of_an_older_version_that_was_killed_is_not_told_a_place_that_it_may_have_left(
    shop: Shop, admin: kafka.KafkaAdminClient
) -> None:
    shop.write(lists=10)
    with closing(shop.log()) as log:
        inputs = [TopicPartition("impressions", 0)]
        stage = log.stage("score-0", inputs)
        with stage.transaction() as transaction:
            transaction.commit_inputs({inputs[0]: 3})
        stage._broken = RecdistillError("as if it was killed")  # type: ignore[attr-defined]
        stage.close()
    forget(admin, shop, "score-0")
    code, _, err = shop.type("score", "--drain")
    assert code == 4
    assert "did not stop in order, so where it stood is not known exactly" in err


def test_an_idle_stage_commits_again(
    shop: Shop, admin: kafka.KafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recdistill.stream.kafka import left

    monkeypatch.setattr(left, "AGAIN_S", 0.0)
    shop.write(lists=10)
    tp = TopicPartition("impressions", 0)
    with closing(shop.log()) as log, closing(log.stage("score-0", [tp])) as stage:
        with stage.transaction() as transaction:
            transaction.commit_inputs({tp: 3}, "a note")
        forget(admin, shop, "score-0")
        stage.keep()
        with closing(log.stage("score-0", [tp])) as again:
            assert (again.position(), again.note()) == ({tp: 3}, "a note")


class Running:
    """A scorer in a thread, as a service runs it."""

    def __init__(self, log: Log) -> None:
        self.error: Exception | None = None
        self.stop = threading.Event()
        self._log = log
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        teacher = FunctionTeacher(world.by_hash, "hash", "3", "logit")
        try:
            score.run(self._log, teacher, wait_s=0.2, stop=self.stop)
        except RecdistillError as e:
            self.error = e

    def wait(self, patience_s: float) -> None:
        self._thread.join(patience_s)
        assert not self._thread.is_alive(), "the scorer goes on as if nothing had happened"


def scorer(shop: Shop) -> tuple[Log, Running]:
    log = shop.log()
    return log, Running(log)


def until(what: object, patience_s: float = 60) -> None:
    assert callable(what)
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("topic", ["impressions", "rankings"])
def test_a_deleted_topic_ends_the_scorer_within_seconds_in_one_sentence(
    shop: Shop, admin: kafka.KafkaAdminClient, caplog: pytest.LogCaptureFixture, topic: str
) -> None:
    shop.write(lists=20)
    log, running = scorer(shop)
    until(lambda: len(shop.read("rankings")) == 20)
    caplog.clear()
    admin.delete_topics([shop.settings.prefix + topic])
    if topic == "rankings":
        with closing(open_log(shop.settings)) as other:
            feed(other, world.impressions(25)[20:])
    running.wait(90)
    assert isinstance(running.error, WrongLog)
    assert f"topic {topic!r} was deleted while this process used it" in str(running.error)
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) < 30, [record.getMessage() for record in lines]
    log.close()


def test_partitions_that_were_added_are_noticed_and_the_way_on_works(shop: Shop, admin: kafka.KafkaAdminClient) -> None:
    shop.write(lists=20, partitions=2)
    log, running = scorer(shop)
    until(lambda: len(shop.read("rankings")) == 20)
    admin.create_partitions({f"{shop.settings.prefix}impressions": 3})
    running.wait(60)
    assert isinstance(running.error, WrongLog)
    assert "topic 'impressions' has 3 partitions now, and had 2" in str(running.error)
    assert "recdistill topics create --grow" in str(running.error)
    log.close()
    with closing(shop.log()) as more:
        feed(more, world.impressions(80)[20:])
    code, _, err = shop.type("score", "--drain")
    assert code == 4
    assert "impressions has 3 and rankings has 2 partitions" in err
    assert "recdistill topics create --grow" in err
    code, out, _ = shop.type("topics", "create", "--grow")
    assert code == 0
    assert "rankings, feedback: 3 partitions now; set topics.partitions = 3" in out
    assert shop.figures("score", "--drain")["rankings"] == 60
    assert {message.tp.partition for message in shop.read("rankings")} == {0, 1, 2}
    assert len({message.key for message in shop.read("rankings")}) == 80


def test_items_that_a_broker_deletes_are_said_aloud(
    shop: Shop, admin: kafka.KafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{shop.settings.prefix}items"
    admin.create_topics({name: {"num_partitions": 1}})
    code, out, _ = shop.type("topics", "create")
    assert code == 0
    said = f"topic '{name}' deletes records after 7 days"
    assert f"warning: {said}" in out
    assert "set cleanup.policy=compact on it" in out
    shop.write(lists=3)
    shop.type("score", "--drain")
    assert any(said in record.getMessage() for record in caplog.records)
    code, out, _ = shop.type("doctor", "--role", "scorer", "--json")
    assert said in out
    assert '"state": "missing"' in out


def test_the_log_of_one_s_own_is_not_a_topic_of_the_loop(shop: Shop) -> None:
    shop.write(lists=3)
    assert "stages" not in shop.type("topics", "list")[1]


def test_a_broker_s_log_is_not_trimmed_here(shop: Shop) -> None:
    shop.write(lists=3)
    code, _, err = shop.type("topics", "trim")
    assert code == 2
    assert "a broker does it by retention.ms" in err
