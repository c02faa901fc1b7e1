"""How long the missing lists take, in words that a person reads."""

from __future__ import annotations

import pytest

from recdistill.judge.outlook import outlook

DAY = 86_400.0


@pytest.mark.parametrize(
    ("have", "least", "span_s", "said"),
    [
        (11, 31, 10 * DAY, "20 more, which take about 20 days at this traffic"),
        (2, 1702, DAY, "1,700 more, which take about 1,700 days at this traffic"),
        (2, 1735, DAY, "1,733 more, which take about 1,700 days at this traffic"),
        (2, 3, 4 * DAY + 8640, "1 more, which take about 4.1 days at this traffic"),
        (11, 12, 100.0, "1 more, which take about 10 seconds at this traffic"),
        (1, 10, 0.0, "9 more"),
    ],
)
def test_the_time_is_said_in_two_figures(have: int, least: int, span_s: float, said: str) -> None:
    assert outlook(have=have, least=least, span_s=span_s) == said
