"""The snapshot of the joiner's window: it comes back whole, and anything that is wrong with it is one sentence."""

import logging
from pathlib import Path

import pytest

from recdistill.loops.ahead import Clock
from recdistill.loops.snapshot import Partition, Snapshot, read, write

WINDOW = Snapshot(
    about="a log",
    n=7,
    moved=1,
    partitions={"rankings/0": Partition(5, Clock(9, "ab", False), [(2, Clock(3)), (4, Clock(8, "x"))])},
    lists=bytes(range(88)),
    given=[b"one", b"", b"three"],
)


def test_it_comes_back_whole_and_the_newest_one_stays_alone(tmp_path: Path) -> None:
    write(tmp_path, Snapshot(about="a log", n=6, moved=1, partitions={}, lists=b"", given=[]))
    write(tmp_path, WINDOW)
    assert read(tmp_path, "a log") == WINDOW
    assert len(list(tmp_path.glob("window-*"))) == 1


def test_where_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read(tmp_path / "nowhere", "a log") is None
    assert caplog.text == "", "a first start is nothing to speak of"


@pytest.mark.parametrize("name", ["about.json", "lists.bin", "given.bin", "sizes.bin", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_one_is_not_used(name: str, harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, WINDOW)
    (path,) = tmp_path.glob(f"window-*/{name}")
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, "a log") is None
    assert "cannot be used" in caplog.text
    assert "reads its window from the log again" in caplog.text


def test_one_of_another_log_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, WINDOW)
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, "another log") is None
    assert "belongs to another log" in caplog.text


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "file", WINDOW)
    assert "without one, a restart reads the window again" in caplog.text
