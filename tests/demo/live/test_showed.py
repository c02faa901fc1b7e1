"""What the demo is to show: shares of an earlier lead, found by hand, and sentences that hold or do not."""

from __future__ import annotations

import pytest

from recdistill.demo.live.showed import NAMES, facts, recovered

COUNTS = {"requests": 9, "failures": 0, "cost": {"ratio": 20.0}}


def lists(after: float, *, frozen: float = 0.25) -> list[tuple[float, dict[str, float]]]:
    """A list a second for ten minutes; tastes turn after 200 s, and the live student is back 100 s later."""
    found = []
    for t in range(600):
        live = 0.6 if t < 200 else 0.3 if t < 300 else after
        found.append((float(t), {"live": live, "frozen": 0.6 if t < 200 else frozen, "popularity": 0.2}))
    return found


def test_shares_by_hand() -> None:
    found = recovered(lists(0.56), shift_s=200.0, seconds=600.0)
    # Before: .6 - .2. The last third of five minutes, 400 to 500 s: .56 - .2 and .25 - .2.
    assert (found["lead"], found["from_s"], found["until_s"], found["final"]) == (0.4, 400.0, 500.0, True)
    assert found["live"]["share"] == pytest.approx(0.9)
    assert found["frozen"]["share"] == pytest.approx(0.125)
    assert found["live"]["low"] == found["live"]["high"] == pytest.approx(0.9)  # all lists are alike
    assert found["live"]["back_s"] == pytest.approx(100.0)  # the first 100 s in which it was back as a whole
    assert "control" not in found
    assert recovered(lists(0.5), shift_s=200.0, seconds=600.0)["live"]["back_s"] is None


def test_the_interval_holds_the_truth_where_lists_differ() -> None:
    even = [(t, {k: v + (0.2 if k == "live" and t % 2 else 0.0) for k, v in one.items()}) for t, one in lists(0.5)]
    live = recovered(even, shift_s=200.0, seconds=600.0)["live"]
    assert live["share"] == pytest.approx(0.4 / 0.5)
    # Standard deviation of a list: .1. Of the mean of 100 lists: .01, and of the 67 before: .0122. Delta method.
    width = 1.96 * (0.01**2 + 0.8**2 * 0.1**2 / 67) ** 0.5 / 0.5
    assert live["high"] - live["low"] == pytest.approx(2 * width, rel=0.15)


def test_a_stream_that_runs_says_what_is_known_so_far() -> None:
    assert recovered(lists(0.6)[:150], shift_s=200.0, seconds=600.0, now_s=150.0) == {}
    early = recovered(lists(0.6)[:260], shift_s=200.0, seconds=600.0, now_s=260.0)
    assert not early["final"]
    assert early["live"] == {"share": pytest.approx(0.25)}
    holds = {one["name"]: one for one in facts(early, versions={"judged": 2, "promoted": 2, "refused": 0}, **COUNTS)}
    assert tuple(holds) == NAMES
    assert [holds[name]["holds"] for name in NAMES] == [None, None, None, True, True]
    assert holds["back"]["said"].endswith("its earlier lead: 0.25 times so far.")


@pytest.mark.parametrize(("after", "frozen", "back", "fell"), [(0.56, 0.25, True, True), (0.5, 0.57, False, False)])
def test_sentences_hold_or_do_not(after: float, frozen: float, back: bool, fell: bool) -> None:
    found = recovered(lists(after, frozen=frozen), shift_s=200.0, seconds=600.0)
    made = facts(
        found,
        versions={"judged": 3, "promoted": 2, "refused": 1},
        requests=9,
        failures=1,
        cost={"ratio": 9.0},
    )
    assert {one["name"]: one["holds"] for one in made} == {
        "back": back,
        "frozen": fell,
        "versions": True,
        "failed": False,
        "cost": False,
    }


def test_a_shorter_stream_ends_sooner_and_too_few_lists_say_nothing() -> None:
    found = recovered(lists(0.56), shift_s=200.0, seconds=350.0)
    assert (found["from_s"], found["until_s"]) == (300.0, 350.0)
    assert recovered(lists(0.56)[::20], shift_s=200.0, seconds=600.0) == {}
