"""Times that are wrong, missing, equal or only dates, through the command line: nothing stops and nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.loops.feed import feed
from recdistill.loops.teach import labelled
from recdistill.records import Candidate, Example, Feedback, Impression, Record, decode
from recdistill.stream import open_log
from recdistill.stream.testing import everything

S = 1_000_000
YEAR_2005, YEAR_2015, YEAR_2099 = 1_104_537_600, 1_420_070_400, 4_070_908_800


def a_list(n: int, seconds: int) -> Impression:
    return Impression(f"r{n}", seconds * S, candidates=(Candidate("a", 1.0), Candidate("b", 0.5)))


def a_click(n: int, seconds: int, **more: Any) -> Feedback:
    return msgspec.structs.replace(Feedback(f"f{n}", f"r{n}", "a", "click", time_us=seconds * S), **more)


def hourly(count: int = 100) -> tuple[list[int], list[int]]:
    """Times of lists and of the clicks on them."""
    lists = [YEAR_2005 + 3600 * n for n in range(count)]
    return lists, [seconds + 30 for seconds in lists]


class Shop:
    """A folder with a log; verbs run in it."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        assert self("topics create")[0] == 0

    def __call__(self, line: str) -> tuple[int, str]:
        code = main(line.split())
        out = self._capsys.readouterr()
        return code, out.out + out.err

    def counts(self, line: str, *, code: int = 0) -> Counter[str]:
        assert main([*line.split(), "--json"]) == code
        return Counter(json.loads(self._capsys.readouterr().out))

    def write(self, lists: Sequence[int], clicks: Sequence[int]) -> None:
        """Writes the lists and then their clicks, as two imports would, and scores them."""
        self.feed([a_list(n, seconds) for n, seconds in enumerate(lists)])
        self.feed([a_click(n, seconds) for n, seconds in enumerate(clicks)])
        assert self.counts("score --drain --set teacher.kind=logged")["rankings"] == len(lists)

    def feed(self, records: Sequence[Record]) -> None:
        log = open_log(LogSettings())
        feed(log, records)
        log.close()

    def examples(self) -> dict[str, tuple[float, ...]]:
        log = open_log(LogSettings())
        found = [decode(Example, message.value) for message in everything(log, "examples")]
        log.close()
        labels = {example.ranking.impression.id: example.labels for example in found}
        assert len(labels) == len(found), "each list once"
        return labels


@pytest.fixture
def shop(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    # One example a list shows all labels at once, and nobody is held out.
    monkeypatch.setenv("RECDISTILL__JOIN__SOFT", "with_labels")
    monkeypatch.setenv("RECDISTILL__HELD_OUT__MOST", "0")
    return Shop(capsys)


@pytest.mark.many
@pytest.mark.parametrize(
    ("wrong_list", "wrong_click"),
    [(YEAR_2099, None), (None, YEAR_2099), (YEAR_2099, YEAR_2099 + 30), (YEAR_2015, None), (None, YEAR_2015)],
)
def test_one_wrong_time_costs_its_own_list_alone(shop: Shop, wrong_list: int | None, wrong_click: int | None) -> None:
    lists, clicks = hourly()
    lists[10] = wrong_list or lists[10]
    clicks[10] = wrong_click or clicks[10]
    shop.write(lists, clicks)
    counts = shop.counts("join --drain")
    wrong = (wrong_list is not None) + (wrong_click is not None)
    assert (counts["ahead"], counts["dead_letters"]) == (wrong, wrong)
    counts += shop.counts("join --flush")
    expected = {f"r{n}": (float(n != 10), 0.0) for n in range(100) if n != 10 or wrong_list is None}
    assert shop.examples() == expected
    # Every record is accounted for.
    assert counts["examples"] + (wrong_list is not None) == 100
    assert counts["labelled"] + counts["late"] + (wrong_click is not None) == 100
    code, shown = shop("inspect dead-letters")
    assert code == 0
    assert shown.count("given up by  join") == wrong
    assert shown.count("AheadOfTime: time_us is") == wrong
    assert "raise join.max_ahead_s" in shown


def test_feedback_eight_hours_after_the_newest_list_takes_no_labels_away(shop: Shop) -> None:
    lists = [YEAR_2005 + 300 * n for n in range(469)]
    clicks = [seconds + 30 for seconds in lists]
    clicks[100] = lists[-1] + 8 * 3600
    shop.write(lists, clicks)
    code, text = shop("join --drain --quiet")
    assert code == 0
    assert "1 records are too far ahead in time and went to the dead letters (join.max_ahead_s)" in text
    shop.counts("join --flush")
    assert shop.examples() == {f"r{n}": (float(n != 100), 0.0) for n in range(469)}


def test_a_bound_that_is_wide_enough_takes_it_as_it_is(shop: Shop) -> None:
    lists, clicks = hourly(20)
    clicks[10] = lists[-1] + 8 * 3600
    shop.write(lists, clicks)
    counts = shop.counts("join --drain --set join.max_ahead_s=360000")
    assert (counts["ahead"], counts["dead_letters"]) == (0, 0)


def test_a_whole_log_of_the_past_and_one_that_goes_on_years_later(shop: Shop) -> None:
    first = [YEAR_2005 + 60 * n for n in range(200)]
    shop.write([*first, *(t + 10 * 31_557_600 for t in first)], [t + 20 for t in first])
    counts = shop.counts("join --flush")
    assert (counts["examples"], counts["labelled"], counts["dead_letters"]) == (400, 200, 0)


def test_a_teacher_that_is_taught_here_learns_from_the_same_labels(shop: Shop) -> None:
    lists, clicks = hourly()
    lists[10], clicks[50] = YEAR_2099, YEAR_2015
    shop.write(lists, clicks)
    log = open_log(LogSettings())
    found = {e.ranking.impression.id: e.labels for e in labelled(log, window_s=1800, labels={"click": 1.0})}
    log.close()
    shop.counts("join --flush")
    assert found == shop.examples()
    assert sum(labels[0] for labels in found.values()) == 98  # list 10 is gone, and list 50 has lost its click


def test_flush_closes_what_a_finite_import_leaves_open_and_the_verb_says_how_many_are(shop: Shop) -> None:
    lists = [YEAR_2005 + 60 * n for n in range(100)]
    shop.write(lists, [seconds + 30 for seconds in lists])
    code, text = shop("join --drain --quiet")
    # The newest time is the click on list 99; a list within half an hour of it is open.
    still = sum(seconds + 1800 >= lists[-1] + 30 for seconds in lists)
    assert code == 0
    assert f"{still} lists are open: their windows are not over yet" in text
    assert "`recdistill join --flush` closes them" in text
    assert shop.counts("join --drain")["open"] == still
    assert len(shop.examples()) == 100 - still
    assert shop.counts("join --flush")["open"] == 0
    assert shop.examples() == {f"r{n}": (1.0, 0.0) for n in range(100)}
    assert shop("join --flush --quiet") == (0, "nothing to do\n")


def test_all_times_equal_gives_a_sentence_and_can_be_flushed(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.write([YEAR_2005 + 5] * 20, [YEAR_2005 + 5] * 20)
    assert shop("join --drain")[0] == 8
    assert "all 20 lists that are open have one time, so no window was ever over" in caplog.text
    assert shop.counts("join --flush")["labelled"] == 20


def test_dates_only_say_that_the_window_is_too_short(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    day = 86_400
    lists = [YEAR_2005 // day * day + day * (n // 10) for n in range(100)]
    shop.write(lists, [seconds + day for seconds in lists])
    shop.counts("join --flush", code=8)
    assert "all times are whole days, so feedback of the next day is late: set join.window_s to 86400" in caplog.text


def test_a_few_lists_far_apart_wait_and_flush_takes_them(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    lists = [YEAR_2005 + 86_400 * n for n in range(3)]
    shop.write(lists, [seconds + 30 for seconds in lists])
    shop("join --drain")
    assert "3 rankings wait, since one before them is far ahead in time" in caplog.text
    assert shop.counts("join --flush")["labelled"] == 3


def test_lists_out_of_order_are_said_and_none_is_lost(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    lists = [YEAR_2005 + 3600 * n for n in reversed(range(100))]
    shop.write(lists, [seconds + 30 for seconds in lists])
    assert shop.counts("join --flush")["examples"] == 100
    assert "rankings came when their window was over already" in caplog.text
    assert "write impressions in the order of their times" in caplog.text


def test_late_feedback_is_counted_with_what_it_would_have_given(shop: Shop) -> None:
    lists = [YEAR_2005 + 60 * n for n in range(100)]
    shop.feed([a_list(n, seconds) for n, seconds in enumerate(lists)])
    delays = [30 if n % 10 else 2000 for n in range(100)]
    clicks = [a_click(n, lists[n] + delay, action="buy", value=2.0) for n, delay in enumerate(delays)]
    shop.feed(sorted(clicks, key=lambda click: click.time_us))
    shop.counts("score --drain --set teacher.kind=logged")
    counts = shop.counts("join --flush --set join.labels.buy=3")
    # The last six came less than a window before the newest list, so a list that comes may still be theirs.
    assert (counts["labelled"], counts["late"], counts["late_value"], counts["waiting"]) == (90, 4, 24, 6)


def test_feedback_without_a_time_stands_where_its_partition_stood(shop: Shop) -> None:
    lists, clicks = hourly()
    shop.write(lists, [0 if n % 2 else seconds for n, seconds in enumerate(clicks)])
    assert shop.counts("join --flush")["late"] == 0
    assert shop.examples() == {f"r{n}": (1.0, 0.0) for n in range(100)}


# Labels


@pytest.mark.parametrize("source", ["--set", "environment", "file"])
def test_a_label_is_added_to_the_default_ones_from_every_place(
    shop: Shop, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = [YEAR_2005 + 60 * n for n in range(40)]
    shop.feed([a_list(n, seconds) for n, seconds in enumerate(lists)])
    shop.feed([a_click(n, seconds + 9, action="buy" if n % 2 else "click") for n, seconds in enumerate(lists)])
    shop.counts("score --drain --set teacher.kind=logged")
    line = "join --flush"
    if source == "--set":
        line += " --set join.labels.buy=3"
    elif source == "environment":
        monkeypatch.setenv("RECDISTILL__JOIN__LABELS__BUY", "3")
    else:
        Path("shop.toml").write_text("[join]\nlabels = { buy = 3 }\n")
        line += " --config shop.toml"
    assert shop.counts(line)["labelled"] == 40
    assert shop.examples() == {f"r{n}": (3.0 if n % 2 else 1.0, 0.0) for n in range(40)}


def test_a_weight_of_zero_leaves_a_default_label_out(shop: Shop) -> None:
    lists, clicks = hourly(20)
    shop.write(lists, clicks)
    counts = shop.counts("join --flush --set join.labels.click=0", code=8)
    assert (counts["labelled"], counts["unlabelled_action"]) == (0, 20)
    assert set(shop.examples().values()) == {(0.0, 0.0)}


def test_labelled_counts_lists_with_a_label_above_zero(shop: Shop) -> None:
    lists, clicks = hourly(30)
    shop.feed([a_list(n, seconds) for n, seconds in enumerate(lists)])
    shop.feed([a_click(n, seconds, value=(1.0, 0.0, -2.0)[n % 3]) for n, seconds in enumerate(clicks)])
    shop.counts("score --drain --set teacher.kind=logged")
    assert shop.counts("join --flush")["labelled"] == 10


@pytest.mark.parametrize("setting", ["join.window_s=inf", "join.max_ahead_s=1e300", "join.labels.click=inf"])
def test_numbers_without_end_are_refused_in_a_sentence(shop: Shop, setting: str) -> None:
    code, text = shop(f"join --flush --set {setting}")
    assert code == 2
    assert text.startswith("error: ")
    assert "should have explained" not in text


def test_a_teacher_learns_from_lists_out_of_order_by_their_own_times(shop: Shop) -> None:
    lists = [YEAR_2005 + 60 * n for n in range(60)]
    lists[20], lists[21] = lists[21], lists[20] - 900
    shop.feed([a_list(n, seconds) for n, seconds in enumerate(lists)])
    shop.feed([a_click(20, lists[20] + 30), a_click(21, lists[21] + 1500), a_click(22, lists[22] + 1900)])
    log = open_log(LogSettings())
    found = {e.ranking.impression.id: e.labels[0] for e in labelled(log, window_s=1800, labels={"click": 1.0})}
    log.close()
    assert {name for name, label in found.items() if label} == {"r20", "r21"}
