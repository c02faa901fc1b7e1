"""It makes scores of different teachers comparable, and it notices when a teacher changes.

`comparable_scores` and the other functions of `units` bring the scores of any teacher to one unit. `Watch` follows each
teacher through the stream. Its detectors (`detectors`, one file each) find what has changed. The watch decides
what is done. Other detectors follow the stream itself: inputs, labels, and the student against its teachers. `compare`
holds a teacher's answers against those that it gave before.

It knows nothing of torch or of how a student learns.
"""

from recdistill.watch.answers import Comparison, compare
from recdistill.watch.detectors import Drifts
from recdistill.watch.observation import Observation, Seen
from recdistill.watch.units import (
    MOST_WEIGHT,
    candidate_offsets,
    comparable_scores,
    list_weights,
    standardised,
    teacher_logits,
    variances,
)
from recdistill.watch.watch import Watch

__all__ = [
    "MOST_WEIGHT",
    "Comparison",
    "Drifts",
    "Observation",
    "Seen",
    "Watch",
    "candidate_offsets",
    "comparable_scores",
    "compare",
    "list_weights",
    "standardised",
    "teacher_logits",
    "variances",
]
