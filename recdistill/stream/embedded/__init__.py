"""The embedded log: one SQLite file that several processes read and write at once, with Kafka's behaviour.

A transaction collects its messages in memory and writes them in one SQLite transaction together with the input
positions, so the write lock is short and a SIGKILL at any moment leaves all of it or nothing. As in Kafka the end of a
transaction takes an offset in each partition that it wrote to, an aborted one leaves a gap, and a newer stage of a name
fences the older one.

In WAL mode with `synchronous=NORMAL` (the default) a killed process loses nothing that was committed; only a power
failure can take the last commits. `EmbeddedLog.sync` brings what is committed to the disk; it is called before a
position is saved outside the log. The option `synchronous = "FULL"` pays one flush a commit, so nothing is lost at all.

There is no retention by itself: `trim` removes old messages on request, `compact` those that have a newer one of their
key, and `remove` single ones.

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
