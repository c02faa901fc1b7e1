"""`recdistill forget`: a person is gone from the log's bytes, and everybody else and every restart is as before."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from support import distilling, world
from support.small_shop import Shop, open_shop

from recdistill import checkpoint
from recdistill.commands.forget import _until as until
from recdistill.config import LogSettings, Settings
from recdistill.errors import DecodeError
from recdistill.loops import forget
from recdistill.loops.feed import feed
from recdistill.records import TOPICS, Example, Feedback, Impression, Ranking, decode, encode
from recdistill.stream import Lanes, Log, Message, TopicPartition, open_log
from recdistill.stream.embedded import EmbeddedLog

USER = "user-3"
KINDS = {**TOPICS, "checks": Ranking, "held-out": Example}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return open_shop(tmp_path, monkeypatch, capsys)


def theirs(message: Message, ids: set[str]) -> bool:
    """Whether a message is the person's, by brute force: each is decoded as what it is."""
    if message.value is None or message.tp.topic not in KINDS:
        return False
    try:
        record = decode(KINDS[message.tp.topic], message.value)
    except DecodeError:
        return False
    if isinstance(record, Example):
        record = record.ranking
    if isinstance(record, Ranking):
        record = record.impression
    if isinstance(record, Feedback):
        return record.impression_id in ids
    return isinstance(record, Impression) and record.user == USER


def filled(shop: Shop, lanes: int = 2) -> set[str]:
    """A shop with scored and joined lists, some held out, a dead letter; returns the ids of the person's lists."""
    shop.write(lists=70, lanes=lanes)
    with closing(shop.log()) as log:
        stage = log.stage("broken")
        with stage.transaction() as transaction:
            broken = encode(world.impressions(4)[3]) + b"\xff\xff"  # it is user-3's, and cannot be decoded
            transaction.send("impressions", broken, key=b"broken")
            held = Ranking(world.impressions(11)[10], "t", "1", "logit", (0.0,) * 6, (True,) * 6)  # user-3 too
            transaction.send("held-out", encode(Example(held, (0.0,) * 6, "closed")), key=b"imp-10")
        stage.close()
    shop("score --drain")
    shop("join --drain --set join.window_s=20")
    return {one.id for one in world.impressions(70) if one.user == USER}


def everything(shop: Shop) -> list[Message]:
    with closing(shop.log()) as log:
        topics = log.topics()
    return [message for topic in topics for message in shop.read(topic)]


@pytest.mark.slow
def test_a_person_is_gone_from_every_topic_and_from_the_bytes_of_the_files(shop: Shop) -> None:
    ids = filled(shop)
    assert len(ids) == 10
    before = everything(shop)
    gone = {(one.tp, one.offset) for one in before if theirs(one, ids)}
    assert {tp.topic for tp, _ in gone} == set(KINDS) - {"items"}
    looked = shop.json(f"forget --user {USER} --dry-run")
    assert everything(shop) == before
    assert sum(one["records"] for one in looked["left"]) == len(gone) + 2  # and a broken impression, and its letter
    done = shop.json(f"forget --user {USER}")
    assert (done["lists"], done["left"], done["scrubbed"]) == (10, [], True)
    assert done["removed"]["dead-letters"] == 1
    assert done["snapshots"] == 1
    after = {(one.tp, one.offset): one for one in everything(shop)}
    for one in before:
        key = (one.tp, one.offset)
        if key in gone and one.tp.topic == "examples":
            assert (after[key].key, after[key].value, after[key].headers) == (None, None, ())
        elif key in gone or one.tp.topic == "dead-letters":
            assert key not in after
        elif one.key != b"broken":
            assert after[key] == one, "everybody else stays, byte for byte"
    files = b"".join(file.read_bytes() for file in shop.folder.glob("log.sqlite*"))
    assert USER.encode() not in files
    assert b"user-2" in files
    again = shop.json(f"forget --user {USER}")
    assert (again["lists"], again["removed"]) == (0, {})
    assert "nothing in the log names 'user-3'" in shop(f"forget --user {USER}")


@pytest.mark.slow
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = filled(shop)
    killed = 0
    remove, blank = EmbeddedLog.remove, EmbeddedLog.blank
    calls = [0]

    def counted(work):  # type: ignore[no-untyped-def]
        def call(self: EmbeddedLog, tp: TopicPartition, offsets: list[int]) -> int:
            calls[0] += 1
            if calls[0] > killed:
                raise KeyboardInterrupt
            return int(work(self, tp, offsets))

        return call

    monkeypatch.setattr(EmbeddedLog, "remove", counted(remove))
    monkeypatch.setattr(EmbeddedLog, "blank", counted(blank))
    while True:
        calls[0] = 0
        code, _, _ = shop.type("forget", "--user", USER)
        if code == 0:
            break
        assert code == 130
        killed += 1
        assert killed < 20
    assert killed >= 3
    assert not [one for one in everything(shop) if one.value is not None and USER.encode() in one.value]
    assert not [one for one in shop.read("feedback") if theirs(one, ids)], "feedback names no user, and is gone too"


@pytest.mark.slow
def test_the_lanes_keep_their_turn_where_places_are_empty(shop: Shop) -> None:
    filled(shop)
    shop(f"forget --user {USER}")
    empty = [one for one in shop.read("examples") if one.value is None]
    assert empty
    letters: list[Message] = []
    with closing(shop.log()) as log, closing(Lanes(log, dead_letters=lambda one, _: letters.append(one))) as lanes:
        end = lanes.end_state()
        found = []
        while not lanes.reached(end):
            found += lanes.next(7, 0.0, until=end)
        lanes.seek(lanes.state())
    with closing(shop.log()) as log, closing(Lanes(log, dead_letters=lambda one, _: letters.append(one))) as lanes:
        ids: list[str] = []
        while not lanes.reached(end):
            ids += lanes.next_columns(7, 0.0, until=end).ids
    assert letters == []
    assert ids == [one.ranking.impression.id for one in found]
    numbers = [int(one.removeprefix("imp-")) for one in ids]
    assert all(number % 7 != 3 for number in numbers)
    assert numbers == sorted(numbers), "the order of times, also over two lanes"


@pytest.mark.slow
def test_a_student_that_has_learnt_them_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Two logs with the same bytes: in one the person is forgotten after all is learnt. Then both go on."""
    one = distilling.write_log(tmp_path / "log.sqlite")
    logs: dict[str, Log] = {}
    for name in ("forgot", "kept"):
        (tmp_path / name).mkdir()
        logs[name] = open_log(LogSettings(path=str(shutil.copy(one, tmp_path / name / "log.sqlite"))))
    students = {name: tmp_path / name / "student" for name in logs}
    for name, log in logs.items():
        distilling.run(log, distilling.settings(students[name]))
    ids = {each.id for each in world.impressions(150) if each.user == USER}
    cleaned: list[Path] = []
    found = forget.run(
        logs["forgot"], USER, first=lambda those: cleaned.extend(forget.clean_checkpoints(students["forgot"], those))
    )
    assert found.lists == len(ids)
    assert cleaned, "the last requests of the newest checkpoint were of this person too"
    for path in cleaned:
        assert not [asked for asked in _golden(path) if asked["id"] in ids]
    for name, log in logs.items():
        others = [each for each in world.impressions(40, seed=5) if each.user != USER]
        feed(log, [msgspec.structs.replace(each, id=f"later-{each.id}") for each in others])
        distilling.scored(log)
        distilling.joined(log)
        distilling.run(log, distilling.settings(students[name]))
        log.close()
    distilling.assert_same_state(students["forgot"], students["kept"], but=("witness",))


def _golden(path: Path) -> list[dict[str, str]]:
    golden: list[dict[str, str]] = checkpoint.load(path).state["stream"]["golden"]
    return golden


def test_what_cannot_be_asked_is_one_sentence(shop: Shop) -> None:
    assert "there is no log at log.sqlite" in shop.type("forget", "--user", "x")[2]
    shop.write()
    assert "--delete-older: is for Kafka" in shop.type("forget", "--user", "x", "--delete-older")[2]
    assert shop.type("forget")[0] == 2


def test_what_kafka_keeps_for_as_long_as_it_can_count_is_kept_for_ever() -> None:
    kafka = Settings(log=LogSettings(kind="kafka"))
    day_us, now_us = 86_400 * 10**6, 1_767_225_600 * 10**6
    assert "after 2026-01-02T00:00+00:00 at the earliest" in until(now_us + day_us, kafka)
    for never_us in (0, now_us + (2**63 - 1) * 1000):
        assert "which retention never removes" in until(never_us, kafka)
