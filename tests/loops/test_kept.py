"""A joiner goes on where an older one stopped: what was read and not written gets its scores once, and its labels."""

import gzip
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from recdistill.config import LogSettings
from recdistill.loops import join
from recdistill.loops.kept import VERSION, read_note
from recdistill.records import DEAD_LETTERS, Example, Feedback, Ranking, decode
from recdistill.stream import Log, TopicPartition, open_log
from recdistill.stream.testing import everything

FIXTURES = Path(__file__).parents[1] / "fixtures" / "join-1"
SETTINGS: dict[str, Any] = {"window_s": 10.0, "batch": 7, "wait_s": 0.02, "idle_s": 60.0}


def in_order(log: Log) -> list[Example]:
    """The examples in the order in which a student learns them: lanes in turn."""
    lanes: dict[int, list[Example]] = {}
    for message in everything(log, "examples"):
        lanes.setdefault(message.tp.partition, []).append(decode(Example, message.value))
    return [lanes[n % 2][n // 2] for n in range(sum(map(len, lanes.values())))]


@pytest.mark.parametrize("name", ["one-note", "lines"])
@pytest.mark.parametrize("killed", [False, True])
def test_what_an_older_joiner_read_and_did_not_write_gets_its_scores_once(
    name: str, killed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(gzip.decompress((FIXTURES / f"{name}.sqlite.gz").read_bytes()))
    log = open_log(LogSettings(path=str(path)))
    before = in_order(log)
    letters = len(everything(log, DEAD_LETTERS))
    assert (len(before), letters) == (19, 2)
    assert {example.label_state for example in before} == {"closed"}

    def die(done: int, total: int | None) -> None:
        raise InterruptedError

    for _ in range(8 if killed else 0):
        with pytest.raises(InterruptedError):
            join.run(log, **SETTINGS, stop=threading.Event(), drain=True, progress=die)
    join.run(log, **SETTINGS, stop=threading.Event(), drain=True)
    join.run(log, **SETTINGS, stop=threading.Event(), drain=True, flush=True)
    after = in_order(log)
    assert after[:19] == before
    fresh = after[19:]
    written = {example.ranking.impression.id for example in before}
    every = Counter(f"r{n}" for n in range(30))
    at_once = Counter(example.ranking.impression.id for example in fresh if example.label_state == "none")
    assert at_once == every - Counter(written)
    clicked = {decode(Feedback, m.value).impression_id for m in everything(log, "feedback") if m.value[:1] == b"\x00"}
    labelled = Counter(example.ranking.impression.id for example in fresh if example.label_state == "labels")
    assert labelled == Counter(clicked - written)
    assert len(everything(log, DEAD_LETTERS)) == letters, "no letter twice"
    log.close()


def test_the_saved_note_says_which_version_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(gzip.decompress((FIXTURES / "lines.sqlite.gz").read_bytes()))
    log = open_log(LogSettings(path=str(path)))
    inputs = [TopicPartition(topic, n) for topic in ("rankings", "feedback") for n in range(2)]
    stage = log.stage("join", inputs)
    assert read_note(stage.note()).version == 0
    stage.close()
    join.run(log, **SETTINGS, stop=threading.Event(), drain=True)
    stage = log.stage("join", inputs)
    assert read_note(stage.note()).version == VERSION
    stage.close()
    assert all(decode(Ranking, m.value) for m in everything(log, "rankings") if len(m.value) > 5)
    log.close()
