"""The results of a demo: `summary.json`, and the table at the end on stdout.

It knows nothing of how anything was run.

Example:
    >>> size_text(98_765), size_text(1_234_567)
    ('99 kB', '1.23 MB')
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from recdistill.demo.story import Story
from recdistill.judge import CONTROL, Judgement
from recdistill.progress import folder_bytes
from recdistill.stream import Log

_NEAR: Final = 0.05
"""A share that differs from a simple fraction by at most this part is told as this fraction."""

_PARTS: Final = {
    2: "half",
    3: "a third of",
    4: "a quarter of",
    5: "a fifth of",
    6: "a sixth of",
    7: "a seventh of",
    8: "an eighth of",
    9: "a ninth of",
    10: "a tenth of",
    11: "an eleventh of",
    12: "a twelfth of",
    15: "a fifteenth of",
    20: "a twentieth of",
}


def summarise(
    dataset: str,
    seed: int,
    judgement: Judgement,
    story: Story,
    latency: dict[str, float],
    overlap: float,
    log: Log,
    version: Any,
    artefacts: tuple[Path, Path, int],
) -> dict[str, Any]:
    """All results of the demo, as plain data."""
    teacher_dir, bundle, device_bytes = artefacts

    def interval(a: str, b: str) -> dict[str, float] | None:
        found = judgement.difference(a, b)
        return None if found is None else {"mean": found.mean, "low": found.low, "high": found.high}

    def cost(name: str) -> float | None:
        quality = judgement.quality(name)
        return None if quality is None else quality.processor_s_per_1000

    teacher_s, student_s = cost("teacher"), cost("student")
    return {
        "dataset": dataset,
        "seed": seed,
        "metrics": {
            quality.name: {name: quality.metrics[name].mean for name in ("ndcg@10", "recall@10")}
            for quality in judgement.contenders
        },
        "lists": judgement.lists,
        "student_minus_no_kd": interval("student", "student_no_kd"),
        "student_minus_popularity": interval("student", "popularity"),
        "student_minus_teacher": interval("student", "teacher"),
        "teacher_minus_popularity": interval("teacher", "popularity"),
        "retention": None if judgement.retention is None else judgement.retention.mean,  # above chance
        "parity_max_abs": max(judgement.parity.values()),
        "device_overlap@10": overlap,
        "latency_ms": latency,
        "size_bytes": {
            "teacher": folder_bytes(teacher_dir),
            "student": judgement.sizes["student"],
            "student_int8": judgement.sizes["student_int8"],
            "bundle": folder_bytes(bundle),
            "device": device_bytes,
        },
        "cost": {
            "teacher_processor_s_per_1000": teacher_s,
            "student_processor_s_per_1000": student_s,
            "ratio": teacher_s / student_s if teacher_s and student_s else None,
        },
        "teacher_calls": None if judgement.spending is None else msgspec.to_builtins(judgement.spending),
        "seconds": {**story.seconds, "all": round(sum(story.seconds.values()), 2)},
        "records": records_of(log),
        "version": version.number,
        "content_hash": version.content_hash,
    }


def tell(
    summary: dict[str, Any],
    judgement: Judgement,
    passed: bool,
    out: Path,
) -> None:
    """Prints the table of results on stdout."""
    print(f"\n{'':20}{'NDCG@10':>9}{'recall@10':>11}{'size':>12}")
    sizes = {"teacher": summary["size_bytes"]["teacher"], "student": summary["size_bytes"]["student"]}
    for quality in sorted(judgement.contenders, key=lambda quality: -quality.metrics["ndcg@10"].mean):
        size = size_text(sizes[quality.name]) if quality.name in sizes else ""
        figures = quality.metrics
        name = "without a teacher" if quality.name == CONTROL else quality.name
        print(f"{name:20}{figures['ndcg@10'].mean:9.4f}{figures['recall@10'].mean:11.4f}{size:>12}")
    for key, other in (("no_kd", "the one without a teacher"), ("popularity", "popularity")):
        if found := summary[f"student_minus_{key}"]:
            interval = f"[{found['low']:+.4f}, {found['high']:+.4f}]"
            print(f"NDCG@10 of the student less {other}: {found['mean']:+.4f}, 95% interval {interval}")
    for sentence in kept(summary):
        print(sentence)
    print(f"The demo took {summary['seconds']['all']:.0f} s.\n")
    print(f"The report:      {out / 'report.html'}")
    print(f"The device file: {out / 'device.onnx'} ({size_text(summary['size_bytes']['device'])})")
    print(f"The summary:     {out / 'summary.json'}")
    if not passed:
        return
    name, config = command(), shlex.quote(str(out / "settings.toml"))
    print("\nNext:")
    print(f"  {name} serve --config {config}                 # serve the champion")
    print(f"  {name} versions --config {config}              # what is registered, and why it serves")
    print(f"  {name} inspect rankings --config {config} -n 3 # look at the stream")


def kept(summary: Mapping[str, Any]) -> list[str]:
    """What the student keeps of its teacher, and what it takes for it: one sentence each. None, if it is not known."""
    if summary["retention"] is None:
        return []
    sizes, ratio = summary["size_bytes"], summary["cost"]["ratio"]
    small, whole = (share_text(sizes[name] / sizes["teacher"], "the teacher's bytes") for name in ("student", "bundle"))
    spent = share_text(1 / ratio, "the teacher's processor time") if ratio else ""
    return [
        f"The student keeps {summary['retention']:.1%} of its teacher's NDCG@10, both counted above chance.",
        f"Its user tower and item vectors have {small}.",
        f"The whole bundle has {whole}.",
        *([f"An answer takes {spent}."] if spent else []),
    ]


def share_text(share: float, of: str) -> str:
    """A share of something, for people who read no formulas.

    Args:
        share: Such as 0.5; it may be above 1.
        of: What it is a share of.

    Example:
        >>> share_text(0.111, "the cake"), share_text(2.03, "the cake"), share_text(0.62, "the cake")
        ('a ninth of the cake', 'twice the cake', '62% of the cake')
    """
    if share > 1 + _NEAR:
        if abs(share / 2 - 1) <= _NEAR:
            return f"twice {of}"
        return f"{share:,.0f} times {of}" if share >= 9.95 else f"{share:.2g} times {of}"
    if share < 1e-4:
        return f"less than 0.01% of {of}"
    parts = round(1 / share)
    if parts in _PARTS and abs(parts * share - 1) <= _NEAR:
        return f"{_PARTS[parts]} {of}"
    return f"{share:.0%} of {of}" if share >= 0.0995 else f"{100 * share:.2g}% of {of}"


def command() -> str:
    """What to type for `recdistill`: its name if the shell finds it, otherwise the path of the running file."""
    running = Path(sys.argv[0])
    found = shutil.which("recdistill")
    if running.name != "recdistill" or (found is not None and Path(found).resolve() == running.resolve()):
        return "recdistill"
    return shlex.quote(str(running))


def records_of(log: Log) -> dict[str, int]:
    """How many records each topic holds."""
    counts = dict.fromkeys(sorted(log.topics()), 0)
    source = log.source(list(counts))
    while messages := source.read(10_000, 0.0):
        for message in messages:
            counts[message.tp.topic] += 1
    source.close()
    return counts


def size_text(size: int) -> str:
    """A size, written for people."""
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
