"""Two rules: whether a version may be promoted, and which bundles are kept. Both only compute from facts.

They know nothing of MLflow, logs or files: the caller collects the facts and does what the verdict says.

Example:
    >>> may_promote(None, "ab" * 32, "7").reasons
    ['version 7 has no evidence; judge it first (`recdistill evaluate`)']
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from recdistill.registry import Evidence, Held


class Verdict(Struct, frozen=True):
    """A decision with its reasons."""

    allowed: bool
    reasons: list[str]


def may_promote(evidence: Evidence | None, content_hash: str, number: str) -> Verdict:
    """Whether the evidence allows a promotion.

    There must be evidence, it must be about exactly this content, and it must have passed the gate.

    Args:
        evidence: The evidence of the judge. None: nobody has judged the version.
        content_hash: Content hash of the version's bundle.
        number: Number of the version, for the reasons.
    """
    if evidence is None:
        return Verdict(False, [f"version {number} has no evidence; judge it first (`recdistill evaluate`)"])
    reasons = []
    if evidence.content_hash != content_hash:
        reasons.append(f"the evidence is about {evidence.content_hash[:12]}, version {number} is {content_hash[:12]}")
    if not evidence.passed:
        reasons += evidence.reasons or ["the gate did not pass"]
    return Verdict(False, reasons) if reasons else Verdict(True, list(evidence.reasons))


def to_drop(held: Sequence[Held], keep: int) -> list[str]:
    """Content hashes of the bundles that are not kept, oldest first.

    These are kept:

    - every version that has an alias: champion, previous, candidate, and any alias that a person has set;
    - the `keep` versions that were promoted last;
    - the `keep` newest bundles of all others: not judged yet, refused, or passed but not promoted.

    Args:
        held: All bundles that the registry holds.
        keep: How many of each kind. 0: only those with an alias stay.
    """
    free = sorted((each for each in held if not each.aliases), key=lambda each: (each.made_at, each.content_hash))
    others = [each for each in free if each.promoted is None]
    promoted = sorted((each for each in free if each.promoted is not None), key=lambda each: each.promoted or 0)
    return [each.content_hash for each in [*_but_last(promoted, keep), *_but_last(others, keep)]]


def _but_last(held: Sequence[Held], keep: int) -> Sequence[Held]:
    # Not `held[:-keep]`: with 0 that is empty.
    return held[: max(0, len(held) - keep)]
