"""Which partitions a scorer has, and under which names their positions stand.

A position belongs to a partition: all scorers have one stage, and each has some of its inputs. So any number of them
may be started next time. In older versions each scorer had a stage of its own.

It knows nothing of logs.

Example:
    >>> partitions_of(8, worker=1, workers=3)
    [1, 4, 7]
    >>> former_stages(2), is_former("score-12"), is_former("score")
    (['score-0', 'score-1'], True, False)
"""

from __future__ import annotations

import re
from typing import Final

from recdistill.errors import ConfigError

STAGE: Final = "score"
"""The stage of all scorers."""

_FORMER: Final = re.compile(r"score-\d+")


def partitions_of(count: int, *, worker: int, workers: int) -> list[int]:
    """The partitions of one worker: static, so that a restart reads the same ones.

    Raises:
        ConfigError: There are not so many workers.
    """
    if worker >= workers:
        raise ConfigError(
            f"score.worker: is {worker}, but there are only {workers} workers; number them 0 to {workers - 1}"
        )
    return [p for p in range(count) if p % workers == worker]


def former_stages(partitions: int) -> list[str]:
    """The stages that scorers of older versions may have had: a worker with another number had no partition."""
    return [f"{STAGE}-{worker}" for worker in range(partitions)]


def is_former(name: str) -> bool:
    """Whether a stage is that of a scorer of an older version."""
    return _FORMER.fullmatch(name) is not None
