"""What does the demo show over several seeds, and does distillation help beyond chance?

Runs `recdistill demo` for each seed and puts the paired differences together. The seeds of one data set have the same
held-out lists, or similar ones. So the common interval takes them as fully dependent: from the mean of the runs' lower
ends to the mean of their upper ends. That is wider than the truth, never narrower.

    python -m benchmarks.bench_demo                                        # the simulated world, seeds 0, 1, 2
    python -m benchmarks.bench_demo --dataset ml-100k --data path/to/ml-100k
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.forms import Options
from benchmarks.inputs import KEPT, small_demo

DIFFERENCES = ("student_minus_no_kd", "student_minus_popularity", "teacher_minus_popularity", "student_minus_teacher")


def summary_of(dataset: str, data: Path | None, seed: int, out: Path, *, again: bool) -> dict[str, Any]:
    """The summary of one run; an earlier one in the same place is taken unless it is to be made again."""
    place = out / f"{dataset}-{seed}"
    file = place / "summary.json"
    if again or not file.is_file():
        command = [sys.executable, "-m", "recdistill", "demo", "--dataset", dataset, "--seed", str(seed)]
        command += ["--output", str(place), *(["--data", str(data)] if data else [])]
        # A student that the gate refuses is a result too: its summary is there.
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    summary: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return summary


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, seeds=1, output=KEPT)
    parser.add_argument("--dataset", default="simulated", choices=["simulated", "ml-100k"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("recdistill-seeds"))
    parser.add_argument("--again", action="store_true", help="run also what has a summary already")
    return parser


def main() -> None:
    chosen = options().parse_args()
    if chosen.short and chosen.output == KEPT:
        small_demo()  # of seed 0, so the one run that is asked for is there
    runs = [
        summary_of(chosen.dataset, chosen.data, seed, chosen.output, again=chosen.again) for seed in range(chosen.seeds)
    ]
    names = [name for name in runs[0]["metrics"] if all(name in run["metrics"] for run in runs)]
    print(f"{chosen.dataset}, NDCG@10 by seed\n")
    print(f"{'':20}" + "".join(f"{'seed ' + str(run['seed']):>10}" for run in runs) + f"{'mean':>10}")
    for name in sorted(names, key=lambda name: -mean(run["metrics"][name]["ndcg@10"] for run in runs)):
        values = [run["metrics"][name]["ndcg@10"] for run in runs]
        print(f"{name:20}" + "".join(f"{value:10.4f}" for value in values) + f"{mean(values):10.4f}")
    print(f"\n{'difference':28}{'mean':>9}   95% interval, pooled")
    for name in DIFFERENCES:
        found = [run[name] for run in runs]
        low, high = (mean(one[end] for one in found) for end in ("low", "high"))
        print(f"{name:28}{mean(one['mean'] for one in found):+9.4f}   [{low:+.4f}, {high:+.4f}]")
    print()
    for label, values in {
        "retention": [f"{run['retention']:.3f}" for run in runs],
        "teacher bytes / student bytes": [
            f"{run['size_bytes']['teacher'] / run['size_bytes']['student']:.1f}" for run in runs
        ],
        "parity, max abs": [f"{run['parity_max_abs']:.1e}" for run in runs],
        "device overlap@10": [f"{run['device_overlap@10']:.3f}" for run in runs],
        "seconds in all": [f"{run['seconds']['all']:.0f}" for run in runs],
    }.items():
        print(f"{label:32}" + "".join(f"{value:>10}" for value in values))


if __name__ == "__main__":
    main()
