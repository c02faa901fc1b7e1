"""The sliding window of held-out lists, on a real log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from recdistill import release
from recdistill.config import LogSettings
from recdistill.records import Candidate, Example, Impression, Ranking, decode, encode
from recdistill.release import window as module
from recdistill.stream import HELD_OUT, Log, open_log

MINUTE_US = 60_000_000


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    yield log
    log.close()


def held(n: int, *, labelled: bool) -> bytes:
    impression = Impression(f"r{n}", (n + 1) * MINUTE_US, "u", candidates=(Candidate("a"), Candidate("b")))
    ranking = Ranking(impression, "t", "1", "logit", (1.0, 0.0), (True, True))
    return encode(Example(ranking, (float(labelled), 0.0), "closed"))


def write(log: Log, numbers: range, *, every: int = 3, at_once: int = 7) -> None:
    """One list in `every` is labelled. Each transaction ends with an offset that is no message."""
    stage = log.stage("test")
    for begin in range(numbers.start, numbers.stop, at_once):
        with stage.transaction() as transaction:
            for n in range(begin, min(begin + at_once, numbers.stop)):
                transaction.send("held-out", held(n, labelled=n % every == 0))
    stage.close()


def names(window: release.HeldOutWindow) -> list[str]:
    return [example.ranking.impression.id for example in window.examples()]


def brute(numbers: range, most: int, every: int = 3) -> list[str]:
    return [f"r{n}" for n in numbers if n % every == 0][-most:]


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_it_holds_the_newest_labelled_lists_and_slides(log: Log, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACK", 11)
    log.create_topics({"held-out": 1})
    window = release.HeldOutWindow(log, most)
    assert window.look() == 0
    write(log, range(50))
    window.look()
    assert names(window) == brute(range(50), most)
    again = release.HeldOutWindow(log, most)  # one that begins later sees the same
    again.look()
    assert names(again) == names(window)
    write(log, range(50, 90))
    assert window.look() == again.look() == len(brute(range(90), most))
    assert names(window) == names(again) == brute(range(90), most)
    window.close()
    again.close()


def test_the_first_look_reads_the_end_of_the_topic_alone(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3,000 lists the last few are read, whatever lies before them."""
    monkeypatch.setattr(module, "_BACK", 20)
    log.create_topics({"held-out": 1})
    write(log, range(3000), at_once=1000)
    seen: list[int] = []
    real = release.HeldOutWindow._held
    monkeypatch.setattr(
        release.HeldOutWindow, "_held", lambda self, message: (seen.append(message.offset), real(self, message))[1]
    )
    window = release.HeldOutWindow(log, 4)
    window.look()
    assert names(window) == brute(range(3000), 4)
    assert len(seen) <= 20
    window.look()
    assert len(seen) <= 20
    window.close()


def test_where_few_lists_are_labelled_it_stops_going_back(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOKED", 10)
    log.create_topics({"held-out": 1})
    write(log, range(1000), every=500, at_once=1000)  # 0 and 500 are labelled
    window = release.HeldOutWindow(log, 5)
    assert window.look() == 0  # it has looked at the last 50
    window.close()


def test_lists_that_a_teacher_knows_are_left_out(log: Log) -> None:
    log.create_topics({"held-out": 1})
    write(log, range(60))
    window = release.HeldOutWindow(log, 100, after_us=31 * MINUTE_US)  # list 30 has that time
    window.look()
    assert names(window) == brute(range(31, 60), 100)
    assert window.passed_over == 11
    window.close()


def test_a_log_without_the_topic_is_empty_until_somebody_makes_it(log: Log) -> None:
    window = release.HeldOutWindow(log, 10)
    assert (window.look(), window.exists) == (0, False)
    assert release.too_few(window, 3) == "the log has no topic held-out (`recdistill topics create` makes it)"
    log.create_topics({"held-out": 1})
    write(log, range(7))
    assert (window.look(), window.exists) == (3, True)
    assert release.too_few(window, 3) == ""
    # Labelled lists come every third minute: 2 more take 6 minutes.
    assert release.too_few(window, 5) == (
        "the topic held-out is too small: it has 3 labelled lists and 5 are asked: 2 more, which take about 6 minutes "
        "at this traffic"
    )
    window.close()


def test_what_does_not_decode_is_left_out(log: Log) -> None:
    log.create_topics({"held-out": 1})
    stage = log.stage("somebody")
    with stage.transaction() as transaction:
        for value in (b"\x00", b"{}", held(0, labelled=True)[:-3], None, held(3, labelled=True)):
            transaction.send("held-out", value, key=b"k")
    stage.close()
    window = release.HeldOutWindow(log, 10)
    window.look()
    assert names(window) == ["r3"]
    window.close()


def test_a_reader_that_retention_has_overtaken_begins_again(log: Log) -> None:
    log.create_topics({"held-out": 1})
    window = release.HeldOutWindow(log, 3)
    write(log, range(10))
    window.look()
    write(log, range(10, 100))
    log.trim(HELD_OUT, 80)  # type: ignore[attr-defined]
    window.look()
    assert names(window) == brute(range(100), 3)
    window.close()


def test_served_lists_are_kept_beside_also_the_silent_ones(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACK", 11)
    log.create_topics({"held-out": 1})
    early, stage = release.HeldOutWindow(log, 10), log.stage("test")
    early.look()
    expected = []
    for n in range(60):
        origin = "served" if n % 4 else "product"
        one = decode(Example, held(n, labelled=n % 3 == 0))
        asked = msgspec.structs.replace(one.ranking.impression, origin=origin)
        one = msgspec.structs.replace(one, ranking=msgspec.structs.replace(one.ranking, impression=asked))
        with stage.transaction() as transaction:
            transaction.send("held-out", encode(one))
        expected += [asked.id] if origin == "served" else []
    stage.close()
    late = release.HeldOutWindow(log, 10)
    for window in (early, late):
        window.look()
        assert names(window) == brute(range(60), 10)
        found = [one.ranking.impression.id for one in window.served()]
        assert found == expected[-len(found) :]
        assert len(found) >= 20
    monkeypatch.setattr(module, "_MOST_SERVED", 7)
    few = release.HeldOutWindow(log, 10)
    few.look()
    assert [one.ranking.impression.id for one in few.served()] == expected[-7:]


@pytest.mark.parametrize("later", [False, True])
def test_silent_lists_that_the_teacher_has_scored_are_kept_beside(
    log: Log, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agreement with the teacher needs no label. The newest are kept, in the order of their time, each list once."""
    monkeypatch.setattr(module, "_BACK", 11)
    log.create_topics({"held-out": 1})
    window = release.HeldOutWindow(log, 20, after_us=10 * MINUTE_US)
    if later:
        window.look()
    write(log, range(50))
    write(log, range(48, 50))  # once more
    window.look()
    found = [example.ranking.impression.id for example in window.scored()]
    labelled = brute(range(50), 20)
    silent = [f"r{n}" for n in range(50) if n % 3][-19:]  # r49 is there twice, and 20 messages are kept
    assert set(found) == {name for name in {*labelled, *silent} if int(name[1:]) >= 10}
    assert [int(name[1:]) for name in found] == sorted(int(name[1:]) for name in found)
    window.close()


def test_silent_lists_have_a_bound_in_bytes(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENT", 3 * len(held(59, labelled=False)))
    log.create_topics({"held-out": 1})
    write(log, range(50), every=1000)
    first, then = release.HeldOutWindow(log, 100), release.HeldOutWindow(log, 100)
    first.look()
    write(log, range(50, 60), every=1000)
    first.look()
    then.look()
    for window in (first, then):
        assert [example.ranking.impression.id for example in window.scored()] == ["r0", "r57", "r58", "r59"]
        window.close()
