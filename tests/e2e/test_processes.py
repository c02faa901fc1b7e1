"""The whole loop as separate processes on Apache Kafka with an MLflow server, through restarts and SIGKILLs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import world
from support.services import Services

from recdistill.config import (
    DistilSettings,
    FeatureSettings,
    GateSettings,
    HeldOutSettings,
    JoinSettings,
    LogSettings,
    PromoteSettings,
    RankSettings,
    RegistrySettings,
    ScoreSettings,
    Settings,
    StudentSettings,
    TeacherSettings,
    to_toml,
)
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.loops.feed import feed
from recdistill.records import Example, Feedback, Impression, Item, decode
from recdistill.stream import Log, open_log, partition_for, standard_topics
from tools import processes
from tools.kafka_broker import KafkaBroker

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.slow]

SPEC = FeatureSpec(
    history=HistorySpec(length=4, actions=("click",)),
    id=IdSpec(capacity=100, hashed=4),
    item={"genre": Field("category", capacity=8, hashed=2), "title": Field("text", capacity=32)},
    context={"hour": Field("category", capacity=24, hashed=0, max_values=1)},
)
PARTITIONS, LANES, WINDOW_S = 2, 2, 5.0


def settings(folder: Path, brokers: str, **sections: Any) -> Settings:
    """Small and quick, with a teacher that is a function of this test."""
    features = folder / "features.toml"
    features.write_text(to_toml(msgspec.to_builtins(SPEC)), encoding="utf-8")
    chosen = {
        "log": LogSettings(kind="kafka", brokers=brokers, prefix=f"t{uuid.uuid4().hex[:8]}-"),
        "features": FeatureSettings(file=str(features)),
        "teacher": TeacherSettings(kind="callable", function="support.world:by_hash", id="hash", scale="logit"),
        "score": ScoreSettings(batch=16, wait_s=0.1),
        # One example a list, of all users, in whole batches: then it is known how many of each there must be.
        "join": JoinSettings(window_s=WINDOW_S, wait_s=0.1, batch=20, soft="with_labels"),
        "held_out": HeldOutSettings(most=0.0),
        "student": StudentSettings(dim=4, hidden=8, context_dim=4),
        "distil": DistilSettings(
            directory=str(folder / "student"),
            batch=20,
            checkpoint_every=2,
            export_every=0,
            keep=2,
            wait_s=0.1,
            threads=1,
            learn_within_s=0.0,
        ),
    }
    return Settings(**{**chosen, **sections})


def sentinels(after_us: int) -> list[Impression | Feedback]:
    """One impression and one feedback in each partition, late enough to close every window before them."""
    found: dict[int, str] = {}
    for n in range(1000):
        found.setdefault(partition_for(f"end-{n}".encode(), PARTITIONS), f"end-{n}")
    late_us = after_us + int((WINDOW_S + 10) * 1e6)
    [model] = world.impressions(1)
    records: list[Impression | Feedback] = []
    for id_ in found.values():
        records.append(msgspec.structs.replace(model, id=id_, time_us=late_us))
        records.append(Feedback(id=f"f-{id_}", impression_id=id_, item="item-0", action="none", time_us=late_us + 1))
    return records


def read_values(log: Log, topic: str) -> list[bytes]:
    source = log.source([topic])
    ends = {tp: source.bounds(tp)[1] for tp in source.position()}
    values: list[bytes] = []
    while any(source.position()[tp] < end for tp, end in ends.items()):
        values += [message.value or b"" for message in source.read(1000, 0.5)]
    source.close()
    return values


def example_ids(log: Log) -> list[str]:
    return [decode(Example, value).ranking.impression.id for value in read_values(log, "examples")]


def ask(url: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read()
            return response.status, json.loads(text) if text.startswith(b"{") else text
    except urllib.error.HTTPError as e:
        return e.code, None
    except OSError:
        return 0, None


@pytest.mark.mlflow
def test_the_whole_loop_as_processes_through_a_broker_restart(
    kafka_broker_factory: Callable[..., KafkaBroker], mlflow_server: str, tmp_path: Path
) -> None:
    broker = kafka_broker_factory()
    [port] = processes.free_ports(1)
    chosen = settings(
        tmp_path,
        broker.bootstrap,
        registry=RegistrySettings(uri=mlflow_server, name=f"e2e-{uuid.uuid4().hex[:6]}", cache=str(tmp_path / "cache")),
        gate=GateSettings(retention=0.0, champion=0.0, beats_popularity=False, min_lists=20),
        promote=PromoteSettings(wait_s=0.5),
        rank=RankSettings(port=port, follow_s=0.3, items_s=0.2),
        distil=DistilSettings(
            directory=str(tmp_path / "student"),
            batch=20,
            checkpoint_every=4,
            export_every=8,
            keep=2,
            wait_s=0.1,
            threads=1,
            learn_within_s=0.0,
        ),
    )
    url = f"http://127.0.0.1:{port}"
    log = open_log(chosen.log)
    log.create_topics(standard_topics(PARTITIONS, LANES))
    services = Services(tmp_path, chosen)
    services.start("scorer", "joiner", "distiller", "promoter", "ranker")
    services.wait(lambda: ask(url, "/livez")[0] == 200, what="the ranker")
    assert ask(url, "/readyz")[0] == 503  # there is no champion yet

    lists = world.impressions(300, seed=2)
    clicks = world.feedback(lists, seed=2, late=0.0)
    half = [one for one in clicks if one.time_us <= lists[149].time_us]
    feed(log, [*world.items(), *lists[:150], *half])
    services.wait(lambda: len(read_values(log, "rankings")) >= 150, what="the first rankings")
    broker.restart()
    services.wait(lambda: broker_answers(chosen), what="the broker")
    feed(log, [*lists[150:], *clicks[len(half) :], *sentinels(lists[-1].time_us)])
    services.wait(lambda: len(read_values(log, "examples")) >= 300, what="all examples", patience_s=180)
    assert Counter(example_ids(log)) == Counter(one.id for one in lists)
    services.wait(lambda: ask(url, "/readyz")[0] == 200, what="a champion that serves", patience_s=180)

    status, model = ask(url, "/v1/model")
    assert status == 200
    history = [{"item": "item-1", "action": "click", "time_us": 1}]
    status, answer = ask(url, "/v1/recommend", {"history": history, "context": {"hour": "3"}, "k": 5, "time_us": 10})
    assert status == 200
    assert len(answer["items"]) == 5
    assert "item-1" not in answer["items"]
    assert answer["bundle"] in json.dumps(model)

    # A new item is there within seconds, and a withdrawn one is gone, with no training in between.
    gone = answer["items"][0]
    new = Item(id="brand-new", version=1, attributes={"genre": "a", "title": "the 1 of 1"}, time_us=9)
    feed(log, [new, Item(id=gone, version=2, withdrawn=True, time_us=9)])

    def catalogue_followed() -> bool:
        _, all_ = ask(url, "/v1/recommend", {"k": 100, "context": {"hour": "3"}})
        return "brand-new" in all_["items"] and gone not in all_["items"]

    services.wait(catalogue_followed, what="the new item", patience_s=30)
    assert services.end() == dict.fromkeys(("scorer", "joiner", "distiller", "promoter", "ranker"), 0)
    log.close()


def broker_answers(chosen: Settings) -> bool:
    try:
        log = open_log(chosen.log)
        log.topics()
        log.close()
    except Exception:  # noqa: BLE001 - whatever a client says while its broker is away
        return False
    return True
