"""Compares the alias with the ledger at each look of the promoter, and tells of what it finds.

It knows nothing of how a bundle is judged.

Example:
    >>> Agree.__name__
    'Agree'
"""

from __future__ import annotations

import logging
from collections import Counter

from recdistill.ledger import Ledger
from recdistill.loops.tell import Tell
from recdistill.registry import Registry
from recdistill.release import ByHand, bring_over, watch

log_ = logging.getLogger(__name__)


class Agree:
    """Called once a look.

    Args:
        registry: Where the alias is.
        ledger: Who changed it, and why.
        who: Whom the ledger names.
        by_hand: What happens to an alias that somebody moved by hand.
        counts: Counts to add to: `ledger_differs`, `ledger_troubles`.
        tell: Told what was found.
    """

    def __init__(
        self, registry: Registry, ledger: Ledger, who: str, by_hand: ByHand, *, counts: Counter[str], tell: Tell
    ) -> None:
        self._registry, self._ledger, self._who, self._by_hand = registry, ledger, who, by_hand
        self._counts, self._tell = counts, tell
        self._said = 0
        self._began = False

    def __call__(self) -> None:
        """Compares, and does what follows.

        Raises:
            RegistryError: The registry does not answer.
            StreamError: The log does not answer.
        """
        state = self._ledger.look()
        if not self._began and len(state.changes) == len(state.steps):
            # The first promoter of this version: the history that an older one left in MLflow comes first. Where the
            # ledger has nothing but a part of that history, a promoter was killed here.
            brought, troubles = bring_over(self._registry, self._ledger, who=self._who)
            for trouble in troubles:
                log_.warning("not brought over from the ledger of an older version: %s", trouble)
            if brought:
                log_.info("%d steps of an older version's ledger were brought over", brought)
        self._began = True
        for sentence in watch(self._registry, self._ledger, who=self._who, by_hand=self._by_hand):
            log_.warning("%s", sentence)
            self._counts["ledger_differs"] += 1
            self._tell("ledger", {"model": self._registry.name, "why": sentence})
        new = self._ledger.troubles[self._said :]
        self._said += len(new)
        if new:
            why = f"offset {new[0][0]}: {new[0][1]}"
            log_.error("the ledger is not whole (%d; see `recdistill ledger verify`): %s", self._said, why)
            self._counts["ledger_troubles"] += len(new)
            self._tell("ledger", {"model": self._registry.name, "why": why})
