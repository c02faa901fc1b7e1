"""How many bytes does a quality cost, with a teacher and without one?

The logs of finished demos hold the teacher's score of every candidate. From them students of several dimensions are
distilled with the demo's settings, and the same students learn from the labels alone. The table has NDCG@10 over the
whole catalogue, on the lists that the demo kept back, from the bundle that was written. The bytes are those that are
needed to answer: user tower and float vectors, as the demo's report counts them.

A student on labels alone gets the number of passes that is best for it on the lists that judge it. So its row is better
than it could be in practice. Differences are to the teacher of the same demo: the mean, and a 95% interval as
`bench_demo` makes it (the mean of the runs' lower ends, and the mean of their upper ends).

    recdistill demo --output sim-0; recdistill demo --seed 1 --output sim-1
    python -m benchmarks.bench_size sim-0 sim-1
    python -m benchmarks.bench_size sim-0 --dims 8,24,32 --alone-dims 24,48,96,192 --json sizes.json
    python -m benchmarks.bench_size sim-0 --alone-dims "" --set loss.label=0.6 --set loss.label=0.6,student.hidden=64
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.forms import Options
from benchmarks.inputs import small_demo
from recdistill.bundle import build
from recdistill.config import LossSettings, load_settings
from recdistill.judge import BundleContender
from recdistill.judge.contenders import TeacherContender
from recdistill.loops.teachers import open_teacher
from recdistill.loops.trainers import make_trainer
from recdistill.metrics import paired_interval
from recdistill.progress import folder_bytes
from recdistill.train import use_threads
from references.finished_demo import FinishedDemo

TEACHER, DISTILLED, ALONE = "teacher", "distilled", "labels alone"


class Measured(NamedTuple):
    """One student of one demo."""

    bytes: int
    passes: int
    values: np.ndarray


def student(demo: FinishedDemo, loss: LossSettings, dim: int, passes: int, seed: int, *, best: bool) -> Measured:
    """Learns one; `best`: as many passes as suit it, up to `passes`."""
    settings = msgspec.structs.replace(demo.settings.student, dim=dim)
    watch, batch = demo.settings.watch, demo.settings.distil.batch
    trainer = make_trainer(demo.spec, settings, loss, seed=seed, watch=watch, batch=batch)
    found: list[np.ndarray] = []

    def look(_: int) -> None:
        found.append(demo.ndcg(trainer))

    demo.train(trainer, passes, after_pass=look if best else None)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        exported = build.export(
            trainer.weights(),
            demo.spec,
            trainer.vocabulary,
            trainer.catalogue,
            folder,
            provenance={},
            popular=[],
            base_position=0,
        )
        bundle = BundleContender(exported, "student")
        if not best:
            return Measured(bundle.size, passes, demo.ndcg_of(bundle))
        at = int(np.argmax([values.mean() for values in found]))
        return Measured(bundle.size, at + 1, found[at])


def teacher(demo: FinishedDemo) -> Measured:
    """The demo's own."""
    scorer = open_teacher(demo.settings.teacher)
    scorer.apply_items(demo.live)
    contender = TeacherContender(scorer, [item.id for item in demo.live])
    return Measured(folder_bytes(Path(demo.settings.teacher.path)), 0, demo.ndcg_of(contender))


def rows_of(folder: Path, chosen: argparse.Namespace) -> Iterator[tuple[str, int, Measured]]:
    """All rows of one demo, as they are made."""
    demo = FinishedDemo.load(folder)
    settings = demo.settings
    alone = msgspec.structs.replace(settings.loss, soft=0.0, label=1.0)
    seed, passes = settings.distil.seed, settings.distil.passes
    yield TEACHER, 0, teacher(demo)
    for dim in map(int, filter(None, chosen.dims.split(","))):
        yield DISTILLED, dim, student(demo, settings.loss, dim, passes, seed, best=False)
    for text in chosen.set:
        pairs = [one.partition("=") for one in text.split(",")]
        env = {f"RECDISTILL__{name.replace('.', '__').upper()}": value for name, _, value in pairs}
        other = load_settings(folder / "settings.toml", env=env)
        changed = demo._replace(settings=other)
        yield text, other.student.dim, student(changed, other.loss, other.student.dim, passes, seed, best=False)
    for dim in map(int, filter(None, chosen.alone_dims.split(","))):
        yield ALONE, dim, student(demo, alone, dim, chosen.alone_passes, seed, best=True)


def tell(rows: dict[tuple[str, int], list[Measured]]) -> None:
    """The table, and for each distilled student the smallest on labels that reaches it."""
    teachers = rows[TEACHER, 0]
    means = {key: float(np.mean([row.values.mean() for row in mine])) for key, mine in rows.items()}
    sizes = {key: float(np.mean([row.bytes for row in mine])) for key, mine in rows.items()}
    print(f"\n{'':58}{'dim':>4}{'bytes':>12}{'of teacher':>11}{'NDCG@10':>9}  less teacher, over {len(teachers)} demos")
    for (name, dim), mine in rows.items():
        gaps = [paired_interval(row.values, other.values) for row, other in zip(mine, teachers, strict=True)]
        mean, low, high = (np.mean([getattr(gap, end) for gap in gaps]) for end in ("mean", "low", "high"))
        against = "" if name == TEACHER else f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
        size, quality = sizes[name, dim], means[name, dim]
        print(f"{name:58}{dim or '':>4}{size:12,.0f}{size / sizes[TEACHER, 0]:11.3f}{quality:9.4f}  {against}")
    alone = [key for key in rows if key[0] == ALONE]
    print()
    for key in rows:
        if key[0] == DISTILLED and alone:
            enough = min((sizes[other] for other in alone if means[other] >= means[key]), default=None)
            best = max(means[other] for other in alone)
            print(
                f"labels alone reach {key[1]} distilled dimensions with {enough / sizes[key]:.1f} times the bytes"
                if enough is not None
                else f"no student here on labels alone reaches {key[1]} distilled dimensions: {best:.4f} is the best"
            )


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, dims="8", alone_dims="8", alone_passes=2)
    parser.add_argument(
        "folders", type=Path, nargs="*", help="finished demos of one data set, each of a seed (default: a small one)"
    )
    parser.add_argument("--dims", default="8,16,24,32", help="of the distilled students")
    parser.add_argument("--alone-dims", default="8,16,24,48,96", help="of the students on labels alone")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE[,KEY=VALUE…]",
        help="one more distilled student, with these settings",
    )
    parser.add_argument("--alone-passes", type=int, default=8, help="at most so many")
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    chosen = options().parse_args()
    use_threads(1)
    rows: dict[tuple[str, int], list[Measured]] = {}
    for folder in chosen.folders or [small_demo()]:
        for name, dim, row in rows_of(folder, chosen):
            rows.setdefault((name, dim), []).append(row)
            quality = row.values.mean()
            print(f"{folder.name}: {name} {dim or ''}: {quality:.4f}, {row.passes} passes, {row.bytes:,} B", flush=True)
    tell(rows)
    if chosen.json:
        found = [
            {
                "who": name,
                "dim": dim,
                "bytes": [row.bytes for row in mine],
                "passes": [row.passes for row in mine],
                "ndcg@10": [float(row.values.mean()) for row in mine],
            }
            for (name, dim), mine in rows.items()
        ]
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
