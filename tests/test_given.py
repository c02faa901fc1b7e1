"""Small files that a person names: against devices, pipes, folders and large files of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recdistill.errors import ConfigError, DataError
from recdistill.given import read_bytes, read_text


def test_a_file_is_read_whole_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x00\xff\r\n")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_bytes(tmp_path / "link") == b"\x00\xff\r\n"
    (tmp_path / "text").write_bytes("\ufeffa = 'é'\r\nb = 1\n".encode())
    assert read_text(tmp_path / "text", what="settings") == "a = 'é'\nb = 1\n"


def test_the_limit_is_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", most=5) == b"12345"
    with pytest.raises(DataError, match="has 5 bytes, more than the 4 that it may have; give another"):
        read_bytes(tmp_path / "a", DataError, most=4, advice="give another")
    with pytest.raises(DataError, match="/proc/self/maps: is larger than 4 bytes"):  # its size is 0
        read_bytes(Path("/proc/self/maps"), DataError, most=4)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: opened in the usual way, it would wait for ever
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/stdin")):
        with pytest.raises(ConfigError, match="is not a regular file|cannot be read"):
            read_bytes(path)
    with pytest.raises(ConfigError, match="is a folder"):
        read_bytes(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bytes(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bytes(Path("a\0b"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text; settings are a UTF-8 text file"):
        read_text(tmp_path / "binary", what="settings")
