"""Changes the champion: first in the ledger, which accepts one change at a time, then in MLflow's alias.

1. A process that wants a change becomes the one writer of the ledger, and reads the ledger to its end.
2. If the maker of an earlier change died before it set the alias, that change is finished now.
3. If alias and ledger name different versions, the ledger gets an entry about it.
4. The champion must still be the one that the decision was made against.
5. The change is appended to the ledger. From here on it is decided. A slower process cannot append, and starts again.
6. The alias is set, and the ledger gets an entry about it.

So the version that the alias names is the one that serves, as MLflow's users expect. The ledger says how it came to
that.

It knows nothing of evidence.

Example:
    >>> BY_HAND
    ('follow', 'keep')
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import random
import time
from collections.abc import Callable
from typing import Final, Literal, TypeVar

from recdistill.errors import Fenced, Refused, RegistryError
from recdistill.ledger import CLAIMS, Change, Entry, Ledger, State, Writer, check_head
from recdistill.registry import CHAMPION, PREVIOUS, Registry

log_ = logging.getLogger(__name__)

T = TypeVar("T")

ByHand = Literal["follow", "keep"]
"""What to do with an alias that somebody moved directly in MLflow: follow it, or set it back (`keep`)."""

BY_HAND: Final = ("follow", "keep")
HEAD: Final = "ledger_head"
"""Tag of a version: the head of the ledger when it was published, or became champion."""

ROLLED_BACK: Final = "rolled_back"
"""Tag of a version: why a rollback replaced it."""

PATIENCE_S: Final = 120.0
"""How long a process tries again when other processes become the writer before it."""

AT_WORK_S: Final = 10.0
"""If the alias of a change is not set after so long, its maker has died."""


def change(
    registry: Registry, ledger: Ledger, number: str, content_hash: str, *, expect: str | None, who: str, why: str
) -> Change:
    """Makes a version the champion, if the champion is still the expected one. It does not ask for evidence.

    Args:
        registry: Where the version is.
        ledger: Where the change is written.
        number: The version.
        content_hash: Its content hash.
        expect: Number of the champion that the decision was made against; None: there was none.
        who: Who makes the change, for the ledger.
        why: The reason.

    Raises:
        Refused: Its bundle is gone, or the champion is another one by now; `reasons` says why.
        RegistryError: The registry does not answer. If the ledger has the change already, the alias follows later.
        StreamError: The log does not answer.
    """

    def decide(writer: Writer) -> Entry:
        champion = _agreed(registry, ledger, writer, who)
        _expected(champion, expect)
        if champion == number:
            raise Refused([f"version {number} is the champion already"])
        if not registry.has_bundle(number):
            gone = f"the bundle of version {number} is not in the registry any more (registry.keep)"
            raise Refused([f"{gone}; publish it again"])
        return writer.append(
            "promoted", who=who, why=why, version=number, content_hash=content_hash, before=champion or ""
        )

    return _changed(registry, ledger, decide)


def rollback(
    registry: Registry, ledger: Ledger, *, expect: str | None, who: str, why: str, named: bool = False
) -> Change:
    """Makes the version that was champion before the champion again.

    It asks for no evidence: that version has served before, and in trouble nothing should stop a rollback. A version
    that a rollback replaced is left out, so a rollback never brings it back.

    Args:
        registry: Where the versions are.
        ledger: Where the change is written.
        expect: Number of the champion that the person wants to leave; None: there was none.
        who: Who makes the change, for the ledger.
        why: The reason.
        named: Whether the person named that champion. If not, two rollbacks in a row are refused: perhaps two people
            saw the same trouble, and the second rollback would go one version too far.

    Raises:
        Refused: The champion is another one, somebody has just rolled back, or there is none to go back to.
        RegistryError: The registry does not answer.
        StreamError: The log does not answer.
    """

    def decide(writer: Writer) -> Entry:
        champion = _agreed(registry, ledger, writer, who)
        state = ledger.state
        last = state.changes[-1] if state.changes else None
        if last is not None and last.kind == "rollback" and not named:
            done = f"version {last.before} was rolled back to {last.after} already, by {last.who} at {last.at}"
            raise Refused([f"{done}; to go further back, name the version that you leave: --from {last.after}"])
        _expected(champion, expect)
        tried = [*state.backwards(), registry.aliases().get(PREVIOUS) or ""]
        usable = (one for one in dict.fromkeys(tried) if one and one != champion and one not in state.withdrawn)
        target = next((one for one in usable if registry.has_bundle(one)), None)
        if target is None:
            raise Refused([f"{registry.name} has no previous champion to go back to"])
        content_hash = registry.resolve(target).content_hash
        return writer.append(
            "rolled-back", who=who, why=why, version=target, content_hash=content_hash, before=champion or ""
        )

    return _changed(registry, ledger, decide)


def watch(registry: Registry, ledger: Ledger, *, who: str, by_hand: ByHand = "follow") -> list[str]:
    """Checks that alias and ledger name the same version, and acts if not. It returns sentences about what was done.

    Args:
        registry: Where the alias is.
        ledger: The ledger. It is brought up to date.
        who: Who is named in new entries of the ledger.
        by_hand: `keep`: an alias that somebody moved is set back. `follow`: it is left where it is.

    Raises:
        RegistryError: The registry does not answer.
        StreamError: The log does not answer.
    """
    state = ledger.look()
    champion = registry.aliases().get(CHAMPION)
    if state.open is None and champion == state.champion:
        return []
    if state.open is not None and abs(_age_s(state.open.at)) < AT_WORK_S:
        return []  # its maker is about to set the alias (abs: an entry may lie in the future, if a clock was set back)

    def decide(writer: Writer) -> tuple[list[str], Entry | None]:
        unfinished, decided, known = ledger.state.open, ledger.state.decided, len(ledger.state.changes)
        found = _agreed(registry, ledger, writer, who)
        said = [f"the alias follows entry {unfinished.n} of the ledger, whose maker ended"] if unfinished else []
        if len(ledger.state.changes) == known:
            return said, None
        said.append(ledger.state.changes[-1].why)
        if by_hand != "keep" or decided is None or decided[0] == found or not registry.has_bundle(decided[0]):
            return said, None
        why = "rankers stay with the ledger (registry.by_hand)"
        back = writer.append(
            "returned", who=who, why=why, version=decided[0], content_hash=decided[1], before=found or ""
        )
        _follow(registry, ledger, writer, back)
        return [*said, f"version {decided[0]} is the champion again: {why}"], back

    return as_writer(ledger, decide)[0]


def bring_over(registry: Registry, ledger: Ledger, *, who: str) -> tuple[int, list[str]]:
    """Copies the ledger of an older version of recdistill into this one. What is here already is not copied again.

    Returns:
        How many steps were copied, and a sentence for each step that cannot be read.

    Raises:
        RegistryError: The registry does not answer.
        StreamError: The log does not answer.
    """
    former, troubles = registry.former()

    def decide(writer: Writer) -> int:
        new = [one for one in former if one.step not in ledger.state.steps]
        for one in new:
            facts = {"step": one.step, "kind": one.kind, "who": one.who, "at": one.at, "token": one.token}
            writer.append(
                "imported",
                who=who,
                why=one.why,
                version=one.after,
                content_hash=one.content_hash,
                before=one.before or "",
                facts=facts,
            )
        return len(new)

    return as_writer(ledger, decide), troubles


def _changed(registry: Registry, ledger: Ledger, decide: Callable[[Writer], Entry]) -> Change:
    """Decides as the one writer, then sets the alias."""
    ledger.forget()

    def work(writer: Writer) -> tuple[Entry, bool]:
        tried = ledger.tried()
        if tried is not None and tried.kind in CLAIMS:  # the log has the entry, but its answer was lost
            if ledger.state.open is None or ledger.state.open.n != tried.n:
                return tried, True
            entry = tried
        else:
            entry = decide(writer)
        try:
            _follow(registry, ledger, writer, entry)
        except Fenced:  # the change is decided already, and the new writer finishes it
            return entry, True
        return entry, False

    entry, late = as_writer(ledger, work)
    if late:
        as_writer(ledger, lambda writer: _not_over_a_later_one(registry, ledger, writer, entry))
    return next(one for one in ledger.state.changes if one.n == entry.n)


def _not_over_a_later_one(registry: Registry, ledger: Ledger, writer: Writer, entry: Entry) -> None:
    """A slow process may set its alias after a later change has set its own. Then the alias of the later one is set."""
    state = ledger.state
    if state.open is not None:
        _follow(registry, ledger, writer, state.open)
    elif state.champion is not None and state.champion != entry.version == registry.aliases().get(CHAMPION):
        registry.crown(state.champion, previous=_way_back(registry, state))


def _follow(registry: Registry, ledger: Ledger, writer: Writer, entry: Entry) -> None:
    """Sets the alias to the version of a change, and notes it in the ledger and in MLflow."""
    if not registry.exists(entry.version):  # somebody has deleted the version, so the alias cannot name it
        writer.append("settled", who=entry.who, why="the version is gone", facts={"of": entry.n})
        return
    registry.crown(entry.version, previous=_way_back(registry, ledger.state))
    writer.append("settled", who=entry.who, version=entry.version, facts={"of": entry.n})
    done = {"promoted": "promoted", "rolled-back": "rolled back to", "returned": "set again"}[entry.kind]
    text = f"{done} by {entry.who} at {entry.at}: {entry.why}"
    registry.say(entry.version, text, {HEAD: ledger.head(), ROLLED_BACK: ""})
    if entry.kind == "rolled-back" and entry.before:
        registry.say(entry.before, "", {ROLLED_BACK: f"by {entry.who} at {entry.at}: {entry.why}"[:5000]})


def _agreed(registry: Registry, ledger: Ledger, writer: Writer, who: str) -> str | None:
    """Finishes an open change, notes in the ledger if the alias differs, and returns the champion by the alias."""
    if ledger.state.open is not None:
        _follow(registry, ledger, writer, ledger.state.open)
    state, champion = ledger.state, registry.aliases().get(CHAMPION)
    if champion == state.champion:
        return champion
    for number, head in sorted(registry.tags(HEAD).items()):
        wrong = check_head(f"version {number}", head, n=ledger.chain.n, digests=ledger.chain.digests)
        if wrong and head not in state.lost:
            writer.append("lost", who=who, why=wrong, version=number, facts={"head": head})
    is_now, was = (f"version {n}" if n else "none" for n in (champion, state.champion))
    why = f"the alias says {is_now}, the ledger said {was}: it was moved by hand, or the ledger begins here"
    log_.warning("%s", why)
    writer.append(
        "moved",
        who=who,
        why=why,
        version=champion or "",
        content_hash=_hash(registry, champion),
        before=state.champion or "",
    )
    return champion


def _way_back(registry: Registry, state: State) -> str | None:
    """The version that a rollback would make champion."""
    return next((number for number in state.backwards() if registry.has_bundle(number)), None)


def _hash(registry: Registry, number: str | None) -> str:
    """The content hash of a version; empty where it has none."""
    try:
        found = None if number is None else registry.find(number)
    except RegistryError:
        return ""
    return "" if found is None else found.content_hash


def _expected(champion: str | None, expect: str | None) -> None:
    if champion != expect:
        is_now, was = (f"version {n}" if n else "none" for n in (champion, expect))
        raise Refused([f"the champion is {is_now}, not {was} as expected; look again and decide"])


def as_writer(ledger: Ledger, work: Callable[[Writer], T]) -> T:
    """Does some work as the one writer. If another process becomes the writer meanwhile, the work starts again."""
    deadline = time.monotonic() + PATIENCE_S
    pause_s = 0.05
    while True:
        try:
            with ledger.writing() as writer:
                return work(writer)
        except Fenced:
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0, pause_s))
            pause_s = min(2.0, 2 * pause_s)


def _age_s(moment: str) -> float:
    """How long ago it was. A time that cannot be read is long ago: nobody is waited for because of it."""
    try:
        return time.time() - dt.datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError):
        return math.inf
