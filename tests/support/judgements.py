"""An invented judgement with all its parts, for tests of the gate and the report."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from recdistill.judge import figures
from recdistill.judge.judgement import (
    Agreement,
    Difference,
    Disagreement,
    Judgement,
    Latency,
    Quality,
    Shipped,
    SliceQuality,
)
from recdistill.judge.slices import Slice
from recdistill.metrics import Interval

MEANS = {
    "student": 0.1031,
    "teacher": 0.1004,
    "student_no_kd": 0.0945,
    "device": 0.1029,
    "popularity": 0.0305,
    "popularity_recent": 0.0325,
    "itemknn": 0.0712,
    "ease": 0.0768,
    "chance": 0.0012,
}
FACTORS = {"ndcg@10": 1.0, "recall@10": 2.0, "hit_rate@10": 2.0, "mrr@100": 0.9}
SLICES = [
    ("new users", "at most 5 events of history", 812, 0.9),
    ("heavy users", "at least 30 events of history", 6411, 1.02),
    ("popular items", "the most liked items that make up 50% of the training interactions", 6110, 1.4),
    ("rare items", "all other items that occur in the training part", 3790, 0.4),
    ("new items", "items that do not occur in the training part", 0, 0.0),
]


def around(mean: float, width: float, n: int = 10_000) -> Interval:
    return Interval(mean, mean - width, mean + width, n)


def make_judgement(hostile: str = "Twelve Monkeys (1995)") -> Judgement:
    seconds = {"student": 0.41, "teacher": 9.7, "student_no_kd": 0.4, "device": 0.6, "itemknn": 0.3, "ease": 0.35}
    films = ["Fargo (1996)", "Star Wars (1977)", "Contact (1997)", "Alien (1979)", "Babe (1995)", "Heat (1995)"]
    more = ["Se7en (1995)", "Jaws (1975)", "Evita (1996)", "Scream (1996)", "Ran (1985)", "Gattaca (1997)"]
    return Judgement(
        content_hash="5e1f" * 16,
        made_at="2026-01-02T03:04:05+00:00",
        seed=0,
        lists=9_900,
        catalogue=1_682,
        relevant_popularity=0.82,
        contenders=[
            Quality(
                name=name,
                metrics={metric: around(mean * factor, 0.004 * factor) for metric, factor in FACTORS.items()},
                coverage=None if name == "chance" else 0.3 if mean > 0.09 else 0.1,
                popularity=None if name == "chance" else 0.8 + mean,
                seconds_per_1000=None if name == "chance" else seconds.get(name, 0.1),
            )
            for name, mean in MEANS.items()
        ],
        differences=[
            Difference(a="student", b=name, metric="ndcg@10", interval=around(MEANS["student"] - mean, 0.003))
            for name, mean in MEANS.items()
            if name != "student"
        ],
        slices=[
            SliceQuality(
                name=name,
                meaning=meaning,
                n=n,
                metrics={c: {"ndcg@10": around(m * factor, 0.008, n)} for c, m in MEANS.items()} if n else {},
            )
            for name, meaning, n, factor in SLICES
        ],
        agreement=Agreement(overlap=around(0.55, 0.004), tau=around(0.61, 0.01, 2000)),
        retention=around(1.027, 0.031),
        retention_on="whole catalogue",
        above_chance=True,
        protocol_why="the settings ask for it",
        parity={"towers at export": 2.4e-6, "golden answers": 5.1e-6},
        latency=Latency(p50_ms=0.21, p99_ms=0.48, n=300),
        sizes={
            "teacher": 2_500_000,
            "student": 160_000,
            "student_int8": 71_000,
            "student_no_kd": 160_000,
            "device": 98_000,
            "popularity": 6_728,
            "popularity_recent": 6_728,
            "itemknn": 2_100_000,
            "ease": 11_316_496,
            "bundle": 620_000,
        },
        disagreements=[
            Disagreement(
                request=f"r{n}",
                overlap=n / 10,
                history=[*films[:3], hostile],
                liked=[films[n % 6]],
                teacher=[*films, *more[:4]],
                student=[*films[: n + 1], *more[::-1], hostile][:10],
            )
            for n in range(4)
        ],
        shipped=Shipped(
            lists=500, overlap=around(0.97, 0.01, 500), kept=around(0.99, 0.01, 500), finite=True, bytes=98_000
        ),
        skipped={"relevant items all seen before": 100},
        provenance={"recipe": {"dim": 16, "temperature": 2.0}, "note": hostile},
        seconds={"in all": 31.0},
    )


def judged_lists(
    student: NDArray[np.float64],
    champion: NDArray[np.float64],
    teacher: NDArray[np.float64],
    users: NDArray[np.int64],
    slices: dict[str, NDArray[np.bool_]] | None = None,
) -> Judgement:
    """A judgement of lists whose NDCG@10 is given, made by the judge's own figures. Chance is 0 everywhere."""
    values = {
        name: {"ndcg@10": of}
        for name, of in {
            "student": student,
            "teacher": teacher,
            "champion": champion,
            "popularity": student - 0.1 + 0.01 * np.sin(np.arange(len(student))),
            "chance": np.zeros(len(student)),
        }.items()
    }
    made = make_judgement()
    of = values["student"]["ndcg@10"], values["teacher"]["ndcg@10"], values["chance"]["ndcg@10"]
    kept, why = figures.above_chance(*of, seed=0, draws=200, users_B=users)
    measured = figures.intervals(values, 0, 200, users)
    parts = [Slice(name, name, rows) for name, rows in (slices or {}).items()]

    def measure(rows: NDArray[np.int64], _: NDArray[np.float64]) -> figures.Values:
        return {name: {"ndcg@10": figure["ndcg@10"][rows]} for name, figure in values.items()}

    return msgspec.structs.replace(
        made,
        lists=len(student),
        contenders=[
            *(Quality(name=name, metrics=of) for name, of in measured.items()),
            *(one for one in made.contenders if one.name not in measured),
        ],
        differences=[
            *figures.differences(values, 0, 200, users),
            *(one for one in made.differences if one.b not in measured),
        ],
        slices=figures.slice_qualities(parts, np.zeros((len(student), 1)), measure, seed=0, draws=200, users_B=users),
        leads={
            "teacher": figures.lead(*of, users),
            "champion": figures.lead(student, champion, np.zeros(len(student)), users),
        },
        retention=kept,
        retention_why=why,
    )
