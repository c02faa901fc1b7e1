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
from collections.abc import Sequence
from typing import Final, TypeVar

from recdistill.errors import ConfigError

T = TypeVar("T")

STAGE: Final = "score"
"""The stage of all scorers."""

_FORMER: Final = re.compile(r"score-\d+")


def partitions_of(count: int, *, worker: int, workers: int) -> list[int]:
    """The partitions of one worker: static, so that a restart reads the same ones.

    Raises:
        ConfigError: There are not so many workers.
    """
    return shared_out(range(count), worker=worker, workers=workers, key="score")


def shared_out(every: Sequence[T], *, worker: int, workers: int, key: str) -> list[T]:
    """Each `workers`-th of all inputs, from this worker's number on.

    Args:
        every: All inputs, in the same order for each worker.
        worker: This worker's number.
        workers: How many there are.
        key: Section of the settings that says so, for the error.

    Raises:
        ConfigError: There are not so many workers.
    """
    if worker >= workers:
        raise ConfigError(
            f"{key}.worker: is {worker}, but there are only {workers} workers; number them 0 to {workers - 1}"
        )
    return list(every[worker::workers])


def former_stages(partitions: int) -> list[str]:
    """The stages that scorers of older versions may have had: a worker with another number had no partition."""
    return [f"{STAGE}-{worker}" for worker in range(partitions)]


def is_former(name: str) -> bool:
    """Whether a stage is that of a scorer of an older version."""
    return _FORMER.fullmatch(name) is not None
