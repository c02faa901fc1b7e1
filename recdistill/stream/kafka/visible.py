"""Do readers see what a stage committed last?

Kafka answers a commit as soon as its coordinator has noted it. The partitions hear of it a moment later, and only then
does the end of committed messages move past it. Two things depend on that moment. A stage that reads up to the end just
after another one has closed could miss the last transaction. And a stage that begins its next transaction while a
partition still waits for the end of the last one could lose both, if a broker forgets to tell it (`hanging`).

It knows nothing of stages, positions or groups.

Example:
    >>> from recdistill.stream.kafka.client import Brokers
    >>> visible = Visible(Namespace(Brokers("127.0.0.1:9092", {}), "shop."))
    >>> visible.seen()  # nothing was committed yet
    True
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from recdistill.stream.contract import TopicPartition
from recdistill.stream.kafka.namespace import Namespace

_ASK_MS = 5_000
"""How long one question may take. A topic that was deleted has no answer."""


class Visible:
    """Looks at the ends of the partitions that the last transaction wrote to. It keeps one connection for this.

    Args:
        namespace: Where the partitions are.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._reader: Any = None
        self._newest: Mapping[TopicPartition, int] = {}

    def expect(self, newest: Mapping[TopicPartition, int]) -> None:
        """Sets what has to become visible: the offset of the last message in each partition."""
        self._newest = dict(newest)

    def topics(self) -> set[str]:
        """The topics in which something has to become visible."""
        return {tp.topic for tp in self._newest}

    def seen(self) -> bool:
        """Whether all of it is visible. It asks once.

        Raises:
            StreamError: The brokers do not answer.
        """
        if not self._newest:
            return True
        wires = {tp: self._namespace.wire(tp) for tp in self._newest}
        try:
            with self._namespace.brokers.explained("ask"):
                self._reader = self._reader or self._namespace.brokers.consumer()
                try:
                    ends = self._reader.end_offsets(list(wires.values()), timeout_ms=_ASK_MS)
                except KeyError:  # the answer lacks one of the partitions, and the client stumbles over that
                    return False
        except BaseException:
            self.close()  # a connection that failed once may fail for ever
            raise
        self._newest = {tp: offset for tp, offset in self._newest.items() if ends[wires[tp]] <= offset}
        return not self._newest

    def wait(self, patience_s: float) -> bool:
        """Asks until all of it is visible, for so long at most. Returns whether it is.

        Raises:
            StreamError: The brokers do not answer.
        """
        deadline, pause_s = time.monotonic() + patience_s, 0.002
        while not self.seen():
            if time.monotonic() > deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
        return True

    def close(self) -> None:
        """Closes the connection. It is opened again when needed."""
        reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(Exception):
                reader.close(autocommit=False)
