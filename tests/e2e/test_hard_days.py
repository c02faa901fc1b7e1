"""Hard days on the embedded log: its disk is full, and the clock of the machine jumps by an hour. Nothing is lost."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import world
from support.distilling import assert_same_state, final
from support.full_disk import full_after
from support.small_shop import Shop, open_shop

from recdistill.loops.feed import feed
from recdistill.records import Example, Ranking, decode
from recdistill.sealed import pieces
from recdistill.stream import open_log, standard_topics
from recdistill.stream.embedded import tables

pytestmark = pytest.mark.e2e


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return open_shop(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("verb", ["score --drain", "join --flush"])
def test_a_full_disk_is_one_sentence_and_the_next_start_goes_on_exactly(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """SQLite itself says that the disk is full: its file may not grow by more than a page."""
    shop.write(lists=120)
    if verb.startswith("join"):
        shop("score --drain")
    before = {topic: shop.read(topic) for topic in ("impressions", "feedback", "rankings")}
    with monkeypatch.context() as patched:
        patched.setattr(tables, "connect", full_after(1))
        code, _, err = shop.type(*verb.split())
        assert code == 4
        [line] = err.strip().splitlines()
        assert line.endswith("database or disk is full; free some disk space and start again; nothing was lost")
    assert {topic: shop.read(topic) for topic in before} == before
    shop("score --drain")
    shop("join --flush")
    assert sorted(decode(Ranking, one.value).impression.id for one in shop.read("rankings")) == sorted(
        f"imp-{n}" for n in range(120)
    )
    joined = [decode(Example, one.value).ranking.impression.id for one in shop.read("examples")]
    assert sorted(joined) == sorted(f"imp-{n}" for n in range(120))
    assert shop.read("dead-letters") == []


@pytest.mark.parametrize("piece", [1, 4])
def test_a_full_disk_of_the_student_is_one_sentence_and_the_next_start_ends_with_the_same_bytes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """The disk takes the first pieces of the third checkpoint, and no more."""
    shop.write(lists=160)
    shop("score --drain")
    shop("join --flush")
    shop("distil --drain --set distil.directory=calm --set distil.checkpoint_every=3")
    typed = "distil --drain --set distil.directory=full --set distil.checkpoint_every=3"
    written, arrays = [0], pieces.arrays

    def some(tensors: Any) -> Iterator[Any]:
        written[0] += 1
        for n, one in enumerate(arrays(tensors)):
            if written[0] == 3 and n == piece:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield one

    with monkeypatch.context() as patched:
        patched.setattr(pieces, "arrays", some)
        code, _, err = shop.type(*typed.split())
    assert code == 6
    said = " ".join(err.split())
    assert (
        "full/checkpoints/step-6: cannot be written (No space left on device); free some disk space and start again"
        in said
    )
    assert 3 <= final(shop.folder / "full").step < 10
    shop(typed)
    assert_same_state(shop.folder / "calm", shop.folder / "full")


def told(shop: Shop) -> list[tuple[str, tuple[float, ...], str]]:
    records = [decode(Example, one.value) for one in shop.read("examples")]
    return [(one.ranking.impression.id, one.labels, one.label_state) for one in records]


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_by_an_hour_changes_no_example_and_no_weight(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    jump_s: float,
) -> None:
    """The machine of the log and the stages jumps in the middle; the times of the records are the product's."""
    real, offset_s = time.time_ns, [0.0]
    monkeypatch.setattr(time, "time_ns", lambda: real() + round(offset_s[0] * 1e9))
    now_us = real() // 1000
    lists = [
        msgspec.structs.replace(one, time_us=now_us + one.time_us - 100_000_000, history=())
        for one in world.impressions(80)
    ]
    clicks = world.feedback(lists, late=0.0)
    found = {}
    for name in ("steady", "jumps"):
        folder = tmp_path / name
        folder.mkdir()
        shop = open_shop(folder, monkeypatch, capsys)
        offset_s[0] = 0.0
        with closing(shop.log()) as log:
            log.create_topics(standard_topics())
            feed(log, world.items(20))
        for n, half in enumerate((slice(0, 40), slice(40, 80))):
            offset_s[0] = jump_s if name == "jumps" and n else 0.0
            some = lists[half]
            ids = {one.id for one in some}
            with closing(open_log(shop.settings)) as log:
                feed(log, [*some, *(click for click in clicks if click.impression_id in ids)])
            shop("score --drain")
            shop("join --drain")
            shop("distil --drain")
        shop("join --flush")
        shop("distil --drain")
        assert shop.read("dead-letters") == []
        found[name] = told(shop)
    assert len(found["steady"]) == 80
    assert any(any(labels) for _, labels, _ in found["steady"])
    assert found["jumps"] == found["steady"]
    one, two = (final(tmp_path / name / "student") for name in found)
    assert one.step == two.step > 4
    assert {name: array.tobytes() for name, array in one.tensors.items()} == {
        name: array.tobytes() for name, array in two.tensors.items()
    }
    assert ("the log's clock went back by" in caplog.text) == (jump_s < 0)
