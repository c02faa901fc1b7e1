"""How many examples of hypothesis a property is tried on: all of them, and a few in `make test-fast`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

FAST = "fast"
"""Name of the profile; `make test-fast` asks for it."""
FEW = 15


def register() -> None:
    """Makes the profiles known, before pytest reads its options. No example has a deadline: machines are busy."""
    settings.register_profile(FAST, max_examples=FEW, deadline=None)
    settings.register_profile("whole", deadline=None)
    settings.load_profile("whole")


def tries(number: int, **more: Any) -> settings:
    """A decorator: this many examples, without a deadline for each. `more` are other settings of hypothesis."""
    few = settings.get_current_profile_name() == FAST
    return settings(max_examples=min(number, FEW) if few else number, deadline=None, **more)
