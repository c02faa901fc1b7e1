"""The summary of a live demo as a table, on stdout.

It knows nothing of how anything was run.

Example:
    >>> tell_live({"ndcg@10": {"before": {"live": 0.5}, "after": {}, "end": {"live": 0.4}}, "shift_s": 40.0,
    ...            "versions": {"judged": 3, "promoted": 2, "refused": 1}, "lists": 900, "learnt": 950, "requests": 300,
    ...            "failures": 0, "p50_ms": 2.0, "p99_ms": 5.5, "lag_s": {"p50": 1.1, "p99": 2.5}}, Path("out"))
    <BLANKLINE>
    NDCG@10 on what came next  before the turn   just after it   at the end
    live student                       0.5000               –       0.4000
    Versions: 3 judged, 2 promoted, 1 refused.
    900 lists were shown, 950 examples learnt; learning was behind by 1.1 s (p50), 2.5 s (p99).
    300 requests, 0 failed; p50 2.0 ms, p99 5.5 ms.
    Showed: back no, frozen no, versions no, failed no, cost no.
    The summary: out/summary.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from recdistill.demo.live.showed import NAMES

_NAMES: Final = {
    "teacher": "teacher",
    "live": "live student",
    "frozen": "frozen student",
    "control": "student without teacher",
    "popularity": "popularity of late",
}


def shown(summary: dict[str, Any]) -> str:
    """What the demo was to show, each with yes or no: `summary["showed"]` in words."""
    showed = summary.get("showed", {})
    return ", ".join(f"{name} {'yes' if showed.get(name) else 'no'}" for name in NAMES)


def tell_live(summary: dict[str, Any], out: Path) -> None:
    """Prints the summary."""
    parts = [summary["ndcg@10"].get(part, {}) for part in ("before", "after", "end")]
    print(f"\n{'NDCG@10 on what came next':26}{'before the turn':>16}{'just after it':>16}{'at the end':>13}")
    for name, words in _NAMES.items():
        if any(name in part for part in parts):
            cells = [f"{part[name]:.4f}" if name in part else "–" for part in parts]
            print(f"{words:26}{cells[0]:>15}{cells[1]:>16}{cells[2]:>13}")
    versions, lag = summary["versions"], summary.get("lag_s")
    print(f"Versions: {versions['judged']} judged, {versions['promoted']} promoted, {versions['refused']} refused.")
    behind = "" if lag is None else f"; learning was behind by {lag['p50']} s (p50), {lag['p99']} s (p99)"
    print(f"{summary.get('lists', 0):,} lists were shown, {summary.get('learnt') or 0:,} examples learnt{behind}.")
    if summary.get("p50_ms") is not None:
        print(
            f"{summary['requests']:,} requests, {summary['failures']:,} failed; p50 {summary['p50_ms']} ms, "
            f"p99 {summary['p99_ms']} ms."
        )
    if (cost := summary.get("cost")) is not None:
        print(
            f"1,000 answers: teacher {cost['teacher_s']:.2f} processor seconds ({cost['teacher']}), student "
            f"{cost['student_s']:.2f}; {cost['ratio']:.1f} times as much."
        )
    found = summary.get("recovered", {})
    for name in ("live", "frozen", "control"):
        if "low" in found.get(name, {}):
            one, times = found[name], f"from {found['from_s']:.0f} to {found['until_s']:.0f} s"
            print(
                f"{_NAMES[name]}: {one['share']:.2f} of the earlier lead, {found['lead']:.4f}, {times} (95% interval "
                f"{one['low']:.2f} to {one['high']:.2f})."
            )
    for act in summary.get("acts", []):
        print(f"{act['at_s']:6.0f} s  {act['said']}")
    print(f"Showed: {shown(summary)}.")
    print(f"The summary: {out / 'summary.json'}")
