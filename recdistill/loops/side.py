"""Makes the registry's canary answer a share of the users, while there is one.

The alias `canary` says which version it is. It is fetched, tried, opened and checked as a champion is. If anything
fails, the champion answers all users.

It knows nothing of HTTP, nor of who decides about a canary.

Example:
    >>> TROUBLE
    'canary'
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from recdistill.errors import Interrupted, RecdistillError, RegistryError
from recdistill.loops.follow import Champion
from recdistill.loops.once import Once
from recdistill.loops.swap import LATER_S, Items, Load, Try
from recdistill.registry import CANARY
from recdistill.serve import Ranker
from recdistill.serve import ranker as roles

log_ = logging.getLogger(__name__)

TROUBLE: Final = "canary"


class Side:
    """Follows the alias `canary`. For one thread.

    Args:
        champion: The registry, and the folder of fetched bundles.
        ranker: What serves.
        items: Brings catalogues up to date. It belongs to this one.
        load: Makes a bundle ready to serve.
        try_it: Tries a bundle before it is loaded. None: it is not tried.
        follow_s: How often the alias is looked at.
    """

    def __init__(
        self,
        champion: Champion,
        ranker: Ranker,
        items: Items,
        load: Load,
        *,
        try_it: Try | None = None,
        follow_s: float = 2.0,
    ) -> None:
        self._champion, self._ranker, self._items, self._load = champion, ranker, items, load
        self._try, self._follow_s = try_it, follow_s
        self._serving = ""
        self._failed, self._again = "", 0.0
        self._say = Once(log_)

    def run(self, done: threading.Event) -> None:
        """Looks at the alias again and again, until `done`."""
        while not done.wait(self._follow_s):
            self.look(done)
        self._items.close()

    def look(self, done: threading.Event) -> None:
        """Looks at the alias once."""
        wanted = ""
        try:
            ref = self._champion.find(CANARY)
            champion = self._ranker.champion
            if ref is None or (champion is not None and champion.recommender.content_hash == ref.content_hash):
                self._end()
                return
            wanted = ref.content_hash
            if wanted == self._serving or (wanted == self._failed and time.monotonic() < self._again):
                return
            self._end()
            bundle = self._champion.fetch(ref)
            if self._try is not None:
                self._try(bundle, stop=done.is_set)
            self._ranker.swap(self._load(bundle), ref.number, role=roles.CANARY)
            self._serving = wanted
            self._ranker.notes.pop(TROUBLE, None)
            self._say("")
            log_.info("version %s is the canary: %s", ref.number, wanted[:12])
        except Interrupted:
            return
        except RegistryError as e:
            if not wanted:  # who follows the champion says that the registry is away
                log_.debug("the registry does not say who is the canary: %s", e)
                return
            why = f"the canary {wanted[:12]} cannot be fetched, so the champion answers all users: {e}"
            self._ranker.notes[TROUBLE] = why
            self._say(why)
        except RecdistillError as e:
            self._refuse(wanted, str(e))
        except Exception as e:
            log_.exception("an error that recdistill should have explained")
            self._refuse(wanted, str(e))

    def _end(self) -> None:
        """From now on the champion answers all users."""
        if self._serving:
            log_.info("there is no canary any more: %s", self._serving[:12])
        self._ranker.drop(roles.CANARY)
        self._ranker.notes.pop(TROUBLE, None)
        self._serving = ""

    def _refuse(self, wanted: str, why: str) -> None:
        self._failed, self._again = wanted, time.monotonic() + LATER_S[1]
        self._ranker.counts["refused_canaries"] += 1
        self._ranker.notes[TROUBLE] = f"the canary {wanted[:12]} is not served: {why}"
        log_.error("the canary %s is not served, so the champion answers all users: %s", wanted[:12], why)
