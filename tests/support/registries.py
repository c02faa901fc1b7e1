"""Bundles to publish, and what a judge might have found about them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from recdistill.bundle import Bundle
from recdistill.config import LogSettings
from recdistill.ledger import NO_KEYS, Keys, Ledger
from recdistill.registry import Evidence, Registry
from recdistill.release import as_writer, policy_digest
from recdistill.stream import open_log
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


def ledger_at(folder: Path, name: str, keys: Keys = NO_KEYS) -> Ledger:
    """The ledger of a model on an embedded log in a folder, which ends with the test."""
    return Ledger(open_log(LogSettings(path=str(folder / "log.sqlite"))), name, keys)


def note(ledger: Ledger, evidence: Evidence, *, promotes: bool = False) -> None:
    """Writes a verdict into the ledger, as the judge does."""
    facts = {
        "passed": evidence.passed,
        "policy_digest": policy_digest({}),
        "evidence": msgspec.to_builtins(evidence),
        "promotes": promotes,
    }
    as_writer(
        ledger,
        lambda writer: writer.append("judged", who="judge", content_hash=evidence.content_hash, facts=facts),
    )


def published(registry: Registry, ledger: Ledger, bundle: Bundle, evidence: Evidence) -> str:
    """A version with evidence that the ledger has too; its number."""
    note(ledger, evidence)
    return registry.publish(bundle, evidence).number
