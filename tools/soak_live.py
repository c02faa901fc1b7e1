"""Full runs of the live demo, one after another, and what each of them showed: a table.

    make soak-live                        # seeds 0, 1 and 2, 7.5 minutes each; ARGS="--seeds 3 --kafka HOST:PORT"

Each run is `recdistill demo --live --json`, as a person starts it. It ends with an error when a sentence of the page
does not hold in some run. `--keep` keeps the folders of the runs; a run whose summary is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

LINES: Final = ("teacher", "live", "frozen", "control", "popularity")

Summary = Mapping[str, Any]


def run(folder: Path, *, seed: int, seconds: int, kafka: str | None) -> Summary:
    """One run, or the summary of the one that was made before.

    Raises:
        SystemExit: The demo failed; its own error is on stderr.
    """
    kept = folder / "summary.json"
    if not kept.is_file():
        command = [sys.executable, "-m", "recdistill", "demo", "--live", "--json", "--output", str(folder)]
        command += ["--seed", str(seed), "--seconds", str(seconds)]
        command += [] if kafka is None else ["--kafka", kafka]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise SystemExit(f"the demo of seed {seed} ended with {done.returncode}")
    found: Summary = json.loads(kept.read_text(encoding="utf-8"))
    return found


def failed(summary: Summary) -> list[str]:
    """The names of the sentences that do not hold."""
    return [name for name, holds in summary["showed"].items() if holds is not True] or (
        [] if summary["showed"] else ["everything: nothing was measured"]
    )


def table(runs: Sequence[Summary]) -> str:
    """What each run showed, in two tables of Markdown."""
    head = ["seed", "lead before the turn", "live", "frozen", "without the teacher", "judged, promoted, refused"]
    head += ["failed of requests", "p50, p99 of an answer", "1,000 answers: teacher, student", "times"]
    rows = [head, ["---"] * len(head)]
    for one in runs:
        found, counts, cost = one.get("recovered", {}), one["versions"], one.get("cost")
        rows.append(
            [
                str(one["seed"]),
                f"{found['lead']:.3f}" if "lead" in found else "–",
                *(_share(found.get(name)) for name in ("live", "frozen", "control")),
                ", ".join(str(counts[name]) for name in ("judged", "promoted", "refused")),
                f"{one['failures']} of {one['requests']:,}",
                "–" if one["p50_ms"] is None else f"{one['p50_ms']:.1f}, {one['p99_ms']:.1f} ms",
                "–" if cost is None else f"{cost['teacher_s']:.2f}, {cost['student_s']:.2f} s",
                "–" if cost is None else f"{cost['ratio']:.1f}",
            ]
        )
    said = [_lines(rows)]
    names = ("without the teacher" if name == "control" else name for name in LINES)
    rows = [["seed", "NDCG@10", *names], ["---"] * (2 + len(LINES))]
    for one in runs:
        for part, words in (("before", "before the turn"), ("after", "the 10 s after it"), ("end", "at the end")):
            means = one["ndcg@10"].get(part, {})
            rows.append([str(one["seed"]), words, *(f"{means[name]:.3f}" if name in means else "–" for name in LINES)])
    return "\n\n".join([*said, _lines(rows)])


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _share(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "–"
    return f"{found['share']:.2f}" + (f" [{found['low']:.2f}, {found['high']:.2f}]" if "low" in found else "")


def main() -> int:
    """Runs, prints, and says by the exit code whether every sentence held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", default="0,1,2", help="seeds of the runs, with commas (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=450, help="of each stream (default: %(default)s)")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="run them on this broker")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the folders of the runs here")
    told = parser.parse_args()
    runs: list[Summary] = []
    with tempfile.TemporaryDirectory() as place:
        for seed in map(int, told.seeds.split(",")):
            folder = (told.keep or Path(place)).resolve() / f"seed-{seed}"
            print(f"seed {seed}: {told.seconds} s, into {folder}", file=sys.stderr, flush=True)
            runs.append(run(folder, seed=seed, seconds=told.seconds, kafka=told.kafka))
    print(table(runs))
    wrong = {one["seed"]: names for one in runs if (names := failed(one))}
    for seed, names in wrong.items():
        print(f"recdistill: seed {seed}: does not hold: {', '.join(names)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
