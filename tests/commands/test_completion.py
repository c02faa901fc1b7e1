"""Completion, asked of a real shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from recdistill.cli import VERBS, main


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "recdistill.bash"
    path.write_text(capsys.readouterr().out)
    return path


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    given = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {script}; COMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; _shtab_recdistill; "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_verbs_options_and_settings_are_completed(script: Path) -> None:
    assert set(completed(script, "recdistill", "")) >= set(VERBS)
    assert completed(script, "recdistill", "dist") == ["distil"]
    assert completed(script, "recdistill", "distil", "--dr") == ["--drain"]
    assert "student.dim=" in completed(script, "recdistill", "distil", "--set", "student.d")
    assert all(one.startswith("student.d") for one in completed(script, "recdistill", "distil", "--set", "student.d"))


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_their_own(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "recdistill" in out
    assert "student.dim=" in out
