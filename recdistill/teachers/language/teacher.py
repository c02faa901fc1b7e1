"""A language model as the teacher.

It knows an item by its text alone, so it can score items that nobody has chosen yet.

The text of an item is a template, filled with the item's attributes. An encoder
(`recdistill.teachers.language.sentences`) makes a vector v of length 1 from it. The taste of a request is the mean of
its history's vectors, where newer events weigh more, minus the mean m over all items that the teacher knows. m takes
away what all texts have in common. The score of a candidate is the cosine of v and the taste, v · (Σ w_h v_h / Σ w_h −
m) / |…|. On MovieLens 100K with a fifth of the films held out, m doubles the NDCG@10 on these films.

Texts are embedded when items come, each text once. m changes a little when the catalogue grows. An item without text is
masked. A list is masked as a whole if its history has no text, or if its mean is equal to m.

It knows nothing of the network.

Example:
    >>> from recdistill.records import Candidate, Event
    >>> class Letters:
    ...     dim, digest = 26, "letters"
    ...     def embed(self, texts, *, batch, max_tokens):
    ...         rows = np.array([[t.count(chr(97 + n)) for n in range(26)] for t in texts], np.float32)
    ...         return rows / np.linalg.norm(rows, axis=1, keepdims=True)
    >>> teacher = LanguageTeacher(Letters(), TextModel(text="{title}"), "letters")
    >>> teacher.apply_items([Item(title, attributes={"title": title}) for title in ("aab", "abb", "xyz")])
    >>> asked = Impression("i", 9, history=(Event("aab", 1),), candidates=(Candidate("xyz"), Candidate("abb")))
    >>> [round(float(score), 1) for score in teacher.score([asked])[0].values_L]
    [-0.6, 0.4]
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from recdistill.errors import ConfigError, TeacherError
from recdistill.records import Impression, Item, Scale
from recdistill.teachers.attributes import Attributes
from recdistill.teachers.contract import Scores
from recdistill.teachers.language.templates import placeholders, render
from recdistill.teachers.missed import Missed

_BLOCK = 64  # lists between two looks at the clock


class Embedder(Protocol):
    """Makes vectors of length 1 from texts."""

    dim: int
    digest: str

    def embed(self, texts: Sequence[str], *, batch: int, max_tokens: int) -> NDArray[np.float32]:
        """Unit vectors [N, dim]."""


class TextModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How items are read. docs/configuration.md says what each value means, under `[teacher.language]`."""

    text: str = "{title}"
    half_life: float = 5.0
    history: int = 50
    batch: int = 64
    max_tokens: int = 64


class LanguageTeacher:
    """Scores items by how similar their texts are.

    Args:
        encoder: Makes vectors.
        settings: Template, recency.
        teacher_id: Name of the teacher.
        version: Its version. If empty, a digest of the encoder's files and of the settings that change scores.

    Raises:
        ConfigError: The template names no attribute.
    """

    scale: Scale = "unbounded"

    def __init__(self, encoder: Embedder, settings: TextModel, teacher_id: str, version: str = "") -> None:
        self._names = [name for name in placeholders(settings.text) if name]
        if not self._names:
            raise ConfigError("teacher.language.text: names no attribute, so all texts are equal; as in '{title}'")
        self.id = teacher_id
        told = [encoder.digest, settings.text, settings.half_life, settings.history, settings.max_tokens]
        self.version = version or hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:12]
        self._encoder = encoder
        self._settings = settings
        self._attributes = Attributes(name for name in self._names if name != "id")
        self._row_of_text: dict[bytes, int] = {}
        self._row: dict[str, int] = {}
        self._vectors_ND = np.zeros((0, encoder.dim), np.float32)
        self._sum_D = np.zeros(encoder.dim)
        self._missed = Missed()

    def apply_items(self, items: Sequence[Item]) -> None:
        """Embeds the texts that are new."""
        self._attributes.apply(items)
        texts = {item.id: self._text(item.id) for item in items}
        keys = {name: hashlib.sha256(text.encode()).digest() for name, text in texts.items() if text}
        new = {key: texts[name] for name, key in keys.items() if key not in self._row_of_text}
        if new:
            self._row_of_text |= {key: len(self._row_of_text) + n for n, key in enumerate(new)}
            vectors_ND = self._encoder.embed(
                list(new.values()), batch=self._settings.batch, max_tokens=self._settings.max_tokens
            )
            self._vectors_ND = np.concatenate([self._vectors_ND, vectors_ND])
        for name in texts:
            before, row = self._row.get(name), self._row_of_text[keys[name]] if name in keys else None
            if before == row:
                continue
            if before is not None:
                self._sum_D -= self._vectors_ND[before]
                del self._row[name]
            if row is not None:
                self._sum_D += self._vectors_ND[row]
                self._row[name] = row

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Scores each impression's candidates; see the contract."""
        ends = None if deadline_s is None else time.monotonic() + deadline_s
        mean_D = (self._sum_D / max(1, len(self._row))).astype(np.float32)
        answers: list[Scores | TeacherError] = []
        for start in range(0, len(impressions), _BLOCK):
            block = impressions[start : start + _BLOCK]
            late = ends is not None and time.monotonic() > ends
            answers += [
                TeacherError(f"impression {one.id}: the deadline of {deadline_s:g} s passed before its turn")
                if late
                else self._score(one, mean_D)
                for one in block
            ]
        return answers

    def why_missing(self) -> str:
        """The most frequent reason for a missing score since the last call."""
        return self._missed.why()

    def _score(self, impression: Impression, mean_D: NDArray[np.float32]) -> Scores:
        rows_L = np.array([self._row.get(candidate.item, -1) for candidate in impression.candidates], np.int64)
        taste_D = self._taste(impression, mean_D)
        scored_L = rows_L >= 0
        places = np.arange(len(rows_L)) if taste_D is None else np.flatnonzero(~scored_L)
        if len(places):
            reason = (
                "candidates are in lists whose history has no text"
                if taste_D is None
                else f"candidates have no attribute of teacher.language.text = {self._settings.text!r}"
            )
            self._missed.add(reason, impression.candidates[places[0]].item, len(places))
        if taste_D is None or not scored_L.any():
            return Scores(np.zeros(len(rows_L), np.float32), np.zeros(len(rows_L), bool))
        return Scores(np.where(scored_L, self._vectors_ND[rows_L] @ taste_D, np.float32(0)), scored_L)

    def _taste(self, impression: Impression, mean_D: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The history's mean vector minus the mean of all items, scaled to length 1; None if there is none."""
        events = impression.history[-self._settings.history :]
        known = [(age, self._row[e.item]) for age, e in enumerate(reversed(events)) if e.item in self._row]
        if not known:
            return None
        ages_H, rows_H = np.array(known).T
        weights_H = 0.5 ** (ages_H / self._settings.half_life) if self._settings.half_life else np.ones(len(ages_H))
        taste_D = (weights_H / weights_H.sum()).astype(np.float32) @ self._vectors_ND[rows_H] - mean_D
        length = float(np.linalg.norm(taste_D))
        return np.asarray(taste_D / np.float32(length)) if length > 1e-5 else None

    def _text(self, name: str) -> str:
        """Text of an item; empty if it has no attribute that the template names."""
        known = self._attributes.get(name) or {}
        if not any(part == "id" or known.get(part) not in (None, "", []) for part in self._names):
            return ""
        return render(self._settings.text, lambda part: name if part == "id" else known.get(part))
