"""Each stage on a real broker while a topic that it reads or writes is deleted, or deleted and made again.

Each stage ends with one sentence that names the topic. Nothing counts as done that was not written. The ranker goes on
to answer. Processes of one test run side by side, each on a log of its own, because most of the time all of them wait.
The embedded log has no topic that can be deleted: there, its whole file goes away.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

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
    ProbeSettings,
    PromoteSettings,
    RankSettings,
    RegistrySettings,
    ScoreSettings,
    Settings,
    StudentSettings,
    TeacherSettings,
    TranslateSettings,
    TranslateTopic,
    to_toml,
)
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.hops import Counts
from recdistill.loops import wire
from recdistill.loops.feed import feed
from recdistill.records import Example, Impression, Ranking, decode, to_json
from recdistill.stream import BUNDLES, STANDARD_CONFIGS, Log, Message, is_tick, made_bundles, open_log, standard_topics
from recdistill.stream.testing import everything
from tools import processes

kafka = pytest.importorskip("kafka")
pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SPEC = FeatureSpec(
    history=HistorySpec(length=4, actions=("click",)),
    id=IdSpec(capacity=100, hashed=4),
    item={"genre": Field("category", capacity=8, hashed=2)},
    context={"hour": Field("category", capacity=24, hashed=0, max_values=1)},
)
MAPPING: Final = """
kind = "impressions"
[columns]
id = "id"
time = "time_us"
user = "user"
candidates = "candidates.item"
"""
THEIRS: Final = "theirs"
"""Stands for the topic of the product that the translator reads."""

BEGIN_S, END_S = 150.0, 90.0
LISTS: Final = 20


class Case(NamedTuple):
    """A stage and the topic that goes away under it."""

    stage: str
    topic: str


def settings(folder: Path, log: LogSettings, registry: str, theirs: str) -> Settings:
    """Small and quick, with a teacher that is a function."""
    (folder / "features.toml").write_text(to_toml(msgspec.to_builtins(SPEC)), encoding="utf-8")
    (folder / "map.toml").write_text(MAPPING, encoding="utf-8")
    [port] = processes.free_ports(1)
    return Settings(
        log=log,
        features=FeatureSettings(file=str(folder / "features.toml")),
        translate=TranslateSettings(
            topics=[TranslateTopic(topic=theirs, mappings=[str(folder / "map.toml")])], wait_s=0.2
        ),
        teacher=TeacherSettings(kind="callable", function="support.world:by_hash", id="hash", scale="logit"),
        score=ScoreSettings(batch=16, wait_s=0.1),
        join=JoinSettings(window_s=5, wait_s=0.1, batch=20, soft="with_labels", idle_s=3),
        held_out=HeldOutSettings(least=0.3, most=0.3),
        student=StudentSettings(dim=4, hidden=8, context_dim=4),
        distil=DistilSettings(
            directory=str(folder / "student"),
            batch=20,
            checkpoint_every=4,
            export_every=4,
            keep=2,
            wait_s=0.1,
            threads=1,
            learn_within_s=0.5,
        ),
        registry=RegistrySettings(uri=registry, name="shop", cache=str(folder / "cache")),
        gate=GateSettings(retention=0.0, champion=0.0, beats_popularity=False, min_lists=10),
        promote=PromoteSettings(wait_s=0.5),
        probe=ProbeSettings(share=1.0, follow_s=0.5, wait_s=0.2),
        rank=RankSettings(port=port, follow_s=0.3, items_s=0.2, write_back=1.0),
    )


class Master:
    """A log that the whole loop has worked on once, and its registry with a champion."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        registry = f"sqlite:///{folder}/mlflow.sqlite"
        chosen = settings(folder, LogSettings(path=str(folder / "log.sqlite")), registry, "nobody's")
        with closing(open_log(chosen.log)) as log:
            log.create_topics(standard_topics(), configs=STANDARD_CONFIGS)
            lists = world.impressions(200, seed=2)
            feed(log, [*world.items(), *lists, *world.feedback(lists, seed=2, late=0.0)])
            for job in ("scorer", "joiner", "distiller", "promoter"):
                done = wire.JOBS[job](chosen, threading.Event(), True, Counts(), None)
            assert done["promoted"] == 1, done
            self.topics = {topic: everything(log, topic) for topic in ("items", "rankings", "examples", "held-out")}

    def copy(self, log: Log, *topics: str, which: slice = slice(None)) -> None:
        """Writes topics of this log, or a part of them, into another one."""
        with closing(log.stage("copy")) as stage, stage.transaction() as transaction:
            for topic in topics:
                for message in self.topics[topic][which]:
                    transaction.send(topic, message.value, key=message.key, partition=0, headers=message.headers)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Master:
    return Master(tmp_path_factory.mktemp("master"))


class Running:
    """One stage as a process, with a log of its own."""

    def __init__(self, case: Case, master: Master, folder: Path, log: LogSettings) -> None:
        self.case, self.master, self.folder = case, master, folder / f"{case.stage}-{case.topic}"
        self.folder.mkdir(parents=True)
        registry = master.folder / "mlflow.sqlite"
        if case.stage in ("promoter", "distiller"):  # they write there
            shutil.copy(registry, self.folder / "mlflow.sqlite")
            registry = self.folder / "mlflow.sqlite"
        self.joined: set[str] = set()
        self.theirs = f"{THEIRS}-{log.prefix}views"
        self.settings = settings(self.folder, log, f"sqlite:///{registry}", self.theirs)
        self.services = Services(self.folder, self.settings)
        with closing(self.log()) as opened:
            opened.create_topics(standard_topics(), configs=STANDARD_CONFIGS)
            master.copy(opened, "items", *(["held-out"] if case.stage == "promoter" else []))

    def log(self) -> Log:
        return open_log(self.settings.log)

    def push(self, n: int) -> None:
        """Something to do, a different thing each time."""
        some = world.impressions(LISTS * (n + 1), seed=2)[LISTS * n :]
        if self.case.stage == "translator":
            self._push_theirs(some)
            return
        if self.case.stage == "ranker":
            self.ask()
            return
        with closing(self.log()) as log:
            if self.case.stage in ("scorer", "prober"):
                feed(log, some)
            elif self.case.stage == "joiner":
                self.master.copy(log, "rankings", which=slice(100 * n, 100 * n + 100))
            elif self.case.stage == "distiller":
                self.master.copy(log, "examples")

    def _push_theirs(self, some: Sequence[Impression]) -> None:
        if self.settings.log.kind != "kafka":
            return
        producer = kafka.KafkaProducer(bootstrap_servers=self.settings.log.brokers)
        for one in some:
            producer.send(self.theirs, to_json(one), b"1")
        producer.close()

    def ask(self) -> int:
        """How many items the ranker answers with."""
        url = f"http://127.0.0.1:{self.settings.rank.port}/v1/recommend"
        body = json.dumps({"k": 3, "context": {"hour": "3"}}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return len(json.loads(response.read())["items"])

    def ready(self) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.settings.rank.port}/readyz", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError as e:
            return 0, str(e)

    def works(self) -> bool:
        """Whether the stage has opened all that it uses, and done what it was given first."""
        if self.case.stage == "ranker":
            return self.ready()[0] == 200 and self.ask() == 3 and bool(self._count("impressions"))
        made = {"translator": "impressions", "scorer": "rankings", "joiner": "examples", "distiller": BUNDLES.topic}
        made |= {"prober": "impressions", "promoter": "ledger"}
        least = {"prober": LISTS + 1, "scorer": LISTS, "translator": LISTS}.get(self.case.stage, 1)
        return self._count(made[self.case.stage]) >= least

    def _count(self, topic: str) -> int:
        with closing(self.log()) as log:
            return len(everything(log, topic))

    def start(self) -> None:
        self.services.start(self.case.stage)

    def code(self) -> int | None:
        """The exit code of the process; None: it runs."""
        code: int | None = self.services._running[self.case.stage].poll()
        return code

    def forget(self) -> None:
        """So that it can be started again."""
        self.services._running.pop(self.case.stage)
        self.services.log(self.case.stage).unlink()

    def said(self) -> list[dict[str, str]]:
        """The lines that it has written. One that it is just writing does not count."""
        whole, _, _ = self.services.log(self.case.stage).read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def tracebacks(self) -> list[dict[str, str]]:
        """Lines with a traceback. The Kafka client logs its own, where a connection is closed while it is read."""
        return [line for line in self.said() if "exception" in line and not line["logger"].startswith("kafka.net.")]

    def sentence(self) -> str:
        """The one sentence with which it has ended, with exit code 4 and without a traceback."""
        said = self.said()
        mine = [line["message"] for line in said if line["level"] == "error" and line["logger"] == "services"]
        assert self.code() == 4, (self.case, self.code(), mine, said[-3:])
        assert not self.tracebacks(), self.case
        assert len(mine) == 1, (self.case, mine)
        assert len([line for line in said if line["level"] in ("warning", "error")]) < 40, self.case
        return mine[0]


def wait(what: str, running: Sequence[Running], done: Callable[[Running], bool], patience_s: float) -> None:
    """Waits until all of them have come so far."""
    deadline, left = time.monotonic() + patience_s, list(running)
    while left := [one for one in left if not done(one)]:
        told = {one.case: (one.code(), one.said()[-2:]) for one in left}
        assert time.monotonic() < deadline, f"{what}: {told}"
        time.sleep(0.5)


@pytest.fixture
def begun(kafka_brokers: str, master: Master, tmp_path: Path) -> Any:
    """Starts stages, and waits until each has worked."""
    all_: list[Running] = []
    own = uuid.uuid4().hex[:6]
    admin = kafka.KafkaAdminClient(bootstrap_servers=kafka_brokers)

    def begin(*cases: Case) -> list[Running]:
        for case in cases:
            prefix = f"{own}-{case.stage}-{case.topic}."
            log = LogSettings(kind="kafka", brokers=kafka_brokers, prefix=prefix)
            one = Running(case, master, tmp_path, log)
            admin.create_topics({one.theirs: {"num_partitions": 1}})
            all_.append(one)
            if case.stage not in ("ranker", "promoter"):
                one.push(0)
            one.start()
        wait("it works", all_, Running.works, BEGIN_S)
        return all_

    yield begin
    admin.close()
    for one in all_:
        if one.case.stage in one.services._running:
            one.services.kill(one.case.stage)


def delete(brokers: str, running: Sequence[Running], *, again: bool = False) -> None:
    """Deletes the topic of each, and perhaps makes it again at once."""
    admin = kafka.KafkaAdminClient(bootstrap_servers=brokers)
    for one in running:
        if one.case.stage == "joiner":  # that much is gone with the topic, or stays
            with closing(one.log()) as log:
                one.joined = joined(log)
        name = one.theirs if one.case.topic == THEIRS else one.settings.log.prefix + one.case.topic
        admin.delete_topics([name])
        deadline = time.monotonic() + 20
        while again:
            try:
                admin.create_topics({name: {"num_partitions": 1}})
                break
            except kafka.errors.KafkaError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    admin.close()


READ: Final = [
    Case("translator", THEIRS),
    Case("scorer", "items"),
    Case("joiner", "feedback"),
    Case("distiller", "examples"),
    Case("prober", "impressions"),
    Case("promoter", "ledger"),
    Case("promoter", "bundles"),
    Case("promoter", "held-out"),
]
"""What each stage reads. The scorer's own impressions are in `test_positions_on_kafka`."""


def named(case: Case, sentence: str) -> bool:
    return f"topic '{case.topic}'" in sentence or (case.topic == THEIRS and f"topic '/{THEIRS}-" in sentence)


def check_ends(running: Sequence[Running], *, again: bool = False) -> None:
    """Waits until each has ended with a sentence that names its topic and says what became of it."""
    wait("it ends", running, lambda one: one.code() is not None, END_S)
    for one in running:
        sentence = one.sentence()
        if one.case == Case("distiller", "items"):  # what it saves comes before what it reads
            assert "items" in sentence
            continue
        assert named(one.case, sentence), sentence
        assert any(what in sentence for what in became(again=again)), sentence


def became(*, again: bool) -> tuple[str, ...]:
    """What can be said of a topic. One who looks between the deletion and the new topic finds only the deletion."""
    deleted = "was deleted while this process used it"
    return ("was deleted and made again while this process used it", deleted) if again else (deleted,)


@pytest.mark.kafka
def test_a_topic_that_is_read_is_deleted(kafka_brokers: str, begun: Any) -> None:
    running = begun(*READ)
    delete(kafka_brokers, running)
    check_ends(running)
    for one in running:
        assert ("its owner" if one.case.topic == THEIRS else "`recdistill topics create`") in one.sentence()


@pytest.mark.kafka
def test_a_topic_that_is_read_is_deleted_and_made_again(kafka_brokers: str, begun: Any) -> None:
    """The process ends, and the next one does not go on at a place of the old topic."""
    cases = [*READ, Case("distiller", "items"), Case("joiner", "rankings")]
    running = begun(*cases)
    delete(kafka_brokers, running, again=True)
    for one in running:
        if one.case.stage == "distiller":  # it looks at its items when there is something to learn
            one.push(1)
    check_ends(running, again=True)

    again = [one for one in running if one.case.stage not in ("promoter", "scorer")]
    for one in again:
        one.forget()
        one.start()
    wait("it ends again", again, lambda one: one.code() is not None, END_S)
    for one in again:
        sentence = one.sentence()
        assert one.case.topic in sentence
        assert "made again" in sentence, sentence
        verb = {"translator": "translate", "joiner": "join", "prober": "probe"}.get(one.case.stage)
        if verb is not None:
            assert f"`recdistill {verb} --from beginning`" in sentence, sentence


WRITTEN: Final = [
    Case("translator", "impressions"),
    Case("scorer", "rankings"),
    Case("scorer", "checks"),
    Case("joiner", "examples"),
    Case("joiner", "held-out"),
    Case("distiller", "bundles"),
]


def check_nothing_is_lost(one: Running) -> None:
    """After the topic was made again and the stage started again, all that came after the deletion is there."""
    with closing(one.log()) as log:
        log.create_topics(standard_topics(), configs=STANDARD_CONFIGS)
        one.forget()
        one.start()
        late = {each.id for each in world.impressions(2 * LISTS, seed=2)[LISTS:]}

        def whole(_: Running) -> bool:
            if one.case.stage == "translator":
                return late <= {decode(Impression, each.value or b"").id for each in everything(log, "impressions")}
            if one.case.stage == "scorer":
                return late <= ids(everything(log, "rankings"))
            if one.case.stage == "distiller":
                newest = max((one.folder / "student" / "bundles").iterdir())
                with closing(log.source([BUNDLES])) as source:
                    announced, _ = made_bundles(source)
                content = json.loads((newest / "manifest.json").read_text())
                return announced[-1:] != [] and announced[-1].step == int(content["provenance"]["step"])
            return ids(one.master.topics["rankings"][:150]) <= one.joined | joined(log)

        wait("nothing is lost", [one], whole, END_S)
    assert one.code() is None
    assert one.services.end() == {one.case.stage: 0}


def ids(rankings: Sequence[Message]) -> set[str]:
    return {decode(Ranking, each.value or b"").impression.id for each in rankings}


def joined(log: Log) -> set[str]:
    """The lists that the joiner has closed."""
    found = [each for topic in ("examples", "held-out") for each in everything(log, topic) if not is_tick(each)]
    return {decode(Example, each.value or b"").ranking.impression.id for each in found}


@pytest.mark.kafka
def test_a_topic_that_is_only_written_is_deleted(kafka_brokers: str, begun: Any) -> None:
    running = begun(*WRITTEN)
    delete(kafka_brokers, running)
    for one in running:
        one.push(1)
    check_ends(running)
    for one in running:
        check_nothing_is_lost(one)


@pytest.mark.kafka
def test_a_topic_that_is_only_written_is_deleted_and_made_again(kafka_brokers: str, begun: Any) -> None:
    """A stage that keeps a connection to it ends. Nothing of the new transaction counts as done."""
    running = begun(*[case for case in WRITTEN if case.stage != "distiller"])
    delete(kafka_brokers, running, again=True)
    time.sleep(6)  # the clients ask for their topics every five seconds
    for one in running:
        one.push(1)
    check_ends(running, again=True)
    for one in running:
        check_nothing_is_lost(one)


@pytest.mark.kafka
@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made again"])
def test_a_ranker_answers_on_and_says_what_is_wrong(kafka_brokers: str, begun: Any, *, again: bool) -> None:
    [items, looks, back] = begun(Case("ranker", "items"), Case("ranker", "look-now"), Case("ranker", "impressions"))
    delete(kafka_brokers, [items, looks, back], again=again)
    wait("it says so", [items], lambda one: one.ready()[0] == 503, END_S)
    for _ in range(8):  # and it does not forget it
        assert items.ask() == 3
        code, why = items.ready()
        assert code == 503
        assert any(f"topic 'items' {what}" in why for what in became(again=again)), why
        time.sleep(0.5)
    assert looks.ask() == back.ask() == 3
    assert looks.ready()[0] == 200, "the alias is looked at all the same"
    for one in (items, looks, back):
        assert one.services.end() == {"ranker": 0}
        assert not one.tracebacks(), one.case


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_the_file_of_the_embedded_log_goes_away(master: Master, tmp_path: Path, *, replaced: bool) -> None:
    running = []
    for stage in ("scorer", "joiner", "distiller", "prober", "promoter", "ranker"):
        place = tmp_path / stage
        place.mkdir()
        one = Running(Case(stage, "log"), master, tmp_path, LogSettings(path=str(place / "log.sqlite")))
        if stage not in ("ranker", "promoter"):
            one.push(0)
        one.start()
        running.append(one)
    try:
        wait("it works", running, Running.works, BEGIN_S)
        for one in running:
            path = Path(one.settings.log.path)
            if replaced:
                other = path.with_name("other.sqlite")
                with closing(open_log(LogSettings(path=str(other)))) as log:
                    log.create_topics(standard_topics())
                other.replace(path)
            else:
                path.unlink()
        workers = [one for one in running if one.case.stage != "ranker"]
        wait("it ends", workers, lambda one: one.code() is not None, END_S)
        what = "was replaced by another file" if replaced else "was removed"
        for one in workers:
            sentence = one.sentence()
            assert f"{one.settings.log.path} {what} while this process used it" in sentence, sentence
            assert "put the log back" in sentence
        ranker = running[-1]
        wait("it says so", [ranker], lambda one: one.ready()[0] == 503, END_S)
        assert ranker.ask() == 3
        assert ranker.services.end() == {"ranker": 0}
    finally:
        for one in running:
            if one.case.stage in one.services._running:
                one.services.kill(one.case.stage)
