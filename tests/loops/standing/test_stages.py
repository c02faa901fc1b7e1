"""What a stage has still to read, also of messages with odd times."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from recdistill.loops.standing.stages import backlogs
from recdistill.stream import standard_topics
from recdistill.stream.embedded import EmbeddedLog


def test_a_message_without_a_time_does_not_wait_since_1970(tmp_path: Path) -> None:
    """Old clients of Kafka write -1 ms."""
    with closing(EmbeddedLog(tmp_path / "log.sqlite")) as log:
        log.create_topics(standard_topics())
        with closing(log.stage("product")) as stage, stage.transaction() as transaction:
            for topic, time_us in (("impressions", -1000), ("impressions", 7), ("rankings", 9)):
                transaction.send(topic, b"x", key=b"k", time_us=time_us)
        found = {(one.stage, one.topic): (one.behind, one.waits_since_us) for one in backlogs(log)}
    assert found == {("score", "impressions"): (2, 0), ("join", "rankings"): (1, 9), ("join", "feedback"): (0, 0)}
