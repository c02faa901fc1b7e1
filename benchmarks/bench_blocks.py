"""Gowalla in six blocks of time: is a student that learns on as good as one that is made anew, and in what time?

The blocks and their split are those of CCD (KDD 2024): half of the check-ins first, then five blocks in the order of
time. In each block every user's places are split into train, valid and test. After block k each student is asked for
the test places of block k and of every block before it, of all 40,988 places. The user's train and valid places of the
asked block are left out of the ranking; `--mask all` leaves out those of all blocks so far.

| row | what it does with a block |
| --- | --- |
| frozen | nothing: it learnt the first block, and never again |
| fine-tune | learns the lists of the block |
| replay | learns them, and in each step as many lists of users drawn from all blocks so far |
| previous | learns them, and stays near the student of the block before, on the same lists |
| replay, previous | both |
| full retrain | starts anew, with the lists of all blocks so far, until the valid part is no better |

All rows are students of one form and size: a user is made of the places of its history, so there are no user rows. All
learn by the same losses, from the labels and from the same teacher, which is made anew after each block for all of
them: item neighbours over all check-ins so far. A history grows with each block for all rows, for the frozen one too.

R@20: the share of a user's test places among the first twenty, the mean over users. *now* is of the block that was just
learnt, *so far* the mean over all blocks so far, and H the harmonic mean of both (CCD's LA, RA and H). Seconds are
processor time of the student's own learning in this block; those of the full retrain end with its best epoch. The
teacher's seconds are the same for all rows, and stand alone. Each row is kept in `--rows`: a run that was cut off goes
on, though it makes the students again that a row rests on (`--students` keeps them).

    python -m benchmarks.bench_blocks
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.blocks import Block, Taught, asked, read_blocks, recall, smaller, union
from benchmarks.forms import Options, absent
from benchmarks.inputs import KEPT, data_set
from benchmarks.tables.recipes import StudentForm
from benchmarks.tables.student import TableStudent
from recdistill.losses import scores_of_places

ROWS = ("frozen", "fine-tune", "replay", "previous", "replay, previous", "full retrain")
"""In the order in which they are made."""


def padded(table: Any, users_B: np.ndarray, longest: int, random: np.random.Generator) -> Tensor:
    """Columns of some rows, int64 `[B, L]`, then −1; of a row that is longer, some are drawn."""
    rows = [table.indices[table.indptr[user] : table.indptr[user + 1]] for user in users_B.tolist()]
    rows = [random.permutation(row)[:longest] if len(row) > longest else row for row in rows]
    found = np.full((len(rows), max(1, *(len(row) for row in rows)) if rows else 1), -1, np.int64)
    for at, row in enumerate(rows):
        found[at, : len(row)] = row
    return torch.from_numpy(found)


class Learner:
    """What every row learns by: softmax over the catalogue, towards the labels and towards the teacher's shares.

    The catalogue's normaliser is estimated from the list itself and a sample of all items, drawn alike, each of which
    counts by how many it stands for.

    Args:
        chosen: The options.
        seed: Of all that is drawn.
    """

    def __init__(self, chosen: argparse.Namespace, seed: int) -> None:
        self.chosen = chosen
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def epoch(
        self,
        student: TableStudent,
        adam: torch.optim.Adam,
        labels: Any,
        taught: Taught,
        *,
        others: Any = None,
        previous: TableStudent | None = None,
    ) -> None:
        """Learns the lists of all users who have labels, once.

        Args:
            student: It changes.
            adam: Its optimizer.
            labels: The lists: a table of positives.
            taught: What the teacher says.
            others: Lists to be looked at again: as many as are new are drawn for each step. None: none are.
            previous: A student to stay near; None: there is none.
        """
        users = self.random.permutation(np.flatnonzero(np.diff(labels.indptr)))
        for users_B in np.array_split(users, max(1, -(-len(users) // self.chosen.batch))):
            loss = self.loss(student, users_B, labels, taught, previous)
            if others is not None:
                again_B = self.random.choice(np.flatnonzero(np.diff(others.indptr)), len(users_B), replace=False)
                loss = loss + self.loss(student, again_B, others, taught, previous)
            adam.zero_grad()
            loss.backward()
            adam.step()

    def loss(
        self, student: TableStudent, users_B: np.ndarray, labels: Any, taught: Taught, previous: TableStudent | None
    ) -> Tensor:
        """Of the lists of some users, a mean."""
        chosen, items = self.chosen, student.items_ND.shape[0]
        positives_BL = padded(labels, users_B, chosen.positives, self.random)
        users = torch.from_numpy(users_B)
        places_BM, shares_BM = taught.places_UM[users], taught.shares_UM[users]
        lists_BL = torch.cat([positives_BL, places_BM], 1)
        where_BL = lists_BL >= 0
        sample_S = torch.randperm(items, generator=self.generator)[: chosen.sampled]
        column_N = torch.full((items,), -1).index_copy(0, sample_S, torch.arange(len(sample_S)))
        # What is in the list counts there, and not once more in the sample.
        at_BL = torch.where(where_BL, column_N[lists_BL.clamp_min(0)], -1)
        hit_BS = torch.zeros(len(users), len(sample_S) + 1, dtype=torch.bool).scatter(1, at_BL + 1, True)[:, 1:]
        weight = float(np.log(items / len(sample_S)))

        def logits(model: TableStudent, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
            users_BD = model.users(users, generator=generator)
            own_BL = scores_of_places(users_BD, model.items_ND, model.biases_N, lists_BL.clamp_min(0))
            other_BS = torch.addmm(model.biases_N[sample_S], users_BD, model.items_ND[sample_S].T) + weight
            own_BL, other_BS = own_BL.masked_fill(~where_BL, -1e9), other_BS.masked_fill(hit_BS, -1e9)
            z_B1 = torch.cat([own_BL, other_BS], 1).logsumexp(1, keepdim=True)
            return own_BL - z_B1, other_BS - z_B1

        own_BL, other_BS = logits(student, self.generator)
        width = positives_BL.shape[1]
        real_BL = where_BL[:, :width]
        label_B = -own_BL[:, :width].masked_fill(~real_BL, 0.0).sum(1) / real_BL.sum(1).clamp_min(1)
        soft_B = -(shares_BM * own_BL[:, width:].masked_fill(~where_BL[:, width:], 0.0)).sum(1)
        loss = label_B.mean() + chosen.soft * soft_B.mean()
        if previous is not None:
            with torch.no_grad():
                before = torch.cat(logits(previous, None), 1)
            now = torch.cat([own_BL, other_BS], 1)
            loss = loss + chosen.near * F.kl_div(now, before, log_target=True, reduction="batchmean")
        return loss


class Run:
    """All rows, block after block.

    Args:
        blocks: The data.
        chosen: The options.
        seed: Of the students.
    """

    def __init__(self, blocks: list[Block], chosen: argparse.Namespace, seed: int) -> None:
        self.blocks, self.chosen, self.seed = blocks, chosen, seed
        self.students: dict[str, TableStudent] = {}
        self._best = (0.0, 0)  # seconds and epochs of the newest full retrain, to its best epoch

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for each student and block, as soon as it is there."""
        kept = self._kept()
        for k in range(len(self.blocks)):
            seen = union([block.train for block in self.blocks[: k + 1]])
            before = dict(self.students)
            needed = [name for name in self._names(k) if self._key(name, k) not in kept or not self._take(name, k)]
            taught = Taught.of(seen, self.chosen.taught, self.chosen.temperature) if needed else None
            for name in self._names(k):
                key = self._key(name, k)
                if name not in needed or taught is None:
                    yield kept[key]
                    continue
                began = time.process_time()
                student, epochs = self._made(name, k, seen, taught, before)
                seconds = time.process_time() - began
                if name == "full retrain":
                    seconds, epochs = self._best
                self.students[name] = student
                row = kept.get(key) or self._judged(name, k, student, seconds, epochs, taught.seconds)
                if key not in kept:
                    self.chosen.rows.parent.mkdir(parents=True, exist_ok=True)
                    with self.chosen.rows.open("a") as file:
                        file.write(json.dumps({"key": key, "row": row}) + "\n")
                self._leave(name, k, student)
                yield row

    def _names(self, k: int) -> list[str]:
        """After the first block all students are one."""
        wanted = [name for name in ROWS if name in self.chosen.only.split(";")] if self.chosen.only else list(ROWS)
        return ["full retrain"] if k == 0 else wanted

    def _made(
        self, name: str, k: int, seen: Any, taught: Taught, before: dict[str, TableStudent]
    ) -> tuple[TableStudent, int]:
        chosen, block = self.chosen, self.blocks[k]
        learner = Learner(chosen, 1000 * self.seed + k)
        if name == "full retrain":
            return self._anew(k, seen, taught, learner), 0
        old = before[name if k > 1 else "full retrain"]
        student = with_history(old, seen)
        if name == "frozen":
            return student, 0
        adam = torch.optim.Adam(student.parameters(), lr=chosen.learning_rate * chosen.slower)
        near = with_history(old, seen) if "previous" in name else None
        for _ in range(chosen.tuned):
            learner.epoch(student, adam, block.train, taught, others=seen if "replay" in name else None, previous=near)
        return student, chosen.tuned

    def _anew(self, k: int, seen: Any, taught: Taught, learner: Learner) -> TableStudent:
        """A fresh student of all blocks so far; the best epoch by the valid parts."""
        chosen = self.chosen
        form = StudentForm("history", bias=True, init=0.1, dropout=chosen.dropout)
        student = TableStudent(seen, form, dim=chosen.dim, seed=self.seed)
        adam = torch.optim.Adam(student.parameters(), lr=chosen.learning_rate)
        blocks = self.blocks[: k + 1]
        valid = [asked(block, "valid", [block.train], chosen.validated) for block in blocks]
        best, kept, spent, self._best = -1.0, student, 0.0, (0.0, 0)
        for epoch in range(1, chosen.epochs + 1):
            began = time.process_time()
            learner.epoch(student, adam, seen, taught)
            spent += time.process_time() - began
            if epoch % chosen.every and epoch < chosen.epochs:
                continue
            figure = float(np.mean([recall(student, questions).mean() for questions in valid]))
            print(f"  full retrain, block {k}, epoch {epoch}: valid R@20 {figure:.4f}, {spent:.0f} s", flush=True)
            if figure > best:
                best, kept, self._best = figure, copy.deepcopy(student), (spent, epoch)
            elif epoch - self._best[1] >= chosen.patience:
                break
        return kept

    def _judged(
        self, name: str, k: int, student: TableStudent, seconds: float, epochs: int, teacher_s: float
    ) -> dict[str, Any]:
        blocks = self.blocks[: k + 1]
        of_all = [part for block in blocks for part in (block.train, block.valid)]
        by_block = []
        for block in blocks:
            hidden = of_all if self.chosen.mask == "all" else [block.train, block.valid]
            by_block.append(float(recall(student, asked(block, "test", hidden, self.chosen.judged)).mean()))
        now, so_far = by_block[-1], float(np.mean(by_block))
        return {
            "method": name,
            "block": k,
            "now": now,
            "so far": so_far,
            "H": 2 * now * so_far / (now + so_far) if now + so_far else 0.0,
            "blocks": by_block,
            "seconds": seconds,
            "epochs": epochs,
            "teacher": teacher_s,
        }

    # What is kept

    def _key(self, name: str, k: int) -> str:
        said = {
            option: value
            for option, value in vars(self.chosen).items()
            if option not in ("rows", "students", "only", "short", "seeds", "data")
        }
        said["data"] = f"{self.chosen.data.name}, {self.chosen.data.stat().st_size} bytes"
        if name in ("frozen", "full retrain"):  # what does not bear on a row leaves it as it is
            said = {option: value for option, value in said.items() if option not in ("slower", "tuned", "near")}
        elif "previous" not in name:
            del said["near"]
        return json.dumps(said | {"method": name, "block": k, "seed": self.seed}, sort_keys=True, default=str)

    def _kept(self) -> dict[str, dict[str, Any]]:
        file: Path = self.chosen.rows
        lines = file.read_text().splitlines() if file.is_file() else []
        return {one["key"]: one["row"] for one in map(json.loads, lines)}

    def _file(self, name: str, k: int) -> Path:
        folder: Path = self.chosen.students
        return folder / f"{hashlib.sha256(self._key(name, k).encode()).hexdigest()[:20]}.npz"

    def _leave(self, name: str, k: int, student: TableStudent) -> None:
        file = self._file(name, k)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **{key: value.detach().numpy() for key, value in student.named_parameters()})

    def _take(self, name: str, k: int) -> bool:
        """Takes a student from the disk; whether it was there."""
        file = self._file(name, k)
        if not file.is_file():
            return False
        seen = union([block.train for block in self.blocks[: k + 1]])
        form = StudentForm("history", bias=True, init=0.1, dropout=self.chosen.dropout)
        student = TableStudent(seen, form, dim=self.chosen.dim, seed=self.seed)
        with np.load(file, allow_pickle=False) as held:
            student.load_state_dict({key: torch.from_numpy(held[key]) for key in held.files})
        self.students[name] = student
        return True


def with_history(student: TableStudent, seen: Any) -> TableStudent:
    """The same weights, with the histories of now."""
    made = TableStudent(seen, student.form, dim=student.items_ND.shape[1], seed=0)
    made.load_state_dict(student.state_dict())
    return made


def told(rows: list[dict[str, Any]], rank: str = "full retrain") -> list[str]:
    """The table: the mean over the later blocks, and beside it what each is of the full retrain."""
    later = [row for row in rows if row["block"] > 0]
    lines = [
        f"{'':18}{'R@20 now':>10}{'so far':>10}{'H':>9}{'seconds':>10}{'of full, now':>14}{'so far':>9}{'seconds':>9}"
    ]
    names = [name for name in ROWS if any(row["method"] == name for row in later)]
    means = {
        name: {
            figure: float(np.mean([row[figure] for row in later if row["method"] == name]))
            for figure in ("now", "so far", "H", "seconds")
        }
        for name in names
    }
    full = means.get(rank)
    for name, mean in means.items():
        line = f"{name:18}{mean['now']:>10.4f}{mean['so far']:>10.4f}{mean['H']:>9.4f}{mean['seconds']:>10.1f}"
        if full is not None:
            line += f"{mean['now'] / full['now']:>14.3f}{mean['so far'] / full['so far']:>9.3f}"
            line += f"{mean['seconds'] / max(full['seconds'], 1e-9):>9.3f}"
        lines.append(line)
    return lines


def options() -> Options:
    """What it can be told."""
    parser = Options(
        __doc__,
        users=400,
        epochs=4,
        tuned=1,
        sampled=512,
        taught=20,
        judged=200,
        rows=KEPT / "blocks-short.jsonl",
        students=KEPT / "blocks-short",
    )
    parser.add_argument("--data", type=Path, default=data_set("gowalla-blocks") / "interactions.tsv")
    parser.add_argument("--users", type=int, default=0, help="take the first users alone; 0: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--slower", type=float, default=0.25, help="of that rate, when a student learns on")
    parser.add_argument("--dropout", type=float, default=0.3, help="of the events of a history")
    parser.add_argument("--soft", type=float, default=1.0, help="weight of the teacher beside the labels")
    parser.add_argument("--near", type=float, default=1.0, help="weight of the earlier student")
    parser.add_argument("--taught", type=int, default=50, help="places that the teacher is asked about, for each user")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the teacher's shares")
    parser.add_argument("--positives", type=int, default=32, help="most labels of a list")
    parser.add_argument("--sampled", type=int, default=2048, help="items that stand for the catalogue in a step")
    parser.add_argument("--epochs", type=int, default=40, help="most epochs of a full retrain")
    parser.add_argument("--every", type=int, default=2, help="epochs between two looks at the valid part")
    parser.add_argument("--patience", type=int, default=4, help="epochs without a better one, after which it ends")
    parser.add_argument("--tuned", type=int, default=3, help="epochs over a block, of a student that learns on")
    parser.add_argument("--validated", type=int, default=1000, help="users of each block's valid part; 0: all")
    parser.add_argument("--judged", type=int, default=4000, help="users of each block's test part; 0: all")
    parser.add_argument(
        "--mask", choices=("block", "all"), default="block", help="whose train and valid places are out"
    )
    parser.add_argument("--only", default="", help="rows, with semicolons; the first block is learnt anyway")
    parser.add_argument("--rows", type=Path, default=KEPT / "blocks.jsonl", help="rows that were measured")
    parser.add_argument("--students", type=Path, default=KEPT / "blocks", help="students that were made")
    return parser


def main() -> None:
    chosen = options().parse_args()
    torch.set_num_threads(1)
    if not chosen.data.is_file():
        absent(f"{chosen.data} is not there; give Gowalla's blocks, as published with CCD, with --data")
    blocks = read_blocks(chosen.data)
    blocks = smaller(blocks, chosen.users) if chosen.users else blocks
    found: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        for row in Run(blocks, chosen, seed).rows():
            found.append(row)
            print(
                f"seed {seed}, block {row['block']}, {row['method']:18} R@20 now {row['now']:.4f}, so far "
                f"{row['so far']:.4f}, {row['seconds']:.1f} s in {row['epochs']} epochs, "
                f"teacher {row['teacher']:.0f} s",
                flush=True,
            )
    print("\nmean over the later blocks" + (f" and {chosen.seeds} seeds" if chosen.seeds > 1 else ""))
    print("\n".join(told(found)))


if __name__ == "__main__":
    main()
