"""Records as a person would want to see them.

It does not know where a record came from: `inspect` adds the offset.

Example:
    >>> print(render(Item("a", 3, attributes={"title": "Alien"})))
    item 'a'  version 3
      title  'Alien'
"""

from __future__ import annotations

from recdistill.records.structs import Record


def render(record: Record, *, width: int = 100, now_us: int | None = None) -> str:
    return repr(record)
