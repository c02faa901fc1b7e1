"""Prints what a demo does: chapters with a title, a progress bar, lines of text, and the time of each chapter.

It knows nothing of what the demo does.

Example:
    >>> story = Story()
    >>> with story.chapter("one", "1  Something happens") as chapter:
    ...     chapter(3, 10)
    ...     chapter.say("it happened")
    >>> list(story.seconds)
    ['one']
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Story:
    """Prints what happens, on stderr, and keeps the time that each chapter took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def chapter(self, name: str, title: str) -> Iterator[Chapter]:
        """Prints the title and, at the end, the time that the chapter took."""
        print(f"\n\033[1m{title}\033[0m" if sys.stderr.isatty() else f"\n{title}", file=sys.stderr)
        started = time.perf_counter()
        chapter = Chapter()
        try:
            yield chapter
        finally:
            chapter.close()
        self.seconds[name] = round(time.perf_counter() - started, 2)
        print(f"   {self.seconds[name]:.1f} s", file=sys.stderr)


class Chapter:
    """One step of the demo: lines of text, and a progress bar that a loop moves."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def say(self, text: str) -> None:
        """Prints a line."""
        self.close()
        print(f"   {text}", file=sys.stderr)

    def __call__(self, done: int, total: int | None) -> None:
        """Moves the bar. Loops report their progress by calling this."""
        if self._bar is None or self._bar.total != total:
            self.close()
            # disable=None: no bar if stderr is not a terminal
            self._bar = tqdm(
                total=total, file=sys.stderr, leave=False, disable=None, bar_format="   {l_bar}{bar:40}{r_bar}"
            )
        self._bar.update(done - self._bar.n)

    def tell(self, figures: Mapping[str, float]) -> None:
        """Shows figures beside the count."""
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
