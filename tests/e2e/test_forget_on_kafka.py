"""On a real broker: a person who is forgotten, what the broker still keeps of them, and where everything stands."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
from support.small_shop import Shop, open_shop

from recdistill.config import LogSettings
from recdistill.records import Example, Feedback, Impression, Ranking, decode

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

USER = "user-3"
WEEK_S = 7 * 24 * 3600


@pytest.fixture
def shop(
    kafka_brokers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shop:
    settings = LogSettings(kind="kafka", brokers=kafka_brokers, prefix=f"t{uuid.uuid4().hex[:8]}.")
    return open_shop(tmp_path, monkeypatch, capsys, settings)


def theirs(shop: Shop) -> dict[str, int]:
    """How many records of the person each topic holds, by brute force."""
    found: dict[str, int] = {}
    ids = set()
    for topic, kind in (("impressions", Impression), ("rankings", Ranking), ("examples", Example)):
        for message in shop.read(topic):
            record = decode(kind, message.value)
            record = getattr(record, "ranking", record)
            impression = getattr(record, "impression", record)
            if impression.user == USER:
                ids.add(impression.id)
                found[topic] = found.get(topic, 0) + 1
    clicks = [decode(Feedback, message.value) for message in shop.read("feedback")]
    found["feedback"] = sum(click.impression_id in ids for click in clicks)
    return found


def test_what_a_broker_keeps_is_told_and_can_be_deleted_where_that_is_meant(shop: Shop) -> None:
    shop.write(lists=50, partitions=2)
    backlog = {(one["stage"], one["topic"]): one["behind"] for one in shop.json("status")["backlog"]}
    assert backlog["score", "impressions"] == 50
    shop("score --drain")
    shop("join --flush")
    found = shop.json("status")
    stands = {(one["stage"], one["topic"]): (one["behind"], one["began"]) for one in found["backlog"]}
    names = [("score", "impressions"), ("join", "rankings"), ("join", "feedback")]
    assert stands == dict.fromkeys(names, (0, True))
    assert [one["hop"] for one in found["hops"]] == ["scored"]

    before = theirs(shop)
    assert min(before.values()) > 0
    done = shop.json(f"forget --user {USER}")
    assert done["lists"] == before["impressions"]
    assert done["removed"] == done["others"] == {}
    left = {one["topic"]: one for one in done["left"]}
    assert {topic: left[topic]["records"] for topic in before} == before
    for topic in before:  # the broker keeps a week by default
        assert left[topic]["until_us"] / 1e6 == pytest.approx(time.time() + WEEK_S, abs=3600)
    assert done["tombstones"].keys() == {"checks"}
    newest = {message.key: message.value for message in shop.read("checks")}
    assert [key for key, value in newest.items() if value is not None and USER.encode() in value] == []
    assert theirs(shop) == before
    assert "until retention removes them, after" in shop(f"forget --user {USER}")

    impressions = len(shop.read("impressions"))
    done = shop.json(f"forget --user {USER} --delete-older")
    after = theirs(shop)
    assert after.get("impressions", 0) == after.get("rankings", 0) == 0
    assert sum(count for name, count in done["others"].items() if name.startswith("impressions")) > 0
    assert 0 < len(shop.read("impressions")) < impressions
    # Nobody has learnt from the examples yet; they stay for the student that is to come only as far as they are newer.
    assert "impressions" not in {one["topic"] for one in done["left"]}
