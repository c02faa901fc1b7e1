"""Where bundles and versions stand: the champion, why the last candidate was refused, and what is judged next.

It knows nothing of how a bundle is judged.

Example:
    >>> Releases().waiting
    0
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from msgspec import Struct

from recdistill.ledger import Change
from recdistill.registry import Evidence, Registry, Version
from recdistill.release import HeldOutWindow, Which, too_few
from recdistill.stream import BUNDLES, Log, MadeBundle, made_bundles


class Releases(Struct, frozen=True, kw_only=True):
    """What the registry and the topic `bundles` say.

    Attributes:
        champion: Number of the version that serves; empty: there is none.
        champion_hash: Its content hash.
        since: When it became the champion.
        versions: How many there are.
        refused: Number of the version that was refused last; empty: none was.
        refused_at: When it was judged.
        refused_reasons: Why.
        refused_since: Whether no version has passed since then.
        waiting: Announced bundles that are not judged yet.
        next: What is judged next, and what that waits for, in a sentence.
    """

    champion: str = ""
    champion_hash: str = ""
    since: str = ""
    versions: int = 0
    refused: str = ""
    refused_at: str = ""
    refused_reasons: list[str] = []
    refused_since: bool = False
    waiting: int = 0
    next: str = ""


def announced(log: Log) -> list[MadeBundle]:
    """The bundles that were announced, oldest first.

    Raises:
        StreamError: The log cannot be read.
    """
    if BUNDLES.topic not in log.topics():
        return []
    with closing(log.source([BUNDLES])) as source:
        return made_bundles(source)[0]


def releases(
    registry: Registry,
    versions: Sequence[Version],
    ledger: Sequence[Change],
    *,
    made: Sequence[MadeBundle],
    held: str,
) -> Releases:
    """Puts together what the registry and the log say.

    Args:
        registry: Asked for the evidence of one version.
        versions: Its versions, newest first.
        ledger: Every change of champion, oldest first.
        made: The bundles that were announced, oldest first.
        held: Why the held-out lists are too few for a verdict; empty where they are enough.

    Raises:
        RegistryError: The registry does not answer.
    """
    champion = next((one for one in versions if "champion" in one.aliases), None)
    refused = next((one for one in versions if one.passed is False), None)
    evidence: Evidence | None = registry.evidence(refused.number) if refused else None
    judged = {one.content_hash for one in versions}
    # What was announced before the newest judged bundle is stale: nobody judges it any more.
    last = max((place for place, one in enumerate(made) if one.content_hash in judged), default=-1)
    waiting = made[last + 1 :]
    return Releases(
        champion=champion.number if champion else "",
        champion_hash=champion.content_hash if champion else "",
        since=ledger[-1].at if ledger and champion else "",
        versions=len(versions),
        refused=refused.number if refused else "",
        refused_at=evidence.made_at if evidence else "",
        refused_reasons=(evidence.reasons if evidence else [refused.reason]) if refused else [],
        refused_since=refused is not None and refused is versions[0],
        waiting=len(waiting),
        next=_next(waiting, held),
    )


def held_out(log: Log, least: int, which: Which, *, after_us: int | None) -> str:
    """Why the held-out lists are too few for a verdict; empty where they are enough, or where none are asked.

    Raises:
        StreamError: The log cannot be read.
    """
    if which == "behind":
        return f"{least:,} labelled examples must stand behind the place where it stopped learning"
    with closing(HeldOutWindow(log, least, after_us=after_us)) as window:
        enough = window.look() >= least
        return "" if enough else too_few(window, least)


def _next(waiting: Sequence[MadeBundle], held: str) -> str:
    if not waiting:
        return "nothing: every announced bundle is judged, so the next bundle is"
    newest = waiting[-1]
    name = f"bundle {newest.content_hash[:12]} of step {newest.step:,}"
    return f"{name} waits: {held}" if held else f"{name}, at the promoter's next look"
