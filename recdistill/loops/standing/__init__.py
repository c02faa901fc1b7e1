"""Where everything stands: backlog, freshness, the student, the versions, the processes; for `recdistill status`.

Each part is read from the log, the folders, the registry or a process, and none of them is changed. A part that is down
is one sentence, and the others are told all the same.

Example:
    >>> [name for name in __all__ if "hop" in name]
    ['hops_of']
"""

from recdistill.loops.standing.fresh import HopAt, hops_of
from recdistill.loops.standing.processes import ProcessAt, asked
from recdistill.loops.standing.releases import Releases, announced, held_out, releases
from recdistill.loops.standing.stages import Backlog, backlogs
from recdistill.loops.standing.student import StudentAt, next_exports, student_at
from recdistill.loops.standing.whole import Standing, lines, plain

__all__ = [
    "Backlog",
    "HopAt",
    "ProcessAt",
    "Releases",
    "Standing",
    "StudentAt",
    "announced",
    "asked",
    "backlogs",
    "held_out",
    "hops_of",
    "lines",
    "next_exports",
    "plain",
    "releases",
    "student_at",
]
