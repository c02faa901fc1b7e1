"""The protocol "whole catalogue": each contender ranks all live items for each held-out request.

Items of the request's history and of its `exclude` are left out. The relevant items are the candidates with a label
above 0. This protocol suits a student that must find items in the catalogue: what it would show is compared with what
people took.

It knows nothing of thresholds, pictures or the other protocol.

Example:
    >>> by_chance(np.array([4]), np.array([[1.0, 0.0]]), np.array([[True, False]]))["recall@10"].tolist()
    [1.0]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recdistill import metrics
from recdistill.bundle import Bundle
from recdistill.errors import DataError
from recdistill.judge import tied
from recdistill.judge.baselines import Contender
from recdistill.judge.behaviour import behaviour_of
from recdistill.judge.contenders import BundleContender, TeacherContender, barred, misfits
from recdistill.judge.figures import Floats, Measured, Values, numbered_users, percentiles, slice_qualities
from recdistill.judge.judgement import CHANCE, STUDENT, TEACHER, Agreement, Disagreement
from recdistill.judge.learnt import Train, learnt
from recdistill.judge.pooled import make_pools, ndcg
from recdistill.judge.slices import field_slices, item_slices, user_slices
from recdistill.judge.titles import titles_of
from recdistill.model import layout
from recdistill.records import Example, Impression

Progress = Callable[[str, int, int], None]

# How many places of a ranking are used. Metrics use the first 10; the reciprocal rank uses all of these.
DEPTH = 100
CUT = 10
_LISTS_COMPARED = 2000  # Kendall's tau uses at most so many lists; so many are put into one array at a time
_SHOWN = 6


@dataclass(frozen=True)
class _Held:
    """Held-out requests as arrays of item numbers. B lists; P is the largest number of relevant items in a list."""

    requests: list[Impression]
    examples: list[Example]
    number: dict[str, int]
    relevant_BP: NDArray[np.int64]
    labels_BP: Floats
    skipped: dict[str, int]


def whole_catalogue(
    bundle: Bundle,
    held_out: Sequence[Example],
    contenders: Sequence[Contender],
    train: Train,
    *,
    fields: Sequence[str] = (),
    teacher_scores: int = 0,
    seed: int,
    draws: int,
    progress: Progress | None = None,
) -> Measured:
    """Measures all contenders.

    Args:
        bundle: The bundle. Its items are the catalogue.
        held_out: Examples that nobody has learnt from.
        contenders: The student first. No two have the same name.
        train: The lists that were learnt. Popularity and new items are counted from them.
        fields: Fields that give more slices: see `slices.field_slices`.
        teacher_scores: How many scores the teacher may be asked for. If the whole catalogue needs more, the teacher is
            asked about pools. 0: there is no limit.
        seed: Seed of the resamples.
        draws: How many resamples.
        progress: Called as `progress(what, done, total)` after each contender.

    Raises:
        DataError: No held-out example can be judged.
    """
    # Items get numbers: first the catalogue, then relevant items that it does not have. The latter are not live.
    catalogue = [item.id for item in bundle.items]
    held = _hold(held_out, bundle)
    counts_N = learnt(train).liked(list(held.number))
    live_N = np.zeros(len(counts_N), bool)
    live_N[: len(catalogue)] = True

    # Each contender ranks the catalogue for all requests. Its rankings become rows of item numbers, `[B, DEPTH]`.
    seconds: dict[str, float] = {}
    processor: dict[str, float] = {}
    tops: dict[str, NDArray[np.int64]] = {}
    asked = next((one for one in contenders if isinstance(one, TeacherContender)), None)
    in_pools = asked is not None and 0 < teacher_scores < len(held.requests) * len(catalogue)
    if in_pools:
        contenders = [one for one in contenders if one is not asked]
    for done, contender in enumerate(contenders):
        begun, worked = time.perf_counter(), time.process_time()
        lists = contender.top(held.requests, DEPTH)
        seconds[contender.name] = time.perf_counter() - begun
        processor[contender.name] = time.process_time() - worked
        tops[contender.name] = _numbers(lists, held.number, live_N)
        if progress is not None:
            progress(contender.name, done + 1, len(contenders))

    open_B = _listable(held, len(catalogue))
    live_BP = (held.relevant_BP >= 0) & live_N[held.relevant_BP]

    def measure(rows: NDArray[np.int64], labels_BP: Floats) -> Values:
        found = {name: _measure(top_BK[rows], held.relevant_BP[rows], labels_BP) for name, top_BK in tops.items()}
        return {**found, CHANCE: by_chance(open_B[rows], labels_BP, live_BP[rows])}

    values = measure(np.arange(len(held.requests)), held.labels_BP)
    percentile_N = percentiles(counts_N)
    behaviour = {
        name: behaviour_of(top_BK[:, :CUT], percentile_N, counts_N, bundle.vectors_NW[:, layout.VECTOR], len(catalogue))
        for name, top_BK in tops.items()
    }
    student = next(one for one in contenders if isinstance(one, BundleContender))
    users_B = numbered_users(held.requests)
    agreement, on_lists, keeps_B = _agreement(student, held, tops, users_B, seed, draws)
    keeps, keeps_on = on_lists, "logged lists"
    failed = 0
    if asked is not None and in_pools:
        ids = list(held.number)
        first = {name: [[ids[n] for n in row if n >= 0] for row in top[:, :CUT].tolist()] for name, top in tops.items()}
        mine_B, taught_B, keeps_B, failed = _in_pools(student, asked, held, first, catalogue, teacher_scores, seed)
        keeps = (mine_B, taught_B, values[CHANCE]["ndcg@10"][keeps_B])
        keeps_on = f"pools of {len(keeps_B):,} lists, since the whole catalogue needs more than judge.teacher_scores"
    if TEACHER in values:
        # A list on which the teacher failed says nothing of it. As a list of 0 it would make the share larger.
        answered_B = np.flatnonzero(tops[TEACHER][:, 0] >= 0)
        if not len(answered_B):
            count = len(held.requests)
            raise DataError(f"the teacher failed on all {count} held-out lists, so nothing can be compared with it")
        keeps_B = None if len(answered_B) == len(held.requests) else answered_B
        of = [values[name]["ndcg@10"][answered_B] for name in (STUDENT, TEACHER, CHANCE)]
        keeps, keeps_on = (of[0], of[1], of[2]), "whole catalogue"
    skipped = dict(held.skipped)
    if failed := failed + sum(one.failed for one in contenders if isinstance(one, TeacherContender)):
        skipped["teacher failed"] = failed
    events_B = np.array([len(r.history) for r in held.requests], np.int64)
    parts = [*user_slices(events_B), *item_slices(held.relevant_BP, counts_N)]
    parts += field_slices(fields, held.requests, held.relevant_BP, dict(enumerate(bundle.items)))
    return Measured(
        requests=held.requests,
        values=values,
        behaviour=behaviour,
        relevant_popularity=float(percentile_N[held.relevant_BP[held.relevant_BP >= 0]].mean()),
        slices=slice_qualities(parts, held.labels_BP, measure, seed=seed, draws=draws, users_B=users_B),
        agreement=agreement,
        keeps=keeps,
        keeps_on=keeps_on,
        disagreements=_disagreements(held, tops, titles_of(bundle.items)),
        skipped=skipped,
        seconds=seconds,
        processor=processor,
        users_B=users_B,
        keeps_B=keeps_B,
    )


def _in_pools(
    student: BundleContender,
    teacher: TeacherContender,
    held: _Held,
    tops: Mapping[str, Sequence[Sequence[str]]],
    catalogue: Sequence[str],
    scores: int,
    seed: int,
) -> tuple[Floats, Floats, NDArray[np.int64], int]:
    """NDCG@10 of student and of teacher on pools, the numbers of these lists, and how often the teacher failed."""
    ids, live = list(held.number), set(catalogue)
    order_BP = np.argsort(
        [[n < 0 or ids[n] not in live for n in row] for row in held.relevant_BP.tolist()], axis=1, kind="stable"
    )
    relevant = [[ids[n] for n in row if n >= 0 and ids[n] in live] for row in held.relevant_BP.tolist()]
    pools = make_pools(
        held.requests, relevant, tops, catalogue, [barred(r) for r in held.requests], scores=scores, seed=seed
    )
    asked = [pool.request for pool in pools]
    taught, own = teacher.scores(asked), student.scores(asked)
    rows, found = [], []
    for at, (pool, theirs, mine) in enumerate(zip(pools, taught, own, strict=True)):
        if np.isnan(theirs).all():
            continue
        row = len(held.requests) - len(pools) + at
        labels = held.labels_BP[row][order_BP[row]]
        rows.append(row)
        found.append((ndcg(pool, mine, labels), ndcg(pool, theirs, labels)))
    if not rows:
        raise DataError(f"the teacher failed on all {len(pools)} pools, so nothing can be compared with it")
    both_B2 = np.array(found)
    return both_B2[:, 0], both_B2[:, 1], np.array(rows, np.int64), len(pools) - len(rows)


def by_chance(open_B: NDArray[np.int64], labels_BP: Floats, live_BP: NDArray[np.bool_]) -> dict[str, Floats]:
    """The metrics of a random order of the catalogue. The means are exact, and nothing is drawn.

    Args:
        open_B: How many items may be listed for each request.
        labels_BP: Labels of the relevant items; 0: not relevant.
        live_BP: Which of them may be listed.
    """
    relevant_BP = labels_BP > 0
    count_B = (relevant_BP & live_BP).sum(1)
    # An item is at each of the `open_B` places with the same chance.
    discounts = 1.0 / np.log2(np.arange(CUT) + 2.0)
    reached_B = np.cumsum(np.concatenate([[0.0], discounts]))[np.minimum(open_B, CUT)]
    gain_B = (labels_BP * live_BP).clip(0.0).sum(1) * reached_B / np.maximum(open_B, 1)
    ideal_BP = -np.sort(-labels_BP.clip(0.0), axis=1)[:, :CUT]
    ideal_B = ideal_BP @ discounts[: ideal_BP.shape[1]]
    # The chance that none of the first places holds a relevant item, place after place.
    none_B = np.ones(len(open_B))
    mrr_B, hit_B = np.zeros((2, len(open_B)))
    for place in range(DEPTH):
        left_B = open_B - place
        share_B = np.where(left_B > 0, np.minimum(count_B / np.maximum(left_B, 1), 1.0), 0.0)
        mrr_B += none_B * share_B / (place + 1)
        none_B = none_B * (1.0 - share_B)
        if place + 1 == CUT:
            hit_B = 1.0 - none_B
    several_B = np.maximum(relevant_BP.sum(1), 1)
    return {
        f"ndcg@{CUT}": np.divide(gain_B, ideal_B, out=np.zeros(len(open_B)), where=ideal_B > 0),
        f"recall@{CUT}": count_B * np.minimum(open_B, CUT) / np.maximum(open_B, 1) / several_B,
        f"hit_rate@{CUT}": hit_B,
        f"mrr@{DEPTH}": mrr_B,
        f"map@{CUT}": _map_by_chance(open_B, count_B, several_B),
    }


def _map_by_chance(open_B: NDArray[np.int64], count_B: NDArray[np.int64], several_B: NDArray[np.int64]) -> Floats:
    """MAP of a random order, from two chances.

    The first is the chance that a place has a relevant item. The second is the chance that an earlier place then has
    another relevant item.
    """
    found_B = np.zeros(len(open_B))
    there_B = count_B / np.maximum(open_B, 1)
    others_B = np.maximum(count_B - 1, 0) / np.maximum(open_B - 1, 1)
    for place in range(CUT):
        found_B += np.where(open_B > place, there_B * (1.0 + place * others_B) / (place + 1), 0.0)
    return np.asarray(found_B / several_B, np.float64)


def _listable(held: _Held, catalogue: int) -> NDArray[np.int64]:
    """How many items of the catalogue an answer to each request may hold."""
    barred_B = [sum(held.number.get(item, catalogue) < catalogue for item in barred(r)) for r in held.requests]
    return catalogue - np.array(barred_B, np.int64)


def _hold(held_out: Sequence[Example], bundle: Bundle) -> _Held:
    """Gives each item a number (the catalogue first), and keeps the examples that can be judged."""
    number = {item.id: n for n, item in enumerate(bundle.items)}
    kept: list[tuple[Example, list[tuple[int, float]]]] = []
    skipped = {"without a label": 0, "relevant items all seen before": 0, "context does not fit": 0}
    unfit = misfits(bundle, held_out)
    for row, example in enumerate(held_out):
        if row in unfit:
            skipped["context does not fit"] += 1
            continue
        impression = example.ranking.impression
        pairs = zip(impression.candidates, example.labels, strict=True)
        liked = {candidate.item: label for candidate, label in pairs if label > 0}
        seen = barred(impression)
        # A relevant item that is not in the catalogue stays relevant. No contender can show it, so all lose the same.
        left = [(number.setdefault(item, len(number)), label) for item, label in liked.items() if item not in seen]
        if left:
            kept.append((example, left))
        else:
            skipped["relevant items all seen before" if liked else "without a label"] += 1
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items() if count) or "there are none"
        raise DataError(
            f"none of the {len(held_out)} held-out examples has a label above 0 on an unseen item: {reasons}"
        )
    # Lists have different numbers of relevant items, so short rows are filled with item −1 and label 0.
    width = max(len(left) for _, left in kept)
    relevant_BP = np.full((len(kept), width), -1, np.int64)
    labels_BP = np.zeros((len(kept), width))
    for row, (_, left) in enumerate(kept):
        relevant_BP[row, : len(left)] = [n for n, _ in left]
        labels_BP[row, : len(left)] = [label for _, label in left]
    examples = [example for example, _ in kept]
    requests = [example.ranking.impression for example in examples]
    return _Held(
        requests=requests,
        examples=examples,
        number=number,
        relevant_BP=relevant_BP,
        labels_BP=labels_BP,
        skipped={k: v for k, v in skipped.items() if v},
    )


def _numbers(lists: Sequence[Sequence[str]], number: Mapping[str, int], live_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lists as item numbers, `[B, DEPTH]`. Short lists end with -2. Items outside the live catalogue are left out.

    The number is -2 because -1 already means "no relevant item", and the two must never be equal.
    """
    top_BK = np.full((len(lists), DEPTH), -2, np.int64)
    for row, items in enumerate(lists):
        found = [n for item in items if (n := number.get(item)) is not None and live_N[n]][:DEPTH]
        top_BK[row, : len(found)] = found
    return top_BK


def _measure(
    top_BK: NDArray[np.int64], relevant_BP: NDArray[np.int64], labels_BP: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Metrics of each list.

    A list has DEPTH places for the ranking, and P more places after them. If a relevant item was ranked, its label goes
    to its place in the ranking. If not, its label goes to one of the P places. No metric looks there, but the ideal
    order counts it.
    """
    batch, depth = top_BK.shape
    width = relevant_BP.shape[1]
    labels = np.zeros((batch, depth + width))
    # An empty place of a short answer still counts as a place. Otherwise the places after it would move up.
    where = np.concatenate([np.ones((batch, depth), bool), np.zeros((batch, width), bool)], axis=1)
    for p in range(width):  # the p-th relevant item of all lists at once
        same = top_BK == relevant_BP[:, p, None]
        found = same.any(1)
        counts = labels_BP[:, p] > 0
        place = np.where(found, same.argmax(1), depth + p)
        rows = np.flatnonzero(counts)
        labels[rows, place[rows]] = labels_BP[rows, p]
        where[rows, place[rows]] = True
    # The metrics sort by score, so the score of a place is its number, negative: place 0 is the best.
    scores = np.broadcast_to(-np.arange(depth + width, dtype=np.float64), labels.shape)
    return {
        f"ndcg@{CUT}": metrics.ndcg(scores, labels, where=where, k=CUT),
        f"recall@{CUT}": metrics.recall(scores, labels, where=where, k=CUT),
        f"hit_rate@{CUT}": metrics.hit_rate(scores, labels, where=where, k=CUT),
        f"mrr@{DEPTH}": metrics.mrr(scores, labels, where=where, k=depth),
        f"map@{CUT}": metrics.average_precision(scores, labels, where=where, k=CUT),
    }


def _agreement(
    student: BundleContender,
    held: _Held,
    tops: Mapping[str, NDArray[np.int64]],
    users_B: NDArray[np.int64],
    seed: int,
    draws: int,
) -> tuple[Agreement, tuple[Floats, Floats, Floats] | None, NDArray[np.int64] | None]:
    """How alike student and teacher are; NDCG@10 of both and of chance on the logged lists; the numbers of these lists.

    Logged lists are the candidate lists of the stream that hold at least two scores of the teacher. Only candidates
    that both have scored are compared. Kendall's tau uses only the newest lists.
    """
    around = partial(metrics.intervals, seed=seed, draws=draws)
    overlap = None
    if TEACHER in tops:
        [overlap] = around(_overlaps(tops)[:, None], users=users_B)
    rows = np.array([n for n, e in enumerate(held.examples) if sum(e.ranking.scored) > 1], np.int64)
    if not len(rows):
        return Agreement(overlap=overlap), None, None
    own = student.scores([held.requests[n] for n in rows])
    parts = [
        _on_lists([held.examples[n] for n in rows[part]], own[part])
        for part in (slice(begin, begin + _LISTS_COMPARED) for begin in range(0, len(rows), _LISTS_COMPARED))
    ]
    judged = tuple(np.concatenate(each) for each in zip(*parts, strict=True))
    newest = slice(-_LISTS_COMPARED, None)
    scores_BL, taught_BL, _, where_BL = _side_by_side([held.examples[n] for n in rows[newest]], own[newest])
    tau_B = metrics.kendall_tau(scores_BL, taught_BL, where=where_BL)
    [tau] = around(tau_B[:, None], users=users_B[rows[newest]])
    of = around(np.stack(judged, axis=1), users=users_B[rows])
    on_lists = dict(zip((STUDENT, TEACHER, CHANCE), of, strict=True))
    return Agreement(overlap=overlap, tau=tau, on_lists=on_lists), (judged[0], judged[1], judged[2]), rows


def _on_lists(examples: Sequence[Example], own: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """NDCG@10 of student, teacher and chance on logged lists."""
    scores_BL, taught_BL, labels_BL, where_BL = _side_by_side(examples, own)
    flat_BL = np.zeros(scores_BL.shape)
    one, two, three = (tied.ndcg(each, labels_BL, where_BL, CUT) for each in (scores_BL, taught_BL, flat_BL))
    return one, two, three


def _side_by_side(
    examples: Sequence[Example], own: Sequence[Floats]
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Scores of the student and of the teacher, labels, and which candidates both have scored, each `[B, L]`."""
    width = max(len(scores) for scores in own)
    scores_BL, taught_BL, labels_BL = (np.zeros((len(examples), width)) for _ in range(3))
    where_BL = np.zeros((len(examples), width), bool)
    for row, (one, mine) in enumerate(zip(examples, own, strict=True)):
        there = slice(len(mine))
        where_BL[row, there] = ~np.isnan(mine) & np.array(one.ranking.scored, bool)
        scores_BL[row, there] = np.nan_to_num(mine)
        taught_BL[row, there] = one.ranking.scores
        labels_BL[row, there] = one.labels
    return scores_BL, taught_BL, labels_BL, where_BL


def _overlaps(tops: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float64]:
    """For each list, the share of the teacher's first ten items that are also in the student's first ten."""
    student, taught = tops[STUDENT][:, :CUT], tops[TEACHER][:, :CUT]
    # Compares every place of the student with every place of the teacher, `[B, 10, 10]`. Empty places (-2) never match.
    same = (student[:, :, None] == taught[:, None, :]) & (taught >= 0)[:, None, :]
    shared: NDArray[np.float64] = same.any(1).sum(1) / np.maximum(1, (taught >= 0).sum(1))
    return shared


def _disagreements(held: _Held, tops: Mapping[str, NDArray[np.int64]], titles: Mapping[str, str]) -> list[Disagreement]:
    """The lists on which the first ten items of teacher and student overlap least."""
    if TEACHER not in tops:
        return []
    ids = list(held.number)
    overlaps = _overlaps(tops)
    out = []
    for n in np.argsort(overlaps, kind="stable")[:_SHOWN]:
        request = held.requests[n]
        named = {who: [titles.get(ids[i], ids[i]) for i in tops[who][n, :CUT] if i >= 0] for who in (STUDENT, TEACHER)}
        out.append(
            Disagreement(
                request=request.id,
                overlap=float(overlaps[n]),
                history=[titles.get(e.item, e.item) for e in reversed(request.history[-_SHOWN:])],
                liked=[titles.get(ids[i], ids[i]) for i in held.relevant_BP[n] if i >= 0],
                teacher=named[TEACHER],
                student=named[STUDENT],
            )
        )
    return out
