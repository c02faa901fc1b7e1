"""Lists that say themselves what was clicked, as MIND writes them -> impressions and their feedback.

A cell such as `N1-0 N2-1` holds the items and, behind the last `-`, whether each was clicked. Or a column of its own
has the clicked items, or a flag for each candidate.

It knows nothing of files or logs.

Example:
    >>> split_labels(["N1-0", "N-2-1"], "-")
    (['N1', 'N-2'], ['N-2'])
    >>> [(one.id, one.item, one.time_us) for one in feedback_of(Impression("r", 5), ["b"], "click")]
    [('r/b/click', 'b', 6)]
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from recdistill.records import MAX_ID, Feedback, Impression

DEFAULT_ACTION = "click"
"""What a clicked candidate gets, where the table does not say it."""

_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}


def split_labels(entries: Sequence[str], separator: str) -> tuple[list[str], list[str]]:
    """Candidates with their labels -> the items, and which of them were clicked.

    Args:
        entries: Each is an item, the separator and 0 or 1.
        separator: What stands between the two. The last one of an entry counts.

    Raises:
        ValueError: An entry has no label.
    """
    items, clicked = [], []
    for entry in entries:
        item, found, label = entry.rpartition(separator)
        if not found or label.lower() not in _YES | _NO:
            raise ValueError(f"must be items with {separator}0 or {separator}1 behind each, not {entry[:40]!r}")
        items.append(item)
        if label.lower() in _YES:
            clicked.append(item)
    return items, clicked


def clicked_of(entries: Sequence[str], candidates: Sequence[str]) -> list[str]:
    """The clicked items. The entries are these items, or a flag for each candidate.

    Raises:
        ValueError: An entry is neither.
    """
    flags = [entry.lower() for entry in entries]
    if len(flags) == len(candidates) and set(flags) <= _YES | _NO and not set(entries) <= set(candidates):
        return [item for item, flag in zip(candidates, flags, strict=True) if flag in _YES]
    offered = set(candidates)
    for entry in entries:
        if entry not in offered:
            raise ValueError(
                f"must be candidates of the list, or 0 or 1 for each of the {len(candidates)} candidates, "
                f"not {entry[:40]!r}"
            )
    return list(dict.fromkeys(entries))


def feedback_id(*parts: str) -> str:
    """An id for feedback that has none, from what it says. Where that is too long for an id, it is a digest of it.

    Example:
        >>> feedback_id("r", "b", "click"), len(feedback_id("r", "b" * 600, "click"))
        ('r/b/click', 64)
    """
    whole = "/".join(parts)
    return whole if len(whole) <= MAX_ID else hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()


def feedback_of(shown: Impression, clicked: Sequence[str], action: str) -> list[Feedback]:
    """Feedback on a list, a microsecond after it: nobody said when it was clicked."""
    return [
        Feedback(
            id=feedback_id(shown.id, item, action),
            impression_id=shown.id,
            item=item,
            action=action,
            time_us=shown.time_us + 1,
        )
        for item in clicked
    ]
