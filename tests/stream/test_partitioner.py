"""Keys go where Kafka's own clients put them; the helpers of the contract."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import StreamError, WrongLog
from recdistill.stream import LogIdentity, check_identity, standard_topics
from recdistill.stream.contract import expand
from recdistill.stream.partitioner import murmur2, partition_for

partitioner = pytest.importorskip("kafka.partitioner.default")


@given(st.binary(max_size=70))
def test_murmur2_is_that_of_the_reference_client(data: bytes) -> None:
    assert murmur2(data) == partitioner.murmur2(data)


@given(st.binary(max_size=40), st.integers(1, 200))
def test_the_partition_is_that_of_the_reference_client(key: bytes, count: int) -> None:
    class Cluster:
        def topics(self) -> list[str]:
            return ["t"]

        def partitions_for_topic(self, _topic: str) -> set[int]:
            return set(range(count))

        def available_partitions_for_topic(self, _topic: str) -> set[int]:
            return set(range(count))

    expected = partitioner.DefaultPartitioner().partition("t", key, key, b"", b"", Cluster())
    assert partition_for(key, count) == expected


def test_murmur2_of_known_words() -> None:
    # From the unit tests of Kafka's Java client (UtilsTest.testMurmur2), as signed numbers.
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {word: (murmur2(word) ^ 1 << 31) - (1 << 31) for word in known} == known


def test_standard_topics_are_what_the_loop_needs() -> None:
    assert standard_topics(3, 2) == {
        "items": 1,
        "impressions": 3,
        "rankings": 3,
        "feedback": 3,
        "examples": 2,
        "bundles": 1,
        "dead-letters": 1,
        "checks": 1,
        "held-out": 1,
        "ledger": 1,
        "look-now": 1,
    }
    for counts in ((0, 1), (1, 0), (-1, 1)):
        with pytest.raises(StreamError, match="at least 1"):
            standard_topics(*counts)


@pytest.mark.parametrize(
    ("actual", "sentence"),
    [
        (LogIdentity("other", {"a": 2}, {"a": "x"}), "this log is 'other', but the saved position is for log 'c'"),
        (LogIdentity("c", {"a": 3}, {"a": "x"}), "topic 'a' has 3 partitions, but the saved position is for 2"),
        (LogIdentity("c", {"b": 2}, {}), "topic 'a' of the saved position .* is not in this log"),
        (LogIdentity("c", {"a": 2}, {"a": "y"}), "topic 'a' has id y, but the saved position is for id x"),
    ],
)
def test_another_log_is_refused_with_both_values(actual: LogIdentity, sentence: str) -> None:
    saved = LogIdentity("c", {"a": 2}, {"a": "x"})
    check_identity(saved, saved)
    check_identity(saved, LogIdentity("c", {"a": 2, "b": 1}))
    with pytest.raises(WrongLog, match=sentence):
        check_identity(saved, actual)


def test_unknown_topics_get_a_hint() -> None:
    with pytest.raises(StreamError, match=r"'exampels' does not exist .*did you mean examples\?"):
        expand(["exampels"], {"examples": 1})
