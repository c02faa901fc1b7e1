"""First predict, then learn: lists are scored when they arrive, before anything is learnt from them.

Of the lists that arrive, a share is scored, chosen by the number of the step and a hash of the id. So a run that is
killed and goes on scores the same lists. Each is scored by these lines, where they are there:

    champion    the bundle that serves, opened with the code that serves it
    weights     the trainer's own weights, as they are before the step
    teacher     its scores, which stand in the example; only where it has scored the whole list
    popularity  popularity of late, counted from labels in the stream
    itemknn     ItemKNN, counted from labels in the stream

Agreement with the teacher is counted at once. Labels come later: the scores wait for them, and are counted then. A
list that gets none, or only ones, counts for nothing. All that is kept has a bound.

Time is that of the lists: the greatest median of a step's lists so far, so that one odd record does not move it.

It knows nothing of logs, of the registry, or of how a student learns.

Example:
    >>> Prequential(share=0.0).told()
    {'rows': [], 'now': None}
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from recdistill.loops.prequential.figures import GROUPS
from recdistill.loops.prequential.lines import agreement, ndcg
from recdistill.loops.prequential.rivals import Rivals
from recdistill.loops.prequential.text import lines_of
from recdistill.loops.prequential.waiting import Scored, Waiting
from recdistill.loops.prequential.windows import Window, Windows
from recdistill.records import Columns

log_ = logging.getLogger(__name__)

FILE: Final = "prequential.msgpack"
"""The file of a checkpoint that holds all of it."""

CHAMPION, WEIGHTS, TEACHER = "champion", "weights", "teacher"
POPULARITY, ITEMKNN = "popularity", "itemknn"

FORMAT: Final = 1

_TOLD_S: Final = 1.0

_MOST_STRIDE: Final = 10

Floats = npt.NDArray[np.float32]


class Asked(Struct, frozen=True):
    """A list that is scored: its candidates, its history, and its row in the step."""

    row: int
    items: list[str]
    history: list[str]


class Champion(Protocol):
    """The bundle that serves."""

    def scores(self, examples: Columns, asked: Sequence[Asked]) -> Sequence[Floats | None]:
        """The scores of each list, NaN where it does not know a candidate; None: it cannot say."""


class State(Struct):
    """What a checkpoint holds of it."""

    format: int = FORMAT
    clock_us: int = 0
    windows: Windows = msgspec.field(default_factory=Windows)
    waiting: Waiting = msgspec.field(default_factory=Waiting)
    rivals: Rivals = msgspec.field(default_factory=Rivals)


class Prequential:
    """The evaluation of one student.

    Args:
        share: Share of the lists that are scored.
        window_s: Length of a window.
        labels_within_s: How long labels of a list are waited for.
        half_life: Labelled lists after which one counts half for popularity of late and ItemKNN.
    """

    def __init__(
        self,
        *,
        share: float,
        window_s: float = 3600.0,
        labels_within_s: float = 7200.0,
        half_life: float = 5000.0,
    ) -> None:
        # A step in which lists are scored has a cost of its own. So a small share is one of some steps only.
        self._stride = max(1, min(_MOST_STRIDE, math.floor(1 / share))) if share else 1
        self._most = round(share * self._stride * 2**64)
        self._window_us, self._within_us = int(window_s * 1e6), int(labels_within_s * 1e6)
        self._half_life = half_life
        self._state = State()
        self._lines: list[str] = []
        self._told_s = -_TOLD_S
        self.counts: Counter[str] = Counter()

    def take(
        self,
        examples: Columns,
        weights: Callable[[npt.NDArray[np.int64]], Floats],
        champion: Champion | None = None,
        *,
        step: int,
    ) -> None:
        """Scores the lists of a step that are chosen, and counts what is known of them. It is called before the step.

        Args:
            examples: The step's.
            step: Its number.
            weights: The trainer's scores of some rows, f32 `[rows, L]`, NaN where it does not know a candidate.
            champion: The bundle that serves; None: there is none.
        """
        times_E = examples.times_E[examples.times_E > 0]
        if times_E.size:
            self._state.clock_us = max(self._state.clock_us, int(np.median(times_E)))
        if not self._state.clock_us:
            return  # no list says when it came
        keys = [hash_of(one) for one in examples.ids]
        ends_E, events_E = np.cumsum(examples.counts_E), np.cumsum(examples.events_E)

        def asked(row: int) -> Asked:
            stop, until = int(ends_E[row]), int(events_E[row])
            begin, since = stop - int(examples.counts_E[row]), until - int(examples.events_E[row])
            return Asked(row, examples.items.texts(begin, stop), examples.event_items.texts(since, until))

        def part(of: npt.NDArray[Any], row: int) -> npt.NDArray[Any]:
            return of[int(ends_E[row]) - int(examples.counts_E[row]) : int(ends_E[row])]

        self._close()
        chosen = [
            asked(row)
            for row, key in enumerate(keys)
            if step % self._stride == 0
            and int.from_bytes(key, "big") < self._most
            and examples.states[row] != "labels"
            and examples.counts_E[row]
        ]
        if chosen:
            scores = self._scores(examples, chosen, weights, champion)
            for one, own in zip(chosen, scores, strict=True):
                real = part(examples.scored_C, one.row)
                if real.all():
                    own[TEACHER] = part(examples.scores_C, one.row).astype(np.float32)
            self._keep(examples, chosen, keys, scores)
        found = [row for row in range(len(examples)) if examples.states[row] != "none"]
        labels = {row: part(examples.labels_C, row) for row in found}
        self._count(keys, labels)
        for row, labels_L in labels.items():
            if (labels_L > 0).any():
                one = asked(row)
                liked = [one.items[place] for place in np.flatnonzero(labels_L > 0)]
                self._state.rivals.learn(one.history, liked, half_life=self._half_life)
        self._tell()

    def _scores(
        self,
        examples: Columns,
        chosen: Sequence[Asked],
        weights: Callable[[npt.NDArray[np.int64]], Floats],
        champion: Champion | None,
    ) -> list[dict[str, Floats]]:
        """What each line says of each list."""
        ours = weights(np.array([one.row for one in chosen], np.int64))
        serves: Sequence[Floats | None] = [None] * len(chosen)
        if champion is not None:
            serves = champion.scores(examples, chosen)
        rivals, found = self._state.rivals, list[dict[str, Floats]]()
        for one, ours_L, theirs in zip(chosen, ours, serves, strict=True):
            own = {WEIGHTS: ours_L[: len(one.items)]}
            if theirs is not None:
                own[CHAMPION] = theirs
            own[POPULARITY] = rivals.popularity(one.items)
            own[ITEMKNN] = rivals.neighbourhood(one.history, one.items)
            found.append(own)
        return found

    def _keep(
        self, examples: Columns, chosen: Sequence[Asked], keys: Sequence[bytes], scores: Sequence[dict[str, Floats]]
    ) -> None:
        """Lets the scores wait for labels, and counts agreement."""
        clock_us, window = self._state.clock_us, self._now()
        groups = [group_of(examples.users[one.row], keys[one.row]) for one in chosen]
        for one, group, own in zip(chosen, groups, scores, strict=True):
            scored = Scored.of(own, group=group, window_us=window.begin_us, clock_us=clock_us)
            self._state.waiting.put(keys[one.row], scored)
        window.lists += len(chosen)
        self.counts["prequential_lists"] += len(chosen)
        for line in (WEIGHTS, CHAMPION, POPULARITY, ITEMKNN):
            both = [n for n, own in enumerate(scores) if line in own and TEACHER in own]
            if both:
                tau_B = agreement([scores[n][line] for n in both], [scores[n][TEACHER] for n in both])
                for n, value in zip(both, tau_B.tolist(), strict=True):
                    if value == value:  # not NaN
                        window.agreement.add(line, groups[n], value)

    def _count(self, keys: Sequence[bytes], labels: Mapping[int, npt.NDArray[Any]]) -> None:
        """Counts the labels of lists that wait."""
        by_line: defaultdict[str, list[tuple[Window, int, Floats, npt.NDArray[Any]]]] = defaultdict(list)
        for row, labels_L in labels.items():
            scored = self._state.waiting.take(keys[row])
            if scored is None or not (labels_L > 0).any() or (labels_L > 0).all():
                continue
            window = self._state.windows.of(scored.window_us)
            scores = scored.scores()
            if window is None or len(next(iter(scores.values()))) != len(labels_L):
                continue
            self.counts["prequential_labelled"] += 1
            for line, scores_L in scores.items():
                by_line[line].append((window, scored.group, scores_L, labels_L))
        for line, lists in by_line.items():
            values_B = ndcg([one[2] for one in lists], [one[3] for one in lists])
            for (window, group, _, _), value in zip(lists, values_B.tolist(), strict=True):
                window.ndcg.add(line, group, value)

    def _now(self) -> Window:
        return self._state.windows.at(self._state.clock_us, window_us=self._window_us)

    def _close(self) -> None:
        before_us = self._state.clock_us - self._within_us
        self._state.waiting.forget(before_us)
        self._state.windows.close(before_us=before_us)

    # What is told, and what a checkpoint holds

    def told(self) -> dict[str, Any]:
        """The newest rows, oldest first, and how it stands now, as JSON says it; see `Windows.told`."""
        return self._state.windows.told()

    def lines(self) -> Iterator[str]:
        """How it stands now, in the text form of Prometheus. Any thread may ask."""
        yield from self._lines

    def data(self) -> bytes:
        """All of it, for a checkpoint."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, data: bytes | None, where: object) -> None:
        """Goes on from what a checkpoint held; None: it held nothing, and the counts begin.

        Args:
            data: What `data` returned.
            where: The checkpoint, for the log.
        """
        self._state = State()
        if data is None:
            return
        try:
            state = msgspec.msgpack.decode(data, type=State)
        except msgspec.MsgspecError as e:
            log_.warning("%s: %s was written by another version (%s), so its counts begin anew", where, FILE, e)
            return
        if state.format != FORMAT:
            log_.warning("%s: %s has format %d, not %d, so its counts begin anew", where, FILE, state.format, FORMAT)
            return
        self._state = state

    def _tell(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _TOLD_S:
            self._told_s = now_s
            self._lines = list(lines_of(self._state.windows.now()))


def hash_of(text: str) -> bytes:
    """Eight bytes that stand for an id."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def group_of(user: str | None, key: bytes) -> int:
    """The group of a user. A list without a user stands for itself."""
    return int.from_bytes(key if user is None else hash_of(user), "big") % GROUPS
