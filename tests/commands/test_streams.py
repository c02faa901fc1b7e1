"""`topics`: what grows, what is trimmed, and what a stage on the embedded log says when its file is gone."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from support import world
from support.small_shop import Shop, open_shop

from recdistill.cli import VERBS
from recdistill.data.simulated import SimulatorSettings
from recdistill.demo import LiveOptions
from recdistill.errors import RecdistillError, WrongLog
from recdistill.loops import join, score
from recdistill.loops.feed import feed
from recdistill.stream import Log, TopicPartition, standard_topics
from recdistill.teachers.function import FunctionTeacher


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return open_shop(tmp_path, monkeypatch, capsys)


def test_the_help_of_simulate_tells_the_simulator_s_defaults() -> None:
    said = " ".join(VERBS["simulate"].parser().format_help().split())
    plain = SimulatorSettings()
    for option, default in {
        "--impressions N": plain.impressions,
        "--items N": plain.items,
        "--users N": plain.users,
        "--days N": plain.days,
        "--world KIND": plain.kind,
        "--labelled SHARE": plain.click_rate,
        "--narrow SHARE": plain.narrow or "none",
        "--shift SHARE": plain.shift,
    }.items():
        found = re.search(rf"  {option} [^)]*\(default: (\S+)\)".replace("  ", " "), said)
        assert found is not None, option
        assert found[1] == str(default), option
    demo = " ".join(VERBS["demo"].parser().format_help().split())
    assert f"how many lists are shown (default: {plain.impressions})" in demo
    assert f"how many lists come a second (default: {LiveOptions().rate:g})" in demo


# Topics that grow


def test_partitions_are_added_to_what_goes_together(shop: Shop) -> None:
    shop.write(lists=20, partitions=2, lanes=3)
    code, _, err = shop.type("topics", "create", "--set", "topics.partitions=4", "--set", "topics.lanes=3")
    assert code == 4
    assert "add partitions with `recdistill topics create --grow`" in err
    grown = shop.figures("topics", "create", "--grow", "--set", "topics.partitions=4")
    assert grown["grown"] == ["impressions", "rankings", "feedback"]
    with closing(shop.log()) as log:
        assert log.topics() == standard_topics(4, 3)
        feed(log, world.impressions(80)[20:])
    assert shop.figures("score", "--drain")["rankings"] == 80
    assert {message.tp.partition for message in shop.read("rankings")} == {0, 1, 2, 3}
    assert shop.figures("join", "--drain")["examples"] > 60
    assert shop.type("topics", "create", "--grow")[1] == "all topics exist already\n"


@pytest.mark.slow
def test_partitions_that_were_added_under_a_running_stage_are_noticed(shop: Shop) -> None:
    shop.write(lists=20, partitions=2)
    for run in (scoring, joining):
        with closing(shop.log()) as log:
            running = Running(run, log)
            until(running.began)
            with closing(shop.log()) as other:
                other.grow_topics(
                    dict.fromkeys(("impressions", "rankings", "feedback"), other.topics()["feedback"] + 1)
                )
                feed(other, world.impressions(60)[20:])
            error = running.end()
            assert isinstance(error, WrongLog)
            assert "recdistill topics create --grow" in str(error)


def test_a_topic_that_grew_alone_is_one_sentence_with_the_way_on(shop: Shop) -> None:
    shop.write(lists=20, partitions=2)
    with closing(shop.log()) as log:
        log.grow_topics({"impressions": 3})
    code, _, err = shop.type("score", "--drain")
    assert code == 4
    assert "impressions has 3 and rankings has 2 partitions" in err
    assert "`recdistill topics create --grow`" in err
    assert shop.type("topics", "create", "--grow")[0] == 0
    assert shop.figures("score", "--drain")["rankings"] == 20


# A log that is not there any more


class Running:
    """A stage in a thread, as a service runs it."""

    def __init__(self, run: object, log: Log) -> None:
        self.stop = threading.Event()
        self.error: Exception | None = None
        self.progress = 0
        self._run, self._log = run, log
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        assert callable(self._run)
        try:
            self._run(self._log, self.stop, self.tell)
        except RecdistillError as e:
            self.error = e

    def tell(self, *_: object) -> None:
        self.progress += 1

    def began(self) -> bool:
        return self.progress > 0

    def end(self, patience_s: float = 60) -> Exception | None:
        self._thread.join(patience_s)
        assert not self._thread.is_alive(), "the stage goes on as if nothing had happened"
        return self.error


def scoring(log: Log, stop: threading.Event, progress: object) -> None:
    teacher = FunctionTeacher(world.by_hash, "hash", "3", "logit")
    score.run(log, teacher, wait_s=0.05, stop=stop, progress=progress)  # type: ignore[arg-type]


def joining(log: Log, stop: threading.Event, progress: object) -> None:
    join.run(log, window_s=5, wait_s=0.05, stop=stop, progress=progress)  # type: ignore[arg-type]


def until(what: object, patience_s: float = 60) -> None:
    assert callable(what)
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("run", [scoring, joining])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_log_that_is_removed_or_replaced_ends_the_stage(shop: Shop, run: object, *, replaced: bool) -> None:
    shop.settings = type(shop.settings)(path=str(shop.folder / "data" / "log.sqlite"))
    shop.write(lists=20)
    with closing(shop.log()) as log:
        running = Running(run, log)
        until(running.began)
        if replaced:
            there = shop.settings.path
            shop.settings = type(shop.settings)(path=str(shop.folder / "other.sqlite"))
            shop.write(lists=30)
            Path(shop.settings.path).replace(there)
        else:
            shutil.rmtree(shop.folder / "data")
        error = running.end()
    assert isinstance(error, WrongLog)
    assert ("was replaced by another file" if replaced else "was removed") in str(error)
    assert "stop all processes that use it" in str(error)


def test_what_is_written_into_a_removed_log_does_not_count_as_written(shop: Shop) -> None:
    shop.write(lists=3)
    with closing(shop.log()) as log, closing(log.stage("shop")) as stage:
        Path(shop.settings.path).unlink()
        with (
            pytest.raises(WrongLog, match="was removed while this process used it"),
            stage.transaction() as transaction,
        ):
            transaction.send("items", None, key=b"item-1")
        with pytest.raises(WrongLog, match="was removed"):
            log.source(["items"])


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes SQLite behave as on a read-only disk. A test cannot mount one, and root may write everywhere."""
    connect = sqlite3.connect

    def refusing(path: str, **options: object) -> sqlite3.Connection:
        if "mode=ro" not in str(path):
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        if "immutable" not in str(path):
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return connect(path, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", refusing)


def test_a_log_on_a_read_only_disk_can_be_looked_at(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(lists=8)
    with closing(sqlite3.connect(shop.settings.path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    read_only(monkeypatch)
    code, out, err = shop.type("inspect", "impressions", "--json")
    assert code == 0, err
    assert out.count('"imp-') == 8
    assert shop.figures("topics", "list")["topics"]
    code, _, err = shop.type("score", "--drain")
    assert code == 4
    assert "is read-only here, so no stage can work on it" in err


# Trimming


def size(shop: Shop) -> int:
    return sum(path.stat().st_size for path in shop.folder.glob("log.sqlite*"))


@pytest.mark.slow
def test_trim_removes_what_nobody_needs_and_gives_the_space_back(shop: Shop) -> None:
    shop.write(lists=1500)
    before = {topic: len(shop.read(topic)) for topic in ("impressions", "feedback")}
    result = shop.figures("topics", "trim", "--set", "topics.keep_days=0")
    assert result["freed_bytes"] >= 0
    assert len(shop.read("impressions")) == before["impressions"]  # nobody has scored them yet
    shop.figures("score", "--drain")
    shop.figures("join", "--drain")
    large = size(shop)
    # A week has not passed: all stays.
    assert all(each["removed"] == 0 for each in shop.figures("topics", "trim")["partitions"])  # type: ignore[attr-defined]
    examples = shop.read("examples")
    result = shop.figures("topics", "trim", "--set", "topics.keep_days=0")
    assert shop.read("impressions") == []
    assert 0 < len(shop.read("rankings")) < 20  # those whose window is open
    assert shop.read("examples") == examples  # no student has learnt them yet
    assert size(shop) < 0.7 * large
    assert shop.figures("join", "--drain").get("examples", 0) == 0
    with closing(shop.log()) as log:
        made = world.impressions(1550)[1500:]
        feed(log, [*made, *world.feedback(made)])
    shop.figures("score", "--drain")
    assert shop.figures("join", "--drain")["examples"] >= 50  # those that were open are among them
    ids = [message.key for message in shop.read("examples")]
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_trim_leaves_what_a_checkpoint_still_needs(shop: Shop) -> None:
    shop.write(lists=200)
    shop.figures("score", "--drain")
    shop.figures("join", "--drain")
    shop.figures("distil", "--drain", "--set", "distil.checkpoint_every=4")
    at = [message.offset for message in shop.read("examples")]
    shop.figures("topics", "trim", "--set", "topics.keep_days=0")
    left = [message.offset for message in shop.read("examples")]
    assert left == at[len(at) - len(left) :]
    assert 0 < len(left) < len(at)
    # The oldest checkpoint that is kept can still be gone on from.
    checkpoints = sorted((shop.folder / "student" / "checkpoints").iterdir(), key=lambda path: int(path.name[5:]))
    learnt = shop.figures("distil", "--drain").get("steps", 0)
    assert learnt == 0
    for newer in checkpoints[1:]:
        shutil.rmtree(newer)
    assert shop.figures("distil", "--drain")["examples"] > 0


def test_grow_goes_with_create_only(shop: Shop) -> None:
    code, _, err = shop.type("topics", "list", "--grow")
    assert code == 2
    assert "--grow goes with `topics create`" in err


def test_a_log_of_an_older_version_shrinks_too(shop: Shop) -> None:
    shop.write(lists=600)
    with closing(sqlite3.connect(shop.settings.path)) as file:
        file.execute("PRAGMA auto_vacuum = NONE")
        file.execute("VACUUM")
        assert file.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    shop.figures("score", "--drain")
    before = Path(shop.settings.path).stat().st_size
    assert shop.figures("topics", "trim", "--set", "topics.keep_days=0")["freed_bytes"] > 0
    assert Path(shop.settings.path).stat().st_size < before
    assert shop.read("impressions") == []
    assert TopicPartition("rankings", 0) in {message.tp for message in shop.read("rankings")}
