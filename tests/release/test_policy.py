"""What decides, as a table: evidence to verdict, and which bundles are kept."""

from __future__ import annotations

import itertools
import random

import pytest

from recdistill.registry import Evidence, Held
from recdistill.release import may_promote, to_drop

A, B = "a" * 64, "b" * 64


def found(content_hash: str, passed: bool, *reasons: str) -> Evidence:
    return Evidence(
        content_hash=content_hash, passed=passed, reasons=list(reasons), metrics={}, made_at="2026", judged=1
    )


@pytest.mark.parametrize(
    ("evidence", "allowed", "reasons"),
    [
        (None, False, ["version 7 has no evidence; judge it first (`recdistill evaluate`)"]),
        (found(A, True, "fine"), True, ["fine"]),
        (found(A, False, "retention", "parity"), False, ["retention", "parity"]),
        (found(A, False), False, ["the gate did not pass"]),
        (found(B, True, "fine"), False, [f"the evidence is about {B[:12]}, version 7 is {A[:12]}"]),
        (found(B, False, "parity"), False, [f"the evidence is about {B[:12]}, version 7 is {A[:12]}", "parity"]),
    ],
)
def test_evidence_gives_a_verdict(evidence: Evidence | None, allowed: bool, reasons: list[str]) -> None:
    verdict = may_promote(evidence, A, "7")
    assert (verdict.allowed, verdict.reasons) == (allowed, reasons)


@pytest.mark.parametrize("keep", [0, 1, 2, 5])
def test_what_is_kept(keep: int) -> None:
    """Against the rule said in other words: a bundle goes when `keep` of its own kind are newer."""
    for seed in range(50):
        chance = random.Random(seed)
        steps = itertools.count(1)
        held = [
            Held(
                content_hash=f"{n:064x}",
                made_at=f"2026-01-{n + 1:02}",
                number=str(n) if chance.random() < 0.7 else None,
                aliases=["champion"] if chance.random() < 0.2 else [],
                promoted=next(steps) if chance.random() < 0.4 else None,
            )
            for n in range(chance.randrange(0, 20))
        ]
        chance.shuffle(held)

        def kept(each: Held, everyone: list[Held] = held) -> bool:
            if each.aliases:
                return True
            if each.promoted is not None:
                return sum(not o.aliases and (o.promoted or 0) > each.promoted for o in everyone) < keep
            rivals = (o for o in everyone if not o.aliases and o.promoted is None)
            return sum(o.made_at > each.made_at for o in rivals) < keep

        assert set(to_drop(held, keep)) == {each.content_hash for each in held if not kept(each)}
