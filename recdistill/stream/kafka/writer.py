"""The producer of a stage: taking it over, connecting it anew, and ending what an earlier one left behind.

Taking over a transactional id ends an open transaction of its older owner, and fences that owner.

It knows nothing of what is written, and nothing of positions.

Example:
    >>> {"open", "recover", "left_open", "close", "drop"} <= set(dir(Writer))
    True
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka import TopicPartition as WirePartition

from recdistill.errors import Fenced, StreamError
from recdistill.stream.kafka import hanging
from recdistill.stream.kafka.client import PATIENCE_S
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.kafka.there import GONE_S
from recdistill.stream.kafka.visible import Visible
from recdistill.stream.problems import gone

log_ = logging.getLogger(__name__)

Administrate = Callable[[Callable[[KafkaAdminClient], Any]], Any]
"""Makes a call with the log's administrative client, one at a time."""

_SOON_S = 2.0
"""After so long, a transaction that is still not visible is looked into."""

COMMIT_S = 20.0
"""After so long, a small transaction is taken to hang in the client."""


class Writer:
    """A producer with a transactional id.

    Args:
        namespace: Where it writes.
        name: The transactional id.
        groups: Groups whose offsets its transactions hold.
        topics: Asks for the partition count of each topic that it may have written to.
        administrate: Asks the brokers about transactions.

    Attributes:
        client: The producer itself. It is another one after `recover`.
        visible: What its last transaction must make visible.
    """

    def __init__(
        self,
        namespace: Namespace,
        name: str,
        *,
        groups: Sequence[str],
        topics: Callable[[], Mapping[str, int]],
        administrate: Administrate,
    ) -> None:
        self.client: Any = None
        self.visible = Visible(namespace)
        self._namespace = namespace
        self._name = name
        self._groups = groups
        self._topics = topics
        self._administrate = administrate
        self._decided: bool | None = None  # how the last transaction under this name ended, where that is known

    def open(self) -> None:
        """Takes the name over."""
        brokers = self._namespace.brokers
        # Before the name is taken over: after that, nobody knows it any more.
        decided = self._administrate(lambda admin: hanging.decided(admin, self._name))
        self._decided = self._decided if decided is None else decided
        ours = {"transactional_id": self._name, "acks": -1, "allow_auto_create_topics": False}
        with brokers.explained("write to"):
            self.client = KafkaProducer(**brokers.settings(KafkaProducer, ours))
            try:
                brokers.bounded("write to", self.client.init_transactions, COMMIT_S)
                self._end_what_hangs()
            except BaseException:
                self.drop()
                raise

    def recover(self, deadline: float) -> None:
        """Takes the name over with a new producer, and tries until the deadline (`time.monotonic()`)."""
        while True:
            self.drop()
            try:
                return self.open()
            except Fenced:
                raise
            except StreamError as error:
                if time.monotonic() > deadline:
                    raise
                log_.warning("%s; trying again", error)
                time.sleep(0.5)

    def finish_last(self) -> None:
        """Makes sure that the last transaction has reached its partitions, before another one begins.

        Raises:
            StreamError: The brokers do not answer, for as long as a stage waits.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self.visible.wait(_SOON_S):
                    return
                # Others may hold the end back. Only what this stage left open must not stay.
                if not self.left_open():
                    break
                log_.warning("the last transaction of the stage %s is committed, but not visible", self._name)
                self.recover(deadline)
                break
            except Fenced:
                raise
            except StreamError as error:
                if lost := self.missing(self.visible.topics()):
                    self.visible.expect({})
                    raise gone(lost) from error
                if time.monotonic() > deadline:
                    raise
                log_.warning("%s; trying again", error)
                time.sleep(0.5)
        self.visible.expect({})

    def missing(self, names: set[str]) -> str:
        """One of these topics that was deleted; empty if they are there, or if no broker answers.

        A broker that starts may not know its topics yet, so a topic counts as gone when a second look does not find it.
        """
        try:
            if lost := names - set(self._topics()):
                time.sleep(GONE_S)
                lost -= set(self._topics())
            return min(lost, default="")
        except StreamError:
            return ""

    def left_open(self) -> list[WirePartition]:
        """The partitions in which a transaction of this producer has not ended."""
        prefix, number = self._namespace.prefix, hanging.producer_id(self.client)
        wires = [WirePartition(prefix + topic, p) for topic, count in self._topics().items() for p in range(count)]
        found: list[WirePartition] = self._administrate(lambda admin: hanging.left_open(admin, number, wires))
        return found

    def close(self) -> None:
        """Closes the connection when what was sent has arrived."""
        if self.client is not None:
            self.client.close(timeout=10)

    def drop(self) -> None:
        """Closes the connection at once: a producer that waits for a broker is not waited for."""
        with suppress(Exception):
            self.client.close(timeout=0)

    def _end_what_hangs(self) -> None:
        """Ends a transaction that the brokers had decided but not finished. `hanging` says how that can be."""
        if self._decided is None:  # then taking the name over has aborted what was open
            return
        if found := self.left_open():
            names = ", ".join(sorted(f"{wire.topic}/{wire.partition}" for wire in found))
            did = "committed" if self._decided else "aborted"
            log_.warning("the brokers %s a transaction of %s but did not tell %s; telling them", did, self._name, names)
            finish = partial(hanging.finish, self.client, found, self._groups, commit=self._decided)
            self._namespace.brokers.bounded("write to", finish, COMMIT_S)
        self._decided = None
