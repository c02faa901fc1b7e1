"""The topic `ledger`: anybody may read it, and one writer at a time may write it.

A writer opens the stage `ledger`. This fences all earlier writers, in this process and in others: they cannot write any
more. Then the writer reads to the end, decides, and appends. A writer that was fenced must read again and decide again.
So if several decide at the same time, one of them wins.

It knows nothing of MLflow, nor of what is decided.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.ledger.keys import NO_KEYS
    >>> from recdistill.stream import open_log
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = open_log(LogSettings(path=f"{folder.name}/log.sqlite"))
    >>> ledger = Ledger(log, "shop", NO_KEYS)
    >>> with ledger.writing() as writer:
    ...     entry = writer.append("moved", who="promoter", version="3")
    >>> ledger.look().champion, entry.n
    ('3', 1)
    >>> ledger.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Final

from recdistill.errors import StreamError
from recdistill.ledger.chain import ENTRY, Chain, Link
from recdistill.ledger.entry import Entry, write_entry
from recdistill.ledger.keys import Keys
from recdistill.ledger.note import digest, write
from recdistill.ledger.state import State
from recdistill.stream import LEDGER, STANDARD_CONFIGS, Log, Message, Source, Stage, up_to

STAGE: Final = "ledger"
READ: Final = 1000
WAIT_S: Final = 0.2
SEEN_S: Final = 30.0
"""How long a writer waits until it can read the entry that it wrote."""


def now() -> str:
    """The present moment, in the form that entries use."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


class Ledger:
    """The ledger of one model. For one thread at a time.

    All models of a log share one chain. The state is that of one model.

    Args:
        log: The log.
        model: Name of the registered model.
        keys: The key that signs, and the trusted keys.
        clock: Gives the present moment, in ISO 8601.
        heard: Called with each entry that is read.
    """

    def __init__(
        self,
        log: Log,
        model: str,
        keys: Keys,
        *,
        clock: Callable[[], str] = now,
        heard: Callable[[Link], None] | None = None,
    ) -> None:
        self._log, self.model, self.keys, self._clock, self._heard = log, model, keys, clock, heard
        self._source: Source | None = None
        self.chain, self.state = Chain(keys), State()
        self.troubles: list[tuple[int, str]] = []
        self._tried: tuple[Entry, str] | None = None

    def exists(self) -> bool:
        """Whether the log has the topic."""
        return self._source is not None or LEDGER.topic in self._log.topics()

    def look(self) -> State:
        """Reads what is new, and returns the state. A log without the topic has an empty ledger.

        Raises:
            StreamError: The log cannot be read.
        """
        if self._source is None:
            if not self.exists():
                return self.state
            self._source = self._log.source([LEDGER])
        for message in _to_the_end(self._source):
            self._take(message)
        return self.state

    def head(self) -> str:
        """The head in the form in which others note it. Empty: there is no entry."""
        return self.chain.noted()

    def read(self, offset: int) -> Link | None:
        """The entry at an offset, with all its facts. None: it is gone."""
        deadline = time.monotonic() + SEEN_S
        with closing(self._log.source([LEDGER], {LEDGER: offset})) as source:
            # A broker may take longer for its first answer than one wait.
            while source.position()[LEDGER] <= offset < source.bounds(LEDGER)[1] and time.monotonic() < deadline:
                for message in source.read(1, WAIT_S):
                    if message.offset == offset:
                        return Chain(self.keys).take(offset, message.value)
        return None

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Becomes the one writer for a `with` block. The state is brought up to date first.

        Raises:
            Fenced: Another process became the writer meanwhile. Nothing was written: read again and decide again.
            StreamError: The log cannot be written.
        """
        if not self.exists():
            self._log.create_topics({LEDGER.topic: 1}, configs={LEDGER.topic: STANDARD_CONFIGS[LEDGER.topic]})
        stage = self._log.stage(STAGE)
        try:
            self.look()
            yield Writer(self, stage)
        finally:
            stage.close()

    def tried(self) -> Entry | None:
        """The entry that was appended last, if the ledger has it.

        A log may report that another writer has taken over, although it has stored the entry.
        """
        if self._tried is None or self.chain.digests.get(self._tried[0].n) != self._tried[1]:
            return None
        return self._tried[0]

    def forget(self) -> None:
        """Forgets which entry was appended last."""
        self._tried = None

    def close(self) -> None:
        """Closes the source that the ledger reads from."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _take(self, message: Message) -> None:
        link = self.chain.take(message.offset, message.value)
        if link.trouble:
            self.troubles.append((link.offset, link.trouble))
        if link.counts and link.entry is not None and link.entry.model == self.model:
            self.state.apply(link.offset, link.entry)
        if self._heard is not None:
            self._heard(link)

    def _append(self, stage: Stage, kind: str, said: Mapping[str, Any]) -> Entry:
        entry = Entry(n=self.chain.n + 1, prev=self.chain.head, at=self._clock(), kind=kind, model=self.model, **said)
        value = write(ENTRY, write_entry(entry), self.keys.sign if self.keys.signs else None)
        self._tried = (entry, digest(value))
        with stage.transaction() as transaction:
            transaction.send(LEDGER.topic, value, partition=LEDGER.partition)
        deadline = time.monotonic() + SEEN_S
        while self.chain.n < entry.n:
            self.look()
            if self.chain.n < entry.n and time.monotonic() > deadline:
                raise StreamError(
                    f"entry {entry.n} of the ledger was written, but cannot be read after {SEEN_S:.0f} s; look at it "
                    "with `recdistill ledger` before you decide again"
                )
        return entry


class Writer:
    """The one writer, until another process becomes the writer."""

    def __init__(self, ledger: Ledger, stage: Stage) -> None:
        self._ledger, self._stage = ledger, stage

    def append(
        self,
        kind: str,
        *,
        who: str,
        why: str = "",
        version: str = "",
        content_hash: str = "",
        before: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Appends an entry.

        Raises:
            Fenced: Another process is the writer now. Nothing was written.
            StreamError: The log cannot be written.
        """
        said = {
            "who": who,
            "why": why,
            "version": version,
            "content_hash": content_hash,
            "before": before,
            "facts": dict(facts or {}),
        }
        return self._ledger._append(self._stage, kind, said)  # noqa: SLF001 - one part of the same thing


def newest_head(log: Log, keys: Keys) -> str:
    """The head of a log's ledger, read from its last messages. So nobody must read the whole ledger to note its head.

    Raises:
        StreamError: The log cannot be read.
    """
    if LEDGER.topic not in log.topics():
        return ""
    with closing(log.source([LEDGER])) as source:
        beginning, end = source.bounds(LEDGER)
        back = 64
        while True:
            start = max(beginning, end - back)
            source.seek({LEDGER: start})
            chain = Chain(keys)
            for message in _to_the_end(source):
                chain.take(message.offset, message.value)
            if chain.n or start == beginning:
                return chain.noted()
            back *= 64


def _to_the_end(source: Source) -> Iterator[Message]:
    return up_to(source, LEDGER, source.bounds(LEDGER)[1], READ)
