"""Topics that a company already has, on a real broker: one of JSON, one of Avro, and a translator that is killed."""

from __future__ import annotations

import io
import json
import uuid
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import fastavro
import pytest
from support.schema_registry import schema_registry
from support.services import Services

from recdistill.config import (
    LogSettings,
    SchemaRegistrySettings,
    Settings,
    TranslateSettings,
    TranslateTopic,
)
from recdistill.records import DEAD_LETTERS, Impression, decode
from recdistill.stream import Log, TopicPartition, open_log, standard_topics
from recdistill.stream.testing import everything

kafka = pytest.importorskip("kafka")
pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.slow]

EACH = 2500
BEGAN_MS = 1_767_600_000_000
WEB = """
kind = "impressions"
[columns]
id = "request.id"
time = "ts"
user = "who"
candidates = "slots.sku"
"""
APP = """
kind = "impressions"
[columns]
id = { column = "screen", also = ["request"] }
time = "shown_at"
candidates = "items"
"""
SCHEMA = {
    "type": "record",
    "name": "Screen",
    "fields": [
        {"name": "screen", "type": "string"},
        {"name": "shown_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "items", "type": {"type": "array", "items": "string"}},
    ],
}
NEWER = {
    **SCHEMA,
    "fields": [
        {"name": "request", "type": "string"},
        *SCHEMA["fields"][1:],  # type: ignore[index]
        {"name": "app_version", "type": ["null", "string"]},
    ],
}


def web(n: int) -> bytes:
    slots = [{"sku": f"i{n % 50}"}, {"sku": f"i{n % 50 + 1}"}]
    return json.dumps({"request": {"id": f"web-{n}"}, "ts": BEGAN_MS + n, "who": n % 9, "slots": slots}).encode()


def app(n: int, ids: tuple[int, int]) -> bytes:
    """From the middle on with a newer schema, in which a field has another name and one was added."""
    newer = n >= EACH // 2
    name = "request" if newer else "screen"
    fields: dict[str, Any] = {name: f"app-{n}", "shown_at": BEGAN_MS + n, "items": [f"i{n % 50}", "x"]}
    out = io.BytesIO()
    out.write(b"\x00" + ids[newer].to_bytes(4, "big"))
    fastavro.schemaless_writer(out, fastavro.parse_schema(NEWER if newer else SCHEMA), fields)
    return out.getvalue()


def held(log: Log) -> int:
    """Offsets of the topic `impressions`, so far."""
    with closing(log.source(["impressions"])) as source:
        return sum(source.bounds(TopicPartition("impressions", n))[1] for n in (0, 1))


def test_killed_in_between_it_makes_as_many_lists_as_there_are_messages(kafka_brokers: str, tmp_path: Path) -> None:
    own = uuid.uuid4().hex[:8]
    names = [f"web.views.{own}", f"app.screens.{own}"]
    (tmp_path / "web.map.toml").write_text(WEB)
    (tmp_path / "app.map.toml").write_text(APP)
    with schema_registry() as registry:
        ids = (registry.add(SCHEMA), registry.add(NEWER))
        admin = kafka.KafkaAdminClient(bootstrap_servers=kafka_brokers)
        admin.create_topics({name: {"num_partitions": 3} for name in names})
        admin.close()
        producer = kafka.KafkaProducer(bootstrap_servers=kafka_brokers, linger_ms=20)
        for n in range(EACH):
            producer.send(names[0], web(n), b"%d" % (n % 9))
            producer.send(names[1], app(n, ids), b"%d" % (n % 7))
        for junk in (b"\xff", b"{}"):
            producer.send(names[0], junk)
        producer.close()
        settings = Settings(
            log=LogSettings(kind="kafka", brokers=kafka_brokers, prefix=f"shop-{own}."),
            translate=TranslateSettings(
                topics=[
                    TranslateTopic(topic=names[0], mappings=[str(tmp_path / "web.map.toml")]),
                    TranslateTopic(topic=names[1], mappings=[str(tmp_path / "app.map.toml")], format="avro"),
                ],
                registry=SchemaRegistrySettings(url=registry.url),
                batch=25,
                wait_s=0.1,
            ),
        )
        with closing(open_log(settings.log)) as log:
            log.create_topics(standard_topics(partitions=2))
            services = Services(tmp_path, settings)
            seen = [0]

            def more() -> bool:
                return held(log) >= min(2 * EACH, seen[0] + 200)

            for _ in range(2):
                services.start("translator")
                services.wait(more, what="some more lists")
                services.kill("translator")
                seen[0] = held(log)
                assert 200 <= seen[0] < 2 * EACH, "it was killed in the middle of its work"
            services.start("translator")
            done = lambda: len(everything(log, DEAD_LETTERS)) == 2 and held(log) >= 2 * EACH  # noqa: E731
            services.wait(done, what="the last lists")
            assert services.end() == {"translator": 0}
            made = Counter(decode(Impression, message.value).id for message in everything(log, "impressions"))
            expected = [f"{name}-{n}" for name in ("web", "app") for n in range(EACH)]
            assert made == Counter(expected), "each message once"
            letters = everything(log, DEAD_LETTERS)
            assert sorted(message.value or b"" for message in letters) == sorted([b"\xff", b"{}"])
            assert {dict(message.headers)["topic"] for message in letters} == {f"/{names[0]}".encode()}
        assert len(registry.asked) <= 2 * 3, "each process asks for each schema once"
