"""The judge measures a bundle, its teacher and its rivals on lists that none of them has learnt from.

Every contender ranks the whole live catalogue for each held-out request. Items of the request's history and of its
`exclude` are left out. The relevant items are the candidates with a label above 0. The student answers through
`serve.recommender`, as in production, with its index and its popular items. Contenders are compared list by list, and
each figure has an interval.

It knows nothing of thresholds (gates.py) or of pictures (report.py).

Example:
    >>> evaluate.__name__
    'evaluate'
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdistill import metrics
from recdistill.bundle import Bundle
from recdistill.errors import DataError
from recdistill.features import Catalogue, FeatureError, encode_requests
from recdistill.judge.baselines import Baseline, Contender
from recdistill.judge.contenders import BundleContender, DeviceContender, TeacherContender, as_request, barred
from recdistill.judge.judgement import (
    MAIN,
    STUDENT,
    TEACHER,
    Agreement,
    Difference,
    Disagreement,
    Judgement,
    Latency,
    Quality,
    SliceQuality,
)
from recdistill.judge.slices import item_slices, user_slices
from recdistill.linear import Interactions, collect
from recdistill.metrics import Interval
from recdistill.records import Example, Impression, Item
from recdistill.serve import Recommender, Request
from recdistill.teachers import Teacher

Progress = Callable[[str, int, int], None]

# How many places of a ranking are used. Metrics use the first 10; the reciprocal rank uses all of these.
DEPTH = 100
CUT = 10
_TIMED = 300
_LISTS_COMPARED = 2000
_SHOWN = 6
POPULARITY = "popularity"
_TITLES = ("title", "name", "headline", "label")


@dataclass(frozen=True)
class _Held:
    """Held-out requests as arrays of item numbers. B lists; P is the largest number of relevant items in a list."""

    requests: list[Impression]
    examples: list[Example]
    number: dict[str, int]
    relevant_BP: NDArray[np.int64]
    labels_BP: NDArray[np.float64]
    skipped: dict[str, int]


def evaluate(
    bundle: Bundle,
    held_out: Sequence[Example],
    *,
    teacher: Teacher | None,
    rivals: Sequence[Contender],
    train_examples: Iterable[Example] | Interactions,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    draws: int = 2000,
    progress: Progress | None = None,
) -> Judgement:
    """Judges a bundle.

    Args:
        bundle: The opened bundle.
        held_out: Examples that neither the student nor a rival has learnt from.
        teacher: Scores the whole catalogue. None: it cannot, and the teacher's scores in the examples are used instead.
        rivals: Other contenders for the same requests: baselines, the student without distillation.
        train_examples: The training examples, or what `read_interactions` made of them. Popularity and new items are
            counted in them.
        sizes: More sizes in bytes to report. The gate needs `teacher`.
        seed: Seed of the bootstrap.
        draws: Resamples of the bootstrap.
        progress: Called as `progress(what, done, total)` after each contender.

    Raises:
        BundleError: A tower or the index of the bundle cannot be loaded.
        DataError: No held-out example can be judged.
    """
    started = time.perf_counter()

    # Items get numbers: first the catalogue, then relevant items that it does not have. The latter are not live.
    seconds: dict[str, float] = {}
    student = BundleContender(bundle, STUDENT)
    catalogue = [item.id for item in bundle.items]
    held = _hold(held_out, bundle)
    counts_N = _count(train_examples, held.number)
    live_N = np.zeros(len(counts_N), bool)
    live_N[: len(catalogue)] = True

    # Each contender ranks the catalogue for all requests. Its rankings become rows of item numbers, `[B, DEPTH]`.
    contenders: list[Contender] = [student]
    if teacher is not None:
        contenders.append(TeacherContender(teacher, catalogue))
    contenders += rivals
    if len({c.name for c in contenders}) != len(contenders):
        raise DataError(f"two contenders have one name: {', '.join(c.name for c in contenders)}")
    tops: dict[str, NDArray[np.int64]] = {}
    for done, contender in enumerate(contenders):
        begun = time.perf_counter()
        lists = contender.top(held.requests, DEPTH)
        seconds[contender.name] = time.perf_counter() - begun
        tops[contender.name] = _numbers(lists, held.number, live_N)
        if progress is not None:
            progress(contender.name, done + 1, len(contenders))

    # Metrics of each list, then means with intervals, and the student's share of the teacher's NDCG.
    values = {name: _measure(top_BK, held.relevant_BP, held.labels_BP) for name, top_BK in tops.items()}
    percentile_N = _percentiles(counts_N)
    per_1000 = {name: s / len(held.requests) * 1000 for name, s in seconds.items()}
    qualities = _qualities(values, tops, percentile_N, len(catalogue), per_1000, seed, draws)
    agreement, on_lists = _agreement(student, held, tops, seed, draws)
    retention, where = None, ""
    if teacher is not None:
        retention, where = _ratio(values[STUDENT][MAIN], values[TEACHER][MAIN], seed, draws), "whole catalogue"
    elif on_lists is not None:
        retention, where = _ratio(*on_lists, seed, draws), "logged lists"
    skipped = dict(held.skipped)
    if any(isinstance(c, TeacherContender) and c.failed for c in contenders):
        skipped["teacher failed"] = sum(c.failed for c in contenders if isinstance(c, TeacherContender))
    judged = Judgement(
        content_hash=bundle.content_hash,
        made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        seed=seed,
        lists=len(held.requests),
        catalogue=len(catalogue),
        relevant_popularity=float(percentile_N[held.relevant_BP[held.relevant_BP >= 0]].mean()),
        contenders=qualities,
        differences=_differences(values, seed, draws),
        slices=_slices(held, tops, counts_N, seed, draws),
        agreement=agreement,
        retention=retention,
        retention_on=where,
        parity=_parity(student.recommender),
        latency=_latency(student.recommender, held.requests),
        sizes={**_sizes(student, rivals), **(sizes or {})},
        disagreements=_disagreements(held, tops, bundle.items),
        skipped=skipped,
        provenance=dict(bundle.manifest.provenance),
        seconds=seconds,
    )
    seconds["in all"] = time.perf_counter() - started
    return judged


def _hold(held_out: Sequence[Example], bundle: Bundle) -> _Held:
    """Gives each item a number (the catalogue first), and keeps the examples that can be judged."""
    number = {item.id: n for n, item in enumerate(bundle.items)}
    kept: list[tuple[Example, list[tuple[int, float]]]] = []
    skipped = {"without a label": 0, "relevant items all seen before": 0, "context does not fit": 0}
    # The endpoint refuses a request whose context does not fit. There is no answer to judge, so it is only counted.
    errors: list[FeatureError] = []
    contexts = [Request(context=example.ranking.impression.context) for example in held_out]
    encode_requests(bundle.spec, bundle.vocabulary, Catalogue(bundle.spec, bundle.vocabulary), contexts, errors=errors)
    misfits = {error.row for error in errors}
    for row, example in enumerate(held_out):
        if row in misfits:
            skipped["context does not fit"] += 1
            continue
        impression = example.ranking.impression
        pairs = zip(impression.candidates, example.labels, strict=True)
        liked = {candidate.item: label for candidate, label in pairs if label > 0}
        seen = barred(impression)
        # A relevant item that is not in the catalogue stays relevant. No contender can show it, so it is fair to all.
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
    # Lists have different numbers of relevant items, so each row is filled up: item −1 with label 0.
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


def _count(train: Iterable[Example] | Interactions, number: Mapping[str, int]) -> NDArray[np.int64]:
    """How many users (or requests without one) of the training part liked each item."""
    counts_N = np.zeros(len(number), np.int64)
    known = train if isinstance(train, Interactions) else collect(train)
    for item, count in zip(known.ids, np.bincount(known.pair_items, minlength=len(known.ids)).tolist(), strict=True):
        if (n := number.get(item)) is not None:
            counts_N[n] = count
    return counts_N


def _numbers(lists: Sequence[Sequence[str]], number: Mapping[str, int], live_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lists as item numbers, `[B, DEPTH]`. Short lists end with -2. Items outside the live catalogue are left out.

    It is -2, because -1 already means "no relevant item", and the two must never match.
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

    A list has DEPTH places for the ranking, and P more places behind them. A relevant item that was ranked puts its
    label on its place in the ranking. One that was not ranked puts its label on a place behind DEPTH: no metric finds
    it there, but the ideal order counts it.
    """
    batch, depth = top_BK.shape
    width = relevant_BP.shape[1]
    labels = np.zeros((batch, depth + width))
    # An empty place of a short answer still counts as a place. Otherwise a missing item would move up into it.
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
    }


def _percentiles(counts_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each item, the share of the items that fewer users liked. Of equal items, half count."""
    ordered = np.sort(counts_N)
    below = np.searchsorted(ordered, counts_N, "left") + np.searchsorted(ordered, counts_N, "right")
    return below / (2.0 * len(counts_N))


def _qualities(
    values: Mapping[str, Mapping[str, NDArray[np.float64]]],
    tops: Mapping[str, NDArray[np.int64]],
    percentile_N: NDArray[np.float64],
    catalogue: int,
    per_1000: Mapping[str, float],
    seed: int,
    draws: int,
) -> list[Quality]:
    found = _intervals(values, seed, draws)
    out = []
    for name, top_BK in tops.items():
        shown = top_BK[:, :CUT][top_BK[:, :CUT] >= 0]
        popularity = float(percentile_N[shown].mean()) if len(shown) else 0.0
        coverage = len(np.unique(shown)) / catalogue
        seconds = per_1000[name]
        out.append(
            Quality(
                name=name,
                metrics=found[name],
                coverage=coverage,
                popularity=popularity,
                seconds_per_1000=seconds,
            )
        )
    return out


def _intervals(
    values: Mapping[str, Mapping[str, NDArray[np.float64]]], seed: int, draws: int
) -> dict[str, dict[str, Interval]]:
    """Intervals of every metric of every contender. All use the same resamples of the lists."""
    keys = [(name, metric) for name, of in values.items() for metric in of]
    table = np.stack([values[name][metric] for name, metric in keys], axis=1)
    out: dict[str, dict[str, Interval]] = {name: {} for name in values}
    for (name, metric), interval in zip(keys, metrics.intervals(table, seed=seed, draws=draws), strict=True):
        out[name][metric] = interval
    return out


def _differences(values: Mapping[str, Mapping[str, NDArray[np.float64]]], seed: int, draws: int) -> list[Difference]:
    """The student minus each other contender, and the teacher minus popularity.

    A teacher that does not beat popularity has nothing to teach.
    """
    others = [name for name in values if name != STUDENT]
    keys = [(STUDENT, other, metric) for other in others for metric in values[STUDENT]]
    if TEACHER in values and POPULARITY in values:
        keys.append((TEACHER, POPULARITY, MAIN))
    if not keys:
        return []
    table = np.stack([values[one][metric] - values[other][metric] for one, other, metric in keys], axis=1)
    found = zip(keys, metrics.intervals(table, seed=seed, draws=draws), strict=True)
    return [Difference(a=one, b=other, metric=metric, interval=i) for (one, other, metric), i in found]


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64], seed: int, draws: int) -> Interval | None:
    """mean(a) / mean(b) with its percentile interval; None when the mean of b is not above 0.

    Each resample of the lists gives one mean of `a` and one of `b`. The interval holds the middle 95% of their ratios.
    """
    if b.mean() <= 0:
        return None
    means = metrics.bootstrap_means(np.stack([a, b], axis=1), seed=seed, draws=draws)
    ratios = means[means[:, 1] > 0]
    low, high = np.quantile(ratios[:, 0] / ratios[:, 1], [0.025, 0.975])
    return Interval(float(a.mean() / b.mean()), float(low), float(high), len(a))


def _slices(
    held: _Held, tops: Mapping[str, NDArray[np.int64]], counts_N: NDArray[np.int64], seed: int, draws: int
) -> list[SliceQuality]:
    events_B = np.array([len(r.history) for r in held.requests], np.int64)
    out = []
    for part in [*user_slices(events_B), *item_slices(held.relevant_BP, counts_N)]:
        rows = np.flatnonzero(part.lists_B)
        found: dict[str, dict[str, Interval]] = {}
        if len(rows):
            # A relevant item outside the slice gets label 0, so it does not count.
            labels_BP = held.labels_BP if part.relevant_BP is None else held.labels_BP * part.relevant_BP
            values = {n: _measure(t[rows], held.relevant_BP[rows], labels_BP[rows]) for n, t in tops.items()}
            found = _intervals(values, seed, draws)
        out.append(SliceQuality(name=part.name, meaning=part.meaning, n=len(rows), metrics=found))
    return out


def _agreement(
    student: BundleContender, held: _Held, tops: Mapping[str, NDArray[np.int64]], seed: int, draws: int
) -> tuple[Agreement, tuple[NDArray[np.float64], NDArray[np.float64]] | None]:
    """Agreement of student and teacher, and NDCG@10 of both on the logged lists.

    Logged lists are the candidate lists of the stream that hold at least two scores of the teacher. Only candidates
    that both have scored are compared.
    """
    overlap = None
    if TEACHER in tops:
        overlap = metrics.bootstrap_interval(_overlaps(tops), seed, draws)
    rows = [n for n, e in enumerate(held.examples) if sum(e.ranking.scored) > 1][:_LISTS_COMPARED]
    if not rows:
        return Agreement(overlap=overlap), None
    width = max(len(held.requests[n].candidates) for n in rows)
    scores, taught, labels = (np.zeros((len(rows), width)) for _ in range(3))
    where = np.zeros((len(rows), width), bool)
    for row, n in enumerate(rows):
        ranking = held.examples[n].ranking
        items = [c.item for c in ranking.impression.candidates]
        answer = student.recommender.rank(as_request(ranking.impression), items)
        given = dict(zip(answer.items, answer.scores, strict=True))
        known = [item in given and scored for item, scored in zip(items, ranking.scored, strict=True)]
        where[row, : len(items)] = known
        scores[row, : len(items)] = [given.get(item, 0.0) for item in items]
        taught[row, : len(items)] = ranking.scores
        labels[row, : len(items)] = held.examples[n].labels
    judged = (metrics.ndcg(scores, labels, where=where, k=CUT), metrics.ndcg(taught, labels, where=where, k=CUT))
    tau = metrics.bootstrap_interval(metrics.kendall_tau(scores, taught, where=where), seed, draws)
    on_lists = {n: metrics.bootstrap_interval(v, seed, draws) for n, v in zip((STUDENT, TEACHER), judged, strict=True)}
    return Agreement(overlap=overlap, tau=tau, on_lists=on_lists), judged


def _overlaps(tops: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float64]:
    """For each list, the share of the teacher's first ten items that are also in the student's first ten."""
    student, taught = tops[STUDENT][:, :CUT], tops[TEACHER][:, :CUT]
    # Every place of the student against every place of the teacher, `[B, 10, 10]`. Empty places (-2) never match.
    same = (student[:, :, None] == taught[:, None, :]) & (taught >= 0)[:, None, :]
    shared: NDArray[np.float64] = same.any(1).sum(1) / np.maximum(1, (taught >= 0).sum(1))
    return shared


def _parity(recommender: Recommender) -> dict[str, float]:
    """Largest differences in scores: those that the export measured, and those of the golden answers on this machine.

    The golden scores were computed from the weights. Here the bundle scores the same items again.
    """
    found: dict[str, float] = {}
    measured = recommender.bundle.manifest.provenance.get("measured")
    if isinstance(measured, dict) and isinstance(exported := measured.get("parity_max_abs"), int | float):
        found["towers at export"] = float(exported)
    worst = 0.0
    for golden in recommender.bundle.golden:
        request = Request(history=golden.history, context=golden.context, time_us=golden.time_us)
        answer = recommender.rank(request, list(golden.items))
        given = dict(zip(answer.items, answer.scores, strict=True))
        gaps = [abs(given[i] - s) if i in given else np.inf for i, s in zip(golden.items, golden.scores, strict=True)]
        worst = max(worst, *gaps, 0.0)
    if recommender.bundle.golden:
        found["golden answers"] = float(worst)
    return found


def _latency(recommender: Recommender, requests: Sequence[Impression]) -> Latency:
    asked = [as_request(r) for r in requests[:_TIMED]]
    for request in asked[:20]:  # the first answers are slower, so they are not timed
        recommender.recommend([request], CUT)
    taken = []
    for request in asked:
        begun = time.perf_counter()
        recommender.recommend([request], CUT)
        taken.append((time.perf_counter() - begun) * 1000)
    p50, p99 = np.percentile(taken, [50, 99])
    return Latency(p50_ms=float(p50), p99_ms=float(p99), n=len(taken))


def _sizes(student: BundleContender, rivals: Sequence[Contender]) -> dict[str, int]:
    """Bytes of the bundle, of the student in float and in int8, and of each contender that knows its size."""
    found = {"bundle": student.recommender.bundle.size, STUDENT: student.size, "student_int8": student.size_int8}
    return found | {
        rival.name: rival.size for rival in rivals if isinstance(rival, Baseline | BundleContender | DeviceContender)
    }


def _disagreements(held: _Held, tops: Mapping[str, NDArray[np.int64]], items: Sequence[Item]) -> list[Disagreement]:
    """The lists on which the first ten items of teacher and student overlap least."""
    if TEACHER not in tops:
        return []
    ids = list(held.number)
    titles = {item.id: title_of(item) for item in items}
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


def title_of(item: Item) -> str:
    """A name of the item for people: its title or name, otherwise its id."""
    for key in _TITLES:
        value = item.attributes.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value:
            return " ".join(map(str, value))
    return item.id
