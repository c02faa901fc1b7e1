"""The words, marks and page classes of the three verdicts. It can also make a check again from its sentence.

It knows nothing of figures or of how a page is laid out.

Example:
    >>> told("lists: 20 were judged; not enough evidence yet", False).verdict, SAID["more"]
    ('more', 'not enough evidence')
"""

from __future__ import annotations

import re
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

# A slice or a rule is named by a value of the data, and a value may hold ": ". So its name ends where one of the
# sentences of slice_checks.py and artefact_checks.py begins.
_NAMED_BY_A_VALUE: Final = re.compile(
    r"((?:slice|rule) .*?): (?:the policy asks for it,|there is no champion|the student's lead over the champion|"
    r"the answers were not looked at|a share of )",
    re.DOTALL,
)


def told(reason: str, passed: bool) -> Check:
    """Makes a check again from its sentence in the evidence."""
    found = _NAMED_BY_A_VALUE.match(reason)
    name = found[1] if found else reason.partition(":")[0]
    verdict: Verdict = "passed" if passed else "more" if reason.endswith(YET) else "refused"
    return Check(name, verdict, reason)
