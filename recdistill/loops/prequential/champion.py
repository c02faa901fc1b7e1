"""The champion, followed: which bundle serves now, from which step of the student on, and what it says of a list.

Another thread looks for a new champion and opens it, so learning does not wait. From which step on a champion was
followed is written to a small file in the student's folder before it is used. A run that was killed and goes on from an
older checkpoint follows the same champions from the same steps, so it counts the same.

A list counts only if the champion cannot have learnt from it: its bundle must say where in the examples it stopped, and
the list must lie behind that place.

Items that are newer than the bundle are given to it as serving gives them: as live changes.

It knows nothing of registries or of how a student learns.

Example:
    >>> noted(Path("no/such/folder"))
    []
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from recdistill.errors import BundleError, CheckpointError, RegistryError, RequestError
from recdistill.records import Columns, Item
from recdistill.sealed import put
from recdistill.stream import LanePosition

if TYPE_CHECKING:
    from recdistill.loops.prequential.whole import Asked, Floats
    from recdistill.serve import RankAnswer, Recommender, Request

log_ = logging.getLogger(__name__)

NAME: Final = "champions.json"

KEPT: Final = 200
"""So many changes of champion are noted."""

_JOIN_S: Final = 10.0


class Noted(NamedTuple):
    """A champion, and from which step on it is followed."""

    step: int
    content_hash: str


class Found(NamedTuple):
    """A bundle that was opened."""

    content_hash: str
    recommender: Recommender

    def learnt_before(self, lanes: LanePosition) -> bool:
        """Whether it stopped learning at a place of the examples, or before it. False where nobody can tell."""
        about: Mapping[str, Any] = self.recommender.bundle.manifest.provenance
        try:
            stopped = LanePosition.read(about["positions"]["lanes"])
        except (CheckpointError, KeyError, TypeError):
            return False
        same = stopped.identity == lanes.identity and len(stopped.offsets) == len(lanes.offsets)
        return same and all(one <= here for one, here in zip(stopped.offsets, lanes.offsets, strict=True))


class Finds(Protocol):
    """Where champions are."""

    def now(self) -> str:
        """Content hash of the champion; empty: there is none.

        Raises:
            RegistryError: It cannot be asked.
        """

    def open(self, content_hash: str) -> Found:
        """A bundle, verified and opened.

        Raises:
            RegistryError: It cannot be had.
            BundleError: It is damaged.
        """


class Following:
    """Follows the champion beside one student.

    Args:
        finds: Where champions are.
        every_s: How often a new one is looked for.
    """

    def __init__(self, finds: Finds, *, every_s: float) -> None:
        self._finds, self._every_s = finds, every_s
        self._folder: Path | None = None
        self._noted: list[Noted] = []
        self._ahead: deque[Noted] = deque()
        self._current: Found | None = None
        self._followed = ""  # the hash that is followed, also where its bundle cannot be had
        self._fresh: Found | None = None
        self._taken: dict[str, Item] = {}
        self._said = ""
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, folder: Path, step: int) -> None:
        """Begins, or goes on at a step.

        Args:
            folder: The student's.
            step: Its step.
        """
        self._folder, known = folder, noted(folder)
        self._noted = [one for one in known if one.step <= step]
        self._ahead = deque(one for one in known if one.step > step)
        if self._noted:
            self._follow(self._noted[-1].content_hash, self._opened(self._noted[-1].content_hash))
        if not self._ahead:
            self._look()
        self._thread = threading.Thread(target=self._run, daemon=True, name="prequential-champion")
        self._thread.start()

    def at(self, step: int, lanes: LanePosition, items: Callable[[str], Item | None]) -> Live | None:
        """The champion at a step; None: there is none, or it may have learnt what comes.

        Args:
            step: The student's.
            lanes: Where the examples of the step begin.
            items: The item with an id, as the catalogue has it now.
        """
        while self._ahead and self._ahead[0].step <= step:
            self._noted.append(one := self._ahead.popleft())
            self._follow(one.content_hash, self._opened(one.content_hash))
        if not self._ahead and (fresh := self._fresh) is not None and fresh.content_hash != self._followed:
            self._noted = [*self._noted[-(KEPT - 1) :], Noted(step, fresh.content_hash)]
            if self._folder is not None:
                put(self._folder / NAME, msgspec.json.encode(self._noted), CheckpointError)
            self._follow(fresh.content_hash, fresh)
        if self._current is None or not self._current.learnt_before(lanes):
            return None
        return Live(self._current.recommender, items, self._taken)

    def close(self) -> None:
        """Ends the thread."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def _follow(self, content_hash: str, found: Found | None) -> None:
        self._followed, self._current, self._taken = content_hash, found, {}

    def _run(self) -> None:
        while not self._ending.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        """Opens the champion of now, if it is another one."""
        try:
            content_hash = self._finds.now()
        except RegistryError as e:
            return self._say(f"the champion is not known, and is looked for again: {e}")
        known = self._followed if self._fresh is None else self._fresh.content_hash
        if content_hash and content_hash != known and (found := self._opened(content_hash)) is not None:
            self._fresh = found
        return None

    def _opened(self, content_hash: str) -> Found | None:
        try:
            return self._finds.open(content_hash)
        except (RegistryError, BundleError) as e:
            self._say(f"the champion {content_hash[:12]} cannot be opened, so lists are scored without it: {e}")
            return None

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            log_.warning("%s", sentence)


class Live:
    """The champion at one step.

    Args:
        recommender: What serves it.
        items: The item with an id, as the catalogue has it now.
        taken: The items that it was given as live changes; this adds to them.
    """

    def __init__(self, recommender: Recommender, items: Callable[[str], Item | None], taken: dict[str, Item]) -> None:
        self._recommender, self._items, self._taken = recommender, items, taken

    def scores(self, examples: Columns, asked: Sequence[Asked]) -> list[Floats | None]:
        """The scores of some lists, f32 `[L]` each, NaN where it does not know a candidate.

        None: the list's context does not fit it.
        """
        from recdistill.serve import Request

        requests = []
        for one in asked:
            shown = examples.request(one.row)
            requests.append(Request(history=shown.history, context=shown.context, time_us=shown.time_us))
        items = [one.items for one in asked]
        answers = self._ranked(requests, items)
        if self._give([item for answer in answers if answer is not None for item in answer.unknown]):
            answers = self._ranked(requests, items)
        found: list[Floats | None] = []
        for names, answer in zip(items, answers, strict=True):
            given = {} if answer is None else dict(zip(answer.items, answer.scores, strict=True))
            found.append(None if answer is None else np.array([given.get(one, np.nan) for one in names], np.float32))
        return found

    def _ranked(self, requests: list[Request], items: list[list[str]]) -> list[RankAnswer | None]:
        try:
            return list(self._recommender.rank_each(requests, items))
        except RequestError:  # one of them does not fit, so each is asked alone
            return [self._alone(request, names) for request, names in zip(requests, items, strict=True)]

    def _alone(self, request: Request, items: list[str]) -> RankAnswer | None:
        try:
            return self._recommender.rank(request, items)
        except RequestError:
            return None

    def _give(self, unknown: list[str]) -> bool:
        """Gives it the items that it does not hold; whether there were any."""
        found = [(one, item) for one in unknown if (item := self._items(one)) is not None]
        fresh = {one: item for one, item in found if self._taken.get(one) != item}
        if fresh:
            self._taken |= fresh
            self._recommender.apply_items(list(fresh.values()), self._recommender.position)
        return bool(fresh)


def noted(folder: Path) -> list[Noted]:
    """The champions that the file of a folder notes, by step; none where there is no file.

    One that cannot be read is told, and counts as none.
    """
    try:
        return sorted(msgspec.json.decode((folder / NAME).read_bytes(), type=list[Noted]))
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as e:
        log_.warning("%s: cannot be read (%s), so earlier champions are not known", folder / NAME, e)
        return []
