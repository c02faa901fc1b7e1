"""A person is removed: from every topic that holds their lists, from the joiner's snapshot, and from checkpoints.

Example:
    >>> sorted(__all__)
    ['Forgotten', 'Left', 'clean_checkpoints', 'clean_window', 'run', 'trace']
"""

from recdistill.loops.forget.folders import clean_checkpoints, clean_window
from recdistill.loops.forget.removing import Forgotten, Left, run
from recdistill.loops.forget.traces import trace

__all__ = ["Forgotten", "Left", "clean_checkpoints", "clean_window", "run", "trace"]
