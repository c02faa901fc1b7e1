"""The demo's last lines: shares are told in words, and what they tell a reader to type can be typed."""

import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from recdistill.demo.summary import command, kept, share_text, tell


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


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "less than 0.01% of it"),
        (0.0023, "0.23% of it"),
        (0.031, "3.1% of it"),
        (1 / 12, "a twelfth of it"),
        (1 / 9.2, "a ninth of it"),
        (0.25, "a quarter of it"),
        (0.51, "half it"),
        (0.62, "62% of it"),
        (0.98, "98% of it"),
        (1.0, "100% of it"),
        (1.04, "104% of it"),
        (1.3, "1.3 times it"),
        (1.97, "twice it"),
        (2.04, "twice it"),
        (3.0, "3 times it"),
        (24.4, "24 times it"),
        (3600.0, "3,600 times it"),
    ],
)
def test_a_share_is_told_in_words(share: float, said: str) -> None:
    assert share_text(share, "it") == said


PARTS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9}
PARTS |= {"tenth": 10, "eleventh": 11, "twelfth": 12, "fifteenth": 15, "twentieth": 20}


def test_what_is_told_is_near_the_share() -> None:
    for step in range(-900, 500):
        share, said = 10 ** (step / 250), share_text(10 ** (step / 250), "it")
        number = re.search(r"[\d,.]+", said)
        if number is not None:
            told = float(number[0].replace(",", "")) / (100 if "%" in said else 1)
        else:
            told = 2.0 if said == "twice it" else 1 / next(n for word, n in PARTS.items() if word in said)
        assert told == pytest.approx(share, rel=0.0527), said


def test_what_the_student_keeps_is_told_in_whole_sentences() -> None:
    summary = {
        "retention": 0.971,
        "size_bytes": {"teacher": 9_000, "student": 1_000, "bundle": 18_000},
        "cost": {"ratio": 33.0},
    }
    assert kept(summary) == [
        "The student keeps 97.1% of its teacher's NDCG@10, both counted above chance.",
        "Its user tower and item vectors have a ninth of the teacher's bytes.",
        "The whole bundle has twice the teacher's bytes.",
        "An answer takes 3% of the teacher's processor time.",
    ]
    assert kept({**summary, "cost": {"ratio": None}}) == kept(summary)[:3]
    assert kept({**summary, "retention": None}) == []


def test_what_comes_next_can_be_typed_also_where_a_folder_has_a_space(capsys: pytest.CaptureFixture[str]) -> None:
    summary = {
        "size_bytes": {"teacher": 9_000, "student": 1_000, "bundle": 18_000, "device": 2_000},
        "student_minus_no_kd": None,
        "student_minus_popularity": None,
        "retention": None,
        "cost": {"ratio": None},
        "seconds": {"all": 1.0},
    }
    out = Path("/tmp/my demo")
    tell(summary, SimpleNamespace(contenders=[]), True, out)  # type: ignore[arg-type]
    typed = [shlex.split(line, comments=True) for line in capsys.readouterr().out.splitlines() if "--config" in line]
    assert [line[line.index("--config") + 1] for line in typed] == 3 * [str(out / "settings.toml")]
