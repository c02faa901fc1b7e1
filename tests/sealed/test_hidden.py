"""Leftovers are swept, and living writers are left alone, in this process and in others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.kills import Killed, die_at

from recdistill.sealed import discard, hidden, sweep

HOLDS = """
import sys
from pathlib import Path
from recdistill.sealed import hidden
path, _ = hidden.make(Path(sys.argv[1]), "step-3")
(path / "half.bin").write_bytes(b"half")
print(path.name, flush=True)
sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_swept_only_when_its_writer_is_dead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert sweep(tmp_path, "step-9") == []
        assert names(tmp_path) == [name]
        process.kill()
        process.wait(60)
    assert sweep(tmp_path, "step-9") == [tmp_path / name]
    assert names(tmp_path) == []
    assert f"{name}: swept" in caplog.text


def test_only_folders_of_the_same_family_are_swept(tmp_path: Path) -> None:
    mine = [".step-7.0a1b2c3d.part", ".step-7-ab12_x9z", ".step-12.tmp", ".step-12.4711.part"]
    others = [".step-7", "step-7", ".step-x.0a1b2c3d.part", ".best.0a1b2c3d.part", ".step-7.old", ".step-7.part"]
    for name in mine + others:
        (tmp_path / name).mkdir()
    (tmp_path / ".step-8.0a1b2c3d.part").write_bytes(b"a file")
    (tmp_path / ".step-9.0a1b2c3d.part").symlink_to(tmp_path / "step-7")
    assert {path.name for path in sweep(tmp_path, "step-00001")} == set(mine)
    assert set(others) <= set(names(tmp_path))
    # Behind any other name a person may have put these ends.
    for name in (".best-snapshot", ".best.tmp"):
        (tmp_path / name).mkdir()
    assert [path.name for path in sweep(tmp_path, "best")] == [".best.0a1b2c3d.part"]
    assert sweep(tmp_path / "absent", "best") == []


@pytest.mark.parametrize("after", [False, True])
def test_no_half_of_a_discarded_folder_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    nth, files = 0, ["a.bin", "b.bin"]
    while True:
        nth += 1
        folder = tmp_path / f"{nth}" / "it"
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).write_bytes(b"x")
        with monkeypatch.context() as patch:
            die_at(patch, nth, after=after)
            try:
                discard(folder)
            except Killed:
                pass
            else:
                break
        assert not folder.exists() or names(folder) == files
        sweep(folder.parent, "it")
        assert names(folder.parent) in ([], ["it"])
    assert nth > 4


def test_two_makers_never_get_the_same_folder(tmp_path: Path) -> None:
    made = [hidden.make(tmp_path, "it") for _ in range(20)]
    assert len({path for path, _ in made}) == 20
    assert sweep(tmp_path, "it") == []
    for _, lock in made:
        os.close(lock)
    assert len(sweep(tmp_path, "it")) == 20
