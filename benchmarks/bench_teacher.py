"""The built-in teacher on MovieLens 1M as SASRec and gSASRec use it: leave one out, all films ranked.

6,040 users, 3,416 films, 999,611 events in each user's order. Each user's last film is the test. The film before it is
not learnt; in gSASRec it is the validation of 512 users. Here the teacher holds out choices of its own (`held_out`),
from what is left. At the test it reads the 200 newest events before the last one. All films are ranked except those
that the user has had before: all of them, as in the authors' code (`rated` in gSASRec-pytorch, `dataset_utils.py`).
R@10 and N@10 are means over the 6,040 users.

| row | what it is |
| --- | --- |
| popularity | how often a film was chosen |
| transitions | how often a film came right after the newest one (a count); popularity decides between equals |
| itemknn, ease | who had what, without order; the ridge of EASE is chosen on the film before the last one |
| builtin | `recdistill teach` with these settings, order of the films alone |

The training goes on where it was stopped: its checkpoints and rows are in `--keep`. A folder holds the teacher of one
choice of settings and users; other ones need another folder.

    python -m benchmarks.bench_teacher --keep .cache/teacher
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from scipy import sparse

from benchmarks.forms import Options, absent
from benchmarks.inputs import KEPT, data_set
from recdistill import linear
from recdistill.errors import ConfigError, RecdistillError
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.metrics import bootstrap_interval
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.teachers.builtin import Training
from recdistill.teachers.builtin.teacher import BuiltinTeacher, train_teacher

CUT = 10
RIDGES = (100.0, 300.0, 1000.0, 3000.0)
LENGTH = 200
STEP = 150
"""An impression each so many events: their histories of 200 overlap, so the teacher sees whole timelines."""
SETTINGS = Training(
    kind="attention",
    dim=64,
    layers=2,
    heads=2,
    dropout=0.2,
    epochs=150,
    patience=15,
    held_out=600,
    batch=32,
    learning_rate=1e-3,
)

Lines = list[list[str]]


def read(folder: Path, users: int | None) -> Lines:
    """Each user's films, oldest first."""
    rows = (folder / "sequences.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [row.split("\t")[3].split() for row in rows][:users]


def impression(name: str, history: list[str], *shown: str, length: int | None = None) -> Impression:
    """A request at no known time, with its newest `length` events; None: the protocol's number of them."""
    return Impression(
        name,
        0,
        user=name.partition("-")[0],
        history=tuple(Event(item, 0) for item in history[-(length or LENGTH) :]),
        candidates=tuple(map(Candidate, shown)),
    )


def examples_of(lines: Lines) -> list[Example]:
    """What is learnt: each line without its last two films."""
    found = []
    for user, line in enumerate(lines):
        last = len(line) - 3
        for at in [*range(STEP, last, STEP), last]:
            asked = impression(f"{user}-{at}", line[:at], line[at])
            found.append(Example(Ranking(asked, "", "", "rank", (0.0,), (False,)), (1.0,)))
    return found


def popularity(lines: Lines, items: list[str]) -> np.ndarray:
    """Scores `[U, N]`."""
    column = {item: n for n, item in enumerate(items)}
    counts_N = np.bincount([column[i] for line in lines for i in line[:-2]], minlength=len(items))
    return np.tile(counts_N.astype(np.float32), (len(lines), 1))


def transitions(lines: Lines, items: list[str]) -> np.ndarray:
    """Scores `[U, N]`."""
    column = {item: n for n, item in enumerate(items)}
    counts_NN = np.zeros((len(items), len(items)), np.float32)
    for line in lines:
        row = [column[i] for i in line[:-2]]
        np.add.at(counts_NN, (row[:-1], row[1:]), 1.0)
    popular_N = counts_NN.sum(0)
    return counts_NN[[column[line[-2]] for line in lines]] + 0.5 * popular_N / popular_N.max()


def table(lines: Lines, items: list[str], without: int) -> Any:
    """Each line without its last films, as a matrix of ones, `[U, N]`."""
    column = {item: n for n, item in enumerate(items)}
    cut = [line[:-without] for line in lines]
    rows = np.repeat(np.arange(len(cut)), [len(line) for line in cut])
    columns = np.array([column[item] for line in cut for item in line])
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(lines), len(items)))


def itemknn(lines: Lines, items: list[str]) -> np.ndarray:
    """Scores `[U, N]`."""
    return np.asarray(linear.itemknn(table(lines, items, 2))(table(lines, items, 1)))


def ease(lines: Lines, items: list[str]) -> np.ndarray:
    """Scores `[U, N]` with the best of `RIDGES`."""
    learnt, earlier = table(lines, items, 2), [line[:-1] for line in lines]
    scorers = [linear.ease(learnt, ridge) for ridge in RIDGES]
    best = max(scorers, key=lambda one: measure(np.asarray(one(learnt)), earlier, items)["n@10"]["mean"])
    return np.asarray(best(table(lines, items, 1)))


def of_teacher(teacher: BuiltinTeacher, histories: Lines, items: list[str]) -> np.ndarray:
    """The teacher's scores of all films for some histories, `[U, N]`."""
    column = {item: n for n, item in enumerate(teacher.item_ids)}
    asked = [impression(f"{number}-", history) for number, history in enumerate(histories)]
    return teacher.catalogue_scores(asked)[:, [column[item] for item in items]]


def measure(scores_UN: np.ndarray, lines: Lines, items: list[str]) -> dict[str, Any]:
    """R@10 and N@10 with 95% intervals; equal scores come before the film that was chosen."""
    column = {item: n for n, item in enumerate(items)}
    scores_UN = scores_UN.copy()
    target_U = np.array([column[line[-1]] for line in lines])
    own_U = scores_UN[np.arange(len(lines)), target_U].copy()
    for user, line in enumerate(lines):
        scores_UN[user, [column[i] for i in line[:-1]]] = -np.inf
    scores_UN[np.arange(len(lines)), target_U] = own_U
    rank_U = (scores_UN >= own_U[:, None]).sum(1)
    hit_U = rank_U <= CUT
    found = {}
    for name, values in (("r@10", hit_U.astype(float)), ("n@10", np.where(hit_U, 1 / np.log2(1.0 + rank_U), 0.0))):
        interval = bootstrap_interval(values)
        found[name] = {"mean": float(values.mean()), "interval": [interval.low, interval.high]}
    return found


def tell(name: str, row: dict[str, Any]) -> None:
    """Prints a row."""
    cells = [f"{row[m]['mean']:.4f} [{row[m]['interval'][0]:.4f}, {row[m]['interval'][1]:.4f}]" for m in row]
    print(f"{name:14}" + "".join(cell.rjust(28) for cell in cells), flush=True)


def begin(keep: Path, settings: Training, lines: Lines) -> None:
    """Notes in the folder what its teacher is of, and refuses one that is of something else.

    Raises:
        ConfigError: The folder is of other settings or other lines.
    """
    asked = {"settings": msgspec.to_builtins(settings), "lines": digest_of(lines)}
    file = keep / "asked.json"
    if file.is_file():
        if json.loads(file.read_text(encoding="utf-8")) != asked:
            raise ConfigError(f"{keep}: holds a teacher of other settings or users; name another folder with --keep")
        return
    if (keep / "teacher").exists():  # an earlier version did not say what it is of
        print(f"{keep}: does not say what its teacher is of; it may be of other settings", file=sys.stderr, flush=True)
        return
    keep.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asked) + "\n", encoding="utf-8")


def digest_of(lines: Lines) -> str:
    """What tells some lines from others."""
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:12]


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """All rows."""
    lines = read(chosen.data, chosen.users)
    items = sorted({item for line in lines for item in line}, key=int)
    size = {"users": len(lines), "items": len(items), "events": sum(map(len, lines))}
    print(json.dumps(size), file=sys.stderr, flush=True)
    settings = msgspec.convert(msgspec.to_builtins(SETTINGS) | json.loads(chosen.settings), Training)
    begin(chosen.keep, settings, lines)
    rows: dict[str, dict[str, Any]] = {}
    plain = {"popularity": popularity, "transitions": transitions, "itemknn": itemknn, "ease": ease}
    for name, scorer in plain.items():
        rows[name] = measure(scorer(lines, items), lines, items)
        tell(name, rows[name])
    out = chosen.keep / "teacher"
    if not out.exists():
        spec = FeatureSpec(history=HistorySpec(length=LENGTH), id=IdSpec(capacity=len(items), hashed=1))
        told = train_teacher(
            examples_of(lines), [Item(item) for item in items], spec, settings, out, keep=chosen.keep / "training"
        )
        (chosen.keep / "told.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
    passes = [json.loads(row) for row in (chosen.keep / "training" / "epochs.jsonl").read_text().splitlines()]
    teacher = BuiltinTeacher.load(out)
    began = time.process_time()
    scores_UN = of_teacher(teacher, [line[:-1] for line in lines], items)
    seconds = time.process_time() - began
    rows["builtin"] = measure(scores_UN, lines, items)
    tell("builtin", rows["builtin"])
    costs = {
        "passes": len(passes),
        "seconds": sum(row["seconds"] for row in passes),
        "cpu_seconds": sum(row["cpu_seconds"] for row in passes),
        "training_peak_mb": max(row["peak_mb"] for row in passes),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "scoring_cpu_seconds": seconds,
    }
    print("  ".join(f"{name} {value:,.0f}" for name, value in costs.items()))
    return {"size": size, "rows": rows, "costs": costs, "settings": msgspec.to_builtins(settings)}


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, users=300, settings='{"epochs": 2, "dim": 16, "heads": 1}', keep=KEPT / "teacher-short")
    parser.add_argument("--data", type=Path, default=data_set("ml-1m-sasrec"), metavar="FOLDER")
    parser.add_argument("--keep", type=Path, default=KEPT / "teacher", metavar="FOLDER", help="checkpoints and rows")
    parser.add_argument("--users", type=int, metavar="N", help="only the first so many users")
    parser.add_argument("--settings", default="{}", help="that differ from the benchmark's, as JSON")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser


def main() -> None:
    chosen = options().parse_args()
    torch.set_num_threads(chosen.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not chosen.data.is_dir():
        absent(f"{chosen.data} is not here; name the folder of MovieLens 1M with --data")
    try:
        found = run(chosen)
    except (RecdistillError, msgspec.MsgspecError) as e:
        sys.exit(f"bench_teacher: {e}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
