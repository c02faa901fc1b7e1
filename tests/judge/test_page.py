"""The parts of the judge's pages, and both pages in a real browser: widths, colours, keyboard, and what axe says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.judgements import around, make_judgement
from support.trials import trial

from recdistill.judge.canary_page import CanaryIs, write_canary_page
from recdistill.judge.history import Past, Spread
from recdistill.judge.judgement import Control
from recdistill.judge.page import section, size_text, table, text
from recdistill.judge.report import write_report
from tools.browser import axe_path

HOSTILE = '</bdi><script>alert(1)</script><img src=x onerror="alert(2)"> \u202egnp ' + "W" * 400
MOST_BYTES = 2_000_000

LOOK = """
const axe = require("fs").readFileSync(args.axe, "utf8");
const found = [], asked = [];
page.on("request", (request) => asked.push(request.url()));
page.on("dialog", () => asked.push("dialog"));
for (const [name, url] of Object.entries(args.pages)) for (const width of args.widths)
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 844 });
    await page.goto(url);
    const path = `${args.pictures}/${name}-${width}-${colorScheme}.png`;
    if (args.pictures) await page.screenshot({ path, fullPage: true });
    const seen = await page.evaluate(() => ({
      width: document.scrollingElement.scrollWidth,
      outside: [...document.querySelectorAll("section, header, .box, table, td, svg, h1, p, dd")].filter((e) => {
        const box = e.getBoundingClientRect();
        return box.right > innerWidth + .5 || box.left < -.5;
      }).map((e) => e.outerHTML.slice(0, 120)),
      background: getComputedStyle(document.body).backgroundColor,
      headings: [...document.querySelectorAll("h1, h2, h3, h4")].map((e) => Number(e.tagName[1])),
      unnamed: [...document.querySelectorAll("svg")].filter(
        (e) => !e.getAttribute("aria-label") && e.getAttribute("aria-hidden") !== "true").length,
    }));
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run());
    found.push({ ...seen, name, colorScheme, viewport: width,
      axe: violations.map(({ impact, id, nodes }) => [impact, id, nodes[0].html, nodes[0].failureSummary].join(" ")) });
  }
done({ found, asked });
"""


def past() -> list[Past]:
    """Fifty versions, as a ledger of some weeks has them."""
    verdicts = ("passed", "passed", "refused", "passed", "not enough evidence")
    found = []
    for n in range(50):
        verdict, kept, lead = verdicts[n % 5], 0.9 + 0.08 * ((n * 7) % 11) / 11, 0.01 * (((n * 5) % 9) / 9 - 0.4)
        became = ("serves" if n == 48 else "withdrawn" if n == 30 else "served") if verdict == "passed" else ""
        found.append(
            Past(
                content_hash=f"{n:02x}" * 32,
                at=f"2026-01-{1 + n // 2:02}T12:00:00+00:00",
                verdict=verdict,
                number=str(n + 1),
                became=became,  # type: ignore[arg-type]
                looks=1 + (n % 5 == 4),
                figures={
                    "kept": Spread(kept, kept - 0.02, kept + 0.02),
                    "champion": Spread(lead, lead - 0.004, lead + 0.004),
                },
            )
        )
    return [*found[:-1], msgspec.structs.replace(found[-1], this=True, number="", content_hash="5e1f" * 16)]


def write_pages(folder: Path) -> dict[str, Path]:
    """Every page of the judge, each with all that it can have, and with hostile titles."""
    judgement = msgspec.structs.replace(
        make_judgement(HOSTILE), control=Control(content_hash="c0" * 32, kept=around(0.93, 0.02))
    )
    write_report(judgement, folder / "report.html", past=past())
    it = CanaryIs(number="51", content_hash="5e1f" * 16, champion="30" * 32, since_us=1_800_000_000_000_000)
    write_canary_page(trial(canary=0.29).told(), it, folder / "canary.html")
    write_canary_page(trial(canary=0.1).told(), it, folder / "withdrawn.html")
    return {name: folder / f"{name}.html" for name in ("report", "canary", "withdrawn")}


def test_parts_are_named_for_who_cannot_see_them() -> None:
    assert text("a\x07b" + "c" * 200, 10) == "<bdi>a bcccccc…</bdi>"
    assert section("Who is it?", "", "").startswith('<section class="" aria-labelledby="who-is-it"><h2 id="who-is-it">')
    made = table("What", "Name", ("A", "B"), ["<tr></tr>"])
    assert '<caption class="sr">What</caption>' in made
    assert made.count('<th scope="col">') == 3


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.23 kB"), (5e6, "5 MB"), (2.5e9, "2.5 GB")]
)
def test_bytes_for_people(count: float, shown: str) -> None:
    assert size_text(count) == shown


@pytest.mark.browser
@pytest.mark.slow
def test_every_page_fits_both_widths_in_light_and_dark_and_axe_finds_nothing(
    browser: Callable[..., Any], tmp_path: Path
) -> None:
    """One browser looks at all of them. Nothing is loaded, no script runs, nothing stands outside."""
    pages = write_pages(tmp_path)
    assert max(path.stat().st_size for path in pages.values()) < MOST_BYTES
    urls = {name: path.as_uri() for name, path in pages.items()}
    found = browser(LOOK, pages=urls, widths=[360, 390, 1280], axe=axe_path(), timeout_s=240)
    assert set(found["asked"]) == set(urls.values())
    assert len(found["found"]) == len(pages) * 6
    for one in found["found"]:
        where = one["name"], one["viewport"], one["colorScheme"]
        assert (where, one["width"], one["outside"]) == (where, one["viewport"], [])
        assert (where, one["axe"]) == (where, [])
        assert one["unnamed"] == 0
        steps = one["headings"]
        assert steps[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(steps)), "no level is left out"
    assert len({(one["name"], one["background"]) for one in found["found"]}) == 2 * len(pages)
