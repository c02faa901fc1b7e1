"""Which process has a stage, or some inputs of a stage that several processes share.

A group `<stage>.owner` holds the name of the process that came last. A broker that restarts can fence a producer that
has no successor. So being fenced is not enough to know: the name tells.

A stage that one process has is fenced by its transactional id, which is its name. A stage that several processes share
needs more, since another number of processes shares the inputs in another way. Each process has a transactional id that
is named after its first input. Whoever takes inputs over does this:

1. It takes the transactional id `<stage>.claims`. So it is alone: who else does this at the same time has to begin
   again.
2. It reads who has each input, and writes its own name there, followed by the ids of those before it.
3. It takes those ids over too. This ends their open transactions and fences them. One that connects anew looks at the
   names after that, and stops.
4. Then it takes its own id, and looks whether the names are still its own.

The first transaction of the new owner writes its name alone. If it dies before that, its successor still knows all ids.

It knows nothing of messages or positions.

Example:
    >>> read_claim(write_claim("a7", ["shop-score.impressions-0", "shop-score.impressions-1"]))
    ('a7', ['shop-score.impressions-0', 'shop-score.impressions-1'])
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any, Final, Protocol

from kafka.structs import OffsetAndMetadata

from recdistill.errors import Fenced, StreamError
from recdistill.stream.contract import TopicPartition
from recdistill.stream.kafka.client import PATIENCE_S
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.kafka.writer import COMMIT_S, Writer

log_ = logging.getLogger(__name__)

OWNER: Final = ".owner"
"""After a stage's name: the group that holds the name of the process."""

_CLAIMS: Final = ".claims"
"""After a stage's name: the transactional id of whoever takes inputs over."""

AGAIN_S: Final = 600.0
"""After so long, an owner writes its name again. A broker forgets it some days after it was written last."""


Names = dict[Any, OffsetAndMetadata]
"""What a transaction writes into the group of the owner."""


class Opens(Protocol):
    """Makes the writer of a transactional id, for transactions with the offsets of some groups."""

    def __call__(self, name: str, groups: Sequence[str]) -> Writer:
        """The writer; it is not open yet."""
        ...


def write_claim(name: str, ids: Sequence[str]) -> str:
    """The metadata of an input: the name of a process, its transactional id, and those that it has to take over."""
    return " ".join((name, *ids))


def read_claim(text: str) -> tuple[str, list[str]]:
    """Name and transactional ids."""
    name, *ids = text.split(" ")
    return name, ids


class Owner:
    """The one process of a stage.

    Args:
        namespace: Where.
        stage: Name of the stage, with the prefix.
        places: Where its name is written: the same for all processes of this stage. A log without topics has no place.

    Attributes:
        id: The transactional id.
        group: The group that holds the name.
    """

    def __init__(self, namespace: Namespace, stage: str, places: Sequence[TopicPartition]) -> None:
        self.id = stage
        self.group = stage + OWNER
        self._namespace, self._places = namespace, tuple(places)
        self._me = uuid.uuid4().hex

    def take(self, writer: Writer) -> None:
        """Becomes the owner, and opens the writer with the own id.

        Raises:
            Fenced: Another process has become the owner meanwhile.
            StreamError: The brokers do not answer.
        """
        writer.open()
        self.keep()

    def keep(self) -> None:
        """Writes the name again, some time after it was written last; outside of a transaction."""
        if self._places:
            self._namespace.claim(self.group, self._places, self._me)

    def lost(self) -> bool:
        """Whether another process has become the owner. A name that a broker has forgotten tells nothing."""
        found = self._namespace.committed(self.group, self._places)
        return any(read_claim(text)[0] != self._me for _, text in found.values())

    def renewal(self, _now_s: float) -> Names:
        """What the next transaction has to write into the group; nothing where `keep` does it."""
        return {}

    def renewed(self, now_s: float) -> None:
        """A transaction has written it."""


class SharedOwner(Owner):
    """One of several processes of a stage, with some of its inputs.

    Args:
        namespace: Where.
        stage: Name of the stage, with the prefix.
        inputs: Its inputs.
        opens: Makes writers.
    """

    def __init__(self, namespace: Namespace, stage: str, inputs: Sequence[TopicPartition], opens: Opens) -> None:
        super().__init__(namespace, stage, inputs)
        first = min(inputs, default=None)
        self.id = f"{stage}.idle" if first is None else f"{stage}.{first.topic}-{first.partition}"
        self._stage, self._opens = stage, opens
        self._renewed_s: float | None = None

    def take(self, writer: Writer) -> None:
        """Becomes the owner of the inputs; see the header of this module."""
        if self._places:
            self.fence(self._claimed())
        writer.open()
        if self.lost():
            raise self._namespace.brokers.fenced()

    def keep(self) -> None:
        """Nothing: a name that is written outside of a transaction could be that of a process that was fenced."""

    def fence(self, ids: Sequence[str], groups: Sequence[str] = ()) -> None:
        """Takes transactional ids over: ends their open transactions, and fences who has them."""
        for one in ids:
            with closing(self._opens(one, [self._stage, *groups])) as other:
                other.open()

    def renewal(self, now_s: float) -> Names:
        """The own name alone, at each input, when it is due."""
        if self._renewed_s is not None and now_s - self._renewed_s < AGAIN_S:
            return {}
        return self._names([self.id])

    def renewed(self, now_s: float) -> None:
        """A transaction has written it."""
        self._renewed_s = now_s

    def _names(self, ids: Sequence[str]) -> Names:
        text = write_claim(self._me, ids)
        return {self._namespace.wire(tp): OffsetAndMetadata(0, text, -1) for tp in self._places}

    def _claimed(self) -> list[str]:
        """Writes the own name at each input. Returns the transactional ids of those that had them before."""
        before: list[str] = []
        deadline = time.monotonic() + PATIENCE_S
        brokers = self._namespace.brokers
        while True:
            try:
                with closing(self._opens(self._stage + _CLAIMS, [self.group])) as claims:
                    claims.open()
                    for _, text in self._namespace.committed(self.group, self._places).values():
                        before += [one for one in read_claim(text)[1] if one not in before]
                    others = [one for one in before if one != self.id]
                    with brokers.explained("write to"):
                        send = partial(_send, claims.client, self.group, self._names([self.id, *others]))
                        brokers.bounded("write to", send, COMMIT_S)
                    return others
            except StreamError as error:  # also when somebody else claims inputs at the same time
                if time.monotonic() > deadline:
                    raise
                log_.info("%s; taking the inputs of %s over again", error, self._stage)
                time.sleep(0.1 if isinstance(error, Fenced) else 0.5)


def _send(producer: Any, group: str, names: Names) -> None:
    producer.begin_transaction()
    producer.send_offsets_to_transaction(names, group)
    producer.commit_transaction()
