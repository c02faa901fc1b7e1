"""Examples -> a student: learns in the one order, saves checkpoints by step count, exports bundles.

What a student has learnt depends on the log and the settings alone. A run that was killed goes on from its newest
checkpoint. It ends with the same bytes as a run that was not killed.

At its first start a distiller may go over what the log holds several times (`passes`). A first checkpoint fixes where
that range ends, so later records do not move it. After that each example is learnt once, as it comes.

One distiller at a time works on a student. It owns the student's folder, and it is the newest of its name in the log.
Before it writes a checkpoint or a bundle it checks both. One that was paused while another took over stops there.

It knows nothing of losses, of torch, or of what becomes of a bundle.
"""

from recdistill.loops.distil.ahead import Ahead
from recdistill.loops.distil.bundling import export
from recdistill.loops.distil.distiller import Distiller
from recdistill.loops.distil.events import changed
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.loop import ExportPlan, Publisher, run
from recdistill.loops.distil.owner import owner_of
from recdistill.loops.distil.replay import Played, replay
from recdistill.loops.distil.requests import ask, waiting
from recdistill.loops.distil.saved import Recipe

__all__ = [
    "Ahead",
    "Distiller",
    "ExportPlan",
    "Played",
    "Publisher",
    "Recipe",
    "StudentFolder",
    "ask",
    "changed",
    "export",
    "owner_of",
    "replay",
    "run",
    "waiting",
]
