"""Makes user vectors of requests, with one state of the catalogue.

It does not know which items an answer holds.

Example:
    >>> from recdistill.serve.index import Base
    >>> from recdistill.serve.requests import Request
    >>> spec, state = FeatureSpec(), State.first(["a"], Base(np.zeros((1, 4), np.float32)), popular=[], position=0)
    >>> tower = lambda requests, history_BHW: np.full((len(requests.unknown_B), 2), [1.0, 1e38], np.float32)
    >>> UserVectors(spec, Vocabulary(spec), tower)(state, [Request()]).vectors_BD.tolist()
    [[1.0, 0.0]]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recdistill.errors import RequestError
from recdistill.features import Asker, FeatureError, FeatureSpec, Requests, Vocabulary, encode_requests
from recdistill.model import layout
from recdistill.serve.index import Floats, Mask
from recdistill.serve.state import State


@dataclass(frozen=True)
class Users:
    """B users.

    Args:
        vectors_BD: Their vectors.
        known_B: Whether anything is known about a user: an item of the history, or a context value.
        unknown_B: How many events of the history were left out, because their item is not in the catalogue.
    """

    vectors_BD: Floats
    known_B: Mask
    unknown_B: npt.NDArray[np.int32]


class UserVectors:
    """Makes user vectors. Threads may share it.

    Args:
        spec: The feature specification.
        vocabulary: Rows of context categories.
        tower: Encoded requests, and the rows of their histories, to vectors.
    """

    def __init__(self, spec: FeatureSpec, vocabulary: Vocabulary, tower: Callable[[Requests, Floats], Floats]) -> None:
        self._spec, self._vocabulary, self._tower = spec, vocabulary, tower

    def __call__(self, state: State, requests: Sequence[Asker]) -> Users:
        """The users of some requests.

        Raises:
            RequestError: A context value does not fit its field.
        """
        try:
            encoded = encode_requests(self._spec, self._vocabulary, state, requests)
        except FeatureError as e:
            where = e.field if len(requests) == 1 else f"requests[{e.row}].{e.field}"
            raise RequestError(where, e.problem) from e
        vectors_BD = self._tower(encoded, state.shelf.rows(encoded.history_slots_BH))
        # A very large context value (1e38) must not make every score NaN, because then the answer would be empty.
        vectors_BD = np.where(np.abs(vectors_BD) < layout.USER_LIMIT, vectors_BD, np.float32(0))
        return Users(vectors_BD, (encoded.history_slots_BH >= 0).any(1) | _has_context(encoded), encoded.unknown_B)


def _has_context(encoded: Requests) -> Mask:
    """Whether a request has a context value that the student knows, `[B]`."""
    has_B = np.zeros(len(encoded.unknown_B), bool)
    for values in encoded.context.values():
        has_B |= (values > 0).any(1) if values.dtype == np.int32 else (values != 0).any(1)
    return has_B
