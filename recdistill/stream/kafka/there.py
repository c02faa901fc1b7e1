"""Whether the topics that a consumer reads are still what they were when it began.

The client asks the brokers for its topics every few seconds. What they answered last is looked at here, which costs
little. A broker that starts may not know its topics yet, so a topic counts as gone only when it is missing for a while.

It knows nothing of messages.
"""

from __future__ import annotations

import time
from typing import Any, Final

from recdistill.stream.contract import LogIdentity
from recdistill.stream.names import full_name
from recdistill.stream.problems import gone, grown, made_again

LOOK_S: Final = 1.0
"""How often the last answer is looked at."""

GONE_S: Final = 4.0
"""How long a topic must be missing."""


class Topics:
    """The topics of one consumer. For one thread.

    Args:
        consumer: The client's consumer; its topics are assigned before the first look.
        prefix: Put before each topic.
        identity: The topics as they were.
    """

    def __init__(self, consumer: Any, prefix: str, identity: LogIdentity) -> None:
        # The client has no public call for the id of a topic, nor one that asks nobody. Its version is pinned.
        self._cluster = consumer._cluster  # noqa: SLF001
        self._prefix, self._identity = prefix, identity
        self._look_s = time.monotonic() + LOOK_S
        self._missing: dict[str, float] = {}

    def ask(self) -> None:
        """Asks the brokers anew, and looks at what they answer.

        Raises:
            WrongLog: As `check` does.
        """
        answer, deadline = self._cluster.request_update(), time.monotonic() + GONE_S
        while not answer.is_done and time.monotonic() < deadline:
            time.sleep(0.02)
        self._look_s = 0.0
        self.check()

    def check(self) -> None:
        """Looks at the topics, unless it has just done so.

        Raises:
            WrongLog: A topic was deleted or made again, or it has another number of partitions.
        """
        now = time.monotonic()
        if now < self._look_s:
            return
        self._look_s = now + LOOK_S
        cluster = self._cluster
        for topic, before in self._identity.partitions.items():
            name = full_name(self._prefix, topic)
            partitions = cluster.partitions_for_topic(name)
            if not partitions:
                if now - self._missing.setdefault(topic, now) > GONE_S:
                    raise gone(topic)
                cluster.request_update()
                continue
            self._missing.pop(topic, None)
            old_id, new_id = self._identity.ids.get(topic), cluster.topic_id(name)
            if old_id and new_id is not None and str(new_id) != old_id:
                raise made_again(topic)
            if len(partitions) != before:
                raise grown(topic, before, len(partitions))
