"""Takes a bundle from judging to release: judge, register, promote, roll back, canary.

The promoter, the command line and the demo use it.

It knows nothing of loops, of how a bundle was made, or of how a champion is served.

Example:
    >>> [name for name in __all__ if "judge" in name or "promote" in name]
    ['judge', 'may_promote', 'promote']
"""

from recdistill.release.canary import CanaryTrial, CanaryVerdict, Do
from recdistill.release.champion import HEAD, ByHand, as_writer, bring_over, change, rollback, watch
from recdistill.release.control import Controls, in_folder
from recdistill.release.evidence import Policy, policy_digest, policy_of, weaker, why_not
from recdistill.release.history import history_of
from recdistill.release.judging import judge, publish
from recdistill.release.lists import Which, too_few
from recdistill.release.parts import count_held_out, held_out, learnt_from, part_of
from recdistill.release.policy import may_promote, to_drop
from recdistill.release.promoting import GRACE_S, Pinned, give_back, promote, take_champion, take_pinned, waive
from recdistill.release.tries import of_evidence, tries_so_far
from recdistill.release.window import HeldOutWindow

__all__ = [
    "GRACE_S",
    "HEAD",
    "ByHand",
    "CanaryTrial",
    "CanaryVerdict",
    "Controls",
    "Do",
    "HeldOutWindow",
    "Pinned",
    "Policy",
    "Which",
    "as_writer",
    "bring_over",
    "change",
    "count_held_out",
    "give_back",
    "held_out",
    "history_of",
    "in_folder",
    "judge",
    "learnt_from",
    "may_promote",
    "of_evidence",
    "part_of",
    "policy_digest",
    "policy_of",
    "promote",
    "publish",
    "rollback",
    "take_champion",
    "take_pinned",
    "to_drop",
    "too_few",
    "tries_so_far",
    "waive",
    "watch",
    "weaker",
    "why_not",
]
