"""Several teachers as one: the weighted sum of their scores, which are standardised for each list and member.

Members may have different scales. In each list, only the candidates that every member scored count. Over these, each
member's scores get mean 0 and standard deviation 1, and are summed by weight. A candidate that a member left out is
masked: a sum without that member would be the score of another ranker. For the same reason, a list that a member fails
on is an error. So a score of the ensemble always comes from all of its members. If a member cannot answer at all, the
ensemble cannot answer, and the scorer waits for it.

The version is made from the members' ids, versions and weights.

It knows nothing of how a member works.

Example:
    >>> from recdistill.records import Candidate
    >>> from recdistill.teachers.logged import LoggedTeacher
    >>> one = LoggedTeacher("ranker", "7", "logit")
    >>> teacher = EnsembleTeacher("both", [(one, 1.0), (one, 0.5)])
    >>> asked = Impression("i", 9, candidates=(Candidate("a", 90.0), Candidate("b", 70.0), Candidate("c")))
    >>> [scores] = teacher.score([asked])
    >>> scores.values_L.tolist(), scores.scored_L.tolist()
    ([1.5, -1.5, 0.0], [True, True, False])
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from recdistill.errors import ConfigError, TeacherError
from recdistill.linear import standardise
from recdistill.records import Impression, Item, Scale
from recdistill.teachers.contract import Scores, Teacher, asked_again, misfit, reads


@dataclass(frozen=True)
class EnsembleTeacher:
    """Asks each member in turn.

    Args:
        id: Name of the ensemble.
        members: Teachers and their weights, which are positive.
        named_version: Its version. If empty, it is a digest of the members' ids, versions and weights.

    Raises:
        ConfigError: There is no member, or a weight is not a positive number.
    """

    id: str
    members: Sequence[tuple[Teacher, float]]
    named_version: str = ""
    scale: Scale = field(default="unbounded", init=False)

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("teacher.members: an ensemble needs at least one member, [[teacher.members]]")
        for teacher, weight in self.members:
            if not 0 < weight < np.inf:
                raise ConfigError(f"teacher.members: the weight of {teacher.id} must be above 0, not {weight}")

    @property
    def version(self) -> str:
        """The given version, or a digest that changes when a member's version changes."""
        if self.named_version:
            return self.named_version
        told = [(teacher.id, teacher.version, float(weight)) for teacher, weight in self.members]
        return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:12]

    @property
    def can_be_asked_again(self) -> bool:
        """Whether a member can."""
        return any(asked_again(teacher) for teacher, _ in self.members)

    @property
    def reads(self) -> frozenset[str]:
        """What any of its members reads."""
        return frozenset().union(*(reads(teacher) for teacher, _ in self.members))

    def why_missing(self) -> str:
        """What the first member says that left a score out."""
        said = [(teacher.id, getattr(teacher, "why_missing", str)()) for teacher, _ in self.members]
        return next((f"{why} (member {name})" for name, why in said if why), "")

    def apply_items(self, items: Sequence[Item]) -> None:
        """Gives them to each member."""
        for teacher, _ in self.members:
            teacher.apply_items(items)

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Scores each impression's candidates; see the contract. Members run in order, and share the deadline."""
        ends = None if deadline_s is None else time.monotonic() + deadline_s
        answers = []
        for teacher, _ in self.members:
            left_s = None if ends is None else max(0.0, ends - time.monotonic())
            found = teacher.score(impressions, deadline_s=left_s)
            if len(found) != len(impressions):
                raise TeacherError(
                    f"member {teacher.id} answered {len(found)} of {len(impressions)} impressions; "
                    "it must answer each one"
                )
            answers.append(found)
        return [self._sum(impression, own) for impression, *own in zip(impressions, *answers, strict=True)]

    def _sum(self, impression: Impression, answers: Sequence[Scores | TeacherError]) -> Scores | TeacherError:
        scored_L = np.ones(len(impression.candidates), bool)
        for (teacher, _), answer in zip(self.members, answers, strict=True):
            error = answer if isinstance(answer, TeacherError) else misfit(impression, answer)
            if error is not None or isinstance(answer, TeacherError):
                return TeacherError(f"{error} (member {teacher.id} of ensemble {self.id})")
            scored_L &= answer.scored_L & np.isfinite(answer.values_L)
        total_L = np.zeros(len(scored_L), np.float32)
        for (_, weight), answer in zip(self.members, answers, strict=True):
            if isinstance(answer, Scores) and scored_L.any():
                total_L[scored_L] += np.float32(weight) * standardise(answer.values_L[scored_L])
        return Scores(total_L, scored_L)
