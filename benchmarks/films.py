"""MovieLens 100k in the order of time: what each user chose, scored by EASE over a part of it.

It knows nothing of students.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from scipy import sparse

from benchmarks.forms import absent
from benchmarks.inputs import data_set
from recdistill.data import Dataset, movielens
from recdistill.linear import ease
from recdistill.records import Impression

_AT_ONCE = 512


class Films(NamedTuple):
    """The data, and by name what a table needs."""

    data: Dataset
    taken: dict[str, set[str]]
    """By list: what was chosen."""
    names: list[str]
    column: dict[str, int]

    @classmethod
    def read(cls) -> Films:
        """Reads them from beside the clone. Where they are not there, the benchmark ends."""
        folder = data_set("ml-100k")
        if not folder.is_dir():
            absent(f"{folder} is not there; put MovieLens 100k into it")
        data = movielens.load(folder, seed=0)
        taken: dict[str, set[str]] = {}
        for like in data.feedback:
            taken.setdefault(like.impression_id, set()).add(like.item)
        names = list(dict.fromkeys(item.id for item in data.items))
        return cls(data, taken, names, {name: at for at, name in enumerate(names)})

    def scored(self, known: Sequence[Impression], lists: Sequence[Impression]) -> Iterator[Impression]:
        """Lists with the scores of a teacher that knows other lists, and what was chosen of them.

        Args:
            known: What the teacher knows.
            lists: What it scores, from the history of each.
        """
        likes = {(one.user, self.column[item]) for one in known for item in self.taken.get(one.id, ())}
        likes |= {(one.user, at) for one in known for at in self._past(one)}
        users = {user: at for at, user in enumerate(dict.fromkeys(sorted(str(user) for user, _ in likes)))}
        places = ([users[str(user)] for user, _ in likes], [at for _, at in likes])
        teacher = ease(sparse.csr_matrix((np.ones(len(likes), np.float32), places), (len(users), len(self.names))))
        for start in range(0, len(lists), _AT_ONCE):
            some = lists[start : start + _AT_ONCE]
            pasts = [self._past(one) for one in some]
            rows = [row for row, past in enumerate(pasts) for _ in past]
            flat = [at for past in pasts for at in past]
            shape = (len(some), len(self.names))
            scores_BN = np.asarray(teacher(sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, flat)), shape)))
            for one, scores_N in zip(some, scores_BN, strict=True):
                candidates = tuple(
                    msgspec.structs.replace(c, logged_score=float(scores_N[self.column[c.item]]))
                    for c in one.candidates
                )
                yield msgspec.structs.replace(one, candidates=candidates)

    def right(self, one: Impression) -> tuple[np.ndarray, np.ndarray]:
        """Of a list: the gain of each film, f32 `[N]`, and whether it may be answered, bool `[N]`."""
        chosen = self.taken[one.id]
        gains_N, allowed_N = np.zeros(len(self.names), np.float32), np.ones(len(self.names), bool)
        gains_N[[self.column[item] for item in chosen]] = 1.0
        gone = ({event.item for event in one.history} | set(one.exclude)) - chosen
        allowed_N[[self.column[item] for item in gone if item in self.column]] = False
        return gains_N, allowed_N

    def _past(self, one: Impression) -> list[int]:
        return [self.column[event.item] for event in one.history if event.item in self.column]
