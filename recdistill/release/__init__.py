"""From a bundle to a judged and registered version. The promoter, the command line and the demo use it.

It knows nothing of loops, of how a bundle was made, or of how a champion is served.

Example:
    >>> sorted(name for name in __all__ if name.islower())
    ['count_held_out', 'give_back', 'held_out', 'judge', 'learnt_from', 'may_promote', 'promote', 'publish', 'to_drop']
"""

from recdistill.release.judging import count_held_out, held_out, judge, learnt_from, publish
from recdistill.release.policy import may_promote, to_drop
from recdistill.release.promoting import GRACE_S, give_back, promote

__all__ = [
    "GRACE_S",
    "count_held_out",
    "give_back",
    "held_out",
    "judge",
    "learnt_from",
    "may_promote",
    "promote",
    "publish",
    "to_drop",
]
