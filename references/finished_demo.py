"""Reads the folder of a finished demo: settings, items, the training examples, and the held-out lists.

Its log holds the teacher's scores. So benchmarks can train other students from it and need no teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recdistill import release
from recdistill.bundle import open_bundle
from recdistill.config import Settings, load_settings
from recdistill.errors import UsageError
from recdistill.features import FeatureSpec, Lists
from recdistill.judge.baselines import Contender
from recdistill.judge.contenders import barred
from recdistill.metrics import top_k
from recdistill.records import Example, Impression, Item, decode
from recdistill.stream import open_log
from recdistill.train import Batch, Trainer, use_threads

Alter = Callable[[int, Lists], list[str]]
"""Takes a batch and the number of its first list, and gives the teacher's name for each list. It may change scores."""


class FinishedDemo(NamedTuple):
    """The contents of a demo's folder."""

    settings: Settings
    spec: FeatureSpec
    items: list[tuple[int, Item]]
    """The items that the student knows, with their offsets."""
    learnt: list[Example]
    held: list[Example]
    live: list[Item]
    """The items that its student may show."""

    @classmethod
    def load(cls, folder: Path) -> FinishedDemo:
        settings = load_settings(folder / "settings.toml", env={})
        bundle = open_bundle(sorted((folder / "student" / "bundles").glob("step-*"))[-1])
        known = bundle.manifest.provenance["positions"]["items"]
        log = open_log(settings.log)
        source = log.source(["items"])
        items = []
        while messages := source.read(1000, 0.0):
            items += [(message.offset, decode(Item, message.value)) for message in messages if message.offset < known]
        source.close()
        learnt = list(release.learnt_from(log, bundle))
        held = release.held_out(log, bundle, settings.promote.held_out)
        log.close()
        return cls(settings, FeatureSpec.load(Path(settings.features.file)), items, learnt, held, list(bundle.items))

    def train(
        self,
        trainer: Trainer,
        passes: int,
        *,
        alter: Alter | None = None,
        after_pass: Callable[[int], None] | None = None,
    ) -> None:
        """Trains as the distiller does: items as they were known at the time, lists in order, the same threads."""
        use_threads(self.settings.distil.threads)
        if trainer.watch is None:
            raise UsageError("a trainer without a watch takes logits, and these are scores as the teacher gave them")
        watch, size, at, batches = trainer.watch, self.settings.distil.batch, 0, []
        for number in range(passes):
            watch.rewind()
            for place, start in enumerate(range(0, len(self.learnt), size)):
                if number == 0:
                    batch = self.learnt[start : start + size]
                    as_of = max(example.ranking.catalogue_as_of for example in batch)
                    new = [item for offset, item in self.items[at:] if offset < as_of]
                    at += len(new)
                    trainer.apply_items(new)
                    lists = trainer.encode(batch).lists
                    names = ["teacher@1"] * len(batch) if alter is None else alter(start, lists)
                    scales = [example.ranking.scale for example in batch]
                    batches.append(Batch.of(lists, scales, names, trainer.comparable))
                one = batches[place]
                trainer.learn(one.once_more() if number > 0 else one)
            if after_pass is not None:
                after_pass(number + 1)

    def ndcg(self, trainer: Trainer) -> np.ndarray:
        """NDCG@10 of each held-out list in which the user took a new item, over all live items that may be shown."""
        return self.ndcg_of(_Learner(trainer))

    def ndcg_of(self, contender: Contender) -> np.ndarray:
        """The same for any contender that names its best ten. A list counts as 0 if the taken item is unknown to it."""
        values = []
        for example, top in zip(self.held, contender.top([e.ranking.impression for e in self.held], 10), strict=True):
            impression = example.ranking.impression
            liked = {c.item for c, label in zip(impression.candidates, example.labels, strict=True) if label > 0}
            liked -= barred(impression)
            if liked:
                gain = sum(1 / np.log2(place + 2) for place, item in enumerate(top) if item in liked)
                values.append(gain / sum(1 / np.log2(place + 2) for place in range(min(10, len(liked)))))
        return np.array(values)


class _Learner:
    """A student in training, without an export."""

    name, size, size_int8 = "student", None, None

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        catalogue, tops = self.trainer.catalogue, []
        for start in range(0, len(requests), 500):
            block = requests[start : start + 500]
            scores_BN = self.trainer.score(block)
            scores_BN[:, ~catalogue.live_N] = -np.inf
            for row, request in enumerate(block):
                seen = catalogue.slots(list(barred(request)))
                scores_BN[row, seen[seen >= 0]] = -np.inf
            tops += [[catalogue.ids[slot] for slot in best] for best in top_k(scores_BN, k)]
        return tops
