"""The embedded log: one SQLite file that several processes read and write at once. It behaves as Kafka does.

A transaction collects its messages in memory. Then it writes them, with the input positions, in one SQLite transaction.
So the write lock is held for a short time only, and a SIGKILL at any moment leaves all of it or nothing. As in Kafka,
the end of a transaction takes an offset in each partition that it wrote to. An aborted transaction leaves a gap. A
newer stage fences an older one of the same name.

In WAL mode with `synchronous=NORMAL` (the default), a killed process loses no commit. Only a power failure can take the
last commits. `EmbeddedLog.sync` flushes all commits to the disk. It is called before a position is saved outside the
log. With the option `synchronous = "FULL"` each commit is flushed, so no commit is lost at all.

There is no automatic retention. `trim` removes old messages, `compact` those with a newer message of the same key, and
`remove` single ones.

It knows nothing of Kafka or what is inside a value.

Example:
    >>> import tempfile
    >>> from recdistill.stream.contract import TopicPartition
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(f"{folder.name}/log.sqlite")
    >>> log.create_topics({"items": 1}), log.topics()
    (['items'], {'items': 1})
    >>> stage = log.stage("copy", [TopicPartition("items", 0)])
    >>> stage.position() == {TopicPartition("items", 0): 0}
    True
    >>> stage.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

from recdistill.stream.embedded.log import EmbeddedLog
from recdistill.stream.embedded.source import EmbeddedSource
from recdistill.stream.embedded.stage import EmbeddedStage

__all__ = ["EmbeddedLog", "EmbeddedSource", "EmbeddedStage"]
