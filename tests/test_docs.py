"""The documentation as a whole: its links lead somewhere, and what it says of verbs, settings and metrics is so."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from recdistill.cli import ALSO, VERBS
from recdistill.config import GateSettings, Settings
from recdistill.serve import Ranker
from recdistill.serve.http.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BY_HAND = [page for page in PAGES if page.name != "configuration.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_readers_see_which_file_a_block_is(page: Path) -> None:
    """The comment before it is for the tests; nobody who reads the page as it is shown sees it."""
    text = page.read_text()
    shown = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    for name, first in re.findall(r"^<!-- file: (\S+) -->\n+```\w*\n([^\n]*)", text, re.MULTILINE):
        assert first == f"# {name}" or f"`{name}`" in shown, f"{page.name} does not say that a block is {name}"


@pytest.mark.parametrize("page", BY_HAND, ids=lambda page: page.name)
def test_verbs_and_their_options_exist(page: Path) -> None:
    for line in re.findall(r"\brecdistill ([a-z]+(?: [^`\n]*)?)", _code(page)):
        words = line.partition("#")[0].split()
        if words and words[0] in (set(VERBS) | set(ALSO)):
            known = VERBS[ALSO.get(words[0], words[0])].parser().format_help()
            for option in (word for word in words[1:] if word.startswith("--")):
                assert re.search(rf"{re.escape(option)}\b", known), f"{page.name}: recdistill {words[0]} {option}"


@pytest.mark.parametrize("page", BY_HAND, ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    tree = msgspec.to_builtins(Settings())
    for section, key in re.findall(r"`(?:--set )?([a-z_]+)\.([a-z_]+)(?:=[^`]*| = [^`]*)?`", page.read_text()):
        if section in tree and key not in ("toml", "json", "py"):
            assert key in tree[section], f"{page.name}: {section}.{key} is no setting"


def test_defaults_of_the_gate() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\w.\[\]\"]+) \|", (ROOT / "docs" / "promotion.md").read_text(), re.MULTILINE)
    said = {name: value.strip('"').lower() for name, value in rows}
    assert said == {name: str(value).lower() for name, value in msgspec.to_builtins(GateSettings()).items()}


def test_metrics_exist() -> None:
    metrics = Metrics(
        Counter(),
        lambda: Ranker().gauges() | {"items_age_seconds": 0.0, "look_age_seconds": 0.0, "waiting_bodies": 0.0},
    )
    metrics.observe("/v1/recommend", 200, 0.001)
    metrics.answered("personal", 1)
    shown = metrics.text().decode()
    for name in re.findall(r"`(recdistill_\w+)", (ROOT / "docs" / "serving.md").read_text()):
        assert f"# TYPE {name} " in shown, f"serving.md: {name}"


def _code(page: Path) -> str:
    """What stands in code, in blocks and within lines."""
    text = page.read_text()
    return "\n".join(
        [*re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S), *re.findall(r"`(recdistill [^`]*)`", text)]
    )
