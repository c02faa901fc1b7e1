"""The demo's last lines: what they tell a reader to type can be typed."""

import sys
from pathlib import Path

import pytest

from recdistill.demo.summary import command


def program(folder: Path) -> Path:
    folder.mkdir()
    file = folder / "recdistill"
    file.write_text("#!/bin/sh\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def test_the_command_is_one_that_the_reader_s_shell_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = program(tmp_path / "my env"), program(tmp_path / "other")
    monkeypatch.setattr(sys, "argv", [str(here), "demo"])
    monkeypatch.setenv("PATH", str(here.parent))
    assert command() == "recdistill"
    monkeypatch.setenv("PATH", str(tmp_path))  # no environment is active
    assert command() == f"'{here}'"
    monkeypatch.setenv("PATH", str(other.parent))  # another one is
    assert command() == f"'{here}'"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "pytest")])
    assert command() == "recdistill"
