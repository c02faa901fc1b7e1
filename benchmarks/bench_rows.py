"""What do ids without end cost, and what do they do to those who were there before?

Two parts. The first has no student: very many ids pass through a table of fixed size. Half as many items as rows are
there all the time ("known") and are shown by Zipf's law. All others come once: their record arrives, they are shown to
a few users, and later they are withdrawn. So there are one and a half times as many live items as rows. It prints what
an item record, a step and a look-up cost, and the memory beside its bound:

    bound = rows × (key + 17) + 64 MiB at most for counters + slots × (item + 8 + 1)

where the bytes of a key and of an item are those of Python's texts, dicts and records: 250 and 1,000 here. Slots are
those of live items and of withdrawn ones that are still kept.

The second part learns. The same world is learnt twice in one order: with a table that has room for every id
("unbounded"), and with a small one. It prints NDCG@10 of known users over all live items, by the world's own truth
(gains: what the truth gives above the user's hundredth item), with 95% intervals bootstrapped over users, the paired
difference, and how many places of all first hundreds go to ids that were shown at most once. Each one-off id has a
true value like any known item, less 2: so few belong into a first hundred.

    python -m benchmarks.bench_rows                       # ten million ids, a million rows; then 100,000 through 10,000
    python -m benchmarks.bench_rows --ids 0 --min-seen 3  # only the student, with admission by frequency
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.forms import Options
from recdistill.config import LossSettings, StudentSettings
from recdistill.features import (
    Catalogue,
    FeatureSpec,
    HistorySpec,
    IdSpec,
    Lists,
    Requests,
    Tenure,
    Vocabulary,
    VocabularySpec,
)
from recdistill.loops.trainers import make_trainer
from recdistill.metrics import bootstrap_interval, ndcg, paired_interval, top_k
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.train import Trainer

KEY, ITEM = 250, 1_000
"""Bytes of an id with its place in a dict, and of an item record with its two forms and its arrays."""


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def lists_of(candidates_BL: np.ndarray, history_BH: np.ndarray, labels_BL: np.ndarray) -> Lists:
    """A batch as the encoder makes it, from slots."""
    batch, nothing_BH = len(candidates_BL), np.zeros_like(history_BH)
    requests = Requests(history_BH, nothing_BH, nothing_BH, {}, np.zeros(batch, np.int32))
    where_BL, ones_B = candidates_BL >= 0, np.ones(batch, bool)
    zeros_BL = np.zeros(candidates_BL.shape, np.float32)
    return Lists(
        requests=requests,
        candidate_slots_BL=candidates_BL,
        where_BL=where_BL,
        teacher_scores_BL=zeros_BL,
        scored_BL=where_BL,
        labels_BL=labels_BL,
        label_known_B=ones_B,
        weights_B=ones_B.astype(np.float32),
        offsets_BL=None,
        soft_B=ones_B,
    )


def pass_through(ids: int, rows: int, min_seen: int, *, batch: int, fresh: int, lifetime: int) -> None:
    """Lets ids pass through a table, and prints what it cost."""
    random = np.random.default_rng(0)
    spec = FeatureSpec(
        id=IdSpec(capacity=rows, min_seen=min_seen),
        vocabulary=VocabularySpec(half_life=rows, keep_withdrawn=max(1, rows // 20)),
    )
    began = resident()
    tenure = Tenure(Catalogue(spec, Vocabulary(spec)))
    catalogue, known = tenure.catalogue, rows // 2
    seconds = {"item record": 0.0, "step": 0.0, "look-up": 0.0}
    records = examples = looked = 0
    for number in range(known):
        tenure.applied(catalogue.apply(Item(f"known-{number}"), admit=True))
    chances = 1.0 / np.arange(1, known + 1)
    totals = np.cumsum(chances / chances.sum())
    oldest = 0
    for start in range(0, ids - known, fresh):
        names = [f"one-off-{number}" for number in range(start, min(start + fresh, ids - known))]
        gone = range(oldest, max(oldest, start + len(names) - lifetime))
        items = [Item(name) for name in names] + [Item(f"one-off-{n}", 1, withdrawn=True) for n in gone]
        oldest = gone.stop
        clock = time.process_time()
        slots = [catalogue.apply(item, admit=True) for item in items]
        for slot in slots:
            tenure.applied(slot)
        seconds["item record"] += time.process_time() - clock
        records += len(items)
        # Each list shows 16 known items and 4 of the newest ones; the history has 10 known ones.
        drawn = np.searchsorted(totals, random.random((batch, 26))).astype(np.int32)
        new_BL = np.array(slots[: len(names)], np.int32)[random.integers(0, len(names), (batch, 4))]
        labels_BL = np.zeros((batch, 20), np.float32)
        labels_BL[:, 0] = random.random(batch) < 0.1
        lists = lists_of(np.concatenate([drawn[:, :16], new_BL], 1), drawn[:, 16:], labels_BL)
        clock = time.process_time()
        tenure.settle(lists)
        seconds["step"] += time.process_time() - clock
        examples += batch
        if start % (64 * fresh) == 0:
            wanted = [catalogue.ids[slot] for slot in lists.candidate_slots_BL.ravel()]
            data, sizes = "".join(wanted).encode(), np.array([len(name) for name in wanted])
            catalogue.slots_in(data, np.zeros(1, np.int64), sizes[:1])  # takes over what has changed since
            clock = time.process_time()
            found = catalogue.slots_in(data, np.cumsum(sizes) - sizes, sizes)
            seconds["look-up"] += time.process_time() - clock
            looked += len(found)
    live = int(catalogue.live_N.sum())
    counters = sum(contest.nbytes for contest in tenure.contests.values())
    own = tenure.vocabulary.own("id")
    bound = rows * (KEY + 17) + (64 << 20) + len(catalogue) * (ITEM + 9)
    held = sum(own.row_of.get(f"known-{number}") is not None for number in range(known))
    print(f"{ids:,} ids through {rows:,} rows, min_seen {min_seen}, {examples:,} lists")
    print(f"  {'item record':24}{seconds['item record'] / records * 1e6:>10.2f} µs each, {records:,} of them")
    print(f"  {'step':24}{seconds['step'] / examples * 1e6:>10.2f} µs a list of 20 candidates and 10 events")
    print(f"  {'look-up':24}{seconds['look-up'] / max(1, looked) * 1e6:>10.3f} µs an id")
    print(f"  {'slots':24}{len(catalogue):>10,}, {live:,} of them live")
    print(f"  {'rows in use':24}{len(own):>10,}; rows taken back: {tenure.vocabulary.released:,}")
    print(f"  {'known items with a row':24}{held / known:>10.4f}")
    print(f"  {'memory':24}{(resident() - began) / 1e6:>10,.0f} MB, of it counters {counters / 1e6:,.0f}")
    print(f"  {'bound':24}{bound / 1e6:>10,.0f} MB", flush=True)


class World(NamedTuple):
    """Users and items with a true value of each for each."""

    users_UD: np.ndarray
    items_ND: np.ndarray
    biases_N: np.ndarray
    chances_K: np.ndarray  # of the known items, to be shown


def world_of(users: int, known: int, ids: int, seed: int) -> World:
    """A world of which the first `known` items stay."""
    random = np.random.default_rng(seed)
    popularity_K = -np.log(np.arange(1, known + 1)) * 0.4
    biases_N = np.concatenate([random.permutation(popularity_K - popularity_K.mean()), np.full(ids - known, -2.0)])
    chances_K = np.exp(biases_N[:known])
    return World(
        random.normal(size=(users, 8)).astype(np.float32),
        random.normal(size=(ids, 8)).astype(np.float32) * 0.6,
        biases_N.astype(np.float32),
        chances_K / chances_K.sum(),
    )


def learnt(world: World, rows: int, min_seen: int, *, fresh: int, batch: int, seed: int) -> tuple[Trainer, np.ndarray]:
    """A student after one pass in order, and how often each id was shown."""
    random, known, ids = np.random.default_rng(seed), len(world.chances_K), len(world.items_ND)
    spec = FeatureSpec(
        history=HistorySpec(length=10),
        id=IdSpec(capacity=rows, hashed=64, min_seen=min_seen),
        vocabulary=VocabularySpec(half_life=4 * known, keep_withdrawn=known),
    )
    loss = LossSettings(full_softmax_items=0, sampled_items=1024)
    made = make_trainer(spec, StudentSettings(dim=16, hidden=32), loss, seed=seed)
    name = [f"item-{number}" for number in range(ids)].__getitem__
    made.apply_items([Item(name(number)) for number in range(known)])
    shown_N = np.zeros(ids, np.int64)
    first, lifetime = known, known
    while first < ids:
        new = np.arange(first, min(first + fresh, ids))
        gone = range(max(known, first - lifetime), max(known, first - lifetime + len(new)))
        made.apply_items([Item(name(n)) for n in new] + [Item(name(n), 1, withdrawn=True) for n in gone])
        first += len(new)
        asked_B = random.integers(0, len(world.users_UD), batch)
        core_BL = random.choice(known, (batch, 24), p=world.chances_K)
        others_BL = new[random.integers(0, len(new), (batch, 4))]
        shown_N += np.bincount(others_BL.ravel(), minlength=ids) + np.bincount(core_BL[:, :16].ravel(), minlength=ids)
        examples = []
        for user, core, others in zip(asked_B, core_BL, others_BL, strict=True):
            chosen = list(dict.fromkeys([*core[:16].tolist(), *others.tolist()]))
            truth = world.items_ND[chosen] @ world.users_UD[user] + world.biases_N[chosen]
            liked = liked_by(world, user, core[16:])
            clicked = int(np.argmax(truth + random.gumbel(size=len(truth))))
            asked = Impression(
                "r",
                9,
                history=tuple(Event(name(n), 1) for n in liked),
                candidates=tuple(Candidate(name(n)) for n in chosen),
            )
            labels = tuple(float(place == clicked) for place in range(len(chosen)))
            ranking = Ranking(asked, "t", "1", "logit", tuple(truth.tolist()), (True,) * len(chosen))
            examples.append(Example(ranking, labels, "closed"))
        made.learn(made.encode(examples))
    return made, shown_N


def liked_by(world: World, user: int, core: np.ndarray) -> list[int]:
    """Of some known items the half that a user likes best: a history."""
    truth = world.items_ND[core] @ world.users_UD[user] + world.biases_N[core]
    return [int(n) for n in core[np.argsort(-truth)[: len(core) // 2]]]


def judged(world: World, made: Trainer, shown_N: np.ndarray, seed: int) -> tuple[np.ndarray, float, int]:
    """NDCG@10 of each user; of ids seen at most once, their share of the first hundreds, and the most in one."""
    random, known = np.random.default_rng(seed), len(world.chances_K)
    users = np.arange(min(500, len(world.users_UD)))
    histories = [liked_by(world, user, random.choice(known, 20, p=world.chances_K)) for user in users]
    asked = [Impression("r", 9, history=tuple(Event(f"item-{n}", 1) for n in liked)) for liked in histories]
    slots = np.flatnonzero(made.catalogue.live_N)
    numbers = np.array([int(made.catalogue.ids[slot].removeprefix("item-")) for slot in slots])
    scores_BN = made.score(asked, slots)
    truth_BN = world.users_UD[users] @ world.items_ND[numbers].T + world.biases_N[numbers]
    edge_B = np.partition(truth_BN, -100, axis=1)[:, -100]
    figures_B = ndcg(scores_BN, np.maximum(truth_BN - edge_B[:, None], 0.0), k=10)
    noise_B = (shown_N[numbers] <= 1)[top_k(scores_BN, 100)].sum(1)
    return figures_B, float(noise_B.mean() / 100), int(noise_B.max())


def quality(ids: int, rows: int, seen: list[int], *, users: int, fresh: int, batch: int, seed: int) -> None:
    """Prints what a student with few rows is worth beside one that has a row for every id."""
    known = rows // 2
    world = world_of(users, known, ids, seed)
    print(f"{ids:,} ids, {known:,} of them known, {-(-(ids - known) // fresh) * batch:,} lists, one pass")
    titles = {
        "rows": 10,
        "min_seen": 10,
        "NDCG@10": 10,
        "95% interval": 18,
        "beside unbounded": 30,
        "noise": 9,
        "most": 6,
    }
    print("  " + "".join(f"{title:>{width}}" for title, width in titles.items()))
    beside: np.ndarray | None = None
    for height, least in [(ids, 1), *[(rows, one) for one in seen]]:
        made, shown_N = learnt(world, height, least, fresh=fresh, batch=batch, seed=seed)
        figures_B, noise, most = judged(world, made, shown_N, seed + 1)
        own, difference = bootstrap_interval(figures_B), ""
        if beside is not None:
            pair = paired_interval(figures_B, beside)
            difference = f"{pair.mean:+.4f} ({pair.low:+.4f} to {pair.high:+.4f})"
        beside = figures_B if beside is None else beside
        print(
            f"  {height:>10,}{least:>10}{own.mean:>10.4f}{f'{own.low:.4f} to {own.high:.4f}':>18}{difference:>30}"
            f"{noise:>9.4f}{most:>6}",
            flush=True,
        )


def options() -> Options:
    """What it can be told."""
    parser = Options(
        __doc__,
        ids=100_000,
        rows=10_000,
        fresh=500,
        student_ids=6_000,
        student_rows=1_000,
        users=300,
        student_fresh=100,
    )
    parser.add_argument("--ids", type=int, default=10_000_000, help="ids of the first part; 0 leaves it out")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--min-seen", type=int, default=1, help="of the first part")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--fresh", type=int, default=2_000, help="new ids of a step")
    parser.add_argument("--student-ids", type=int, default=100_000, help="ids of the second part; 0 leaves it out")
    parser.add_argument("--student-rows", type=int, default=10_000)
    parser.add_argument("--student-fresh", type=int, default=200)
    parser.add_argument("--student-min-seen", default="1,2", metavar="N[,N…]")
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    chosen = options().parse_args()
    torch.set_num_threads(1)
    if chosen.ids:
        pass_through(
            chosen.ids,
            chosen.rows,
            chosen.min_seen,
            batch=chosen.batch,
            fresh=chosen.fresh,
            lifetime=chosen.rows,
        )
    if chosen.student_ids:
        quality(
            chosen.student_ids,
            chosen.student_rows,
            [int(one) for one in chosen.student_min_seen.split(",")],
            users=chosen.users,
            fresh=chosen.student_fresh,
            batch=128,
            seed=chosen.seed,
        )


if __name__ == "__main__":
    main()
