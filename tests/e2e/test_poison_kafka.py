"""No record stops a stage on Kafka either: what a broker takes and recdistill does not, and what the broker refuses."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import world

from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.loops.feed import feed
from recdistill.records import DEAD_LETTERS, Impression, Item, Ranking, codec, decode
from recdistill.stream import Log, Message, open_log, standard_topics
from recdistill.stream.testing import everything

kafka = pytest.importorskip("kafka")
pytestmark = pytest.mark.kafka


class Shop:
    """A log with its own prefix, and verbs on it."""

    def __init__(self, brokers: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._brokers, self._capsys = brokers, capsys
        self.prefix = f"p{uuid.uuid4().hex[:8]}."
        self.log: Log = open_log(LogSettings(kind="kafka", brokers=brokers, prefix=self.prefix))

    def make(self, **configs: dict[str, str]) -> None:
        """Makes the topics, some of them with settings of the broker."""
        self.log.create_topics(standard_topics(), configs={name.replace("_", "-"): c for name, c in configs.items()})

    def produce(self, topic: str, values: list[bytes], compression: str | None = None) -> None:
        """Writes as a product's producer does, with its own limit."""
        producer = kafka.KafkaProducer(
            bootstrap_servers=self._brokers, max_request_size=2_000_000, compression_type=compression, batch_size=1
        )
        for n, value in enumerate(values):
            producer.send(self.prefix + topic, value, b"key-%d" % n).get(30)
        producer.close()

    def run(self, *argv: str) -> dict[str, Any]:
        """Runs a verb that must end well, and returns its counts."""
        found: dict[str, Any] = json.loads(self.show(*argv, "--json"))
        return found

    def show(self, *argv: str) -> str:
        """Runs a verb that must end well, and returns what it prints."""
        self._capsys.readouterr()
        settings = {
            "log.kind": "kafka",
            "log.brokers": self._brokers,
            "log.prefix": self.prefix,
            "teacher.kind": "logged",
            "score.most_missing": 1,
        }
        given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        code = main([*argv, *given])
        out, errors = self._capsys.readouterr()
        assert code == 0, errors[-2000:]
        return out

    def letters(self) -> list[tuple[dict[str, str], Message]]:
        return [
            ({name: value.decode(errors="replace") for name, value in message.headers}, message)
            for message in everything(self.log, DEAD_LETTERS)
        ]


@pytest.fixture
def shop(
    kafka_brokers: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    shop = Shop(kafka_brokers, capsys)
    with closing(shop.log):
        yield shop


def test_garbage_that_is_larger_than_a_letter_may_be(shop: Shop) -> None:
    """A broker takes a little more than a log does: this record cannot be written a second time as it is."""
    shop.make()
    lists = world.impressions(9)
    feed(shop.log, [*world.items(), *lists[:5], *world.feedback(lists, share=1.0, late=0.0)])
    garbage = bytes(range(256)) * 3_985  # 1,020,160 bytes
    shop.produce("impressions", [garbage])
    shop.produce("feedback", [garbage])
    feed(shop.log, lists[5:])
    counts = shop.run("score", "--drain")
    assert (counts["rankings"], counts["dead_letters"]) == (9, 1)
    counts = shop.run("join", "--drain", "--set", "join.window_s=3")
    assert counts["dead_letters"] == 1
    found = shop.letters()
    assert [said["stage"] for said, _ in found] == ["score", "join"]
    for said, message in found:
        assert said["bytes"] == str(len(garbage))
        assert message.value == garbage[:65_536]
        where = {f"{said['topic']}/{said['partition']}": int(said["offset"])}
        [topic] = {said["topic"]}
        again = [one for one in everything(shop.log, topic) if where == {str(one.tp): one.offset}]
        assert [one.value for one in again] == [garbage], "the whole is where the letter says"
    assert shop.run("score", "--drain").get("impressions", 0) == 0
    shown = shop.show("inspect", "dead-letters", "-n", "1")
    assert "the whole    1020160 bytes, SHA-256 " in shown
    assert "; it is at impressions/0 offset" in shown


def test_a_topic_with_a_smaller_limit_costs_only_what_does_not_fit(shop: Shop) -> None:
    """The broker says no at the commit. What fits is written, in batches that are larger than its limit."""
    shop.make(rankings={"max.message.bytes": "6000"}, dead_letters={"max.message.bytes": "5000"})
    small = world.impressions(300)
    large = [
        Impression(
            f"large-{n}", 5 + n, exclude=tuple(f"{uuid.uuid4()}" for _ in range(400)), candidates=small[0].candidates
        )
        for n in range(2)
    ]
    feed(shop.log, [*world.items(), *small[:150], large[0], *small[150:], large[1]])
    counts = shop.run("score", "--drain")
    assert (counts["impressions"], counts["rankings"], counts["dead_letters"]) == (302, 300, 2)
    scored = [decode(Ranking, message.value).impression.id for message in everything(shop.log, "rankings")]
    assert scored == [one.id for one in small], "each once, in order"
    found = shop.letters()
    assert [(message.key or b"").decode() for _, message in found] == ["large-0", "large-1"]
    for said, message in found:
        assert "refuses a message of 1" in said["error"]
        assert "max.message.bytes" in said["error"]
        assert len(message.value or b"") <= 4_096
        assert said["sha256"]
    assert shop.run("score", "--drain").get("impressions", 0) == 0


def test_an_import_goes_on_past_what_the_broker_refuses(shop: Shop) -> None:
    shop.make(items={"max.message.bytes": "3000"})
    titles = ["short", "x".join(str(uuid.uuid4()) for _ in range(300)), "also short"]
    Path("items.jsonl").write_text(
        "".join(json.dumps({"id": f"i{n}", "attributes": {"title": title}}) + "\n" for n, title in enumerate(titles))
    )
    counts = shop.run("import", "items.jsonl", "--kind", "items")
    assert (counts["items"], counts["dead_letters"]) == (2, 1)
    assert [decode(Item, message.value).id for message in everything(shop.log, "items")] == ["i0", "i2"]
    [(said, message)] = shop.letters()
    assert (said["topic"], said["stage"], message.key) == ("items", "feed", b"i1")
    assert decode(Item, message.value).attributes["title"] == titles[1], "it was nowhere else, and it is whole"


@pytest.mark.parametrize("codec_name", ["zstd", "snappy", "lz4", "gzip"])
def test_every_codec_of_kafka_is_read(shop: Shop, codec_name: str) -> None:
    """Both where a producer compresses, and where the topic says how its messages are kept."""
    shop.make(feedback={"compression.type": codec_name})
    lists = world.impressions(12)
    feed(shop.log, [*world.items(), *lists, *world.feedback(lists, late=0.0)])
    shop.produce("impressions", [codec.write(one) for one in world.impressions(20)[12:]], codec_name)
    counts = shop.run("score", "--drain")
    assert (counts["rankings"], counts["dead_letters"]) == (20, 0)
    counts = shop.run("join", "--drain", "--set", "join.window_s=5")
    assert counts["dead_letters"] == 0
    assert counts["feedback"] == len(everything(shop.log, "feedback")) > 0
