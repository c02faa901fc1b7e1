"""The gate: what a candidate must show before it may become the champion. Each check is one sentence with its figures.

Each check has one of three verdicts: passed, refused, or not enough evidence. In the third case the sentence says how
many lists are missing, and how long it takes to collect them. A candidate passes when every check has passed. Not the
figure itself is compared with what is asked, but its bound (bounds.py), at the error that this look may spend
(allowance.py).

It knows nothing of how anything was measured. The registry's own rules bind the evidence to the content hash.

Example:
    >>> Check("parity", "passed", "parity: largest difference 1.0e-06, at most 1.0e-04 is allowed").passed
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from recdistill.judge import artefact_checks, slice_checks
from recdistill.judge.allowance import Allowed, Try, allowed
from recdistill.judge.bounds import Shown, Verdict, of_interval, proved, share
from recdistill.judge.judgement import CHAMPION, CHANCE, MAIN, NO_TEACHER, STUDENT, TEACHER, Judgement, Lead
from recdistill.judge.outlook import outlook
from recdistill.judge.policy import Asked
from recdistill.metrics import Interval
from recdistill.registry import Evidence

POPULARITY = ("popularity", "popularity_recent")

WORDS: Final[dict[Verdict, str]] = {"passed": "passed", "refused": "refused", "more": "not enough evidence"}
"""The verdicts in words."""

YET: Final = "; not enough evidence yet"
"""How the sentence of a check ends when its verdict is "not enough evidence"."""


class Check(NamedTuple):
    """One check: its name, its verdict, and a sentence about it."""

    name: str
    verdict: Verdict
    sentence: str

    @property
    def passed(self) -> bool:
        """Whether the verdict is "passed"."""
        return self.verdict == "passed"


def checks(
    judgement: Judgement, asked: Asked, tries: Sequence[Try] = (), *, now: datetime | None = None
) -> list[Check]:
    """Every check of the gate, in the order in which a person would read them."""
    return _checks(judgement, asked, _allowed(judgement, asked, tries, now))


def gate(judgement: Judgement, asked: Asked, tries: Sequence[Try] = (), *, now: datetime | None = None) -> Evidence:
    """The evidence that the registry needs. It passes only when every check passes.

    If the candidate passes, the reasons are the sentences of all checks. If not, they are the sentences of the checks
    that did not pass.

    Args:
        judgement: The results of the judge.
        asked: The policy.
        tries: The candidates that were judged before, also this one. Each has got a part of the error of a year.
        now: The time now. None: the clock's.
    """
    spends = _allowed(judgement, asked, tries, now)
    found = _checks(judgement, asked, spends)
    passed = all(check.passed for check in found)
    verdict: Verdict = (
        "refused" if any(check.verdict == "refused" for check in found) else "passed" if passed else "more"
    )
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
        verdict=WORDS[verdict],
        allotted=spends.allotted,
        looks=spends.look,
        began_at=spends.began.isoformat(timespec="seconds"),
    )


def _allowed(judgement: Judgement, asked: Asked, tries: Sequence[Try], now: datetime | None) -> Allowed:
    now = datetime.now(UTC) if now is None else now
    return allowed(tries, judgement.content_hash, now, a_year=asked.error_a_year, least=asked.tries_a_year)


def _checks(judgement: Judgement, asked: Asked, spends: Allowed) -> list[Check]:
    found = [_lists(judgement, asked), _error(asked, spends), _retention(judgement, asked, spends)]
    names = [name for name in POPULARITY if judgement.quality(name) is not None] if asked.beats_popularity else []
    if asked.beats_popularity and not names:
        missing = "popularity: it was not among the contenders, so nothing shows that it is beaten"
        found.append(Check("popularity", "refused", missing))
    found += [_beats(judgement, name, spends) for name in [*names, *asked.beats]]
    if judgement.quality(CHAMPION) is not None and (asked.not_below_champion or asked.champion):
        found.append(_champion(judgement, asked, spends))
    found += [Check(*one) for one in slice_checks.slices(judgement, asked, spends.level)]
    return [*found, *(Check(*one) for one in artefact_checks.artefact(judgement, asked))]


def _which(judgement: Judgement) -> str:
    """Which lists were judged. It is empty where the lists do not come from a log."""
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
        text += f": {outlook(have=judgement.lists, least=asked.min_lists, span_s=_span_s(judgement))}"
    if part is not None and part.lists:
        text += f"; they are {part.what}"
    return Check("lists", "passed" if passed else "more", text if passed else text + YET)


def _error(asked: Asked, spends: Allowed) -> Check:
    text = (
        f"error: a wrong promotion is allowed in {asked.error_a_year:.3g} of all years; this is look {spends.look} at "
        f"this candidate, the last 365 days had {spends.tries:,} others, and this look may spend {spends.level:.2g}"
    )
    return Check("error", "passed", text)


def _retention(judgement: Judgement, asked: Asked, spends: Allowed) -> Check:
    kept = judgement.retention
    if kept is None:
        free = asked.retention == 0
        nothing = " (gate.retention = 0 asks for nothing)" if free else ""
        why = f"retention: {judgement.retention_why or NO_TEACHER}{nothing}"
        return Check("retention", "passed" if free else "refused", why)
    lead = judgement.leads.get(TEACHER) or of_interval(kept, other=1.0)
    shown = share(lead, asked.retention, spends.level)
    counted = "above chance" if judgement.above_chance else "(counted without chance, as an older version did)"
    text = (
        f"retention: the student keeps {kept.mean:.3f} of the teacher's NDCG@10 {counted} on the "
        f"{judgement.retention_on} (95% interval {kept.low:.3f} to {kept.high:.3f}), "
        f"at least {asked.retention:.3f} is asked"
    )
    if asked.retention == 0:
        return Check("retention", "passed", text)
    return Check("retention", shown.verdict, text + _so(judgement, shown, lead, spends.level))


def _so(judgement: Judgement, shown: Shown, lead: Lead, level: float) -> str:
    """The end of a sentence about a share that must be kept: which share is shown, and how many lists are missing."""
    if shown.verdict == "refused":
        return ", and less is shown"
    told = f", and {proved(lead, level):.3f} is shown"
    if shown.verdict == "passed":
        return told
    return f"{told}{_more(judgement, shown)}{YET}"


def _more(judgement: Judgement, shown: Shown) -> str:
    """How many lists are missing, in words."""
    if shown.lists is None:
        return ""
    missing = outlook(have=judgement.lists, least=max(shown.lists, judgement.lists + 1), span_s=_span_s(judgement))
    what = "would show it" if shown.gap > 0 else "would refuse it"
    return f"; at this figure more lists {what}: {missing}"


def _beats(judgement: Judgement, name: str, spends: Allowed) -> Check:
    found = judgement.difference(STUDENT, name)
    if found is None:
        return Check(name, "refused", f"{name}: the student was not compared with it")
    shown = share(of_interval(found), 0.0, spends.level)
    text = (
        f"{name}: the student's lead over it is {found.mean:+.4f} NDCG@10 "
        f"(95% interval {found.low:+.4f} to {found.high:+.4f}), the whole interval must lie above zero"
    )
    if shown.verdict == "passed" and found.mean > 0:  # where both are equal in every list, nothing is above
        return Check(name, "passed", text)
    if shown.verdict == "refused" or found.mean <= 0:
        return Check(name, "refused", text)
    return Check(name, "more", f"{text}, at the error of this look{_more(judgement, shown)}{YET}")


def _champion(judgement: Judgement, asked: Asked, spends: Allowed) -> Check:
    """Asks for two things: the student is not shown to be worse, and is shown to keep enough of the champion's lead."""
    found = judgement.difference(STUDENT, CHAMPION)
    if found is None:
        return Check(CHAMPION, "refused", "champion: the student was not compared with it")
    text = (
        f"champion: the student's lead over it is {found.mean:+.4f} NDCG@10 on the same lists "
        f"(95% interval {found.low:+.4f} to {found.high:+.4f}), the whole interval must not lie below zero"
    )
    if asked.not_below_champion and found.high < 0:
        return Check(CHAMPION, "refused", text)
    if asked.champion == 0:
        return Check(CHAMPION, "passed", text)
    lead = judgement.leads.get(CHAMPION) or _lead_of(judgement, found)
    shown = share(lead, asked.champion, spends.level)
    text += f", and at least {asked.champion:.3f} of the champion's lead over chance must be kept"
    told = text + _so(judgement, shown, lead, spends.level)
    agreed = judgement.agreed
    if shown.verdict != "more" or agreed is None:
        return Check(CHAMPION, shown.verdict, told)
    # There are too few labels for a verdict. Agreement with the teacher needs no labels and varies less, so it decides.
    # What labels refuse was refused above.
    alike = share(agreed.lead, asked.champion, spends.level)
    if alike.verdict == "more":
        return Check(CHAMPION, "more", told)
    both = (
        f"{text}; labels do not decide it, so the agreement with the teacher does, over {agreed.lists:,} held-out "
        f"lists: Kendall's tau is {agreed.student.mean:.3f}, the champion's {agreed.champion.mean:.3f}, and "
        f"{proved(agreed.lead, spends.level):.3f} of it is shown to be kept"
    )
    return Check(CHAMPION, alike.verdict, both)


def _lead_of(judgement: Judgement, found: Interval) -> Lead:
    """Computes the leads from the difference: older versions of recdistill did not write the leads."""
    champion, chance = (
        0.0 if one is None else one.metrics[MAIN].mean for one in map(judgement.quality, (CHAMPION, CHANCE))
    )
    other = champion - chance
    whole = of_interval(found)
    return Lead(
        student=other + found.mean,
        other=other,
        var_student=whole.var_student,
        var_other=0.0,
        covariance=0.0,
        users=whole.users,
        lists=whole.lists,
    )


def _span_s(judgement: Judgement) -> float:
    part = judgement.part
    if part is None:
        return 0.0
    try:
        return (datetime.fromisoformat(part.last) - datetime.fromisoformat(part.first)).total_seconds()
    except (ValueError, TypeError):  # a judgement may come from a file
        return 0.0
