"""The gate: what a candidate must show before it may become the champion. Each check is one sentence with its figures.

It knows nothing of how anything was measured. The registry's own rules bind the evidence to the content hash.

Example:
    >>> Check("parity", True, "parity: largest difference 1.0e-06, at most 1.0e-04 is allowed").passed
    True
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from recdistill.judge.judgement import CHAMPION, NO_TEACHER, STUDENT, TEACHER, Judgement
from recdistill.judge.outlook import outlook
from recdistill.registry import Evidence

POPULARITY = ("popularity", "popularity_recent")


class Asked(Struct, frozen=True, kw_only=True):
    """What the gate asks for. The defaults are those of `[gate]`; docs/configuration.md says what each one means."""

    retention: float = 0.95
    beats_popularity: bool = True
    not_below_champion: bool = True
    parity: float = 1e-4
    size_ratio: float = 0.1
    min_lists: int = 200

    @classmethod
    def by(cls, section: object) -> Asked:
        """The same from anything that has these fields, such as a section of settings."""
        return cls(**{name: getattr(section, name) for name in cls.__struct_fields__})


class Check(NamedTuple):
    """One check: its name, whether it passed, and a sentence about it."""

    name: str
    passed: bool
    sentence: str


def checks(judgement: Judgement, asked: Asked) -> list[Check]:
    """Every check of the gate, in the order in which a person would read them."""
    found = [_lists(judgement, asked), _retention(judgement, asked)]
    if asked.beats_popularity:
        found += [_beats(judgement, name) for name in POPULARITY if judgement.quality(name) is not None] or [
            Check(
                "popularity", False, "popularity: it was not among the contenders, so nothing shows that it is beaten"
            )
        ]
    if asked.not_below_champion and judgement.quality(CHAMPION) is not None:
        found.append(_not_below(judgement))
    return [*found, _parity(judgement, asked), _size(judgement, asked)]


def gate(judgement: Judgement, asked: Asked) -> Evidence:
    """The evidence that the registry needs. It passes only when every check passes.

    If it passes, its reasons are the sentences of all checks. If not, they are the sentences of the failed checks.
    """
    found = checks(judgement, asked)
    passed = all(check.passed for check in found)
    figures = {
        f"{quality.name}/{metric}": interval.mean
        for quality in judgement.contenders
        for metric, interval in quality.metrics.items()
    }
    if judgement.retention is not None:
        figures["retention"] = judgement.retention.mean
    figures |= {f"bytes/{name}": float(size) for name, size in judgement.sizes.items()}
    figures |= {f"parity/{name}": value for name, value in judgement.parity.items()}
    figures |= {"latency/p50_ms": judgement.latency.p50_ms, "latency/p99_ms": judgement.latency.p99_ms}
    return Evidence(
        content_hash=judgement.content_hash,
        passed=passed,
        reasons=[check.sentence for check in found if passed or not check.passed],
        metrics=figures,
        made_at=judgement.made_at,
        judged=judgement.lists,
        lists=_which(judgement),
    )


def _which(judgement: Judgement) -> str:
    """Which lists were judged, also where no reason says it; empty where they do not come from a log."""
    part = judgement.part
    if part is None:
        return ""
    return f"{judgement.lists:,} lists {part.what}, of {part.first} to {part.last}"


def _lists(judgement: Judgement, asked: Asked) -> Check:
    passed = judgement.lists >= asked.min_lists
    how = " in the order of what was shown" if judgement.protocol == "shown" else ""
    part = judgement.part
    text = f"lists: {judgement.lists:,} held-out lists were judged{how}, at least {asked.min_lists:,} are asked"
    if not passed:
        span = 0.0 if part is None else _seconds(part.first, part.last)
        text += f": {outlook(have=judgement.lists, least=asked.min_lists, span_s=span)}"
    if part is not None and part.lists:
        text += f"; they are {part.what}"
    return Check("lists", passed, text)


def _seconds(first: str, last: str) -> float:
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def _retention(judgement: Judgement, asked: Asked) -> Check:
    kept = judgement.retention
    if kept is None:
        free = asked.retention == 0
        nothing = " (gate.retention = 0 asks for nothing)" if free else ""
        return Check("retention", free, f"retention: {judgement.retention_why or NO_TEACHER}{nothing}")
    passed = kept.mean >= asked.retention or asked.retention == 0
    counted = "above chance" if judgement.above_chance else "(counted without chance, as an older version did)"
    text = (
        f"retention: the student keeps {kept.mean:.3f} of the teacher's NDCG@10 {counted} on the "
        f"{judgement.retention_on} (95% interval {kept.low:.3f} to {kept.high:.3f}), "
        f"at least {asked.retention:.3f} is asked"
    )
    return Check("retention", passed, text)


def _beats(judgement: Judgement, name: str) -> Check:
    found = judgement.difference(STUDENT, name)
    if found is None:
        return Check(name, False, f"{name}: the student was not compared with it")
    text = (
        f"{name}: the student's lead over it is {found.mean:+.4f} NDCG@10 "
        f"(95% interval {found.low:+.4f} to {found.high:+.4f}), the whole interval must lie above zero"
    )
    return Check(name, found.low > 0, text)


def _not_below(judgement: Judgement) -> Check:
    found = judgement.difference(STUDENT, CHAMPION)
    if found is None:
        return Check(CHAMPION, False, "champion: the student was not compared with it")
    text = (
        f"champion: the student's lead over it is {found.mean:+.4f} NDCG@10 on the same lists "
        f"(95% interval {found.low:+.4f} to {found.high:+.4f}), the whole interval must not lie below zero"
    )
    return Check(CHAMPION, found.high >= 0, text)


def _parity(judgement: Judgement, asked: Asked) -> Check:
    if not judgement.parity:
        return Check(
            "parity", False, "parity: the bundle has no golden answers, so nothing shows that it was exported right"
        )
    where, worst = max(judgement.parity.items(), key=lambda pair: pair[1])
    text = f"parity: largest difference {worst:.1e} ({where}), at most {asked.parity:.1e} is allowed"
    return Check("parity", worst <= asked.parity, text)


def _size(judgement: Judgement, asked: Asked) -> Check:
    student, teacher = judgement.sizes.get(STUDENT), judgement.sizes.get(TEACHER)
    if not teacher or student is None:
        # A teacher behind an API has no size. There is nothing to check, and the sentence says so.
        return Check("size", True, "size: the teacher's size is not known, so it was not compared")
    ratio = student / teacher
    text = (
        f"size: {student:,} bytes against the teacher's {teacher:,}, a share of {ratio:.3f}, "
        f"at most {asked.size_ratio:.3f} is allowed"
    )
    return Check("size", ratio <= asked.size_ratio, text)
