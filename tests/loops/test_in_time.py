"""The order in which messages of many partitions are taken."""

from __future__ import annotations

import random

from recdistill.loops.in_time import AHEAD, InTime
from recdistill.stream import TopicPartition

PARTITIONS = [TopicPartition("views", n) for n in range(3)] + [TopicPartition("clicks", 0)]


def test_partitions_in_order_come_out_in_the_order_of_all() -> None:
    chance = random.Random(0)
    queue: InTime[int] = InTime(PARTITIONS)
    times = sorted(chance.sample(range(1, 10_000), 500))
    for time_us in times:
        queue.put(chance.choice(PARTITIONS), time_us, time_us)
    assert [queue.pop()[1] for _ in range(len(queue))] == times


def test_each_partition_keeps_its_own_order_whatever_its_times_are() -> None:
    chance = random.Random(1)
    queue: InTime[tuple[TopicPartition, int]] = InTime(PARTITIONS)
    for n in range(400):
        tp = chance.choice(PARTITIONS)
        queue.put(tp, (tp, n), chance.choice([None, chance.randrange(1, 100)]))
        if n % 3 == 0:
            queue.pop()
    taken = [queue.pop() for _ in range(len(queue))]
    assert all(tp == one[0] for tp, one in taken)
    for tp in PARTITIONS:
        mine = [one[1] for where, one in taken if where == tp]
        assert mine == sorted(mine)
    assert all(queue.empty(tp) and queue.first(tp) is None for tp in PARTITIONS)


def test_one_wrong_time_holds_its_partition_not_back() -> None:
    one, two = PARTITIONS[:2]
    queue: InTime[str] = InTime([one, two])
    for n in range(2 * AHEAD):
        queue.put(one, f"one {n}", 10**15 if n == 3 else 10 + n)
        queue.put(two, f"two {n}", 10 + n)
    order = [queue.pop()[1] for _ in range(len(queue))]
    assert abs(order.index("one 3") - order.index("two 3")) <= 2
    assert abs(order.index("one 20") - order.index("two 20")) <= 2


def test_a_message_without_a_time_stands_where_the_one_before_it_stood() -> None:
    one, two = PARTITIONS[:2]
    queue: InTime[str] = InTime([one, two])
    queue.put(one, "first", 5)
    queue.put(one, "bad", None)
    queue.put(two, "last", 6)
    assert [queue.pop()[1] for _ in range(3)] == ["first", "bad", "last"]
