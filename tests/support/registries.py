"""Bundles to publish, and what a judge might have found about them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from recdistill.bundle import Bundle
from recdistill.registry import Evidence
from references.students import make_student


def make_bundle(folder: Path, text: str) -> Bundle:
    """A bundle of its own for each text."""
    return make_student(12, seed=zlib.crc32(text.encode())).export(folder)


def judged(
    bundle: Bundle, *, passed: bool = True, reasons: Sequence[str] = ("retention .97 is at least .95",)
) -> Evidence:
    """A verdict about a bundle's content."""
    return Evidence(
        content_hash=bundle.content_hash,
        passed=passed,
        reasons=list(reasons),
        metrics={"ndcg@10": 0.25},
        made_at="2026-01-02T03:04:05+00:00",
        judged=500,
    )
