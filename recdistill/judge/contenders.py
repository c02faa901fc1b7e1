"""The contenders that are not fitted here: bundles, device files and teachers. baselines.py has those that are.

They know nothing of figures or verdicts.

Example:
    >>> from recdistill.records import Event
    >>> as_request(Impression(id="q", time_us=9, history=(Event(item="b"),), exclude=("a",))).exclude
    ('a', 'b')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from recdistill.bundle import Bundle
from recdistill.device import Device
from recdistill.features import Catalogue, FeatureError, encode_requests
from recdistill.judge.judgement import TEACHER
from recdistill.metrics import top_k
from recdistill.records import Candidate, Event, Example, Impression, Item
from recdistill.serve import Recommender, Request
from recdistill.teachers import Scores, Teacher

Floats = NDArray[np.float64]

_BLOCK = 256
_TEACHER_BLOCK = 64


class BundleContender:
    """A bundle as a contender: the student itself, or another student to compare it with.

    Args:
        bundle: The opened bundle.
        name: Its name in the report.

    Raises:
        BundleError: A tower or the index cannot be loaded.
    """

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.name = name
        self.recommender = Recommender(bundle)
        files = bundle.manifest.content.files
        # The files that the judged answers need: the user tower and the float vectors.
        self.size = files["user_tower.onnx"].size + files["vectors.npy"].size
        # The same in the form for a device: int8 vectors, their scales, and two floats for each item (bias, weight).
        int8 = files["vectors_int8.npy"].size + files["scales.npy"].size + 8 * len(bundle.items)
        self.size_int8 = files["user_tower.onnx"].size + int8

    def take_live(self, items: Sequence[Item]) -> None:
        """Adds the items that the bundle does not hold, as live changes. Serving does the same."""
        held = {item.id for item in self.recommender.bundle.items}
        if came := [item for item in items if item.id not in held]:
            self.recommender.apply_items(came, self.recommender.position)

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        """The answers of the recommender, at most k items for each request."""
        out: list[list[str]] = []
        for start in range(0, len(requests), _BLOCK):
            asked = [as_request(r) for r in requests[start : start + _BLOCK]]
            out += [list(answer.items) for answer in self.recommender.recommend(asked, k)]
        return out

    def scores(self, requests: Sequence[Impression]) -> list[Floats]:
        """The student's score of each candidate that was shown. NaN: the bundle does not hold it."""
        out = []
        for start in range(0, len(requests), _BLOCK):
            block = requests[start : start + _BLOCK]
            shown = [[c.item for c in request.candidates] for request in block]
            answers = self.recommender.rank_each([as_request(request) for request in block], shown)
            for request, answer in zip(block, answers, strict=True):
                out.append(_pick(request, dict(zip(answer.items, answer.scores, strict=True))))
        return out


class DeviceContender:
    """A device file as a contender. It answers as a phone would.

    Args:
        path: The file.
        name: Its name in the report.

    Raises:
        BundleError: The file is not a valid device file.
    """

    def __init__(self, path: Path, name: str = "device") -> None:
        self.name = name
        self.size = path.stat().st_size if path.is_file() else 0
        self._device = Device.open(path)

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        """The answers of the device file, at most k items for each request."""
        return [self.answer(request, k)[0] for request in requests]

    def answer(self, request: Impression, k: int) -> tuple[list[str], list[float]]:
        """Items and scores of one answer, at most k."""
        return self._answer(as_request(request), k)

    def scores(self, requests: Sequence[Impression]) -> list[Floats]:
        """The device file's score of each candidate that was shown. NaN: it does not hold it."""
        out = []
        for request in requests:
            asked = msgspec.structs.replace(request, history=(), exclude=())
            answer = self._answer(as_request(asked), self._device.items, request.history)
            out.append(_pick(request, dict(zip(*answer, strict=True))))
        return out

    def _answer(
        self, request: Request, k: int, history: Sequence[Event] | None = None
    ) -> tuple[list[str], list[float]]:
        history = request.history if history is None else history
        return self._device.recommend(
            [event.item for event in history],
            actions=[event.action for event in history],
            times_us=[event.time_us for event in history],
            time_us=request.time_us,
            context=request.context,
            k=k,
            exclude=request.exclude,
        )


class TeacherContender:
    """A teacher as a contender: it scores the whole catalogue, a few requests at a time.

    Args:
        teacher: The teacher.
        catalogue: Ids of the live items.
    """

    name = TEACHER

    def __init__(self, teacher: Teacher, catalogue: Sequence[str]) -> None:
        self._teacher, self._catalogue = teacher, catalogue
        self.failed = 0

    # These are computed only when needed: a teacher that is only asked for `scores` needs no catalogue.

    @cached_property
    def _ids(self) -> NDArray[np.object_]:
        return np.array(self._catalogue, dtype=object)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {item: n for n, item in enumerate(self._catalogue)}

    @cached_property
    def _candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(item=item) for item in self._catalogue)

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        """The k best items by the teacher's scores. Where the teacher failed, the list is empty and `failed` grows."""
        out: list[list[str]] = []
        for start in range(0, len(requests), _TEACHER_BLOCK):
            block = requests[start : start + _TEACHER_BLOCK]
            asked = [msgspec.structs.replace(r, candidates=self._candidates) for r in block]
            for request, answer in zip(block, self._teacher.score(asked), strict=True):
                out.append(self._best(request, answer, k) if isinstance(answer, Scores) else [])
                self.failed += not isinstance(answer, Scores)
        return out

    def scores(self, requests: Sequence[Impression]) -> list[Floats]:
        """The teacher's score of each candidate that was shown. NaN: it gave none. `failed` counts whole lists."""
        out: list[Floats] = []
        for start in range(0, len(requests), _TEACHER_BLOCK):
            block = requests[start : start + _TEACHER_BLOCK]
            for request, answer in zip(block, self._teacher.score(block), strict=True):
                if isinstance(answer, Scores):
                    out.append(np.where(answer.scored_L, answer.values_L, np.nan).astype(np.float64))
                else:
                    out.append(np.full(len(request.candidates), np.nan))
                    self.failed += 1
        return out

    def _best(self, request: Impression, answer: Scores, k: int) -> list[str]:
        scores_N = np.where(answer.scored_L, answer.values_L, -np.inf)
        scores_N[[self._number[i] for i in barred(request) if i in self._number]] = -np.inf
        best = top_k(scores_N[None], k)[0]
        return list(self._ids[best[np.isfinite(scores_N[best])]])


def _pick(request: Impression, given: Mapping[str, float]) -> Floats:
    return np.array([given.get(candidate.item, np.nan) for candidate in request.candidates], np.float64)


def as_request(impression: Impression) -> Request:
    """The request that the product would send. The items of the history are excluded too."""
    exclude = (*impression.exclude, *dict.fromkeys(e.item for e in impression.history))
    return Request(history=impression.history, context=impression.context, exclude=exclude, time_us=impression.time_us)


def barred(request: Impression) -> set[str]:
    """The items that no answer to the request may hold."""
    return {e.item for e in request.history} | set(request.exclude)


def misfits(bundle: Bundle, examples: Sequence[Example]) -> set[int]:
    """The numbers of the examples whose context does not fit the bundle's specification.

    The endpoint refuses a request with such a context. So there is no answer to judge, and it is only counted.
    """
    errors: list[FeatureError] = []
    contexts = [Request(context=example.ranking.impression.context) for example in examples]
    encode_requests(bundle.spec, bundle.vocabulary, Catalogue(bundle.spec, bundle.vocabulary), contexts, errors=errors)
    return {error.row for error in errors if error.row is not None}
