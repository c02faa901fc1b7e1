"""What entries say together."""

from __future__ import annotations

from typing import Any

import pytest

from recdistill.ledger import START, Entry, State


def told(*said: dict[str, Any]) -> State:
    state = State()
    for n, one in enumerate(said):
        plain = {"prev": START, "at": f"2026-01-0{n + 1}T00:00:00+00:00", "model": "shop", "who": "ada"}
        state.apply(n, Entry(n=n + 1, **(plain | one)))
    return state


def promoted(version: str, before: str = "") -> dict[str, Any]:
    return {"kind": "promoted", "version": version, "before": before, "content_hash": version * 64}


def back(version: str, before: str) -> dict[str, Any]:
    return {"kind": "rolled-back", "version": version, "before": before, "content_hash": version * 64}


def step(number: int, version: str, before: str = "", kind: str = "promote") -> dict[str, Any]:
    facts = {"step": number, "kind": kind, "who": "bert", "at": f"2025-01-0{number}T00:00:00+00:00"}
    return {"kind": "imported", "version": version, "before": before, "content_hash": version * 64, "facts": facts}


def test_a_rollback_never_leads_to_what_was_rolled_back_from() -> None:
    state = told(promoted("1"), promoted("2", "1"), promoted("3", "2"), back("2", "3"))
    assert (state.champion, state.backwards()) == ("2", ["1"])
    state.apply(9, Entry(n=9, prev=START, at="x", model="shop", who="ada", **back("1", "2")))
    assert (state.champion, state.backwards(), list(state.withdrawn)) == ("1", [], ["3", "2"])
    state.apply(10, Entry(n=10, prev=START, at="x", model="shop", who="ada", **promoted("3", "1")))
    assert (state.champion, state.backwards()) == ("3", ["1"])  # somebody has decided anew about 3


def test_an_alias_that_was_taken_away_leaves_a_way_back() -> None:
    state = told(promoted("1"), promoted("2", "1"), {"kind": "moved", "before": "2"})
    assert (state.champion, state.decided, state.backwards()) == (None, ("2", "2" * 64), ["2", "1"])


def test_a_change_is_open_until_its_alias_is_set() -> None:
    state = told(promoted("1"))
    assert state.open is not None
    assert told(promoted("1"), {"kind": "settled", "version": "1"}).open is None


def test_the_history_of_an_older_version_comes_before_all_that_is_here() -> None:
    alone = told(step(1, "1"), step(2, "2", "1"), step(3, "1", "2", "rollback"))
    assert (alone.champion, alone.open, alone.backwards(), list(alone.withdrawn)) == ("1", None, [], ["2"])
    assert [(one.step, one.kind, one.who) for one in alone.changes] == [
        (1, "promote", "bert"), (2, "promote", "bert"), (3, "rollback", "bert"),
    ]  # fmt: skip
    late = told(promoted("3", "2"), step(2, "2", "1"), step(1, "1"), step(2, "2", "1"))
    assert (late.champion, late.backwards(), late.steps) == ("3", ["2", "1"], {1, 2})
    assert [(one.step, one.after) for one in late.changes] == [(1, "1"), (2, "2"), (3, "3")]


def test_a_waiver_ends() -> None:
    waived = {"kind": "waived", "content_hash": "a" * 64, "why": "the season", "facts": {"until": "2026-02-01"}}
    state = told(waived)
    found = state.waiver("a" * 64, "2026-01-31")
    assert found is not None
    assert found.why == "the season"
    assert state.waiver("a" * 64, "2026-02-01") is None
    assert state.waiver("b" * 64, "2026-01-31") is None


def test_a_waiver_that_was_over_stays_over_where_the_clock_goes_back() -> None:
    """An entry of after its end shows that time has passed. A new waiver counts all the same."""
    waived = {"kind": "waived", "content_hash": "a" * 64, "facts": {"until": "2026-01-01T12:00"}}
    later = {"kind": "judged", "content_hash": "b" * 64, "at": "2026-01-01T12:59"}
    assert told(waived).waiver("a" * 64, "2026-01-01T11:59") is not None
    assert told(waived, later).waiver("a" * 64, "2026-01-01T11:59") is None
    again = {**waived, "at": "2026-01-01T11:59", "facts": {"until": "2026-01-01T12:30"}}
    found = told(waived, later, again).waiver("a" * 64, "2026-01-01T12:00")
    assert found is not None
    assert found.n == 3


@pytest.mark.parametrize(
    "said",
    [
        {"allotted": "much"},
        {"allotted": None, "looks": None},
        {"allotted": 10**400, "looks": "twice"},
        {"allotted": -1.0, "looks": 0},
        {"allotted": True, "looks": [3]},
        {"metrics": {"retention": 10**400}},
    ],
)
def test_a_judgement_that_somebody_wrote_badly_stops_nobody(said: dict[str, Any]) -> None:
    """Without keys, anybody who can write to the log can write one."""
    state = told({"kind": "judged", "content_hash": "a" * 64, "facts": {"passed": True, "evidence": said}})
    [one] = state.judged
    assert (one.allotted, one.looks, dict(one.figures)) == (0.0, 1, {})
