"""Which row is worth least, against a search through all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.errors import DataError
from recdistill.features import Rows
from recdistill.features import uses as module
from recdistill.features.uses import Uses

FIRST, CAPACITY = 3, 12
keys = st.sampled_from([f"k{n}" for n in range(16)])
steps = st.lists(
    st.tuples(st.sampled_from(["take", "take", "note", "note", "away", "back", "release", "start"]), keys)
    | st.tuples(st.sampled_from(["least", "least", "halve", "restore"]), st.just("")),
    max_size=120,
)


@pytest.fixture(autouse=True)
def _small_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2)  # so that the heap is used up again and again


@tries(400)
@given(steps)
def test_the_least_row_is_what_a_search_finds(log: list[tuple[str, str]]) -> None:
    rows = Rows(first=FIRST, capacity=CAPACITY)
    uses = Uses(rows)
    model: dict[str, list[int]] = {}  # 0 if away else 1, count, last use
    for now, (what, key) in enumerate(log):
        row = rows.row_of.get(key, -1)
        if what == "take":
            if rows.take(key) >= 0 and row < 0:
                model[key] = [1, 0, now]
            uses.follow(now=now)
        elif what == "halve":
            uses.halve()
            for one in model.values():
                one[1] //= 2
        elif what == "restore":
            saved, again = uses.arrays, Rows(first=FIRST, capacity=CAPACITY)
            again.restore(rows.snapshot())
            rows, uses = again, Uses(again)
            uses.restore(saved["use"], saved["last"])
            for held, one in model.items():
                uses.set_away(rows.row_of[held], away=one[0] == 0)
        elif what == "least":
            expected = min(((*one, rows.row_of[held]) for held, one in model.items()), default=(-1,))[-1]
            assert uses.least() == expected
        elif row >= 0:
            if what == "note":
                uses.note(np.array([row, row]), now=now)
                model[key][1:] = [model[key][1] + 2, now]
            elif what == "start":
                uses.start(row, 5, now=now)
                model[key][1:] = [5, now]
            elif what == "release":
                rows.release(key)
                del model[key]
                uses.follow(now=now)
            else:
                uses.set_away(row, away=what == "away")
                model[key][0] = int(what != "away")
    for held, one in model.items():
        row = rows.row_of[held]
        assert (int(not uses.away(row)), uses.use(row)) == tuple(one[:2])


def test_all_rows_come_in_order_when_each_least_one_is_given_back() -> None:
    random, rows = np.random.default_rng(1), Rows(first=1)
    counts = random.integers(0, 6, 500)
    for number in range(500):
        rows.take(f"k{number}")
    uses = Uses(rows)
    uses.note(np.repeat(np.arange(1, 501), counts), now=1)
    found = []
    while (row := uses.least()) >= 0:
        found.append(row)
        rows.release(str(rows.key(row)))
        uses.follow(now=2)
    # A row that was never used keeps the moment 0, one that was used has 1.
    assert found == sorted(range(1, 501), key=lambda row: (counts[row - 1], row))


@pytest.mark.parametrize("saved", [np.zeros(3, np.uint32), np.zeros(2, np.int64)])
def test_arrays_of_other_rows_are_refused(saved: np.ndarray) -> None:
    rows = Rows()
    rows.take("a"), rows.take("b")
    with pytest.raises(DataError, match="the uses are"):
        Uses(rows).restore(saved, np.zeros(2, np.uint32))
