"""What somebody can do to the running demo: kill the distiller, push a worse student, roll back.

An act begins when it is asked for, or at its time in the story. It says one sentence when it begins and one when it is
over. One act runs at a time; what is asked for meanwhile waits.

It knows nothing of processes or pages.

Example:
    >>> acts = Acts({"ring": lambda: ("The bell rings.", lambda: "It is quiet again.")}, story=[("ring", 5.0)])
    >>> acts.step(1.0), acts.step(5.0), acts.step(6.0)
    (None, None, None)
    >>> [(one["at_s"], one["said"]) for one in acts.told]
    [(5.0, 'The bell rings.'), (6.0, 'It is quiet again.')]
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

KILL: Final = "kill"
WORSE: Final = "worse"
BACK: Final = "back"

STORY: Final = ((KILL, 0.25), (WORSE, 0.62), (BACK, 0.85))
"""When each act comes by itself, as a share of the stream."""

Doing = tuple[str, Callable[[], str | None]]
"""What is said when an act begins, and what is asked until it says how it ended."""

_MOST: Final = 20
"""So many acts may wait."""


class Acts:
    """The acts of one demo.

    Args:
        do: Each act by its name.
        story: Acts that come by themselves, each with its time in seconds.
        ready: Whether the story may go on; on a slow machine it waits until something serves.
    """

    def __init__(
        self,
        do: Mapping[str, Callable[[], Doing]],
        story: Sequence[tuple[str, float]] = (),
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._do = dict(do)
        self._ready = ready
        self._asked: queue.Queue[str] = queue.Queue(_MOST)
        self._story = deque(sorted(story, key=lambda one: one[1]))
        self._running: tuple[str, Callable[[], str | None]] | None = None
        self.told: list[dict[str, Any]] = []

    @property
    def names(self) -> list[str]:
        """All acts."""
        return list(self._do)

    @property
    def running(self) -> str | None:
        """The act that runs now."""
        return None if self._running is None else self._running[0]

    @property
    def waiting(self) -> int:
        """How many acts are still to come: of the story, and those that somebody asked for."""
        return len(self._story) + self._asked.qsize()

    def ask(self, name: str) -> bool:
        """Asks for an act, from any thread. False: there is no such act, or too many wait."""
        if name not in self._do:
            return False
        try:
            self._asked.put_nowait(name)
        except queue.Full:
            return False
        return True

    def step(self, now_s: float) -> None:
        """Begins what is due, and ends what is over. For one thread.

        Args:
            now_s: Seconds since the stream began.
        """
        if self._running is not None:
            name, over = self._running
            if (said := over()) is not None:
                self._running = None
                self._tell(name, said, now_s)
            return
        if (due := self._next(now_s)) is not None:
            begun, over = self._do[due]()
            self._running = (due, over)
            self._tell(due, begun, now_s)

    def _next(self, now_s: float) -> str | None:
        if self._story and self._story[0][1] <= now_s and self._ready():
            return self._story.popleft()[0]
        try:
            return self._asked.get_nowait()
        except queue.Empty:
            return None

    def _tell(self, name: str, said: str, now_s: float) -> None:
        self.told.append({"at_s": round(now_s, 1), "act": name, "said": said})
