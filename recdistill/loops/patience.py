"""Waiting for a teacher that cannot answer: it is asked again after growing pauses, until patience is at its end.

It knows nothing of teachers: whatever raises a `TeacherError` is tried again.

Example:
    >>> import threading
    >>> patiently(lambda: "scores", 60.0, stop=threading.Event())
    'scores'
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from recdistill.errors import TeacherError

log_ = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_S: Final = 0.5
_LONGEST_S: Final = 30.0


def patiently(
    work: Callable[[], T],
    patience_s: float,
    *,
    stop: threading.Event,
    waited: Callable[[], None] = lambda: None,
    only: type[TeacherError] = TeacherError,
) -> T | None:
    """Does some work, again and again for as long as a teacher cannot answer.

    The n-th pause is random, between a half and all of min(30 s, 0.5 s × 2^(n-1)), so that workers that lost their
    teacher at the same moment do not come back to it at the same moment.

    Args:
        work: What to do.
        patience_s: How long after the first failure it is tried again.
        stop: Set it and the waiting ends.
        waited: Called after each failure that is waited for.
        only: The kind of error that is waited for. Others are raised at once.

    Returns:
        What `work` returned; None if `stop` was set first.

    Raises:
        TeacherError: The last failure, when patience is at its end.
    """
    began: float | None = None
    pause_s = _FIRST_S
    while True:
        try:
            return work()
        except only as e:
            now = time.monotonic()
            began = now if began is None else began
            left_s = began + patience_s - now
            if left_s <= 0:
                if not patience_s:
                    raise
                raise TeacherError(
                    f"{e}; it was waited for {patience_s:g} s (score.patience_s), and nothing of this batch was "
                    "written, so mend the teacher and start again"
                ) from e
            sleep_s = min(left_s, random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(_LONGEST_S, 2 * pause_s)
            log_.warning("the teacher cannot answer: %s; again in %.1f s, for %.0f s more", e, sleep_s, left_s)
            waited()
            if stop.wait(sleep_s):
                return None
