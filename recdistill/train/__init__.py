"""Island 1: what turns examples into a student's weights.

There is one door. `Trainer.encode` makes a `Batch` of examples, and `Trainer.learn` learns from it. The loop, the
tests, the references and the benchmarks all go through it.

Importing this room imports torch.

Example:
    >>> Rates(dense=0.003, rows=0.07, id_dropout=0.1, dropout=0.1).rows
    0.07
"""

import torch

from recdistill.train.batch import Batch
from recdistill.train.shape import Rates, Shape
from recdistill.train.step import Trainer
from recdistill.train.student import Student
from recdistill.train.terms import SoftTerms

__all__ = ["Batch", "Rates", "Shape", "SoftTerms", "Student", "Trainer", "use_threads"]


def use_threads(count: int) -> None:
    """Sets how many threads torch computes with; 0 leaves it its own choice. Part of what makes two runs equal."""
    if count:
        torch.set_num_threads(count)
