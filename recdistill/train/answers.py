"""What a student that learns would answer now. It changes nothing.

It knows nothing of files or of how a step learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from recdistill.features import Asker, Lists, encode_requests
from recdistill.model import forward
from recdistill.train.batch import rows_of
from recdistill.train.rivals import scores_of_lists

if TYPE_CHECKING:
    from recdistill.train.step import Trainer


@torch.no_grad()
def vectors_of(trainer: Trainer, requests: Sequence[Asker]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of users `[B, D]` and of all items `[N, W]`, from the weights that go out."""
    encoded = encode_requests(trainer.spec, trainer.vocabulary, trainer.catalogue, requests)
    if trainer.average is not None:
        weights = trainer.weights()
        vectors_NW = forward.items(weights, trainer.spec, trainer.catalogue.encoded())
        return forward.users(weights, trainer.spec, vectors_NW, encoded), vectors_NW
    items = trainer.items(np.arange(len(trainer.catalogue)), drop=None)
    history_BH = torch.from_numpy(encoded.history_slots_BH.astype(np.int64))
    return trainer.student.users(items, history_BH, encoded).numpy(), items.output_UW.numpy()


@torch.no_grad()
def scores_of_rows(trainer: Trainer, lists: Lists, rows_R: np.ndarray) -> np.ndarray:
    """Scores of the candidates of encoded lists, f32 `[R, L]`.

    Nothing is dropped, as in serving. The weights are those that learn, also where an average of them goes out.

    Args:
        trainer: The student.
        lists: Some lists.
        rows_R: Which of them.

    Returns:
        NaN where there is no candidate, or the catalogue never saw it.
    """
    some = rows_of(lists, rows_R)
    used_U, place_N = trainer.used(some, np.zeros(0, np.int64))
    if not len(used_U):
        return np.full(some.where_BL.shape, np.nan, np.float32)
    items = trainer.items(used_U, drop=None)
    user_RD = trainer.student.users(items, torch.from_numpy(place_N[some.requests.history_slots_BH]), some.requests)
    scores_RL = scores_of_lists(user_RD, items, place_N[some.candidate_slots_BL]).numpy()
    return np.where(some.where_BL, scores_RL, np.float32(np.nan))
