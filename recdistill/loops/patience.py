"""Waiting for somebody who cannot answer: a teacher, or a schema registry. It is asked again after growing pauses.

It knows nothing of teachers: whatever raises a `TeacherError`, or another error that is named, is tried again.

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

from recdistill.errors import RecdistillError, TeacherError

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
    only: type[RecdistillError] = TeacherError,
    who: str = "the teacher",
    setting: str = "score.patience_s",
) -> T | None:
    """Does some work, again and again for as long as somebody cannot answer.

    The n-th pause is random, between a half and all of min(30 s, 0.5 s × 2^(n-1)), so that workers that lost their
    teacher at the same moment do not come back to it at the same moment.

    Args:
        work: What to do.
        patience_s: How long after the first failure it is tried again.
        stop: Set it and the waiting ends.
        waited: Called after each failure that is waited for.
        only: The kind of error that is waited for. Others are raised at once.
        who: Who is waited for.
        setting: The setting of that time.

    Returns:
        What `work` returned; None if `stop` was set first.

    Raises:
        TeacherError: The last failure, when patience is at its end; or the error that is named.
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
                kind = TeacherError if isinstance(e, TeacherError) else only
                raise kind(
                    f"{e}; it was waited for {patience_s:g} s ({setting}), and nothing of this batch was "
                    f"written, so mend {who} and start again"
                ) from e
            sleep_s = min(left_s, random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(_LONGEST_S, 2 * pause_s)
            log_.warning("%s cannot answer: %s; again in %.1f s, for %.0f s more", who, e, sleep_s, left_s)
            waited()
            if stop.wait(sleep_s):
                return None
