"""A check made again from its sentence, against the check that the gate itself made."""

from __future__ import annotations

import msgspec
import pytest
from support.judgements import around, make_judgement

from recdistill.judge.gates import Check, checks
from recdistill.judge.judgement import CHAMPION, MAIN, Answers, Judgement, RuleShare, SliceQuality
from recdistill.judge.policy import Asked, Rule
from recdistill.judge.report import render
from recdistill.judge.said import told

VALUES = ["plain", "price:EUR", "Alien: Resurrection", "a: b: c", "ends with:", "two\nlines: here"]


def judged(value: str, apart: dict[str, float], share: float | None) -> Judgement:
    """A judgement with one slice and one rule that are named by the value."""
    metrics = {CHAMPION: {MAIN: around(0.1, 0.001)}}
    part = SliceQuality(
        name=f"item.title={value}",
        meaning="",
        n=500,
        metrics=metrics,
        apart={name: around(mean, 0.001) for name, mean in apart.items()},
    )
    rules = [] if share is None else [RuleShare(attribute="title", value=value, share=share)]
    return msgspec.structs.replace(make_judgement(), slices=[part], answers=Answers(lists=9, rules=rules))


@pytest.mark.parametrize("value", VALUES)
def test_every_check_gets_its_own_name_again(value: str) -> None:
    name = f"item.title={value}"
    asked = Asked(slices=[name, f"item.missing={value}"], rules=[Rule(attribute="title", value=value, most=0.5)])
    kinds: list[tuple[dict[str, float], float | None]] = [({}, None), ({CHAMPION: 0.0}, 0.1), ({CHAMPION: -0.09}, 0.9)]
    verdicts = set()
    for apart, share in kinds:
        made = checks(judged(value, apart, share), asked)
        names = {check.name for check in made}
        assert {f"slice {name}", f"slice item.missing={value}", f"rule title={value}"} < names
        assert [told(check.sentence, check.passed) for check in made] == made
        verdicts |= {check.verdict for check in made if check.name in (f"slice {name}", f"rule title={value}")}
    assert verdicts == {"passed", "refused", "more"}, "each kind of sentence was there"


def test_the_report_puts_the_whole_name_first() -> None:
    sentence = "rule title=Alien: Resurrection: a share of 0.900 of the first ten items has it"
    check = told(sentence, False)
    assert check == Check("rule title=Alien: Resurrection", "refused", sentence)
    shown = render(make_judgement(), [check])
    assert "<b>Rule title=alien: resurrection:</b> a share of 0.900 of the first ten items has it" in shown
