"""Which teachers to believe. The watch acts on what the detectors find.

For each teacher, `id@version`, every detector sees its lists before the student learns them. A jump of a scale is only
reported. What becomes of a teacher that is accused is a policy. `notice` only reports it: what student and labels say
is a hint, no proof. With `quarantine` its lists weigh 0 in the soft loss, but their labels are still learnt. It is
still compared with the student and with labels. When it agrees with them again, it is released. A teacher that comes
later than the first ones is on probation, until it agrees at least half as well as the teachers before it.

A teacher that was asked again and answers as it did at first has not changed: then nothing in the stream accuses it.

What the first pass finds also holds for later passes, from the list where a change began. The watch computes from the
batch and a small state alone. So a run that was killed and resumed finds the same.

It knows nothing of torch, losses or logs, or of how a detector works.

Example:
    >>> from recdistill.watch.observation import Observation
    >>> watch = Watch(act="quarantine")
    >>> random, real = np.random.default_rng(0), np.ones((512, 20), bool)
    >>> for step in range(4):
    ...     student = random.normal(size=(512, 20))
    ...     sound = student + random.normal(size=(512, 20))
    ...     scores = random.permuted(sound, axis=1) if step == 3 else sound
    ...     weights_B = watch.weigh(Observation(
    ...         teachers=["t@1"] * 512, scores_BL=scores, scored_BL=real, student_BL=student,
    ...         labels_BL=np.zeros((512, 20)), labelled_BL=real,
    ...     ))
    ...     print(int(weights_B.sum()))
    512
    512
    512
    0
    >>> watch.standing()
    ['teacher t@1 is quarantined: its order agreed with the student at 0.66, and no longer does']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.features import Lists
from recdistill.watch import sentences
from recdistill.watch.arrived import Arrived
from recdistill.watch.cells import REFERENCE
from recdistill.watch.detectors import FOUNDING, Finding
from recdistill.watch.figures import HALF_LIFE
from recdistill.watch.known import NEW, Known, Masked, State, restored
from recdistill.watch.observation import Observation, Seen
from recdistill.watch.trial import Window, bar
from recdistill.watch.unit import Unit, fitted
from recdistill.watch.witnesses import CHANCE_ORDER, CHANCE_PAIRS, Where

MOST_TEACHERS = 256
"""So many teachers are remembered. With one more, the teacher that was not seen for the longest time is forgotten, and
is new when it comes again.
"""


class Watch:
    """Follows every teacher of a stream of lists.

    Args:
        comparable: How scores are made comparable. "scale" leaves them as they are, so the student learns a jump too.
        spread: Standard deviation, in logits, of a list made comparable. With 0, each teacher gets the one that fits
            its labels best.
        act: What happens to a teacher that is accused: "quarantine" stops learning from it, "notice" only reports it.
            "off": nobody watches.
        probation: How many lists a later teacher is compared over before the student learns from it; 0: none.
        least: How much agreement is enough, as a share of what the teacher, or the others, had.
        release: How many lists a teacher in quarantine is compared over before the student may learn from it again.
        drift_lists: Lists of the reference that the stream itself is compared with; 0: nobody looks.
        numbers: The fields of the context that are numbers, see `Arrived`.
    """

    def __init__(
        self,
        *,
        comparable: Literal["teacher", "standard", "rank", "scale"] = "teacher",
        spread: float = 2.0,
        act: Literal["quarantine", "notice", "off"] = "notice",
        probation: int = 200,
        least: float = 0.5,
        release: int = 300,
        drift_lists: int = 2000,
        numbers: Iterable[str] = (),
    ) -> None:
        self.comparable, self.spread, self.act = comparable, spread, act
        self.probation, self.least, self.release, self.drift_lists = probation, least, release, drift_lists
        self.numbers = frozenset(numbers)
        self.now = State()
        self.counts: Counter[str] = Counter()
        """`normalised` (jumps of a scale), `quarantined_lists`, the same by reason, `probation_lists`, `drift_inputs`,
        `drift_labels` and `drift_agreement`. The caller reads and clears them.
        """
        self.news: list[str] = []
        """One sentence for each change of a teacher. The caller reads and clears them."""
        self.drifted: list[str] = []
        """One sentence for each drift of the stream. The caller reads and clears them."""

    def look(
        self, lists: Lists, student_BL: npt.NDArray[np.floating], times_B: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Shows a batch to the detectors of drift, which only report. Call it before `weigh`, once for each batch.

        Args:
            lists: The batch.
            student_BL: The student's scores before it learns from them.
            times_B: When each list was shown, in microseconds; 0: not known. None: of none it is.
        """
        if self.drift_lists:
            arrived = Arrived(
                first=self.now.at, lists=lists, student_BL=student_BL, times_B=times_B, numbers=self.numbers
            )
            for found, counted in self.now.drifts.observe(arrived, block=max(1, self.drift_lists // REFERENCE)):
                self.counts[counted] += 1
                self.drifted.append(str(found))

    def drift(self) -> dict[tuple[str, str], float]:
        """What the detectors of drift see now, by detector and quantity."""
        return {(name, of): value for name, seen in self.now.drifts.figures().items() for of, value in seen.items()}

    def weigh(self, batch: Observation) -> npt.NDArray[np.float32]:
        """Looks at a batch before it is learnt. Returns the weight of each list's soft loss, 1 or 0, f32 `[B]`."""
        first, self.now.at = self.now.at, self.now.at + len(batch.teachers)
        names = list(dict.fromkeys(batch.teachers))
        for name in names:
            if (seen := batch.of(name, first)) is None:
                continue
            if self.spread == 0 and (known := self._known(name, seen)).trusted:
                known.calibration.add(seen)
            if self.act != "off":
                self._observe(name, self._known(name, seen), seen)
        # Lists of teachers that are not believed weigh 0. A list with fewer than two scores has no soft loss anyway.
        mistrusted = [name for name in names if name in self.now.known and not self.now.known[name].trusted]
        out_B = np.isin(batch.names, mistrusted) & batch.judged
        if (batch.judged & ~out_B).any():
            self.now.learnt = self.now.at
        return self._weights(batch.names, out_B)

    def weigh_again(self, teachers: Sequence[str], scored_BL: Where) -> npt.NDArray[np.float32]:
        """Weights in a later pass. It must bring the lists that `weigh` has seen, in the same order, after `rewind`."""
        names = np.asarray(teachers)
        ordinals_B = self.now.again + np.arange(len(names))
        self.now.again += len(names)
        out_B = np.zeros(len(names), bool)
        for masked in self.now.masked:
            inside_B = (ordinals_B >= masked.start) & ((masked.end < 0) | (ordinals_B < masked.end))
            out_B |= (names == masked.teacher) & inside_B
        return self._weights(names, out_B & (scored_BL.sum(1) >= 2))

    def trusts(self, teachers: Sequence[str]) -> npt.NDArray[np.float32]:
        """Weight of lists that were learnt before, by whether their teacher is believed now, 1 or 0, f32 `[B]`."""
        out = (
            {name for name, known in self.now.known.items() if not known.trusted} if self.act == "quarantine" else set()
        )
        return np.array([name not in out for name in teachers], np.float32)

    def skip(self, lists: int, *, again: bool) -> None:
        """Counts lists that nothing can be said of, so that later passes have the same numbers."""
        if again:
            self.now.again += lists
        else:
            self.now.at += lists

    def rewind(self, lists: int = 0) -> None:
        """Says that a later pass starts: its next batch is the one before which so many lists had been seen."""
        self.now.again = lists

    def forget_passes(self) -> None:
        """Says that no later pass will come, so the lists that were left out can be forgotten."""
        self.now.masked = []

    def spreads(self, teachers: Sequence[str]) -> npt.NDArray[np.float32]:
        """What each list's scores in common units are multiplied by, f32 `[B]`.

        By default it is one number for all teachers. With `spread = 0` each teacher has its own: the inverse of the
        temperature that makes the labels seen so far most likely. Before 200 lists with labels were seen it is 2.
        """
        if self.comparable == "scale":
            return np.ones(len(teachers), np.float32)
        if self.spread > 0:
            return np.full(len(teachers), self.spread, np.float32)
        unknown = Known(0)
        found = {name: self.now.known.get(name, unknown).calibration.sharpness() for name in dict.fromkeys(teachers)}
        return np.array([found[name] for name in teachers], np.float32)

    def in_units(
        self,
        teachers: Sequence[str],
        units_BL: npt.NDArray[np.float32],
        variance_B: npt.NDArray[np.float64],
        new_B: Where,
    ) -> npt.NDArray[np.float32]:
        """Lists in the unit of their teacher, f32 `[B, L]`, with a spread of about 1. Call it before `weigh`.

        Args:
            teachers: The teacher of each list.
            units_BL: Their scores as `comparable_scores` gave them. Unless `comparable` is "teacher", they stay.
            variance_B: Their variance.
            new_B: Which of them are seen for the first time: they count for the unit.
        """
        if self.comparable != "teacher":
            return units_BL
        names, units = np.asarray(teachers), self.now.units
        unit_B = np.ones(len(names))
        for name in dict.fromkeys(teachers):
            rows_B = names == name
            unit = units.setdefault(name, Unit())
            unit.add(variance_B[rows_B & new_B])
            unit.last = self.now.at
            unit_B[rows_B] = unit.spread()
        while len(units) > MOST_TEACHERS:  # by numbers and names: a checkpoint does not keep the order of a table
            del units[min(units, key=lambda one: (units[one].last, one))]
        return fitted(units_BL, variance_B, unit_B).astype(np.float32)

    def standing(self) -> list[str]:
        """A sentence for each teacher that is not believed now."""
        return [
            sentences.standing(name, new=known.reason == NEW, why=known.why, in_name_only=self.act == "notice")
            for name, known in sorted(self.now.known.items())
            if not known.trusted
        ]

    def state(self) -> dict[str, Any]:
        """Everything that the next batch depends on, as plain data for JSON."""
        built: dict[str, Any] = msgspec.to_builtins(self.now)
        return built

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes the state that `state()` saved.

        Raises:
            CheckpointError: It is not the state of a watch.
        """
        self.now = restored(state)

    def _weights(self, names: np.ndarray, out_B: Where) -> npt.NDArray[np.float32]:
        """Ones and zeros, counted by reason. All are ones when changes are only reported."""
        if self.act != "quarantine":
            return np.ones(len(names), np.float32)
        for name, lists in Counter(names[out_B].tolist()).items():
            known = self.now.known.get(name)
            reason = known.reason if known else ""
            if reason == NEW:
                self.counts["probation_lists"] += lists
            else:
                self.counts["quarantined_lists"] += lists
                if reason:
                    self.counts[f"quarantined_lists_{reason}"] += lists
        return np.where(out_B, 0.0, 1.0).astype(np.float32)

    def _known(self, name: str, seen: Seen) -> Known:
        """What is known of a teacher. A teacher that was never seen is one of the first, or it is on probation."""
        known = self.now.known.get(name)
        if known is None:
            if len(self.now.known) >= MOST_TEACHERS:
                oldest = min(self.now.known, key=lambda other: (self.now.known[other].last, other))
                del self.now.known[oldest]
            known = self.now.known[name] = Known(int(seen.at_B[0]))
            later = known.first >= FOUNDING and len(self.now.known) > 1
            if later and self.probation > 0 and self.act != "off":
                self._distrust(name, known, NEW, Finding(sentences.came_new(self.probation)))
        known.last = int(seen.at_B[-1])
        return known

    def _observe(self, name: str, known: Known, seen: Seen) -> None:
        """Shows a teacher's lists to the detectors, and acts on what they find."""
        for kind, detector, finding in known.detectors.notices(seen):
            self.counts[detector.notice] += 1
            at, followed = finding.since or known.first, self.comparable == "scale"
            self.news.append(sentences.jumped(kind, name, at, finding.why, followed=followed))
            self.now.units.pop(name, None)  # it is found again from the lists to come
        if not known.trusted:
            known.detectors.itself.observe(seen, quiet=True)
            self._try(name, known, seen)
        elif accusation := known.detectors.accusation(seen):
            self._distrust(name, known, *accusation)

    def _distrust(self, name: str, known: Known, reason: str, finding: Finding) -> None:
        """Stops learning from a teacher. Later passes leave out its lists since the change began."""
        start = known.first if finding.since is None else finding.since
        known.trusted, known.reason, known.why, known.since = False, reason, finding.why, start
        known.window = Window(start=start)
        known.detectors.drop()
        self.now.masked.append(Masked(name, start))
        self._accuse(name, known)

    def _accuse(self, name: str, known: Known) -> None:
        new, only_told = known.reason == NEW, self.act == "notice"
        self.news.append(sentences.accused(name, new=new, since=known.since, why=known.why, in_name_only=only_told))

    def _try(self, name: str, known: Known, seen: Seen) -> None:
        """Goes on with the trial of a teacher that is not believed, and decides when its window is full."""
        window, new = known.window, known.reason == NEW
        window.add(seen)
        if known.detectors.itself.sure and not new:
            self._trust(name, known, int(seen.at_B[0]))
            return
        if window.lists < (self.probation if new else self.release):
            return
        verdict = window.verdict(*self._bars(known))
        if verdict == "passed":
            self._trust(name, known, int(seen.at_B[0]))
        elif verdict == "failed" and new:
            known.reason, known.why = "chance", sentences.failed(window)
            self._accuse(name, known)
        known.window = Window()

    def _bars(self, known: Known) -> tuple[float, float]:
        """The lift over chance that a teacher must have, in order and in labels."""
        own, proven = known.detectors, [k.detectors for k in self.now.known.values() if k.detectors.chance.proven]
        # While the student learns from labels alone, it moves away from every teacher. So the order bar
        # falls with time.
        kept = 0.5 ** ((self.now.at - self.now.learnt) / HALF_LIFE)
        others = [each.order.reference for each in proven]
        order = bar(own.order.reference, others, CHANCE_ORDER, least=self.least, kept=kept)
        others = [each.labels.reference for each in proven]
        return order, bar(own.labels.reference, others, CHANCE_PAIRS, least=self.least)

    def _trust(self, name: str, known: Known, since: int) -> None:
        """Learns from a teacher again: it has passed its trial."""
        for masked in self.now.masked:
            if masked.teacher == name and masked.end < 0:
                masked.end = known.window.start
        self.now.masked = [each for each in self.now.masked if each.end < 0 or each.end > each.start]
        known.detectors.renew(known.window.order, known.window.labels)
        known.trusted, known.reason, known.why, known.since = True, "", "", since
        self.news.append(sentences.passed(name, since, known.window, known.detectors.itself.last))
