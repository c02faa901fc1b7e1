"""The processes of the demo: who may end, who may not, and that none is left."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psutil
import pytest

from recdistill.demo.live.family import Family
from recdistill.errors import RecdistillError

pytestmark = pytest.mark.slow


def ended(family: Family, name: str) -> tuple[int, str]:
    until = time.monotonic() + 60
    while (found := family.ended(name)) is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def test_one_that_ends_is_named_unless_it_may(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("print('bye')\n")
    (tmp_path / "fails.py").write_text("import sys\nprint('no room')\nsys.exit(3)\n")
    family = Family(tmp_path, {"WORD": "x"}, may_end=("player",))
    family.start("player", "ends")
    family.start("helper", "ends")
    assert ended(family, "helper") == (0, "bye")
    family.wait_for("player", 60)
    family.check()
    family.start("joiner", "fails")
    with pytest.raises(RecdistillError, match=re.escape("demo --live: the joiner ended with code 3: no room")):
        family.wait(lambda: False, "nothing")
    family.check(but=("joiner",))
    family.stop()


def test_a_killed_one_is_gone_and_its_name_is_free(tmp_path: Path) -> None:
    (tmp_path / "sleeps.py").write_text("import time\ntime.sleep(600)\n")
    family = Family(tmp_path, {})
    family.start("distiller", "sleeps")
    first = family.pid("distiller")
    family.kill("distiller")
    assert not psutil.pid_exists(first)
    family.start("distiller", "sleeps")
    second = family.pid("distiller")
    family.check()
    family.stop()
    assert second != first
    assert not psutil.pid_exists(second)
