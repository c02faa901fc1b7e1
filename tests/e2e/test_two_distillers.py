"""Two distillers and one folder, as processes: one wins, and one that was paused meanwhile finds out and stops."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support import world
from support.services import Services
from support.waiting import wait_for

from recdistill import checkpoint
from recdistill.bundle import made, open_bundle
from recdistill.config import (
    DistilSettings,
    FeatureSettings,
    LogSettings,
    Settings,
    StudentSettings,
    to_toml,
)
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.loops import join, score
from recdistill.loops.distil.owner import NAME
from recdistill.loops.feed import feed
from recdistill.loops.wire import distil_from
from recdistill.records import DEAD_LETTERS
from recdistill.stream import Log, open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher
from tools import processes

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SPEC = FeatureSpec(
    history=HistorySpec(length=4, actions=("click",)),
    id=IdSpec(capacity=100, hashed=4),
    item={"genre": Field("category", capacity=8, hashed=2), "title": Field("text", capacity=32)},
    context={"hour": Field("category", capacity=24, hashed=0, max_values=1)},
)
LISTS = world.impressions(240)


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    features = tmp_path / "features.toml"
    features.write_text(to_toml(msgspec.to_builtins(SPEC)), encoding="utf-8")
    return Settings(
        log=LogSettings(path=str(tmp_path / "log.sqlite")),
        features=FeatureSettings(file=str(features)),
        student=StudentSettings(dim=4, hidden=8, context_dim=4),
        distil=DistilSettings(
            directory=str(tmp_path / "student"), batch=8, checkpoint_every=1, export_every=0, wait_s=0.05, threads=1
        ),
    )


@pytest.fixture
def log(chosen: Settings) -> Iterator[Log]:
    opened = open_log(chosen.log)
    opened.create_topics(standard_topics())
    feed(opened, world.items())
    more(opened, 0)
    yield opened
    opened.close()


def more(log: Log, part: int) -> None:
    """80 more examples."""
    lists = LISTS[80 * part : 80 * (part + 1)]
    feed(log, lists)
    teacher = FunctionTeacher(world.by_hash, "hash", "1", "logit")
    score.run(log, teacher, wait_s=0.05, stop=threading.Event(), drain=True)
    join.run(log, window_s=0.001, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)


def distiller(tmp_path: Path, name: str, chosen: Settings) -> Services:
    (tmp_path / name).mkdir()
    started = Services(tmp_path / name, chosen)
    started.start("distiller")
    return started


def step(chosen: Settings) -> int:
    found = sorted(Path(chosen.distil.directory, "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    return int(found[-1].name[5:]) if found else -1


def said(services: Services) -> list[str]:
    lines = [json.loads(line) for line in services.log("distiller").read_text().splitlines() if line.startswith("{")]
    assert not any("exception" in line for line in lines)
    return [line["message"] for line in lines if line["level"] == "error"]


def ended(services: Services) -> int:
    process = services._running.pop("distiller")
    return process.wait(timeout=120)


def pid(services: Services) -> int:
    return services._running["distiller"].pid


def same_as_calm(log: Log, chosen: Settings, tmp_path: Path) -> None:
    """Whether what the processes made is what one undisturbed run makes."""
    quiet = msgspec.structs.replace(chosen.distil, directory=str(tmp_path / "calm"), checkpoint_every=1000)
    distil_from(log, SPEC, chosen.student, chosen.loss, quiet, chosen.watch, stop=threading.Event(), drain=True)
    one = checkpoint.latest(tmp_path / "calm" / "checkpoints")
    two = checkpoint.latest(Path(chosen.distil.directory) / "checkpoints")
    assert one is not None
    assert two is not None
    assert one.step == two.step
    for name, tensor in one.tensors.items():
        assert tensor.tobytes() == two.tensors[name].tobytes(), name
    assert one.state["trainer"] == two.state["trainer"]


def test_of_two_that_start_at_once_one_wins_and_keeps_the_folder_while_paused_until_it_is_killed(
    log: Log, chosen: Settings, tmp_path: Path
) -> None:
    both = [distiller(tmp_path, name, chosen) for name in "ab"]
    deadline = time.monotonic() + 120
    while not (lost := [each for each in both if each._running["distiller"].poll() is not None]):
        assert time.monotonic() < deadline, "both go on"
        time.sleep(0.05)
    [first] = [each for each in both if each not in lost]
    assert ended(lost[0]) == 6
    [sentence] = said(lost[0])
    assert "another distiller works in this folder" in sentence
    first.wait(lambda: step(chosen) >= 3, what="some steps")
    number = pid(first)
    processes.signal_group(first._running["distiller"], signal.SIGSTOP)
    second = distiller(tmp_path, "c", chosen)
    assert ended(second) == 6
    [sentence] = said(second)
    assert f"process {number} on {socket.gethostname()}" in sentence
    first.kill("distiller")
    more(log, 1)
    third = distiller(tmp_path, "d", chosen)
    third.wait(lambda: step(chosen) == 20, what="all steps")
    assert third.end() == {"distiller": 0}
    # It went on from what the killed one had saved. One that began at 0 would end with the same bytes.
    [number] = re.findall(r"resumed at step (\d+)", third.log("distiller").read_text())
    assert int(number) >= 3
    same_as_calm(log, chosen, tmp_path)


def makers(student: Path) -> list[int]:
    """The processes that make a bundle of this student now."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"recdistill.loops.distil.making" in words and any(str(student).encode() in word for word in words):
                found.append(int(place.name))
    return found


def test_one_that_is_killed_while_a_bundle_is_made_leaves_no_process_and_no_half_of_a_bundle(
    log: Log, chosen: Settings, tmp_path: Path
) -> None:
    often = msgspec.structs.replace(chosen.distil, export_every=1, keep=100, publish=False)
    exporting = msgspec.structs.replace(chosen, distil=often)
    student = Path(often.directory)
    first = distiller(tmp_path, "a", exporting)
    # The snapshot is whole, so its process reads it, or makes the bundle.
    first.wait(lambda: any(student.glob("exporting/step-*/order.json")) and makers(student) != [], what="a bundle")
    first.kill("distiller")
    wait_for(lambda: makers(student) == [], 60.0)
    whole = {path.name: open_bundle(path).content_hash for path in made(student / "bundles")}
    second = distiller(tmp_path, "b", exporting)
    second.wait(lambda: step(exporting) == 10 and len(made(student / "bundles")) > len(whole), what="another bundle")
    assert second.end() == {"distiller": 0}
    assert list((student / "exporting").iterdir()) == []
    assert makers(student) == []
    now = {path.name: open_bundle(path).content_hash for path in made(student / "bundles")}
    assert whole.items() <= now.items()
    same_as_calm(log, chosen, tmp_path)


def test_one_that_wakes_after_its_successor_took_over_changes_nothing(
    log: Log, chosen: Settings, tmp_path: Path
) -> None:
    """The file goes away while the first is paused, as its lock does on a disk that two machines share."""
    first = distiller(tmp_path, "a", chosen)
    first.wait(lambda: step(chosen) == 10, what="the first steps")
    processes.signal_group(first._running["distiller"], signal.SIGSTOP)
    (Path(chosen.distil.directory) / NAME).unlink()
    second = distiller(tmp_path, "b", chosen)
    with log.stage("hostile").transaction() as transaction:
        transaction.send("examples", b"\x00nothing")
    more(log, 1)
    second.wait(lambda: step(chosen) == 20, what="the successor's steps")
    before = listing(chosen)
    processes.signal_group(first._running["distiller"], signal.SIGCONT)
    assert ended(first) == 4
    [sentence] = said(first)
    assert "has taken the folder over, so this process stops" in sentence
    assert listing(chosen) == before
    more(log, 2)
    second.wait(lambda: step(chosen) == 30, what="the successor goes on")
    assert second.end() == {"distiller": 0}
    source = log.source([DEAD_LETTERS])
    letters = [dict(letter.headers)["offset"] for letter in source.read(100, 0.2)]
    source.close()
    assert len(letters) == 1
    same_as_calm(log, chosen, tmp_path)


def listing(chosen: Settings) -> list[tuple[str, int]]:
    folder = Path(chosen.distil.directory) / "checkpoints"
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))
