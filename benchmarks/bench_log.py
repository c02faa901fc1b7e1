"""How fast do examples come from a log into a batch, beside a bare poll loop of each Kafka client?

There is one real broker, with one topic of real examples in one partition, no two of them alike. It is read from its
beginning again and again; the ways take turns. Each figure is the median of several rounds, in processor time of this
process, all of its threads together. The baseline is a consumer of kafka-python with the same fetch settings that polls
raw bytes and does nothing with them; beside it stands one of confluent-kafka (librdkafka). The embedded log has its own
baseline: a bare `SELECT` over the same file.

*Objects* decodes each example into records. *Columns* is what the distiller does. *To a batch* also looks up all ids in
a catalogue and makes the arrays of a step. With *popular ids* a few items come often; with *uniform ids* each item of
the catalogue is as likely as any other, so nothing is near the processor.

The last rows are the scorer: from the bytes of an impression to those of its ranking, one by one and together; and the
whole stage on the embedded log, with a teacher whose scores are there already.

    python -m benchmarks.bench_log                 # 50,000 examples with 20 events and 50 candidates; a million items
    python -m benchmarks.bench_log --messages 20000 --rounds 5
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition

from benchmarks.forms import Options, absent
from recdistill.config import LogSettings
from recdistill.features import Catalogue, FeatureSpec, HistorySpec, IdSpec, Vocabulary, encode_columns, encode_examples
from recdistill.loops import score
from recdistill.records import (
    Candidate,
    Event,
    Example,
    Impression,
    Item,
    Ranking,
    decode,
    encode,
    encode_around,
    read_columns,
    read_impressions,
)
from recdistill.stream import Lanes, Log, Message, open_log, read_place, standard_topics
from recdistill.teachers import Scores
from recdistill.train import Batch, told_by_columns, told_by_examples
from tools.kafka_broker import KafkaBroker, missing_parts

POLL = 10_000  # messages that a bare loop asks for at once
FETCH_BYTES = 4 << 20  # as recdistill's own consumer has it
NOW_US = 1_700_000_000_000_000


def example(n: int, item: Callable[[random.Random], int]) -> Example:
    chance = random.Random(n)
    shown: dict[int, None] = {}
    while len(shown) < 50:
        shown[item(chance)] = None
    candidates = tuple(Candidate(f"item-{i}") for i in shown)
    history = tuple(Event(f"item-{item(chance)}", NOW_US + n * 1000 + t, "click") for t in range(20))
    asked = Impression(f"i-{n}", NOW_US + n * 1000 + 100, f"user-{n % 9973}", history=history, candidates=candidates)
    scores = tuple(chance.gauss(0, 1) for _ in candidates)
    return Example(Ranking(asked, "t", "1", "logit", scores, (True,) * 50, NOW_US), (1.0,) + (0.0,) * 49, "closed")


def fill(log: Log, values: list[bytes], topic: str = "examples") -> None:
    log.create_topics({topic: 1})
    stage = log.stage("bench")
    for start in range(0, len(values), 5000):
        with stage.transaction() as transaction:
            for value in values[start : start + 5000]:
                transaction.send(topic, value, partition=0)
    stage.close()


def poll_kafka_python(brokers: str, topic: str, count: int) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=brokers,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        metrics_enabled=False,
    )
    partition = KafkaPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    seen = 0
    while seen < count:
        seen += sum(len(records) for records in consumer.poll(timeout_ms=1000, max_records=POLL).values())
    consumer.close()


def poll_confluent(brokers: str, topic: str, count: int) -> None:
    import confluent_kafka  # a developer's tool: what the other client would give

    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "bench",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "max.partition.fetch.bytes": FETCH_BYTES,
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    seen = 0
    while seen < count:
        # The bytes are a copy that is made when they are asked for.
        seen += len([message.value() for message in consumer.consume(POLL, 1.0) if not message.error()])
    consumer.close()


def bare_select(path: Path, count: int) -> None:
    connection = sqlite3.connect(path)
    [table] = [
        name
        for (name, sql) in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
        if "value" in sql
    ]
    seen = sum(1 for _ in connection.execute(f"SELECT * FROM {table}"))
    connection.close()
    if seen < count:
        raise SystemExit(f"the file holds {seen} of {count} messages")


def read(log: Log, count: int) -> None:
    source = log.source(["examples"])
    seen = 0
    while seen < count:
        seen += len(source.read(POLL, 1.0))
    source.close()


class Ready:
    """A teacher whose scores are there already."""

    id, version, scale = "ready", "1", "logit"

    def __init__(self) -> None:
        self.scores = Scores(np.linspace(1, 0, 50, dtype=np.float32), np.ones(50, bool))

    def apply_items(self, items: object) -> None:
        pass

    def score(self, impressions: Sequence[Impression], *, deadline_s: float | None = None) -> list[Scores]:
        return [self.scores] * len(impressions)


def score_all(log: Log) -> None:
    """The stage over all impressions of a log."""
    stop = threading.Event()
    score.run(log, Ready(), stop=stop, drain=True, begin=read_place("beginning", words=True))  # type: ignore[arg-type]


def refuse(_: Message, error: Exception) -> None:
    raise error


class World:
    """A catalogue, and the two ways from examples to a batch."""

    def __init__(self, items: int, batch: int) -> None:
        self.spec = FeatureSpec(history=HistorySpec(actions=("click",)), id=IdSpec(capacity=2 * items))
        self.vocabulary = Vocabulary(self.spec)
        self.catalogue = Catalogue(self.spec, self.vocabulary)
        for n in range(items):
            self.catalogue.apply(Item(f"item-{n}"), admit=True)
        self.batch = batch

    def objects(self, values: list[bytes]) -> None:
        for start in range(0, len(values), self.batch):
            examples = [decode(Example, value) for value in values[start : start + self.batch]]
            lists = encode_examples(self.spec, self.vocabulary, self.catalogue, examples, admit=True)
            told = told_by_examples(examples)
            Batch.of(lists, told.scales, told.teachers, "standard")

    def columns(self, values: list[bytes]) -> None:
        for start in range(0, len(values), self.batch):
            columns, _ = read_columns(Example, values[start : start + self.batch])
            lists = encode_columns(self.spec, self.vocabulary, self.catalogue, columns, admit=True)
            told = told_by_columns(columns)
            Batch.of(lists, told.scales, told.teachers, "standard")

    def rankings(self, values: list[bytes], *, together: bool) -> None:
        for start in range(0, len(values), self.batch):
            some = values[start : start + self.batch]
            asked = read_impressions(some) if together else [decode(Impression, value) for value in some]
            for value, one in zip(some, asked, strict=True):
                if isinstance(one, Exception):
                    raise one
                count = len(one.candidates)
                encode_around(Ranking(one, "t", "1", "logit", (0.5,) * count, (True,) * count, NOW_US), value)

    def lanes(self, log: Log, count: int, *, ahead: bool = False) -> None:
        lanes, seen = Lanes(log, dead_letters=refuse, ahead=ahead), 0
        while seen < count:
            columns = lanes.next_columns(self.batch, 1.0)
            if len(columns):
                lists = encode_columns(self.spec, self.vocabulary, self.catalogue, columns, admit=True)
                told = told_by_columns(columns)
                Batch.of(lists, told.scales, told.teachers, "standard")
            seen += len(columns)
        lanes.close()


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, messages=5_000, rounds=1, items=100_000)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the catalogue")
    parser.add_argument("--batch", type=int, default=256, help="examples of a step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    return parser


def main() -> None:
    chosen = options().parse_args()
    if (why := missing_parts()) is not None:
        absent(why)
    if find_spec("confluent_kafka") is None:
        absent("confluent-kafka is not installed; type: make install")
    count, items = chosen.messages, chosen.items
    values = [encode(example(n, lambda chance: int(items ** chance.random()) - 1)) for n in range(count)]
    uniform = [encode(example(n, lambda chance: chance.randrange(items))) for n in range(count)]
    asked, asked_uniform = ([encode(decode(Example, one).ranking.impression) for one in of] for of in (values, uniform))
    # Objects remember the last events and candidates. What was read long ago must not help them.
    world = World(items, chosen.batch)
    world.columns(values[: chosen.batch])  # the first look-up makes its table
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "broker"
        place.mkdir()
        broker = KafkaBroker(place).start()
        kafka = open_log(LogSettings(kind="kafka", brokers=broker.bootstrap, prefix="bench-"))
        file = Path(folder) / "log.sqlite"
        embedded = open_log(LogSettings(path=str(file)))
        scored = open_log(LogSettings(path=str(Path(folder) / "scored.sqlite")))
        try:
            for log in (kafka, embedded):
                fill(log, values)
            scored.create_topics(standard_topics())
            fill(scored, asked, "impressions")
            one_popular = "impressions to rankings one by one, popular ids"
            one_uniform = "impressions to rankings one by one, uniform ids"
            bare, select = "kafka, bare poll loop of kafka-python", "embedded, bare SELECT"
            ways: dict[str, tuple[str, Callable[[], None]]] = {
                bare: ("", lambda: poll_kafka_python(broker.bootstrap, "bench-examples", count)),
                "kafka, bare poll loop of confluent-kafka": (
                    bare,
                    lambda: poll_confluent(broker.bootstrap, "bench-examples", count),
                ),
                "kafka, Source.read": (bare, lambda: read(kafka, count)),
                "kafka, Lanes.next_columns to a batch": (bare, lambda: world.lanes(kafka, count)),
                select: ("", lambda: bare_select(file, count)),
                "embedded, Source.read": (select, lambda: read(embedded, count)),
                "embedded, Lanes.next_columns to a batch": (select, lambda: world.lanes(embedded, count)),
                "embedded, the same, prepared on a thread": (select, lambda: world.lanes(embedded, count, ahead=True)),
                "bytes to a batch by objects, popular ids": (bare, lambda: world.objects(values)),
                "bytes to a batch by objects, uniform ids": (bare, lambda: world.objects(uniform)),
                "bytes to a batch by columns, popular ids": (bare, lambda: world.columns(values)),
                "bytes to a batch by columns, uniform ids": (bare, lambda: world.columns(uniform)),
                one_popular: ("", lambda: world.rankings(asked, together=False)),
                "impressions to rankings together, popular ids": (
                    one_popular,
                    lambda: world.rankings(asked, together=True),
                ),
                one_uniform: ("", lambda: world.rankings(asked_uniform, together=False)),
                "impressions to rankings together, uniform ids": (
                    one_uniform,
                    lambda: world.rankings(asked_uniform, together=True),
                ),
                "embedded, the scorer, popular ids": (one_popular, lambda: score_all(scored)),
            }
            times_us: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(chosen.rounds):
                for name, (_, way) in ways.items():
                    started = time.process_time()
                    way()
                    times_us[name].append((time.process_time() - started) / count * 1e6)
        finally:
            kafka.close()
            embedded.close()
            scored.close()
            broker.kill()
    median = {name: statistics.median(found) for name, found in times_us.items()}
    print(f"{count:,} examples of {len(values[0]):,} bytes, {items:,} items, {chosen.batch} examples a batch;", end=" ")
    print(f"median of {chosen.rounds} rounds\n")
    print(f"{'µs an example':>14}  {'examples/s':>11}  {'of its baseline':>16}  way")
    rows = []
    for name, (baseline, _) in ways.items():
        ratio = median[baseline or name] / median[name]
        rows.append({"way": name, "baseline": baseline, "ratio": ratio, "us": median[name]})
        print(f"{median[name]:14.1f}  {1e6 / median[name]:11,.0f}  {ratio:16.2f}  {name}")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
