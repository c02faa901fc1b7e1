"""What a teacher remembers of items: the attributes it asks for, of the record that holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recdistill.records import Item
from recdistill.teachers.attributes import Attributes

values = st.dictionaries(st.sampled_from(["title", "year", "more"]), st.sampled_from(["x", "y"]), max_size=2)
logs = st.lists(st.builds(Item, st.sampled_from("ab"), st.integers(0, 3), st.booleans(), values), max_size=12)


@given(logs)
def test_what_is_kept_is_a_part_of_what_whole_items_keep(log: list[Item]) -> None:
    whole, some = Attributes(), Attributes(["title", "year"])
    whole.apply(log)
    for item in log:  # one by one is the same
        some.apply([item])
    assert len(whole) == len(some) == len({item.id for item in log})
    for item_id in "ab":
        kept = whole.get(item_id)
        assert some.get(item_id) == (None if kept is None else {n: v for n, v in kept.items() if n != "more"})


def test_a_withdrawal_without_attributes_keeps_them() -> None:
    items = Attributes(["title"])
    items.apply([Item("a", 2, attributes={"title": "Alien", "year": 1979.0}), Item("a", 1, attributes={"title": "?"})])
    assert items.get("a") == {"title": "Alien"}
    items.apply([Item("a", 3, withdrawn=True)])
    assert items.get("a") == {"title": "Alien"}
    items.apply([Item("a", 4, withdrawn=True, attributes={"year": 1980.0})])  # not bare, though nothing kept is in it
    assert items.get("a") == {}
