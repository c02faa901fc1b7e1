"""Teachers' scores made comparable, and teachers that change noticed.

`comparable_scores` and its neighbours (`units`) bring scores of any teacher to one unit. `Watch` follows each teacher
through the stream: its detectors (`detectors`, one file each) say what has changed, and the watch says what is done.

It knows nothing of torch or of how a student learns.
"""

from recdistill.watch.observation import Observation, Seen
from recdistill.watch.units import (
    MOST_WEIGHT,
    believed_share,
    candidate_offsets,
    comparable_scores,
    list_weights,
    standardised,
    teacher_logits,
)
from recdistill.watch.watch import Watch

__all__ = [
    "MOST_WEIGHT",
    "Observation",
    "Seen",
    "Watch",
    "believed_share",
    "candidate_offsets",
    "comparable_scores",
    "list_weights",
    "standardised",
    "teacher_logits",
]
