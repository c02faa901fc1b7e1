"""Lists the candidates that were judged before, from the ledger and from the registry.

The ledger has every judgement, and nobody can remove one. Judgements by older versions of recdistill are only in the
registry.

Each candidate has used a part of the error that the policy allows in a year. Candidates that an older version of
recdistill judged have used none: that version did not share out an error.

It knows nothing of how much a look may spend.

Example:
    >>> of_evidence([])
    []
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from recdistill.judge import Try
from recdistill.ledger import Ledger
from recdistill.registry import Evidence, Registry


def tries_so_far(registry: Registry, ledger: Ledger) -> list[Try]:
    """What each candidate has used of the error of a year.

    Raises:
        RegistryError: The registry does not answer.
        StreamError: The log cannot be read.
    """
    newest = {one.content_hash: one for one in ledger.look().judged}
    found = [
        Try(content_hash=one.content_hash, at=_time(one.began_at), allotted=one.allotted, looks=one.looks)
        for one in newest.values()
    ]
    return [*found, *of_evidence(one for one in registry.judged() if one.content_hash not in newest)]


def of_evidence(kept: Iterable[Evidence]) -> list[Try]:
    """What each version has used. If the time of evidence cannot be read, it counts as of now, so its part counts."""
    return [
        Try(
            content_hash=one.content_hash, at=_time(one.began_at or one.made_at), allotted=one.allotted, looks=one.looks
        )
        for one in kept
    ]


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
