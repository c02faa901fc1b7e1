"""Holding a part of the log back, as a person does it: learn up to a place, judge on the rest, try other students."""

from __future__ import annotations

import re
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import world
from support.small_shop import Shop, open_stocked

from recdistill.config import load_settings
from recdistill.loops import wire
from recdistill.loops.until import learnt_part
from recdistill.records import Candidate, Example, Impression, Ranking, encode
from recdistill.stream import cut_at, open_log, read_place
from recdistill.stream.embedded import EmbeddedLog

LISTS = world.impressions(200)
CUT_US = LISTS[120].time_us
"""Lists are a second apart, from 1970-01-01T00:00:01Z on."""


def arrive(shop: Shop, name: str, first: int, last: int) -> None:
    """Some of the lists come."""
    begin = 0 if first == 0 else LISTS[first].time_us
    end = LISTS[last].time_us if last < len(LISTS) else 2**62
    shop.arrive(name, LISTS[first:last], [one for one in world.feedback(LISTS) if begin <= one.time_us < end])


@pytest.fixture(name="shop")
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return open_stocked(tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_several_students_learn_one_part_and_are_judged_on_the_other(shop: Shop) -> None:
    arrive(shop, "all", 0, 200)
    told = shop("distil --until 1970-01-01T00:02:01Z --set distil.passes=2")
    position = re.search(r"learnt: up to (examples/0:\d+) \(lists before 1970-01-01T00:02:01Z\)", told)
    assert position, told
    assert "what lies behind it is left to judge on: `recdistill evaluate`" in told
    first = shop.learnt()
    examples = first.manifest.provenance["examples"]
    assert examples == 120, "the lists before the 121st second"

    told = shop(f"distil --until {position[1]} --set student.dim=8 --set distil.directory=wide")
    assert f"learnt: up to {position[1]};" in told
    wide = shop.learnt("wide")
    assert wide.manifest.provenance["examples"] == examples
    assert wide.manifest.provenance["positions"] == first.manifest.provenance["positions"]

    text = shop("evaluate")
    assert f"learnt: up to {position[1]}\njudged: {position[1]} up to examples/0:" in text
    parts = [shop.json(f"evaluate --set distil.directory={d}")["part"] for d in ("recdistill-data/student", "wide")]
    assert parts[0] == parts[1]
    assert parts[0]["begins"] == position[1]
    assert parts[0]["first"] >= "1970-01-01T00:02:01"
    both = shop.json(f"evaluate --beside {wide.path}")
    assert both["part"] == parts[0]
    assert f"beside {wide.path.name}" in [each["name"] for each in both["contenders"]]


@pytest.mark.slow
def test_what_is_learnt_is_what_a_log_that_ends_there_gives(shop: Shop) -> None:
    arrive(shop, "early", 0, 120)
    shop("distil --drain --set distil.passes=2")
    alone = shop.learnt()
    arrive(shop, "late", 120, 200)
    learnt = alone.manifest.provenance["positions"]["lanes"]["offsets"][0]
    shop(f"distil --until {learnt} --set distil.passes=2 --set distil.directory=again")
    assert shop.learnt("again").content_hash == alone.content_hash
    # The same student goes on later, in two steps or in one: a position is a place, however it was reached.
    shop("distil --until @150 --set distil.passes=2 --set distil.directory=again")
    assert 120 < shop.learnt("again").manifest.provenance["examples"] + 6 <= 155
    assert "examples" not in shop.json("distil --until @150 --set distil.passes=2 --set distil.directory=again")


@pytest.mark.slow
def test_stopped_and_started_again_it_learns_the_same_part(shop: Shop) -> None:
    """Stopped in the first pass, at its end and in the second one, and told the place in other words."""
    arrive(shop, "all", 0, 200)
    shop("distil --until @120 --set distil.passes=3")
    whole = shop.learnt()
    position = whole.manifest.provenance["positions"]["lanes"]["offsets"][0]
    more = {"RECDISTILL__DISTIL__PASSES": "3", "RECDISTILL__DISTIL__DIRECTORY": "parts"}
    settings = load_settings(Path("shop.toml"), more)
    steps = 0
    with closing(open_log(settings.log)) as log:
        places = [cut_at(log, read_place(text)).position for text in (str(position), "1970-01-01T00:02Z")]
    for limit in (3, 5, 4, 7, 1000):
        stop, made = threading.Event(), Counter[str]()

        def watch(done: int, total: int | None, stop: Any = stop, made: Any = made, limit: int = limit) -> None:
            if made["steps"] >= limit:
                stop.set()

        wire.distil(settings, stop, False, made, watch, until=places[limit % 2])
        steps += made["steps"]
    assert steps == whole.manifest.provenance["step"] == 24
    assert shop.learnt("parts").content_hash == whole.content_hash


@pytest.mark.slow
def test_many_lanes_have_one_place(shop: Shop) -> None:
    """The place of a time names each lane. Typed again, it is the same place, also for another student."""
    shop("topics create --set log.path=lanes.sqlite --set topics.lanes=3")
    settings = shop.folder / "shop.toml"
    settings.write_text('[log]\npath = "lanes.sqlite"\n' + settings.read_text())
    shop("import items.jsonl --kind items")
    arrive(shop, "all", 0, 200)
    told = shop("distil --until @121")
    position = re.search(r"learnt: up to (examples/0:\d+,examples/1:\d+,examples/2:\d+) \(lists before", told)
    assert position, told
    first = shop.learnt()
    assert first.manifest.provenance["examples"] == 120
    shop(f"distil --until {position[1]} --set distil.directory=again")
    assert shop.learnt("again").content_hash == first.content_hash
    assert shop.json("evaluate")["part"]["begins"] == position[1]
    shop("distil --until 60 --set distil.directory=third", code=2)
    assert "write examples/0:OFFSET,examples/1:OFFSET,examples/2:OFFSET" in shop.errors


@pytest.mark.slow
def test_right_after_a_drain_the_judge_says_exactly_what_to_do(shop: Shop) -> None:
    arrive(shop, "all", 0, 200)
    shop("distil --drain")
    shop("evaluate", code=3)
    said = " ".join(shop.errors.split())
    assert "there is no labelled example after those that this bundle learnt from (it learnt up to examples/0:" in said
    commands = re.findall(r"`recdistill ([^`]*)`", said)
    assert [command.split()[0] for command in commands] == ["distil", "evaluate"]
    for command in commands:
        text = shop(command)
    judged = int(re.match(r"(\d+) held-out lists", text)[1])  # type: ignore[index]
    assert judged > 10


@pytest.mark.slow
def test_the_judged_part_can_end_too(shop: Shop) -> None:
    arrive(shop, "all", 0, 200)
    shop("distil --until 1970-01-01T00:01:40Z")
    whole, part = shop.json("evaluate"), shop.json("evaluate --until 1970-01-01T00:02:20Z")
    assert part["part"]["last"] < "1970-01-01T00:02:20" < whole["part"]["last"]
    assert part["lists"] < whole["lists"]
    assert part["part"]["begins"] == whole["part"]["begins"]
    shop("evaluate --until @100", code=3)
    assert "and before --until @100 (it learnt up to examples/0:" in shop.errors
    assert "give a later place, or leave --until out" in shop.errors


@pytest.mark.slow
def test_nobody_is_judged_on_what_the_other_bundle_learnt(shop: Shop) -> None:
    arrive(shop, "all", 0, 200)
    shop("distil --until @100")
    shop("distil --until @150 --set distil.directory=more")
    more = shop.learnt("more")
    alone, both = shop.json("evaluate"), shop.json(f"evaluate --beside {more.path}")
    assert alone["part"]["first"] < "1970-01-01T00:02:30" <= both["part"]["first"]
    assert (both["part"]["learnt"], both["part"]["begins"]) == ("examples/0:99", "examples/0:149")
    shop("distil --drain --set distil.directory=all")
    shop(f"evaluate --beside {shop.learnt('all').path}", code=3)
    assert "up to which another bundle learnt" in shop.errors


@pytest.mark.slow
def test_a_teacher_that_has_seen_the_judged_part_is_said(shop: Shop) -> None:
    """Its figures are far too good: it has learnt what was clicked there."""
    linear = "--set teacher.kind=linear"
    arrive(shop, "all", 0, 200)
    shop("distil --until @120")
    shop(f"teach --kind linear {linear}")
    mind = "the teacher learnt from lists up to 1970-01-01T00:03:20Z, and lists from 1970-01-01T00:02:0"
    text = shop(f"evaluate {linear} --report seen.html")
    assert f"mind: {mind}" in text
    assert mind in (shop.folder / "seen.html").read_text()
    (advice,) = re.findall(r"`recdistill (teach [^`]*)`", text)
    shop(f"{advice} {linear}")
    assert "mind:" not in shop(f"evaluate {linear}")
    (shop.folder / "recdistill-data" / "teacher.taught.json").write_text("[1]")
    assert "mind:" not in shop(f"evaluate {linear}"), "a note that nobody can read says nothing"


@pytest.mark.slow
def test_two_bundles_of_one_name_are_told_apart(shop: Shop) -> None:
    arrive(shop, "all", 0, 200)
    for directory in ("recdistill-data/student", "one", "two"):
        shop(f"distil --until @120 --set distil.directory={directory}")
    paths = [shop.learnt(directory).path for directory in ("one", "two")]
    found = shop.json(f"evaluate --beside {paths[0]} --beside {paths[1]}")
    assert {f"beside {path}" for path in paths} < {each["name"] for each in found["contenders"]}


@pytest.mark.many
@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("@100000", 3, "no example has a list of that time or later (the latest list is of 1970-01-01T00:0"),
        (
            "2019-11-13",
            3,
            "so nothing would be left to judge on; give an earlier time, or learn all of it with --drain",
        ),
        ("@0", 3, "no example comes before that place (examples/0:0), so there is nothing to learn"),
        ("0", 3, "no example comes before that place"),
        ("999999", 4, "examples/0 holds the offsets 0 to "),
        ("1573603200", 4, "write a time in seconds as @SECONDS"),
        ("impressions/0:5", 2, "does not say the offset of examples/0; write examples/0:OFFSET"),
        ("yesterday", 2, "'yesterday' is no place in a log: write a time"),
        ("80%", 2, "is no place in a log"),
    ],
)
def test_a_place_that_makes_no_sense_is_one_sentence(shop: Shop, place: str, code: int, said: str) -> None:
    if not (shop.folder / "recdistill-data" / "student").exists():
        arrive(shop, "all", 0, 40)
    shop(f"distil --until {place}", code=code)
    assert said in " ".join(shop.errors.split())
    assert shop.errors.count("error:") == 1
    assert not (shop.folder / "recdistill-data" / "student" / "bundles").exists()


@pytest.mark.slow
def test_a_student_that_has_learnt_more_is_not_turned_back(shop: Shop) -> None:
    arrive(shop, "all", 0, 200)
    shop("distil --drain")
    before = shop.learnt().content_hash
    shop("distil --until @100", code=6)
    assert "this student has learnt up to examples/0:" in shop.errors
    assert "start a new student in another distil.directory" in shop.errors
    assert shop.learnt().content_hash == before


def test_one_list_with_a_wrong_time_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A list of 2099 stands third. All others are of 1970, so a time in 1970 gives a place far too early."""
    log = EmbeddedLog(str(tmp_path / "log.sqlite"))
    log.create_topics({"examples": 1})
    stage = log.stage("joiner")
    times = [1, 2, 4_070_908_800, *range(3, 60)]
    with stage.transaction() as transaction:
        for time_s in times:
            shown = Impression(id=f"i{time_s}", time_us=time_s * world.SECOND, candidates=(Candidate(item="a"),))
            ranking = Ranking(shown, "t", "1", "logit", scores=(1.0,), scored=(True,))
            transaction.send("examples", encode(Example(ranking, labels=(1.0,), label_state="closed")))
    found = learnt_part(log, read_place("@40"))
    assert "learnt: up to examples/0:2 (lists before 1970-01-01T00:00:40Z)" in found.sentence
    (warned,) = caplog.messages
    assert "37 of the next 58 examples have earlier lists, so a list with a wrong time may stand before" in warned
    caplog.clear()
    assert learnt_part(log, read_place("4")).position.offsets == (4,)
    assert not caplog.messages
    stage.close()
    log.close()
