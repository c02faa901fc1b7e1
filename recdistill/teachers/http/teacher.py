"""A teacher behind HTTP: a model server or a reranker.

If the server refuses a request, or answers wrongly, the request is divided until the bad list is found. That list is an
error, and the others are scored. If no list was scored at all, a list that the server has scored before is sent again.
If that fails too, the server is the problem, not the lists. If the server as a whole cannot answer, `score` raises, and
no list is an error. It keeps the answers that it already has for the next call. So a slow server can answer a batch in
several calls.

One call never returns scores of two versions of the model, or of a version that was not the teacher's when the call
began. A call that meets a new version raises. Answers of the new version are kept for the next call.

It does not know the form of requests and answers (`protocols`), or how they are sent (`client`).

Example:
    >>> HttpTeacher(ModelServer(url="ftp://x", model="m"), teacher_id="r", version="", scale="logit")
    Traceback (most recent call last):
    recdistill.errors.ConfigError: teacher.http.url: 'ftp://x' is not of the form http://host:port or https://host
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from recdistill.errors import TeacherAway, TeacherError
from recdistill.records import Impression, Item, Scale
from recdistill.teachers.contract import Scores
from recdistill.teachers.http.client import HttpClient, Refused, Unavailable, Unsure
from recdistill.teachers.http.protocols import Ask, OpenInference, Rerank, joined, model_url, version_of
from recdistill.teachers.http.server import ModelServer
from recdistill.teachers.tensors import Misfit, read_by

log_ = logging.getLogger(__name__)

_OPENING_S: Final = 30.0
"""How long the server may take to describe the model."""


class HttpTeacher:
    """Asks a server.

    Args:
        settings: Which server, and how to ask it.
        teacher_id: Name of the teacher.
        version: Its version. If empty, the version that the server names, or else 1.
        scale: What its scores mean.
        env: The environment, `os.environ` when None.

    Raises:
        ConfigError: The settings do not fit, or name something that does not exist.
        TeacherAway: The server does not describe the model.
    """

    def __init__(
        self,
        settings: ModelServer,
        *,
        teacher_id: str,
        version: str,
        scale: Scale,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.id, self.scale = teacher_id, scale
        self.reads = read_by(settings)
        self._fixed_version = version
        self._client = HttpClient(settings, os.environ if env is None else env)
        self._told_version = settings.model_version
        self._ask: Ask[Any]
        if settings.protocol in ("rerank", "rerank-texts"):
            self._ask = Rerank(settings)
        else:
            metadata = self._metadata(settings) if settings.metadata else None
            self._ask = OpenInference(settings, metadata)
            self._told_version = self._told_version or version_of(metadata)
        self._good: Any = None
        self._kept: dict[str, tuple[Impression, Scores, str]] = {}

    @property
    def version(self) -> str:
        """The version of the settings, or the one that the server named last."""
        return self._fixed_version or self._told_version or "1"

    def close(self) -> None:
        """Closes the connections. This also happens when the teacher is garbage-collected."""
        self._client.close()

    def why_missing(self) -> str:
        """The most frequent reason for a missing score since the last call, where the protocol knows it."""
        why: str = getattr(self._ask, "why_missing", str)()
        return why

    def apply_items(self, items: Sequence[Item]) -> None:
        """Remembers the attributes of items that are sent."""
        self._ask.apply_items(items)

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Asks for the scores of all impressions, with several requests at once, within the deadline.

        Raises:
            TeacherError: The server as a whole cannot answer, or did not answer all in time. Its answers are kept for
                the next call with the same impressions.
        """
        until = None if deadline_s is None else time.monotonic() + deadline_s
        kept, self._kept = self._kept, {}
        call = _Call(self._ask, self._client, until)
        rows = self._ask.rows(impressions)
        for impression, row in zip(impressions, rows, strict=True):
            held = kept.get(impression.id)
            if held is not None and held[0] == impression and not isinstance(row, TeacherError):
                call.scored[id(row)] = held[1], held[2]
        left = [row for row in rows if not isinstance(row, TeacherError) and id(row) not in call.scored]
        try:
            self._client.run(call.work(left, self._good))
            self._one_version(call)
        except TeacherError as e:
            for impression, row in zip(impressions, rows, strict=True):
                if (answer := call.scored.get(id(row))) is not None and isinstance(answer[0], Scores):
                    self._kept[impression.id] = impression, answer[0], answer[1]
            raise TeacherError(f"teacher {self.id}: {e}") from e
        finally:
            self._good = call.good or self._good
        answers = {**{key: answer for key, (answer, _) in call.scored.items()}, **call.blamed}
        return [row if isinstance(row, TeacherError) else answers[id(row)] for row in rows]

    def _one_version(self, call: _Call) -> None:
        if self._fixed_version:
            return
        before = self._told_version
        newest = call.version or before
        old = [key for key, (_, version) in call.scored.items() if version not in ("", newest)]
        self._told_version = newest
        for key in old:
            del call.scored[key]
        # Raise even if no score is old: the caller may have read the version before this call.
        if old or before not in ("", newest):
            was = f", no longer {before}" if before else ""
            raise Unavailable(
                f"the model is of version {newest}{was}; {len(old)} lists of this call had scores of another version"
            )

    def _metadata(self, settings: ModelServer) -> Any:
        url, until = model_url(settings), time.monotonic() + _OPENING_S
        try:
            return self._client.run(self._client.ask("GET", url, None, until=until))
        except (Refused, Unsure, Unavailable) as e:
            self.close()
            raise TeacherAway(
                f"teacher {self.id}: the model's metadata cannot be read: {e}; teacher.http.metadata = false goes "
                "without it"
            ) from e


class _Call:
    """The state of one call of `score`: scores with their versions, and the lists that are errors."""

    def __init__(self, ask: Ask[Any], client: HttpClient, until: float | None) -> None:
        self._ask, self._client, self._until = ask, client, until
        self.scored: dict[int, tuple[Scores | TeacherError, str]] = {}
        self.blamed: dict[int, TeacherError] = {}
        self.version = ""
        self.good: Any = None
        self._refused_only = True

    async def work(self, rows: list[Any], good: Any) -> None:
        """Scores the rows, or finds out why it cannot. `good` is a row that the server has scored before."""
        try:
            async with asyncio.TaskGroup() as group:
                for batch in self._ask.batches(rows):
                    group.create_task(self._batch(batch, group, first=True))
        except BaseExceptionGroup as problems:
            unavailable = problems.subgroup(Unavailable)
            raise (unavailable or problems).exceptions[0] from problems
        if rows and self.good is None and not await self._well(good):
            failed = [*self.blamed.values(), *(answer for answer, _ in self.scored.values())]
            raise Unavailable(next(str(answer) for answer in failed if isinstance(answer, TeacherError)))

    async def _batch(self, batch: list[Any], group: asyncio.TaskGroup, *, first: bool) -> None:
        try:
            found, version = await self._answers(batch, retry=first)
        except (Refused, Misfit, Unsure) as e:
            if len(batch) > 1:
                # A refusal comes soon, so sending halves is fast. After a timeout the lists are sent one by one.
                size = 1 if isinstance(e, Unsure) else (len(batch) + 1) // 2
                log_.warning("%s; %d lists are sent again by %d", e, len(batch), size)
                for at in range(0, len(batch), size):
                    group.create_task(self._batch(batch[at : at + size], group, first=False))
                return
            [row] = batch
            self.blamed[id(row)] = TeacherError(f"impression {row.impression.id}: {e}")
            self._refused_only &= isinstance(e, Refused) and 400 <= e.status < 500
            return
        self.version = version or self.version
        for row, answer in zip(batch, found, strict=True):
            if isinstance(answer, Scores):
                self.good = row
            elif len(batch) > 1:  # a NaN of one list may have spoilt the others
                group.create_task(self._batch([row], group, first=False))
                continue
            else:
                self._refused_only = False
            self.scored[id(row)] = answer, version

    async def _answers(self, batch: list[Any], *, retry: bool) -> tuple[list[Scores | TeacherError], str]:
        """The server's answers to a batch. Its parts are sent one after another, until one fails."""
        answers, version = [], ""
        for part in self._ask.parts(batch):
            body = self._ask.body(part)
            answer = await self._client.ask("POST", self._ask.url, body, until=self._until, retry=retry)
            found, version = self._ask.scores(part, answer)
            answers.append(found)
        return [joined(of_row) for of_row in zip(*answers, strict=True)], version

    async def _well(self, good: Any) -> bool:
        """Whether the server works, although it scored none of these lists."""
        if good is None:
            return self._refused_only
        try:
            [found], _ = await self._answers([good], retry=True)
        except (Refused, Misfit, Unsure):
            return False
        return isinstance(found, Scores)
