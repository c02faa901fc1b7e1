"""A cache of scores around any other teacher: the teacher is not asked the same question twice.

The key of an answer is a digest of all that the answer may depend on:

- the teacher's id and version;
- the request: history with actions and times, context, and the candidates in their order. Its time counts in steps,
  because ages follow from it; so a page that is loaded again a moment later is the same question;
- for each item in the history and the list, the last record that the teacher got. The position in `items` does not
  count: any change of any price moves it, and the cache would never have an answer. But if an item of this list gets a
  new title, it is a new question. A teacher whose scores depend on items outside of the list needs a new version when
  these change, or no cache.

The impression's id does not count. Its user and the product's logged scores count for a teacher that reads them
(`contract.reads`). Only whole answers are kept: a score that was missing may be there the next time. The answers that
were not used for the longest time are removed first, in memory and in the file.

It knows nothing of logs, or of any kind of teacher.

Example:
    >>> import numpy as np
    >>> from recdistill.records import Candidate, Impression
    >>> from recdistill.teachers.function import FunctionTeacher
    >>> slow = FunctionTeacher(lambda lists: [[float(len(c.item)) for c in one.candidates] for one in lists],
    ...                        "length", "1", "unbounded")
    >>> teacher = CachedTeacher(slow, megabytes=1)
    >>> for name in "ab":
    ...     [scores] = teacher.score([Impression(name, 5, candidates=(Candidate("xyz"), Candidate("z")))])
    >>> scores.values_L.tolist(), teacher.hits, teacher.asked
    ([3.0, 1.0], 2, 2)
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.errors import ConfigError, TeacherError
from recdistill.records import Impression, Item, Scale
from recdistill.teachers.contract import LOGGED_SCORE, USER, Scores, Teacher, reads

log_ = logging.getLogger(__name__)

ENTRY_BYTES: Final = 250  # of an entry without its scores, measured for an OrderedDict of bytes and small arrays
APPLICATION: Final = 0x52644361  # SQLite's application id of such a cache file
FORMAT: Final = 1


class CachedTeacher:
    """Asks the teacher only what was not answered yet. Only one thread may use it.

    Args:
        teacher: The teacher to ask.
        megabytes: Memory for answers.
        time_step_s: Request times in the same step of so many seconds count as equal; 0: only equal times do.
        path: An SQLite file that keeps answers between runs. It is made if missing. None uses memory alone.
        file_megabytes: Approximate size of the answers in the file.

    Raises:
        ConfigError: The file exists, and is not such a cache.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        megabytes: float,
        time_step_s: float = 0.0,
        path: Path | None = None,
        file_megabytes: float = 1000.0,
    ) -> None:
        self.hits = 0
        """Candidates whose scores came from the cache."""
        self.asked = 0
        """Candidates that the teacher was asked about."""
        self.teacher = teacher
        self._most_bytes = megabytes * 1e6
        self._step_us = round(time_step_s * 1e6)
        self._reads = reads(teacher)
        self._held: OrderedDict[bytes, npt.NDArray[np.float32]] = OrderedDict()
        self._bytes = 0
        self._items: dict[str, bytes] = {}
        self._file = None if path is None else _File(path, file_megabytes * 1e6)

    @property
    def id(self) -> str:
        """The teacher's own."""
        return self.teacher.id

    @property
    def version(self) -> str:
        """The teacher's own."""
        return self.teacher.version

    @property
    def scale(self) -> Scale:
        """The teacher's own."""
        return self.teacher.scale

    def apply_items(self, items: Sequence[Item]) -> None:
        """Gives them to the teacher, and remembers which record of each item the teacher knows."""
        for item in items:
            self._items[item.id] = _digest(msgspec.msgpack.encode(item, order="deterministic"), 8)
        self.teacher.apply_items(items)

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Answers from the cache, and asks the teacher the rest. Equal questions are asked once."""
        keys = [self._key(impression) for impression in impressions]
        lengths = {key: len(one.candidates) for key, one in zip(keys, impressions, strict=True)}
        known = {key: values_L for key, values_L in self._find(keys).items() if len(values_L) == lengths[key]}
        open_: dict[bytes, Impression] = {}
        for key, impression in zip(keys, impressions, strict=True):
            if key not in known:
                open_.setdefault(key, impression)
        answers: dict[bytes, Scores | TeacherError] = {}
        if open_:
            given = self.teacher.score(list(open_.values()), deadline_s=deadline_s)
            if len(given) != len(open_):
                raise TeacherError(
                    f"teacher {self.id}: answered {len(given)} of {len(open_)} impressions; it must answer each one"
                )
            answers = dict(zip(open_, given, strict=True))
            self._keep(answers, open_)
        results: list[Scores | TeacherError] = []
        for key, impression in zip(keys, impressions, strict=True):
            length = len(impression.candidates)
            if key in known:
                self.hits += length
                results.append(Scores(known[key].copy(), np.ones(length, bool)))
            else:
                first = open_.get(key) is impression
                self.asked += length if first else 0
                self.hits += 0 if first else length
                results.append(answers[key])
        return results

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _key(self, impression: Impression) -> bytes:
        parts = hashlib.blake2b(digest_size=16)
        items = [event.item for event in impression.history] + [one.item for one in impression.candidates]
        question = (
            FORMAT,
            self.id,
            self.version,
            impression.time_us // self._step_us if self._step_us else impression.time_us,
            [(event.item, event.time_us, event.action) for event in impression.history],
            impression.context,
            [one.item for one in impression.candidates],
            impression.exclude,
            [self._items.get(item, b"") for item in items],
            *([(USER, impression.user)] if USER in self._reads else []),
            *(
                [(LOGGED_SCORE, [one.logged_score for one in impression.candidates])]
                if LOGGED_SCORE in self._reads
                else []
            ),
        )
        parts.update(msgspec.msgpack.encode(question, order="deterministic"))
        return parts.digest()

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        for key in keys:
            if key in self._held:
                self._held.move_to_end(key)
                found[key] = self._held[key]
        if self._file is not None and (elsewhere := [key for key in dict.fromkeys(keys) if key not in found]):
            for key, values_L in self._file.find(elsewhere).items():
                found[key] = values_L
                self._hold(key, values_L)
        return found

    def _keep(self, answers: dict[bytes, Scores | TeacherError], asked: dict[bytes, Impression]) -> None:
        whole = {
            key: np.array(answer.values_L, np.float32)
            for key, answer in answers.items()
            if not isinstance(answer, TeacherError)
            and answer.scored_L.all()
            and answer.values_L.shape == answer.scored_L.shape == (len(asked[key].candidates),)
            and np.isfinite(answer.values_L).all()
        }
        for key, values_L in whole.items():
            self._hold(key, values_L)
        if self._file is not None:
            self._file.keep(whole)

    def _hold(self, key: bytes, values_L: npt.NDArray[np.float32]) -> None:
        if key not in self._held:
            self._bytes += ENTRY_BYTES + values_L.nbytes
        self._held[key] = values_L
        while self._bytes > self._most_bytes and self._held:
            _, gone_L = self._held.popitem(last=False)
            self._bytes -= ENTRY_BYTES + gone_L.nbytes


class _File:
    """Answers in SQLite. If the file fails later, that is logged, and the cache goes on without it."""

    def __init__(self, path: Path, most_bytes: float) -> None:
        self._path, self._most = path, most_bytes
        self._db: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(path, timeout=10.0, isolation_level=None)
            marked = db.execute("PRAGMA application_id").fetchone()[0]
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables and marked != APPLICATION:
                raise ConfigError(f"score.cache_file: {path} is a database of something else; name another file")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")  # a lost answer is asked again
            db.execute(f"PRAGMA application_id={APPLICATION}")
            db.execute("CREATE TABLE IF NOT EXISTS answers(key BLOB PRIMARY KEY, scores BLOB, used INTEGER)")
            db.execute("CREATE INDEX IF NOT EXISTS by_use ON answers(used)")
            total, clock = db.execute("SELECT coalesce(sum(length(scores) + 100), 0), coalesce(max(used), 0) "
                                      "FROM answers").fetchone()  # fmt: skip
        except (sqlite3.Error, OSError) as e:
            raise ConfigError(f"score.cache_file: {path} cannot be opened as a cache of scores ({e})") from e
        self._db, self._bytes, self._clock = db, int(total), int(clock)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        if self._db is None:
            return found
        try:
            self._clock += 1
            for key in keys:
                row = self._db.execute("SELECT scores FROM answers WHERE key = ?", (key,)).fetchone()
                if row is not None and isinstance(row[0], bytes) and len(row[0]) % 4 == 0:
                    values_L = np.frombuffer(row[0], "<f4").astype(np.float32)
                    if np.isfinite(values_L).all():
                        found[key] = values_L
            self._db.execute("BEGIN")
            self._db.executemany("UPDATE answers SET used = ? WHERE key = ?", [(self._clock, key) for key in found])
            self._db.execute("COMMIT")
        except sqlite3.Error as e:
            self._give_up(e)
        return found

    def keep(self, answers: dict[bytes, npt.NDArray[np.float32]]) -> None:
        if self._db is None or not answers:
            return
        try:
            self._clock += 1
            rows = [(key, values_L.astype("<f4").tobytes(), self._clock) for key, values_L in answers.items()]
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
            self._bytes += sum(len(row[1]) + 100 for row in rows)
            if self._bytes > self._most:
                self._shrink(self._db)
            self._db.execute("COMMIT")
        except sqlite3.Error as e:
            self._give_up(e)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _shrink(self, db: sqlite3.Connection) -> None:
        """Removes the answers that were not used for the longest time, down to nine tenths of the largest size."""
        gone: list[tuple[bytes]] = []
        for key, size in _rows(db.execute("SELECT key, length(scores) + 100 FROM answers ORDER BY used")):
            if self._bytes <= 0.9 * self._most:
                break
            self._bytes -= size
            gone.append((key,))
        db.executemany("DELETE FROM answers WHERE key = ?", gone)

    def _give_up(self, error: sqlite3.Error) -> None:
        log_.warning("the cache of scores continues in memory only; %s failed: %s", self._path, error)
        self.close()


def _rows(cursor: sqlite3.Cursor) -> Iterable[tuple[bytes, int]]:
    return cursor


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()
