"""What versions have spent, from their evidence."""

from __future__ import annotations

from datetime import UTC, datetime

from recdistill.registry import Evidence
from recdistill.release.tries import of_evidence


def kept(**more: object) -> Evidence:
    return Evidence(
        content_hash="ab", passed=True, reasons=[], metrics={}, made_at="2026-02-03T04:05:06+00:00", judged=9, **more
    )  # type: ignore[arg-type]


def test_a_version_has_spent_since_its_first_look() -> None:
    [one] = of_evidence([kept(allotted=0.001, looks=3, began_at="2026-01-01T00:00:00+00:00")])
    assert (one.content_hash, one.allotted, one.looks) == ("ab", 0.001, 3)
    assert one.at == datetime(2026, 1, 1, tzinfo=UTC)


def test_evidence_of_an_older_version_counts_from_when_it_was_made() -> None:
    [one] = of_evidence([kept()])
    assert (one.at, one.allotted) == (datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC), 0.0)


def test_a_time_that_cannot_be_read_counts_as_now() -> None:
    before = datetime.now(UTC)
    [one] = of_evidence([kept(began_at="yesterday", allotted=0.01)])
    assert before <= one.at <= datetime.now(UTC)
