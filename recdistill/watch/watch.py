"""Which teachers to believe: notices a scale that jumps and an order that breaks off, and keeps both from the student.

For each teacher, `id@version`, it follows four figures of the lists as they come, before the student learns them:

- where its scores lie and how far they spread. A jump is told and counted; lists are standardised, so nothing is lost;
- how far its order agrees with the student's own scores of the same list (Spearman's ρ);
- how often it puts what was taken above what was not (AUC of a list's pairs), where labels are known.

An order is held against the teacher's own past by a CUSUM (Page, 1954) of log-likelihood ratios, its usual agreement
against none at all: the sum grows once agreement has fallen more than half-way to chance. Under independent normal
figures the mean number of lists to a false alarm is at least e^threshold (Lorden, 1971), here 10^8.

A teacher whose order broke off is quarantined: its lists weigh 0 in the soft loss, their labels are learnt, and they
are still compared, so that it is released when agreement has come back. A teacher that comes later than the first ones
is on probation until it agrees, with labels or student, at least half as well as those before it.

What a first pass has found holds for the later ones, from the list on where a change began. All of it is arithmetic on
a batch and a small state, so a run that was killed and went on finds the same.

It knows nothing of torch, losses or logs.

Example:
    >>> from recdistill.config import WatchSettings
    >>> watch = Watch(WatchSettings())
    >>> random, real = np.random.default_rng(0), np.ones((512, 20), bool)
    >>> for step in range(4):
    ...     student = random.normal(size=(512, 20))
    ...     sound = student + random.normal(size=(512, 20))
    ...     scores = random.permuted(sound, axis=1) if step == 3 else sound
    ...     weights_B = watch.weigh(["t@1"] * 512, scores, real, np.zeros((512, 20)), real, student)
    ...     print(int(weights_B.sum()))
    512
    512
    512
    0
    >>> watch.standing()
    ['teacher t@1 is quarantined: its order agreed with the student at 0.66, and no longer does']
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.config import WatchSettings
from recdistill.errors import CheckpointError
from recdistill.watch.figures import (
    ENOUGH,
    HALF_LIFE,
    LONG_RUN,
    RUN,
    Figure,
    breaks,
    hopeless,
    lift_of,
    verdict,
    watched,
)
from recdistill.watch.known import Known, Masked, Reason, State, Window
from recdistill.watch.units import (
    FLATTEST,
    SHARPEST,
    UNBOUNDED_SPREAD,
    Where,
    label_curve,
    pair_auc,
    rank_correlation,
)

FOUNDING = 1_000
"""Lists, from the beginning, within which a teacher counts as one of the first; and after which these are judged."""

FOUNDING_BATCHES = 50
"""Batches that the student has to find a first teacher's order in."""

LEAST_LIFT = 0.02
"""What counts as better than chance, in ρ or AUC, where there is nobody to compare with."""

HOPELESS = 0.05
"""A ρ (and twice the AUC above a half) that a first teacher has to be surely below to be no better than chance."""

SPREAD_JUMP = math.log(4)
"""What a spread is tested for, in logs: it is a jump when it has at least doubled or halved, which one user's lists
seldom do. Less than that is of no consequence."""

MOST_TEACHERS = 256
"""Teachers remembered; beyond, the one not seen for longest is forgotten, and would be new again."""

SHARPNESS_G = np.geomspace(FLATTEST, SHARPEST, 49)
CURVE_LISTS = 64
CURVE_HALF_LIFE = 20_000
CURVE_ENOUGH = 200


class Watch:
    """Follows every teacher of a stream of lists.

    Args:
        settings: How scores are made comparable, and what is done about a teacher that changes.
    """

    def __init__(self, settings: WatchSettings) -> None:
        self.settings = settings
        self.now = State()
        self.counts: Counter[str] = Counter()
        """`normalised` (jumps of a scale), `quarantined_lists`, the same by reason, `probation_lists`; the caller's to
        take and clear."""
        self.news: list[str] = []
        """One sentence for each change; the caller's to take and clear."""

    def weigh(
        self,
        teachers: Sequence[str],
        scores_BL: npt.ArrayLike,
        scored_BL: Where,
        labels_BL: npt.ArrayLike,
        labelled_BL: Where,
        student_BL: npt.ArrayLike,
        units_BL: npt.ArrayLike | None = None,
    ) -> npt.NDArray[np.float32]:
        """Weight of each list's soft loss, 1 or 0, f32 `[B]`, after this batch was looked at, before it is learnt.

        Args:
            teachers: Whose scores each list has, `id@version`.
            scores_BL: The scores as they came.
            scored_BL: Where there is one.
            labels_BL: Above 0 where something was taken.
            labelled_BL: Where labels are known.
            student_BL: The student's scores of the same candidates.
            units_BL: The scores in common units, for the calibration; None: `scores_BL` are.
        """
        names = np.asarray(teachers)
        judged_B = scored_BL.sum(1) >= 2
        ordinals_B = self.now.at + np.arange(len(names))
        self.now.at += len(names)
        scores_BL, labels_BL = np.asarray(scores_BL, np.float64), np.asarray(labels_BL)
        student_BL = np.asarray(student_BL)
        units_BL = scores_BL if units_BL is None else np.asarray(units_BL, np.float64)
        for name in dict.fromkeys(teachers):
            rows_B = np.flatnonzero((names == name) & judged_B)
            if not rows_B.size:
                continue
            scored, witnessed = scored_BL[rows_B], (scored_BL & labelled_BL)[rows_B]
            if self.settings.spread == 0:
                self._calibrate(self._known(name, ordinals_B[rows_B]), units_BL[rows_B], labels_BL[rows_B], witnessed)
            if self.settings.act == "off":
                continue
            # A student that answers with anything but numbers is no witness.
            sane = scored & np.isfinite(student_BL[rows_B]).all(1, keepdims=True)
            self._observe(
                name,
                ordinals_B[rows_B],
                rank_correlation(scores_BL[rows_B], student_BL[rows_B], sane),
                pair_auc(scores_BL[rows_B], labels_BL[rows_B], witnessed),
                *_place(scores_BL[rows_B], scored),
            )
        mistrusted = [name for name in dict.fromkeys(teachers) if not self._trusts(name)]
        out_B = np.isin(names, mistrusted) & judged_B
        if (judged_B & ~out_B).any():
            self.now.learnt = self.now.at
        return self._weights(names, out_B)

    def weigh_again(self, teachers: Sequence[str], scored_BL: Where) -> npt.NDArray[np.float32]:
        """Weights in a later pass over lists that `weigh` has seen, in the same order since `rewind`."""
        names = np.asarray(teachers)
        ordinals_B = self.now.again + np.arange(len(names))
        self.now.again += len(names)
        out_B = np.zeros(len(names), bool)
        for masked in self.now.masked:
            inside_B = (ordinals_B >= masked.start) & ((masked.end < 0) | (ordinals_B < masked.end))
            out_B |= (names == masked.teacher) & inside_B
        return self._weights(names, out_B & (scored_BL.sum(1) >= 2))

    def skip(self, lists: int, *, again: bool) -> None:
        """Passes over lists that nobody can say anything of, so that later passes count as this one does."""
        if again:
            self.now.again += lists
        else:
            self.now.at += lists

    def rewind(self) -> None:
        """Says that the next batch of a later pass is the first one ever seen."""
        self.now.again = 0

    def forget_passes(self) -> None:
        """Says that no later pass will come: which lists were left out need not be known any more."""
        self.now.masked = []

    def spreads(self, teachers: Sequence[str]) -> npt.NDArray[np.float32]:
        """What each list's scores in common units are multiplied by, f32 `[B]`.

        By default one number for all teachers. With `spread = 0`, for each teacher the inverse of the temperature that
        makes the labels seen so far most likely, once 200 lists with labels were seen; until then 2.
        """
        if self.settings.comparable == "scale":
            return np.ones(len(teachers), np.float32)
        if self.settings.spread > 0:
            return np.full(len(teachers), self.settings.spread, np.float32)
        found = {name: self._sharpness(name) for name in dict.fromkeys(teachers)}
        return np.array([found[name] for name in teachers], np.float32)

    def standing(self) -> list[str]:
        """A sentence for each teacher that is not learnt from now."""
        return [
            f"teacher {name} is {'on probation' if known.reason == 'new' else 'quarantined'}: {known.why}"
            for name, known in sorted(self.now.known.items())
            if not known.trusted
        ]

    def state(self) -> dict[str, Any]:
        """Everything the next batch depends on, as JSON can say it."""
        built: dict[str, Any] = msgspec.to_builtins(self.now)
        return built

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up where `state()` was taken.

        Raises:
            CheckpointError: It is no watch's state.
        """
        try:
            self.now = msgspec.convert(state, State)
        except msgspec.ValidationError as e:
            raise CheckpointError(f"checkpoint: the state of the watch is not one ({e})") from e

    def _weights(self, names: np.ndarray, out_B: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Ones and zeros, counted by reason; all ones when changes are only to be told."""
        if self.settings.act != "quarantine":
            return np.ones(len(names), np.float32)
        for name, lists in Counter(names[out_B].tolist()).items():
            known = self.now.known.get(name)
            reason = known.reason if known else ""
            if reason == "new":
                self.counts["probation_lists"] += lists
            else:
                self.counts["quarantined_lists"] += lists
                if reason:
                    self.counts[f"quarantined_lists_{reason}"] += lists
        return np.where(out_B, 0.0, 1.0).astype(np.float32)

    def _trusts(self, name: str) -> bool:
        known = self.now.known.get(name)
        return known is None or known.trusted

    def _known(self, name: str, at: npt.NDArray[np.int64]) -> Known:
        """What is known of a teacher; one that was never seen is one of the first, or on probation."""
        known = self.now.known.get(name)
        if known is None:
            if len(self.now.known) >= MOST_TEACHERS:
                oldest = min(self.now.known, key=lambda other: (self.now.known[other].last, other))
                del self.now.known[oldest]
            first = int(at[0])
            known = self.now.known[name] = Known(first)
            later = first >= FOUNDING and len(self.now.known) > 1
            if later and self.settings.probation > 0 and self.settings.act != "off":
                self._distrust(name, known, "new", f"it came new, and is compared over {self.settings.probation} lists")
        known.last = int(at[-1])
        return known

    def _observe(
        self,
        name: str,
        at: npt.NDArray[np.int64],
        order_B: npt.NDArray[np.float64],
        labels_B: npt.NDArray[np.float64],
        location_B: npt.NDArray[np.float64],
        spread_B: npt.NDArray[np.float64],
    ) -> None:
        known = self._known(name, at)
        known.seen += len(at)
        known.batches += 1
        self._scale(name, known, at, location_B, spread_B)
        if not known.trusted:
            self._wait(name, known, order_B, labels_B, at)
            return
        order_alarm = breaks(known.order, order_B, 0.0, at)
        # Where the student knows the teacher well, it is the better witness: labels change with tastes and lists.
        if lift_of(known.order, 0.0) >= 0.5:
            labels_alarm, known.labels.low = False, 0.0
            known.labels.add(labels_B[np.isfinite(labels_B)], HALF_LIFE)
        else:
            labels_alarm = breaks(known.labels, labels_B, 0.5, at, LONG_RUN)
        known.proven |= watched(known.order, 0.0) or watched(known.labels, 0.5)
        if order_alarm:
            why = f"its order agreed with the student at {known.order.mean:.2f}, and no longer does"
            self._distrust(name, known, "order", why, known.order.low_onset)
        elif labels_alarm:
            why = f"it put what was taken above the rest in {known.labels.mean:.0%} of pairs, and no longer does"
            self._distrust(name, known, "labels", why, known.labels.low_onset)
        elif not known.proven and self._hopeless(known):
            why = f"after {known.seen} lists neither labels nor student agree with its order better than with chance"
            self._distrust(name, known, "chance", why, known.first)

    @staticmethod
    def _hopeless(known: Known) -> bool:
        """Whether a first teacher is surely no better than chance, once the student has had time to find its order."""
        if known.seen < FOUNDING or known.batches < FOUNDING_BATCHES:
            return False
        by_labels = known.labels.weight < ENOUGH or hopeless(known.labels, 0.5, HOPELESS / 2)
        return by_labels and hopeless(known.order, 0.0, HOPELESS)

    def _distrust(self, name: str, known: Known, reason: Reason, why: str, onset: int | None = None) -> None:
        start = known.last if onset is None else onset
        if reason == "new":
            start = known.first
        known.trusted, known.reason, known.why, known.since = False, reason, why, start
        known.window = Window(start=start)
        known.order.low = known.labels.low = 0.0
        self.now.masked.append(Masked(name, start))
        self.news.append(self._sentence(name, known))

    def _sentence(self, name: str, known: Known) -> str:
        act = "on probation" if known.reason == "new" else "quarantined"
        if self.settings.act == "notice":
            act += " in name only (watch.act is notice)"
        return f"teacher {name} is {act}, from list {known.since} on: {known.why}"

    def _wait(
        self,
        name: str,
        known: Known,
        order_B: npt.NDArray[np.float64],
        labels_B: npt.NDArray[np.float64],
        at: npt.NDArray[np.int64],
    ) -> None:
        """Gathers what speaks for a teacher that is not learnt from, and trusts it when that is enough."""
        window, new = known.window, known.reason == "new"
        if window.lists == 0:
            window.start = int(at[0])
        window.lists += len(at)
        window.order.add(order_B[np.isfinite(order_B)], math.inf)
        window.labels.add(labels_B[np.isfinite(labels_B)], math.inf)
        if window.lists < (self.settings.probation if new else self.settings.release):
            return
        for_order, against_order = verdict(window.order, 0.0, self._bar("order", known))
        for_labels, against_labels = verdict(window.labels, 0.5, self._bar("labels", known))
        if not (for_labels or (for_order and not against_labels)):
            if new and (against_order or against_labels):
                known.reason = "chance"
                known.why = (
                    f"over {window.lists} lists it agreed with the student at {window.order.mean:.2f} and with labels "
                    f"in {window.labels.mean:.0%} of pairs, too little beside the teachers before it"
                )
                self.news.append(self._sentence(name, known))
            known.window = Window()
            return
        for masked in self.now.masked:
            if masked.teacher == name and masked.end < 0:
                masked.end = window.start
        self.now.masked = [each for each in self.now.masked if each.end < 0 or each.end > each.start]
        # Held against what it was before, a student that has moved away would at once accuse it again.
        if not watched(known.order, 0.0) or window.order.mean < 0.75 * known.order.mean:
            known.order = window.order
        if not watched(known.labels, 0.5):
            known.labels = window.labels
        known.trusted, known.proven, known.reason, known.why, known.since = True, True, "", "", int(at[0])
        known.window = Window()
        self.news.append(
            f"teacher {name} is learnt from, from list {known.since} on: over {window.lists} lists it agreed with the "
            f"student at {window.order.mean:.2f} and with labels in {window.labels.mean:.0%} of pairs"
        )

    def _bar(self, which: Literal["order", "labels"], known: Known) -> float:
        """The lift over chance that a teacher has to show."""
        chance = 0.0 if which == "order" else 0.5
        own: Figure = getattr(known, which)
        if watched(own, chance):
            lift = own.mean - chance
        else:
            others: list[Figure] = [getattr(other, which) for other in self.now.known.values() if other.proven]
            lift = max((other.mean - chance for other in others if watched(other, chance)), default=0.0)
        if which == "order":
            # A student that learns from labels alone moves away from every teacher.
            lift *= 0.5 ** ((self.now.at - self.now.learnt) / HALF_LIFE)
        return max(LEAST_LIFT, self.settings.least * lift)

    def _scale(
        self,
        name: str,
        known: Known,
        at: npt.NDArray[np.int64],
        location_B: npt.NDArray[np.float64],
        spread_B: npt.NDArray[np.float64],
    ) -> None:
        """Tells of a jump of location or spread, and starts its reference anew."""
        spread_B = spread_B[np.isfinite(spread_B)]
        whole_B = location_B, spread_B
        jumped = False
        if known.location.weight >= ENOUGH and known.spread.weight >= ENOUGH:
            usual = math.exp(known.spread.mean)
            unit = max(known.location.sd, usual)
            spread_sd = max(known.spread.sd, SPREAD_JUMP / 2)
            # One list far out is no jump, and must not become the reference either.
            location_B = _clipped(location_B, known.location.mean, 4 * unit)
            spread_B = _clipped(spread_B, known.spread.mean, 4 * spread_sd)
            for figure, values, shift, sd in (
                (known.location, location_B, 2 * unit, unit),
                (known.spread, spread_B, SPREAD_JUMP, spread_sd),
            ):
                jumped |= figure.falls(values, shift, sd, at, LONG_RUN) | figure.rises(values, shift, sd, at, LONG_RUN)
            if jumped:
                # Older lists of this batch may have the older scale.
                location_B, spread_B = whole_B[0][-RUN:], whole_B[1][-RUN:]
                new_location, new_spread = float(np.median(location_B)), math.exp(np.median(spread_B))
                self.counts["normalised"] += 1
                self.news.append(
                    f"the scale of teacher {name} jumped by list {int(at[-1])}: its scores lay at "
                    f"{known.location.mean:.3g} ± {usual:.3g} and lie at {new_location:.3g} ± {new_spread:.3g}; "
                    + (
                        "watch.comparable is scale, so the student learns them as they are"
                        if self.settings.comparable == "scale"
                        else "its lists are standardised, so the student goes on as before"
                    )
                )
                known.location, known.spread = Figure(), Figure()
        known.location.add(location_B, HALF_LIFE)
        known.spread.add(spread_B, HALF_LIFE)

    def _calibrate(
        self,
        known: Known,
        units_BL: npt.NDArray[np.float64],
        labels_BL: npt.NDArray[Any],
        witnessed_BL: Where,
    ) -> None:
        """Adds a sample of a batch's labelled lists to the likelihood of each temperature."""
        rows_B = np.flatnonzero(((labels_BL > 0) & witnessed_BL).any(1))[:CURVE_LISTS]
        if not rows_B.size or not known.trusted:
            return
        curve = label_curve(units_BL[rows_B], labels_BL[rows_B], witnessed_BL[rows_B], SHARPNESS_G)
        keep = 0.5 ** (len(rows_B) / CURVE_HALF_LIFE)
        known.curve = (keep * np.asarray(known.curve or 0.0) + curve).tolist()
        known.curve_lists = keep * known.curve_lists + len(rows_B)

    def _sharpness(self, name: str) -> float:
        known = self.now.known.get(name)
        if known is None or known.curve_lists < CURVE_ENOUGH:
            return UNBOUNDED_SPREAD
        return lowest(SHARPNESS_G, np.asarray(known.curve))


def lowest(sharpness_G: npt.NDArray[np.float64], curve_G: npt.NDArray[np.float64]) -> float:
    """Where a convex curve that is known on a geometric grid is lowest: by a parabola through the three lowest points.

    Example:
        >>> grid = np.geomspace(0.1, 10, 9)
        >>> round(lowest(grid, (np.log(grid) - 0.3) ** 2), 3) == round(math.exp(0.3), 3)
        True
    """
    best = int(np.argmin(curve_G))
    if best in (0, len(curve_G) - 1):
        return float(sharpness_G[best])
    left, middle, right = curve_G[best - 1 : best + 2]
    step = float(np.log(sharpness_G[best + 1] / sharpness_G[best]))
    bend = left - 2 * middle + right
    return float(sharpness_G[best] * math.exp(step * (left - right) / (2 * bend) if bend > 0 else 0.0))


def _clipped(values: npt.NDArray[np.float64], middle: float, reach: float) -> npt.NDArray[np.float64]:
    return np.clip(values, middle - reach, middle + reach)


def _place(
    scores_BL: npt.NDArray[np.float64], scored_BL: Where
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Median of each list, and the log of its mean distance from it; NaN where all are equal."""
    ordered_BL = np.sort(np.where(scored_BL, scores_BL, np.inf), axis=1)
    count_B = scored_BL.sum(1)
    rows_B = np.arange(len(count_B))
    middle_B = (ordered_BL[rows_B, (count_B - 1) // 2] + ordered_BL[rows_B, count_B // 2]) / 2
    distance_B = np.where(scored_BL, np.abs(scores_BL - middle_B[:, None]), 0.0).sum(1) / count_B
    return middle_B, np.log(distance_B, out=np.full(len(count_B), np.nan), where=distance_B > 0)
