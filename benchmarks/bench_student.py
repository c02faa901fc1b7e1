"""The student in product form on MovieLens 1M: 64 dimensions, taught by the built-in teacher of `bench_teacher`.

The protocol is that of `bench_teacher`: leave one out, all films ranked that the user has not had. The teacher must be
there (`--teacher`, the folder that `bench_teacher` keeps). `--each` places of each user's line are drawn. Each becomes
a list: the film that was chosen there, the teacher's best films, and others drawn from all, with the teacher's scores.
No list has a film of the last two places of a line. The student learns these lists in several passes, with the default
settings of the product. The film before the last one chooses the pass.

| row | what it is |
| --- | --- |
| teacher | as in `bench_teacher` |
| student | learns the scores and the films that were chosen |
| undistilled | the same student on the same lists, from the films that were chosen alone |

*Of the teacher* is a row's figure divided by the teacher's; *of the gain* is (student - undistilled) / (teacher -
undistilled). Lists and rows are kept in `--keep`: a run that was cut off makes only the rows that are missing.

    python -m benchmarks.bench_teacher
    python -m benchmarks.bench_student
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.bench_teacher import Lines, digest_of, impression, measure, of_teacher, read
from benchmarks.forms import Options, absent
from benchmarks.inputs import KEPT, data_set
from recdistill.config import LossSettings, StudentSettings
from recdistill.errors import RecdistillError
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Example, Item, Ranking
from recdistill.teachers.builtin.teacher import BuiltinTeacher
from recdistill.train import Batch, Trainer, use_threads

BATCH = 256
BLOCK = 2048
"""So many lists are scored by the teacher at once."""


class Drawn(NamedTuple):
    """Lists of K films, as columns of `items`; the first film of a list was chosen.

    Attributes:
        user_M: Whose line, int.
        at_M: The place of the chosen film in it.
        films_MK: Int16.
        scores_MK: The teacher's, float32.
    """

    user_M: np.ndarray
    at_M: np.ndarray
    films_MK: np.ndarray
    scores_MK: np.ndarray


def places(lines: Lines, each: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Users and places of the lists, in the order of lines: never the first place, and never the last two."""
    users, found = [], []
    for user, line in enumerate(lines):
        most = len(line) - 3
        if most > 0:
            drawn = random.choice(most, min(each, most), replace=False) + 1
            found.append(np.sort(drawn))
            users.append(np.full(len(drawn), user))
    return np.concatenate(users), np.concatenate(found)


def draw(
    lines: Lines, items: list[str], teacher: BuiltinTeacher, *, each: int, best: int, others: int, seed: int = 0
) -> Drawn:
    """The lists: the film that was chosen, the teacher's best ones besides, and some drawn from all."""
    random = np.random.default_rng(seed)
    column = {item: n for n, item in enumerate(items)}
    user_M, at_M = places(lines, each, random)
    films_MK = np.empty((len(user_M), 1 + best + others), np.int16)
    scores_MK = np.empty(films_MK.shape, np.float32)
    for start in range(0, len(user_M), BLOCK):
        rows = range(start, min(start + BLOCK, len(user_M)))
        scores_BN = of_teacher(teacher, [lines[user_M[row]][: at_M[row]] for row in rows], items)
        for row, scores_N in zip(rows, scores_BN, strict=True):
            line, at = lines[user_M[row]], at_M[row]
            chosen = column[line[at]]
            left_N = scores_N.copy()
            left_N[[column[item] for item in line[:at]]] = -np.inf
            left_N[chosen] = -np.inf
            top = np.argpartition(-left_N, best)[:best]
            left_N[top] = -np.inf
            more = random.choice(np.flatnonzero(np.isfinite(left_N)), others, replace=False)
            films_MK[row] = [chosen, *top, *more]
            scores_MK[row] = scores_N[films_MK[row]]
        print(f"\rlists: {rows.stop:,} of {len(user_M):,}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return Drawn(user_M, at_M, films_MK, scores_MK)


def kept_lists(path: Path, told: argparse.Namespace, lines: Lines, items: list[str], teacher: BuiltinTeacher) -> Drawn:
    """The lists in a file, drawn first where it is not there."""
    if not path.exists():
        found = draw(lines, items, teacher, each=told.each, best=told.best, others=told.others)
        draft = path.with_suffix(".draft.npz")
        np.savez(draft, **found._asdict())
        draft.replace(path)
    with np.load(path, allow_pickle=False) as arrays:
        return Drawn(**{name: arrays[name] for name in Drawn._fields})


def encoded(trainer: Trainer, drawn: Drawn, lines: Lines, items: list[str], length: int) -> list[Batch]:
    """All lists as the trainer takes them, in random order."""
    order = np.random.default_rng(1).permutation(len(drawn.user_M))
    labels = (1.0, *[0.0] * (drawn.films_MK.shape[1] - 1))
    scored = (True,) * len(labels)
    batches = []
    for start in range(0, len(order), BATCH):
        examples = []
        for row in order[start : start + BATCH]:
            user, at = int(drawn.user_M[row]), int(drawn.at_M[row])
            shown = tuple(items[film] for film in drawn.films_MK[row])
            asked = impression(f"{user}-{at}", lines[user][:at], *shown, length=length)
            scores = tuple(map(float, drawn.scores_MK[row]))
            examples.append(Example(Ranking(asked, "builtin", "1", "logit", scores, scored), labels, "closed"))
        batches.append(trainer.encode(examples))
    return batches


def scores_of(trainer: Trainer, lines: Lines, without: int, items: list[str], length: int) -> np.ndarray:
    """Scores of all films for each line without its last ones, `[U, N]`."""
    column = {item: n for n, item in enumerate(trainer.catalogue.ids)}
    own = [column[item] for item in items]
    parts = []
    for start in range(0, len(lines), 512):
        block = lines[start : start + 512]
        asked = [impression(f"{start + n}-", line[:-without], length=length) for n, line in enumerate(block)]
        parts.append(trainer.score(asked)[:, own])
    return np.concatenate(parts)


def learn(
    drawn: Drawn, lines: Lines, items: list[str], told: argparse.Namespace, *, soft: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Learns, and returns the figures of the chosen pass at the test, and what each pass found."""
    spec = FeatureSpec(history=HistorySpec(length=told.length), id=IdSpec(capacity=len(items), hashed=1))
    student = StudentSettings(dim=told.dim)
    loss = LossSettings(label=told.label) if soft else LossSettings(soft=0.0, label=1.0)
    trainer = make_trainer(spec, student, loss, seed=0, batch=BATCH)
    trainer.apply_items([Item(item) for item in items])
    batches = encoded(trainer, drawn, lines, items, told.length)
    earlier = [line[:-1] for line in lines]
    passes: list[dict[str, Any]] = []
    chosen: dict[str, Any] = {}
    best = -1.0
    for number in range(told.passes):
        began = time.process_time()
        for at in np.random.default_rng([2, number]).permutation(len(batches)):
            trainer.learn(batches[at])
        seconds = time.process_time() - began
        validation = measure(scores_of(trainer, earlier, 1, items, told.length), earlier, items)["n@10"]["mean"]
        passes.append({"pass": number + 1, "validation_n@10": validation, "cpu_seconds": seconds})
        print(json.dumps({"soft": soft} | passes[-1]), file=sys.stderr, flush=True)
        if validation > best:
            best = validation
            chosen = measure(scores_of(trainer, lines, 1, items, told.length), lines, items)
        elif number + 1 - max(passes, key=lambda one: float(one["validation_n@10"]))["pass"] >= told.patience:
            break
    return chosen, passes


def gain(mine: float, teacher: float, plain: float) -> str:
    """What a student has of the teacher's lead over another one, in words."""
    return "–" if teacher == plain else f"{(mine - plain) / (teacher - plain):.3f}"


def tell(name: str, row: dict[str, Any], teacher: dict[str, Any], plain: dict[str, Any] | None) -> None:
    """Prints a row: both figures, and its shares of the teacher and of the gain."""
    cells = [f"{row[m]['mean']:.4f} [{row[m]['interval'][0]:.4f}, {row[m]['interval'][1]:.4f}]" for m in row]
    shares = [gain(row[m]["mean"], teacher[m]["mean"], 0.0) for m in row]
    gains = ["", ""] if plain is None else [gain(row[m]["mean"], teacher[m]["mean"], plain[m]["mean"]) for m in row]
    print(f"{name:14}" + "".join(cell.rjust(28) for cell in cells) + "".join(x.rjust(10) for x in shares + gains))


def run(told: argparse.Namespace) -> dict[str, Any]:
    """All rows."""
    lines = read(told.data, told.users)
    items = sorted({item for line in lines for item in line}, key=int)
    teacher = BuiltinTeacher.load(told.teacher / "teacher")
    told.keep.mkdir(parents=True, exist_ok=True)
    shape = f"{told.each}-{told.best}-{told.others}-{teacher.version}-{digest_of(lines)}"
    drawn = kept_lists(told.keep / f"lists-{shape}.npz", told, lines, items, teacher)
    file = told.keep / f"rows-{shape}-{told.dim}-{told.length}-{told.label:g}-{told.passes}-{told.patience}.json"
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in ("teacher", "undistilled", "student"):
        if name in kept:
            continue
        if name == "teacher":
            scores_UN = of_teacher(teacher, [line[:-1] for line in lines], items)
            kept[name] = {"row": measure(scores_UN, lines, items)}
        else:
            row, passes = learn(drawn, lines, items, told, soft=name == "student")
            kept[name] = {"row": row, "passes": passes}
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    rows = {name: one["row"] for name, one in kept.items()}
    head = ("r@10", "n@10", "of the teacher", "", "of the gain", "")
    print(f"{len(drawn.user_M):,} lists of {drawn.films_MK.shape[1]} films, {told.dim} dimensions")
    print(f"{'':14}{head[0]:>28}{head[1]:>28}{head[2]:>20}{head[4]:>20}")
    tell("teacher", rows["teacher"], rows["teacher"], None)
    tell("student", rows["student"], rows["teacher"], rows["undistilled"])
    tell("undistilled", rows["undistilled"], rows["teacher"], None)
    return {"lists": len(drawn.user_M), "kept": kept}


def options() -> Options:
    """What it can be told."""
    parser = Options(
        __doc__, users=300, each=4, passes=2, dim=16, teacher=KEPT / "teacher-short", keep=KEPT / "student-short"
    )
    parser.add_argument("--data", type=Path, default=data_set("ml-1m-sasrec"), metavar="FOLDER")
    parser.add_argument(
        "--teacher", type=Path, default=KEPT / "teacher", metavar="FOLDER", help="what bench_teacher kept"
    )
    parser.add_argument("--keep", type=Path, default=KEPT / "student", metavar="FOLDER", help="lists and rows")
    parser.add_argument("--users", type=int, metavar="N", help="only the first so many users")
    parser.add_argument("--each", type=int, default=40, help="lists of each user, at most (default: %(default)s)")
    parser.add_argument(
        "--best", type=int, default=40, help="the teacher's best films in a list (default: %(default)s)"
    )
    parser.add_argument("--others", type=int, default=23, help="films drawn from all (default: %(default)s)")
    parser.add_argument("--length", type=int, default=50, help="events of a history (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--label", type=float, default=0.3, help="loss.label of the student (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=12, help="at most (default: %(default)s)")
    parser.add_argument("--patience", type=int, default=2, help="passes without a better one (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser


def main() -> None:
    told = options().parse_args()
    use_threads(told.threads)
    if not told.data.is_dir():
        absent(f"{told.data} is not here; name the folder of MovieLens 1M with --data")
    if not (told.teacher / "teacher").is_dir():
        absent(f"{told.teacher} holds no teacher; make one with bench_teacher, or name one with --teacher")
    try:
        found = run(told)
    except RecdistillError as e:
        sys.exit(f"bench_student: {e}")
    if told.json:
        told.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
