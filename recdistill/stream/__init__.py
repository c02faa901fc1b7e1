"""Logs: all data between two processes goes through a log. Here are the contracts, both kinds of log, and the lanes.

`open_log` opens the log that the settings name. All else that a stage needs is in the contracts. Kafka's client is
imported only when a Kafka log is opened.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = open_log(LogSettings(path=f"{folder.name}/log.sqlite"))
    >>> log.create_topics({"impressions": 1})
    ['impressions']
    >>> stage = log.stage("import")
    >>> with stage.transaction() as transaction:
    ...     transaction.send("impressions", b"bytes of a record", key=b"impression-1")
    >>> source = log.source(["impressions"])
    >>> [message.value for message in source.read()]
    [b'bytes of a record']
    >>> source.position() == {TopicPartition("impressions", 0): 2}  # the end of the transaction took offset 1
    True
    >>> source.close(); stage.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recdistill.stream.contract import (
    TICK,
    Left,
    Log,
    LogIdentity,
    Message,
    Position,
    Source,
    Stage,
    TopicPartition,
    Transaction,
    check_identity,
    is_tick,
    log_time,
    suggest,
)
from recdistill.stream.cut import Cut, cut_at
from recdistill.stream.lanes import LanePosition, Lanes
from recdistill.stream.letters import Delivery, Outgoing, dead_letter, deliver
from recdistill.stream.look import say_look_now
from recdistill.stream.made import MadeBundle, announce, check_topic, made_bundles, read_made, write_made
from recdistill.stream.names import OUTSIDE, outside
from recdistill.stream.partitioner import partition_for
from recdistill.stream.place import PLACES, Place, read_place, write_position, write_time
from recdistill.stream.placed import event_time_us, place_at
from recdistill.stream.problems import gone, made_again
from recdistill.stream.standard import (
    BUNDLES,
    CHECKS,
    HELD_OUT,
    ITEMS,
    LEDGER,
    LOOK_NOW,
    STANDARD_CONFIGS,
    standard_topics,
)
from recdistill.stream.up_to import up_to

if TYPE_CHECKING:
    from recdistill.config import LogSettings

__all__ = [
    "BUNDLES",
    "CHECKS",
    "HELD_OUT",
    "ITEMS",
    "LEDGER",
    "LOOK_NOW",
    "OUTSIDE",
    "PLACES",
    "STANDARD_CONFIGS",
    "TICK",
    "Cut",
    "Delivery",
    "LanePosition",
    "Lanes",
    "Left",
    "Log",
    "LogIdentity",
    "MadeBundle",
    "Message",
    "Outgoing",
    "Place",
    "Position",
    "Source",
    "Stage",
    "TopicPartition",
    "Transaction",
    "announce",
    "check_identity",
    "check_topic",
    "cut_at",
    "dead_letter",
    "deliver",
    "event_time_us",
    "gone",
    "is_tick",
    "log_time",
    "made_again",
    "made_bundles",
    "open_log",
    "outside",
    "partition_for",
    "place_at",
    "read_made",
    "read_place",
    "say_look_now",
    "standard_topics",
    "suggest",
    "up_to",
    "write_made",
    "write_position",
    "write_time",
]


def open_log(settings: LogSettings, stop: Callable[[], bool] = lambda: False) -> Log:
    """Opens the log that the settings name.

    Args:
        settings: The section `[log]`.
        stop: Whether the process was told to stop. Then a broker that is silent is not waited for any longer.

    Raises:
        ConfigError: An option that this kind of log does not have.
        StreamError: The file cannot be opened, or no broker answers.
    """
    if settings.kind == "kafka":
        from recdistill.stream.kafka import KafkaLog

        return KafkaLog(settings.brokers, prefix=settings.prefix, options=settings.options, stop=stop)
    from recdistill.stream.embedded import EmbeddedLog

    return EmbeddedLog(settings.path, prefix=settings.prefix, options=settings.options)
