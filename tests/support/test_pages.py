"""The runner of the pages: an example that does not do what its page says fails."""

import os
from pathlib import Path

import pytest
from sybil.example import SybilFailure

from support.pages import pages


def _follow(folder: Path, text: str) -> None:
    page = folder / "page.md"
    page.write_text(text)
    document = pages.parse(page)
    assert pages.setup is not None
    assert pages.teardown is not None
    pages.setup(document.namespace)
    try:
        for example in document.examples():
            example.evaluate()
    finally:
        pages.teardown(document.namespace)


def test_what_is_printed_is_compared(tmp_path: Path) -> None:
    page = "```python\nprint('a fresh student')\n```\n\n<!-- prints -->\n```text\na ... {}\n```\n"
    _follow(tmp_path, page.format("student"))
    with pytest.raises(SybilFailure, match="it printed"):
        _follow(tmp_path, page.format("teacher"))


@pytest.mark.parametrize("line", ["recdistill topics list", "recdistill topics list | cat"])
def test_exit_codes_are_compared(tmp_path: Path, line: str) -> None:
    page = "<!-- file: s.toml -->\n```toml\n[logs]\n```\n\n"
    page += "<!-- run{} -->\n```bash\nexport RECDISTILL_CONFIG=s.toml\n{}\n```\n"
    _follow(tmp_path, page.format(": 2", line))
    with pytest.raises(SybilFailure, match="exit code 2"):
        _follow(tmp_path, page.format("", line))


def test_a_comment_before_no_block_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stands before no block"):
        _follow(tmp_path, "<!-- run -->\n\nSome words.\n\n```bash\nfalse\n```\n")


def test_a_page_leaves_folder_and_environment_as_they_were(tmp_path: Path) -> None:
    before = Path.cwd()
    _follow(tmp_path, "<!-- run -->\n```bash\nexport RECDISTILL_CONFIG=none.toml\n```\n")
    assert Path.cwd() == before
    assert "RECDISTILL_CONFIG" not in os.environ
