"""Shows a batch to the watch before it is learnt.

It knows nothing of torch, losses or weights.
"""

from __future__ import annotations

import numpy as np

from recdistill.train.batch import Batch
from recdistill.watch import Observation, Watch, variances


def watched(watch: Watch, batch: Batch, student_BL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The teacher's logits, `[B, L]`, and how far each list is believed, `[B]`.

    Args:
        watch: It remembers what it sees, unless the batch is met again.
        batch: The batch.
        student_BL: The student's scores of the candidates.
    """
    lists, teachers = batch.lists, batch.teachers
    new_B = np.zeros(len(batch), bool) if batch.again else lists.soft_B
    units_BL = watch.in_units(teachers, batch.units_BL, variances(lists, batch.units_BL), new_B)
    if batch.again:
        trust_B = watch.weigh_again(teachers, lists.scored_BL)
    else:
        watch.look(lists, student_BL, batch.times_B)
        seen = Observation(
            teachers=teachers,
            scores_BL=lists.teacher_scores_BL,
            scored_BL=lists.scored_BL,
            labels_BL=lists.labels_BL,
            labelled_BL=lists.where_BL & lists.label_known_B[:, None],
            first_B=lists.soft_B,
            student_BL=student_BL,
            units_BL=units_BL,
            agreement_B=batch.agreement_B,
        )
        trust_B = watch.weigh(seen)
    return units_BL * watch.spreads(teachers)[:, None], trust_B
