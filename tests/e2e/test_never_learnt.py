"""A user who is held out moves no weight of a student, and is among the lists that judge it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from support import world
from support.small_shop import EASY_GATE, IN_THE_FOLDER, Shop, prepare

from recdistill import checkpoint
from recdistill.loops.held import Share
from recdistill.records import Example, Feedback, Impression, decode

SHARE = 0.2
COUNT = 300


def held(name: str) -> bool:
    return Share(least=SHARE, most=SHARE, per_day=1.0).holds(name, 0)


NAMES = [f"somebody-{n}" for n in range(100)]
LEARNT = [name for name in NAMES if not held(name)]
PLANTED = next(name for name in NAMES if held(name))


def stream(planted: str | None) -> tuple[list[Impression], list[Feedback]]:
    """Lists and clicks. Every fifth list is the planted user's, or missing; those of all others stay the same."""
    lists, clicks = [], []
    of = {click.impression_id: click for click in world.feedback(world.impressions(COUNT, seed=3), seed=3, late=0.0)}
    for n, one in enumerate(world.impressions(COUNT, seed=3)):
        mine = n % 5 == 2
        if mine and planted is None:
            continue
        lists.append(msgspec.structs.replace(one, user=planted if mine else LEARNT[n % 7]))
        if mine:  # likes what nobody else would choose, each time
            clicks.append(Feedback(f"f-{n}", one.id, one.candidates[-1].item, "click", time_us=one.time_us + 1000))
        elif one.id in of:
            clicks.append(of[one.id])
    return lists, clicks


def learnt(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    planted: str | None,
    soft: str,
) -> tuple[Shop, dict[str, bytes]]:
    """The whole way, by verbs. Returns the shop, and the weights and the state of the optimizer."""
    folder.mkdir()
    settings = IN_THE_FOLDER.replace("most = 0\n", f"least = {SHARE}\nmost = {SHARE}\n")
    prepare(folder, monkeypatch, settings.replace('"with_labels"', f'"{soft}"') + EASY_GATE)
    shop = Shop(folder, capsys)
    shop("topics create")
    shop.take_in("items", "items", world.items())
    lists, clicks = stream(planted)
    shop.take_in("lists", "impressions", lists)
    shop.take_in("clicks", "feedback", clicks)
    shop("score --drain")
    shop("join --flush")
    shop("distil --drain")
    found = checkpoint.latest(folder / "student" / "checkpoints")
    assert found is not None
    return shop, {name: tensor.tobytes() for name, tensor in found.tensors.items()}


def users(shop: Shop, topic: str) -> set[str | None]:
    return {decode(Example, message.value).ranking.impression.user for message in shop.read(topic)}


@pytest.mark.slow
@pytest.mark.parametrize("soft", ["at_once", "with_labels"])
def test_no_list_of_a_held_out_user_moves_a_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], soft: str
) -> None:
    calm, without = learnt(tmp_path / "calm", monkeypatch, capsys, None, soft)
    assert users(calm, "held-out") == set()
    shop, with_ = learnt(tmp_path / "planted", monkeypatch, capsys, PLANTED, soft)
    assert users(shop, "held-out") == {PLANTED}
    assert users(shop, "examples") == users(calm, "examples") == set(LEARNT[:7])
    assert len(shop.read("held-out")) == COUNT // 5
    assert with_.keys() == without.keys()
    assert with_ == without
    # The student has learnt everything, and the held-out lists alone judge it.
    text = shop("evaluate")
    assert "judged: held-out/0:" in text
    assert "lists: of users from whom no student learns, because there are enough of them" in text
    assert "; they are of users from whom no student learns" in text
    # A user who is not held out does move them: the comparison can fail.
    other, moved = learnt(tmp_path / "moved", monkeypatch, capsys, LEARNT[9], soft)
    assert users(other, "held-out") == set()
    assert moved != without


def test_somebody_is_held_out_and_somebody_is_not() -> None:
    """The share of these names is about what it should be."""
    names: Sequence[str] = [f"name-{n}" for n in range(2000)]
    assert 0.16 < sum(map(held, names)) / len(names) < 0.24
