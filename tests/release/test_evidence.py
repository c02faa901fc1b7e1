"""Where a policy asks for less than the one before."""

from __future__ import annotations

import pytest

from recdistill.config import GateSettings
from recdistill.judge import Asked
from recdistill.release.evidence import (
    LESS_IS_WEAKER,
    MORE_IS_WEAKER,
    NONE_OR_MORE_IS_WEAKER,
    policy_of,
    weaker,
)


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
