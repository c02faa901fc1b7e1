"""One process owns a folder; who lost it finds it out."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recdistill.errors import CheckpointError, Fenced
from recdistill.loops.distil.owner import NAME, Owner

ROOT = Path(__file__).resolve().parents[3]

HOLDER = """
import sys, time
from pathlib import Path
from recdistill.loops.distil.owner import Owner
owner = Owner(Path(sys.argv[1]))
print("owns", flush=True)
time.sleep(600)
"""


def started(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    assert process.stdout.readline() == b"owns\n"
    return process


@pytest.mark.parametrize("number", [None, signal.SIGSTOP], ids=["running", "paused"])
def test_a_second_one_is_told_who_the_first_is_and_follows_a_kill_at_once(
    tmp_path: Path, number: signal.Signals | None
) -> None:
    first = started(tmp_path)
    try:
        if number is not None:
            first.send_signal(number)
        with pytest.raises(CheckpointError) as refused:
            Owner(tmp_path)
        sentence = str(refused.value)
        assert f"process {first.pid} on {socket.gethostname()}, since 20" in sentence
        assert "another distiller works in this folder" in sentence
        assert "choose another distil.directory" in sentence
    finally:
        first.kill()
        first.communicate()
    owner = Owner(tmp_path)
    owner.check()
    owner.close()


def test_it_is_given_back(tmp_path: Path) -> None:
    first = Owner(tmp_path / "a")
    first.close()
    first.close()
    second = Owner(tmp_path / "a")
    second.check()
    assert second.student == first.student
    with pytest.raises(Fenced, match=r"has taken the folder over, so this process stops"):
        first.check()
    second.close()


def lose_by_removal(path: Path) -> None:
    path.unlink()


def lose_to_another_machine(path: Path) -> None:
    note = json.loads(path.read_bytes())
    path.write_text(json.dumps(note | {"token": "other", "host": "far-away", "pid": 7}))


@pytest.mark.parametrize(
    ("lose", "says"),
    [(lose_by_removal, "somebody has removed the file"), (lose_to_another_machine, "process 7 on far-away")],
)
def test_who_lost_the_folder_stops(tmp_path: Path, lose: Callable[[Path], None], says: str) -> None:
    owner = Owner(tmp_path)
    owner.check()
    lose(tmp_path / NAME)
    with pytest.raises(Fenced, match=says):
        owner.check()
    owner.close()


def test_where_there_are_no_locks_the_later_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(file: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("recdistill.loops.distil.owner.fcntl.flock", no_locks)
    first, second = Owner(tmp_path), Owner(tmp_path)
    assert "this disk has no locks" in caplog.text
    second.check()
    with pytest.raises(Fenced):
        first.check()
    first.close()
    second.close()


def test_a_copy_of_a_folder_is_a_student_of_its_own(tmp_path: Path) -> None:
    one = Owner(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    other = Owner(tmp_path / "b")
    assert one.student != other.student
    one.check()
    other.check()
    one.close()
    other.close()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="give distil.directory a folder that can"):
        Owner(tmp_path / "file" / "student")


def test_a_disk_that_is_full_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(CheckpointError, match=f"{NAME}: cannot be written .No space left on device.; free some disk"):
        Owner(tmp_path)
    monkeypatch.undo()
    Owner(tmp_path).close()


def test_a_note_that_nobody_can_read_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff not json" * 300)
    owner = Owner(tmp_path)
    owner.check()
    owner.close()
