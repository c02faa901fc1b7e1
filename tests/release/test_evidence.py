"""Where a policy asks for less than the one before, and what an entry of the ledger must have to allow a promotion."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.registries import ledger_at

from recdistill.config import GateSettings
from recdistill.judge import Asked
from recdistill.ledger import Ledger, make_key, open_keys
from recdistill.release import as_writer
from recdistill.release.evidence import (
    LESS_IS_WEAKER,
    MORE_IS_WEAKER,
    NONE_OR_MORE_IS_WEAKER,
    policy_of,
    weaker,
    why_not,
)

CONTENT = "ab" * 32


@pytest.mark.parametrize(
    ("name", "before", "after", "less"),
    [
        ("retention", 0.95, 0.9, True),
        ("retention", 0.9, 0.95, False),
        ("beats_popularity", True, False, True),
        ("parity", 1e-4, 1e-3, True),
        ("parity", 1e-4, 0.0, False),
        # 0: slices are not looked at.
        ("slice_loss", 0.05, 0.0, True),
        ("slice_loss", 0.05, 0.1, True),
        ("slice_loss", 0.05, 0.01, False),
        ("slice_loss", 0.0, 0.05, False),
        # 0: there is no limit.
        ("most_bytes", 100, 0, True),
        ("most_bytes", 0, 100, False),
        ("slices", ["new users"], [], True),
        ("blocked", ["a"], ["b", "a"], False),
    ],
)
def test_a_policy_that_asks_for_less_is_found(name: str, before: object, after: object, less: bool) -> None:
    found = weaker({name: before}, {name: after})
    assert found == ([f"{name}: {after} is asked, {before} was asked before"] if less else [])


def test_every_number_of_a_policy_has_a_direction() -> None:
    numbers = {name for name, value in policy_of(Asked.by(GateSettings())).items() if isinstance(value, int | float)}
    assert numbers == LESS_IS_WEAKER | MORE_IS_WEAKER | NONE_OR_MORE_IS_WEAKER


def found(ledger: Ledger) -> list[str]:
    """Why version 7 may not be promoted. MLflow shows nothing about it."""
    registry: Any = SimpleNamespace(tag=lambda *_: None)
    return why_not(registry, ledger, "7", CONTENT, policy=None)[0]


def write(ledger: Ledger, kind: str, facts: dict[str, Any]) -> None:
    as_writer(ledger, lambda writer: writer.append(kind, who="eve", content_hash=CONTENT, facts=facts))


@pytest.mark.parametrize("facts", [{"passed": True}, {"passed": True, "evidence": {"passed": "yes"}}])
def test_a_judgement_without_evidence_that_can_be_read_is_a_reason(tmp_path: Path, facts: dict[str, Any]) -> None:
    ledger = ledger_at(tmp_path, "shop")
    write(ledger, "judged", facts)
    [why] = found(ledger)
    assert why == (
        "entry 1 of the ledger, which judges version 7, holds no evidence that can be read; judge it again "
        "(`recdistill publish`)"
    )


def test_a_waiver_that_nobody_signed_counts_only_where_no_key_is_trusted(tmp_path: Path) -> None:
    until = {"until": "2999-01-01T00:00:00.000+00:00"}
    plain = ledger_at(tmp_path, "shop")
    write(plain, "waived", until)
    assert found(plain) == []
    make_key(tmp_path / "keys", "ada")
    trusting = ledger_at(tmp_path, "shop", open_keys(tmp_path / "keys"))
    assert found(trusting)[-1] == "entry 1 of the ledger, which lets version 7 pass, is not signed; write it again"
    write(trusting, "waived", until)
    assert found(trusting) == []
