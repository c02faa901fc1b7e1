"""The distiller's catalogue stands exactly at the scorer's stamp, whatever gaps the offsets have, on both logs."""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from support import world

from recdistill import checkpoint
from recdistill.bundle import open_bundle
from recdistill.config import (
    DistilSettings,
    LogSettings,
    LossSettings,
    StudentSettings,
)
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.loops import join, score
from recdistill.loops.distil import Distiller
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.saved import Recipe
from recdistill.loops.feed import feed
from recdistill.loops.trainers import make_trainer
from recdistill.loops.wire import distil_from
from recdistill.records import Example, Item, decode, encode
from recdistill.stream import Log, Message, open_log, standard_topics
from recdistill.stream.testing import everything
from recdistill.teachers.function import FunctionTeacher

SPEC = FeatureSpec(
    history=HistorySpec(length=4, actions=("click",)),
    id=IdSpec(capacity=100, hashed=4),
    item={"genre": Field("category", capacity=40, hashed=2)},
    context={"hour": Field("category", capacity=24, hashed=0, max_values=1)},
)
STUDENT = StudentSettings(dim=4, hidden=8, context_dim=4)
BATCH = 5
RECIPE = Recipe({}, {}, BATCH, 1, 0, 1, SPEC.hash, {})


class GaveUp(Exception):
    """Aborts a transaction."""


def one_by_one(log: Log, items: list[Item]) -> None:
    """Each item in a transaction of its own, and after each a transaction that is aborted."""
    stage = log.stage("catalogue")
    for item in items:
        with stage.transaction() as transaction:
            transaction.send("items", encode(item), key=item.id.encode())
        try:
            with stage.transaction() as transaction:
                transaction.send("items", encode(msgspec.structs.replace(item, version=99)), key=item.id.encode())
                raise GaveUp
        except GaveUp:
            pass
    stage.close()


def change(number: int, version: int) -> Item:
    return Item(f"item-{number}", version=version, attributes={"genre": f"v{version}"}, time_us=version)


ROUNDS = [
    [change(n, 1) for n in range(8)],
    [change(0, 2), change(8, 1), change(9, 1)],
    [Item("item-3", version=2, withdrawn=True), change(10, 1), change(0, 3)],
    [change(n, 1) for n in range(11, 20)],
    [change(1, 2), change(0, 4)],
]


def fill(log: Log, settings: dict[str, str]) -> None:
    """Rounds of changes of the catalogue, lists that are scored between them, and more changes after the last."""
    log.create_topics(standard_topics(partitions=1, lanes=1), configs={"items": settings})
    lists = world.impressions(44)
    share = len(lists) // len(ROUNDS) + 1
    for number, items in enumerate(ROUNDS):
        one_by_one(log, items)
        feed(log, lists[number * share : (number + 1) * share])
        teacher = FunctionTeacher(world.by_hash, "hash", "1", "logit")
        score.run(log, teacher, batch=16, wait_s=0.05, stop=threading.Event(), drain=True)
    feed(log, world.feedback(lists))
    join.run(log, window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    one_by_one(log, [change(2, 7), change(20, 1), change(0, 7)])


COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "50",
    "min.cleanable.dirty.ratio": "0.0",
    "max.compaction.lag.ms": "100",
    "delete.retention.ms": "0",
}


def punch_holes(path: Path) -> int:
    """What compaction does, done to the embedded log: of each key the last record alone stays, offsets as they were."""
    with sqlite3.connect(path) as file:
        (number,) = file.execute("SELECT id FROM partitions WHERE topic = 'items'").fetchone()
        table = f"messages_{number}"
        return file.execute(
            f"DELETE FROM {table} WHERE offset NOT IN (SELECT max(offset) FROM {table} GROUP BY key)"
        ).rowcount


@pytest.fixture(
    params=["embedded", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.slow])],
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["as written", "compacted"])
def log(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Iterator[Log]:
    compacted = request.param == "compacted"
    path = tmp_path / "log.sqlite"
    if kind == "embedded":
        opened = open_log(LogSettings(path=str(path)))
    else:
        brokers = request.getfixturevalue("kafka_brokers")
        opened = open_log(LogSettings(kind="kafka", brokers=brokers, prefix=f"t{uuid.uuid4().hex[:8]}."))
    fill(opened, COMPACTED if compacted else {})
    if compacted:
        if kind == "embedded":
            assert punch_holes(path) == 7
        else:
            wait_for_compaction(opened)
        assert len({message.key for message in everything(opened, "items")}) == 21  # of 28 records
    yield opened
    opened.close()


def wait_for_compaction(log: Log) -> None:
    """Until no record that any stamp reaches has a later one, so that nothing vanishes during the test."""
    last = max(decode(Example, message.value).ranking.catalogue_as_of for message in everything(log, "examples"))
    deadline = time.monotonic() + 120
    while True:
        items = everything(log, "items")
        newest = {message.key: message.offset for message in items}
        if all(newest[message.key] == message.offset for message in items if message.offset < last):
            return
        assert time.monotonic() < deadline, "the broker does not compact"
        # A segment is closed, and so can be compacted, when the next one begins.
        one_by_one(log, [change(2, 8)])


def naive(items: list[Message], stamp: int) -> dict[str, Item]:
    """The catalogue before a stamp, in the order of the first records."""
    catalogue: dict[str, Item] = {}
    for message in items:
        record = decode(Item, message.value)
        before = catalogue.get(record.id)
        if message.offset < stamp and (before is None or record.version >= before.version):
            if record.withdrawn and before is not None and not record.attributes:
                record = msgspec.structs.replace(record, attributes=before.attributes)
            catalogue[record.id] = record
    return catalogue


class Run:
    """A distiller that a test drives step by step."""

    def __init__(self, log: Log, directory: Path) -> None:
        self.folder = StudentFolder(directory, keep=3)
        self.trainer = make_trainer(SPEC, STUDENT, LossSettings(), seed=0)
        self.distiller = Distiller(log, self.trainer, self.folder, RECIPE, memory_mb=100, drain=True)

    def step(self) -> bool:
        return self.distiller.advance(0.2) is not None

    def end(self) -> None:
        self.distiller.save()
        self.distiller.close()
        self.folder.close()


def test_the_catalogue_is_exact_at_each_step(log: Log, tmp_path: Path) -> None:
    items = everything(log, "items")
    gaps = [b.offset - a.offset for a, b in pairwise(items)]
    assert min(gaps) > 1
    stamps = [decode(Example, message.value).ranking.catalogue_as_of for message in everything(log, "examples")]
    assert len(set(stamps)) == len(ROUNDS)
    run, steps, seen = Run(log, tmp_path / "s"), 0, 0
    while run.step():
        seen = max([seen, *stamps[steps * BATCH : (steps + 1) * BATCH]])
        steps += 1
        expected, catalogue = naive(items, seen), run.trainer.catalogue
        assert run.distiller.saved.items_next == seen
        assert catalogue.ids == list(expected)
        assert {name: catalogue.item(slot) for name, slot in catalogue.slot_of.items()} == expected
    run.end()
    assert steps == -(-len(stamps) // BATCH)


@pytest.mark.slow
def test_stopped_after_each_step_it_ends_with_the_same_bytes(log: Log, tmp_path: Path) -> None:
    settings = DistilSettings(batch=BATCH, checkpoint_every=100, wait_s=0.1, threads=1)

    def distil(name: str, **more: object) -> None:
        chosen = msgspec.structs.replace(settings, directory=str(tmp_path / name))
        arguments = {"stop": threading.Event(), "drain": True, **more}
        distil_from(log, SPEC, STUDENT, LossSettings(), chosen, **arguments)  # type: ignore[arg-type]

    distil("whole")
    for number in range(9):
        stop = threading.Event()
        distil("stopped", stop=stop, progress=lambda done, total, stop=stop: stop.set())
        if number % 2:  # the catalogue goes on changing meanwhile
            one_by_one(log, [change(4, 20 + number), change(30 + number, 1)])
    distil("stopped")
    one, two = (checkpoint.latest(tmp_path / name / "checkpoints") for name in ("whole", "stopped"))
    assert one is not None
    assert two is not None
    assert one.step == two.step == -(-len(everything(log, "examples")) // BATCH)
    assert one.tensors.keys() == two.tensors.keys()
    for name, tensor in one.tensors.items():
        assert tensor.tobytes() == two.tensors[name].tobytes(), name
    assert one.state == two.state
    bundles = [next((tmp_path / name / "bundles").iterdir()) for name in ("whole", "stopped")]
    assert open_bundle(bundles[0]).content_hash == open_bundle(bundles[1]).content_hash
