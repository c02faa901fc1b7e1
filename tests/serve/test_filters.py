"""Filters on attributes that nobody has, and the memory that filters take."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from recdistill.errors import RequestError
from recdistill.records import Item, Value
from recdistill.serve import filters
from recdistill.serve.filters import Sieve
from recdistill.serve.index import Base
from recdistill.serve.requests import Filters
from recdistill.serve.state import State

WIDTH = 3


def catalogue(count: int, attributes: int = 5) -> tuple[list[Item], State]:
    rng = random.Random(3)
    items = [
        Item(
            f"i{n}",
            attributes={f"field{a}": rng.choice(["x", "y", "z", ["x", "z"], 7, True]) for a in range(attributes)},
        )
        for n in range(count)
    ]
    state = State.first([item.id for item in items], Base(np.zeros((count, WIDTH), np.float32)), popular=[], position=0)
    return items, state


def beside(state: State, items: list[Item]) -> State:
    overlay = state.overlay.put(items, np.zeros((len(items), WIDTH), np.float32))
    live_T = np.concatenate([state.shelf.live_T, np.ones(len(overlay) - len(state.overlay), bool)])
    return state.after(overlay, live_T, state.position + 1)


def test_an_attribute_that_nobody_has_is_refused_and_leaves_nothing() -> None:
    items, state = catalogue(2_000)
    sieve = Sieve(items)
    began, size = time.process_time(), sieve.bytes
    for n in range(2_000):
        with pytest.raises(RequestError, match=r"^where\.") as refused:
            sieve.check(state, Filters(where={f"nobody-{n}": "x"}))
        assert refused.value.field == f"where.nobody-{n}"
    assert time.process_time() - began < 10
    assert sieve.bytes == size == 0
    with pytest.raises(RequestError, match="did you mean 'field3'"):
        sieve.check(state, Filters(where={"feild3": "x"}))
    with pytest.raises(RequestError, match="attribute; there are field0, field1"):
        sieve.check(state, Filters(where={"colour of it": "x"}))
    with pytest.raises(RequestError, match="items have no attributes"):
        Sieve([Item("a")]).check(state, Filters(where={"a": 1}))


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"price": "500"}, "where.price: items have numbers there: write it without quotes"),
        ({"price": ["500", "600"]}, "where.price: items have numbers there: write it without quotes"),
        ({"genre": 7}, "where.genre: items have texts there: write it with quotes"),
        ({"new": "true"}, "where.new: items have true or false there: write it without quotes"),
        ({"price": True}, "where.price: items have numbers there$"),
    ],
)
def test_a_value_that_no_item_can_have_is_refused(wanted: dict[str, Value], sentence: str) -> None:
    items = [
        Item(f"i{n}", attributes={"price": 500 + n, "genre": ["jazz"], "new": n > 0, "mixed": n or "none"})
        for n in range(2)
    ]
    state = State.first([item.id for item in items], Base(np.zeros((2, WIDTH), np.float32)), popular=[], position=0)
    sieve = Sieve(items)
    with pytest.raises(RequestError, match=sentence):
        sieve.check(state, Filters(where=wanted))
    for fits in ({"price": 9}, {"price": ["x", 9.5]}, {"genre": "rock"}, {"genre": []}, {"mixed": "a"}, {"mixed": 3}):
        sieve.check(state, Filters(where=fits))
    newer = beside(state, [Item("n", attributes={"price": "much"})])
    sieve.check(newer, Filters(where={"price": "500"}))


def test_an_attribute_of_a_new_item_is_known_at_once() -> None:
    items, state = catalogue(10)
    sieve = Sieve(items)
    wanted = Filters(where={"colour": "red"})
    with pytest.raises(RequestError):
        sieve.check(state, wanted)
    newer = beside(state, [Item("new", attributes={"colour": "red"})])
    sieve.check(newer, wanted)
    assert np.flatnonzero(sieve.allowed(newer, wanted)).tolist() == [10]
    with pytest.raises(RequestError):
        sieve.check(state, wanted)  # a request that reads the state before


def test_postings_have_a_bound_in_bytes() -> None:
    items, state = catalogue(1_000, attributes=30)
    whole, small = Sieve(items), Sieve(items, most_bytes=20_000)
    for _ in range(2):
        for a in range(30):
            wanted = Filters(where={f"field{a}": ["x", 7]})
            assert np.array_equal(small.allowed(state, wanted), whole.allowed(state, wanted))
            assert small.bytes <= 20_000
    assert whole.bytes > 100_000


def test_what_was_not_used_for_the_longest_time_is_dropped_first() -> None:
    items, state = catalogue(1_000, attributes=4)

    def having(a: int) -> Filters:
        return Filters(where={f"field{a}": "x"})

    whole = Sieve(items)
    sizes = []
    for a in range(4):
        whole.allowed(state, having(a))
        sizes.append(whole.bytes - sum(sizes))
    room = max(sum(sizes[:3]), sum(sizes) - min(sizes[1:]))
    assert room < sum(sizes), "three have room, four do not"
    sieve = Sieve(items, most_bytes=room)
    for a in (0, 1, 2, 0, 3):  # 0 is made first, and used again before 3 needs room
        sieve.allowed(state, having(a))
    assert [sieve.ready(state, having(a)) for a in range(4)] == [True, False, True, True]


def has(item: Item, field: str, wanted: list[object]) -> bool:
    """The rule as it is written on the page, one value after the other."""
    own = item.attributes.get(field, [])
    for mine in own if isinstance(own, list) else [own]:
        for other in wanted:
            if mine == other and isinstance(mine, bool) == isinstance(other, bool):
                return True
    return False


def test_filters_agree_with_a_look_at_each_item() -> None:
    items, state = catalogue(300)
    sieve, rng = Sieve(items), random.Random(9)
    for turn in range(40):
        if turn % 8 == 4:
            changed = [
                Item(f"i{rng.randrange(300)}", version=turn, attributes={"field0": rng.choice(["x", 7.0, False])})
            ]
            state = beside(state, changed)
        field, value = f"field{rng.randrange(5)}", rng.choice(["x", ["y", "z"], 7, 7.0, True, 1, "nobody"])
        wanted = value if isinstance(value, list) else [value]

        slots = [*items, *state.overlay.items]
        expected = [slot for slot, item in enumerate(slots) if has(item, field, wanted)]
        assert sieve.ready(state, Filters(where={field: value})) in (True, False)
        assert np.flatnonzero(sieve.allowed(state, Filters(where={field: value}))).tolist() == expected
        assert sieve.ready(state, Filters(where={field: value}))


def test_what_an_overlay_gets_later_is_added_and_not_all_of_it_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    items, state = catalogue(50)
    sieve, wanted = Sieve(items), Filters(where={"field0": "red"})
    reds = [Item(f"new{n}", attributes={"field0": ["red", "x"][n % 2]}) for n in range(3_000)]
    states = [state := beside(state, reds[start : start + 100]) for start in range(0, 3_000, 100)]
    assert np.count_nonzero(sieve.allowed(states[19], wanted)) == 1_000
    looked, keys = [0], filters._keys

    def counted(value: Value | None) -> set[filters._Key]:
        looked[0] += 1
        return keys(value)

    monkeypatch.setattr(filters, "_keys", counted)
    assert np.count_nonzero(sieve.allowed(states[20], wanted)) == 1_050
    assert looked[0] <= 100 + 1, "only the new ones, and what is wanted"
    assert np.count_nonzero(sieve.allowed(states[3], wanted)) == 200, "a request that still reads an older state"
    assert np.flatnonzero(sieve.allowed(states[3], wanted))[-1] == 50 + 398

    overlay, kept = state.overlay.put([Item("new0", version=2)], np.zeros((1, WIDTH), np.float32)).compact()
    again = state.after(overlay, np.concatenate([state.shelf.live_T[:50], np.ones(len(kept), bool)]), 99)
    assert np.count_nonzero(sieve.allowed(again, wanted)) == 1_499, "new0 is not red any more"


def test_an_attribute_is_known_from_the_state_on_that_has_it() -> None:
    items, state = catalogue(5)
    sieve = Sieve(items)
    states = [state := beside(state, [Item(f"n{n}", attributes={f"own{n}": 1})]) for n in range(4)]
    for n, one in reversed(list(enumerate(states))):
        sieve.check(one, Filters(where={f"own{n}": 1}))
        with pytest.raises(RequestError):
            sieve.check(one, Filters(where={f"own{n + 1}": 1}))
