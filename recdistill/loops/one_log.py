"""The log of a process that runs for months: whenever it is opened again, it must be the same one.

Somebody may remove the file of the log, restore another one, or point the address at another cluster. What a ranker
knows of the catalogue is a position in *this* log, and means nothing in another one.

It knows nothing of SQLite, Kafka or what the log holds.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from recdistill.stream import open_log, standard_topics
    >>> from recdistill.config import LogSettings
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = Path(folder.name) / "log.sqlite"
    >>> one = OneLog(lambda: open_log(LogSettings(path=str(file))) if file.exists() else None)
    >>> one.open() is None  # there is none yet
    True
    >>> made = open_log(LogSettings(path=str(file)))
    >>> _ = made.create_topics(standard_topics()); made.close()
    >>> one.open().close()
    >>> for part in Path(folder.name).iterdir():
    ...     part.unlink()
    >>> one.open()
    Traceback (most recent call last):
    recdistill.errors.WrongLog: the log that this process began with is gone; put it back, or restart this process
    >>> folder.cleanup()
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from recdistill.errors import WrongLog
from recdistill.stream import Log, Source, gone, made_again


class OneLog:
    """Opens a log, and refuses another one than the first. Threads may share it.

    Args:
        open_log: Opens the log; None: there is none.
    """

    def __init__(self, open_log: Callable[[], Log | None]) -> None:
        self._open = open_log
        self._cluster = ""
        self._topics: dict[str, str] = {}
        self._lock = threading.Lock()

    def open(self) -> Log | None:
        """The log, opened; None: there is none, and there was none before.

        Raises:
            WrongLog: It is gone, or it is another one.
            StreamError: It cannot be opened.
        """
        log = self._open()
        if log is None:
            if self._cluster:
                raise WrongLog("the log that this process began with is gone; put it back, or restart this process")
            return None
        try:
            self._check(log)
        except BaseException:
            log.close()
            raise
        return log

    def topic(self, log: Log, name: str) -> Source | None:
        """A reader of a topic, from its beginning; None: there is no such topic, and there was none before.

        Raises:
            WrongLog: The topic was deleted, or made again.
            StreamError: The log cannot be read.
        """
        if name not in log.topics():
            if name in self._topics:
                raise gone(name)
            return None
        source = log.source([name])
        now = source.identity().ids.get(name, "")
        with self._lock:
            before = self._topics.setdefault(name, now)
        if before != now:
            source.close()
            raise made_again(name)
        return source

    def _check(self, log: Log) -> None:
        topics = list(log.topics())
        if not topics:
            if self._cluster:
                raise WrongLog(
                    "the log that this process began with is replaced by one without topics; put it back, or restart "
                    "this process"
                )
            return
        with closing(log.source(topics[:1])) as source:
            cluster = source.identity().cluster
        with self._lock:
            self._cluster = self._cluster or cluster
            if cluster != self._cluster:
                raise WrongLog(
                    f"the log is {cluster!r} now, and this process began with {self._cluster!r}; put that one back, "
                    "or restart this process"
                )
