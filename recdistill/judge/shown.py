"""The protocol "rank what was shown": each contender orders the candidates of each labelled list.

It suits a stream such as news: people saw a few items of a large catalogue and clicked some of them. Nobody knows what
they would have clicked among the other items. Three simple orders are added to the contenders: chance, the order in
which the list was shown, and popularity up to that moment. The metrics are those of MIND: AUC, MRR, NDCG@5 and NDCG@10
of each list. Where scores are equal, a metric is its mean over all orders of these items (`recdistill.judge.tied`).

A list is judged when at least one of its candidates was liked and at least one was not. A candidate that a contender
does not know comes last. Where the teacher cannot be asked again, its scores in the examples are used. Then all
contenders are judged only on candidates that the teacher has scored.

It knows nothing of thresholds, pictures or the other protocol.

Example:
    >>> METRICS
    ('ndcg@10', 'ndcg@5', 'mrr', 'auc')
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from recdistill import metrics
from recdistill.bundle import Bundle
from recdistill.errors import DataError
from recdistill.judge import tied
from recdistill.judge.baselines import Contender
from recdistill.judge.contenders import TeacherContender, misfits
from recdistill.judge.figures import Floats, Measured, Values, numbered_users, percentiles, slice_qualities
from recdistill.judge.judgement import CHANCE, LOGGED, STUDENT, TEACHER, Agreement, Disagreement
from recdistill.judge.learnt import Learnt, Train, learnt
from recdistill.judge.slices import field_slices, item_slices, user_slices
from recdistill.judge.titles import titles_of
from recdistill.records import Example, Impression

Progress = Callable[[str, int, int], None]

METRICS = ("ndcg@10", "ndcg@5", "mrr", "auc")
UNKNOWN = "candidates that the bundle does not hold (the student puts them last)"
_POPULARITY = ("popularity", "popularity_recent")
_CELLS = 2_000_000  # numbers of one padded block: 16 MB of float64
_COMPARED = 2000
_SHOWN = 6
_TOP = 10


@dataclass(frozen=True)
class _Lists:
    """The lists that are judged. B lists; P is the largest number of liked candidates in a list."""

    requests: list[Impression]
    examples: list[Example]
    places_BP: NDArray[np.int64]
    labels_BP: Floats
    taught: list[Floats] | None

    def only(self, rows: Sequence[int]) -> _Lists:
        """The lists with these numbers."""
        return _Lists(
            requests=[self.requests[n] for n in rows],
            examples=[self.examples[n] for n in rows],
            places_BP=self.places_BP[list(rows)],
            labels_BP=self.labels_BP[list(rows)],
            taught=None if self.taught is None else [self.taught[n] for n in rows],
        )


def shown_lists(
    bundle: Bundle,
    held_out: Sequence[Example],
    contenders: Sequence[Contender],
    train: Train,
    *,
    fields: Sequence[str] = (),
    seed: int,
    draws: int,
    progress: Progress | None = None,
) -> Measured:
    """Measures all contenders.

    Args:
        bundle: The bundle.
        held_out: Examples that nobody has learnt from.
        contenders: The student first. No two have the same name. Popularity is not among them: it is counted here.
        train: The lists that were learnt. Popularity and new items are counted from them.
        fields: Fields that give more slices: see `slices.field_slices`.
        seed: Seed of the resamples.
        draws: How many resamples.
        progress: Called as `progress(what, done, total)` after each contender.

    Raises:
        DataError: No list can be judged.
    """
    skipped: Counter[str] = Counter()
    asked = next((one for one in contenders if isinstance(one, TeacherContender)), None)
    lists = _hold(held_out, bundle, skipped, logged=asked is None)
    known = learnt(train)
    seconds: dict[str, float] = {}
    processor: dict[str, float] = {}
    scores: dict[str, list[Floats]] = {}
    ranked = [one for one in contenders if one is not asked and one.name not in _POPULARITY]
    ranked = [*([] if asked is None else [asked]), *ranked]
    for done, contender in enumerate(ranked):
        begun, worked = time.perf_counter(), time.process_time()
        found = contender.scores(lists.requests)
        seconds[contender.name] = time.perf_counter() - begun
        processor[contender.name] = time.process_time() - worked
        if contender is asked:
            lists, found = _answered(lists, found, skipped)
        scores[contender.name] = found
        if progress is not None:
            progress(contender.name, done + 1, len(ranked))
    if lists.taught is not None:
        scores[TEACHER] = lists.taught
    if unknown := sum(int(np.isnan(each).sum()) for each in scores[STUDENT]):
        skipped[UNKNOWN] = unknown
    scores |= _plain(lists, known)
    names = [name for name in (STUDENT, TEACHER, CHANCE, LOGGED, *_POPULARITY) if name in scores]
    scores = {name: scores[name] for name in [*names, *(name for name in scores if name not in names)]}

    def measure(rows: NDArray[np.int64], labels_BP: Floats) -> Values:
        return {name: _measure(lists, of, rows, labels_BP) for name, of in scores.items()}

    values = measure(np.arange(len(lists.requests)), lists.labels_BP)
    number = {item.id: n for n, item in enumerate(bundle.items)}
    relevant_BP = _numbered(lists, number)
    counts_N = known.liked(list(number))
    events_B = np.array([len(r.history) for r in lists.requests], np.int64)
    parts = [*user_slices(events_B), *item_slices(relevant_BP, counts_N)]
    parts += field_slices(fields, lists.requests, relevant_BP, dict(enumerate(bundle.items)))
    users_B = numbered_users(lists.requests)
    tau_B, compared = _alike(scores)
    tau = None
    if tau_B is not None:
        [tau] = metrics.intervals(tau_B[:, None], seed=seed, draws=draws, users=users_B[compared])
    keeps = None
    if TEACHER in values:
        keeps = (values[STUDENT]["ndcg@10"], values[TEACHER]["ndcg@10"], values[CHANCE]["ndcg@10"])
    return Measured(
        requests=lists.requests,
        values=values,
        behaviour={},
        relevant_popularity=float(percentiles(counts_N)[relevant_BP[relevant_BP >= 0]].mean()),
        slices=slice_qualities(parts, lists.labels_BP, measure, seed=seed, draws=draws, users_B=users_B),
        agreement=Agreement(tau=tau),
        keeps=keeps,
        keeps_on="shown lists",
        disagreements=[] if tau_B is None else _disagreements(lists, scores, tau_B, compared, titles_of(bundle.items)),
        skipped={reason: count for reason, count in skipped.items() if count},
        seconds=seconds,
        processor=processor,
        users_B=users_B,
    )


def _hold(held_out: Sequence[Example], bundle: Bundle, skipped: Counter[str], *, logged: bool) -> _Lists:
    """The lists that can be judged, with their judged candidates.

    Args:
        held_out: The examples.
        bundle: The bundle. A context must fit its specification.
        skipped: Counts what is left out.
        logged: Whether to use the scores in the examples in place of a teacher, if there are any.
    """
    unfit = misfits(bundle, held_out)
    logged = logged and any(sum(example.ranking.scored) > 1 for example in held_out)
    kept: list[tuple[Example, Impression, list[int], list[float], Floats]] = []
    for row, example in enumerate(held_out):
        ranking = example.ranking
        shown = ranking.impression
        if row in unfit:
            skipped["context does not fit"] += 1
            continue
        if not any(label > 0 for label in example.labels):
            skipped["without a label"] += 1
            continue
        judged = [n for n in range(len(shown.candidates)) if ranking.scored[n] or not logged]
        labels = [example.labels[n] for n in judged]
        liked = [place for place, label in enumerate(labels) if label > 0]
        if not liked or len(liked) == len(judged):
            partly = logged and len(judged) < len(shown.candidates)
            skipped["too few candidates with the teacher's score" if partly else "every candidate was liked"] += 1
            continue
        skipped["candidates without the teacher's score"] += len(shown.candidates) - len(judged)
        request = msgspec.structs.replace(shown, candidates=tuple(shown.candidates[n] for n in judged))
        taught = np.array([ranking.scores[n] for n in judged], np.float64)
        kept.append((example, request, liked, [labels[place] for place in liked], taught))
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items() if count) or "there are none"
        raise DataError(
            f"none of the {len(held_out)} held-out lists has both a candidate that was liked and one that was not: "
            f"{reasons}; judge over the whole catalogue instead: --set judge.protocol=catalogue"
        )
    width = max(len(liked) for _, _, liked, _, _ in kept)
    places_BP, labels_BP = np.full((len(kept), width), -1, np.int64), np.zeros((len(kept), width))
    for row, (_, _, liked, labels, _) in enumerate(kept):
        places_BP[row, : len(liked)], labels_BP[row, : len(liked)] = liked, labels
    return _Lists(
        requests=[request for _, request, _, _, _ in kept],
        examples=[example for example, _, _, _, _ in kept],
        places_BP=places_BP,
        labels_BP=labels_BP,
        taught=[taught for _, _, _, _, taught in kept] if logged else None,
    )


def _answered(lists: _Lists, found: list[Floats], skipped: Counter[str]) -> tuple[_Lists, list[Floats]]:
    """The lists on which the teacher did not fail, and its scores there."""
    rows = [row for row, scores in enumerate(found) if not np.isnan(scores).all()]
    skipped["teacher failed"] += len(found) - len(rows)
    if not rows:
        raise DataError(f"the teacher failed on all {len(found)} held-out lists, so nothing can be compared with it")
    return lists.only(rows), [found[row] for row in rows]


def _plain(lists: _Lists, known: Learnt) -> dict[str, list[Floats]]:
    """Scores that need no model: chance, the order in which a list was shown, and popularity up to that time."""
    shown = [(r.time_us, [candidate.item for candidate in r.candidates]) for r in lists.requests]
    found = known.up_to(shown, lists.examples)
    found[CHANCE] = [np.zeros(len(items)) for _, items in shown]
    found[LOGGED] = [-np.arange(len(items), dtype=np.float64) for _, items in shown]
    return found


def _measure(
    lists: _Lists, scores: Sequence[Floats], rows: NDArray[np.int64], labels_BP: Floats
) -> Mapping[str, Floats]:
    """Metrics of some lists. A liked candidate whose label is 0 here does not count as a candidate."""
    out = {metric: np.zeros(len(rows)) for metric in METRICS}
    for part in _blocks([len(scores[row]) for row in rows]):
        width = max(len(scores[row]) for row in rows[part])
        scores_BL, labels_BL = np.full((len(part), width), -np.inf), np.zeros((len(part), width))
        where_BL = np.zeros((len(part), width), bool)
        for n, at in enumerate(part):
            row = rows[at]
            own = scores[row]
            scores_BL[n, : len(own)] = np.where(np.isnan(own), -np.inf, own)
            where_BL[n, : len(own)] = True
            liked = lists.places_BP[row] >= 0
            places = lists.places_BP[row][liked]
            labels_BL[n, places] = labels_BP[at][liked]
            where_BL[n, places] = labels_BP[at][liked] > 0
        out["ndcg@10"][part] = tied.ndcg(scores_BL, labels_BL, where_BL, 10)
        out["ndcg@5"][part] = tied.ndcg(scores_BL, labels_BL, where_BL, 5)
        out["mrr"][part] = tied.mrr(scores_BL, labels_BL, where_BL)
        out["auc"][part] = tied.auc(scores_BL, labels_BL, where_BL)
    return out


def _blocks(lengths: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """The numbers of the lists, in blocks of similar length, so that little padding is needed."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and (end + 1 - begin) * lengths[order[end]] <= _CELLS:
            end += 1
        yield order[begin:end]
        begin = end


def _numbered(lists: _Lists, number: dict[str, int]) -> NDArray[np.int64]:
    """Item numbers of the liked candidates; -1: an empty place. Items outside the catalogue get new, higher numbers."""
    out = np.full(lists.places_BP.shape, -1, np.int64)
    for row, request in enumerate(lists.requests):
        for p, place in enumerate(lists.places_BP[row]):
            if place >= 0:
                out[row, p] = number.setdefault(request.candidates[place].item, len(number))
    return out


def _alike(scores: Mapping[str, list[Floats]]) -> tuple[Floats | None, list[int]]:
    """Kendall's tau of teacher and student, and the numbers of its lists: the newest where both know two candidates."""
    if TEACHER not in scores:
        return None, []
    pairs = [
        (row, one[both], other[both])
        for row, (one, other) in enumerate(zip(scores[STUDENT], scores[TEACHER], strict=True))
        if (both := ~np.isnan(one) & ~np.isnan(other)).sum() > 1
    ][-_COMPARED:]
    if not pairs:
        return None, []
    tau = [float(metrics.kendall_tau(one[None], other[None])[0]) for _, one, other in pairs]
    return np.array(tau), [row for row, _, _ in pairs]


def _disagreements(
    lists: _Lists, scores: Mapping[str, list[Floats]], tau_B: Floats, compared: list[int], titles: Mapping[str, str]
) -> list[Disagreement]:
    """The lists that teacher and student order most differently."""
    out = []
    for at in np.argsort(tau_B, kind="stable")[:_SHOWN]:
        row = compared[at]
        request = lists.requests[row]
        items = [titles.get(c.item, c.item) for c in request.candidates]
        first = {}
        for who in (STUDENT, TEACHER):
            own = scores[who][row]
            order = np.argsort(-np.where(np.isnan(own), -np.inf, own), kind="stable")[:_TOP]
            first[who] = [items[n] for n in order]
        out.append(
            Disagreement(
                request=request.id,
                overlap=len(set(first[STUDENT]) & set(first[TEACHER])) / max(1, len(first[TEACHER])),
                tau=float(tau_B[at]),
                history=[titles.get(e.item, e.item) for e in reversed(request.history[-_SHOWN:])],
                liked=[items[place] for place in lists.places_BP[row] if place >= 0],
                teacher=first[TEACHER],
                student=first[STUDENT],
            )
        )
    return out
