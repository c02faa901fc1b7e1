"""Students with random weights and invented catalogues, for tests and benchmarks that need no training.

It makes records, weights and whole bundles. It knows nothing of training.

Example:
    >>> student = make_student(9)
    >>> len(student.catalogue), student.weights["id"].shape[1], make_item(7, np.random.default_rng(0)).id
    (9, 10, 'item-7')
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recdistill.bundle import Bundle
from recdistill.features import AGE_BUCKETS, Catalogue, FeatureSpec, Field, HistorySpec, IdSpec, Vocabulary
from recdistill.records import Event, Impression, Item

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")
NOW_US = 1_700_000_000_000_000


class Student(NamedTuple):
    spec: FeatureSpec
    vocabulary: Vocabulary
    catalogue: Catalogue
    weights: dict[str, np.ndarray]

    def export(self, out: Path, **options: Any) -> Bundle:
        from recdistill.bundle import build

        options = {"provenance": {"step": 1}, "popular": [], "base_position": len(self.catalogue)} | options
        return build.export(self.weights, self.spec, self.vocabulary, self.catalogue, out, **options)


def rich_spec(length: int = 8) -> FeatureSpec:
    """A specification with every kind of field, for items and for the context."""
    return FeatureSpec(
        history=HistorySpec(length, ("click", "buy")),
        id=IdSpec(capacity=40, hashed=3),
        item={
            "genres": Field("category", capacity=6, hashed=2, max_values=3),
            "title": Field("text", capacity=16, max_values=4),
            "year": Field("number", mean=1990.0, std=10.0),
            "image": Field("vector", size=3),
        },
        context={
            "device": Field("category", capacity=4, hashed=0, max_values=2),
            "hour": Field("number", mean=12.0, std=6.0),
            "place": Field("vector", size=2),
        },
    )


def make_item(i: int, rng: np.random.Generator) -> Item:
    attributes: dict[str, Any] = {}
    if i % 5:
        attributes["genres"] = [f"g{g}" for g in rng.choice(8, size=1 + i % 3, replace=False)]
    if i % 3:
        attributes["title"] = " ".join(rng.choice(WORDS, size=3))
    if i % 2:
        attributes["year"] = float(rng.integers(1950, 2020))
    if i % 4:
        attributes["image"] = [float(v) for v in rng.normal(size=3)]
    return Item(f"item-{i}", version=1, attributes=attributes)


def make_student(
    items: int = 60,
    *,
    dim: int = 8,
    hidden: int = 6,
    seed: int = 0,
    spec: FeatureSpec | None = None,
    scale: float = 0.5,
) -> Student:
    """A student with random weights. One item in nine is withdrawn. Some ids and categories have no own row."""
    spec = spec or rich_spec()
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary(spec)
    catalogue = Catalogue(spec, vocabulary)
    for i in range(items):
        catalogue.apply(make_item(i, rng), admit=True)
    for i in range(4, items, 9):
        catalogue.apply(Item(f"item-{i}", version=2, withdrawn=True), admit=True)
    for name, field in spec.context.items():
        if field.kind == "category":
            vocabulary.rows(f"context.{name}", ["phone", "desk", "tv"], admit=True)
    return Student(spec, vocabulary, catalogue, make_weights(spec, vocabulary, dim, hidden, rng, scale))


def make_weights(
    spec: FeatureSpec, vocabulary: Vocabulary, dim: int, hidden: int, rng: np.random.Generator, scale: float = 0.5
) -> dict[str, np.ndarray]:
    def fresh(*shape: int) -> np.ndarray:
        return rng.normal(scale=scale, size=shape).astype(np.float32)

    def height(key: str, field: Field) -> int:
        return vocabulary.size(key) if field.kind == "category" else spec.rows(key)

    actions, width = 1 + len(spec.history.actions), 3
    weights = {"id": fresh(vocabulary.size("id"), dim + 2)}
    weights |= {f"item.{n}": fresh(height(f"item.{n}", f), dim + 2) for n, f in spec.item.items()}
    weights |= {f"context.{n}": fresh(height(f"context.{n}", f), width) for n, f in spec.context.items()}
    wide = 2 * dim + width * len(spec.context)
    return weights | {
        "user.action": fresh(actions),
        "user.action_logit": fresh(actions),
        "user.position": fresh(spec.history.length),
        "user.age": fresh(AGE_BUCKETS),
        "user.skip": fresh(2),
        "user.w1": fresh(wide, hidden),
        "user.b1": fresh(hidden),
        "user.w2": fresh(hidden, dim),
        "user.b2": fresh(dim),
    }


def make_requests(student: Student, count: int, *, seed: int = 1, longest: int = 14) -> list[Impression]:
    """Requests with histories from empty to longer than the limit.

    They have unknown items, items twice, unknown times and late events.
    """
    rng = np.random.default_rng(seed)
    ids = [*student.catalogue.ids, "nobody-1", "nobody-2"]
    made = []
    for b in range(count):
        length = b % (longest + 1)
        ages = np.sort(rng.integers(1, 10 ** int(rng.integers(1, 9)), size=length))[::-1] * 1_000_000
        history = [
            Event(ids[rng.integers(len(ids))], NOW_US - int(age), ("click", "buy", "odd", "")[rng.integers(4)])
            for age in ages
        ]
        if b % 4 == 1:
            history = [Event(e.item, 0, e.action) for e in history]
        if b % 4 == 2 and history:
            history[-1] = Event(history[-1].item, NOW_US, history[-1].action)
        context: dict[str, Any] = {}
        if "device" in student.spec.context and b % 3:
            context["device"] = [["phone"], ["desk", "phone", "tv"], ["fridge", "phone", "", "phone"], "tv"][b % 4]
        if "hour" in student.spec.context and b % 5:
            context["hour"] = float(rng.integers(0, 24)) if b % 7 else 1e6
        if "place" in student.spec.context and b % 2:
            context["place"] = [float(v) for v in rng.normal(size=2)]
        made.append(Impression(f"r{b}", 0 if b % 6 == 5 else NOW_US, history=tuple(history), context=context))
    return made
