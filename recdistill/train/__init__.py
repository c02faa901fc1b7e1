"""Training: it turns examples into a student's weights.

`Trainer.encode` makes a `Batch` of examples, and `Trainer.learn` learns from it. The loop, the tests, the references
and the benchmarks all use these two.

Importing this room imports torch.

Example:
    >>> Rates(dense=0.003, rows=0.07, id_dropout=0.1, dropout=0.1).rows
    0.07
"""

import torch

from recdistill.train.batch import Batch, told_by_columns, told_by_examples
from recdistill.train.shape import Rates, Shape
from recdistill.train.step import Trainer
from recdistill.train.student import Student
from recdistill.train.terms import SoftTerms
from recdistill.train.warm import state_of_bundle

__all__ = [
    "Batch",
    "Rates",
    "Shape",
    "SoftTerms",
    "Student",
    "Trainer",
    "state_of_bundle",
    "told_by_columns",
    "told_by_examples",
    "use_threads",
]


_OWN = torch.get_num_threads()
_changed: list[int] = []


def use_threads(count: int) -> None:
    """Sets how many threads torch uses; with 0 torch chooses. Two runs are equal only with the same number."""
    if count:
        torch.set_num_threads(count)
        _changed.append(count)
    elif _changed:
        torch.set_num_threads(_OWN)
