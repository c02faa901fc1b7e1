"""Rows against a plain model: a dict, a list of free rows, and a diary of every change for each asker."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.errors import DataError
from recdistill.features import Mark, Rows

FIRST, CAPACITY = 3, 5
keys = st.sampled_from([f"k{n}" for n in range(9)])
steps = st.lists(
    st.tuples(st.sampled_from(["take", "take", "release"]), keys)
    | st.tuples(st.just("ask"), st.sampled_from(["trainer", "export", "late"]))
    | st.just(("restore", "")),
    max_size=60,
)


class Model:
    """What the contract says, in the plainest form: every search is a loop over all rows."""

    def __init__(self) -> None:
        self.held: dict[int, str] = {}
        self.end = FIRST
        self.diary: list[tuple[str, int]] = []
        self.asked: dict[str, int] = {}

    def take(self, key: str) -> int:
        for row, holder in self.held.items():
            if holder == key:
                return row
        for row in range(FIRST, FIRST + CAPACITY):
            if row not in self.held:
                self.held[row] = key
                self.end = max(self.end, row + 1)
                self.diary.append(("given", row))
                return row
        return -1

    def release(self, key: str) -> int | None:
        for row, holder in self.held.items():
            if holder == key:
                del self.held[row]
                self.diary.append(("back", row))
                return row
        return None

    def changes(self, asker: str) -> tuple[list[int], list[int]]:
        if asker not in self.asked:
            fresh, evicted = set(self.held), set[int]()
        else:
            since = self.diary[self.asked[asker] :]
            fresh = {row for what, row in since if what == "given" and row in self.held}
            evicted = {row for what, row in since if what == "back"}
        self.asked[asker] = len(self.diary)
        return sorted(fresh), sorted(evicted)


@tries(500)
@given(steps)
def test_rows_are_given_and_taken_back_as_the_contract_says(log: list[tuple[str, str]]) -> None:
    rows, model = Rows(first=FIRST, capacity=CAPACITY), Model()
    marks: dict[str, Mark | None] = {}
    for what, name in log:
        if what == "take":
            assert rows.take(name) == model.take(name)
        elif what == "release":
            row = model.release(name)
            if row is None:
                with pytest.raises(DataError, match=f"'{name}' has no row of its own"):
                    rows.release(name)
            else:
                assert rows.release(name) == row
        elif what == "ask":
            fresh, evicted, marks[name] = rows.changes(marks.get(name))
            assert (fresh, evicted) == model.changes(name)
        else:  # another process goes on; what its askers know is from after that
            saved = json.loads(json.dumps(rows.snapshot()))
            rows = Rows(first=FIRST, capacity=CAPACITY)
            rows.restore(saved)
            for asker in marks:
                marks[asker] = rows.mark
                model.asked[asker] = len(model.diary)
        assert rows.row_of == {key: row for row, key in model.held.items()}
        assert list(rows) == [model.held[row] for row in sorted(model.held)]
        assert (len(rows), rows.end) == (len(model.held), model.end)
        assert [rows.key(row) for row in range(FIRST, rows.end)] == [model.held.get(r) for r in range(FIRST, rows.end)]
        assert rows.snapshot() == [model.held.get(row) for row in range(FIRST, model.end)]


@given(st.lists(keys, max_size=30))
def test_with_nothing_given_back_rows_come_in_the_order_of_the_keys(log: list[str]) -> None:
    rows, mark, known = Rows(), None, []
    for key in log:
        rows.take(key)
        fresh, evicted, mark = rows.changes(mark)
        assert evicted == []
        known += [rows.key(row) for row in fresh]
    assert known == list(rows) == list(dict.fromkeys(log))
    assert rows.snapshot() == known


@pytest.mark.parametrize(
    ("keys", "reason"), [(["a"] * 6, "6 values do not fit its 8 rows"), (["a", None, "a"], "a value is there twice")]
)
def test_a_snapshot_that_does_not_fit_is_refused(keys: list[str | None], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        Rows(first=FIRST, capacity=CAPACITY).restore(keys)
