"""Slices that a person names by a field, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.errors import UsageError
from recdistill.judge.slices import field_slices, item_slices
from recdistill.records import Impression, Item

HOUR = 3_600_000_000
DEVICES = ("phone", "desk", "tv")


def lists(count: int) -> list[Impression]:
    """Every list has a device, but the tv is rare; they come one an hour."""
    return [
        Impression(f"r{n}", n * HOUR, context={"device": DEVICES[2 if n % 50 == 7 else n % 2], "new": n % 4 == 0})
        for n in range(count)
    ]


def test_contexts_times_and_attributes() -> None:
    requests = lists(200)
    relevant = np.array([[n % 6, 6 if n % 3 == 0 else -1] for n in range(200)])
    items = {n: Item(f"i{n}", 1, attributes={"genre": ["odd"] if n % 2 else ["even", "all"]}) for n in range(6)}
    found = {
        one.name: one
        for one in field_slices(["context.device", "context.new", "time", "item.genre"], requests, relevant, items)
    }
    assert "context.device=tv" not in found  # four lists are too few for a slice
    for device in ("phone", "desk"):
        assert found[f"context.device={device}"].lists_B.tolist() == [r.context["device"] == device for r in requests]
    assert found["context.new=true"].lists_B.sum() == 50
    assert found["time 06-12"].lists_B.tolist() == [6 <= n % 24 < 12 for n in range(200)]
    odd = found["item.genre=odd"]
    assert odd.lists_B.tolist() == [n % 6 % 2 == 1 for n in range(200)]
    assert odd.relevant_BP is not None
    assert odd.relevant_BP[1].tolist() == [True, False]
    assert not odd.relevant_BP[:, 1].any()  # item 6 is in no catalogue, so nobody knows its genre
    assert found["item.genre=all"].lists_B.tolist() == found["item.genre=even"].lists_B.tolist()


@pytest.mark.parametrize("field", ["device", "user.age", "context.", ""])
def test_a_field_of_no_kind_is_a_sentence(field: str) -> None:
    with pytest.raises(UsageError, match=r"is no slice; use context\.NAME, item\.NAME or time"):
        field_slices([field], lists(2), np.array([[0], [1]]), {})


def test_head_torso_tail_and_new_items() -> None:
    """Of 100 likes the first items have 30 + 20, the next ones 20 + 10, and the others 20 together."""
    counts = np.array([2.0, 30, 10, 8, 20, 0, 20, 5, 5])
    parts = {one.name: one for one in item_slices(np.arange(9)[:, None], counts)}
    kinds = {name: np.flatnonzero(one.lists_B).tolist() for name, one in parts.items()}
    assert kinds == {"popular items": [1, 4], "torso items": [2, 6], "rare items": [0, 3, 7, 8], "new items": [5]}
    assert "the next 30% of them" in parts["torso items"].meaning
    both = np.array([[1, 5, -1], [6, 8, 2]])
    parts = {one.name: one for one in item_slices(both, counts)}
    torso = parts["torso items"].relevant_BP
    assert torso is not None
    assert torso.tolist() == [[False, False, False], [True, False, True]]
    nothing = item_slices(np.array([[0]]), np.zeros(1))
    assert [one.lists_B.tolist() for one in nothing] == [[False], [False], [False], [True]]
