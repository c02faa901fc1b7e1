"""Names of items for people: a title or a name from the attributes, otherwise the id.

It knows nothing of figures.

Example:
    >>> title_of(Item(id="i-1", attributes={"title": "Alien"})), title_of(Item(id="i-2"))
    ('Alien', 'i-2')
"""

from __future__ import annotations

from collections.abc import Iterable

from recdistill.records import Item

_TITLES = ("title", "name", "headline", "label")


def titles_of(items: Iterable[Item]) -> dict[str, str]:
    """The name of each item, by its id."""
    return {item.id: title_of(item) for item in items}


def title_of(item: Item) -> str:
    """A name of the item for people: its title or name, otherwise its id."""
    for key in _TITLES:
        value = item.attributes.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value:
            return " ".join(map(str, value))
    return item.id
