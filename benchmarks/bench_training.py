"""How many examples a second does the trainer learn from, beside a plain torch loop?

Both take the same encoded batches of whole lists and do the same mathematics; tests/train/test_step.py checks that
their losses are the same. They take turns in one process. Each figure is the median of several rounds. Times are those
of the processor, of all threads together. So other work on the machine changes them little.

The plain loop has `sparse=True` in its tables, which is what an engineer would choose; *dense* is the same loop without
it. *Service* is the trainer as the distiller runs it: with dropout, and with the watch over the teachers. The last
column adds the encoding of records to that, which a training process must do as well.

With `--deployed` there is no plain loop. The trainer has all settings of `deploy/config`, with `--dim`: small batches,
a second look at older lists, an average of the weights, and a sample of rivals in a large catalogue. Every list has its
scores and a label.

    python -m benchmarks.bench_training                      # the three sizes of the table in docs
    python -m benchmarks.bench_training --deployed --dim 64 --history 20 --candidates 50
    python -m benchmarks.bench_training --items 5000 --rows 100000 --batch 512
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.forms import Options
from benchmarks.inputs import ROOT
from recdistill.config import LossSettings, StudentSettings, WatchSettings, load_settings
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec, Lists
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.train import Batch
from references.plain_training import PlainLoop

# (items in the catalogue, rows of the id table)
SIZES = ((1_682, 1_682), (20_000, 20_000), (50_000, 1_000_000))

DEPLOYED = (20_000, 100_000, 1_000_000)
"""Items in the catalogue, with the settings of the service."""

SERVICE = ROOT / "deploy" / "config" / "settings.toml"


def examples(count: int, items: int, history: int, candidates: int, random: np.random.Generator) -> list[Example]:
    """Lists over items whose popularity falls as 1 / rank; one label each."""
    mass = np.cumsum(1 / np.arange(1, items + 1))
    made = []
    for number in range(count):
        drawn = np.searchsorted(mass, mass[-1] * random.random(history + candidates))
        # Fills up a list that has an item twice; a permutation of a large catalogue for each list would take minutes.
        others = random.permutation(items) if items <= 50_000 else random.integers(items, size=2 * candidates)
        seen, shown = drawn[:history], list(dict.fromkeys([*drawn[history:], *others]))[:candidates]
        impression = Impression(
            id=str(number),
            time_us=10**12,
            history=tuple(Event(str(i), 10**11 + 10**9 * t, "view") for t, i in enumerate(seen)),
            context={"country": str(random.integers(20))},
            candidates=tuple(Candidate(str(i)) for i in shown),
        )
        scores = tuple(random.normal(size=candidates).tolist())
        ranking = Ranking(impression, "teacher", "1", "logit", scores, (True,) * candidates)
        made.append(Example(ranking, (1.0,) + (0.0,) * (candidates - 1), "closed"))
    return made


def only_named(lists: Lists) -> tuple[np.ndarray, Lists]:
    """The slots that a batch names, and the batch in terms of them: the plain loop spares a large catalogue too."""
    requests, both = lists.requests, [lists.requests.history_slots_BH.ravel(), lists.candidate_slots_BL.ravel()]
    slots, places = np.unique(np.concatenate(both), return_inverse=True)
    shift = int(slots[0] == -1)
    history = (places[: both[0].size] - shift).reshape(requests.history_slots_BH.shape)
    candidates = (places[both[0].size :] - shift).reshape(lists.candidate_slots_BL.shape)
    requests = dataclasses.replace(requests, history_slots_BH=history)
    return slots[shift:], dataclasses.replace(lists, requests=requests, candidate_slots_BL=candidates)


def seconds(steps: int, work: Callable[[int], object]) -> float:
    start = time.process_time()
    for step in range(steps):
        work(step)
    return (time.process_time() - start) / steps


def features(rows: int, options: argparse.Namespace) -> FeatureSpec:
    """What the student sees."""
    return FeatureSpec(
        history=HistorySpec(length=options.history, actions=("view",)),
        id=IdSpec(capacity=rows, hashed=8),
        item={"genre": Field("category", capacity=20, hashed=0, max_values=4)},
        context={"country": Field("category", capacity=30, max_values=1)},
    )


def deployed(items: int, options: argparse.Namespace) -> dict[str, float]:
    """Lists a second with the settings of the service: the steps alone, and with the encoding of records."""
    random = np.random.default_rng(0)
    settings = load_settings(SERVICE, {"RECDISTILL__STUDENT__DIM": str(options.dim)})
    size = settings.distil.batch
    trainer = make_trainer(
        features(items, options), settings.student, settings.loss, seed=0, watch=settings.watch, batch=size
    )
    trainer.apply_items(
        [Item(str(i), attributes={"genre": [f"g{g}" for g in random.integers(0, 20, 2)]}) for i in range(items)]
    )
    steps = options.steps * options.rounds
    # The lists that are looked at again must be there, and the average past its beginning, before a step is timed.
    before = max(132, settings.loss.replay_lists // size)
    records = [examples(size, items, options.history, options.candidates, random) for _ in range(steps)]
    for number in range(before):
        trainer.learn(trainer.encode(records[number % steps]))
    batches: list[Batch] = []
    encoding = seconds(steps, lambda step: batches.append(trainer.encode(records[step])))
    learning = seconds(steps, lambda step: trainer.learn(batches[step]))
    return {"items": items, "batch": size, "lists": size / learning, "with_encoding": size / (learning + encoding)}


def measure(items: int, rows: int, options: argparse.Namespace) -> dict[str, float]:
    """One row of the table."""
    random = np.random.default_rng(0)
    spec = features(rows, options)
    settings = StudentSettings(dim=options.dim, id_dropout=0.0, dropout=0.0)
    loss = LossSettings(soft=0.7, label=0.3, temperature=2.0)
    trainer = make_trainer(spec, settings, loss, seed=0)
    genres = random.integers(0, 20, (items, 2))
    trainer.apply_items([Item(str(i), attributes={"genre": [f"g{g}" for g in genres[i]]}) for i in range(items)])
    records = [examples(options.batch, items, options.history, options.candidates, random) for _ in range(4)]
    batches = [trainer.encode(batch) for batch in records]
    whole, live_N = items <= loss.full_softmax_items, trainer.catalogue.live_N
    heights = {key: spec.rows(key) for key in trainer.student.tables}
    served = StudentSettings(dim=options.dim)
    service = make_trainer(spec, served, loss, seed=0, watch=WatchSettings())
    service.apply_items([Item(str(i), attributes={"genre": [f"g{g}" for g in genres[i]]}) for i in range(items)])
    served_batches = [service.encode(batch) for batch in records]
    loops = {
        "plain": PlainLoop(trainer.weights(), heights, settings, loss, sparse=True),
        "dense": PlainLoop(trainer.weights(), heights, settings, loss),
    }

    def plain_step(plain: PlainLoop, step: int) -> None:
        lists, logits_BL = batches[step % 4].lists, batches[step % 4].units_BL
        if whole:
            plain.learn(trainer.catalogue.encoded(), lists, logits_BL, live_N, whole=True)
        else:
            slots, lists = only_named(lists)
            plain.learn(trainer.catalogue.encoded(slots), lists, logits_BL, live_N[slots], whole=False)

    def our_step(step: int) -> None:
        trainer.learn(batches[step % 4])

    ways: dict[str, Callable[[int], object]] = {
        "trainer": our_step,
        **{name: partial(plain_step, loop) for name, loop in loops.items()},
        "service": lambda step: service.learn(served_batches[step % 4]),
    }
    for way in ways.values():
        way(0)
    taken: dict[str, list[float]] = {name: [] for name in [*ways, "encoding"]}
    for _ in range(options.rounds):
        for name, way in ways.items():
            taken[name].append(seconds(options.steps, way))
        taken["encoding"].append(seconds(1, lambda step: service.encode(records[step])))
    median = {name: statistics.median(times) for name, times in taken.items()}
    return {
        "ratio": median["plain"] / median["trainer"],
        "ratio_dense": median["dense"] / median["trainer"],
        "items": items,
        "rows": rows,
        **{name: options.batch / median[name] for name in ways},
        "with_encoding": options.batch / (median["service"] + median["encoding"]),
    }


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, items=1_682, steps=2, rounds=2)
    parser.add_argument("--items", type=int, help="items in the catalogue, instead of the table's sizes")
    parser.add_argument("--rows", type=int, help="rows of the id table (default: --items)")
    parser.add_argument("--batch", type=int, default=256, help="lists a step")
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--candidates", type=int, default=128)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--deployed", action="store_true", help="the settings of deploy/config, at three sizes")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    return parser


def main() -> None:
    told = options().parse_args()
    torch.set_num_threads(told.threads)
    sizes = ((told.items, told.rows or told.items),) if told.items else SIZES
    if told.deployed:
        print(
            f"{'items':>10} {'batch':>6} {'lists/s':>9} {'+ encoding':>12}   dim {told.dim}, lists of {told.candidates}"
        )
        for items in (told.items,) if told.items else DEPLOYED:
            found = deployed(items, told)
            print(
                f"{items:>10,} {found['batch']:>6} {found['lists']:>9,.0f} {found['with_encoding']:>12,.0f}", flush=True
            )
        return
    if not told.json:
        shape = f"{told.batch} lists of {told.candidates} a step, {told.threads} thread(s)"
        print(f"{shape}; examples a second of processor time")
        names = ("trainer", "plain", "dense", "service")
        print(f"{'ratio':>6} {'items':>8} {'id rows':>10}" + "".join(f"{n:>9}" for n in names) + f"{'+ encoding':>12}")
    for items, rows in sizes:
        row = measure(items, rows, told)
        if told.json:
            print(json.dumps(row))
        else:
            print(
                f"{row['ratio']:>5.1f}x {items:>8,} {rows:>10,}"
                + "".join(f"{row[name]:>9,.0f}" for name in names)
                + f"{row['with_encoding']:>12,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
