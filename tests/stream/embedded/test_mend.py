"""A damaged example goes to the dead letters, and the others are still read in their one order."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from recdistill.records import Candidate, Example, Impression, Ranking, encode
from recdistill.stream import Lanes
from recdistill.stream.embedded import EmbeddedLog
from recdistill.stream.testing import everything


def _example(n: int) -> bytes:
    impression = Impression(id=f"i{n}", time_us=n, candidates=(Candidate(item="a"),))
    return encode(Example(Ranking(impression, "t", "1", "unbounded", scores=(1.0,), scored=(True,)), labels=(0.0,)))


@pytest.mark.parametrize("change", ["value = x'00'", "time_us = 1e30", "headers = x'90'"])
@pytest.mark.parametrize("damaged", [0, 3, 6])
def test_the_order_of_the_others_stays(tmp_path: Path, damaged: int, change: str) -> None:
    """Before, a hole in one lane let its next record come too early, and the last one of another lane never."""
    path = tmp_path / "log.sqlite"
    log = EmbeddedLog(path)
    log.create_topics({"examples": 2, "dead-letters": 1})
    with closing(log.stage("joiner")) as stage, stage.transaction() as transaction:
        for n in range(8):
            transaction.send("examples", _example(n), partition=n % 2)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE messages_{1 + damaged % 2} SET {change} WHERE offset = {damaged // 2}")
    assert log.mend().moved == ((f"examples/{damaged % 2}", damaged // 2),)
    assert log.mend().moved == ()
    lanes = Lanes(log, dead_letters=lambda message, error: pytest.fail(f"{message.offset}: {error}"))
    found = [one.ranking.impression.id for one in lanes.next(9, 0.0, until=lanes.end_state())]
    assert found == [f"i{n}" for n in range(8) if n != damaged]
    [letter] = everything(log, "dead-letters")
    assert dict(letter.headers)["offset"] == b"%d" % (damaged // 2)
    lanes.close()
    log.close()
