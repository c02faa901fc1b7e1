"""Puts a version that passed the gate before a share of the users, watches what they do, and ends the trial by itself.

The alias `canary` says which version it is, and rankers follow it. What users did stands in the log: the joiner writes
every list that was served, with its labels. So rankers need `rank.write_back = 1`, and requests need `user`. The
watcher reads these lists, and a test that may be looked at at any time decides (`release.CanaryTrial`).

It knows nothing of HTTP.

Example:
    >>> Plan(share=0.05).alpha
    0.05
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from recdistill.errors import DecodeError, Refused, RegistryError
from recdistill.judge import CanaryIs, write_canary_page
from recdistill.ledger import Ledger
from recdistill.records import Example, decode, may_be_served
from recdistill.registry import CHAMPION, BundleRef, Registry
from recdistill.release import CanaryTrial, CanaryVerdict, Do, Policy, promote
from recdistill.serve import place_of
from recdistill.stream import Log, Place, Source, TopicPartition, place_at

log_ = logging.getLogger(__name__)

TOPICS: Final = ("examples", "held-out")
READ: Final = 2000
SETTLE_US: Final = 30_000_000
"""Lists of the first seconds do not count: rankers still open the canary."""

SHORT: Final = 10
"""A list of fewer items is short."""

SHOW_S: Final = 600.0
"""The page beside the version is made anew so often while a canary goes on."""

MOST_BACK_S: Final = 86_400.0
"""A clock that went back by more than this was wrong before."""

PAGE: Final = "canary.html"

_WHY: Final = "canary: "  # so begins the reason of a promotion in the ledger


class Plan(Struct, frozen=True, kw_only=True):
    """How a canary is tried.

    Attributes:
        share: Share of the users; 0: there is no canary.
        alpha: See `CanaryTrial`.
        margin: See `CanaryTrial`.
        most_users: See `CanaryTrial`.
        automatic: Whether it ends by itself.
        settle_us: Lists of so many microseconds after its beginning do not count.
    """

    share: float
    alpha: float = 0.05
    margin: float = 0.01
    most_users: int = 100_000
    automatic: bool = True
    settle_us: int = SETTLE_US


class Begun(Struct, frozen=True):
    """A canary as its version's tag has it: since when, against which champion, and for which share of the users.

    `share`: 0: an older version of recdistill wrote no share.
    """

    since_us: int
    champion: str
    share: float = 0.0


class Watch:
    """Reads what users did since a canary began. For one thread.

    Args:
        log: Where the lists are.
        canary: Content hash of the canary.
        begun: Since when, and beside which champion.
        plan: How it is tried.

    Raises:
        StreamError: The log cannot be read.
    """

    def __init__(self, log: Log, canary: str, begun: Begun, plan: Plan) -> None:
        self.canary, self._begun = canary, begun
        self._share = begun.share or plan.share
        self.trial = CanaryTrial(share=self._share, alpha=plan.alpha, margin=plan.margin, most_users=plan.most_users)
        topics = log.topics()
        partitions = [TopicPartition(topic, n) for topic in TOPICS for n in range(topics.get(topic, 0))]
        self._since_us = begun.since_us + plan.settle_us
        # Records may come a little late; a minute more costs nothing.
        since = Place(text="since", time_us=max(0, begun.since_us - 60_000_000))
        self._source: Source = log.source(partitions, place_at(log, partitions, since))

    def look(self) -> CanaryVerdict:
        """Takes in what came since the last look, and says what follows.

        Raises:
            StreamError: The log cannot be read.
        """
        while messages := self._source.read(READ, 0.2):
            for message in messages:
                if may_be_served(message.value):
                    try:
                        self._take(decode(Example, message.value))
                    except DecodeError:
                        continue
        return self.trial.verdict()

    def _take(self, example: Example) -> None:
        shown = example.ranking.impression
        if shown.origin != "served" or example.label_state == "none" or not shown.user:
            return
        if shown.time_us < self._since_us or shown.served_by not in (self.canary, self._begun.champion):
            return
        self.trial.add(
            shown.user,
            on_canary=place_of(shown.user, self.canary) < self._share,
            answered=shown.served_by == self.canary,
            clicked=any(label > 0 for label in example.labels),
            short=len(shown.candidates) < SHORT,
            at_us=shown.time_us,
        )

    def of(self, number: str, *, ended: bool = False) -> CanaryIs:
        """Which canary it is, for its page."""
        return CanaryIs(
            number=number,
            content_hash=self.canary,
            champion=self._begun.champion,
            since_us=self._begun.since_us,
            ended=ended,
        )

    def close(self) -> None:
        """Gives back what was opened."""
        self._source.close()


def watch_of(log: Log, registry: Registry, plan: Plan) -> tuple[Watch, str] | None:
    """The canary of this moment as it is watched, and its number; None: there is none, or it has not begun.

    Raises:
        RegistryError: The registry does not answer.
        StreamError: The log cannot be read.
    """
    if (found := registry.canary()) is None:
        return None
    ref, note = found
    try:
        begun = msgspec.json.decode(note, type=Begun)
    except msgspec.MsgspecError:
        return None
    return Watch(log, ref.content_hash, begun, plan), ref.number


class Canaries:
    """Begins and ends canaries. For one thread.

    Args:
        log: Where the lists are.
        registry: Where versions and aliases live.
        ledger: Who changed the champion, and why.
        plan: How a canary is tried.
        policy: What the gate asks for.
        by: Whom the ledger names.
        promoted: Called when a canary has become the champion, with its number.
        clock: Seconds since the epoch.
        steady: Seconds that never jump.
    """

    def __init__(
        self,
        log: Log,
        registry: Registry,
        ledger: Ledger,
        plan: Plan,
        *,
        policy: Policy | None = None,
        by: str = "promoter",
        promoted: Callable[[str], object] = str,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._registry, self._plan, self._by = log, registry, plan, by
        self._ledger, self._policy = ledger, policy
        self._promoted, self._clock, self._steady = promoted, clock, steady
        self._ahead_s = clock() - steady()
        self._watch: Watch | None = None
        self._shown_s = -math.inf

    def begin(self, number: str) -> bool:
        """Makes a version the canary. False: there is no champion beside which it could be tried.

        Raises:
            RegistryError: The registry does not answer.
        """
        champion = self._registry.find(CHAMPION)
        if champion is None:
            return False
        begun = Begun(int(self._now_s() * 1e6), champion.content_hash, self._plan.share)
        self._registry.begin_canary(number, msgspec.json.encode(begun).decode())
        log_.info("version %s is the canary: %.1f%% of the users get its answers", number, 100 * self._plan.share)
        self._drop()
        return True

    def look(self) -> CanaryVerdict | None:
        """Looks at the canary, and ends it where it must; None: there is none.

        Raises:
            RegistryError: The registry does not answer.
            StreamError: The log cannot be read.
        """
        found = self._registry.canary()
        if found is None:
            self._drop()
            return None
        ref, note = found
        try:
            begun = msgspec.json.decode(note, type=Begun)
        except msgspec.MsgspecError:  # an alias that a person has set: it begins now
            self.begin(ref.number)
            return CanaryVerdict("wait", ["it begins now"])
        champion = self._registry.find(CHAMPION)
        if champion is not None and champion.content_hash == ref.content_hash:
            return self._has_won(ref)
        if champion is None or champion.content_hash != begun.champion:
            why = "the champion is another one than when it began"
            return self._end(ref, CanaryVerdict("withdraw", [why]))
        if begun.share not in (0.0, self._plan.share):
            # The users between both shares were the champion's so far, which is no fault of the canary.
            why = f"canary.share was {begun.share:g} and is {self._plan.share:g} now, so it begins again"
            self.begin(ref.number)
            return CanaryVerdict("wait", [why])
        if self._watch is None or self._watch.canary != ref.content_hash:
            self._drop()
            self._watch = Watch(self._log, ref.content_hash, begun, self._plan)
        verdict = self._watch.look()
        if verdict.say != "wait" and self._plan.automatic:
            return self._end(ref, verdict, champion)
        if self._steady() - self._shown_s >= SHOW_S:
            self._show(ref, ended=False)
        return verdict

    def close(self) -> None:
        """Gives back what was opened."""
        self._drop()

    def _now_s(self) -> float:
        """The time, also where the clock of this machine goes back while the process runs.

        A canary that begins too early would be blamed for lists that the champion answered before. One that begins too
        late only waits; but not for more than a day.
        """
        ahead_s = self._clock() - self._steady()
        if ahead_s > self._ahead_s or self._ahead_s - ahead_s > MOST_BACK_S:
            self._ahead_s = ahead_s
        return self._steady() + self._ahead_s

    def _end(self, ref: BundleRef, verdict: CanaryVerdict, champion: BundleRef | None = None) -> CanaryVerdict:
        why = f"{_WHY}{'; '.join(verdict.reasons)}"
        if verdict.say == "promote" and champion is not None:
            try:
                promote(
                    self._registry,
                    self._ledger,
                    ref.number,
                    expect=champion.number,
                    who=self._by,
                    why=why,
                    policy=self._policy,
                )
            except Refused as e:
                verdict = CanaryVerdict("withdraw", [*verdict.reasons, *_lines(e.reasons)])
            else:
                self._promoted(ref.number)
        self._show(ref, ended=True, say=verdict.say)
        self._registry.end_canary()
        self._drop()
        log_.info("the canary, version %s, has ended: %s; %s", ref.number, verdict.say, why)
        return verdict

    def _has_won(self, ref: BundleRef) -> CanaryVerdict:
        """Ends a canary that is the champion already: a person promoted it, or its promoter ended before it was told.

        Raises:
            RegistryError: The registry does not answer.
        """
        last = next(reversed(self._ledger.look().changes), None)
        if last is not None and (last.after, last.who) == (ref.number, self._by) and last.why.startswith(_WHY):
            self._promoted(ref.number)
        return self._end(ref, CanaryVerdict("promote", ["it is the champion already"]))

    def _show(self, ref: BundleRef, *, ended: bool, say: Do | None = None) -> None:
        """Puts the page of the trial beside its version. A trial does not wait for its page."""
        if self._watch is None:
            return
        self._shown_s = self._steady()
        told = self._watch.trial.told()
        told = told if say is None else replace(told, say=say)
        try:
            with tempfile.TemporaryDirectory(prefix="recdistill-") as folder:
                path = Path(folder, PAGE)
                write_canary_page(told, self._watch.of(ref.number, ended=ended), path)
                self._registry.show(ref.number, path)
        except RegistryError as e:
            log_.warning("the page of the canary, version %s, is not shown: %s", ref.number, e)

    def _drop(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch = None


def _lines(reasons: Sequence[str]) -> list[str]:
    return [f"it is not promoted: {reason}" for reason in reasons]
