"""Compares served lists with the orders of other contenders, and estimates what these orders would be worth.

Exploration never changes the first places of a list. A contender's order keeps these places as they were served, and
fills the other places with its best items. So only its order of the other places is estimated.

It knows nothing of pages, or of how a bundle is made.

Example:
    >>> from recdistill.records import Candidate, Impression, Ranking
    >>> shown = Impression("r", 5, candidates=(Candidate("a", None, 1.0), Candidate("b", None, 0.5)), origin="served")
    >>> one = Example(Ranking(shown, "t", "1", "logit", (0.0, 0.0), (True, True)), (0.0, 1.0), "closed")
    >>> beside([one], [["c", "b", "a"]]).matched_NT.tolist()
    [[True, False]]
    >>> beside([one], [["b", "c"]]).matched_NT.tolist()
    [[True, True]]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.errors import DataError
from recdistill.judge.contenders import BundleContender, misfits
from recdistill.judge.figures import numbered_users
from recdistill.judge.judgement import OrderValue, Served
from recdistill.judge.offpolicy import RARE, Logged, check_overlap, ips, snips
from recdistill.metrics import Interval
from recdistill.records import Example


def served_value(examples: Sequence[Example], contenders: Sequence[BundleContender]) -> Served | None:
    """What served lists were worth, and what the orders of some contenders would be worth. None: no list was served.

    Args:
        examples: Lists of any origin. Only lists count that were served and whose label window is over.
        contenders: The contenders whose orders are estimated.
    """
    served = [one for one in examples if one.ranking.impression.origin == "served" and one.label_state != "none"]
    served = [one for one in served if one.labels]
    if not served:
        return None
    shown = [[candidate.item for candidate in one.ranking.impression.candidates] for one in served]
    own = beside(served, shown)
    as_served = own._replace(chances_NT=np.ones_like(own.chances_NT))
    orders = [_value(contender, served) for contender in contenders]
    explored = int((own.where_NT & (own.chances_NT < RARE)).any(1).sum())
    value = ips(as_served)
    if not np.isfinite(value.low):  # one user alone says nothing of how sure the mean is
        value = Interval(value.mean, value.mean, value.mean, value.n, users=1)
    return Served(lists=len(served), explored=explored, value=value, orders=orders)


def _value(contender: BundleContender, served: Sequence[Example]) -> OrderValue:
    widest = max(len(one.labels) for one in served)
    # Served lists may be older than the feature specification of this bundle.
    if unfit := len(misfits(contender.recommender.bundle, served)):
        why = f"the contexts of {unfit:,} served lists do not fit it, so its order cannot be put beside them"
        return OrderValue(name=contender.name, why=why)
    try:
        requests = [one.ranking.impression for one in served]
        log = beside(served, contender.top(requests, 2 * widest))
        check_overlap(log)
        return OrderValue(name=contender.name, ips=ips(log), snips=snips(log))
    except DataError as e:
        return OrderValue(name=contender.name, why=str(e))


def beside(served: Sequence[Example], tops: Sequence[Sequence[str]]) -> Logged:
    """Puts another order beside served lists.

    Args:
        served: The served lists.
        tops: For each list the best items of the other order, the best first. There must be at least twice as many as
            the list has places.
    """
    count, width = len(served), max(len(one.labels) for one in served)
    matched_NT, where_NT = np.zeros((count, width), bool), np.zeros((count, width), bool)
    chances_NT, rewards_NT = np.ones((count, width)), np.zeros((count, width))
    for row, (one, top) in enumerate(zip(served, tops, strict=True)):
        shown = one.ranking.impression
        chances = [1.0 if c.propensity is None else c.propensity for c in shown.candidates]
        items = [candidate.item for candidate in shown.candidates]
        head = next((place for place, chance in enumerate(chances) if chance < 1), len(items))
        first = set(items[:head])
        wanted = [*items[:head], *(item for item in top if item not in first)][: len(items)]
        matched_NT[row, : len(wanted)] = [a == b for a, b in zip(items, wanted, strict=False)]
        where_NT[row, : len(wanted)] = True
        chances_NT[row, : len(items)] = chances
        rewards_NT[row, : len(items)] = one.labels
    return Logged(
        matched_NT=matched_NT,
        chances_NT=chances_NT,
        rewards_NT=rewards_NT,
        where_NT=where_NT,
        clusters_N=numbered_users([one.ranking.impression for one in served]),
    )
