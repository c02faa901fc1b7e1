"""The freshness of each hop agrees with planted times: that of the event, and that at which the hop was passed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from support import world
from support.serving import running, wait_for
from support.small_shop import Shop, prepare

from recdistill.config import LogSettings, load_settings
from recdistill.hops import Counts
from recdistill.records import Example, decode

SETTINGS = """
[teacher]
kind = "callable"
function = "support.world:by_hash"
[held_out]
least = 0.3
most = 0.3
[join]
soft = "at_once"
window_s = 5
[student]
dim = 4
hidden = 8
[distil]
batch = 16
threads = 1
export_beside = false
[judge]
protocol = "shown"
[gate]
retention = 0
beats_popularity = false
min_lists = 10
device = 0
[rank]
port = 0
follow_s = 0.05
[trial]
on = false
[log]
path = "log.sqlite"
"""

AGES_S = (900, 300)
"""How old the oldest and the newest list are when they are written."""


@pytest.mark.slow
def test_each_hop_says_how_old_the_newest_event_was_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path, monkeypatch, SETTINGS)
    shop = Shop(tmp_path, capsys, LogSettings(path="log.sqlite"))
    shop("topics create")
    shop.take_in("items", "items", world.items())
    planted_us = time.time_ns() // 1000
    begin_us, end_us = (planted_us - age * 1_000_000 for age in AGES_S)
    lists = world.impressions(150)
    moved = {one.id: begin_us + (end_us - begin_us) * n // (len(lists) - 1) for n, one in enumerate(lists)}
    lists = [msgspec.structs.replace(one, time_us=moved[one.id], history=()) for one in lists]
    clicks = world.feedback(lists, late=0.0)
    shop.take_in("lists", "impressions", lists)
    shop.take_in("clicks", "feedback", clicks)

    passed: dict[str, tuple[float, float]] = {}

    def does(line: str, *hops: str) -> None:
        began_s = time.time()
        shop(line)
        passed.update(dict.fromkeys(hops, (began_s, time.time())))

    does("score --drain", "scored")
    shop("join --flush")
    does("distil --drain", "learnt", "exported")
    does("promote --loop --drain", "judged", "promoted")
    began_s = time.time()
    with running(load_settings()) as (_, counts):
        assert isinstance(counts, Counts)
        hops = counts.hops
        wait_for(lambda: "served" in hops, 60)
    passed["served"] = (began_s, time.time())

    learnt_us = max(
        example.ranking.impression.time_us
        for example in (decode(Example, message.value) for message in shop.read("examples"))
        if example.label_state != "labels"
    )
    said = {one["hop"]: (one["event_us"], one["took_s"]) for one in shop.json("status")["hops"]}
    said["served"] = (hops["served"].newest_us, (hops["served"].at_us - hops["served"].newest_us) / 1e6)
    assert said.keys() == passed.keys()
    assert said["scored"][0] == end_us  # the newest list of all
    for hop, (event_us, took_s) in said.items():
        assert event_us == (end_us if hop == "scored" else learnt_us), hop
        earliest_s, latest_s = (moment - event_us / 1e6 for moment in passed[hop])
        assert earliest_s - 1 <= took_s <= latest_s + 1, hop
        assert took_s >= AGES_S[1] - 1, hop
    assert hops["served"].sum_s == pytest.approx(said["served"][1] * hops["served"].count, abs=1)
