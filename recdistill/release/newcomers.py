"""Finds the items that came after a bundle was made. The judge adds them as live changes, as serving does.

It knows nothing of how a bundle ranks them.

Example:
    >>> newcomers.__name__
    'newcomers'
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any, Final

from recdistill.bundle import Bundle
from recdistill.errors import DecodeError, OutOfRange
from recdistill.records import Item, decode_item, newer
from recdistill.stream import ITEMS, Log, up_to

log_ = logging.getLogger(__name__)

_READ: Final = 1000


def newcomers(log: Log, bundle: Bundle) -> list[Item]:
    """The items of the topic `items` that came after the bundle stopped reading it, and that the bundle does not hold.

    Items that were withdrawn since are left out. A bundle of another log has no such items: its position in that log
    means nothing in this one.

    Raises:
        StreamError: The log cannot be read.
    """
    if ITEMS.topic not in log.topics():
        return []
    known = {item.id for item in bundle.items}
    found: dict[str, Item] = {}
    with closing(log.source([ITEMS])) as source:
        made_on: Any = bundle.manifest.provenance
        for name in ("positions", "lanes", "identity", "cluster"):
            made_on = made_on.get(name) if isinstance(made_on, dict) else None
        if isinstance(made_on, str) and made_on != source.identity().cluster:
            return []
        try:
            source.seek({ITEMS: bundle.manifest.content.base_position})
        except OutOfRange:  # the position is gone (retention, or another log), so the whole topic is read
            source.seek({ITEMS: source.bounds(ITEMS)[0]})
        for message in up_to(source, ITEMS, source.bounds(ITEMS)[1], _READ):
            try:
                item = decode_item(message.key, message.value)
            except DecodeError as e:
                log_.debug("%s offset %d left out: %s", message.tp, message.offset, e)
                continue
            if item.id not in known and (held := newer(found.get(item.id), item)) is not None:
                found[item.id] = held
    return [item for item in found.values() if not item.withdrawn]
