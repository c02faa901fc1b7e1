"""The overlay against a plain dictionary: each state goes on showing what it showed, whatever is made from it."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.records import Item
from recdistill.serve import overlay as module
from recdistill.serve.overlay import Overlay

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
    assert len(state) == len(state.ids) == len(state.items) == len(state.rows_MW) == len(shown)
    assert sorted(state.ids) == sorted(shown)
    for place, (item, record) in enumerate(zip(state.ids, state.items, strict=True)):
        version, value = shown[item]
        assert state.place(item) == place
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
    assert max(len(state) for state, _ in made) > 20


def test_new_rows_cost_what_is_put_and_not_what_is_there() -> None:
    first, shown = put(Overlay.empty(WIDTH), {}, list(range(50)), 1)
    second, shown = put(first, shown, [50], 2)
    assert np.shares_memory(first.rows_MW, second.rows_MW), "a new row goes behind the others"
    third, shown = put(second, shown, [7], 3)
    assert not np.shares_memory(second.rows_MW, third.rows_MW), "a changed row must not change under a reader"
    check(third, shown)
    assert second.rows_MW[7].tolist() == [1007.0] * WIDTH
