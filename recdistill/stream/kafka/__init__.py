"""A log on Apache Kafka (3.0 or later), through kafka-python 3.0.12 or later.

Reading goes by `assign` and `seek`, never by a consumer group and never with a reset. It is `read_committed`, so the
end is the last stable offset and aborted messages stay invisible. Values stay bytes, because a deserializer that raises
makes this client hang.

A transaction collects its messages in memory and talks to the broker when it commits: begin, send all, add the input
positions, commit. So a slow stage never holds a transaction open, which would hold back every reader, and leaving the
block with an exception costs nothing. The transactional id is the stage's name: opening a stage aborts what an older
one left half done, and fences it. The group of the same name holds the positions, and the note is the metadata of that
commit; lag dashboards see it like any other group. Each transaction also leaves a mark of its own in the group
`<name>.marks`: when a broker goes away in the middle, a new connection sees by it whether the commit went through, and
sends all of it again if not.

A broker that restarts is waited for, with a line in the log; what takes longer than two minutes becomes a StreamError.

A commit waits for all replicas in sync (`acks=all`). Kafka itself writes to the disk in its own time and relies on the
replicas: a single broker that loses its power may lose the last seconds. `witness` notices that afterwards.

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
