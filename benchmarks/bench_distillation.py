"""How good is a student of this size, by this recipe, from this teacher, on a table of users and items?

It reads three files of user<TAB>item: students learn from the first, the second decides the number of epochs and
nothing else, and the third is the test. It prints a row for each method, dimension and seed. These are always among
them: the teacher, the student without distillation (BPR, and the recipe's own label loss), popularity, ItemKNN, EASE.

    python -m benchmarks.bench_distillation --recipe default --teacher ensemble --student-dim 20,64
    python -m benchmarks.bench_distillation --train T --valid V --test W --recipe default,rrd,de --teacher bpr \\
        --protocol loo499 --student-dim 20 --seeds 5 --json out.json

Protocols: `full` ranks all items except those of train and valid. `loo499` ranks the test item among 499 unseen ones,
which are drawn anew `--draws` times. What was run once is kept in `--cache`, so a run that was stopped can go on.

Recipes are files of `benchmarks/tables/recipes`, by name, or files of your own, by path.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from scipy import stats

from benchmarks.forms import Options, absent
from benchmarks.inputs import data_set
from benchmarks.tables.fit import Validation, fit, rankings_for
from benchmarks.tables.lists import Rankings, UserScores
from benchmarks.tables.pairs import Pairs, read_pairs
from benchmarks.tables.ranks import figures, ranks_full, ranks_sampled, rivals_of
from benchmarks.tables.recipes import Fit, TableRecipe, table_recipe
from benchmarks.tables.student import TableStudent
from benchmarks.tables.teachers import Partly, make_teacher
from benchmarks.tables.terms import check
from recdistill import linear
from recdistill.errors import ConfigError, RecdistillError
from recdistill.judge.scatter import scatter

Metrics = dict[str, float]
VERSION = 2
"""Of what makes rows: raised when what is learnt or how it is asked changes, so that kept rows are not shown again."""


# Asking

FULL: dict[str, tuple[int, ...]] = {"recall": (10, 20, 50), "ndcg": (10, 20, 50)}
SAMPLED: dict[str, tuple[int, ...]] = {"hit": (5, 10), "ndcg": (5, 10)}


class Asker:
    """One protocol on one data set."""

    def __init__(self, pairs: Pairs, protocol: str, draws: int) -> None:
        self.pairs, self.protocol, self.draws = pairs, protocol, draws
        self.decides = "recall@20" if protocol == "full" else "hit@10"
        self.rivals = functools.cache(self._rivals)

    def _rivals(self, part: str, draw: int) -> np.ndarray:
        """The 499 of a draw: the same for all who are asked."""
        known = self.pairs.train_UN + (self.pairs.test_UN if part == "valid" else self.pairs.valid_UN)
        return rivals_of(known, self.pairs.valid_UN if part == "valid" else self.pairs.test_UN, 499, draw)

    def valid(self, scores: UserScores) -> float:
        """The one figure that decides: of the validation part."""
        if self.protocol == "full":
            ranks = list(ranks_full(scores, self.pairs.train_UN, self.pairs.valid_UN))
        else:
            ranks = list(ranks_sampled(scores, self.pairs.valid_UN, self.rivals("valid", 10_000)))
        name, _, k = self.decides.partition("@")
        return float(figures(ranks, {name: (int(k),)})[self.decides].mean())

    def test(self, scores: UserScores) -> dict[str, np.ndarray]:
        """All figures of the test part, one value a user (averaged over the draws)."""
        if self.protocol == "full":
            seen = self.pairs.train_UN + self.pairs.valid_UN
            return figures(list(ranks_full(scores, seen, self.pairs.test_UN)), FULL)
        drawn = [
            figures(list(ranks_sampled(scores, self.pairs.test_UN, self.rivals("test", draw))), SAMPLED)
            for draw in range(self.draws)
        ]
        return {name: np.mean([one[name] for one in drawn], 0) for name in drawn[0]}


# Rows


class School:
    """Teachers and their students; a teacher is made when a row first needs it."""

    def __init__(self, pairs: Pairs, asker: Asker, chosen: argparse.Namespace, key: str) -> None:
        self.pairs, self.asker, self.chosen, self.key = pairs, asker, chosen, key
        self.teacher = functools.lru_cache(1)(self._teacher)
        self.rankings = functools.lru_cache(4)(self._rankings)
        self.champion = functools.lru_cache(1)(self._champion)

    def seed_of_teacher(self, seed: int) -> int:
        """One teacher for all students, as in the papers, or one of each seed."""
        return seed if self.chosen.teachers == "each" else 0

    def whose(self, seed: int) -> tuple[object, ...]:
        """What tells one teacher from another."""
        chosen = self.chosen
        weights = chosen.weights if chosen.teacher == "ensemble" else ""
        if chosen.teacher == "builtin":
            from benchmarks.tables import builtin

            return chosen.teacher, builtin.kind(self.seed_of_teacher(seed))
        return chosen.teacher, chosen.teacher_dim, self.seed_of_teacher(seed), chosen.ease_l2, weights

    def teacher_row(self, seed: int) -> tuple[UserScores, int]:
        teacher = self.teacher(self.seed_of_teacher(seed))
        return teacher.scores, teacher.size // 4

    def student_row(
        self, method: str, recipe: TableRecipe, taught: bool, dim: int, seed: int
    ) -> tuple[UserScores, int]:
        student = fit(
            self.pairs.train_UN,
            recipe,
            self.teacher(self.seed_of_teacher(seed)) if taught else None,
            dim=dim,
            seed=seed,
            every=self.chosen.every,
            prepared=self.rankings(method, self.seed_of_teacher(seed)) if taught and recipe.soft else None,
            validation=_validation(self.asker, f"{method}, dim {dim}, seed {seed}"),
        )
        return student.scores, student.size // 4

    def budget_row(self, recipe: TableRecipe, dim: int, seed: int, *, chosen: bool) -> tuple[UserScores, int]:
        """A student of a teacher that was asked about a share; a champion learnt by the recipe `bpr` chooses."""
        champion = self.champion(dim, seed).scores if chosen else None
        teacher = Partly(self.teacher(self.seed_of_teacher(seed)), self.chosen.budget, champion)
        validation = _validation(
            self.asker, f"{self.chosen.budget:.0%} {'chosen' if chosen else 'at random'}, dim {dim}"
        )
        every = self.chosen.every
        student = fit(self.pairs.train_UN, recipe, teacher, dim=dim, seed=seed, every=every, validation=validation)
        return student.scores, student.size // 4

    def _champion(self, dim: int, seed: int) -> TableStudent:
        validation = _validation(self.asker, f"champion, dim {dim}, seed {seed}")
        every = self.chosen.every
        return fit(
            self.pairs.train_UN, table_recipe("bpr"), None, dim=dim, seed=seed, every=every, validation=validation
        )

    def _teacher(self, seed: int) -> Any:
        validation = _validation(self.asker, f"teacher bpr-{self.chosen.teacher_dim}")
        return make_teacher(self.pairs, self.chosen, seed, self.key, validation)

    def _rankings(self, method: str, seed: int) -> dict[tuple[str, bool], Rankings]:
        return rankings_for(self.pairs.train_UN, table_recipe(method), self.teacher(seed))


def _validation(asker: Asker, name: str) -> Validation:
    began = time.monotonic()

    def validation(epoch: int, student: TableStudent) -> float:
        figure = asker.valid(student.scores)
        print(
            f"{name}: epoch {epoch}, valid {asker.decides} {figure:.4f}, {time.monotonic() - began:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        return figure

    return validation


def _formed(recipe: TableRecipe, form: Any, epochs: int | None) -> TableRecipe:
    """The recipe with another form of student, and at most so many epochs; None leaves either as it is."""

    def cut(settings: Fit) -> Fit:
        return msgspec.structs.replace(settings, epochs=min(settings.epochs, epochs or settings.epochs))

    return msgspec.structs.replace(
        recipe,
        student=msgspec.structs.replace(recipe.student, form=form or recipe.student.form),
        fit=cut(recipe.fit),
        by_dim={dim: cut(settings) for dim, settings in recipe.by_dim.items()},
        alone=recipe.alone and cut(recipe.alone),
    )


def run(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows."""
    pairs = read_pairs(chosen.train, chosen.valid, chosen.test)
    asker = Asker(pairs, chosen.protocol, chosen.draws)
    # All three decide what is kept: what is learnt from, how long, and who is asked about what.
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in (chosen.train, chosen.valid, chosen.test)]
    key = hashlib.sha256(b"".join(digests)).hexdigest()[:12]
    rows: list[dict[str, Any]] = []
    each: dict[tuple[str, int, int], dict[str, np.ndarray]] = {}
    table = pairs.train_UN

    def add(method: str, dim: int, seed: int, made: Callable[[], tuple[UserScores, int]], *how: object) -> None:
        """A row: out of the cache where the same was run before, else made and asked."""
        same = repr((VERSION, key, chosen.protocol, chosen.draws, chosen.every, method, dim, seed, how))
        file = chosen.cache / "rows" / f"{hashlib.sha256(same.encode()).hexdigest()[:20]}.npz"
        if not file.is_file():
            began = time.monotonic()
            scores, params = made()
            seconds = time.monotonic() - began
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(file, seconds=seconds, params=params, **asker.test(scores))
        with np.load(file, allow_pickle=False) as held:
            values = {name: held[name] for name in held.files if "@" in name}
            seconds, params = float(held["seconds"]), int(held["params"])
        each[method, dim, seed] = values
        row = {"method": method, "dim": dim, "seed": seed, "metrics": {n: float(v.mean()) for n, v in values.items()}}
        rows.append(row | {"seconds": round(seconds, 2), "params": params, "teacher": chosen.teacher})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    counts = np.asarray(table.sum(0)).ravel()
    for method, make in {
        "popularity": lambda: (lambda users: np.tile(counts, (len(users), 1)), len(counts)),
        "itemknn": lambda: _linear_row(linear.itemknn(table), table),
        "ease": lambda: _linear_row(linear.ease(table, chosen.ease_l2), table),
    }.items():
        if chosen.only and method not in chosen.only.split(","):
            continue
        add(method, 0, 0, make, chosen.ease_l2)
    names = chosen.recipe.split(",")
    dims = [int(dim) for dim in chosen.student_dim.split(",")]
    school = School(pairs, asker, chosen, key)
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        whose = school.whose(seed)
        add("teacher", chosen.teacher_dim, seed, functools.partial(school.teacher_row, seed), whose)
        for dim in dims:
            plan: list[tuple[str, TableRecipe, bool]] = [("bpr", table_recipe("bpr"), False)]
            for name in names:
                recipe = _formed(table_recipe(name), chosen.form, chosen.epochs)
                control = recipe.without_teacher()
                if all(control != other for _, other, _ in plan):
                    plan.append((f"{name} without teacher", control, False))
                plan.append((name, recipe, True))
            for method, recipe, taught in plan:
                if chosen.only and method not in chosen.only.split(","):
                    continue
                made = functools.partial(school.student_row, method, recipe, taught, dim, seed)
                used = msgspec.structs.replace(recipe, fit=recipe.fit_of(dim), by_dim={})
                add(method, dim, seed, made, used, whose if taught else None)
            if chosen.budget < 1:
                recipe = _formed(table_recipe(names[0]), chosen.form, chosen.epochs)
                used = msgspec.structs.replace(recipe, fit=recipe.fit_of(dim), by_dim={})
                for how, by_champion in (("chosen", True), ("at random", False)):
                    made = functools.partial(school.budget_row, recipe, dim, seed, chosen=by_champion)
                    add(f"{names[0]}, {chosen.budget:.0%} {how}", dim, seed, made, used, whose, chosen.budget)
    tell(rows, each, names, asker)
    if chosen.picture:
        metric = "ndcg@20" if chosen.protocol == "full" else "ndcg@10"
        chosen.picture.write_text(picture(rows, metric), encoding="utf-8")
    return rows


def _linear_row(scorer: Any, table: Any) -> tuple[UserScores, int]:
    return (lambda users: scorer(table[users])), scorer.size // 4


def tell(rows: list[dict[str, Any]], each: dict[Any, dict[str, np.ndarray]], names: list[str], asker: Asker) -> None:
    """Means and deviations over the seeds, and whether the first recipe is above the others."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["method"], row["dim"]), []).append(row)
    metrics = list(rows[0]["metrics"])
    print(f"\n{'method':26}{'dim':>5}{'seeds':>6}" + "".join(f"{name:>18}" for name in metrics) + f"{'s':>8}")
    for (method, dim), mine in found.items():
        cells = []
        for name in metrics:
            values = [row["metrics"][name] for row in mine]
            deviation = f" ±{np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{deviation}")
        seconds = np.median([row["seconds"] for row in mine])
        print(
            f"{method:26}{dim or '':>5}{len(mine):>6}" + "".join(f"{cell:>18}" for cell in cells) + f"{seconds:>8.0f}"
        )
    print(f"\n{names[0]} against each, {asker.decides}: mean difference over users and seeds, two-sided p")
    for dim in [dim for method, dim in found if method == names[0]]:
        for other in found:
            if other == (names[0], dim) or (other[1] != dim and other[0] not in DIMENSIONLESS):
                continue
            gaps = differences(each, (names[0], dim), other, asker.decides)
            # A user's differences are averaged over the seeds first: seeds share their users.
            gap = np.mean(gaps, 0)
            p = stats.ttest_1samp(gap, 0.0).pvalue if gap.std() > 0 else math.nan
            across = ""
            if len(gaps) > 1:
                across = f", over {len(gaps)} seeds p {stats.ttest_1samp([g.mean() for g in gaps], 0.0).pvalue:.1e}"
            print(f"  {dim:>4} dimensions, {other[0]:26}  {gap.mean():+.4f}  p {p:.1e}{across}")


DIMENSIONLESS = ("teacher", "popularity", "itemknn", "ease")
"""What a student is compared with whatever its dimension."""


def differences(
    each: dict[tuple[str, int, int], dict[str, np.ndarray]], one: tuple[str, int], other: tuple[str, int], metric: str
) -> list[np.ndarray]:
    """By users, for each seed that both have; what is learnt without a seed stands beside all of them."""
    mine, theirs = (
        {seed: values[metric] for (method, dim, seed), values in each.items() if (method, dim) == key}
        for key in (one, other)
    )
    if other[1] == 0:
        theirs = dict.fromkeys(mine, theirs[0])
    return [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]


def _short_size(count: float) -> str:
    """Bytes for an axis: 100 kB, 1 MB, 1 GB."""
    power = next(power for power in (9, 6, 3, 0) if count >= 10**power or power == 0)
    return f"{count / 10**power:.3g} { {9: 'GB', 6: 'MB', 3: 'kB', 0: 'B'}[power] }"


STYLE = """<style>
svg { background: #fff; font: 11px system-ui, sans-serif }
line { stroke: #ddd } line.lead { stroke: #bbb } text { fill: #555 } text.name { fill: #222 }
circle { fill: #8a8f98 } circle.student { fill: #0a7d4f } circle.teacher { fill: #b35c00 }
</style>"""


def picture(rows: list[dict[str, Any]], metric: str) -> str:
    """Quality against bytes, the mean over the seeds of each method and dimension, as an SVG file."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["method"], row["dim"]), []).append(row)
    points = []
    for (method, dim), mine in found.items():
        hue = "teacher" if method == "teacher" else "student" if method == "default" else "other"
        name = f"{method} {dim}" if dim and method != "teacher" else method
        points.append((name, hue, 4.0 * mine[0]["params"], float(np.mean([row["metrics"][metric] for row in mine]))))
    drawn = scatter(points, _short_size)
    head, _, body = drawn.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{body}\n'


def _citeulike(protocol: str, part: str) -> Path:
    """HTD's split for `full`, DE-RRD's for `loo499`."""
    file = data_set("citeulike") / f"loo_{'topology' if protocol == 'full' else 'derrd'}_{part}.tsv"
    if not file.is_file():
        absent(f"{file} is not here; give your own with --train, --valid and --test")
    return file


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, teacher="linear", student_dim="8", epochs=10, only="teacher,default,popularity")
    for part in ("train", "valid", "test"):
        parser.add_argument(
            f"--{part}", type=Path, metavar="F", help="lines of user<TAB>item (default: CiteULike, where it is at hand)"
        )
    parser.add_argument("--protocol", choices=["full", "loo499"], default="full")
    parser.add_argument("--recipe", default="default", help="names or files, with commas (default: default)")
    parser.add_argument("--teacher", choices=["bpr", "linear", "ensemble", "builtin"], default="bpr")
    parser.add_argument("--teacher-dim", type=int, default=200, metavar="D")
    parser.add_argument("--student-dim", default="20", metavar="D[,D…]")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--teachers", choices=["one", "each"], default="one", help="one for all seeds, or one for each (default: one)"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="below 1: rows for students of the first recipe whose teacher was asked about this share of each user's"
        " items, chosen as the scorer chooses and at random",
    )
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--picture", type=Path, metavar="SVG", help="quality against bytes, drawn into this file")
    parser.add_argument("--draws", type=int, default=5, help="loo499: how often the 499 are drawn")
    parser.add_argument("--every", type=int, default=10, help="epochs between two looks at the validation part")
    parser.add_argument("--ease-l2", type=float, default=60.0)
    parser.add_argument("--weights", default="0.5,0.25,1", help="ensemble: of EASE, graph filter and BPR")
    parser.add_argument(
        "--form", choices=["rows", "history", "tied"], help="of the students: a row for each user, or a history alone"
    )
    parser.add_argument("--epochs", type=int, help="of the students: at most so many (default: as the recipe has it)")
    parser.add_argument("--only", help="methods to run, with commas; the others are left out")
    parser.add_argument(
        "--cache", type=Path, default=Path(".cache/distillation"), help="where teachers and finished rows are kept"
    )
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 is its own choice")
    return parser


def main() -> None:
    chosen = options().parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    for part in ("train", "valid", "test"):
        if getattr(chosen, part) is None:
            setattr(chosen, part, _citeulike(chosen.protocol, part))
    try:
        for name in chosen.recipe.split(","):
            check(table_recipe(name))
        _check_only(chosen)
        run(chosen)
    except RecdistillError as e:
        sys.exit(f"bench_distillation: {e}")


def _check_only(chosen: argparse.Namespace) -> None:
    """A method that `--only` names and nobody makes a row of would be missed after all the others are done."""
    names = chosen.recipe.split(",")
    known = ["teacher", "popularity", "itemknn", "ease", "bpr", *names, *(f"{name} without teacher" for name in names)]
    for method in (chosen.only or "teacher").split(","):
        if method not in known:
            raise ConfigError(f"--only {method}: there is no such row here; there are {', '.join(known)}")


if __name__ == "__main__":
    main()
