"""Where a time or a position lies in the one order of the examples, against reading them one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from recdistill.errors import OutOfRange, UsageError
from recdistill.records import Candidate, Example, Impression, Ranking, encode
from recdistill.stream import Lanes, cut_at, read_place, write_position
from recdistill.stream.embedded import EmbeddedLog

SECOND = 1_000_000


def example(time_s: int, name: str) -> bytes:
    shown = Impression(id=name, time_us=time_s * SECOND, candidates=(Candidate(item="a"),))
    return encode(Example(Ranking(shown, "t", "1", "logit", scores=(1.0,), scored=(True,)), labels=(1.0,)))


@pytest.fixture(name="logs")
def _logs(tmp_path: Path) -> Iterator[list[EmbeddedLog]]:
    """Logs of one and of three lanes, with gaps, records that do not decode, and some lists out of order."""
    made = []
    for lanes in (1, 3):
        log = EmbeddedLog(str(tmp_path / f"{lanes}.sqlite"))
        log.create_topics({"examples": lanes})
        stage, draw, n = log.stage("joiner"), random.Random(lanes), 0
        while n < 700:
            with stage.transaction() as transaction:
                for _ in range(draw.randrange(1, 30)):
                    time_s = 10 + n + draw.choice([0, 0, 0, -5, 3])
                    value = b"\xff" if draw.random() < 0.05 else example(time_s, f"i{n}")
                    transaction.send("examples", value, partition=n % lanes)
                    n += 1
        stage.close()
        made.append(log)
    yield made
    for log in made:
        log.close()


def one_by_one(log: EmbeddedLog) -> list[tuple[int, tuple[int, ...]]]:
    """Time of each example, and the offsets behind it."""
    lanes = Lanes(log, dead_letters=lambda message, error: None)
    end, out = lanes.end_state(), []
    while True:
        found = lanes.next(1, 0.1, until=end)
        if found:
            out.append((found[0].ranking.impression.time_us, lanes.state().offsets))
        elif lanes.reached(end):
            lanes.close()
            return out


def test_a_time_is_before_the_first_list_of_it_or_later(logs: list[EmbeddedLog]) -> None:
    for log in logs:
        every = one_by_one(log)
        for time_s in (25, 40, 333, 680):
            cut = cut_at(log, read_place(f"@{time_s}"))
            at = next(n for n, (time_us, _) in enumerate(every) if time_us >= time_s * SECOND)
            lanes = Lanes(log, dead_letters=lambda message, error: None)
            learnt = []
            while block := lanes.next(64, 0.1, until=cut.position):
                learnt += [one.ranking.impression.time_us for one in block]
            assert learnt == [time_us for time_us, _ in every[:at]]
            # The rest goes on where the first part ended, with nothing between.
            end = lanes.end_state()
            rest = []
            while block := lanes.next(64, 0.1, until=end):
                rest += [one.ranking.impression.time_us for one in block]
            assert rest == [time_us for time_us, _ in every[at:]]
            lanes.close()
            assert cut.inside
            assert cut.newest_us == max(learnt)
            assert cut.late == sum(time_us < time_s * SECOND for time_us in rest)
            assert cut.looked == len(rest)


def test_a_position_that_was_written_is_the_same_place(logs: list[EmbeddedLog]) -> None:
    for log in logs:
        every = one_by_one(log)
        cut = cut_at(log, read_place("@200"))
        again = cut_at(log, read_place(write_position(cut.position.by_partition())))
        assert again.position.offsets == cut.position.offsets
        lanes = Lanes(log, dead_letters=lambda message, error: None)
        learnt = []
        while block := lanes.next(64, 0.1, until=again.position):
            learnt += block
        lanes.close()
        assert len(learnt) == next(n for n, (time_us, _) in enumerate(every) if time_us >= 200 * SECOND)


def test_before_all_and_behind_all(logs: list[EmbeddedLog]) -> None:
    for log in logs:
        early, late = cut_at(log, read_place("@1")), cut_at(log, read_place("2030-01-01"))
        assert not early.some
        assert early.inside
        assert late.some
        assert not late.inside
        assert late.newest_us == max(time_us for time_us, _ in one_by_one(log))


def test_positions_outside_are_refused_with_what_the_log_holds(logs: list[EmbeddedLog]) -> None:
    one, three = logs
    with pytest.raises(OutOfRange, match=r"'99999': examples/0 holds the offsets 0 to \d+, not 99999$"):
        cut_at(one, read_place("99999"))
    with pytest.raises(OutOfRange, match="write a time in seconds as @SECONDS"):
        cut_at(one, read_place("1700000000"))
    with pytest.raises(UsageError, match="write examples/0:OFFSET,examples/1:OFFSET,examples/2:OFFSET"):
        cut_at(three, read_place("10"))
