"""What a teacher remembers of the catalogue: the attributes of each item, from the last record that it got.

Where an item has two records, `records.newer` decides which one holds.

It knows nothing of what a teacher does with them.

Example:
    >>> items = Attributes()
    >>> items.apply([Item("a", version=2, attributes={"title": "Alien"}), Item("a", version=1)])
    >>> items.get("a"), items.get("b")
    ({'title': 'Alien'}, None)
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from recdistill.records import Item, Value, newer


class Attributes:
    """Attributes by item id.

    Args:
        names: The attributes that are kept; None keeps all.
    """

    def __init__(self, names: Iterable[str] | None = None) -> None:
        self._names = None if names is None else frozenset(names)
        self._held: dict[str, Item] = {}

    def apply(self, items: Iterable[Item]) -> None:
        """Takes records, in log order."""
        for item in items:
            held = newer(self._held.get(item.id), item)
            if held is None:
                continue
            if self._names is not None:
                kept = {name: value for name, value in held.attributes.items() if name in self._names}
                held = msgspec.structs.replace(held, attributes=kept)
            self._held[item.id] = held

    def get(self, item_id: str) -> dict[str, Value] | None:
        """Attributes of an item; None for an unknown item. Not to be changed."""
        held = self._held.get(item_id)
        return None if held is None else held.attributes

    def __len__(self) -> int:
        return len(self._held)
