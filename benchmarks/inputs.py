"""What a benchmark starts from when nothing is named: public data sets beside the clone, and a small finished demo.

The data sets do not ship. A whole demo takes a quarter of an hour. So a small one is made here, once, and again when
the code has changed since.

It knows nothing of what is measured.

Example:
    >>> data_set("ml-100k").name
    'ml-100k'
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".cache" / "benchmarks"
IMPRESSIONS = 2500
REFUSED = 7
"""Exit code of a demo whose student did not pass the gate: its folder is finished all the same."""


def data_set(name: str) -> Path:
    """Where a public data set would lie: in RECDISTILL_SHARED/data, or in shared/data beside the clone."""
    return Path(os.environ.get("RECDISTILL_SHARED") or ROOT.parent / "shared") / "data" / name


def demo_or(folder: Path | None) -> Path:
    """The folder that was given, else that of a small finished demo."""
    return small_demo() if folder is None else folder


def small_demo(place: Path = KEPT / "simulated-0", impressions: int = IMPRESSIONS) -> Path:
    """The folder of a finished demo on a small simulated world; made first where there is none of this code."""
    told = place / "summary.json"
    newest = max(file.stat().st_mtime for file in (ROOT / "recdistill").rglob("*.py"))
    if told.is_file() and told.stat().st_mtime > newest:
        print(f"taking the small demo in {place}", file=sys.stderr, flush=True)
        return place
    print(f"making a small demo in {place}: {impressions:,} impressions, a minute or two", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "recdistill", "demo", "--impressions", str(impressions), "--output", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, REFUSED):
        raise SystemExit(f"the small demo ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    return place
