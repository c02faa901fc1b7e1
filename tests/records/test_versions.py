"""Which record of an item holds, against the rule said of the whole log at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recdistill.records import Item, newer

logs = st.lists(
    st.builds(Item, st.just("a"), st.integers(0, 3), st.booleans(), st.sampled_from([{}, {"t": "x"}, {"t": "y"}])),
    min_size=1,
    max_size=12,
)


@given(logs)
def test_the_highest_version_holds_and_a_bare_withdrawal_keeps_attributes(log: list[Item]) -> None:
    held: Item | None = None
    for item in log:
        held = newer(held, item) or held
    # Those that no record before them beats have held, one after the other.
    once = [item for place, item in enumerate(log) if item.version >= max(one.version for one in log[: place + 1])]
    told = [item.attributes for item in once if item.attributes or not item.withdrawn]
    last = once[-1]
    assert held == Item("a", last.version, last.withdrawn, told[-1] if told else {}, last.time_us)


def test_an_older_record_is_told_from_one_that_changes_nothing() -> None:
    held = Item("a", version=2)
    assert newer(held, Item("a", version=1)) is None
    assert newer(held, Item("a", version=2)) == held
    assert newer(None, held) is held
