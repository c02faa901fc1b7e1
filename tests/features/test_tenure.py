"""Who has a row, against a plain model: dicts, a sort over all rows, and exact counts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.errors import DataError
from recdistill.features import (
    Catalogue,
    FeatureSpec,
    Field,
    IdSpec,
    Lists,
    Tenure,
    Vocabulary,
    VocabularySpec,
    encode_examples,
)
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking

HALF_LIFE, KEEP = 24, 10
NAMES = [f"i{n}" for n in range(9)]


def spec_of(min_seen: int, *, evict: bool = True) -> FeatureSpec:
    return FeatureSpec(
        id=IdSpec(capacity=4, hashed=2, min_seen=min_seen),
        context={"device": Field("category", capacity=2, min_seen=min_seen)},
        vocabulary=VocabularySpec(evict=evict, half_life=HALF_LIFE, keep_withdrawn=KEEP),
    )


def example(candidates: list[str], history: list[str], clicked: bool, device: str) -> Example:
    asked = Impression(
        "r", 9, history=tuple(Event(name, 1) for name in history), candidates=tuple(map(Candidate, candidates))
    )
    asked.context["device"] = device
    count = len(candidates)
    labels = (float(clicked), *[0.0] * (count - 1)) if count else ()
    return Example(Ranking(asked, "t", "1", "logit", (0.0,) * count, (True,) * count), labels, "closed")


class Seat:
    """A value with a row."""

    def __init__(self, row: int, now: int, use: int = 0) -> None:
        self.row, self.use, self.last, self.away = row, use, now, False

    def worth(self) -> tuple[int, int, int, int]:
        return (int(not self.away), self.use, self.last, self.row)


class Side:
    """The rows of one key, and the counts of who has none."""

    def __init__(self, first: int, capacity: int, min_seen: int) -> None:
        self.range, self.min_seen = range(first, first + capacity), min_seen
        self.seats: dict[str, Seat] = {}
        self.counts: dict[str, int] = {}

    def free(self) -> int | None:
        taken = {seat.row for seat in self.seats.values()}
        return next((row for row in self.range if row not in taken), None)

    def least(self) -> str | None:
        return min(self.seats, key=lambda name: self.seats[name].worth(), default=None)

    def lose(self, name: str) -> None:
        self.counts[name] = max(self.counts.get(name, 0), self.seats.pop(name).use)

    def contest(self, seen: dict[str, int], now: int) -> None:
        for name, times in seen.items():
            self.counts[name] = self.counts.get(name, 0) + times
        estimates = {name: self.counts[name] for name in seen}
        for name in sorted(seen, key=lambda one: -estimates[one]):
            count = estimates[name]
            if count < self.min_seen:
                return
            if self.free() is None:
                loser = self.least()
                assert loser is not None
                seat = self.seats[loser]
                if not seat.away and (count < 2 or count <= seat.use + seat.use // 4):
                    return
                self.lose(loser)
            row = self.free()
            assert row is not None
            self.seats[name] = Seat(row, now, count)

    def halve(self) -> None:
        self.counts = {name: count // 2 for name, count in self.counts.items()}
        for seat in self.seats.values():
            seat.use //= 2


class Model:
    def __init__(self, min_seen: int) -> None:
        self.ids, self.devices = Side(3, 4, min_seen), Side(1, 2, min_seen)
        self.live: dict[str, bool] = {}
        self.idle: dict[str, int] = {}
        self.slot_of: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.examples = self.now = 0
        self.min_seen = min_seen

    def apply(self, name: str, *, withdrawn: bool) -> None:
        if name not in self.slot_of:
            self.slot_of[name] = min(set(range(20)) - set(self.slot_of.values()))
        if withdrawn and self.live.get(name, True):
            self.idle[name] = self.examples
        if not withdrawn:
            self.idle.pop(name, None)
        self.live[name] = not withdrawn
        ids = self.ids
        if name not in ids.seats and self.min_seen == 1 and (row := ids.free()) is not None:
            ids.seats[name] = Seat(row, self.now)
        if name in ids.seats:
            ids.seats[name].away = withdrawn
        elif not withdrawn and self.min_seen == 1:
            loser = ids.least()
            if loser is not None and ids.seats[loser].away:
                ids.lose(loser)
                row = ids.free()
                assert row is not None
                ids.seats[name] = Seat(row, self.now)

    def settle(self, batch: list[Example]) -> None:
        seen: dict[str, int] = {}
        devices: dict[str, int] = {}
        for one in batch:
            asked = one.ranking.impression
            named = [candidate.item for candidate in asked.candidates] + [event.item for event in asked.history]
            named += [c.item for c, label in zip(asked.candidates, one.labels, strict=True) if label]
            for name in named:
                if name not in self.slot_of:
                    continue
                if name in self.idle:
                    self.idle[name] = self.examples
                if name in self.ids.seats:
                    self.ids.seats[name].use += 1
                    self.ids.seats[name].last = self.now
                elif self.live[name]:
                    seen[name] = seen.get(name, 0) + 1
            device = str(asked.context["device"])
            side = self.devices
            if device not in side.seats and self.min_seen == 1 and (row := side.free()) is not None:
                side.seats[device] = Seat(row, self.now)
            if device in side.seats:
                side.seats[device].use += 1
                side.seats[device].last = self.now
            else:
                devices[device] = devices.get(device, 0) + 1
        by_slot = dict(sorted(seen.items(), key=lambda pair: self.slot_of[pair[0]]))
        self.ids.contest(by_slot, self.now)
        self.devices.contest(devices, self.now)
        before, self.examples = self.examples, self.examples + len(batch)
        if before // HALF_LIFE != self.examples // HALF_LIFE:
            self.ids.halve()
            self.devices.halve()
        for name in [name for name, idle in self.idle.items() if idle <= self.examples - KEEP]:
            del self.idle[name], self.slot_of[name], self.live[name]
            self.ids.seats.pop(name, None)
        self.now += 1


lists = st.tuples(
    st.lists(st.sampled_from(NAMES), max_size=4),
    st.lists(st.sampled_from(NAMES), max_size=3),
    st.booleans(),
    st.sampled_from("abcd"),
)
steps = st.lists(
    st.tuples(st.sampled_from(["item", "item", "withdraw"]), st.sampled_from(NAMES))
    | st.tuples(st.just("learn"), st.lists(lists, min_size=1, max_size=6))
    | st.just(("restore", "")),
    max_size=50,
)


def restored(tenure: Tenure) -> Tenure:
    """The same, as a checkpoint gives it."""
    spec, catalogue = tenure.spec, tenure.catalogue
    arrays, plain = tenure.arrays(), json.loads(json.dumps(tenure.plain()))
    vocabulary = Vocabulary.restore(spec, json.loads(json.dumps(tenure.vocabulary.snapshot())))
    again = Tenure(Catalogue.restore(spec, vocabulary, catalogue.snapshot()))
    again.restore(arrays, plain)
    assert {name: a.tolist() for name, a in again.arrays().items()} == {n: a.tolist() for n, a in arrays.items()}
    assert again.plain() == tenure.plain()
    return again


def encoded(tenure: Tenure, batch: list[Example]) -> Lists:
    return encode_examples(tenure.spec, tenure.vocabulary, tenure.catalogue, batch, admit=True)


@pytest.mark.many
@pytest.mark.parametrize("min_seen", [1, 3])
@tries(250)
@given(log=steps)
def test_rows_come_and_go_as_the_plain_rules_say(min_seen: int, log: list[tuple[str, Any]]) -> None:
    spec = spec_of(min_seen)
    tenure, model = Tenure(Catalogue(spec, Vocabulary(spec))), Model(min_seen)
    for version, (what, one) in enumerate(log):
        if what in ("item", "withdraw"):
            item = Item(one, version, withdrawn=what == "withdraw")
            tenure.applied(tenure.catalogue.apply(item, admit=True))
            model.apply(one, withdrawn=item.withdrawn)
        elif what == "learn":
            batch = [example(*drawn) for drawn in one]
            moved = tenure.settle(encoded(tenure, batch))
            model.settle(batch)
            for late in moved:
                (value,) = tenure.vocabulary.values(late.key, [late.row])
                assert late.shared == tenure.vocabulary.shared_row(late.key, value)
        else:
            tenure = restored(tenure)
        vocabulary, catalogue = tenure.vocabulary, tenure.catalogue
        assert vocabulary.own("id").row_of == {name: seat.row for name, seat in model.ids.seats.items()}
        devices = {name: seat.row for name, seat in model.devices.seats.items()}
        assert vocabulary.own("context.device").row_of == devices
        assert dict(catalogue.slot_of) == model.slot_of
        for name, slot in model.slot_of.items():
            assert catalogue.id_row(slot) == vocabulary.row("id", name)
            assert catalogue.is_live(slot) == model.live[name]
    assert tenure.examples == model.examples


def test_without_eviction_a_full_table_stays_as_it_is() -> None:
    spec = spec_of(1, evict=False)
    tenure = Tenure(Catalogue(spec, Vocabulary(spec)))
    for name in NAMES:
        tenure.applied(tenure.catalogue.apply(Item(name), admit=True))
    for _ in range(30):
        assert tenure.settle(encoded(tenure, [example(["i8", "i7"], ["i8"], True, "c")])) == []
    tenure.applied(tenure.catalogue.apply(Item("i0", 1, withdrawn=True), admit=True))
    tenure.applied(tenure.catalogue.apply(Item("i6", 1), admit=True))
    assert tenure.vocabulary.snapshot()["id"] == NAMES[:4]
    assert all(not name.endswith("sketch") for name in tenure.arrays())


@pytest.mark.parametrize("min_seen", [1, 2])
def test_the_value_of_an_attribute_gets_the_row_of_one_that_fewer_live_items_have(min_seen: int) -> None:
    spec = FeatureSpec(
        item={"brand": Field("category", capacity=2, hashed=2, max_values=2, min_seen=min_seen)},
        vocabulary=VocabularySpec(half_life=16),
    )
    tenure = Tenure(Catalogue(spec, Vocabulary(spec)))
    catalogue, vocabulary = tenure.catalogue, tenure.vocabulary

    def apply(name: str, brand: list[str], **more: Any) -> None:
        tenure.applied(catalogue.apply(Item(name, attributes={"brand": brand}, **more), admit=True))

    def learn() -> list[str]:
        moved = tenure.settle(encode_examples(spec, vocabulary, catalogue, [example(["a"], [], False, "x")]))
        for slot in range(len(catalogue)):  # every item has the rows that its values have now
            values = catalogue.item(slot).attributes["brand"]
            rows = [int(row) for row in catalogue.encoded().fields["brand"][slot] if row >= 0]
            assert isinstance(values, list)
            assert rows == [vocabulary.row("item.brand", value) for value in values]
        return vocabulary.values("item.brand", [one.row for one in moved])

    apply("a", ["old", "rare"])
    apply("b", ["old", "new"])
    apply("c", ["new"])
    if min_seen == 1:
        assert vocabulary.snapshot()["item.brand"] == ["old", "rare"]
        assert learn() == ["new"]  # two live items have it, and one has "rare"
    else:
        assert vocabulary.snapshot()["item.brand"] == []
        assert learn() == ["new", "old"]
    assert sorted(vocabulary.admitted("item.brand")) == ["new", "old"]
    for name in ("d", "e", "f"):
        apply(name, ["newest"])
    assert learn() == ["newest"]  # "new" and "old" have two each, and the lower row goes
    assert len(vocabulary.admitted("item.brand")) == 2
    for name in "abc":
        apply(name, ["gone"], version=1, withdrawn=True)
    apply("g", ["last"])
    apply("h", ["last"])
    assert learn() == ["last"]
    assert sorted(vocabulary.admitted("item.brand")) == ["last", "newest"]


def test_a_checkpoint_without_counts_begins_to_count() -> None:
    spec = spec_of(1)
    tenure = Tenure(Catalogue(spec, Vocabulary(spec)))
    for name in NAMES[:5]:
        tenure.applied(tenure.catalogue.apply(Item(name), admit=True))
    tenure.applied(tenure.catalogue.apply(Item("i1", 1, withdrawn=True), admit=True))
    vocabulary = Vocabulary.restore(spec, tenure.vocabulary.snapshot())
    old = Tenure(Catalogue.restore(spec, vocabulary, tenure.catalogue.snapshot()))
    old.restore({}, None)
    old.applied(old.catalogue.apply(Item("new"), admit=True))
    assert vocabulary.snapshot()["id"] == ["i0", "new", "i2", "i3"]  # the row of the withdrawn item
    for _ in range(KEEP):
        old.settle(encoded(old, [example(["i0"], [], False, "a")]))
    assert "i1" not in old.catalogue.slot_of
    with pytest.raises(DataError, match="does not say of when"):
        Tenure(old.catalogue).restore(tenure.arrays(), None)


def test_arrays_that_do_not_fit_are_refused() -> None:
    spec = spec_of(1)
    tenure = Tenure(Catalogue(spec, Vocabulary(spec)))
    tenure.applied(tenure.catalogue.apply(Item("a"), admit=True))
    arrays, plain = tenure.arrays(), tenure.plain()
    for name, value in arrays.items():
        with pytest.raises(DataError):
            Tenure(tenure.catalogue).restore(arrays | {name: np.zeros(9, value.dtype)}, plain)
        with pytest.raises(KeyError):
            Tenure(tenure.catalogue).restore({n: a for n, a in arrays.items() if n != name}, plain)


@pytest.mark.parametrize("named_at", [None, 5])
def test_a_withdrawn_item_is_forgotten_at_exactly_the_limit(named_at: int | None) -> None:
    """KEEP examples after it was withdrawn, or after a list last named it: not one earlier, and not one later."""
    spec = spec_of(1)
    tenure = Tenure(Catalogue(spec, Vocabulary(spec)))
    for record in (Item("i0"), Item("i1"), Item("i0", 1, withdrawn=True)):
        tenure.applied(tenure.catalogue.apply(record, admit=True))
    row = tenure.vocabulary.row("id", "i0")
    last = KEEP if named_at is None else named_at + KEEP
    for learnt in range(last):
        assert "i0" in tenure.catalogue.slot_of, learnt
        assert tenure.vocabulary.admitted("id") == ["i0", "i1"]
        history = ["i0"] if learnt == named_at else []
        tenure.settle(encoded(tenure, [example(["i1"], history, False, "a")]))
        assert tenure.examples == learnt + 1
    assert "i0" not in tenure.catalogue.slot_of
    assert tenure.vocabulary.admitted("id") == ["i1"]
    tenure.applied(tenure.catalogue.apply(Item("i2"), admit=True))
    assert tenure.vocabulary.row("id", "i2") == row  # what it had is free


def test_a_withdrawn_item_that_gets_a_row_late_gives_it_to_a_live_one_with_or_without_a_restart() -> None:
    """It had found no room, and is withdrawn once more when there is some."""
    spec = FeatureSpec(id=IdSpec(capacity=1, hashed=1), vocabulary=VocabularySpec(keep_withdrawn=2))
    tenure = Tenure(Catalogue(spec, Vocabulary(spec)))

    def applied(tenure: Tenure, *items: Item) -> None:
        for item in items:
            tenure.applied(tenure.catalogue.apply(item, admit=True))

    applied(tenure, Item("first"), Item("late"), Item("late", 1, withdrawn=True), Item("first", 1, withdrawn=True))
    for _ in range(2):  # then `first` is forgotten, and its row is free
        asked = Impression("r", 9, candidates=(Candidate("late"),))
        tenure.settle(encoded(tenure, [Example(Ranking(asked, "t", "1", "logit", (0.0,), (True,)), (0.0,), "closed")]))
    applied(tenure, Item("late", 2, withdrawn=True))
    assert tenure.vocabulary.snapshot()["id"] == ["late"]
    again = restored(tenure)
    for one in (tenure, again):
        applied(one, Item("live"))
        assert one.vocabulary.snapshot()["id"] == ["live"]
