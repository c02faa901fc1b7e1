"""Ends the transactions that a broker has decided but never told its partitions about.

A transaction of Kafka ends in two steps. First its coordinator decides, and notes the decision in its own log. Then it
writes a marker into each partition, and readers go on past it. A broker that is stopped in between can note that the
second step is done although it is not. That was seen with Apache Kafka 4.3 where one broker has all partitions, as in a
first trial. After the restart the coordinator has nothing left to do. But the partitions wait for their markers for
ever: readers stop there without an error, and the offsets of the stage's group stay "unstable".

The way out is a transaction of the same producer id over the same partitions, which holds nothing. Its markers end the
old one, too. It must end as the coordinator had decided, so the decision is asked for before the producer id is taken
over.

It knows nothing of stages, positions or messages.

Example:
    >>> decision(TransactionState.COMPLETE_COMMIT), decision(TransactionState.PREPARE_ABORT), decision(None)
    (True, False, None)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka import TopicPartition as WirePartition
from kafka.admin import TransactionState
from kafka.errors import KafkaError, TransactionalIdNotFoundError

log_ = logging.getLogger(__name__)

_OFFSETS = "__consumer_offsets"


def decision(state: TransactionState | None) -> bool | None:
    """What a coordinator decided last: True is a commit, False an abort, None nothing."""
    if state in (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT):
        return True
    if state in (TransactionState.PREPARE_ABORT, TransactionState.COMPLETE_ABORT):
        return False
    return None


def decided(admin: KafkaAdminClient, transactional_id: str) -> bool | None:
    """Asks the coordinator for its last decision. Ask before the id is taken over: that forgets it.

    Raises:
        KafkaError: The coordinator does not answer.
    """
    try:
        found = admin.describe_transactions([transactional_id])
    except TransactionalIdNotFoundError:
        return None
    return decision(found[transactional_id].state) if transactional_id in found else None


def left_open(admin: KafkaAdminClient, producer_id: int, wires: Iterable[WirePartition]) -> list[WirePartition]:
    """The partitions that wait for the end of a transaction of this producer, among these and the offsets of groups.

    Raises:
        KafkaError: A broker does not answer. A user that may not ask about the offsets of groups gets no error.
    """
    found = admin.describe_producers(list(wires))
    try:
        # One after the other would be one request each: there are 50 of them by default.
        [topic] = admin.describe_topics([_OFFSETS])
        offsets = [WirePartition(_OFFSETS, one["partition_index"]) for one in topic["partitions"]]
        found |= admin.describe_producers(offsets)
    except (KafkaError, KeyError, ValueError) as error:
        log_.info("cannot ask about %s (%s)", _OFFSETS, error)
    return [
        wire
        for wire, state in found.items()
        for producer in state.active_producers
        if producer.producer_id == producer_id and producer.current_transaction_start_offset >= 0
    ]


def finish(producer: KafkaProducer, wires: Sequence[WirePartition], groups: Sequence[str], *, commit: bool) -> None:
    """Ends what hangs in these partitions and groups, by a transaction over them that holds nothing."""
    manager: Any = producer._transaction_manager  # noqa: SLF001 - the client has no public call that only adds partitions
    producer.begin_transaction()
    for wire in wires:
        if wire.topic != _OFFSETS:
            manager.maybe_add_partition_to_transaction(wire)
    for group in groups:
        producer.send_offsets_to_transaction({}, group)
    (producer.commit_transaction if commit else producer.abort_transaction)()


def producer_id(producer: KafkaProducer) -> int:
    """The number by which brokers know a producer."""
    return int(producer._transaction_manager.producer_id_and_epoch.producer_id)  # noqa: SLF001 - there is no public way
