"""A folder of bundles: old ones go, and none that somebody reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recdistill.bundle import Hold, made, path_of, prune, reading
from recdistill.errors import BundleError

ROOT = Path(__file__).resolve().parents[2]

READER = """
import sys, time
from pathlib import Path
from recdistill.bundle import Hold
hold = Hold(Path(sys.argv[1]))
print("reads", flush=True)
time.sleep(600)
"""


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for step in range(1, 6):
        path = path_of(tmp_path, step)
        path.mkdir()
        (path / "manifest.json").write_text("{}")
        (path / "items.bin").write_text("x")
    return tmp_path


def steps(bundles: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in made(bundles)]


def test_the_newest_stay(bundles: Path) -> None:
    assert prune(bundles, 2) == [path_of(bundles, step) for step in (1, 2, 3)]
    assert steps(bundles) == [4, 5]
    assert prune(bundles, 2) == []
    assert sorted(path.name for path in bundles.iterdir()) == [path.name for path in made(bundles)]


def test_what_somebody_reads_stays_until_nobody_does(bundles: Path) -> None:
    with reading(path_of(bundles, 2)), reading(path_of(bundles, 2)), reading(path_of(bundles, 5)):
        prune(bundles, 1)
        assert steps(bundles) == [2, 5]
        assert (path_of(bundles, 2) / "items.bin").exists()
    prune(bundles, 1)
    assert steps(bundles) == [5]


def test_a_reader_in_another_process_holds_it_until_it_is_killed(bundles: Path) -> None:
    command = [sys.executable, "-c", READER, str(path_of(bundles, 1))]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reads\n"
        prune(bundles, 2)
        assert steps(bundles) == [1, 4, 5]
    finally:
        reader.send_signal(signal.SIGKILL)
        reader.communicate()
    prune(bundles, 2)
    assert steps(bundles) == [4, 5]


def test_who_comes_too_late_is_told(bundles: Path) -> None:
    prune(bundles, 1)
    with pytest.raises(BundleError, match="there is no bundle here"):
        Hold(path_of(bundles, 1))


def test_a_bundle_that_goes_between_opening_and_locking_is_noticed(
    bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def open_and_lose(path: Path, flags: int) -> int:
        number = opened(path, flags)
        monkeypatch.undo()
        prune(bundles, 1)
        return number

    monkeypatch.setattr("recdistill.bundle.kept.os.open", open_and_lose)
    with pytest.raises(BundleError, match="was deleted just now"):
        Hold(path_of(bundles, 1))
    assert steps(bundles) == [5]


def test_what_a_kill_left_behind_goes_too(bundles: Path) -> None:
    for name in (".step-0000000003-abc", ".step-0000000001.old"):
        (bundles / name).mkdir()
        (bundles / name / "items.bin").write_text("half")
    path_of(bundles, 1).joinpath("manifest.json").unlink()
    prune(bundles, 4)
    assert sorted(path.name for path in bundles.iterdir()) == [path_of(bundles, step).name for step in (2, 3, 4, 5)]


def test_nothing_goes_when_the_folder_is_no_longer_ours(bundles: Path) -> None:
    class Lost(Exception):
        pass

    def check() -> None:
        raise Lost

    with pytest.raises(Lost):
        prune(bundles, 1, check=check)
    assert steps(bundles) == [1, 2, 3, 4, 5]


def test_where_there_are_no_locks_nothing_goes_and_it_is_said(
    bundles: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(file: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    Hold(path_of(bundles, 1)).close()
    assert prune(bundles, 4) == []
    assert "is not deleted (No locks available)" in caplog.text
    assert steps(bundles) == [1, 2, 3, 4, 5]
