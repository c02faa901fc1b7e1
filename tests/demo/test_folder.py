"""The folder of a demo: an earlier demo's is emptied, also half-emptied ones and links; a person's own never."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import make_url

from recdistill.demo.folder import MARKER, emptied
from recdistill.errors import UsageError


def made(folder: Path) -> Path:
    """A folder as a demo leaves it."""
    out = emptied(folder)
    (out / "cache" / "a").mkdir(parents=True)
    (out / "cache" / "a" / "file").touch()
    (out / "log.sqlite").touch()
    return out


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_a_link_to_it_and_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = made(tmp_path / "my demo")
    link = tmp_path / "link"
    link.symlink_to(out)
    assert names(emptied(link)) == [MARKER]
    assert link.is_symlink()
    monkeypatch.chdir(made(out))
    assert names(emptied(Path())) == [MARKER]
    assert Path.cwd() == out


def test_what_it_links_to_stays(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "file").touch()
    out = made(tmp_path / "demo")
    (out / "linked").symlink_to(own)
    assert names(emptied(out)) == [MARKER]
    assert names(own) == ["file"]


def test_one_that_was_stopped_while_it_emptied_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle. Which file of a folder is deleted first, a file system does not say."""
    out = made(tmp_path / "demo")

    def some(path: Path, **_: object) -> None:
        (Path(path) / MARKER).unlink(missing_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", some)
        with pytest.raises(KeyboardInterrupt):
            emptied(out)
    assert "cache" in names(out)
    assert names(emptied(out)) == [MARKER]


@pytest.mark.parametrize("name", ["what?", "50%25", "a b#c\U0001f600"])
def test_a_name_that_the_registry_would_read_as_another_one_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / name / "demo"
    if make_url(f"sqlite:///{out}").database == str(out):
        assert names(emptied(out)) == [MARKER]
        return
    with pytest.raises(UsageError, match=r"--output .*: may not hold \? or %"):
        emptied(out)
    assert not names(tmp_path)


def test_a_person_s_own_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="--output"):
            emptied(out)
    assert names(tmp_path) == ["file"]
