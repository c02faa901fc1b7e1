"""From a bundle to a judged and registered version. The promoter, the command line and the demo use it.

It knows nothing of loops, of how a bundle was made, or of how a champion is served.

Example:
    >>> [name for name in __all__ if "judge" in name or "promote" in name]
    ['judge', 'may_promote', 'promote']
"""

from recdistill.release.canary import CanaryTrial, CanaryVerdict
from recdistill.release.judging import judge, publish
from recdistill.release.lists import Which, too_few
from recdistill.release.parts import count_held_out, held_out, learnt_from, part_of
from recdistill.release.policy import may_promote, to_drop
from recdistill.release.promoting import GRACE_S, give_back, promote, take_champion
from recdistill.release.tries import of_evidence
from recdistill.release.window import HeldOutWindow

__all__ = [
    "GRACE_S",
    "CanaryTrial",
    "CanaryVerdict",
    "HeldOutWindow",
    "Which",
    "count_held_out",
    "give_back",
    "held_out",
    "judge",
    "learnt_from",
    "may_promote",
    "of_evidence",
    "part_of",
    "promote",
    "publish",
    "take_champion",
    "to_drop",
    "too_few",
]
