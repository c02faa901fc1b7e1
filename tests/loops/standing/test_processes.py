"""Processes are asked how they are, and whatever answers there is no reason to fail."""

from __future__ import annotations

import math

import pytest

from recdistill.hops import NEWEST, PASSED
from recdistill.loops.standing.processes import asked, counts_of, hops_of


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_no_number_is_none(odd: float) -> None:
    counts = {f'{NEWEST}{{hop="scored"}}': 5.0, f'{PASSED}{{hop="scored"}}': 7.0}
    assert hops_of(counts) == {"scored": (5_000_000, 7_000_000)}
    assert hops_of({**counts, f'{NEWEST}{{hop="scored"}}': odd}) == {}
    assert hops_of({**counts, f'{PASSED}{{hop="scored"}}': odd}) == {}


@pytest.mark.parametrize("host", ["scorer..shop", "a" * 70, ".scorer"])
def test_a_host_that_is_no_name_is_a_process_that_does_not_answer(host: str) -> None:
    [found] = asked({"scorer": f"{host}:1"}, 0.2)
    assert found.ready is None
    assert found.says.startswith("does not answer (")


def test_a_count_that_is_no_number_is_left_out() -> None:
    """JSON has no such number: `status --json` and its page could not be read."""
    assert counts_of("one 1\ntwo NaN\nthree +Inf\nfour -Inf\nfive 5e3\n") == {"one": 1.0, "five": 5000.0}
