"""Examples of every kind, in batches, and trainers of a small student that learns them.

It knows nothing of what is tested with them.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np

from recdistill.config import LossSettings, StudentSettings
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec, VocabularySpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking, Scale
from recdistill.train import Trainer

N = 30
SPEC = FeatureSpec(
    history=HistorySpec(length=6, actions=("click", "buy")),
    id=IdSpec(capacity=40, hashed=3),
    item={
        "genre": Field("category", capacity=5, hashed=2, max_values=3),
        "price": Field("number", mean=5.0, std=3.0),
        "title": Field("text", capacity=16, max_values=6),
        "image": Field("vector", size=4),
    },
    context={"country": Field("category", capacity=4), "hour": Field("number", mean=12.0, std=6.0)},
)
STEADY = msgspec.structs.replace(SPEC, vocabulary=VocabularySpec(evict=False))
SETTINGS = StudentSettings(dim=5, hidden=7, context_dim=3, id_dropout=0.2)
SAMPLED = LossSettings(full_softmax_items=0, sampled_items=8)
STILL = {"id_dropout": 0.0, "dropout": 0.0, "learning_rate": 1e-30, "embedding_learning_rate": 1e-30}


def item(number: int, **more: Any) -> Item:
    random = np.random.default_rng(number)
    attributes: dict[str, Any] = {
        "genre": [f"g{g}" for g in random.integers(0, 7, random.integers(0, 4))],
        "price": float(random.integers(0, 10)),
        "title": " ".join(f"word{w}" for w in random.integers(0, 9, 3)),
        "image": random.normal(size=4).tolist(),
    }
    if number % 4 == 0:  # were it there for all, nothing would determine the bias of its presence
        del attributes["price"]
    return Item(f"i{number}", attributes=attributes, **more)


ITEMS = [item(number) for number in range(N)]


def example(number: int, *, scale: Scale = "logit", closed: bool = True) -> Example:
    random = np.random.default_rng(1000 + number)
    now = 10**12
    times = np.sort(random.integers(1, now, random.integers(0, 9)))
    history = tuple(
        Event(f"i{random.integers(0, N + 2)}", int(time), str(random.choice(["click", "buy", "seen"])))
        for time in times
    )
    chosen = random.permutation(N + 1)[: random.integers(2, 9)]
    count = len(chosen)
    scored = tuple(bool(x) for x in random.random(count) < 0.8)
    scores = tuple(float(x) if there else 0.0 for x, there in zip(random.normal(size=count), scored, strict=True))
    if scale == "probability":
        scores = tuple(1 / (1 + np.exp(-x)) if there else 0.0 for x, there in zip(scores, scored, strict=True))
    labels = tuple(float(x) for x in (random.random(count) < 0.2) * (1 + random.integers(0, 2, count)))
    context = {"country": f"c{random.integers(0, 6)}", "hour": float(random.integers(0, 24))}
    impression = Impression(f"r{number}", now, None, history, context, tuple(Candidate(f"i{i}") for i in chosen))
    return Example(Ranking(impression, "t", "1", scale, scores, scored), labels, "closed" if closed else "none")


BATCHES = [[example(8 * step + i) for i in range(8)] for step in range(12)]


def trainer(
    seed: int = 3, *, loss: LossSettings | None = None, items: int = N, spec: FeatureSpec = SPEC, **settings: Any
) -> Trainer:
    made = make_trainer(spec, msgspec.structs.replace(SETTINGS, **settings), loss or LossSettings(), seed=seed)
    assert made.apply_items(ITEMS[:items]) == []
    return made


def bytes_of(made: Trainer) -> dict[str, bytes]:
    tensors, state = made.state()
    return {name: value.tobytes() for name, value in tensors.items()} | {"state": json.dumps(state).encode()}
