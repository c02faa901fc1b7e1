"""Running figures and their CUSUM: against the definitions, and by how often and how late they cry."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from recdistill.watch.figures import ENOUGH, HALF_LIFE, RUN, THRESHOLD, Figure, breaks, hopeless, verdict, watched


def filled(mean: float, sd: float, count: int = 500) -> Figure:
    figure = Figure()
    figure.add(mean + sd * np.where(np.arange(count) % 2, 1.0, -1.0), HALF_LIFE)
    return figure


def test_older_values_count_for_less() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=300)
    figure = Figure()
    for part in np.split(values, 30):
        figure.add(part, 100)
    weights = 0.5 ** ((29 - np.arange(300) // 10) * 10 / 100)
    mean = np.average(values, weights=weights)
    assert figure.mean == pytest.approx(mean)
    assert figure.sd == pytest.approx(math.sqrt(np.average((values - mean) ** 2, weights=weights)))
    assert Figure().mean == Figure().sd == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_sum_is_pages_by_brute_force(size: int) -> None:
    random = np.random.default_rng(1)
    figure = filled(0.6, 0.2)
    values = np.concatenate([random.normal(0.6, 0.2, 400), random.normal(0.1, 0.2, 600)])
    values[::17] = np.nan  # lists that say nothing
    real = np.isfinite(values)
    ratios = np.where(real, ((0.6 - 0.0) * (0.6 - values) - 0.6**2 / 2) / max(0.2, 0.3) ** 2, 0.0)
    # S_n = max over k of Σ_{k < i <= n} log-likelihood ratio; an alarm needs RUN values since S was 0.
    sums = [max(0.0, *(ratios[k : n + 1].sum() for k in range(n + 1))) for n in range(len(values))]
    last_zero = np.maximum.accumulate(np.where(np.array(sums) == 0, np.arange(len(values)), -1))
    runs = np.array([real[last_zero[n] + 1 : n + 1].sum() for n in range(len(values))])
    expected = int(np.argmax((np.array(sums) > THRESHOLD) & (runs >= RUN) & real))
    assert 400 < expected < 500
    alarm = None
    for start in range(0, len(values), size):
        at = np.arange(start, min(start + size, len(values)))
        if figure.falls(values[at], 0.6, 0.3, at):
            alarm = at[-1]
            break
    assert alarm is not None
    assert expected <= alarm < expected + size
    assert figure.low_onset == last_zero[expected] + 1


def test_false_alarms_are_rarer_than_one_in_a_million() -> None:
    """The weakest reference that is watched at all, and a strong one, each over 400,000 values."""
    for lift, sd in ((0.07, 0.3), (0.8, 0.1)):
        random = np.random.default_rng(2)
        figure = filled(lift, sd, 2000)
        values = random.normal(lift, sd, 400_000)
        assert not figure.falls(values, lift, max(sd, lift / 2), np.arange(len(values)))
        assert figure.low < THRESHOLD


@pytest.mark.parametrize(("mean", "sd"), [(0.9, 0.05), (0.6, 0.2), (0.15, 0.3), (0.06, 0.25)])
def test_a_break_to_chance_is_seen_within_2000_values(mean: float, sd: float) -> None:
    for seed in range(10):
        random = np.random.default_rng(seed)
        figure = Figure()
        figure.add(random.normal(mean, sd, 4000), HALF_LIFE)
        assert watched(figure, 0.0)
        broken, seen = random.normal(0.0, sd, 2000), 0
        while not breaks(figure, broken[seen : seen + 50], 0.0, np.arange(50)):
            seen += 50
            assert seen < 2000
        assert seen + 50 >= RUN


def test_a_slow_drift_moves_the_reference_and_alarms_nobody() -> None:
    random = np.random.default_rng(3)
    figure = filled(0.8, 0.2)
    for step in range(300):
        mean = 0.8 - 0.5 * step / 300
        assert not breaks(figure, random.normal(mean, 0.2, 100), 0.0, np.arange(100))
    assert figure.mean == pytest.approx(0.33, abs=0.05)


def test_what_is_too_faint_or_too_short_is_no_reference() -> None:
    assert not watched(filled(0.9, 0.1, ENOUGH - 2), 0.0)
    assert watched(filled(0.9, 0.1, ENOUGH), 0.0)
    assert not watched(filled(0.01, 0.3, 5000), 0.0)
    assert not watched(filled(0.4, 0.1, 5000), 0.5)


def test_verdicts_need_two_standard_errors() -> None:
    assert verdict(filled(0.5, 0.1, 100), 0.0, 0.47) == (True, False)  # 0.5 − 0.02 > 0.47
    assert verdict(filled(0.5, 0.1, 100), 0.0, 0.49) == (False, False)
    assert verdict(filled(0.5, 0.1, 100), 0.0, 0.53) == (False, True)
    assert verdict(filled(0.5, 0.1, 40), 0.0, 0.1) == (False, False)  # too few to say


def test_hopeless_needs_three() -> None:
    assert hopeless(filled(0.01, 0.1, 100), 0.0, 0.05)  # 0.01 + 0.03 < 0.05
    assert not hopeless(filled(0.03, 0.1, 100), 0.0, 0.05)
    assert not hopeless(filled(0.01, 0.1, 98), 0.0, 0.05)


def test_json_holds_a_figure_without_loss() -> None:
    figure = filled(1 / 3, 0.1)
    figure.falls(np.full(10, 0.01), 0.3, 0.2, np.arange(10))
    assert figure.low > 0
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(figure)), Figure) == figure


def test_a_dropped_suspicion_forgets_the_count_of_values_in_a_row_too() -> None:
    """Else one value far out would be enough for the next alarm: its run would be there already."""
    figure = filled(0.6, 0.2)
    assert not figure.falls(np.full(RUN - 4, 0.25), 0.6, 0.3, np.arange(RUN - 4))  # ratio 0.33: not yet enough
    assert (figure.low > 0, figure.low_run) == (True, RUN - 4)
    figure.drop()
    assert (figure.low, figure.low_run, figure.high, figure.high_run) == (0.0, 0, 0.0, 0)
    far = np.full(RUN - 1, -3.0)  # each has a ratio of 22, above the threshold alone
    assert not figure.falls(far, 0.6, 0.3, np.arange(RUN - 1))
    assert figure.falls(far[:1], 0.6, 0.3, np.array([RUN]))
    # A checkpoint of an older version may have the one without the other.
    old = filled(0.6, 0.2)
    old.low, old.low_run = 0.0, 300
    assert not old.falls(far, 0.6, 0.3, np.arange(RUN - 1))
