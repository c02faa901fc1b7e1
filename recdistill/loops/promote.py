"""Announced bundles -> judged, registered and promoted versions.

A bundle is judged on lists of users from whom no student learns: the topic `held-out`. Its newest lists judge every
bundle, so the promoter takes the newest announced bundle that is not judged yet, at once. Where the topic has too few
lists, a bundle waits for enough examples behind the place where it stopped learning, and is judged on those.

It fetches the bundle and the champion from the registry's store, and the judge runs those exact artefacts on the same
lists. The version is registered with its evidence, its report and its device file, and becomes the candidate. If it
passes the gate, it becomes the champion. A bundle whose content is registered already is not judged again. Where the
ledger says that it passed, and nothing of what came of it, it is promoted now. So a promoter that was killed goes on
where it stood.

At each look it compares the alias with the ledger. Where somebody moved the alias by hand, the ledger gets an entry.

The promoter also gives back the space of bundles that are not kept any longer. No other process does that. It trims the
embedded log where it is told to, tells a web address of its verdicts, and judges the version that was refused last
again, by a rule.

A registry that does not answer is waited for. What it decides about is in the log, so nothing is lost meanwhile.

It knows nothing of how a bundle was made or how the champion is served.
"""

from __future__ import annotations

import logging
import math
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from recdistill.errors import Interrupted
from recdistill.hops import Counts
from recdistill.judge import Judgement
from recdistill.ledger import NO_KEYS, Ledger
from recdistill.loops.added import Added
from recdistill.loops.agree import Agree
from recdistill.loops.canary import Plan
from recdistill.loops.prequential import HeldAhead, Served, in_turn, served_since
from recdistill.loops.queue import Queue
from recdistill.loops.refused import Again
from recdistill.loops.rounds import Rounds
from recdistill.loops.swap import Try
from recdistill.loops.tell import Tell, nobody
from recdistill.loops.waits import Waits
from recdistill.progress import Progress
from recdistill.registry import Evidence, Registry, Version
from recdistill.release import (
    GRACE_S,
    ByHand,
    Controls,
    HeldOutWindow,
    Policy,
    Which,
    give_back,
    judge,
    publish,
    take_champion,
    take_pinned,
)
from recdistill.stream import Log, MadeBundle, say_look_now
from recdistill.teachers import Teacher

log_ = logging.getLogger(__name__)


TIDY_S: Final = 60.0
"""Space is given back at most so often."""


def run(
    log: Log,
    registry: Registry,
    *,
    gate: Callable[[Judgement], Evidence],
    min_lists: int,
    held_out: int = 20_000,
    which: Which = "auto",
    learnt: int | None = None,
    ease: bool = False,
    pinned: str = "",
    by: str = "promoter",
    automatic: bool = True,
    keep: int = 5,
    grace_s: float = GRACE_S,
    wait_s: float = 5.0,
    patience_s: float = 0.0,
    again_lists: int = 0,
    again_s: float = 0.0,
    again_most: int = 3,
    tell: Tell = nobody,
    ledger: Ledger | None = None,
    policy: Policy | None = None,
    by_hand: ByHand = "follow",
    trim: Callable[[], int] | None = None,
    trim_every_s: float = 0.0,
    try_it: Try | None = None,
    canary: Plan | None = None,
    controls: Controls | None = None,
    teacher: Teacher | None,
    teacher_bytes: int = 0,
    cost_per_1000: float = 0.0,
    protocol: str = "auto",
    fields: Sequence[str] = (),
    teacher_scores: int = 0,
    taught_us: int | None = None,
    blocked: Collection[str] = (),
    rules: Collection[tuple[str, str]] = (),
    ahead: HeldAhead | None = None,
    stop: threading.Event,
    drain: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Counter[str]:
    """Judges, registers and promotes bundles until stopped; when draining, those that are there and can be judged.

    Args:
        log: Where bundles are announced and the held-out lists lie.
        registry: Where bundles, versions and aliases live.
        gate: The verdict on a judgement.
        min_lists: Held-out lists that a verdict needs; until there are so many a bundle waits.
        held_out: Held-out lists that are judged at most, the newest.
        which: Which lists: `held-out`, `behind` (examples behind the place where a bundle stopped learning), or `auto`.
        learnt: So many of the newest learnt examples are read, where simple rankers need them; None: all.
        ease: Compare with EASE too, which needs them.
        pinned: A version that each candidate is judged beside, by its number or an alias; empty: none.
        by: Whom the ledger names.
        automatic: Promote what passes the gate; otherwise only judge and register it.
        keep: How many bundles are kept that serve nobody: see `release.to_drop`.
        grace_s: How long the files of a bundle that is not kept still stay.
        wait_s: How often new bundles and examples are looked for.
        patience_s: How long a registry that does not answer is waited for. Not when draining.
        again_lists: The version that was refused last is judged again after so many more held-out lists; 0: see next.
        again_s: And after so many seconds; 0: not because of time.
        again_most: How often one is judged again.
        tell: Told what was refused, promoted or broken.
        ledger: Where it is written what was judged and who changed the champion; None: that of the log, without keys.
        policy: What the gate asks for, for the ledger.
        by_hand: What happens to an alias that somebody moved by hand: see `release.watch`.
        trim: Removes from the log what nobody needs; the offsets removed. Not when draining.
        trim_every_s: How often.
        try_it: Runs a bundle in a process of its own, before it is judged and again with its device file.
        canary: How a version that passed the gate is tried on a share of the users; None: it is promoted at once.
        controls: The student without a teacher, judged beside every bundle; None: nobody looks for one.
        teacher: Who scored the lists; None judges without one.
        teacher_bytes: Its size, 0 when nobody knows it.
        cost_per_1000: What a thousand of its scores cost; 0: nobody counts it.
        protocol: How the judge measures: `catalogue`, `shown` or `auto`.
        taught_us: Time of the latest list that the teacher learnt from. None: it is not known.
        fields: More slices of the lists, by a field.
        teacher_scores: So many scores the teacher may be asked for; 0: there is no bound.
        blocked: Items that no answer may hold.
        rules: Attribute and value of each rule about what answers hold.
        ahead: Scores held-out lists with the champion of their time; None: nobody does.
        stop: Set it and the bundle in work is finished, then the function returns.
        drain: Return when no bundle is left that can be judged now.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told how far the judging of a bundle is.

    Returns:
        Counts: judged, registered, promoted, failed_gate, refused (by the fence), waiting, broken, freed_bytes,
        registry_failures (waited for), trimmed_offsets, ledger_differs (from the alias), ledger_troubles; with `ahead`
        prequential_lists.

    Raises:
        TeacherError: When draining: the teacher as a whole could not answer. Otherwise it is asked again later.
        RegistryError: The registry did not answer for `patience_s`; or NoRoom, at once: the disk is full.
        StreamError: The log cannot be read, or has no topic `bundles`.
        LogChanged: A topic was deleted or made again.
    """
    counts = Counter() if counts is None else counts
    policy = policy or {}
    ledger = ledger or Ledger(log, registry.name, NO_KEYS)
    waits = Waits(0.0 if drain else patience_s, wait_s, stop, counts)
    known = waits.for_registry(registry.versions)
    if known is None:  # stopped while waiting
        return counts
    queue = Queue(log, {version.content_hash for version in known}, min_lists, counts)
    window = HeldOutWindow(log, held_out, after_us=taught_us, stop=stop.is_set)
    rule: Again[MadeBundle] = Again(lists=again_lists, seconds=again_s, most=again_most)
    queue.look()
    added = Added(controls)

    def judged(made: MadeBundle) -> tuple[Version, Evidence]:
        with tempfile.TemporaryDirectory(prefix="recdistill-") as scratch:
            bundle = registry.take(made.content_hash, Path(scratch))
            if try_it is not None:  # judging runs it in this process
                try_it(bundle, stop=stop.is_set)
            control, no_control = added.newest(Path(scratch))
            judgement = judge(
                log,
                bundle,
                held_out,
                champion=take_champion(registry, Path(scratch), but=made.content_hash),
                control=control,
                no_control=no_control,
                pinned=take_pinned(registry, pinned, Path(scratch), but=made.content_hash),
                which=which,
                least=min_lists,
                window=window,
                learnt=learnt,
                ease=ease,
                teacher=teacher,
                teacher_bytes=teacher_bytes,
                cost_per_1000=cost_per_1000,
                protocol=protocol,
                fields=fields,
                teacher_scores=teacher_scores,
                taught_us=taught_us,
                blocked=blocked,
                rules=rules,
                progress=progress,
            )
            added.take(judgement)
            return publish(
                registry,
                ledger,
                bundle,
                judgement,
                gate(judgement),
                policy=policy,
                who=by,
                promotes=automatic,
                try_it=try_it,
                gate=gate,
            )

    rounds = Rounds(registry, ledger, queue, window, rule, judged)
    rounds.counts, rounds.tell, rounds.by, rounds.automatic = counts, tell, by, automatic
    rounds.policy, rounds.agree = policy, Agree(registry, ledger, by, by_hand, counts=counts, tell=tell)
    rounds.which, rounds.least = which, min_lists
    rounds.take_up(known)
    rounds.look_now = lambda: say_look_now(log, by)
    rounds.try_on(log, canary)
    tidied = trimmed = -math.inf  # never yet; the clock may have begun a minute ago, when the machine started
    scored = 0
    if isinstance(counts, Counts):
        counts.more["control"] = added.lines
        if ahead is not None:
            counts.more["prequential"] = ahead.lines

    def one_round() -> bool:
        nonlocal tidied, trimmed, scored
        news, did = rounds.go(drain=drain)
        if ahead is not None:
            window.look()
            fresh, end = window.since(scored)
            if fresh:
                ahead.take(fresh, _served(ledger))
                counts.update(ahead.counts)
                ahead.counts.clear()
            scored = end
        if (news or did) and time.monotonic() - tidied >= (0.0 if drain else TIDY_S):
            counts["freed_bytes"] += give_back(registry, ledger, keep, grace_s=grace_s)
            counts["freed_bytes"] += 0 if controls is None else controls.give_back(grace_s=grace_s)
            tidied = time.monotonic()
        if trim is not None and not drain and time.monotonic() - trimmed >= trim_every_s:
            trimmed = time.monotonic()
            counts["trimmed_offsets"] += trim()
        return did

    try:
        while not stop.is_set():
            try:
                did = waits.for_registry(one_round)
            except Interrupted:  # it was told to stop while it read: the next one reads again
                break
            if not did:
                if drain:
                    break
                stop.wait(wait_s)
    finally:
        rounds.close()
        queue.close()
        window.close()
        ledger.close()
    return counts


def _served(ledger: Ledger) -> list[Served]:
    """The champions so far, oldest first."""
    return in_turn(served_since(change.at, change.content_hash) for change in ledger.look().changes)
