"""The scorer with a teacher behind HTTP that misbehaves: no record is lost, and no other partition stops."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import world
from support.teacher_server import Server, score_of, teacher_server

from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.errors import TeacherError
from recdistill.loops import score
from recdistill.loops.feed import feed
from recdistill.records import DEAD_LETTERS, Impression, Ranking, decode
from recdistill.stream import Log, Message, open_log, standard_topics
from recdistill.teachers.http.server import ModelServer
from recdistill.teachers.http.teacher import HttpTeacher
from tools.processes import free_ports

pytestmark = pytest.mark.slow

LISTS = world.impressions(120)
BAD = LISTS[17]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=2, lanes=1))
    feed(log, [*world.items(), *LISTS])
    yield log
    log.close()


def opened(address: str) -> HttpTeacher:
    settings = ModelServer(
        url=address,
        model="hash",
        inputs={"items": "candidates"},
        metadata=False,
        batch=8,
        timeout_s=0.5,
        backoff_s=0.01,
        breaker_failures=6,
        breaker_s=0.3,
        max_answer_bytes=100_000,
    )
    return HttpTeacher(settings, teacher_id="h", version="1", scale="logit", env={})


def messages(log: Log, topic: str) -> list[Message]:
    source = log.source([topic])
    found: list[Message] = []
    while some := source.read(1000, 0.0):
        found += some
    source.close()
    return found


def came_out(log: Log) -> Counter[str]:
    """How often each impression came out, as a ranking or as a dead letter; each ranking's scores must be right."""
    out: Counter[str] = Counter()
    for message in messages(log, "rankings"):
        ranking = decode(Ranking, message.value)
        out[ranking.impression.id] += 1
        for candidate, value, scored in zip(ranking.impression.candidates, ranking.scores, ranking.scored, strict=True):
            assert value == pytest.approx(score_of(candidate.item) if scored else 0.0)
    for message in messages(log, DEAD_LETTERS):
        out[decode(Impression, message.value).id] += 1
    return out


def once_each() -> Counter[str]:
    return Counter(one.id for one in LISTS)


def drain(log: Log, address: str, worker: int, **settings: float) -> Counter[str]:
    chosen: dict[str, Any] = {
        "batch": 16,
        "wait_s": 0.05,
        "worker": worker,
        "workers": 2,
        "deadline_s": 5.0,
        **settings,
    }
    return score.run(log, opened(address), **chosen, stop=threading.Event(), drain=True)


WAYS = {
    "slow": lambda number, _items: "slow" if number % 5 == 0 else "well",
    "down for a while": lambda number, _items: "503" if number < 7 else "well",
    "dying": lambda number, _items: "dies" if number % 3 == 0 else "well",
    "lying about shapes": lambda number, _items: "shape" if number % 3 == 0 else "well",
    "NaN": lambda number, _items: "nan" if number % 3 == 0 else "well",
    "half the rows": lambda number, _items: "half the rows" if number % 3 == 0 else "well",
    "busy": lambda number, _items: "429" if number % 7 == 0 else "well",
    "no JSON": lambda number, _items: "not json" if number % 4 == 0 else "well",
    "endless": lambda number, _items: "endless" if number % 9 == 0 else "well",
    "refusing one": lambda _number, items: "400" if BAD.candidates[0].item in items[:1] else "well",
    "broken by one": lambda _number, items: "500" if BAD.candidates[0].item in items[:1] else "well",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_misbehaving_server_loses_no_record_and_stops_no_other_partition(log: Log, way: str) -> None:
    with teacher_server() as ill, teacher_server() as healthy:
        ill.behave, ill.retry_after = WAYS[way], "0"
        counts: list[Counter[str]] = []
        beside = threading.Thread(target=lambda: counts.append(drain(log, ill.address, 0, patience_s=30.0)))
        beside.start()
        other = drain(log, healthy.address, 1)
        beside.join(60)
        assert not beside.is_alive()
        assert counts[0]["impressions"] + other["impressions"] == len(LISTS)
        assert other["dead_letters"] == 0
        assert came_out(log) == once_each()


def test_a_server_that_is_down_for_a_while_costs_no_record_and_the_other_worker_goes_on(log: Log) -> None:
    [port] = free_ports(1)
    counts: Counter[str] = Counter()
    settings: dict[str, Any] = {
        "batch": 16,
        "wait_s": 0.05,
        "worker": 0,
        "workers": 2,
        "deadline_s": 5.0,
        "patience_s": 60.0,
    }
    teacher = opened(f"http://127.0.0.1:{port}")
    beside = threading.Thread(
        target=lambda: score.run(log, teacher, **settings, stop=threading.Event(), drain=True, counts=counts)
    )
    beside.start()
    with teacher_server() as healthy:
        other = drain(log, healthy.address, 1)
    assert other["rankings"] > 0
    assert beside.is_alive()  # waiting: nothing is scored, nothing is set aside
    assert messages(log, DEAD_LETTERS) == []
    assert len(messages(log, "rankings")) == other["rankings"]
    limit = time.monotonic() + 20
    while not counts["waits"] and time.monotonic() < limit:
        time.sleep(0.01)
    with teacher_server(port=port):
        beside.join(60)
        assert not beside.is_alive()
    assert counts["waits"] > 0
    assert counts["dead_letters"] == 0
    assert counts["rankings"] + other["rankings"] == len(LISTS)
    assert came_out(log) == once_each()


def test_a_server_that_is_down_at_the_start_is_waited_for(log: Log, tmp_path: Path) -> None:
    """The verb itself: opening a teacher asks its server to describe the model."""
    [port] = free_ports(1)
    settings = (
        f"log.path={tmp_path}/log.sqlite teacher.kind=http teacher.id=h teacher.version=1 teacher.scale=logit "
        f"teacher.http.url=http://127.0.0.1:{port} teacher.http.model=hash score.wait_s=0.05 score.batch=16 "
        "teacher.http.backoff_s=0.01 teacher.http.timeout_s=0.5"
    )
    given = [word for setting in settings.split() for word in ("--set", setting)]
    inputs = tmp_path / "shop.toml"
    inputs.write_text('[teacher.http]\ninputs = { items = "candidates" }\n')
    codes: list[int] = []
    argv = ["score", "--drain", "--config", str(inputs), *given]
    beside = threading.Thread(target=lambda: codes.append(main([*argv, "--set", "score.patience_s=60"])))
    with caught("recdistill.loops.patience") as said:
        beside.start()
        limit = time.monotonic() + 30
        while not said and time.monotonic() < limit:
            time.sleep(0.01)
        assert "the model's metadata cannot be read" in said[0]
        assert beside.is_alive()
        with teacher_server(port=port):
            beside.join(60)
    assert codes == [0]
    assert came_out(log) == once_each()
    assert main([*argv, "--set", "score.patience_s=0.3"]) == 5, "patience ends here too"


@contextmanager
def caught(logger: str) -> Iterator[list[str]]:
    """What a logger says, as it says it."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(logger).addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger(logger).removeHandler(handler)


def test_when_patience_ends_the_position_stays(log: Log) -> None:
    [port] = free_ports(1)
    with pytest.raises(
        TeacherError, match=r"it was waited for 0\.5 s \(score\.patience_s\), and nothing of this batch"
    ):
        drain(log, f"http://127.0.0.1:{port}", 0, patience_s=0.5)
    assert came_out(log) == Counter()
    with teacher_server() as server:
        assert drain(log, server.address, 0)["dead_letters"] == 0
        assert drain(log, server.address, 1)["dead_letters"] == 0
    assert came_out(log) == once_each()


def test_a_scorer_that_waits_stops_when_told_to(log: Log) -> None:
    [port] = free_ports(1)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    began = time.monotonic()
    teacher = opened(f"http://127.0.0.1:{port}")
    counts = score.run(log, teacher, batch=16, wait_s=0.05, deadline_s=5.0, patience_s=60.0, stop=stop, drain=True)
    assert time.monotonic() - began < 30, "half of its patience"
    assert counts["waits"] > 0
    assert came_out(log) == Counter()


def test_a_server_that_goes_down_in_the_middle(log: Log) -> None:
    [port] = free_ports(1)
    settings: dict[str, Any] = {"batch": 8, "wait_s": 0.05, "deadline_s": 5.0, "patience_s": 60.0}
    counts: Counter[str] = Counter()
    teacher = opened(f"http://127.0.0.1:{port}")
    beside = threading.Thread(
        target=lambda: score.run(log, teacher, **settings, stop=threading.Event(), drain=True, counts=counts)
    )

    def serve_until(server: Server, asked: int) -> None:
        limit = time.monotonic() + 20
        while len(server.asked) < asked and beside.is_alive() and time.monotonic() < limit:
            time.sleep(0.002)

    beside.start()
    for _ in range(3):
        with teacher_server(port=port) as server:
            server.behave = lambda _n, _items: "soon"
            serve_until(server, 3)
        time.sleep(0.2)
    with teacher_server(port=port):
        beside.join(60)
    assert not beside.is_alive()
    assert counts["dead_letters"] == 0
    assert came_out(log) == once_each()
