"""A simulated world in two halves: lists of users who like one half of the topics, then of those who like the other.

It is for what a student forgets when tastes change. The teacher knows the truth with some noise. It knows nothing of
students.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recdistill.data.simulated import SimulatorSettings, simulate
from recdistill.features import FeatureSpec
from recdistill.metrics import ndcg
from recdistill.records import Example, Item, Ranking
from recdistill.train import Trainer


class Halves(NamedTuple):
    """The world's items, and the lists of both halves in the order of the stream. Lists between them are left out."""

    spec: FeatureSpec
    items: list[Item]
    first: list[Example]
    second: list[Example]


def halves(world: SimulatorSettings, seed: int, random: np.random.Generator) -> Halves:
    """Makes a world and parts it.

    Args:
        world: Its settings.
        seed: Its seed.
        random: Of the teacher's noise.
    """
    data, truth = simulate(world, seed=seed)
    taken: dict[str, set[str]] = {}
    for click in data.feedback:
        taken.setdefault(click.impression_id, set()).add(click.item)
    topics = sorted({str(item.attributes["topic"]) for item in data.items})
    side = {item.id: topics.index(str(item.attributes["topic"])) % 2 for item in data.items}
    sides, examples = [], []
    for impression in data.impressions:
        utilities = truth.utilities(impression.id)
        sides.append(float(np.mean([side[truth.item_ids[row]] for row in np.argsort(-utilities)[:20]])))
        rows = [truth.row(candidate.item) for candidate in impression.candidates]
        scores = utilities[rows] + 0.5 * random.normal(size=len(rows))
        labels = tuple(float(c.item in taken.get(impression.id, ())) for c in impression.candidates)
        ranking = Ranking(impression, "t", "1", "logit", tuple(scores.tolist()), (True,) * len(rows))
        examples.append(Example(ranking, labels, "closed"))
    low, high = np.quantile(sides, [0.45, 0.55])
    return Halves(
        data.spec,
        list(data.items),
        [one for one, where in zip(examples, sides, strict=True) if where <= low],
        [one for one, where in zip(examples, sides, strict=True) if where >= high],
    )


def ndcg_of(trainer: Trainer, held: list[Example]) -> float:
    """Mean NDCG@10 of a student's order of the candidates, over the lists with a label."""
    values = []
    for one in held:
        if any(one.labels):
            slots = trainer.catalogue.slots([c.item for c in one.ranking.impression.candidates])
            values.append(ndcg(trainer.score([one.ranking.impression], slots)[0], one.labels, k=10))
    return float(np.mean(values))
