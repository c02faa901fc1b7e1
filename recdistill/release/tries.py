"""The candidates that were judged before, from what the registry keeps of each version.

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
from recdistill.registry import Evidence


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
