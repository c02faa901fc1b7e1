"""The overlay against a plain dictionary: each state goes on showing what it showed, whatever is made from it."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.features import FeatureSpec, Field, Vocabulary
from recdistill.records import Item
from recdistill.serve import overlay as module
from recdistill.serve.changes import Changes
from recdistill.serve.index import Base
from recdistill.serve.overlay import Overlay
from recdistill.serve.state import State

WIDTH = 3
Shown = dict[str, tuple[int, float]]  # what a state must show: id -> version, the value of its row


def put(state: Overlay, shown: Shown, chosen: list[int], version: int) -> tuple[Overlay, Shown]:
    """The next state, and the same of the dictionary."""
    items = [Item(f"i{one}", version=version) for one in chosen]
    values = [1000.0 * version + one for one in chosen]
    rows_FW = np.repeat(np.array(values, np.float32)[:, None], WIDTH, 1)
    return state.put(items, rows_FW), shown | {
        item.id: (version, value) for item, value in zip(items, values, strict=True)
    }


def check(state: Overlay, shown: Shown) -> None:
    assert len(state) == len(state.ids) == len(state.items) == len(state.rows_MW) >= len(shown)
    assert set(state.ids) == set(shown)
    for item, (version, value) in shown.items():
        place = state.place(item)
        record = state.items[place]
        assert (state.id(place), record.id, record.version) == (item, item, version)
        assert state.rows_MW[place].tolist() == [value] * WIDTH
    for stranger in ("never", *(f"i{one}" for one in range(60) if f"i{one}" not in shown)):
        assert state.place(stranger) == -1


@pytest.mark.parametrize("seed", range(4))
def test_every_state_keeps_what_it_shows(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)  # the room grows several times
    rng = np.random.default_rng(seed)
    made: list[tuple[Overlay, Shown]] = [(Overlay.empty(WIDTH), {})]
    for version in range(1, 60):
        # Mostly from the newest; now and then from an older one, as after a failure.
        state, shown = made[-1] if rng.random() < 0.7 else made[int(rng.integers(len(made)))]
        chosen = rng.choice(60, size=int(rng.integers(0, 6)), replace=False).tolist()
        made.append(put(state, shown, chosen, version))
    for state, shown in made:
        check(state, shown)
        less, kept = state.compact()
        check(less, shown)
        assert len(less) == len(kept) == len(shown)
        assert [state.id(place) for place in kept.tolist()] == less.ids
    assert max(len(state) for state, _ in made) > 20


def test_new_rows_cost_what_is_put_and_not_what_is_there() -> None:
    first, shown = put(Overlay.empty(WIDTH), {}, list(range(50)), 1)
    second, _ = put(first, shown, [50], 2)
    third, shown = put(second, shown | {"i50": (2, 2050.0)}, [7], 3)
    for later in (second, third):
        assert np.shares_memory(first.rows_MW, later.rows_MW), (
            "a row goes behind the others, also that of a changed one"
        )
    check(third, shown)
    assert second.rows_MW[second.place("i7")].tolist() == [1007.0] * WIDTH, "it must not change under a reader"


def test_an_item_that_changes_again_and_again_takes_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catalogue changes as the recommender takes them: flags follow the places, through every compaction."""
    monkeypatch.setattr(module, "BLOCK", 4)
    spec = FeatureSpec(item={"price": Field("number")})
    state = State.first(["i0", "i1"], Base(np.zeros((2, WIDTH), np.float32)), popular=["i1"], position=0)
    changes = Changes(
        [Item("i0"), Item("i1")],
        spec,
        Vocabulary(spec),
        lambda rows: np.repeat(rows.fields["price"][:, :1], WIDTH, 1).astype(np.float32),
    )
    random, price, gone, longest = np.random.default_rng(1), {}, set(), 0
    for version in range(1, 200):
        item, withdrawn = f"i{random.integers(6)}", bool(random.random() < 0.3)
        value = float(random.integers(1, 5))
        state, counts = changes.apply(state, [Item(item, version, withdrawn, {"price": value})], version)
        assert counts["refused"] == 0
        price[item] = value
        (gone.add if withdrawn else gone.discard)(item)
        longest = max(longest, len(state.overlay))
        live = {name for name, alive in zip(state.ids, state.shelf.live_T, strict=True) if alive}
        assert live == (set(price) | {"i0", "i1"}) - gone
        assert np.count_nonzero(state.shelf.live_T) == len(live), "each item has one live slot"
        for name in live & set(price):
            [slot] = state.slots([name]).tolist()
            assert state.shelf.live_T[slot]
            assert state.shelf.rows(np.array([slot]))[0, 0] == pytest.approx(price[name])
        assert state.names(state.popular) == ["i1"]
    assert longest <= 4 + 2 * 6 + 1
