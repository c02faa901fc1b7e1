"""How many lists of a stream are measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from recdistill.config import LogSettings
from recdistill.demo.live.stream import Stream
from recdistill.records import Candidate, Impression, encode
from recdistill.stream import Log, open_log, standard_topics


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with closing(open_log(LogSettings(path=str(tmp_path / "log.sqlite")))) as log:
        log.create_topics(standard_topics())
        yield log


def write(log: Log, *times_s: float) -> None:
    """Lists with these times of the log."""
    with closing(log.stage("product")) as stage, stage.transaction() as transaction:
        for n, at_s in enumerate(times_s):
            one = Impression(f"{at_s}-{n}", 5, candidates=(Candidate("a"), Candidate("b")))
            transaction.send("impressions", encode(one), key=b"u", time_us=int(at_s * 1e6))


def measured(log: Log, per_s: float) -> int:
    shown: list[Impression] = []
    with closing(Stream(log, per_s=per_s, shown=shown.append, clicked=lambda _: None)) as stream:
        stream.read(0.0)
    assert len(shown) == stream.measured
    return stream.measured


def test_lists_that_were_written_at_once_are_all_measured_where_few_come(log: Log) -> None:
    write(log, *[second + 0.5 for second in range(10, 20) for _ in range(20)])  # 20 a second, in one moment of it
    assert measured(log, 25.0) == 200


def test_no_more_than_so_many_a_second(log: Log) -> None:
    write(log, *[10 + n / 100 for n in range(400)])  # 100 a second for four seconds
    assert measured(log, 10.0) == pytest.approx(10 + 4 * 10, abs=2)  # one second's are free at the beginning
