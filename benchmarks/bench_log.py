"""How fast do messages come through recdistill's log, lanes and decoding, beside a bare kafka-python poll loop?

There is one real broker, with one topic of real examples in one partition, no two of them alike. It is read from its
beginning again and again; the ways take turns. Each figure is the median of several rounds, in processor time of this
process. The baseline is a consumer with the same fetch settings that polls raw bytes and does nothing with them. The
embedded log has its own baseline: a bare `SELECT` over the same file.

    python -m benchmarks.bench_log                 # 50,000 examples with 20 events and 50 candidates
    python -m benchmarks.bench_log --messages 20000 --rounds 5
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition

from benchmarks.forms import Options, absent
from recdistill.config import LogSettings
from recdistill.records import Candidate, Event, Example, Impression, Ranking, encode
from recdistill.stream import Lanes, Log, Message, open_log
from tools.kafka_broker import KafkaBroker, missing_parts

BATCH = 10_000  # messages that every way asks for at once
FETCH = {"max_partition_fetch_bytes": 4 << 20, "metrics_enabled": False}  # as recdistill's own consumer has them


def example(n: int) -> Example:
    chance = random.Random(n)
    candidates = tuple(Candidate(f"item-{i}") for i in chance.sample(range(50_000), 50))
    history = tuple(Event(f"item-{chance.randrange(50_000)}", n * 1000 + t + 1, "click") for t in range(20))
    impression = Impression(id=f"i-{n}", time_us=n * 1000 + 100_000, history=history, candidates=candidates)
    scores = tuple(chance.gauss(0, 1) for _ in candidates)
    return Example(Ranking(impression, "t", "1", "logit", scores, (True,) * 50), (1.0,) + (0.0,) * 49, "closed")


def fill(log: Log, values: list[bytes]) -> None:
    log.create_topics({"examples": 1})
    stage = log.stage("bench")
    for start in range(0, len(values), 5000):
        with stage.transaction() as transaction:
            for value in values[start : start + 5000]:
                transaction.send("examples", value, partition=0)
    stage.close()


def bare_poll(brokers: str, topic: str, count: int) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=brokers, enable_auto_commit=False, isolation_level="read_committed", **FETCH
    )
    partition = KafkaPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    seen = 0
    while seen < count:
        seen += sum(len(records) for records in consumer.poll(timeout_ms=1000, max_records=BATCH).values())
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
        seen += len(source.read(BATCH, 1.0))
    source.close()


def read_lanes(log: Log, count: int) -> None:
    def refuse(_: Message, error: Exception) -> None:
        raise error

    lanes = Lanes(log, dead_letters=refuse)
    seen = 0
    while seen < count:
        seen += len(lanes.next(512, 1.0))
    lanes.close()


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, messages=5_000, rounds=1)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    return parser


def main() -> None:
    chosen = options().parse_args()
    if (why := missing_parts()) is not None:
        absent(why)
    values = [encode(example(n)) for n in range(chosen.messages)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "broker"
        place.mkdir()
        broker = KafkaBroker(place).start()
        kafka = open_log(LogSettings(kind="kafka", brokers=broker.bootstrap, prefix="bench-"))
        file = Path(folder) / "log.sqlite"
        embedded = open_log(LogSettings(path=str(file)))
        try:
            for log in (kafka, embedded):
                fill(log, values)
            count = len(values)
            ways: dict[str, tuple[str, Callable[[], None]]] = {
                "kafka, bare poll loop": ("", lambda: bare_poll(broker.bootstrap, "bench-examples", count)),
                "kafka, Source.read": ("kafka, bare poll loop", lambda: read(kafka, count)),
                "kafka, Lanes.next (decoded)": ("kafka, bare poll loop", lambda: read_lanes(kafka, count)),
                "embedded, bare SELECT": ("", lambda: bare_select(file, count)),
                "embedded, Source.read": ("embedded, bare SELECT", lambda: read(embedded, count)),
                "embedded, Lanes.next (decoded)": ("embedded, bare SELECT", lambda: read_lanes(embedded, count)),
            }
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(chosen.rounds):
                for name, (_, way) in ways.items():
                    started = time.process_time()
                    way()
                    rates[name].append(count / (time.process_time() - started))
        finally:
            kafka.close()
            embedded.close()
            broker.kill()
    median = {name: statistics.median(found) for name, found in rates.items()}
    print(f"{count:,} examples of {len(values[0]):,} bytes; median of {chosen.rounds} rounds\n")
    print(f"{'ratio to its baseline':>22}  {'messages/s':>11}  way")
    rows = []
    for name, (baseline, _) in ways.items():
        ratio = median[name] / median[baseline or name]
        rows.append({"way": name, "baseline": baseline, "ratio": ratio, "messages_per_s": median[name]})
        print(f"{ratio:22.2f}  {median[name]:11,.0f}  {name}")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
