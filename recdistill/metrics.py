"""Ranking metrics of (scores, labels, *, where, k): pure numpy functions, whose last axis is the list.

Every metric takes arrays of one shape `[..., L]` and gives one value for each list, shape `[...]`. A place where
`where` is False does not count: it is not ranked, and it is not relevant. Of equal scores the earlier place is first,
so a metric depends only on its input, not on a sort routine. A list without a relevant place gives 0.

A metric does not average over lists. `bootstrap_interval` and `paired_interval` make means and intervals from the
values of the lists.

It knows nothing of records, students or teachers.

Example:
    >>> import numpy as np
    >>> scores, labels = np.array([[3.0, 2.0, 1.0]]), np.array([[0.0, 1.0, 1.0]])
    >>> mrr(scores, labels)
    array([0.5])
    >>> recall(scores, labels, k=2)
    array([0.5])
    >>> bootstrap_interval(np.ones(20)).low
    1.0
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from recdistill.errors import UsageError

Floats = NDArray[np.float64]

# The most elements of one intermediate array, for any number of lists: 4 million float64 are 32 MB.
_CHUNK = 4_000_000
_LOWEST = np.finfo(np.float64).min


class Interval(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mean of `n` values, with the percentile interval of its bootstrap.

    `se`: its standard error, where values of one user move together. None: nobody measured it. `users`: how many users
    (or lists without one) the values are of. 0: it is not known.
    """

    mean: float
    low: float
    high: float
    n: int = 0
    se: float | None = None
    users: int = 0


def ndcg(scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None, k: int | None = None) -> Floats:
    """Normalised discounted cumulative gain with linear gains.

    DCG@k = Σ_{r ≤ k} max(label_r, 0) / log2(r + 1) over ranks r from 1. It is divided by the DCG@k of the best order
    (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002; every rank has a discount, as is
    usual today). For labels of 0 and 1 linear and exponential gains are the same.

    Args:
        scores: `[..., L]`, higher is better.
        labels: `[..., L]`, the gain of each place.
        where: `[..., L]` bool, places that exist; all when None.
        k: Cut-off; the whole list when None.

    Returns:
        `[...]` in [0, 1].

    Raises:
        UsageError: Shapes differ, k is not positive, a score or label that counts is not a number, or a label is
            infinite.
    """
    scores_BL, gains_BL, where_BL, shape = _prepare(scores, labels, where, k)
    rows, ranks, gains = _relevant(scores_BL, gains_BL, where_BL)
    if np.isinf(gains).any():
        raise UsageError("a label is infinite, so no list has a best order: repair its source")
    cut = scores_BL.shape[1] if k is None else k
    dcg = _sum_rows(rows, np.where(ranks < cut, gains / np.log2(ranks + 2.0), 0.0), len(scores_BL))
    ideal_BL = -np.sort(-np.where(where_BL, np.maximum(gains_BL, 0.0), 0.0), axis=1)[:, :cut]
    ideal = ideal_BL @ (1.0 / np.log2(np.arange(ideal_BL.shape[1]) + 2.0))
    return _divide(dcg, ideal).reshape(shape)


def recall(scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None, k: int | None = None) -> Floats:
    """Share of the relevant places (label above 0) that are ranked among the first k.

    The denominator is the number of relevant places, not min(k, that number). With one relevant place, it is the hit
    rate. Arguments, result and errors as in `ndcg`.
    """
    scores_BL, labels_BL, where_BL, shape = _prepare(scores, labels, where, k)
    rows, ranks, _ = _relevant(scores_BL, labels_BL, where_BL)
    found = _sum_rows(rows, (ranks < (scores_BL.shape[1] if k is None else k)).astype(np.float64), len(scores_BL))
    return _divide(found, _sum_rows(rows, np.ones(len(rows)), len(scores_BL))).reshape(shape)


def mrr(scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None, k: int | None = None) -> Floats:
    """1 / rank of the first relevant place, 0 if it is beyond k (Voorhees, TREC-8 question answering, 1999).

    The mean over lists is the MRR. Arguments, result and errors as in `ndcg`.
    """
    scores_BL, labels_BL, where_BL, shape = _prepare(scores, labels, where, k)
    rows, ranks, _ = _relevant(scores_BL, labels_BL, where_BL)
    best_B = np.zeros(len(scores_BL))
    cut = scores_BL.shape[1] if k is None else k
    np.maximum.at(best_B, rows, np.where(ranks < cut, 1.0 / (ranks + 1.0), 0.0))
    return best_B.reshape(shape)


def hit_rate(scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None, k: int | None = None) -> Floats:
    """1 when at least one relevant place is ranked among the first k, else 0. Arguments and errors as in `ndcg`."""
    return (mrr(scores, labels, where=where, k=k) > 0).astype(np.float64)


def average_precision(
    scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None, k: int | None = None
) -> Floats:
    """The mean, over all relevant places, of the precision at their rank; 0 for those beyond k.

    AP@k = Σ_{relevant r ≤ k} (relevant places among the first r) / r / (number of relevant places). The mean over lists
    is MAP@k, as trec_eval counts `map_cut`. Arguments, result and errors as in `ndcg`.
    """
    scores_BL, labels_BL, where_BL, shape = _prepare(scores, labels, where, k)
    rows, ranks, _ = _relevant(scores_BL, labels_BL, where_BL)
    order = np.lexsort((ranks, rows))
    rows, ranks = rows[order], ranks[order]
    # Relevant places come in order of their rank, so the number of those before one is its place within its row.
    first = np.searchsorted(rows, rows, "left")
    precision = (np.arange(len(rows)) - first + 1) / (ranks + 1.0)
    cut = scores_BL.shape[1] if k is None else k
    found = _sum_rows(rows, np.where(ranks < cut, precision, 0.0), len(scores_BL))
    return _divide(found, _sum_rows(rows, np.ones(len(rows)), len(scores_BL))).reshape(shape)


def kendall_tau(
    scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None, k: int | None = None
) -> Floats:
    """Kendall's τ-b between two scorings of one list (Kendall, "The treatment of ties in ranking problems", 1945).

    τ-b = (C − D) / sqrt((P − T_s)(P − T_l)) over the P pairs of places: C concordant, D discordant, T tied in scores or
    in labels. A list in which all scores or all labels are equal gives 0. With k, only the k places with the highest
    labels count. It needs L² pairs for each list, and computes them in chunks. Arguments and errors as in `ndcg`.

    Returns:
        `[...]` in [-1, 1].
    """
    scores_BL, labels_BL, where_BL, shape = _prepare(scores, labels, where, k)
    if k is not None and k < scores_BL.shape[1]:
        top_BK = top_k(np.where(where_BL, labels_BL, -np.inf), k)
        scores_BL, labels_BL = np.take_along_axis(scores_BL, top_BK, 1), np.take_along_axis(labels_BL, top_BK, 1)
        where_BL = np.take_along_axis(where_BL, top_BK, 1)
    batch, length = scores_BL.shape
    first, second = np.triu_indices(length, 1)
    tau_B = np.zeros(batch)
    for part in _rows(batch, len(first)):
        pair = where_BL[part][:, first] & where_BL[part][:, second]
        s, t = (_order(values[part][:, first], values[part][:, second]) * pair for values in (scores_BL, labels_BL))
        untied = np.count_nonzero(s, axis=1).astype(np.float64) * np.count_nonzero(t, axis=1)
        tau_B[part] = _divide((s * t).sum(1, dtype=np.int64), np.sqrt(untied))
    return tau_B.reshape(shape)


def overlap(scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None, k: int = 10) -> Floats:
    """Share of the first k places by `scores` that are also among the first k by `labels`.

    If fewer than k places exist, the share is of those places. Arguments and errors as in `ndcg`.
    """
    scores_BL, labels_BL, where_BL, shape = _prepare(scores, labels, where, k)
    chosen = []
    for values in (scores_BL, labels_BL):
        mask = np.zeros(values.shape, bool)
        np.put_along_axis(mask, top_k(np.where(where_BL, values, -np.inf), k), True, 1)
        chosen.append(mask & where_BL)
    return _divide((chosen[0] & chosen[1]).sum(1), np.minimum(where_BL.sum(1), k)).reshape(shape)


def top_k(scores_BN: ArrayLike, k: int) -> NDArray[np.int64]:
    """The places of the k highest scores of each row, best first, equal scores by position.

    Args:
        scores_BN: `[B, N]`; -inf marks places to rank last.
        k: How many; at most N are given.

    Returns:
        int64 `[B, min(k, N)]`.
    """
    values = np.asarray(scores_BN)
    count = values.shape[1]
    if k * 4 >= count:
        return np.argsort(-values, axis=1, kind="stable")[:, :k]
    # The k-th highest value splits a row. All places above it are in; of the places equal to it, the earliest ones.
    out = np.empty((len(values), k), np.int64)
    edges = np.partition(values, count - k, axis=1)[:, count - k]
    for row, (line, edge) in enumerate(zip(values, edges, strict=True)):
        above = np.flatnonzero(line > edge)
        places = np.concatenate([above, np.flatnonzero(line == edge)[: k - len(above)]])
        places.sort()
        out[row] = places[np.argsort(-line[places], kind="stable")]
    return out


def bootstrap_means(
    values: ArrayLike, *, seed: int = 0, draws: int = 2000, users: NDArray[np.int64] | None = None
) -> Floats:
    """Means of `draws` resamples of the rows, with replacement. All columns use the same resamples.

    With `users`, whole users are drawn, each with all of its rows. Lists of one user are alike, so rows that are drawn
    one by one would look surer than they are (Cameron, Gelbach and Miller, "Bootstrap-based improvements for inference
    with clustered errors", 2008).

    Args:
        values: `[n]` or `[n, M]`, finite, one row for each list.
        seed: Seed of the resampling. The same seed and n give the same resamples.
        draws: How many resamples.
        users: `[n]`, a number for the user of each row. None: each row is drawn alone.

    Returns:
        `[draws, M]` (M is 1 for a flat input). Memory stays below about 64 MB for any n and draws.

    Raises:
        UsageError: No rows, a value that is not finite, or fewer than one draw.
    """
    table = np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not len(table) or draws < 1:
        raise UsageError(f"a bootstrap needs rows of values and a draw or more, not shape {table.shape}, {draws} draws")
    if not np.isfinite(table).all():
        raise UsageError("a bootstrap needs finite values: one of these is NaN or infinite")
    sums, rows = _by_user(table, users)
    count = len(sums)
    random = np.random.default_rng(seed)
    out = np.empty((draws, table.shape[1]))
    for part in _rows(draws, count):
        # Count how often each row was drawn. Then the resampled means are one matrix product.
        draw = (np.bincount(random.integers(0, count, count), minlength=count) for _ in range(part.start, part.stop))
        weights = np.stack(list(draw)).astype(np.float64)
        out[part] = weights @ sums / (weights @ rows)[:, None]
    return out


def standard_errors(values: ArrayLike, users: NDArray[np.int64] | None = None) -> tuple[Floats, int]:
    """The standard error of the mean of each column, where rows of one user move together.

    With G users whose sums of deviations from the mean are d: sqrt(G / (G − 1) Σ d²) / n (Liang and Zeger, 1986, with
    the usual factor for few users).

    Args:
        values: `[n]` or `[n, M]`.
        users: `[n]`, a number for the user of each row. None: each row has its own.

    Returns:
        Errors `[M]` (infinite for one user), and the number of users.
    """
    table = np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    sums, _ = _by_user(table - table.mean(0), users)
    count = len(sums)
    if count < 2:
        return np.full(table.shape[1], np.inf), count
    return np.sqrt((sums**2).sum(0) * count / (count - 1)) / len(table), count


def _by_user(table: Floats, users: NDArray[np.int64] | None) -> tuple[Floats, Floats]:
    """Sums of the rows of each user `[G, M]`, and how many rows it has `[G]`. Users keep the order of their numbers."""
    if users is None:
        return table, np.ones(len(table))
    _, at = np.unique(users, return_inverse=True)
    rows = np.bincount(at).astype(np.float64)
    return np.stack([np.bincount(at, column) for column in table.T], axis=1), rows


def bootstrap_interval(values: ArrayLike, seed: int = 0, draws: int = 2000, *, level: float = 0.95) -> Interval:
    """The mean of the values with its percentile bootstrap interval (Efron, "Bootstrap methods", 1979).

    The lists are resampled, so lists of one user count as independent.

    Args:
        values: `[n]`, one for each list.
        seed: Of the resampling.
        draws: How many resamples.
        level: Coverage of the interval.

    Raises:
        UsageError: As in `bootstrap_means`.
    """
    return intervals(np.asarray(values, np.float64)[:, None], seed=seed, draws=draws, level=level)[0]


def paired_interval(a: ArrayLike, b: ArrayLike, seed: int = 0, draws: int = 2000, *, level: float = 0.95) -> Interval:
    """The mean of a − b with its percentile interval, both sides resampled together.

    Args:
        a: `[n]`, a metric of one contender, one value for each list.
        b: `[n]`, the same metric of the other contender on the same lists.
        seed: Of the resampling.
        draws: How many resamples.
        level: Coverage of the interval.

    Raises:
        UsageError: The two sides do not have the same number of lists; also as in `bootstrap_means`.
    """
    one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if one.shape != other.shape:
        raise UsageError(f"a paired interval needs the same lists on both sides, not {one.shape} and {other.shape}")
    return bootstrap_interval(one - other, seed, draws, level=level)


def intervals(
    values_NM: ArrayLike,
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
    users: NDArray[np.int64] | None = None,
) -> list[Interval]:
    """`bootstrap_interval` of every column, from one set of resamples, so that columns can be compared.

    With `users` whole users are drawn, and each interval knows its standard error and how many users there are.
    """
    table = np.asarray(values_NM, np.float64)
    means = bootstrap_means(table, seed=seed, draws=draws, users=users)
    lows, highs = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    columns = zip(table.mean(0), lows, highs, strict=True)
    if users is None:
        return [Interval(float(mean), float(low), float(high), len(table)) for mean, low, high in columns]
    errors, count = standard_errors(table, users)
    return [
        Interval(
            mean=float(mean),
            low=float(low),
            high=float(high),
            n=len(table),
            se=float(se) if count > 1 else None,
            users=count,
        )
        for (mean, low, high), se in zip(columns, errors, strict=True)
    ]


def _prepare(
    scores: ArrayLike, labels: ArrayLike, where: ArrayLike | None, k: int | None
) -> tuple[Floats, Floats, NDArray[np.bool_], tuple[int, ...]]:
    """Checked views of one shape `[B, L]` and the leading shape of the input."""
    s, t = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    w = np.ones(s.shape, bool) if where is None else np.asarray(where, bool)
    if not s.ndim or s.shape != t.shape or s.shape != w.shape:
        raise UsageError(f"scores, labels and where need one shape [..., L], not {s.shape}, {t.shape} and {w.shape}")
    if k is not None and k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    if np.isnan(s[w]).any() or np.isnan(t[w]).any():
        raise UsageError("a score or a label is NaN in a place that counts: mask it with where, or repair its source")
    shape = s.shape[:-1]
    batch = int(np.prod(shape, dtype=np.int64))
    length = s.shape[-1]
    s, t, w = s.reshape(batch, length), t.reshape(batch, length), w.reshape(batch, length)
    # Replace what a masked place holds: a NaN there would spoil later arithmetic. Real places are above masked ones.
    return np.where(w, np.maximum(s, _LOWEST), -np.inf), np.where(w, np.maximum(t, _LOWEST), 0.0), w, shape


def _relevant(
    scores_BL: Floats, labels_BL: Floats, where_BL: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Rows, ranks (from 0) and labels of the relevant places.

    Most lists have few relevant places. Then it counts the better places of each one, which is faster than sorting.
    """
    rows, places = np.nonzero(where_BL & (labels_BL > 0))
    ranks = np.zeros(len(rows), np.int64)
    length = scores_BL.shape[1]
    if len(rows) > 16 * len(scores_BL):
        order = np.argsort(-scores_BL, axis=1, kind="stable")
        all_ranks = np.empty(scores_BL.shape, np.int64)
        np.put_along_axis(all_ranks, order, np.broadcast_to(np.arange(length), scores_BL.shape), 1)
        ranks = all_ranks[rows, places]
    else:
        position = np.arange(length)
        for part in _rows(len(rows), length):
            lists, own = scores_BL[rows[part]], scores_BL[rows[part], places[part]][:, None]
            earlier = (lists == own) & (position < places[part][:, None]) & where_BL[rows[part]]
            ranks[part] = np.count_nonzero(lists > own, axis=1) + np.count_nonzero(earlier, axis=1)
    return rows, ranks, labels_BL[rows, places]


def _order(one: Floats, other: Floats) -> NDArray[np.int8]:
    """1, 0 or -1 if `one` is above, equal to or below `other`. It compares, because inf − inf is NaN."""
    return (one > other).astype(np.int8) - (one < other).astype(np.int8)


def _sum_rows(rows: NDArray[np.int64], values: Floats, count: int) -> Floats:
    return np.bincount(rows, weights=values, minlength=count).astype(np.float64)


def _divide(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """above / below, and 0 where below is 0."""
    out: Floats = np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0)
    return out


def _rows(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` rows, each with at most `_CHUNK` elements."""
    step = max(1, _CHUNK // max(1, width))
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))
