"""What one step learns from: encoded lists, the scores of their teachers, and the names of these teachers.

A batch is made once. A trainer can learn from it several times. Its numbers depend on its own examples alone, so a
later pass over the same examples makes the same batch.

It knows nothing of torch, students or logs.

Example:
    >>> from recdistill.features import Requests
    >>> none, one = np.zeros((1, 0), np.int32), np.ones(1, np.float32)
    >>> asked = Requests(none, none, none, {}, np.zeros(1, np.int32))
    >>> scores, real, yes = np.array([[40.0, 20.0]], np.float32), np.ones((1, 2), bool), np.ones(1, bool)
    >>> lists = Lists(asked, np.array([[0, 1]], np.int32), real, scores, real, 0 * scores, yes, one, None, yes)
    >>> Batch.of(lists, ["unbounded"], ["t@1"], "scale").units_BL.tolist()
    [[2.0, -2.0]]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recdistill.features import AsOf, Lists
from recdistill.records import Columns, Example
from recdistill.watch import comparable_scores


@dataclass(frozen=True)
class Batch:
    """One step's lists.

    Args:
        lists: The lists, encoded.
        units_BL: The teachers' scores in units that can be compared, f32; 0 where there is no score.
        teachers: The teacher of each list, `id@version`.
        unknown: How many candidates and history items the catalogue does not hold.
        unfit: How many context values were of the wrong kind; they count as absent.
        again: Whether this is a later pass over these lists.
        agreement_B: How well the teacher of each list agrees with its own first answers, f32, NaN where nobody asked;
            None: nobody ever did.
        as_of: What the encoded lists rest on; see `Tenure`. None: not known.
        times_B: When each list was shown, int64 microseconds, 0 where that is not known; None: of none it is.
    """

    lists: Lists
    units_BL: np.ndarray
    teachers: Sequence[str]
    unknown: int = 0
    unfit: int = 0
    again: bool = False
    agreement_B: np.ndarray | None = None
    as_of: AsOf | None = None
    times_B: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        lists: Lists,
        scales: Sequence[str],
        teachers: Sequence[str],
        comparable: str,
        *,
        unknown: int = 0,
        unfit: int = 0,
        agreement_B: np.ndarray | None = None,
        as_of: AsOf | None = None,
        times_B: np.ndarray | None = None,
    ) -> Batch:
        """A batch of encoded lists.

        Args:
            lists: The lists.
            scales: What the scores of each list mean.
            teachers: The teacher of each list.
            comparable: How the scores are made comparable, see `watch.comparable_scores`.
            unknown: See the class.
            unfit: See the class.
            agreement_B: See the class.
            as_of: See the class.
            times_B: See the class.
        """
        return cls(
            lists,
            comparable_scores(lists, scales, teachers, comparable),
            teachers,
            unknown=unknown,
            unfit=unfit,
            agreement_B=agreement_B,
            as_of=as_of,
            times_B=times_B,
        )

    def __len__(self) -> int:
        return len(self.units_BL)

    def once_more(self) -> Batch:
        """The same batch in a later pass."""
        return replace(self, again=True)

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays, whatever fields they are in."""
        return sum(array.nbytes for array in _arrays(self))


class Told(NamedTuple):
    """What the teachers said of themselves in the examples of a batch.

    Args:
        scales: What the scores of each list mean.
        teachers: The teacher of each list.
        candidates: How many candidates there are, also those that the catalogue does not hold.
        agreement_B: See `Batch`.
        times_B: See `Batch`.
    """

    scales: Sequence[str]
    teachers: Sequence[str]
    candidates: int
    agreement_B: np.ndarray | None
    times_B: np.ndarray


def told_by_examples(examples: Sequence[Example]) -> Told:
    """What some examples say."""
    rankings = [example.ranking for example in examples]
    return Told(
        [ranking.scale for ranking in rankings],
        [f"{ranking.teacher_id}@{ranking.teacher_version}" for ranking in rankings],
        candidates=sum(len(ranking.scores) for ranking in rankings),
        agreement_B=_agreement([np.nan if (one := ranking.self_agreement) is None else one for ranking in rankings]),
        times_B=np.array([ranking.impression.time_us for ranking in rankings], np.int64),
    )


def told_by_columns(columns: Columns) -> Told:
    """What the same examples say as columns."""
    return Told(
        columns.scales,
        columns.teachers,
        candidates=len(columns.scores_C),
        agreement_B=_agreement(columns.agreement_E),
        times_B=columns.times_E,
    )


def _agreement(told: npt.ArrayLike) -> np.ndarray | None:
    agreement_B = np.asarray(told, np.float32)
    return None if np.isnan(agreement_B).all() else agreement_B


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _arrays(one)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _arrays(getattr(value, field.name))


def arrays_of(record: Any) -> list[tuple[str, np.ndarray]]:
    """The fields that are arrays."""
    values = ((field.name, getattr(record, field.name)) for field in fields(record))
    return [(name, value) for name, value in values if isinstance(value, np.ndarray)]


def rows_of(lists: Lists, rows_B: np.ndarray) -> Lists:
    """Copies of some rows."""
    requests = lists.requests
    context = {name: value[rows_B] for name, value in requests.context.items()}
    cut = replace(requests, **{name: value[rows_B] for name, value in arrays_of(requests)}, context=context)
    return replace(lists, **{name: value[rows_B] for name, value in arrays_of(lists)}, requests=cut)
