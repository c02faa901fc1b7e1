"""The gate: each check alone decides, and says why with its figures."""

from __future__ import annotations

import re

import msgspec
import pytest
from support.judgements import around, make_judgement

from recdistill.config import GateSettings
from recdistill.judge.gates import Asked, checks, gate
from recdistill.judge.judgement import from_json

ASKED = Asked()


def changed(**fields):
    return msgspec.structs.replace(make_judgement(), **fields)


def with_difference(name, interval):
    found = make_judgement()
    kept = [d if d.b != name else msgspec.structs.replace(d, interval=interval) for d in found.differences]
    return msgspec.structs.replace(found, differences=kept)


def without(name):
    found = make_judgement()
    return msgspec.structs.replace(found, contenders=[q for q in found.contenders if not q.name.startswith(name)])


def test_what_holds_everywhere_passes_and_is_bound_to_its_content():
    judgement = make_judgement()
    evidence = gate(judgement, ASKED)
    assert evidence.passed is True
    assert evidence.content_hash == judgement.content_hash
    assert evidence.judged == 9_900
    assert len(evidence.reasons) == len(checks(judgement, ASKED)) == 6
    assert evidence.metrics["student/ndcg@10"] == 0.1031
    assert evidence.metrics["retention"] == 1.027
    assert all(isinstance(value, float) for value in evidence.metrics.values())


@pytest.mark.parametrize(
    ("judgement", "said"),
    [
        (
            changed(retention=around(0.9499, 0.01)),
            "keeps 0.950 of the teacher's NDCG@10 above chance on the whole catalogue",
        ),
        (changed(retention=None), "there is no teacher to compare with"),
        (
            changed(retention=None, retention_why="the teacher is not above chance: its lead is +0.0010"),
            "retention: the teacher is not above chance: its lead is .0.0010",
        ),
        (
            with_difference("popularity", around(0.003, 0.004)),
            "popularity: the student's lead over it is .0.0030",
        ),
        (with_difference("popularity_recent", around(-0.1, 0.004)), "popularity_recent: .* -0.1040 to -0.0960"),
        (changed(differences=[]), "popularity: the student was not compared with it"),
        (without("popularity"), "popularity: it was not among the contenders"),
        (
            changed(parity={"golden answers": 1.1e-4, "towers": 0.0}),
            r"parity: largest difference 1.1e-04 \(golden answers\)",
        ),
        (changed(parity={}), "parity: the bundle has no golden answers"),
        (changed(parity={"golden answers": float("inf")}), "parity: largest difference inf"),
        (
            changed(sizes={"student": 100_001, "teacher": 1_000_000}),
            "size: 100,001 bytes against the teacher's 1,000,000",
        ),
        (changed(lists=199), "lists: 199 held-out lists were judged, at least 200"),
    ],
)
def test_one_failing_check_fails_the_gate_and_only_what_failed_is_given(judgement, said):
    evidence = gate(judgement, ASKED)
    assert evidence.passed is False
    assert any(re.search(said, reason) for reason in evidence.reasons), evidence.reasons
    passing = {check.sentence for check in checks(judgement, ASKED) if check.passed}
    assert passing.isdisjoint(evidence.reasons)
    assert len(passing) + len(evidence.reasons) == len(checks(judgement, ASKED))


@pytest.mark.parametrize(
    "judgement",
    [
        changed(retention=around(0.95, 0.2)),
        changed(lists=200),
        changed(parity={"golden answers": 1e-4}),
        changed(sizes={"student": 100_000, "teacher": 1_000_000}),
        changed(sizes={"student": 1}),
    ],
)
def test_bounds_belong_to_what_passes(judgement):
    assert gate(judgement, ASKED).passed is True


def test_an_old_judgement_is_read_and_says_how_it_counted():
    """Judgements of format 1 know neither chance nor protocols. Their figures still hold."""
    old = msgspec.to_builtins(make_judgement())
    for name in ("protocol", "protocol_why", "retention_why", "above_chance", "part"):
        del old[name]
    old["contenders"] = [q for q in old["contenders"] if q["name"] != "chance"]
    read = from_json(msgspec.json.encode(old))
    (kept,) = [check for check in checks(read, ASKED) if check.name == "retention"]
    assert kept.passed
    assert "keeps 1.027 of the teacher's NDCG@10 (counted without chance, as an older version did)" in kept.sentence
    assert read.protocol == "catalogue"


@pytest.mark.parametrize("kept", [None, around(-0.2, 0.1)])
def test_a_retention_of_0_asks_for_nothing(kept):
    found = changed(retention=kept, retention_why="the teacher is not above chance")
    assert gate(found, Asked(retention=0.0)).passed is True
    assert gate(found, Asked(retention=1e-9)).passed is False


def test_the_gate_says_when_lists_were_judged_as_they_were_shown():
    shown = checks(changed(protocol="shown"), ASKED)
    assert "held-out lists were judged in the order of what was shown" in shown[0].sentence


def test_settings_decide():
    judgement = make_judgement()
    for asked in (Asked(retention=1.1), Asked(size_ratio=0.01), Asked(parity=0.0)):
        assert gate(judgement, asked).passed is False
    beaten = with_difference("popularity", around(-0.1, 0.01))
    assert gate(beaten, Asked(beats_popularity=False)).passed is True


def test_a_size_that_is_not_known_is_said():
    (size,) = [c for c in checks(changed(sizes={"student": 5}), ASKED) if c.name == "size"]
    assert size == ("size", True, "size: the teacher's size is not known, so it was not compared")


def test_its_defaults_are_those_of_the_settings() -> None:
    assert msgspec.structs.asdict(Asked()) == msgspec.structs.asdict(GateSettings())
    assert Asked.by(GateSettings(retention=0.5)) == Asked(retention=0.5)
