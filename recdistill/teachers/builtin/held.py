"""Which choices are held out of a training, and what each question's user had before.

It knows nothing of torch, weights or losses.

Example:
    >>> from recdistill.features import Catalogue, FeatureSpec, Vocabulary
    >>> from recdistill.records import Event, Example, Impression, Item, Ranking
    >>> from recdistill.teachers.builtin.sequences import timelines
    >>> catalogue = Catalogue(FeatureSpec(), Vocabulary(FeatureSpec()))
    >>> slots = [catalogue.apply(Item(name), admit=True) for name in "ab"]
    >>> asked = [Impression(str(n), 9, history=(Event("a", 1), Event("b", 2))) for n in range(10)]
    >>> lines = timelines(
    ...     FeatureSpec(), catalogue, [Example(Ranking(one, "", "", "rank", (), ()), ()) for one in asked]
    ... )
    >>> learnt, held = hold_out(lines, 200, 5, np.random.default_rng(0))
    >>> len(lines.question_slot_M), len(learnt.question_slot_M), len(held.cuts)  # a tenth of ten timelines
    (20, 19, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from recdistill.teachers.builtin.sequences import Ints, Timelines

Bools = npt.NDArray[np.bool_]

HELD_SHARE: Final = 0.1
"""At most this share of the timelines has its last choice held out."""


@dataclass(frozen=True)
class Held:
    """Questions that are not learnt, and by which the best pass is chosen.

    Args:
        lines: The timelines with all their questions.
        cuts: One row of `sequences.cut` for each held question.
    """

    lines: Timelines
    cuts: Ints


def hold_out(lines: Timelines, length: int, most: int, random: np.random.Generator) -> tuple[Timelines, Held]:
    """Takes the last question out of some timelines, drawn at random among those with two or more.

    Returns:
        The timelines without these questions, and the questions.
    """
    lo_T, hi_T = lines.first_question_T1[:-1], lines.first_question_T1[1:]
    able = np.flatnonzero(hi_T - lo_T >= 2)
    chosen = np.sort(random.permutation(able)[: min(most, int(HELD_SHARE * len(able)))])
    last = hi_T[chosen] - 1
    end = lines.first_T1[chosen] + lines.question_at_M[last]
    begin = np.maximum(lines.first_T1[chosen], end - length)
    held = Held(lines, np.stack([begin, end, last, last + 1], 1).reshape(-1, 4))
    kept_M = np.ones(len(lines.question_slot_M), bool)
    kept_M[last] = False
    fewer_T = np.isin(np.arange(len(lo_T)), chosen)
    learnt = replace(
        lines,
        first_question_T1=np.concatenate([[0], np.cumsum(hi_T - lo_T - fewer_T)]),
        question_at_M=lines.question_at_M[kept_M],
        question_slot_M=lines.question_slot_M[kept_M],
        question_time_us_M=lines.question_time_us_M[kept_M],
        question_origin_M=lines.question_origin_M[kept_M],
        question_context_M=lines.question_context_M[kept_M],
        question_weight_M=lines.question_weight_M[kept_M],
    )
    return learnt, held


def had(
    lines: Timelines, cuts: Ints, question_BQ: Ints, column_N: Ints, which_B: Bools | None = None
) -> tuple[Ints, Ints]:
    """Pairs of a question and a column that its user had before: in the window, or earlier in the timeline.

    Args:
        lines: The timelines.
        cuts: The windows, B rows of `sequences.cut`.
        question_BQ: The questions of each window, -1 where there is none. They are numbered in this order.
        column_N: Column of each slot, -1 where it has none.
        which_B: The windows whose pairs are wanted. None: all of them.

    Returns:
        The question's number (rising) and the column, one of each for each pair. A pair may come twice.
    """
    line_B = np.searchsorted(lines.first_question_T1, cuts[:, 2], side="right") - 1
    numbers: list[Ints] = []
    columns: list[Ints] = []
    count = 0
    for row, line in enumerate(line_B.tolist()):
        question_Q = question_BQ[row][question_BQ[row] >= 0]
        at_Q = lines.question_at_M[question_Q]
        first = int(lines.first_T1[line])
        if which_B is not None and not which_B[row]:
            count += len(question_Q)
            continue
        column_K = column_N[lines.slots_E[first : first + int(at_Q.max(initial=0))]]
        pair_QK = (np.arange(len(column_K)) < at_Q[:, None]) & (column_K >= 0)
        number_R, place_R = np.nonzero(pair_QK)
        numbers.append(number_R + count)
        columns.append(column_K[place_R])
        count += len(question_Q)
    return _joined(numbers), _joined(columns)


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts])
