"""The endpoint as a process, attacked from this machine, in the short form of `make soak`: no honest request fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import soak

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.alone]

GROWN = 1.10  # memory afterwards; the long form holds it to 1.05, with a process that is more than twice as large


def test_no_honest_request_fails_while_the_endpoint_is_attacked(tmp_path: Path) -> None:
    seen = soak.attack(
        tmp_path,
        items=3_000,
        quiet_s=2.0,
        seconds=10.0,
        settle_s=60.0,
        idle=1000,
        slow=100,
        heads=4,
        bodies=4,
        filters=4,
        pipelines=2,
    )
    assert seen.quiet.failed == []
    assert seen.attacked.failed == []
    assert len(seen.attacked.times_ms) == 500  # 50 a second, each of them answered
    # The attack has really been one, and got nowhere.
    assert seen.did["idle"] >= 1000
    assert seen.did["slow"] >= 100
    assert {"heads: 431", "bodies: 413", "filters: 422"} <= set(seen.did), seen.did
    assert not [kind for kind in seen.did if "all of it" in kind], seen.did
    assert seen.after_mb < GROWN * seen.before_mb
    assert len(seen.said) < 30, "an attacker cannot fill the log"
