"""A log on Apache Kafka (3.0 or later), through kafka-python 3.0.12 or later.

A source reads with `assign` and `seek`, never with a consumer group, and never with a reset. It reads `read_committed`,
so the end is the last stable offset, and aborted messages are not seen. Values stay bytes: if a deserializer raises,
this client hangs.

A transaction collects its messages in memory and talks to the broker when it commits: begin, send all, add the input
positions, commit. An open transaction makes every reader wait, so a slow stage must not hold one open. An exception in
the block costs nothing.

The transactional id is the stage's name. Opening a stage aborts an unfinished transaction of an older one, and fences
it. The group of the same name holds the positions, so dashboards can show its lag. The note is the metadata of that
commit. Each transaction also leaves a mark in the group `<name>.marks`. If a broker goes away in the middle, a new
connection looks for the mark. If it is not there, the commit did not succeed, and all is sent again.

If a broker restarts, this waits for it and writes a line to the log. After two minutes it raises a StreamError.

A commit waits for all replicas in sync (`acks=all`). Kafka itself writes to the disk later, and relies on the replicas.
A single broker that loses its power may lose the last seconds. `witness` makes it possible to notice that afterwards.

It knows nothing of SQLite or what is inside a value.

Example:
    >>> KafkaLog("127.0.0.1:9092", options={"isolation_level": "read_uncommitted"})
    Traceback (most recent call last):
    ...
    recdistill.errors.ConfigError: log.options.isolation_level: recdistill sets this itself; remove it
"""

from __future__ import annotations

from recdistill.stream.kafka.log import KafkaLog
from recdistill.stream.kafka.source import KafkaSource
from recdistill.stream.kafka.stage import KafkaStage

__all__ = ["KafkaLog", "KafkaSource", "KafkaStage"]
