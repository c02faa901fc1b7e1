"""The topic `look-now`: a message says that another version may be the champion, so followers look at once.

A message says nothing else. What serves is what the registry's alias says, and followers ask it every few seconds in
any case. So a message that is lost costs seconds, and one that is false costs a look.

It knows nothing of the registry.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.stream import open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics(standard_topics())
    ...     source = log.source([LOOK_NOW])
    ...     said = say_look_now(log, "somebody")
    ...     print(said, len(source.read()))
    ...     source.close(); log.close()
    True 1
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Final

from recdistill.errors import Fenced, StreamError
from recdistill.stream.contract import Log
from recdistill.stream.standard import LOOK_NOW

log_ = logging.getLogger(__name__)

STAGE: Final = "look-now"
TRIES: Final = 3
"""Two who say it at once fence each other; the one that lost says it again."""


def say_look_now(log: Log, by: str) -> bool:
    """Tells followers to look at the registry now.

    Nothing depends on it, so a log that does not take it is only warned of.

    Args:
        log: The log.
        by: Who says it.

    Returns:
        Whether it was said. False also where the log has no such topic: an older version made it.
    """
    try:
        if LOOK_NOW.topic not in log.topics():
            return False
        for _ in range(TRIES):
            try:
                with closing(log.stage(STAGE)) as stage, stage.transaction() as transaction:
                    transaction.send(LOOK_NOW.topic, by.encode()[:200], key=b"look")
            except Fenced:
                continue
            return True
    except StreamError as e:
        log_.warning("rankers are not told to look at the registry now, so they look in their own time: %s", e)
    return False
