"""MLflow's page of a version, in a real browser: the verdict and the links are there, readable, and lead on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.browser import axe_path
from support.judgements import make_judgement
from support.registries import judged, make_bundle
from support.trials import trial

from recdistill.judge import CanaryIs, write_canary_page, write_report
from recdistill.registry import Registry

LOOK = """
const axe = require("fs").readFileSync(args.axe, "utf8");
const long = { timeout: 90000 };
page.setDefaultTimeout(90000);
const found = [];
for (const width of args.widths) for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize({ width, height: 844 });
  await page.goto(args.url + "/#/models/" + args.model + "/versions/1");
  const report = page.getByRole("link", { name: "report", exact: true });
  await report.waitFor(long);
  if (args.pictures) await page.screenshot({ path: `${args.pictures}/mlflow-${width}-${colorScheme}.png` });
  const ours = await report.evaluate((link) => {
    const place = link.closest("p").parentElement;
    place.setAttribute("data-ours", "");
    const box = place.getBoundingClientRect();
    const links = [...place.querySelectorAll("a")].map((a) => [a.innerText, a.href]);
    return { text: place.innerText, right: box.right, links };
  });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run({ include: [["[data-ours]"]] }));
  const all = await page.evaluate(() => axe.run());
  const bad = (found) => found.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => id + " " + nodes[0].html);
  found.push({ width, ours, axe: bad(violations), theirs: bad(all.violations) });
}
const shown = [];
for (const name of ["report", "canary"]) {
  await page.goto(args.url + "/#/models/" + args.model + "/versions/1");
  await page.getByRole("link", { name, exact: true }).click();
  const frame = page.frameLocator("iframe").first();
  await frame.locator("h1").waitFor(long);
  shown.push([await frame.locator("h1").innerText(), await frame.locator("h2").count()]);
  if (args.pictures) await page.screenshot({ path: `${args.pictures}/mlflow-${name}.png` });
}
done({ found, shown });
"""


@pytest.mark.browser
@pytest.mark.mlflow
@pytest.mark.slow
def test_mlflow_s_page_of_a_version_leads_to_its_report(
    browser: Callable[..., Any], mlflow_server: str, tmp_path: Path
) -> None:
    """At both widths and in both colours.

    What axe finds elsewhere on that page is MLflow's own; what it finds in our text must not be serious.
    """
    registry = Registry(mlflow_server, "looked-at")
    bundle = make_bundle(tmp_path / "bundle", "looked-at")
    write_report(make_judgement(), tmp_path / "report.html")
    write_canary_page(
        trial().told(), CanaryIs(number="1", content_hash="ab" * 32, champion="cd" * 32), tmp_path / "canary.html"
    )
    registry.publish(bundle, judged(bundle), report=tmp_path / "report.html", extra_files=[])
    registry.show("1", tmp_path / "canary.html")
    seen = browser(LOOK, url=mlflow_server, model=registry.name, widths=[390, 1280], axe=axe_path(), timeout_s=400)
    for one in seen["found"]:
        assert "passed the gate: retention .97 is at least .95" in one["ours"]["text"]
        assert [name for name, _ in one["ours"]["links"]] == ["run", "report", "canary"]
        assert one["ours"]["right"] <= one["width"]
        assert one["axe"] == []
    assert [title for title, _ in seen["shown"]] == [
        "The student keeps 102.7% of its teacher at 6.4% of its size",
        "Version 1 answers 20.00% of the users",
    ]
    assert all(parts >= 5 for _, parts in seen["shown"])
