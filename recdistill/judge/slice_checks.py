"""The gate's checks of slices. A good average can hide that some users get worse answers, and these checks show it.

There are two. First, no slice may show that the student is worse than the champion by more than is allowed. There are
several slices, so each is tested at its part of one error (Bonferroni). Second, each slice that the policy names must
show that it loses no more than is allowed. If such a slice is missing or small, there is not enough evidence.

It knows nothing of how slices are made.

Example:
    >>> FAMILY
    0.01
"""

from __future__ import annotations

from typing import Final

from recdistill.judge.bounds import Verdict, of_interval, quantile, share
from recdistill.judge.judgement import CHAMPION, MAIN, Judgement, SliceQuality
from recdistill.judge.outlook import outlook
from recdistill.judge.policy import Asked

FAMILY: Final = 0.01
"""The error of all slices together: a student as good as the champion is refused by them at most this often."""

_POWER: Final = 0.842
"""A loss that lies so many standard errors beyond the bound is seen four times in five."""

Found = tuple[str, Verdict, str]


def slices(judgement: Judgement, asked: Asked, level: float) -> list[Found]:
    """One check about all slices, and one for each slice that the policy names.

    Args:
        judgement: The results of the judge.
        asked: The policy.
        level: The error of this look.
    """
    named = [_named(judgement, name, asked, level) for name in asked.slices]
    if not asked.slice_loss:
        return named
    against = [one for one in judgement.slices if CHAMPION in one.apart]
    return [*([_worse(against, asked)] if against else []), *named]


def _worse(against: list[SliceQuality], asked: Asked) -> Found:
    worse, blind = [], []
    for one in against:
        apart, champion = one.apart[CHAMPION], one.metrics[CHAMPION][MAIN].mean
        lead = of_interval(apart)
        steps = quantile(FAMILY / len(against), lead.users)
        error = lead.var_student**0.5
        if lead.users > 1 and apart.mean + steps * error < 0 and apart.mean <= -asked.slice_loss * champion:
            worse.append(f"{one.name} {apart.mean:+.4f} of {champion:.4f} in {one.n:,} lists")
        elif lead.users < 2 or (steps + _POWER) * error > 2 * asked.slice_loss * champion:
            blind.append(f"{one.name} ({one.n:,} lists)")
    small = f"; too few lists to see a loss of {2 * asked.slice_loss:.0%}: {', '.join(blind)}" if blind else ""
    if worse:
        return ("slices", "refused", f"slices: the student is worse than the champion there: {', '.join(worse)}{small}")
    return (
        "slices",
        "passed",
        f"slices: in none of {len(against)} is the student shown to be worse than the champion{small}",
    )


def _named(judgement: Judgement, name: str, asked: Asked, level: float) -> Found:
    found = next((one for one in judgement.slices if one.name == name), None)
    title = f"slice {name}"
    if found is None or not found.n:
        have = ", ".join(one.name for one in judgement.slices if one.n) or "none"
        return (
            title,
            "more",
            f"{title}: the policy asks for it, and it was not judged; there are: {have}; not enough evidence yet",
        )
    if CHAMPION not in found.apart:
        return (title, "passed", f"{title}: there is no champion to compare with")
    apart, champion = found.apart[CHAMPION], found.metrics[CHAMPION][MAIN].mean
    # The slice keeps enough where apart + slice_loss × champion is above 0.
    shown = share(of_interval(apart, other=champion), -asked.slice_loss, level)
    text = (
        f"{title}: the student's lead over the champion is {apart.mean:+.4f} NDCG@10 in {found.n:,} lists (95% "
        f"interval {apart.low:+.4f} to {apart.high:+.4f}), at most {asked.slice_loss * champion:.4f} may be lost"
    )
    if shown.verdict == "more":
        missing = "" if shown.lists is None else f": {outlook(have=found.n, least=shown.lists, span_s=0.0)} lists of it"
        return (title, "more", f"{text}{missing}; not enough evidence yet")
    return (title, shown.verdict, text)
