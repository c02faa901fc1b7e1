"""A person asks, by command, for a student to be made anew: once, at a step, and the same after any kill."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import distilling, world
from support.small_shop import Shop, open_shop

from recdistill.config import LogSettings, load_settings
from recdistill.errors import CheckpointError
from recdistill.loops import wire
from recdistill.loops.distil import Distiller, course, requests
from recdistill.loops.distil.events import Event
from recdistill.loops.distil.requests import ask, done, waiting
from recdistill.loops.feed import feed
from recdistill.loops.standing import student_at
from recdistill.stream import open_log
from recdistill.stream.contract import TopicPartition
from recdistill.stream.embedded import EmbeddedLog
from recdistill.train import Trainer

ANEW = "is made anew: fresh weights learn again, of what the log still holds, all that it has learnt; no bundle is made"
LISTS = 240
BATCH = 16


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    """A student that has learnt all that its log holds."""
    shop = open_shop(tmp_path, monkeypatch, capsys)
    shop.write(lists=LISTS, lanes=2)
    shop("score --drain")
    shop("join --flush")
    shop("distil --drain")
    return shop


def copy_of(shop: Shop, name: str) -> Path:
    return Path(shutil.copytree(shop.folder / "student", shop.folder / name))


def events(directory: Path) -> list[Event]:
    return msgspec.convert(distilling.final(directory).state["stream"]["events"], list[Event])


def test_it_is_made_anew_from_all_that_the_log_holds_and_says_what_will_happen(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    before = distilling.final(shop.folder / "student")
    figures = json.loads(shop("distil --rebuild --drain --json"))
    assert shop.errors.count(ANEW) == 1
    assert "the student in student is made anew" in shop.errors
    assert f"made anew from its newest {LISTS} examples, because a person asked for it" in caplog.text
    assert (figures["rebuilds"], figures["examples"]) == (1, LISTS)
    after = distilling.final(shop.folder / "student")
    assert after.step == 2 * before.step
    # The optimizer begins anew too: one that had gone on would have made twice as many steps.
    made = [name for name in before.tensors if name.startswith("adam.step/")]
    assert made
    assert all(after.tensors[name] == before.tensors[name] for name in made)
    stream = after.state["stream"]
    assert (stream["examples"], stream["range"], stream["lanes"]) == (LISTS, None, before.state["stream"]["lanes"])
    [first, anew] = events(shop.folder / "student")
    assert first.anew is None
    assert anew.anew is not None
    assert (anew.step, anew.anew.start.examples) == (before.step, 0)
    assert waiting(shop.folder / "student") is None
    assert json.loads(shop("distil --drain --json")).get("rebuilds", 0) == 0, "it was asked for once"


def test_it_begins_where_the_person_says_and_what_comes_later_is_learnt_once(shop: Shop) -> None:
    middle = [one.offset for one in shop.read("examples") if one.tp.partition == 0][60]
    other = [one.offset for one in shop.read("examples") if one.tp.partition == 1][60]
    more = [msgspec.structs.replace(one, id=f"more-{one.id}") for one in world.impressions(LISTS + 40)[LISTS:]]
    with closing(open_log(shop.settings)) as log:
        feed(log, more)
    shop("score --drain")
    shop("join --flush")
    place = f"examples/0:{middle},examples/1:{other}"
    figures = json.loads(shop(f"distil --rebuild --from {place} --drain --json"))
    assert f"of what came from {place} on" in shop.errors
    stream = distilling.final(shop.folder / "student").state["stream"]
    start = msgspec.convert(stream["events"][-1]["anew"], requests.Anew).start
    assert 60 < start.examples <= 120, "the newest place that was noted before the one that was typed"
    assert start.examples % BATCH == 0
    assert figures["examples"] == LISTS - start.examples + 40
    assert stream["examples"] == LISTS + 40
    assert sum(stream["teachers"].values()) == LISTS + 40


def test_what_retention_has_removed_is_not_asked_for(shop: Shop) -> None:
    places = distilling.final(shop.folder / "student").state["stream"]["places"]
    assert [one["examples"] for one in places] == sorted({one["examples"] for one in places})
    with closing(EmbeddedLog(shop.settings.path)) as log:
        log.trim(TopicPartition("examples", 1), places[3]["lanes"]["offsets"][1] - 1)
    figures = json.loads(shop("distil --rebuild --drain --json"))
    assert figures["examples"] == LISTS - places[3]["examples"]


def test_where_there_is_nothing_to_learn_again_all_stays_as_it_is(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    before = distilling.final(shop.folder / "student")
    with closing(EmbeddedLog(shop.settings.path)) as log:
        for lane, offset in enumerate(before.state["stream"]["lanes"]["offsets"]):
            log.trim(TopicPartition("examples", lane), offset)
    figures = json.loads(shop("distil --rebuild --drain --json"))
    assert figures.get("rebuilds", 0) == 0
    assert "the log holds nothing behind it that the student has learnt" in caplog.text
    assert distilling.final(shop.folder / "student").step == before.step
    assert waiting(shop.folder / "student") is None


class Killed(BaseException):
    """As SIGKILL: nobody handles it."""


def dying(function: Callable[..., Any], call: int, *, before: bool) -> Callable[..., Any]:
    """A function whose nth call is the last thing that the process does."""
    left = call

    def dies(*args: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and before:
            raise Killed
        found = function(*args, **more)
        if left == 0:
            raise Killed
        return found

    return dies


@pytest.mark.slow
def test_killed_anywhere_on_the_way_it_ends_with_the_same_bytes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    calm, killed = copy_of(shop, "calm"), copy_of(shop, "killed")
    shop("distil --rebuild --drain --set distil.directory=calm")
    deaths: list[tuple[Any, str, int, bool]] = [
        (course, "write", 1, True),  # before it is noted
        (course, "write", 1, False),  # noted, and in no checkpoint
        (Distiller, "claim", 2, True),  # in its checkpoint, and the request is still there
        (course, "done", 1, True),
        (Trainer, "learn", 4, False),  # learning again
        (Trainer, "learn", 9, True),
    ]
    for owner, name, call, before in deaths:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, dying(getattr(owner, name), call, before=before))
            with pytest.raises(Killed):
                shop.type("distil", "--rebuild", "--drain", "--set", "distil.directory=killed")
    shop("distil --drain --set distil.directory=killed")
    assert waiting(killed) is None
    [one], [two] = ([event.anew for event in events(at) if event.anew is not None] for at in (calm, killed))
    assert one.start.examples == two.start.examples
    for at in (calm, killed):  # the two requests have names of their own
        settings = json.loads((at / "settings.json").read_text())
        assert [event["step"] for event in settings] == [0, LISTS // BATCH]
    distilling.assert_same_state(calm, killed, but=("events",))


@pytest.mark.slow
def test_status_says_how_far_it_is_and_what_serves_meanwhile(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed behind its second step: the checkpoint has that much of what is learnt again."""

    def line() -> str:
        return next((one for one in shop("status").splitlines() if one.startswith("made anew")), "")

    steps = LISTS // BATCH
    serves = f"the bundle of step {steps} stays the newest"
    assert line() == ""
    assert shop.json("status")["student"]["anew"] is None
    ask(shop.folder / "student", "beginning")
    assert line().endswith(f" ago; the next distiller there begins; meanwhile {serves}")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "learn", dying(Trainer.learn, 3, before=True))
        with pytest.raises(Killed):
            shop.type("distil", "--drain", "--set", "distil.checkpoint_every=1")
    anew = shop.json("status")["student"]["anew"]
    assert anew == {"asked_us": 0, "share": pytest.approx(2 * BATCH / LISTS)}
    said = f"it has learnt {2 * BATCH / LISTS:.0%} of its part of the log again; until then no bundle is made, and "
    assert line().endswith(said + serves)
    shop("distil --drain")
    assert line() == ""


@pytest.mark.slow
def test_when_the_newest_checkpoints_are_lost_it_is_made_anew_at_the_same_step(shop: Shop) -> None:
    whole = copy_of(shop, "whole")
    shop("distil --rebuild --drain --set distil.directory=whole --set distil.checkpoint_every=4 --set distil.keep=99")
    lost = Path(shutil.copytree(whole, shop.folder / "lost"))
    steps = LISTS // BATCH
    with closing(open_log(shop.settings)) as log:
        feed(log, [msgspec.structs.replace(one, id=f"late-{one.id}") for one in world.impressions(40)])
    shop("score --drain")
    shop("join --flush")
    for path in (lost / "checkpoints").iterdir():
        if int(path.name[5:]) >= steps:
            shutil.rmtree(path)
    assert any((lost / "checkpoints").iterdir()), "a checkpoint before the request must be there"
    for name in ("lost", "lost", "whole"):  # the first call ends where the one ended that it goes on with
        shop(f"distil --drain --set distil.directory={name}")
    distilling.assert_same_state(whole, lost, but=("runs",))


def test_a_distiller_that_works_takes_the_request_with_its_next_batch(shop: Shop) -> None:
    directory = shop.folder / "student"
    stop, counts = threading.Event(), Counter[str]()
    settings = load_settings()
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            wire.distil(settings, stop, False, counts, None)
        except BaseException as e:  # noqa: BLE001 - it is raised below
            failed.append(e)

    service = threading.Thread(target=serve)
    service.start()
    try:
        wait_for(lambda: bool(failed) or working(directory))
        said = json.loads(shop("distil --rebuild --json"))
        assert said["asked"] is True
        wait_for(lambda: bool(failed) or counts["examples"] >= LISTS)
        assert "error" in shop.type("distil", "--drain")[2], "it works still"
    finally:
        stop.set()
        service.join(60)
    assert failed == []
    assert counts["rebuilds"] == 1
    assert waiting(directory) is None
    assert distilling.final(directory).state["stream"]["examples"] == LISTS


def working(directory: Path) -> bool:
    student = student_at(directory)
    return student is not None and student.works is True


def wait_for(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("typed", "code", "sentence"),
    [
        ("--from latest", 2, "--rebuild: does not go with --from latest"),
        ("--warm-start elsewhere", 2, "--rebuild: does not go with --warm-start"),
        ("--from rankings/0:3", 2, "names rankings/0"),
        ("--set distil.directory=nobody", 6, "nobody: there is no student yet that could be made anew"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(shop: Shop, typed: str, code: int, sentence: str) -> None:
    found, _, err = shop.type("distil", "--rebuild", "--drain", *typed.split())
    assert found == code
    assert sentence in err
    assert err.count("\n") == 1
    assert waiting(shop.folder / "student") is None


def test_one_request_waits_and_garbage_is_one_sentence(tmp_path: Path) -> None:
    one = ask(tmp_path, "beginning")
    assert ask(tmp_path, "@5") == one == waiting(tmp_path)
    done(tmp_path)
    done(tmp_path)
    assert waiting(tmp_path) is None
    (tmp_path / requests.NAME).write_bytes(b"\xff{")
    with pytest.raises(CheckpointError, match=r"rebuild.json: is no request .*; delete it, and ask again"):
        waiting(tmp_path)


def test_an_older_event_has_no_request(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics({"examples": 1})
    with closing(log.source(["examples"])) as source:
        lanes = {"identity": msgspec.to_builtins(source.identity()), "offsets": [0], "turn": 0}
    log.close()
    event = msgspec.convert({"step": 3, "lanes": lanes, "recipe": {}, "settings": {}}, Event)
    assert event.anew is None
    assert "anew" not in msgspec.to_builtins(event)
