"""What distillation adds: gauges of the last judgement, and none of a judgement without a figure."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace
from support.judgements import make_judgement

from recdistill.judge import Judgement
from recdistill.loops.added import Added
from recdistill.release import Controls


def values(added: Added) -> dict[str, float]:
    """What Prometheus would read."""
    lines = [line.split() for line in added.lines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


class Store:
    """A store with a control, or that had one once, or that only its distiller made, or that nobody ever used."""

    def __init__(self, *, known: bool = True, control: object = None, empty_since: float | None = None) -> None:
        self._known, self._control, self._since = known, control, empty_since

    def known(self) -> bool:
        return self._known

    def empty_since(self) -> float | None:
        return self._since

    def newest(self, into: Path) -> tuple[object, str]:
        return self._control, "" if self._control else "there is none"


def judged(judgement: Judgement, **store: Any) -> dict[str, float]:
    added = Added(cast(Controls, Store(**store)))
    added.newest(Path("nowhere"))
    added.take(judgement)
    return values(added)


def control(**provenance: object) -> SimpleNamespace:
    return SimpleNamespace(manifest=SimpleNamespace(provenance=provenance))


def without_control() -> Judgement:
    found = make_judgement()
    return replace(found, differences=[one for one in found.differences if one.b != "student_no_kd"])


def test_the_lead_over_the_control_with_its_interval_and_when_it_was_made() -> None:
    expected = {"missing": 0.0, "made_seconds": 86_401.0}
    # The student has .1031 and the control .0945; the interval is .003 to each side.
    expected |= {"lead_ndcg10": 0.0086, "lead_ndcg10_low": 0.0056, "lead_ndcg10_high": 0.0116}
    assert judged(make_judgement(), control=control(made_at="1970-01-02T00:00:01+00:00")) == {
        f"recdistill_control_{name}": pytest.approx(value) for name, value in expected.items()
    }


def test_a_time_that_a_bundle_does_not_say_is_not_guessed() -> None:
    for unknown in (control(), control(made_at="yesterday")):
        found = judged(make_judgement(), control=unknown)
        assert "recdistill_control_made_seconds" not in found
        assert found["recdistill_control_missing"] == 0


def test_a_control_that_was_there_once_is_missing_and_one_that_never_was_is_not() -> None:
    assert judged(without_control()) == {"recdistill_control_missing": 1}
    assert judged(without_control(), control=control()) == {"recdistill_control_missing": 1}
    assert judged(without_control(), known=False) == {}
    nobody = Added(None)
    assert nobody.newest(Path("nowhere")) == (None, "nobody looked for one")
    nobody.take(without_control())
    assert values(nobody) == {}


def test_a_control_that_began_and_made_no_bundle_is_said_to_wait_since_then() -> None:
    assert judged(without_control(), empty_since=86_400.0) == {"recdistill_control_began_seconds": 86_400}
    assert "recdistill_control_began_seconds" not in judged(make_judgement(), control=control())


def test_each_judgement_replaces_the_one_before() -> None:
    added = Added(cast(Controls, Store(control=control(made_at="1970-01-02T00:00:01+00:00"))))
    assert values(added) == {}
    for judgement, count in ((make_judgement(), 5), (without_control(), 1), (make_judgement(), 5)):
        added.newest(Path("nowhere"))
        added.take(judgement)
        assert len(values(added)) == count
