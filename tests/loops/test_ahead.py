"""The guard of a clock: hand values for each rule, and that its verdicts do not depend on where a reader starts."""

import random

import pytest

from recdistill.errors import AheadOfTime, DecodeError
from recdistill.loops.ahead import MOST_ALIKE, VOTERS, Guard, Waiting
from recdistill.records import Feedback
from recdistill.stream import Message, TopicPartition

S = 1_000_000
YEAR_2005, YEAR_2015, YEAR_2026, YEAR_2099 = 1_104_537_600, 1_420_070_400, 1_767_225_600, 4_070_908_800


def put(guard: Guard, times: list[float], *, first: int = 0, taken_s: float | list[float] = YEAR_2026) -> None:
    """Puts feedback of these times in; `taken_s` is when the log took it."""
    for offset, seconds in enumerate(times, first):
        taken = taken_s[offset - first] if isinstance(taken_s, list) else taken_s
        message = Message(TopicPartition("feedback", 0), offset, None, b"", round(taken * S))
        guard.put(message, Feedback(f"f{offset}", f"list-{offset}", "a", "click", time_us=round(seconds * S)))


def take(guard: Guard, *, last: bool = False) -> list[Waiting]:
    taken = []
    while guard.decide(last=last):
        taken.append(guard.pop())
    return taken


def refused(taken: list[Waiting]) -> list[int]:
    return [one.message.offset for one in taken if isinstance(one.record, AheadOfTime)]


def test_a_whole_log_of_the_past_passes_and_one_time_ahead_of_its_neighbours_does_not() -> None:
    guard = Guard(600)
    times = [YEAR_2005 + 60 * n for n in range(100)]
    times[40] = YEAR_2015
    put(guard, times)
    taken = take(guard)
    assert refused(taken) == [40]
    assert len(taken) == 100, "a record that is not ahead needs nobody behind it"
    assert guard.clock.us == times[99] * S
    reason = str(taken[40].record)
    assert reason == (
        "time_us is 1420070400000000 (2015-01-01 00:00:00 UTC), 10.0 years ahead of the records around it "
        "(2005-01-01 00:39:00 UTC); correct the clock that wrote it, or raise join.max_ahead_s"
    )


def test_a_time_after_the_log_took_the_record_is_refused_at_once() -> None:
    guard = Guard(600)
    now = [YEAR_2026 + n for n in range(5)]
    put(guard, [*now, YEAR_2026 + 4 + 601, YEAR_2099], taken_s=[*now, YEAR_2026 + 4, YEAR_2026 + 5])
    taken = take(guard)
    assert refused(taken) == [5, 6]
    assert "601 seconds after the log took the record" not in str(taken[5].record)
    assert "10.0 minutes after the log took the record" in str(taken[5].record)
    assert "73.0 years after the log took the record (2026-01-01 00:00:05 UTC)" in str(taken[6].record)


def test_a_pause_is_no_error_however_long_it_is() -> None:
    guard = Guard(600)
    put(guard, [YEAR_2005 + n for n in range(30)] + [YEAR_2015 + n for n in range(30)])
    taken = take(guard)
    assert refused(taken) == []
    assert len(taken) == 60


def test_a_record_behind_which_too_few_follow_waits_and_the_same_records_decide_it_later() -> None:
    early, late = Guard(600), Guard(600)
    times = [YEAR_2005 + n for n in range(30)] + [YEAR_2015] + [YEAR_2005 + 30 + n for n in range(VOTERS - 1)]
    put(early, times)
    assert len(take(early)) == 30, "fifteen records behind it do not make sixteen"
    put(early, [YEAR_2005 + 60.0], first=len(times))
    assert [one.message.offset for one in take(early)] == [30 + n for n in range(VOTERS + 1)]
    put(late, [*times, YEAR_2005 + 60.0])
    assert refused(take(late)) == [30]


def test_at_the_last_record_those_that_are_there_decide() -> None:
    guard = Guard(600)
    put(guard, [YEAR_2005 + n for n in range(30)] + [YEAR_2015] + [YEAR_2005 + 30, YEAR_2005 + 31])
    assert refused(take(guard, last=True)) == [30]
    guard = Guard(600)
    put(guard, [YEAR_2005 + n for n in range(30)] + [YEAR_2015, YEAR_2015 + 1])
    assert refused(take(guard, last=True)) == []
    tiny = Guard(600)
    put(tiny, [YEAR_2005, YEAR_2005 + 86_400, YEAR_2005 + 3 * 86_400])
    assert (len(take(tiny)), refused(take(tiny, last=True)), len(tiny)) == (0, [], 0)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_many_clocks_that_are_eight_hours_ahead_are_all_found(share: float) -> None:
    chance = random.Random(1)
    guard = Guard(600)
    wrong = {n for n in range(20, 2000) if chance.random() < share}
    put(guard, [YEAR_2005 + 10 * n + 8 * 3600 * (n in wrong) for n in range(2000)])
    taken = take(guard)
    assert set(refused(taken)) <= wrong, "no honest one is refused"
    assert len(refused(taken)) == sum(n < len(taken) for n in wrong), "and each wrong one is"
    assert len(taken) >= 2000 - VOTERS


def test_a_burst_of_one_clock_is_found_and_records_of_one_list_have_one_vote() -> None:
    guard = Guard(600)
    put(
        guard,
        [YEAR_2005 + n for n in range(30)]
        + [YEAR_2015 + n for n in range(7)]
        + [YEAR_2005 + 60 + n for n in range(40)],
    )
    assert refused(take(guard)) == list(range(30, 37))
    guard = Guard(600)
    put(guard, [YEAR_2005 + n for n in range(30)])
    for n in range(50):  # fifty clicks of one list
        message = Message(TopicPartition("feedback", 0), 30 + n, None, b"", YEAR_2026 * S)
        guard.put(message, Feedback(f"g{n}", "one list", "a", "click", time_us=YEAR_2015 * S))
    put(guard, [YEAR_2005 + 60 + n for n in range(40)], first=80)
    assert refused(take(guard)) == list(range(30, 80))


@pytest.mark.parametrize("order", ["by chance", "newest first"])
def test_a_log_out_of_order_is_not_refused(order: str) -> None:
    guard = Guard(600)
    times = [YEAR_2005 + 300 * n for n in range(2000)]
    random.Random(2).shuffle(times) if order == "by chance" else times.reverse()
    put(guard, times)
    taken = take(guard, last=True)
    assert len(taken) == 2000
    assert len(refused(taken)) <= 2, "at its beginning, before it is seen that nothing is in order"


def test_a_log_whose_own_time_is_behind_all_of_its_records_is_taken_as_it_is() -> None:
    guard = Guard(600)
    times = [YEAR_2099 + n for n in range(100)]
    times[50] = YEAR_2099 + 10**8
    put(guard, times)
    taken = take(guard)
    assert refused(taken) == [50]
    assert not guard.clock.log_time
    honest = Guard(600)
    put(honest, [YEAR_2099, *(YEAR_2026 - 100 + n for n in range(50))])
    assert refused(take(honest)) == [0], "a first record alone does not make it another notion of time"


def test_a_record_without_a_time_or_sense_keeps_its_place_and_has_no_vote() -> None:
    guard = Guard(600)
    put(guard, [YEAR_2005 + n for n in range(10)])
    put(guard, [0.0], first=10)
    guard.put(Message(TopicPartition("feedback", 0), 11, None, b"{", YEAR_2026 * S), DecodeError("not feedback"))
    put(guard, [YEAR_2005 + 20.0], first=12)
    taken = take(guard)
    assert [one.message.offset for one in taken] == list(range(13))
    assert taken[10].order_us == (YEAR_2005 + 9) * S
    assert taken[11].order_us == -1


def test_a_reader_that_starts_anywhere_with_the_clock_before_it_decides_the_same() -> None:
    found = 0
    for seed in range(30):
        chance = random.Random(seed)
        t, times = float(YEAR_2005), []
        for _ in range(150):
            t += chance.expovariate(1 / 20) + chance.choice([0] * 40 + [5000, 90_000])
            times.append(t + chance.choice([0] * 15 + [700, 30_000, 3e8, 2.9e9, -4000]))
        whole = Guard(600)
        put(whole, times)
        taken = take(whole)
        found += len(refused(taken))
        for start in range(0, len(taken), 7):
            again = Guard(600, taken[start].before)
            put(again, times[start:], first=start)
            assert refused(take(again)) == [n for n in refused(taken) if n >= start], (seed, start)
    assert found > 50


def test_a_forced_verdict_is_remembered_for_a_reader_that_starts_again() -> None:
    times = [YEAR_2005 + n for n in range(30)] + [YEAR_2015]
    guard = Guard(600)
    put(guard, times)
    assert len(take(guard)) == 30
    assert not guard.decide(trusted_us=(YEAR_2015 - 601) * S)
    assert guard.decide(trusted_us=(YEAR_2015 - 600) * S), "other partitions have reached that time"
    before = guard.clock
    guard.pop()
    assert guard.forced == {30: True}
    again = Guard(600, before, guard.forced)
    put(again, [YEAR_2015] + [YEAR_2005 + 31 + n for n in range(30)], first=30)
    assert refused(take(again)) == []
    again.forget(31)
    assert again.forced == {}


def feedback(offset: int, seconds: float, name: str) -> tuple[Message, Feedback]:
    message = Message(TopicPartition("feedback", 0), offset, None, b"", round(YEAR_2026 * S))
    return message, Feedback(f"f{offset}", name, "a", "click", time_us=round(seconds * S))


@pytest.mark.parametrize("piece", [1, 100, 10_000])
@pytest.mark.parametrize(("then", "refuses"), [(YEAR_2015, False), (YEAR_2005 + 60, True)], ids=["follow", "do not"])
def test_a_product_that_gives_all_lists_one_id_does_not_fill_the_memory(
    piece: int, then: float, *, refuses: bool
) -> None:
    """After a thousand of them they have a vote, and the verdict is the same in whatever pieces they are read."""
    guard = Guard(600)
    times = [YEAR_2005, YEAR_2015, *(then + n for n in range(2 * MOST_ALIKE))]
    guard.put(*feedback(0, times[0], "first"))
    for n in range(1, 17):
        guard.put(*feedback(n, times[0] + n, f"before-{n}"))
    taken = [guard.pop() for _ in range(17) if guard.decided()]
    most = 0
    records = [feedback(17 + n, seconds, "always the same") for n, seconds in enumerate(times[1:])]
    for start in range(0, len(records), piece):
        for one in records[start : start + piece]:
            guard.put(*one)
        most = max(most, len(guard))
        while guard.decided():
            taken.append(guard.pop())
    assert most <= MOST_ALIKE + max(piece, 1)
    assert refused(taken) == ([17] if refuses else [])
    assert len(guard) <= MOST_ALIKE


def test_a_message_without_a_time_of_the_log_does_not_say_that_its_clock_went_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Old clients of Kafka write -1 ms."""
    guard = Guard(600)
    now: list[float] = [YEAR_2026 + n for n in range(5)]
    put(guard, now, taken_s=[*now[:2], -0.001, *now[3:]])
    assert refused(take(guard)) == []
    assert "went back" not in caplog.text
    put(guard, [YEAR_2026 + 6], first=5, taken_s=YEAR_2026 - 3600)
    assert refused(take(guard, last=True)) == []
    assert "the log's clock went back by 60.1 minutes" in caplog.text
