"""The browser fixture runs a real page and takes pictures of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_page_runs_and_is_pictured(browser: Callable[..., Any], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p id=p></p><script>document.getElementById('p').textContent = 6 * 7</script>")
    picture = tmp_path / "page.png"
    said = browser(
        """
        await page.setViewportSize({ width: 360, height: 640 });
        await page.goto(args.url);
        await page.screenshot({ path: args.picture });
        done({ text: await page.textContent("#p"), width: await page.evaluate(() => innerWidth) });
        """,
        url=page.as_uri(),
        picture=str(picture),
    )
    assert said == {"text": "42", "width": 360}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_failing_script_says_why(browser: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="on purpose"):
        browser("throw new Error('on purpose');")
