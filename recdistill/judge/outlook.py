"""Says how many lists are missing for a verdict, and how long it takes until they come, at the present traffic.

It knows nothing of logs or of how lists are measured.

Example:
    >>> outlook(have=57, least=200, span_s=56 * 60.0)
    '143 more, which take about 2.4 hours at this traffic'
    >>> outlook(have=1, least=200, span_s=0.0)
    '199 more'
"""

from __future__ import annotations


def outlook(*, have: int, least: int, span_s: float) -> str:
    """What is missing, in words.

    Args:
        have: How many labelled lists there are.
        least: How many are needed.
        span_s: Seconds from the earliest of them to the latest, by the times of the lists.
    """
    missing = max(0, least - have)
    if have < 2 or span_s <= 0:
        return f"{missing:,} more"
    return f"{missing:,} more, which take about {_duration(missing * span_s / (have - 1))} at this traffic"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            count = seconds / length
            return f"{count:.2g} {unit}" if count < 10 else f"{float(f'{count:.2g}'):,.0f} {unit}"  # never 1.7e+03
    return f"{max(1, round(seconds))} seconds"
