"""The translator: each message once, whenever it dies; what cannot be understood is set aside whole."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recdistill.config import LogSettings
from recdistill.data.foreign import Translator, decoder_of
from recdistill.data.mapping import TableMapping
from recdistill.errors import ConfigError, SchemaAway, StreamError, TooManyBad
from recdistill.loops import translate
from recdistill.loops.translate import Translate, raw_of
from recdistill.records import DEAD_LETTERS, Feedback, Impression, decode, decode_item
from recdistill.stream import Log, Message, open_log, standard_topics
from recdistill.stream.testing import Abort, AbortingLog, everything

BEGAN_S = 1_767_225_600
VIEWS = TableMapping(
    kind="impressions",
    only={"type": "view"},
    columns={
        "id": "request.id",
        "time": "ts",
        "user": "user.id",
        "candidates": "slots.sku",
        "clicked": "slots.clicked",
    },
    context={"device": "request.device"},
)
CLICKS = TableMapping(
    kind="feedback",
    only={"type": ["click", "buy"]},
    columns={"impression_id": "request.id", "item": "sku", "action": "type", "time": "ts"},
)
PRODUCTS = TableMapping(kind="items", columns={"id": "sku"}, attributes={"price": "offer.price"})


def view(n: int, **more: Any) -> dict[str, Any]:
    slots = [{"sku": f"i{n}", "clicked": n % 2 == 0}, {"sku": f"i{n + 1}", "clicked": False}]
    request = {"id": f"r{n}", "device": "phone"}
    return {"type": "view", "request": request, "ts": BEGAN_S + 10 * n, "user": {"id": n % 3}, "slots": slots, **more}


def click(n: int) -> dict[str, Any]:
    return {"type": "click", "request": {"id": f"r{n}"}, "sku": f"i{n}", "ts": BEGAN_S + 10 * n + 5}


def theirs_of(**mappings: list[TableMapping]) -> dict[str, Translate]:
    def of_log(translator: Translator) -> Translate:
        return lambda message: translator.encoded(raw_of(message))

    return {name: of_log(Translator(name, some, decoder_of("json"))) for name, some in mappings.items()}


THEIRS: Mapping[str, Translate] = theirs_of(events=[VIEWS, CLICKS], products=[PRODUCTS])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with closing(open_log(LogSettings(path=str(tmp_path / "log.sqlite")))) as log:
        log.create_topics({**standard_topics(2), "events": 3, "products": 1})
        yield log


def send(log: Log, topic: str, *values: Any, partitions: int = 1) -> None:
    with closing(log.stage("shop")) as stage, stage.transaction() as transaction:
        for n, value in enumerate(values):
            data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
            transaction.send(topic, data, key=b"k%d" % n, partition=n % partitions)


def run(log: Any, theirs: Mapping[str, Translate] = THEIRS, **settings: Any) -> Counter[str]:
    return translate.run(log, theirs, batch=7, wait_s=0.05, **settings, stop=threading.Event(), drain=True)


def test_one_topic_of_events_becomes_lists_and_feedback(log: Log) -> None:
    send(log, "events", *[view(n) for n in range(20)], click(3), {"type": "heartbeat"}, partitions=3)
    send(log, "products", *[{"sku": f"i{n}", "offer": {"price": n}, "stock": 5} for n in range(5)], None)
    counts = run(log)
    assert counts == {
        "messages": 28, "impressions": 20, "feedback": 11, "items": 5, "withdrawn": 1, "passed_over": 1,
        "batches": counts["batches"],
    }  # fmt: skip
    lists = {one.id: one for one in (decode(Impression, m.value) for m in everything(log, "impressions"))}
    assert lists["r7"].time_us == (BEGAN_S + 70) * 1_000_000
    assert (lists["r7"].user, lists["r7"].context) == ("1", {"device": "phone"})
    assert [one.item for one in lists["r7"].candidates] == ["i7", "i8"]
    clicks = [decode(Feedback, m.value) for m in everything(log, "feedback")]
    assert {one.impression_id for one in clicks} == {"r3", *(f"r{n}" for n in range(0, 20, 2))}
    where = {m.key: m.tp.partition for m in everything(log, "impressions")}
    assert all(where[m.key] == m.tp.partition for m in everything(log, "feedback"))
    items = [decode_item(m.key, m.value) for m in everything(log, "items")]
    assert items[2].attributes == {"price": 2.0}
    assert (items[-1].id, items[-1].withdrawn) == ("k5", True)
    assert run(log) == {}, "nothing is translated twice"


def test_lists_of_all_partitions_come_in_the_order_of_their_times(log: Log) -> None:
    """A partition that holds days is not read far ahead of the others."""
    send(log, "events", *[view(n) for n in range(300)], partitions=3)
    run(log)
    for partition in (0, 1):
        found = [decode(Impression, m.value) for m in everything(log, "impressions") if m.tp.partition == partition]
        assert [one.time_us for one in found] == sorted(one.time_us for one in found)


def results(log: Log) -> Counter[tuple[str, bytes | None, bytes | None]]:
    topics = ("impressions", "feedback", "items", DEAD_LETTERS)
    return Counter((topic, m.key, m.value) for topic in topics for m in everything(log, topic))


@pytest.mark.slow
def test_a_translator_that_dies_at_any_step_translates_each_message_once(tmp_path: Path) -> None:
    def made(name: str) -> Log:
        log = open_log(LogSettings(path=str(tmp_path / f"{name}.sqlite")))
        log.create_topics({**standard_topics(2), "events": 2, "products": 1})
        send(log, "events", *[view(n) for n in range(6)], b"{", click(1), partitions=2)
        send(log, "products", {"sku": "i1"}, None)
        return log

    with closing(made("whole")) as log:
        double = AbortingLog(log, at=None)
        run(double)
        expected, steps = results(log), len(double.steps)
    assert expected.total() == 6 + 3 + 1 + 2 + 1
    for at in range(steps):
        with closing(made(f"killed-{at}")) as log:
            with pytest.raises(Abort):
                run(AbortingLog(log, at=at))
            run(log)
            assert results(log) == expected, f"killed at step {at}"


def letters(log: Log) -> list[tuple[dict[str, str], Message]]:
    return [({name: value.decode() for name, value in m.headers}, m) for m in everything(log, DEAD_LETTERS)]


def test_what_cannot_be_understood_is_a_dead_letter_whole_and_with_its_reason(log: Log) -> None:
    no_time = view(1)
    del no_time["ts"]
    bad = [b"\xff\xfe", no_time, view(2, slots=[{"sku": "a"}, {"sku": "a"}]), view(3, ts="yesterday"), b"[]"]
    send(log, "events", *bad, view(4))
    counts = run(log)
    assert (counts["messages"], counts["impressions"], counts["dead_letters"]) == (6, 1, 5)
    found = letters(log)
    assert [message.value for _, message in found] == [
        b if isinstance(b, bytes) else json.dumps(b).encode() for b in bad
    ]
    for n, sentence in enumerate(
        (
            "DecodeError: events/0 at 0: is not JSON",
            "DataError: events/0 at 1, column 'ts' (time): is empty; every row needs a value",
            "DataError: events/0 at 2: candidates hold 'a' twice",
            "DataError: events/0 at 3, column 'ts' (time): must be a time such as",
            "DecodeError: events/0 at 4: is JSON, but no object {…}: a list",
        )
    ):
        said = found[n][0]
        assert said["error"].startswith(sentence)
        assert (said["topic"], said["partition"], said["offset"], said["stage"]) == ("events", "0", str(n), "translate")


def test_a_topic_of_mostly_bad_messages_halts_it_and_writes_nothing_of_the_batch(log: Log) -> None:
    send(log, "events", *[view(n) for n in range(7)], *[b"{"] * 20)
    with pytest.raises(TooManyBad, match=r"6 of the last 10 records .*recdistill translate --from"):
        run(log, most_bad=(5, 10))
    assert len(everything(log, "impressions")) == 7
    assert letters(log) == []
    assert run(log)["dead_letters"] == 20, "what was not written is read again"


@pytest.mark.slow
def test_a_schema_registry_that_is_away_is_waited_for(log: Log) -> None:
    send(log, "events", view(1), view(2))
    asked = []

    def away(message: Message) -> Any:
        asked.append(message.offset)
        if len(asked) < 3:
            raise SchemaAway("nobody answers")
        return THEIRS["events"](message)

    counts = run(log, {"events": away})
    assert (counts["waits"], counts["impressions"], asked) == (2, 2, [0, 0, 0, 1])


def test_patience_ends_and_nothing_is_lost(log: Log) -> None:
    send(log, "events", view(1))

    def away(_: Message) -> Any:
        raise SchemaAway("nobody answers")

    with pytest.raises(SchemaAway, match=r"waited for 0.1 s .translate.patience_s.*mend the schema registry"):
        run(log, {"events": away}, patience_s=0.1)
    assert run(log)["impressions"] == 1


def test_workers_share_the_partitions(log: Log) -> None:
    send(log, "events", *[view(n) for n in range(30)], partitions=3)
    first, second = run(log, worker=0, workers=2), run(log, worker=1, workers=2)
    assert first["impressions"] + second["impressions"] == 30
    assert min(first["impressions"], second["impressions"]) >= 10
    assert run(log) == {}, "and one goes on where two stopped"
    with pytest.raises(ConfigError, match="translate.worker: is 2, but there are only 2 workers"):
        run(log, worker=2, workers=2)


def test_what_has_no_topic_or_is_one_of_ours(log: Log) -> None:
    with pytest.raises(ConfigError, match="there is no topic to translate"):
        run(log, {})
    with pytest.raises(ConfigError, match="'feedback' is a topic of recdistill itself"):
        run(log, {"feedback": THEIRS["events"]})
    with pytest.raises(StreamError, match="topic 'evnets' does not exist in this log.*did you mean events"):
        run(log, {"evnets": THEIRS["events"]})


def test_letters_and_records_have_the_present_time(log: Log) -> None:
    """A producer's clock that is wrong by years neither deletes nor keeps anything here."""
    with closing(log.stage("shop")) as stage, stage.transaction() as transaction:
        for value in (json.dumps(view(1)).encode(), b"{"):
            transaction.send("events", value, partition=0, time_us=1_000_000)
    run(log)
    for topic in ("impressions", DEAD_LETTERS):
        [message] = everything(log, topic)
        assert message.time_us > BEGAN_S * 1_000_000
    assert letters(log)[0][0]["time_us"] == "1000000"


def test_a_number_that_is_too_long_ends_nothing(log: Log) -> None:
    """Such a message once ended the translator, and ended it again whenever it was started."""
    odd = {"sku": 10**600}
    send(log, "products", {"sku": "a"}, odd, {"sku": 10**400}, {"sku": "b"})
    counts = run(log)
    assert (counts["items"], counts["dead_letters"]) == (3, 1)
    assert [decode_item(m.key, m.value).id for m in everything(log, "items")] == ["a", "1" + "0" * 400, "b"]
