"""What a checkpoint rests on: a log that lost it is noticed, and a power cut takes nothing of it away."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest
from support import world
from support.distilling import final, run, scored, settings
from support.power import Platter

from recdistill import checkpoint
from recdistill.config import LogSettings
from recdistill.errors import OutOfRange, WrongLog
from recdistill.loops import join
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.saves import PAUSE, SMALL, Saves
from recdistill.loops.feed import feed
from recdistill.stream import Log, open_log


def more(log: Log, count: int, seed: int) -> None:
    """New lists, as they come from outside, until they are examples."""
    feed(log, world.impressions(count, seed=seed))
    scored(log)
    join.run(log, soft="with_labels", window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)


def test_the_next_checkpoint_waits_for_the_one_before_and_for_a_pause(log: Log, tmp_path: Path) -> None:
    now, written = [100.0], threading.Event()
    folder = StudentFolder(tmp_path / "s", keep=2)
    saves = Saves(folder, log.stage("test"), clock=lambda: now[0])
    saves.begin({})
    assert saves.free

    def write() -> None:
        assert written.wait(30)

    saves.start(write, {}, size=SMALL + 1)
    assert not saves.free
    now[0] += 4  # so long it takes
    written.set()
    counts: Counter[str] = Counter()
    saves.finish(counts)
    assert counts == {"checkpoints": 1}
    seen = []
    for _ in range(20):
        seen.append(saves.free)
        now[0] += 1
    saves.start(write, {}, size=SMALL)
    assert saves.free, "a small one is written whenever it is due"
    saves.finish(counts)
    assert seen == [False] * int(4 * PAUSE) + [True] * (20 - int(4 * PAUSE))
    saves.close()
    folder.close()


@pytest.mark.slow
def test_what_a_checkpoint_rests_on_outlasts_a_power_cut(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more(log, 20, seed=5)
    platter = Platter(tmp_path, monkeypatch)
    assert run(log, settings(tmp_path / "s"))["examples"] == 170
    more(log, 20, seed=6)
    cut = open_log(LogSettings(path=str(platter.after_a_power_cut(tmp_path / "cut"))))
    assert run(cut, settings(tmp_path / "s"))["examples"] == 0
    more(cut, 40, seed=7)
    assert run(cut, settings(tmp_path / "s"))["examples"] == 40, "what came afterwards is learnt, each of it"
    cut.close()


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.slow
def test_a_log_that_lost_what_was_learnt_is_noticed(written: Path, log: Log, tmp_path: Path, passes: int) -> None:
    """As when a copy of the log is put back, or when a disk did not keep what it said it had."""
    chosen = settings(tmp_path / "s", passes=passes)
    more(log, 30, seed=5)

    class Killed(Exception):
        pass

    def die(done: int, total: int | None) -> None:
        if passes > 1 and done > 20:  # in the first pass, before the part that will be lost
            raise Killed

    if passes > 1:
        with pytest.raises(Killed):
            run(log, chosen, progress=die)
    else:
        assert run(log, chosen)["examples"] == 180
    (tmp_path / "old").mkdir()
    old = open_log(LogSettings(path=str(shutil.copy(written, tmp_path / "old"))))
    with pytest.raises(OutOfRange, match="outside of what the log holds"):
        run(old, chosen)
    more(old, 60, seed=6)
    saved = final(tmp_path / "s").path
    with pytest.raises(WrongLog, match=r"examples/0 was read up to \d+, and then the log was cut back"):
        run(old, chosen)
    assert final(tmp_path / "s").path == saved
    old.close()


@pytest.mark.slow
def test_a_checkpoint_without_a_witness_goes_on(log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(log, settings(tmp_path / "s"))
    found = final(tmp_path / "s")
    stream = {key: value for key, value in found.state["stream"].items() if key != "witness"}  # as it once was
    shutil.rmtree(tmp_path / "s")
    checkpoint.save(tmp_path / "s" / "checkpoints", found.step, found.tensors, {**found.state, "stream": stream})
    assert run(log, settings(tmp_path / "s"))["examples"] == 0
    assert "has no witness" in caplog.text
    assert final(tmp_path / "s").state["stream"]["witness"].keys() == {"examples/0", "examples/1", "items/0"}
