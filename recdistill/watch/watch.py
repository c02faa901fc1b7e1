"""Which teachers to believe: what is done about what the detectors say.

For each teacher, `id@version`, every detector sees its lists as they come, before the student learns them. A scale that
jumps is told. A teacher that is accused is quarantined: its lists weigh 0 in the soft loss, and their labels are still
learnt. It is still compared with student and labels, and released when it agrees with them again. A teacher that comes
later than the first ones is on probation until it agrees at least half as well as those before it.

What a first pass has found holds for the later ones, from the list on where a change began. All of it is arithmetic on
a batch and a small state, so a run that was killed and went on finds the same.

It knows nothing of torch, losses or logs, nor of how a detector works.

Example:
    >>> from recdistill.watch.observation import Observation
    >>> watch = Watch()
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
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.watch import sentences
from recdistill.watch.detectors import FOUNDING, Finding
from recdistill.watch.figures import HALF_LIFE
from recdistill.watch.known import NEW, Known, Masked, State, restored
from recdistill.watch.observation import Observation, Seen
from recdistill.watch.trial import Window, bar
from recdistill.watch.witnesses import CHANCE_ORDER, CHANCE_PAIRS, Where

MOST_TEACHERS = 256
"""Teachers remembered; beyond, the one not seen for longest is forgotten, and would be new again."""


class Watch:
    """Follows every teacher of a stream of lists.

    Args:
        comparable: How scores are made comparable: "scale" leaves them as they are, so that a jump is learnt.
        spread: Standard deviation, in logits, of a list made comparable; 0: for each teacher what its labels ask for.
        act: Whether a teacher that is accused is no longer learnt, is only told of, or is not looked at.
        probation: Lists over which a teacher that comes later is compared before it is learnt; 0: none.
        least: Agreement that makes a teacher believed, as a share of what it, or others, had.
        release: Lists over which a quarantined teacher is compared before it may be learnt again.
    """

    def __init__(
        self,
        *,
        comparable: Literal["standard", "rank", "scale"] = "standard",
        spread: float = 2.0,
        act: Literal["quarantine", "notice", "off"] = "quarantine",
        probation: int = 200,
        least: float = 0.5,
        release: int = 300,
    ) -> None:
        self.comparable, self.spread, self.act = comparable, spread, act
        self.probation, self.least, self.release = probation, least, release
        self.now = State()
        self.counts: Counter[str] = Counter()
        """`normalised` (jumps of a scale), `quarantined_lists`, the same by reason, `probation_lists`; the caller's to
        take and clear."""
        self.news: list[str] = []
        """One sentence for each change; the caller's to take and clear."""

    def weigh(self, batch: Observation) -> npt.NDArray[np.float32]:
        """Weight of each list's soft loss, 1 or 0, f32 `[B]`, after this batch was looked at, before it is learnt."""
        first, self.now.at = self.now.at, self.now.at + len(batch.teachers)
        names = list(dict.fromkeys(batch.teachers))
        for name in names:
            if (seen := batch.of(name, first)) is None:
                continue
            if self.spread == 0 and (known := self._known(name, seen)).trusted:
                known.calibration.add(seen)
            if self.act != "off":
                self._observe(name, self._known(name, seen), seen)
        mistrusted = [name for name in names if name in self.now.known and not self.now.known[name].trusted]
        out_B = np.isin(batch.names, mistrusted) & batch.judged
        if (batch.judged & ~out_B).any():
            self.now.learnt = self.now.at
        return self._weights(batch.names, out_B)

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
        if self.comparable == "scale":
            return np.ones(len(teachers), np.float32)
        if self.spread > 0:
            return np.full(len(teachers), self.spread, np.float32)
        unknown = Known(0)
        found = {name: self.now.known.get(name, unknown).calibration.sharpness() for name in dict.fromkeys(teachers)}
        return np.array([found[name] for name in teachers], np.float32)

    def standing(self) -> list[str]:
        """A sentence for each teacher that is not learnt from now."""
        return [
            sentences.standing(name, new=known.reason == NEW, why=known.why)
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
        self.now = restored(state)

    def _weights(self, names: np.ndarray, out_B: Where) -> npt.NDArray[np.float32]:
        """Ones and zeros, counted by reason; all ones when changes are only to be told."""
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
        """What is known of a teacher; one that was never seen is one of the first, or on probation."""
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
        if not known.trusted:
            self._try(name, known, seen)
        elif accusation := known.detectors.accusation(seen):
            self._distrust(name, known, *accusation)

    def _distrust(self, name: str, known: Known, reason: str, finding: Finding) -> None:
        """Learns from a teacher no more; its lists since the change began are left out of later passes too."""
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
        """Gathers what speaks for a teacher that is not learnt from, and trusts it when that is enough."""
        window, new = known.window, known.reason == NEW
        window.add(seen)
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
        """The lift over chance that a teacher has to show, in order and in labels."""
        own, proven = known.detectors, [k.detectors for k in self.now.known.values() if k.detectors.chance.proven]
        # A student that learns from labels alone moves away from every teacher.
        kept = 0.5 ** ((self.now.at - self.now.learnt) / HALF_LIFE)
        others = [each.order.reference for each in proven]
        order = bar(own.order.reference, others, CHANCE_ORDER, least=self.least, kept=kept)
        others = [each.labels.reference for each in proven]
        return order, bar(own.labels.reference, others, CHANCE_PAIRS, least=self.least)

    def _trust(self, name: str, known: Known, since: int) -> None:
        """Learns from a teacher that has passed its trial."""
        for masked in self.now.masked:
            if masked.teacher == name and masked.end < 0:
                masked.end = known.window.start
        self.now.masked = [each for each in self.now.masked if each.end < 0 or each.end > each.start]
        known.detectors.renew(known.window.order, known.window.labels)
        known.trusted, known.reason, known.why, known.since = True, "", "", since
        self.news.append(sentences.passed(name, since, known.window))
