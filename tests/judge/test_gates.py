"""The gate: each check alone decides, and says why with its figures."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from support.judgements import around, make_judgement

from recdistill.config import GateSettings
from recdistill.judge.allowance import Try
from recdistill.judge.gates import checks, gate
from recdistill.judge.judgement import Answers, Latency, Part, RuleShare, Shipped, from_json
from recdistill.judge.policy import Asked, Rule
from recdistill.metrics import Interval

ASKED = Asked()


def device_file(kept, *, finite=True):
    return Shipped(lists=500, overlap=around(0.5, 0.1, 500), kept=kept, finite=finite, bytes=1)


def changed(**fields):
    return msgspec.structs.replace(make_judgement(), **fields)


def with_difference(name, interval):
    found = make_judgement()
    kept = [d if d.b != name else msgspec.structs.replace(d, interval=interval) for d in found.differences]
    return msgspec.structs.replace(found, differences=kept)


def without(name):
    found = make_judgement()
    return msgspec.structs.replace(found, contenders=[q for q in found.contenders if not q.name.startswith(name)])


@pytest.mark.parametrize("first", ["yesterday", "", "2026-01-02T03:04:05"])
def test_a_part_whose_times_cannot_be_read_only_costs_the_outlook(first: str) -> None:
    """A judgement may come from a file that somebody has edited. The last one has no time zone."""
    part = Part(learnt="", begins="", ends="", first=first, last="2026-01-03T03:04:05+00:00", lists="held-out")
    [check] = [one for one in checks(changed(lists=150, part=part), ASKED) if one.name == "lists"]
    assert check.sentence.startswith("lists: 150 held-out lists were judged, at least 200 are asked: 50 more; they are")


def test_what_holds_everywhere_passes_and_is_bound_to_its_content():
    judgement = make_judgement()
    evidence = gate(judgement, ASKED)
    assert evidence.passed is True
    assert evidence.content_hash == judgement.content_hash
    assert evidence.judged == 9_900
    assert len(evidence.reasons) == len(checks(judgement, ASKED)) == 7
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
        (with_difference("popularity", around(0.0, 0.0)), "popularity: the student's lead over it is .0.0000 NDCG@10"),
        (changed(differences=[]), "popularity: the student was not compared with it"),
        (without("popularity"), "popularity: it was not among the contenders"),
        (
            changed(parity={"golden answers": 1.1e-4, "towers": 0.0}),
            r"parity: largest difference 1.1e-04 \(golden answers\)",
        ),
        (changed(parity={}), "parity: the bundle has no golden answers"),
        (changed(parity={"golden answers": float("inf")}), "parity: largest difference inf"),
        (changed(shipped=None), "device: the device file was not judged"),
        (
            changed(shipped=device_file(around(0.92, 0.03, 500))),
            "device: the first ten of the device file keep 0.920 of the bundle's scores above drawn items, over 500 ",
        ),
        (
            changed(shipped=device_file(around(0.99, 0.01, 500), finite=False)),
            "device: the device file gave scores that are no numbers",
        ),
        (changed(parity={"towers": 0.0, "golden answers": float("nan")}), "parity: largest difference nan"),
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
        changed(retention=around(0.95, 0.0)),
        changed(lists=200),
        changed(parity={"golden answers": 1e-4}),
        changed(shipped=device_file(Interval(0.95, 0.9, 1.0, 500))),
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
    for asked in (Asked(retention=1.1), Asked(size_ratio=0.01), Asked(parity=0.0), Asked(most_bytes=97_999)):
        assert gate(judgement, asked).passed is False
    beaten = with_difference("popularity", around(-0.1, 0.01))
    assert gate(beaten, Asked(beats_popularity=False)).passed is True
    assert gate(judgement, Asked(beats=["itemknn"])).passed is True
    assert gate(judgement, Asked(beats=["itemknn", "svd"])).reasons == ["svd: the student was not compared with it"]


@pytest.mark.parametrize(
    ("asked", "known", "unknown", "said"),
    [
        (
            Asked(size_ratio=0.1),
            changed(sizes={"student": 100_000, "teacher": 1_000_000}),
            changed(sizes={"student": 5}),
            "size: the teacher's size is not known",
        ),
        (
            Asked(most_bytes=98_000, device=0),
            changed(),
            changed(shipped=None),
            "bytes: the size of the device file is not known",
        ),
        (
            Asked(processor_ms=0.5),
            changed(latency=Latency(p50_ms=1.0, p99_ms=2.0, n=9, processor_ms=0.5)),
            changed(),
            "processor: the processor time of an answer was not measured",
        ),
        (Asked(fresh_s=60), changed(age_s=60.0), changed(), "fresh: the bundle does not say"),
    ],
)
def test_where_there_is_a_limit_what_is_not_known_does_not_pass(asked, known, unknown, said):
    assert gate(known, asked).passed is True
    [reason] = gate(unknown, asked).reasons
    assert reason.startswith(said)
    assert gate(unknown, asked).verdict == "refused"


@pytest.mark.parametrize(
    ("asked", "judgement", "said"),
    [
        (
            Asked(size_ratio=0.1),
            changed(sizes={"student": 100_001, "teacher": 1_000_000}),
            "size: 100,001 bytes against the teacher's 1,000,000, a share of 0.100, at most 0.100 is allowed",
        ),
        (
            Asked(processor_ms=0.5),
            changed(latency=Latency(p50_ms=1.0, p99_ms=2.0, n=9, processor_ms=0.6)),
            "processor: an answer takes 0.600 ms of processor time at one thread, at most 0.500 is allowed",
        ),
        (
            Asked(fresh_s=60),
            changed(age_s=3601.0),
            (
                "fresh: the newest event that the student learnt from is 3,601 s older than the newest judged list, at "
                "most 60 s are allowed"
            ),
        ),
        (
            Asked(blocked=["i-7", "i-8"]),
            changed(answers=Answers(lists=900, blocked={"i-8": 3})),
            "blocked: items that gate.blocked names are in the first ten, of 900 answers: i-8 in 3",
        ),
        (
            Asked(rules=[Rule(attribute="adult", value="true", most=0.0)]),
            changed(answers=Answers(lists=9, rules=[RuleShare(attribute="adult", value="true", share=0.01)])),
            (
                "rule adult=true: a share of 0.010 of the first ten items has it, over 9 answers; from 0.000 to 0.000 "
                "is allowed"
            ),
        ),
    ],
)
def test_a_limit_that_is_passed_over_is_refused_in_one_sentence(asked, judgement, said):
    evidence = gate(judgement, asked)
    assert (evidence.verdict, evidence.reasons) == ("refused", [said])


def test_few_lists_are_not_enough_evidence_and_the_sentence_says_how_many_more():
    part = Part(learnt="e/0:1", begins="e/0:1", ends="e/0:9", first="2026-01-01T00:00:00Z", last="2026-01-02T00:00:00Z")
    wide = changed(retention=around(1.0, 0.05), lists=1000, part=part)
    evidence = gate(wide, ASKED)
    assert (evidence.passed, evidence.verdict) == (False, "not enough evidence")
    [reason] = evidence.reasons
    # One-sided at .0005 / 2, that of the next look: 3.48 errors of .0255, against a gap of .05.
    said = re.search(r"at this figure more lists would show it: ([\d,]+) more, which take about ([\d.]+) days", reason)
    assert said, reason
    assert int(said[1].replace(",", "")) == pytest.approx(10_000 * (3.481 * 0.05 / 1.96 / 0.05) ** 2 - 1000, rel=0.01)
    assert reason.endswith("not enough evidence yet")
    assert gate(changed(retention=around(0.8, 0.05)), ASKED).verdict == "refused"


def test_each_look_spends_less_and_the_evidence_keeps_what_was_spent():
    now = datetime(2026, 6, 1, tzinfo=UTC)
    one = gate(changed(), ASKED, now=now)
    assert (one.allotted, one.looks) == (0.05 / 50, 1)
    assert datetime.fromisoformat(one.began_at) == now
    before = Try(content_hash=one.content_hash, at=now, allotted=one.allotted, looks=one.looks)
    again = gate(changed(), ASKED, [before], now=now + timedelta(days=1))
    assert (again.allotted, again.looks, again.began_at) == (one.allotted, 2, one.began_at)
    errors = [list(checks(changed(), ASKED, tries, now=now))[1].sentence for tries in ([], [before])]
    assert errors[0].endswith(
        "this is look 1 at this candidate, the last 365 days had 0 others, and this look may spend 0.0005"
    )
    assert errors[1].endswith(
        "this is look 2 at this candidate, the last 365 days had 0 others, and this look may spend 0.00025"
    )


def test_its_defaults_are_those_of_the_settings() -> None:
    settings = msgspec.structs.asdict(GateSettings())
    assert settings.pop("pinned") == "", "a line of the report; nothing is asked of it"
    assert msgspec.structs.asdict(Asked()) == settings
    assert Asked.by(GateSettings(retention=0.5)) == Asked(retention=0.5)
