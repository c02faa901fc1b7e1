"""Judges the exact artefact that would ship: the suite, its baselines and slices, the gate, and the report.

It runs `serve.recommender` on the bundle itself. It knows nothing of how a bundle was made or where it is kept.

Example:
    >>> sorted(name for name in __all__ if name.islower())
    ['allowed', 'checks', 'counted', 'evaluate', 'from_json', 'gate', 'misfits', 'outlook', 'to_json', \
'write_canary_page', 'write_report']
"""

from recdistill.judge.allowance import Allowed, Try, allowed
from recdistill.judge.baselines import Contender
from recdistill.judge.canary_page import CanaryIs, CanaryTold, GuardAt, Moment, Reason, write_canary_page
from recdistill.judge.contenders import BundleContender, DeviceContender, TeacherContender, misfits
from recdistill.judge.counted import counted
from recdistill.judge.gates import Check, checks, gate
from recdistill.judge.history import Became, Past, Spread
from recdistill.judge.judgement import (
    CHAMPION,
    CONTROL,
    PINNED,
    STUDENT,
    TEACHER,
    Control,
    Judgement,
    Part,
    Spending,
    from_json,
    to_json,
)
from recdistill.judge.outlook import outlook
from recdistill.judge.policy import Asked, Rule
from recdistill.judge.report import write_report
from recdistill.judge.suite import evaluate

__all__ = [
    "CHAMPION",
    "CONTROL",
    "PINNED",
    "STUDENT",
    "TEACHER",
    "Allowed",
    "Asked",
    "Became",
    "BundleContender",
    "CanaryIs",
    "CanaryTold",
    "Check",
    "Contender",
    "Control",
    "DeviceContender",
    "GuardAt",
    "Judgement",
    "Moment",
    "Part",
    "Past",
    "Reason",
    "Rule",
    "Spending",
    "Spread",
    "TeacherContender",
    "Try",
    "allowed",
    "checks",
    "counted",
    "evaluate",
    "from_json",
    "gate",
    "misfits",
    "outlook",
    "to_json",
    "write_canary_page",
    "write_report",
]
