"""How much does a student forget when tastes change, and what does it keep when it stays near its earlier self?

The lists of a simulated world are put in an order: first the lists of users who like one half of the topics, then the
lists of the other users. The student learns each list once, from a teacher that knows the truth with some noise. The
table shows the student's NDCG@10 on held-out lists of both halves: after the first half, and at the end.

    python -m benchmarks.bench_forgetting --seeds 3
"""

from __future__ import annotations

import numpy as np

from benchmarks.forms import Options
from recdistill.config import LossSettings, StudentSettings, WatchSettings
from recdistill.data.simulated import SimulatorSettings
from recdistill.loops.trainers import make_trainer
from recdistill.records import Example
from recdistill.train import Batch, use_threads
from references.halves import halves, ndcg_of

BATCH, HELD = 128, 700


class Shift:
    """The two halves of a world, and a student of both, one after the other."""

    def __init__(self, seed: int, impressions: int) -> None:
        world = SimulatorSettings(
            items=800, users=impressions // 5, impressions=impressions, days=60, shortest=20, longest=40, history=20
        )
        random = np.random.default_rng(seed)
        made = halves(world, seed, random)
        self.spec, self.items = made.spec, made.items
        self.learnt: list[list[Example]] = []
        self.held: list[list[Example]] = []
        for half in (made.first, made.second):
            part = [half[i] for i in random.permutation(len(half))]
            self.held.append(part[:HELD])
            self.learnt.append(part[HELD:])

    def run(self, loss: LossSettings) -> list[list[float]]:
        """NDCG@10 on both halves, after each half."""
        student = StudentSettings(dim=16, hidden=32, context_dim=4)
        trainer = make_trainer(self.spec, student, loss, seed=0, watch=WatchSettings())
        trainer.apply_items(self.items)
        found = []
        for part in self.learnt:
            for start in range(0, len(part), BATCH):
                batch = part[start : start + BATCH]
                lists = trainer.encode(batch).lists
                names = ["t@1"] * len(batch)
                trainer.learn(Batch.of(lists, ["logit"] * len(batch), names, "standard"))
            found.append([ndcg_of(trainer, held) for held in self.held])
        return found


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, seeds=1, impressions=4_000, weights=[0.0, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--impressions", type=int, default=10_000)
    parser.add_argument("--weights", type=float, nargs="*", default=[0.0, 0.3, 1.0])
    parser.add_argument("--every", type=int, help="loss.previous_every (default: the steps of one half)")
    return parser


def main() -> None:
    told = options().parse_args()
    use_threads(1)
    worlds = [Shift(seed, told.impressions) for seed in range(told.seeds)]
    half = len(worlds[0].learnt[0]) // BATCH
    every = told.every or half
    print(f"{told.seeds} worlds, {half} steps a half, loss.previous_every {every}; mean NDCG@10")
    print(f"{'':32} {'after the first half':>24} {'at the end':>24}")
    print(f"{'':32} {'first':>12}{'second':>12} {'first':>12}{'second':>12}")
    for name, soft, label in (("teacher and labels", None, None), ("labels alone", 0.0, 1.0)):
        for weight in told.weights:
            loss = LossSettings(soft=soft, label=label, previous=weight, previous_every=every)
            (a, b), (c, d) = np.mean([world.run(loss) for world in worlds], 0)
            print(f"{name + f', loss.previous {weight:g}':32} {a:12.4f}{b:12.4f} {c:12.4f}{d:12.4f}", flush=True)


if __name__ == "__main__":
    main()
