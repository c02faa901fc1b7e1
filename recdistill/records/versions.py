"""Which of two records of one item holds.

It knows nothing of the wire, of rows or of what an item is used for.

Example:
    >>> held = newer(None, Item("a", version=2, attributes={"title": "Alien"}))
    >>> newer(held, Item("a", version=1)) is None
    True
    >>> newer(held, Item("a", version=3, withdrawn=True)).attributes
    {'title': 'Alien'}
"""

from __future__ import annotations

from typing import Final

import msgspec

from recdistill.records.structs import Item

TOMBSTONE: Final = -1
"""Version of a withdrawal that came as a tombstone. It withdraws whatever version holds; records have none below 0."""


def newer(before: Item | None, item: Item) -> Item | None:
    """The record that holds after a new record has come.

    The higher version holds. Of equal versions, the later one holds. A withdrawal without attributes keeps the item's
    attributes, because histories and lists may still name the item. A tombstone withdraws the version that holds. So a
    later record of that version or a higher one brings the item back.

    Args:
        before: The record that held until now; None where the item was never seen.
        item: The record that came.

    Returns:
        The record that holds now, with the attributes that it keeps; None where `before` still holds.
    """
    if item.version == TOMBSTONE:
        item = msgspec.structs.replace(item, version=0 if before is None else before.version)
    if before is None:
        return item
    if item.version < before.version:
        return None
    if item.withdrawn and not item.attributes:
        return msgspec.structs.replace(item, attributes=before.attributes)
    return item
