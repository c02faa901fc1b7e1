"""Which protocol suits which lists, and that the choice is said."""

from __future__ import annotations

import random

import pytest

from recdistill.judge.protocol import choose
from recdistill.records import Candidate, Example, Impression, Ranking


def lists(lengths, clicks):
    made = []
    for n, (length, count) in enumerate(zip(lengths, clicks, strict=True)):
        shown = Impression(id=f"{n}", time_us=n, candidates=tuple(Candidate(item=f"i{c}") for c in range(length)))
        ranking = Ranking(shown, "t", "1", "logit", scores=(0.0,) * length, scored=(False,) * length)
        made.append(Example(ranking, labels=(1.0,) * count + (0.0,) * (length - count), label_state="closed"))
    return made


def news(count=100):
    """As MIND shows news: lists of very different lengths with a click or two."""
    draw = random.Random(0)
    lengths = [draw.randrange(2, 120) for _ in range(count)]
    return lists(lengths, [1 if n % 3 else min(2, length) for n, length in enumerate(lengths)])


@pytest.mark.parametrize(
    ("examples", "catalogue", "protocol", "why"),
    [
        (news(), 23_754, "shown", "with clicks among what was shown"),
        (news(), 2_000, "catalogue", "no small part"),
        (lists([64] * 100, [1] * 100), 8_687, "catalogue", "64 candidates and one liked: they look drawn"),
        (lists([10] * 100, [1, 2] * 50), 8_687, "shown", "have 10 candidates or fewer, of 8,687 items"),
        (lists([1] * 100, [1] * 100), 8_687, "catalogue", "few lists have both"),
        (lists([8] * 100, [0] * 100), 8_687, "catalogue", "few lists have both"),
        ([], 10, "catalogue", "few lists have both"),
    ],
)  # fmt: skip
def test_the_lists_decide(examples, catalogue, protocol, why):
    found = choose(examples, catalogue)
    assert found.protocol == protocol
    assert why in found.why


@pytest.mark.parametrize("asked", ["catalogue", "shown"])
def test_the_settings_decide_first(asked):
    assert choose(news(), 23_754, asked) == (asked, "the settings ask for it")
