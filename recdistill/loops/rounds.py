"""One look after the other of the promoter: what is announced is judged and promoted, where it may be.

A look first compares the alias with the ledger. Then it decides about a version that the last promoter left. Then it
takes the newest bundle that can be judged now. A bundle that cannot be judged is given up. A full disk and a teacher
that does not answer are no fault of the bundle: it waits.

It knows nothing of how a bundle is judged, nor of what is tidied between two looks.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from recdistill.errors import (
    BundleError,
    CheckpointError,
    DataError,
    Interrupted,
    LogChanged,
    NoRoom,
    OutOfRange,
    RecdistillError,
    Refused,
    StreamError,
    TeacherError,
    WrongLog,
)
from recdistill.hops import passed
from recdistill.ledger import Ledger
from recdistill.loops.canary import Canaries, Plan
from recdistill.loops.queue import Queue
from recdistill.loops.refused import Again
from recdistill.loops.tell import Tell, nobody
from recdistill.registry import CANARY, CHAMPION, Evidence, Registry, Version
from recdistill.release import HeldOutWindow, Policy, Which, promote, too_few
from recdistill.sealed import disk_is_full, folder_of
from recdistill.stream import Log, MadeBundle

log_ = logging.getLogger(__name__)

_UNJUDGEABLE: Final = (BundleError, CheckpointError, DataError, OutOfRange, WrongLog)
"""What lies in a bundle or in its lists. Another bundle may be judged all the same."""


class Rounds:
    """One look after the other: what is announced is judged and promoted, where it may be.

    Args:
        registry: Where versions live.
        ledger: Who changed the champion, and why.
        queue: The bundles that wait.
        window: The held-out lists.
        rule: When a refused one is judged again.
        judged: Judges a bundle, and registers it.
    """

    def __init__(
        self,
        registry: Registry,
        ledger: Ledger,
        queue: Queue,
        window: HeldOutWindow,
        rule: Again[MadeBundle],
        judged: Callable[[MadeBundle], tuple[Version, Evidence]],
    ) -> None:
        self._registry, self._ledger = registry, ledger
        self._queue, self._window, self._rule, self._judged = queue, window, rule, judged
        self.counts: Counter[str] = Counter()
        self.tell: Tell = nobody
        self.by, self.automatic = "promoter", True
        self.policy: Policy = {}
        self.agree: Callable[[], None] = lambda: None
        self.which: Which = "auto"
        self.least = 1
        self.look_now: Callable[[], object] = lambda: None
        self.canaries: Canaries | None = None
        self.left: tuple[MadeBundle, Version] | None = None  # the newest version, where the last promoter ended

    def take_up(self, known: Sequence[Version]) -> None:
        """Goes on where the last promoter ended: at the newest version, which was refused, or has to be promoted yet.

        Args:
            known: All versions, newest first.
        """
        if not known or (last := self._queue.of(known[0].content_hash)) is None:
            return
        if known[0].passed is False:
            self._rule.refused(last, have=0, ago_s=_age_s(known[0].created_at))
        elif self.automatic:
            self.left = last, known[0]

    def go(self, *, drain: bool) -> tuple[bool, bool]:
        """One look. Whether something was announced since the last, and whether there was anything to do.

        Raises:
            TeacherError: When draining: the teacher as a whole could not answer.
            RegistryError: The registry does not answer.
            LogChanged: A topic was deleted or made again.
        """
        queue, window, which = self._queue, self._window, self.which
        self.agree()
        if self.canaries is not None and (verdict := self.canaries.look()) is not None and verdict.say == "withdraw":
            self.counts["withdrawn"] += 1
            self.tell("refused", {"model": self._registry.name, "reasons": verdict.reasons})
        self._finish()
        news = queue.look()
        held = which != "behind" and window.look() >= self.least
        why = "" if held or which == "behind" else too_few(window, self.least)
        made = queue.newest() if held else queue.newest_judgeable(why, wait=which == "held-out")
        if made is None and (made := self._rule.due(queue.newest(), have=window.came)) is not None:
            log_.info("bundle %s was refused, and is judged again", made.content_hash[:12])
        return news, made is not None and self._took(made, drain=drain)

    def _took(self, made: MadeBundle, *, drain: bool) -> bool:
        """Judges a bundle and promotes it, where it may be. False: it has to wait."""
        name, beside = made.content_hash[:12], self._registry.aliases().get(CHAMPION)
        if not self._registry.holds(made.content_hash):
            self._give_up(made, f"bundle {name} was announced, but the registry does not hold it")
            return True
        try:
            with room_for(f"judge bundle {name}"):
                version, evidence = self._judged(made)
        except Interrupted:  # the process stops; the next one judges it
            return False
        except TeacherError as e:
            if drain:
                raise
            # The teacher may answer at the next try. So the promoter goes on, and nobody has to start it again.
            log_.warning("bundle %s is not judged yet, and is tried again: %s", name, e)
            self.counts["waiting"] += 1
            return False
        except LogChanged:  # no fault of the bundle: whoever starts next judges it
            raise
        except _UNJUDGEABLE as e:
            self._give_up(made, f"bundle {name} cannot be judged: {e}")
            return True
        self.counts["judged"] += 1
        self.counts["registered"] += 1
        self.counts["failed_gate"] += not evidence.passed
        passed(self.counts, "judged", made.event_us)
        _say(version, evidence)
        # Perhaps a person has rolled back meanwhile, or moved the alias in MLflow: this verdict says nothing of the
        # champion of now. The alias is asked, because the ledger learns of such a move only at the next look.
        moved = evidence.passed and self.automatic and self._registry.aliases().get(CHAMPION) != beside
        if moved or not self._decide(made, version, evidence, beside):
            log_.warning("version %s is judged again: the champion changed while it was judged", version.number)
            return True
        self._queue.done(made)  # not before: a registry that goes away in between must not lose the promotion
        return True

    def _finish(self) -> None:
        """Decides about a version that passed, when its promoter ended before it had done so."""
        if self.left is None:
            return
        made, version = self.left
        if self._ledger.look().undecided(made.content_hash) and not self._registry.tag(version.number, CANARY):
            evidence = self._registry.evidence(version.number)
            if evidence is not None and evidence.passed:
                log_.warning("version %s passed, and its promoter ended before it was promoted", version.number)
                # By the ledger nothing has changed since it was judged: this champion it was judged beside.
                if not self._decide(made, version, evidence, self._ledger.state.champion):
                    log_.warning("version %s is not promoted: the champion is another one by now", version.number)
        self.left = None

    def _decide(self, made: MadeBundle, version: Version, evidence: Evidence, beside: str | None) -> bool:
        """Does what the verdict says. False: the champion is no longer the one that it was judged beside."""
        facts = {"model": self._registry.name, "version": version.number, "bundle": made.content_hash}
        if evidence.passed:
            self._rule.passed()
        else:
            self._rule.refused(made, have=self._window.came)
            self.tell("refused", {**facts, "reasons": evidence.reasons})
        if not self.automatic:
            if evidence.passed:
                self.tell("passed", facts)
            return True
        if not evidence.passed:  # its verdict is in the ledger, and was told
            self.counts["refused"] += 1
            return True
        if self.canaries is not None and self.canaries.begin(version.number):
            self.counts["canaries"] += 1
            return True
        try:
            promote(
                self._registry,
                self._ledger,
                version.number,
                expect=beside,
                who=self.by,
                why="passed the gate",
                policy=self.policy,
            )
        except Refused as e:
            if self._registry.aliases().get(CHAMPION) not in (beside, version.number):
                return False
            self.counts["refused"] += 1
            log_.warning("version %s: %s", version.number, e)
            self.tell("refused", {**facts, "reasons": e.reasons})
            return True
        self.counts["promoted"] += 1
        self.look_now()
        passed(self.counts, "promoted", made.event_us)
        log_.info("version %s is the champion", version.number)
        self.tell("promoted", {**facts, "before": beside})
        return True

    def try_on(self, log: Log, plan: Plan | None) -> None:
        """What passed the gate is tried on a share of the users first. None: it is not."""
        if plan is not None:
            self.canaries = Canaries(
                log, self._registry, self._ledger, plan, policy=self.policy, by=self.by, promoted=self.crowned
            )

    def close(self) -> None:
        """Gives back what was opened."""
        if self.canaries is not None:
            self.canaries.close()

    def crowned(self, number: str) -> None:
        """A canary has become the champion."""
        self.counts["promoted"] += 1
        self.look_now()
        log_.info("version %s is the champion", number)
        self.tell("promoted", {"model": self._registry.name, "version": number})

    def _give_up(self, made: MadeBundle, why: str) -> None:
        log_.warning("%s", why)
        self.counts["broken"] += 1
        self.tell("broken", {"bundle": made.content_hash, "why": why})
        self._queue.forget(made)


@contextmanager
def room_for(doing: str) -> Iterator[None]:
    """Tells a full disk from a bundle that cannot be judged: that one is given up, and a full disk is not its fault.

    Raises:
        NoRoom: The disk is full.
    """
    try:
        yield
    except (NoRoom, StreamError):  # they say it already
        raise
    except (OSError, RecdistillError) as e:
        if disk_is_full(e):
            raise NoRoom(folder_of(e, tempfile.gettempdir()), doing) from e
        raise


def _age_s(moment: str) -> float:
    try:
        return max(0.0, time.time() - datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return 0.0


def _say(version: Version, evidence: Evidence) -> None:
    verdict = "passed the gate" if evidence.passed else f"did not pass the gate: {'; '.join(evidence.reasons)}"
    log_.info("version %s %s; judged on %s", version.number, verdict, evidence.lists or f"{evidence.judged} lists")
