"""What it costs to make a teacher's scores comparable, and what becomes of a student whose teacher changes.

Distils from the log of a finished demo (`recdistill demo --out FOLDER`), the lists before the demo's held-out ones, and
prints the student's NDCG@10 over the whole catalogue on the later lists that have a new item taken, for each way of
reading the scores and for each thing that may happen to a teacher half-way through.

    python benchmarks/bench_watch.py FOLDER --seeds 3 --json out.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.bundle import open_bundle
from recdistill.config import Settings, WatchSettings, load_settings
from recdistill.features import FeatureSpec, Lists
from recdistill.judge.contenders import barred
from recdistill.metrics import ndcg
from recdistill.records import Example, Item, decode
from recdistill.stream import Lanes, TopicPartition, open_log
from recdistill.train import use_threads
from recdistill.train.comparable import units
from recdistill.train.step import Trainer

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Demo:
    """Examples and catalogue of a demo's log, cut where its student stopped."""

    def __init__(self, folder: Path, most: int | None) -> None:
        self.settings: Settings = load_settings(folder / "settings.toml", env={})
        self.spec = FeatureSpec.load(Path(self.settings.features.file))
        newest = sorted((folder / "student" / "bundles").glob("step-*"))[-1]
        until = open_bundle(newest).manifest.provenance["positions"]["lanes"]
        log = open_log(self.settings.log)
        lanes = Lanes(log, dead_letters=lambda *_: None)
        self.learnt = list(self._examples(lanes, until))[:most]
        self.held = list(self._examples(lanes, lanes.end_state()))
        source = log.source([TopicPartition("items", 0)])
        self.items: list[tuple[int, Item]] = []
        while messages := source.read(1000, 0.1):
            self.items += [(message.offset, decode(Item, message.value)) for message in messages]

    @staticmethod
    def _examples(lanes: Lanes, until: dict[str, Any]) -> Iterator[Example]:
        while not lanes.reached(until):
            yield from lanes.next(5000, 1.0, until=until)

    def train(
        self,
        watch: WatchSettings,
        change: Change | None = None,
        *,
        version: bool = False,
        seed: int = 0,
        passes: int | None = None,
    ) -> Trainer:
        """A student; `change` alters the scores of a list in the second half of the stream, `version` names it anew."""
        trainer = Trainer(self.spec, self.settings.student, self.settings.loss, seed=seed, watch=watch)
        size, half, at = self.settings.distil.batch, len(self.learnt) // 2, 0
        random, batches = np.random.default_rng(seed), []
        for number in range(passes or self.settings.distil.passes):
            assert trainer.watch is not None
            trainer.watch.rewind()
            for place, start in enumerate(range(0, len(self.learnt), size)):
                if number == 0:
                    batch = self.learnt[start : start + size]
                    as_of = max(example.ranking.catalogue_as_of for example in batch)
                    new = [item for offset, item in self.items[at:] if offset < as_of]
                    at += len(new)
                    trainer.apply_items(new)
                    lists, _ = trainer.encode(batch)
                    if change is not None:
                        _alter(lists, change, max(0, half - start), random)
                    later = [start + i >= half for i in range(len(batch))]
                    names = ["teacher@2" if version and each else "teacher@1" for each in later]
                    scales = [example.ranking.scale for example in batch]
                    batches.append((lists, units(lists, scales, names, watch.comparable), names))
                lists, units_BL, names = batches[place]
                trainer.learn_lists(lists, units_BL, names, again=number > 0)
        return trainer

    def ndcg(self, trainer: Trainer) -> np.ndarray:
        """NDCG@10 of each held-out list with a new item taken, over all live items that the user may be shown."""
        values = []
        for start in range(0, len(self.held), 500):
            part = self.held[start : start + 500]
            scores_BN = trainer.score([example.ranking.impression for example in part])
            scores_BN[:, ~trainer.catalogue.live_N] = -np.inf
            labels_BN = np.zeros(scores_BN.shape)
            for row, example in enumerate(part):
                seen = trainer.catalogue.slots(list(barred(example.ranking.impression)))
                pairs = zip(example.ranking.impression.candidates, example.labels, strict=True)
                taken = trainer.catalogue.slots([candidate.item for candidate, label in pairs if label > 0])
                labels_BN[row, taken[taken >= 0]] = 1
                labels_BN[row, seen[seen >= 0]] = 0
                scores_BN[row, seen[seen >= 0]] = -np.inf
            real_B = labels_BN.any(1)
            values.append(ndcg(scores_BN[real_B], labels_BN[real_B], k=10))
        return np.concatenate(values)


def _alter(lists: Lists, change: Change, first: int, random: np.random.Generator) -> None:
    for row in range(first, len(lists.scored_BL)):
        real = lists.scored_BL[row]
        lists.teacher_scores_BL[row, real] = change(lists.teacher_scores_BL[row, real], random)


def shuffled(scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.permutation(scores)


def rescaled(factor: float, offset: float) -> Change:
    return lambda scores, _: factor * scores + offset


RUNS: dict[str, tuple[WatchSettings, Change | None, bool]] = {
    "standard": (WatchSettings(), None, False),
    "standard, spread from labels": (WatchSettings(spread=0), None, False),
    "scale (logits as they are)": (WatchSettings(comparable="scale"), None, False),
    "rank": (WatchSettings(comparable="rank"), None, False),
    "rescaled × 100 − 7": (WatchSettings(), rescaled(100, -7), False),
    "rescaled × 0.01 + 3": (WatchSettings(), rescaled(0.01, 3), False),
    "rescaled × 100 − 7, scale": (WatchSettings(comparable="scale"), rescaled(100, -7), False),
    "shuffled": (WatchSettings(), shuffled, False),
    "shuffled, believed": (WatchSettings(act="notice"), shuffled, False),
    "a random new version": (WatchSettings(), shuffled, True),
    "a sound new version": (WatchSettings(), None, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a finished demo")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--passes", type=int, help="(default: the demo's)")
    parser.add_argument("--lists", type=int, help="learn from the first so many lists (default: all)")
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="some of the runs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_threads(1)
    demo = Demo(options.folder, options.lists)
    rows, base = [], {}
    for name in ["standard", *[name for name in options.only if name != "standard"]]:
        watch, change, version = RUNS[name]
        means, counts, news, began = [], {}, [], time.process_time()
        for seed in range(options.seeds):
            trainer = demo.train(watch, change, version=version, seed=seed, passes=options.passes)
            values = demo.ndcg(trainer)
            base.setdefault(seed, float(values.mean()))
            means.append(float(values.mean()))
            assert trainer.watch is not None
            counts, news = dict(trainer.watch.counts), list(trainer.watch.news)
        moved = [100 * (mean / base[seed] - 1) for seed, mean in enumerate(means)]
        seconds = (time.process_time() - began) / options.seeds
        rows.append(
            {"run": name, "ndcg@10": means, "moved_percent": moved, "counts": counts, "news": news, "cpu_s": seconds}
        )
        print(
            f"{name:30} {np.mean(means):.4f}  {np.mean(moved):+.2f}% ± {np.std(moved):.2f}  {seconds:.0f} s  {counts}",
            flush=True,
        )
        for sentence in news:
            print("   ", sentence)
    if options.json:
        options.json.write_text(
            json.dumps({"folder": options.folder.name, "seeds": options.seeds, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
