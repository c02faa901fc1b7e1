"""The announced bundles that wait to be judged, and what each of them waits for.

It knows nothing of the registry, nor of how a bundle is judged.

Example:
    >>> SAY_S
    60.0
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Final

from recdistill.errors import CheckpointError, LogChanged, OutOfRange, WrongLog
from recdistill.release import count_held_out
from recdistill.stream import BUNDLES, LanePosition, Log, MadeBundle, check_topic, made_bundles

log_ = logging.getLogger(__name__)

SAY_S: Final = 60.0
"""What a bundle waits for is logged at most so often."""


class Queue:
    """The announced bundles that are not judged yet, oldest first, each with a count of what it can be judged on."""

    def __init__(self, log: Log, judged: set[str], least: int, counts: Counter[str]) -> None:
        check_topic(log.topics())
        self._log, self._judged, self._least, self._counts = log, judged, least, counts
        self._source = log.source([BUNDLES])
        self._seen: set[str] = set()
        self._waiting: list[MadeBundle] = []
        self._counted: dict[str, tuple[int, LanePosition]] = {}
        self._said: dict[str, float] = {}
        self._made: dict[str, MadeBundle] = {}

    def of(self, content_hash: str) -> MadeBundle | None:
        """What was announced of a bundle."""
        return self._made.get(content_hash)

    def look(self) -> bool:
        """Takes in what was announced since the last look; whether there was anything."""
        made, unreadable = made_bundles(self._source)
        for reason in unreadable:
            log_.warning("passed over: %s", reason)
            self._counts["broken"] += 1
        fresh = [each for each in made if each.content_hash not in self._seen]
        for each in fresh:
            self._seen.add(each.content_hash)
            self._made[each.content_hash] = each
            if each.content_hash in self._judged:  # by an earlier promoter; what was announced before it is stale
                self._waiting.clear()
            else:
                self._waiting.append(each)
        return bool(fresh)

    def newest(self) -> MadeBundle | None:
        """The newest; None when there is none."""
        return self._waiting[-1] if self._waiting else None

    def newest_judgeable(self, why: str = "", *, wait: bool = False) -> MadeBundle | None:
        """The newest with enough labelled examples behind it; None when every one of them has to wait.

        Args:
            why: Why the held-out lists are not enough.
            wait: Wait for them: no example behind a bundle is counted.
        """
        if wait:
            for made in self._waiting:
                self._waits(made, why)
            return None
        for made in reversed(list(self._waiting)):
            # A count goes on where it stopped, so no example is decoded again at each look.
            if made.lanes is None:
                log_.warning("bundle %s does not say where it stopped learning", made.content_hash[:12])
                self._counts["broken"] += 1
                self.forget(made)
                continue
            found, where = self._counted.get(made.content_hash, (0, made.lanes))
            if found < self._least:
                try:
                    more, where = count_held_out(self._log, where, self._least - found)
                except LogChanged:  # no fault of the bundle
                    raise
                except (OutOfRange, WrongLog, CheckpointError) as e:
                    log_.warning("bundle %s cannot be judged on this log: %s", made.content_hash[:12], e)
                    self._counts["broken"] += 1
                    self.forget(made)
                    continue
                found += more
                self._counted[made.content_hash] = (found, where)
            if found >= self._least:
                return made
            behind = f"{found} of {self._least} labelled examples stand behind the place where it stopped learning"
            self._waits(made, f"{why}; {behind}" if why else behind)
        return None

    def _waits(self, made: MadeBundle, why: str) -> None:
        """Says why a bundle waits: at first, and then once a minute."""
        self._counts["waiting"] += 1
        if time.monotonic() - self._said.get(made.content_hash, -SAY_S) >= SAY_S:
            self._said[made.content_hash] = time.monotonic()
            log_.info("bundle %s waits: %s", made.content_hash[:12], why)

    def forget(self, made: MadeBundle) -> None:
        """Leaves out a bundle that cannot be judged."""
        if made in self._waiting:
            self._waiting.remove(made)
        self._counted.pop(made.content_hash, None)
        self._said.pop(made.content_hash, None)

    def done(self, made: MadeBundle) -> None:
        """Forgets a bundle, and those announced before it: they are stale."""
        if made not in self._waiting:  # it was judged again
            return
        del self._waiting[: self._waiting.index(made) + 1]
        left = {each.content_hash for each in self._waiting}
        self._counted = {name: count for name, count in self._counted.items() if name in left}
        self._said = {name: at for name, at in self._said.items() if name in left}

    def close(self) -> None:
        """Gives back what was opened."""
        self._source.close()
