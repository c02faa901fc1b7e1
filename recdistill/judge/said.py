"""The words, marks and page classes of the three verdicts. It can also make a check again from its sentence.

It knows nothing of figures or of how a page is laid out.

Example:
    >>> told("lists: 20 were judged; not enough evidence yet", False).verdict, SAID["more"]
    ('more', 'not enough evidence')
"""

from __future__ import annotations

from typing import Final

from recdistill.judge.bounds import Verdict
from recdistill.judge.gates import YET, Check

CLASSES: Final[dict[Verdict, str]] = {"passed": "yes", "refused": "no", "more": "more"}
SAID: Final[dict[Verdict, str]] = {"passed": "passed", "refused": "failed", "more": "not enough evidence"}
MARKS: Final[dict[Verdict, str]] = {"passed": "✓", "refused": "✗", "more": "…"}
TITLES: Final[dict[Verdict, str]] = {
    "passed": "Passed",
    "refused": "Did not pass",
    "more": "Not enough evidence",
}
HEADS: Final[dict[Verdict, str]] = {
    "passed": "Passed the gate",
    "refused": "Did not pass the gate",
    "more": "Not enough evidence yet",
}


def told(reason: str, passed: bool) -> Check:
    """Makes a check again from its sentence in the evidence."""
    verdict: Verdict = "passed" if passed else "more" if reason.endswith(YET) else "refused"
    return Check(reason.partition(":")[0], verdict, reason)
