"""Runs a loop again and again, and makes it die between two of its steps, as if its process had been killed there.

It knows nothing of what the loop does.

Example:
    >>> def loop(progress):
    ...     for step in range(3):
    ...         progress(step, None)
    >>> killed_again_and_again(loop, times=3, after=iter([1, 9, 2]).__next__)
    2
"""

from __future__ import annotations

from collections.abc import Callable

from recdistill.progress import Progress


class Died(Exception):
    """The process is gone."""


def dying(after: int) -> Progress:
    """A progress that kills its loop when it is told for the nth time."""
    left = after

    def die(_done: int, _total: int | None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Died

    return die


def killed_again_and_again(run: Callable[[Progress], object], *, times: int, after: Callable[[], int]) -> int:
    """Runs a loop so many times. Each run dies after some steps, unless it comes to its end before.

    Args:
        run: Runs the loop, which tells its steps to a progress.
        times: How often.
        after: After how many steps the next run dies.

    Returns:
        How many runs died.
    """
    died = 0
    for _ in range(times):
        try:
            run(dying(after()))
        except Died:
            died += 1
    return died
