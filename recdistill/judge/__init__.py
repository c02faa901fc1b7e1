"""Judges the exact artefact that would ship: the suite, its baselines and slices, the gate, and the report.

It runs `serve.recommender` on the bundle itself. It knows nothing of how a bundle was made or where it is kept.

Example:
    >>> sorted(name for name in __all__ if name.islower())
    ['checks', 'evaluate', 'from_json', 'gate', 'misfits', 'outlook', 'to_json', 'write_report']
"""

from recdistill.judge.baselines import Contender
from recdistill.judge.contenders import BundleContender, DeviceContender, TeacherContender, misfits
from recdistill.judge.gates import Asked, Check, checks, gate
from recdistill.judge.judgement import CHAMPION, TEACHER, Judgement, Part, Spending, from_json, to_json
from recdistill.judge.outlook import outlook
from recdistill.judge.report import write_report
from recdistill.judge.suite import evaluate

__all__ = [
    "CHAMPION",
    "TEACHER",
    "Asked",
    "BundleContender",
    "Check",
    "Contender",
    "DeviceContender",
    "Judgement",
    "Part",
    "Spending",
    "TeacherContender",
    "checks",
    "evaluate",
    "from_json",
    "gate",
    "misfits",
    "outlook",
    "to_json",
    "write_report",
]
