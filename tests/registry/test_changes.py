"""Changes of champion: the fence, the ledger, and several promoters at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.registries import judged, make_bundle

from recdistill.errors import Refused
from recdistill.registry import Registry

pytestmark = pytest.mark.mlflow


def test_expect_is_compared(registry, two):
    one, other = two
    with pytest.raises(Refused, match=f"the champion is none, not version {other} as expected"):
        registry.promote(one, expect=other, who="ada", why="-")
    registry.promote(one, expect=None, who="ada", why="-")
    with pytest.raises(Refused, match=f"the champion is version {one}, not none as expected"):
        registry.promote(other, expect=None, who="bob", why="-")
    with pytest.raises(Refused, match="is the champion already"):
        registry.promote(one, expect=one, who="bob", why="-")
    registry.promote(other, expect=one, who="bob", why="-")
    assert registry.resolve("previous").number == one
    assert [(e.step, e.before, e.after) for e in registry.ledger()] == [(1, None, one), (2, one, other)]


def test_rollback_goes_to_the_previous_and_is_fenced_too(registry, two):
    one, other = two
    with pytest.raises(Refused, match="no previous champion"):
        registry.rollback(expect=None, who="ada", why="-")
    registry.promote(one, expect=None, who="ada", why="-")
    registry.promote(other, expect=one, who="ada", why="-")
    with pytest.raises(Refused, match="as expected"):
        registry.rollback(expect=one, who="ada", why="-")
    entry = registry.rollback(expect=other, who="ada", why="clicks fell")
    assert (entry.kind, entry.before, entry.after) == ("rollback", other, one)
    assert registry.resolve("champion").number == one
    assert registry.resolve("previous").number == other
    assert "rolled back to by ada" in registry.versions()[1].reason


def test_a_step_whose_maker_died_is_finished_by_the_next(registry, two, monkeypatch):
    one, other = two
    monkeypatch.setattr(registry._ledger, "_follow", lambda entry: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        registry.promote(one, expect=None, who="ada", why="-")
    monkeypatch.undo()
    assert registry.find("champion") is None
    with pytest.raises(Refused, match=f"the champion is version {one}, not none"):
        registry.promote(other, expect=None, who="bob", why="-")
    assert registry.resolve("champion").number == one


def test_a_slow_promoter_does_not_leave_its_alias_over_a_later_one(registry, two, monkeypatch):
    one, other = two
    follow = registry._ledger._follow

    def overtaken(entry):
        # While this one sleeps between its step and its aliases, another finishes the step and makes the next.
        monkeypatch.setattr(registry._ledger, "_follow", follow)
        fast = Registry(registry._connection.uri, registry.name)
        fast.promote(other, expect=one, who="bob", why="-")
        follow(entry)

    monkeypatch.setattr(registry._ledger, "_follow", overtaken)
    registry.promote(one, expect=None, who="ada", why="-")
    assert [e.who for e in registry.ledger()] == ["ada", "bob"]
    assert registry.resolve("champion").number == other


def test_an_alias_set_by_hand_is_respected(registry, two):
    one, other = two
    registry.promote(one, expect=None, who="ada", why="-")
    registry.promote(other, expect=one, who="ada", why="-")
    registry._connection.client.set_registered_model_alias(registry.name, "champion", one)
    entry = registry.promote(other, expect=one, who="bob", why="-")
    assert entry.step == 3
    assert registry.resolve("champion").number == other


@pytest.mark.slow
def test_of_three_promoters_at_once_one_wins(uri, registry, tmp_path):
    bundles = [make_bundle(tmp_path / str(n), str(n)) for n in range(3)]
    numbers = [registry.publish(b, judged(b)).number for b in bundles]
    start = tmp_path / "start"
    code = textwrap.dedent("""
        import sys, time, pathlib
        from recdistill.errors import Refused
        from recdistill.registry import Registry
        uri, name, number, start = sys.argv[1:]
        registry = Registry(uri, name)
        registry.find("champion")
        print("ready", flush=True)
        while not pathlib.Path(start).exists():
            time.sleep(0.005)
        try:
            print("won", registry.promote(number, expect=None, who="p" + number, why="race").step)
        except Refused as e:
            print("refused", e.reasons[0])
    """)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, uri, registry.name, number, str(start)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in numbers
    ]
    try:
        for racer in racers:
            assert racer.stdout.readline() == "ready\n", racer.stderr.read()
        start.touch()
        said = [racer.communicate(timeout=120) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    results = [out.strip() for out, _ in said]
    assert sorted(r.split()[0] for r in results if r) == ["refused", "refused", "won"], said
    winner = numbers[next(i for i, r in enumerate(results) if r.startswith("won"))]
    assert registry.resolve("champion").number == winner
    assert [e.after for e in registry.ledger()] == [winner]
