"""No record stops a stage: whatever lies in a topic, each stage ends well, and each record is used, or a dead letter.

Everything goes through the command line, in this process.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import world
from support.hostile import Hostile

from recdistill.bundle import Bundle
from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.loops import probe, teach
from recdistill.loops.feed import feed
from recdistill.records import DEAD_LETTERS, Candidate, Example, Feedback, Impression, Item, Ranking, codec, decode
from recdistill.serve import Recommender
from recdistill.stream import Log, open_log
from recdistill.stream.testing import everything
from references.students import NOW_US, make_student

FEATURES = """
[history]
length = 5
actions = ["click"]
[id]
capacity = 256
[item.genre]
kind = "category"
capacity = 32
[item.title]
kind = "text"
capacity = 256
[item.image]
kind = "vector"
size = 2
[context.hour]
kind = "category"
capacity = 24
"""
TEACHER = """
def score(lists):
    return [[float("nan") if n == 3 else float(len(c.item) + n) for n, c in enumerate(i.candidates)] for i in lists]
"""
SETTINGS = """
topics = { partitions = 2, lanes = 2 }
[teacher]
kind = "callable"
function = "odd_teacher:score"
[score]
wait_s = 0.05
[held_out]
most = 0
[join]
soft = "with_labels"
wait_s = 0.05
window_s = 5
labels = { click = 1, buy = 1000 }
[distil]
wait_s = 0.05
batch = 16
publish = false
[student]
dim = 4
hidden = 8
"""
Place = tuple[str, int, int]


@pytest.fixture(autouse=True)
def _in_a_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in os.environ if name.startswith("RECDISTILL")]:
        monkeypatch.delenv(name)
    Path("features.toml").write_text(FEATURES)
    Path("odd_teacher.py").write_text(TEACHER)
    Path("shop.toml").write_text(SETTINGS)
    monkeypatch.setenv("RECDISTILL_CONFIG", "shop.toml")


@pytest.fixture
def log(_in_a_shop: None) -> Iterator[Log]:
    assert main(["topics", "create"]) == 0
    with closing(open_log(LogSettings(path="recdistill-data/log.sqlite"))) as log:
        yield log


def run(capsys: pytest.CaptureFixture[str], *argv: str, codes: Sequence[int] = (0,)) -> dict[str, Any]:
    """Runs a verb that must end well, and returns its counts."""
    capsys.readouterr()
    code = main([*argv, "--json"])
    out, errors = capsys.readouterr()
    assert "Traceback" not in errors
    assert "should have explained" not in errors
    assert code in codes, errors[-2000:]
    found: dict[str, Any] = json.loads(out)
    return found


def letters(log: Log, stage: str) -> Counter[Place]:
    """The place of each dead letter of a stage, and how often it is there."""
    found: Counter[Place] = Counter()
    for message in everything(log, DEAD_LETTERS):
        said = {name: value.decode() for name, value in message.headers}
        if said["stage"] == stage:
            found[said["topic"], int(said["partition"]), int(said["offset"])] += 1
    return found


def places(log: Log, topic: str) -> set[Place]:
    return {(topic, message.tp.partition, message.offset) for message in everything(log, topic)}


def of(found: Counter[Place], topic: str) -> set[Place]:
    assert set(found.values()) <= {1}, "one letter for each record"
    return {place for place in found if place[0] == topic}


def write(log: Log, topic: str, values: Sequence[bytes | None]) -> None:
    """Writes values as somebody else's producer would. Examples go to the lanes in turn."""
    with closing(log.stage("somebody")) as stage, stage.transaction() as transaction:
        for n, value in enumerate(values):
            key = b"key-%d" % n if n % 3 or value is None else None
            transaction.send(topic, value, key=key, partition=n % 2 if topic == "examples" else None)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hostile_records_are_used_or_dead_letters_and_nothing_is_lost(
    log: Log, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    lists = world.impressions(60)
    feed(log, [*world.items(), *lists, *world.feedback(lists)])
    hostile = Hostile(seed, [item.id for item in world.items()])
    for topic in ("items", "impressions", "feedback", "rankings", "examples"):
        write(log, topic, hostile.values(topic, 200))
    later = world.impressions(80)[60:]
    feed(log, [*later, *world.feedback(later)])

    # The scorer: each impression is one ranking or one letter.
    counts = run(capsys, "score", "--drain")
    dead = of(letters(log, "score"), "impressions")
    scored = {
        ("impressions", message.tp.partition, int(offset))
        for message in everything(log, "rankings")
        if (offset := dict(message.headers).get("impression.offset")) is not None
    }
    assert not scored & dead
    assert scored | dead == places(log, "impressions")
    assert (counts["rankings"], counts["dead_letters"]) == (len(scored), len(dead))
    assert {f"imp-{n}" for n in range(80)} <= {(m.key or b"").decode() for m in everything(log, "rankings")}
    assert run(capsys, "score", "--drain").get("impressions", 0) == 0

    # The joiner: each ranking and each feedback is taken, or a letter, such as one whose time is far ahead.
    counts = run(capsys, "join", "--drain", "--flush", codes=(0, 8))
    dead_of_join = letters(log, "join")
    for topic in ("rankings", "feedback"):
        assert counts[topic] + len(of(dead_of_join, topic)) == len(places(log, topic))
    assert counts["dead_letters"] == dead_of_join.total()
    assert counts["examples"] == counts["rankings"]
    again = run(capsys, "join", "--drain", "--flush", codes=(0, 8))
    assert (again.get("examples", 0), again.get("dead_letters", 0)) == (0, 0)

    # The distiller: each example is learnt once, or a letter.
    counts = run(capsys, "distil", "--drain")
    dead = of(letters(log, "distil"), "examples")
    # One without a value holds nothing to lose: the joiner marks a silence so, and a forgotten person leaves it.
    empty = [message for message in everything(log, "examples") if message.value is None]
    assert counts["examples"] + len(dead) == len(places(log, "examples")) - len(empty)
    assert any("behind" in reason or "items ends at" in reason for reason in reasons(log, "distil"))
    again = run(capsys, "distil", "--drain")
    assert (again.get("examples", 0), again.get("dead_letters", 0)) == (0, 0)

    # Who only reads passes over what cannot be read.
    read = teach.labelled(log, window_s=5.0, labels={"click": 1.0, "buy": 1000.0})
    assert {f"imp-{n}" for n in range(80)} <= {example.ranking.impression.id for example in read}


def reasons(log: Log, stage: str) -> list[str]:
    said = [dict(message.headers) for message in everything(log, DEAD_LETTERS)]
    return [headers["error"].decode() for headers in said if headers["stage"] == stage.encode()]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_student().export(tmp_path_factory.mktemp("bundle") / "b", base_position=0)


def test_the_prober_passes_hostile_records_and_what_it_cannot_write(log: Log, bundle: Bundle) -> None:
    hostile = Hostile(7, [f"item-{n}" for n in range(30)])
    write(log, "impressions", hostile.values("impressions", 150))
    # With this history the answer is personal. The probe has longer candidates than there is room for.
    large = tuple(f"x{n:09}" for n in range(82_000))
    full = Impression(
        "full",
        NOW_US,
        history=tuple(world.Event(f"item-{n}", NOW_US - 9 + n, "click") for n in range(5)),
        exclude=large,
    )
    write(log, "impressions", [codec.write(full)])
    counts = probe.run(
        log,
        Recommender(bundle),
        share=1.0,
        k=200,
        per_s=1e9,
        wait_s=0.05,
        stop=threading.Event(),
        drain=True,
    )
    assert counts["impressions"] == 151
    known = sum(counts[name] for name in ("probes", "impersonal", "refused", "bad_records", "dead_letters"))
    origins = [decoded for message in everything(log, "impressions") if (decoded := tried(message.value)) is not None]
    made = [one for one in origins if one.id.endswith(".probe")]
    assert len(made) == counts["probes"]
    assert known <= 151, "each is one of these, or was not the product's own"


def tried(value: bytes | None) -> Impression | None:
    try:
        return decode(Impression, value)
    except Exception:  # noqa: BLE001 - it is about those that decode
        return None


# One by one, what stopped a stage for good


def test_a_price_as_a_value_and_a_weight_make_a_label_that_can_be_written(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = world.impressions(40)
    bought = [
        Feedback(f"b-{one.id}", one.id, one.candidates[0].item, "buy", 1e9, one.time_us + 1) for one in lists[:30]
    ]
    feed(log, [*world.items(), *lists, *bought])
    wrong = codec.write(Feedback("wrong", "imp-3", "item-1", "buy", 3e38, lists[3].time_us + 1))
    write(log, "feedback", [wrong])
    run(capsys, "score", "--drain")
    counts = run(capsys, "join", "--drain")
    assert counts["dead_letters"] == 1
    [reason] = reasons(log, "join")
    assert reason.startswith("DecodeError: not a feedback: value is 3.0000000")
    assert reason.endswith("e+38, not a number between -1,000,000,000 and 1,000,000,000")
    made = [decode(Example, message.value) for message in everything(log, "examples")]
    assert max(max(example.labels) for example in made) == pytest.approx(1e12)
    counts = run(capsys, "distil", "--drain")
    assert counts["examples"] == len(made)
    assert counts["bundles"] == 1, "its weights are finite"


def test_a_ranking_without_room_for_its_labels_is_a_dead_letter_of_the_joiner(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's own scorer may write one. The joiner goes on, and the others keep their lanes."""
    lists = world.impressions(30)
    feed(log, [*world.items(), *lists])
    run(capsys, "score", "--drain")
    candidates = tuple(Candidate(f"{n:010}") for n in range(50_000))
    large = Ranking(
        Impression("large", 3_000_000, candidates=candidates),
        "t",
        "1",
        "logit",
        scores=(1.0,) * 50_000,
        scored=(True,) * 50_000,
    )
    value = codec.write(large)
    assert 900_000 < len(value) < 1_000_000
    write(log, "rankings", [value])
    later = [world.Impression("later", 60_000_000, candidates=lists[0].candidates)]
    feed(log, later)
    run(capsys, "score", "--drain")
    counts = run(capsys, "join", "--drain", codes=(0, 8))
    assert counts["dead_letters"] == 1
    [reason] = reasons(log, "join")
    assert "cannot write this example: 1,1" in reason
    [letter] = everything(log, DEAD_LETTERS)
    assert letter.value == value, "it is there whole"
    lanes = Counter(message.tp.partition for message in everything(log, "examples"))
    assert counts["examples"] == 30
    assert lanes == {0: 15, 1: 15}
    assert run(capsys, "join", "--drain", codes=(0, 8)).get("dead_letters", 0) == 0


def test_one_impossible_stamp_is_a_dead_letter_and_a_log_full_of_them_is_an_error(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(log, [Item("item-1"), Item("item-2")])
    asked = Impression("r", 5, candidates=(Candidate("item-1"), Candidate("item-2")))

    def example(stamp: int) -> bytes:
        ranking = Ranking(asked, "t", "1", "logit", scores=(1.0, 0.0), scored=(True, True), catalogue_as_of=stamp)
        return codec.write(Example(ranking, labels=(1.0, 0.0), label_state="closed"))

    write(log, "examples", [example(3)] * 20 + [example(10**9), example(3)])
    counts = run(capsys, "distil", "--drain")
    assert (counts["examples"], counts["dead_letters"], counts["bundles"]) == (21, 1, 1)
    assert "with the catalogue as of 1000000000, but items ends at 3" in reasons(log, "distil")[0]
    write(log, "examples", [example(10**9)] * 300)
    capsys.readouterr()
    assert main(["distil", "--drain"]) == 4
    assert "but items ends at 3; the topic was made again or truncated" in capsys.readouterr().err


def test_a_probability_that_makes_infinite_weights_is_refused(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    lists = world.impressions(30)
    feed(log, [*world.items(), *lists])
    odd = {"impression": {"id": "odd", "time_us": 5, "candidates": [{"item": "item-1"}]}, "teacher_id": "t"}
    odd |= {"teacher_version": "1", "scale": "logit", "scores": [1.0], "scored": [True], "sampled": 1e-40}
    Path("odd.jsonl").write_text(json.dumps(odd) + "\n")
    capsys.readouterr()
    assert main(["import", "odd.jsonl", "--kind", "rankings"]) == 3
    assert "sampled is 1e-40, too small for a probability" in capsys.readouterr().err
    write(log, "rankings", [json.dumps(odd).encode()])
    run(capsys, "score", "--drain")
    assert run(capsys, "join", "--drain", codes=(0, 8))["dead_letters"] == 1
    counts = run(capsys, "distil", "--drain")
    assert counts["bundles"] == 1


def test_labels_of_a_list_without_any_logged_score_still_teach(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    lists = world.impressions(40)
    clicks = [Feedback(f"f-{one.id}", one.id, one.candidates[1].item, "click", 1.0, one.time_us + 1) for one in lists]
    feed(log, [*world.items(), *lists, *clicks])
    counts = run(capsys, "score", "--drain", "--set", "teacher.kind=logged", "--set", "score.most_missing=1")
    assert (counts["rankings"], counts["dead_letters"], counts["missing"]) == (40, 0, 240)
    counts = run(capsys, "join", "--drain")
    assert counts["labelled"] == counts["examples"] > 30
    assert run(capsys, "distil", "--drain")["examples"] == counts["examples"]
