"""When a stage halts."""

from __future__ import annotations

import pytest

from recdistill.errors import TooManyBad
from recdistill.loops.halt import Halt

BAD = ValueError("no id")


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_only_the_last_records_count(batch: int) -> None:
    """Brute force: the bad ones among the last ten, after each record."""
    records = [BAD if n % 5 == 0 else None for n in range(100)] + [None] * 5 + [BAD] * 10
    expected = next(n for n in range(len(records)) if sum(r is BAD for r in records[max(0, n - 9) : n + 1]) > 4)
    halt = Halt("score", most=4, of=10)
    whole = expected // batch
    for start in range(0, whole * batch, batch):
        halt.take(records[start : start + batch])
    with pytest.raises(TooManyBad, match="5 of the last 10 records cannot be used, more than bad_records.most = 4"):
        halt.take(records[whole * batch : (whole + 1) * batch])


def test_none_is_too_many_where_nobody_counts() -> None:
    Halt("score", most=0, of=10).take([BAD] * 1000)


def test_the_sentence_says_what_to_do() -> None:
    with pytest.raises(TooManyBad) as caught:
        Halt("join", most=1, of=10).take([BAD, None, BAD])
    said = str(caught.value)
    assert said.startswith("2 of the last 3 records")
    assert "the last: no id; nothing of this batch was written" in said
    assert "`recdistill join --from`" in said
    assert caught.value.exit_code == 3
