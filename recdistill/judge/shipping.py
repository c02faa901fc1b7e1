"""Asks what ships as a product would ask it. It compares device file and bundle, and looks at the items in answers.

It uses the very files that ship, and the code that serves them. It needs no labels.

It knows nothing of held-out labels or of verdicts.

Example:
    >>> shipped.__name__, answers.__name__
    ('shipped', 'answers')
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from recdistill import metrics
from recdistill.judge.contenders import BundleContender, DeviceContender, as_request
from recdistill.judge.figures import numbered_users
from recdistill.judge.judgement import Answers, RuleShare, Shipped
from recdistill.judge.slices import texts
from recdistill.records import Impression, Item

FIRST: Final = 10
COMPARED: Final = 500
"""At most so many requests compare the device file with the bundle: each asks for the whole catalogue."""

DRAWN: Final = 100
"""So many items are drawn at random for each request. They show what score an ordinary item has."""

LOOKED: Final = 2000
"""At most so many answers are checked for blocked items and attributes."""


def shipped(
    student: BundleContender, device: Path, requests: Sequence[Impression], *, seed: int, draws: int
) -> Shipped:
    """How alike the first ten items of the bundle and of its device file are.

    Items that came after the bundle was made are not in the device file. So they are taken out of the bundle's answer
    before the comparison. A request without a known item in its history gets popular items from an endpoint, but the
    device file has no list of popular items. Such requests are compared only where there are no others.

    Args:
        student: The bundle.
        device: The device file.
        requests: Requests of held-out lists.
        seed: Seed of the resamples.
        draws: How many resamples.

    Raises:
        BundleError: The file is not a valid device file.
    """
    file = DeviceContender(device)
    held = {item.id for item in student.recommender.bundle.items}
    known = [r for r in requests if any(event.item in held for event in r.history)] or requests
    asked = known[-COMPARED:]
    own = student.top(asked, 3 * FIRST)
    finite = True
    overlaps, kept = [], []
    ids, random = [item.id for item in student.recommender.bundle.items], np.random.default_rng(seed)
    for request, mine in zip(asked, own, strict=True):
        items, scores = file.answer(request, FIRST)
        finite &= bool(np.isfinite(scores).all())
        first = [item for item in mine if item in held][:FIRST]
        overlaps.append(len(set(first) & set(items)) / max(1, len(first)) if first else float(not items))
        kept.append(_kept(student, request, first, items, [ids[n] for n in random.integers(0, len(ids), DRAWN)]))
    both_B2 = np.stack([overlaps, kept], axis=1)
    alike, worth = metrics.intervals(both_B2, seed=seed, draws=draws, users=numbered_users(asked))
    return Shipped(
        lists=len(asked),
        overlap=alike,
        kept=worth,
        finite=finite,
        bytes=file.size,
    )


def _kept(
    student: BundleContender, request: Impression, own: Sequence[str], theirs: Sequence[str], drawn: Sequence[str]
) -> float:
    """Compares the items of the file with those of the bundle: both by their mean score above that of drawn items.

    The result is the file's mean divided by the bundle's. Where the bundle's items are the worse ones, because its
    index is wrong, the result is the bundle's mean divided by the file's.
    """
    asked = list(dict.fromkeys([*own, *theirs, *drawn]))
    answer = student.recommender.rank(as_request(request), asked)
    score = dict(zip(answer.items, answer.scores, strict=True))
    best, found, usual = (
        [score[item] for item in items if item in score] for items in (own, theirs, [*drawn, *own, *theirs])
    )
    if not best or not found:
        return float(bool(found) == bool(best))
    floor = float(np.mean(usual))
    low, high = sorted((float(np.mean(best)) - floor, float(np.mean(found)) - floor))
    return 1.0 if high <= 0 else low / high


def answers(
    student: BundleContender,
    requests: Sequence[Impression],
    items: Sequence[Item],
    *,
    blocked: Collection[str],
    rules: Collection[tuple[str, str]],
) -> Answers:
    """What the first ten places of the student's answers hold.

    Args:
        student: The bundle, with its live changes.
        requests: Requests of held-out lists.
        items: The catalogue, for the attributes.
        blocked: Items that must not be shown.
        rules: Attribute and value of each rule.
    """
    tops = student.top(requests[-LOOKED:], FIRST)
    stood = Counter(item for top in tops for item in set(top) if item in blocked)
    shown = Counter(item for top in tops for item in top)
    count = max(1, sum(shown.values()))
    attributes = {item.id: item.attributes for item in items if item.id in shown}
    shares = []
    for attribute, value in sorted(set(rules)):
        having = sum(n for item, n in shown.items() if value in texts(attributes.get(item, {}).get(attribute)))
        shares.append(RuleShare(attribute=attribute, value=value, share=having / count))
    return Answers(lists=len(tops), blocked=dict(stood), rules=shares)
