"""What a teacher remembers of the catalogue: the attributes of each item, as of the last record that it was told of.

Of two records of one item the higher version holds; of equal versions, the later one. A withdrawal without attributes
keeps the attributes it had: a list that was shown before it can still be scored.

It knows nothing of what a teacher does with them.

Example:
    >>> items = Attributes()
    >>> items.apply([Item("a", version=2, attributes={"title": "Alien"}), Item("a", version=1)])
    >>> items.get("a"), items.get("b")
    ({'title': 'Alien'}, None)
"""

from __future__ import annotations

from collections.abc import Iterable

from recdistill.records import Item, Value


class Attributes:
    """Attributes by item id.

    Args:
        names: The attributes that are kept; None keeps all.
    """

    def __init__(self, names: Iterable[str] | None = None) -> None:
        self._names = None if names is None else frozenset(names)
        self._held: dict[str, tuple[int, dict[str, Value]]] = {}

    def apply(self, items: Iterable[Item]) -> None:
        """Takes in records, in log order."""
        for item in items:
            before = self._held.get(item.id)
            if before is not None and item.version < before[0]:
                continue
            kept = {
                name: value for name, value in item.attributes.items() if self._names is None or name in self._names
            }
            if before is not None and item.withdrawn and not item.attributes:
                kept = before[1]
            self._held[item.id] = item.version, kept

    def get(self, item_id: str) -> dict[str, Value] | None:
        """Attributes of an item, None for one never heard of. Not to be changed."""
        held = self._held.get(item_id)
        return None if held is None else held[1]

    def __len__(self) -> int:
        return len(self._held)
