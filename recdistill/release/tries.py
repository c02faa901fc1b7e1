"""The candidates that were judged before, from the ledger and from what the registry keeps of each version.

The ledger has every judgement, and nobody can take one back. Only the registry has what older versions judged.

They have spent of the error that the policy allows in a year. Evidence of older versions spent nothing: its bounds knew
of no error.

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
    """What each candidate has spent.

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
    """What each version has spent. Evidence whose time cannot be read counts as of now: its part still counts."""
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
