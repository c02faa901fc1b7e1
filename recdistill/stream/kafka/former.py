"""Takes over the positions of a shared stage from the groups in which an older version kept them.

An older version had a group for each process of such a stage. The furthest position counts: everything before it was
done by one of them. A process that still works under such a name is fenced first, so the position is its last one.

It knows nothing of messages.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recdistill.errors import StreamError
from recdistill.stream.contract import TopicPartition
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.kafka.owners import OWNER
from recdistill.stream.kafka.writer import Administrate

log_ = logging.getLogger(__name__)

Fence = Callable[[Sequence[str], Sequence[str]], None]
"""Takes transactional ids over, whose transactions hold the offsets of these groups."""


def furthest(
    namespace: Namespace,
    formerly: Sequence[str],
    missing: Sequence[TopicPartition],
    counts: Mapping[str, int],
    administrate: Administrate,
    fence: Fence,
) -> dict[TopicPartition, tuple[int, str]]:
    """The furthest position of each input under older names, and under which one it stands.

    Args:
        namespace: Where.
        formerly: The older names, with the prefix.
        missing: The inputs that have no position yet.
        counts: Partition count of each topic.
        administrate: Asks the brokers which groups there are.
        fence: Fences who works under an older name.

    Raises:
        StreamError: The brokers do not answer.
    """
    found: dict[TopicPartition, tuple[int, str]] = {}
    if not formerly:
        return found
    every = [TopicPartition(topic, n) for topic in sorted({tp.topic for tp in missing}) for n in range(counts[topic])]
    for name in _there(formerly, administrate) if missing else ():
        if not namespace.committed(name, missing):
            continue
        # Its owner looks here before it goes on. Which input it looks at depends on which ones it has.
        namespace.claim(name + OWNER, every, uuid.uuid4().hex)
        fence([name], [name])
        for tp, (offset, _) in namespace.committed(name, missing).items():
            if tp not in found or offset > found[tp][0]:
                found[tp] = (offset, name)
    return found


def _there(names: Sequence[str], administrate: Administrate) -> list[str]:
    """Those of the groups that exist. One question for all of them, where a user may ask it."""

    def ask(admin: Any) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = admin.list_groups()
        return groups

    try:
        there = {str(group["group_id"]) for group in administrate(ask)}
    except (StreamError, KeyError) as error:
        log_.info("cannot ask which groups there are (%s); asking each of %d", error, len(names))
        return list(names)
    return [name for name in names if name in there]
