"""Reads from the ledger which versions were judged, and what became of them. The report draws it.

It knows nothing of how it is drawn.

Example:
    >>> from recdistill.ledger import State
    >>> history_of(State(), {})
    []
"""

from __future__ import annotations

from collections.abc import Mapping

from recdistill.judge import CHAMPION, CONTROL, STUDENT, Became, Judgement, Past, Spread
from recdistill.ledger import State
from recdistill.registry import Evidence


def figures_of(judgement: Judgement) -> dict[str, list[float]]:
    """The figures of a judgement that the ledger keeps: each is a mean and the ends of its 95% interval."""
    found = {
        "kept": judgement.retention,
        CHAMPION: judgement.difference(STUDENT, CHAMPION),
        "control": judgement.difference(STUDENT, CONTROL),
    }
    student = judgement.quality(STUDENT)
    if student is not None:
        found |= {name: student.metrics[name] for name in ("ndcg@10",) if name in student.metrics}
    return {name: [one.mean, one.low, one.high] for name, one in found.items() if one is not None}


def history_of(
    state: State,
    numbers: Mapping[str, str],
    now: tuple[Judgement, Evidence] | None = None,
) -> list[Past]:
    """The versions that were judged, each with the results of its last judgement. The oldest judgement comes first.

    Args:
        state: What the ledger says.
        numbers: Numbers of versions, by their content hash.
        now: A judgement that is not in the ledger yet, with its evidence.
    """
    served = {one.content_hash: one for one in state.changes if one.after and one.content_hash}
    withdrawn = {one.content_hash for one in state.changes if one.after in state.withdrawn}
    known = {one.content_hash: one.after for one in state.changes if one.after} | dict(numbers)

    def became(content_hash: str) -> Became:
        if content_hash and content_hash == state.champion_hash:
            return "serves"
        return "withdrawn" if content_hash in withdrawn else "served" if content_hash in served else ""

    found: dict[str, Past] = {}
    for one in state.judged:
        found.pop(one.content_hash, None)  # a later look moves it to the end
        found[one.content_hash] = Past(
            content_hash=one.content_hash,
            at=one.at,
            verdict=one.verdict,
            number=known.get(one.content_hash) or "",
            became=became(one.content_hash),
            figures={name: Spread(*values) for name, values in one.figures.items()},
            looks=one.looks,
        )
    if now is not None:
        judgement, evidence = now
        found.pop(judgement.content_hash, None)
        found[judgement.content_hash] = Past(
            content_hash=judgement.content_hash,
            at=judgement.made_at,
            verdict=evidence.verdict or ("passed" if evidence.passed else "refused"),
            number=known.get(judgement.content_hash) or "",
            became=became(judgement.content_hash),
            figures={name: Spread(*values) for name, values in figures_of(judgement).items()},
            looks=evidence.looks,
            this=True,
        )
    return list(found.values())
