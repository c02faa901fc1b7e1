"""What MLflow's pages show of a version, in a real browser: links that lead to the report as it was written."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.judgements import make_judgement
from support.registries import judged, make_bundle

from recdistill.judge import write_report
from recdistill.registry import Registry
from tools.browser import axe_path

LOOK = """
const axe = require("fs").readFileSync(args.axe, "utf8");
const told = ({ violations }) => violations.map(({ impact, id, nodes }) =>
  [impact, id, nodes[0].html, nodes[0].failureSummary].join(" "));
page.setDefaultTimeout(args.patience_ms);
const version = args.url + "/#/models/" + args.model + "/versions/1", found = [];
for (const width of args.widths) {
  await page.setViewportSize({ width, height: 844 });
  await page.goto(version);
  const link = (name) => page.getByRole("link", { name, exact: true });
  await link("report").waitFor();
  const ours = await link("report").evaluate((link) => {
    const place = link.closest("p").parentElement;
    place.setAttribute("data-ours", "");
    const links = [...place.querySelectorAll("a")].map((a) => [a.innerText, a.getAttribute("href")]);
    return { text: place.innerText, right: place.getBoundingClientRect().right, links };
  });
  await page.evaluate(axe);
  const onVersion = told(await page.evaluate(() => axe.run("[data-ours]")));

  const follow = async (name) => {
    const [tab] = await Promise.all([page.context().waitForEvent("page"), link(name).click()]);
    await tab.setViewportSize(page.viewportSize());
    return tab;
  };
  const file = await follow("device.onnx");
  await file.getByText("device.onnx").first().waitFor({ state: "attached" });
  const device = await file.evaluate(() => location.hash);
  await file.close();

  const report = await follow("report");
  const viewer = await report.waitForSelector("iframe", { state: "attached" });
  const frame = await viewer.contentFrame();
  await frame.waitForSelector("h1", { state: "attached" });
  await frame.evaluate(axe);
  const shown = await frame.evaluate(() => ({ text: document.body.textContent,
    pictures: document.querySelectorAll("svg").length,
    outside: document.scrollingElement.scrollWidth - innerWidth }));
  shown.axe = told(await frame.evaluate(() => axe.run()));
  await report.close();
  found.push({ width, ours, axe: onVersion, device, shown });
}
done(found);
"""


class _Text(HTMLParser):
    """The text and the pictures of a page's body, read without a browser."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.pictures = 0
        self.feed(page.partition("<body")[2].partition(">")[2])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "svg"

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.browser
@pytest.mark.mlflow
@pytest.mark.slow
def test_mlflow_s_page_of_a_version_leads_to_the_report_that_was_written(
    browser: Callable[..., Any], mlflow_server: str, tmp_path: Path
) -> None:
    """A real MLflow server, at the width of a phone and of a desk.

    axe looks at what recdistill wrote: the description of the version, and the report in MLflow's viewer of files. The
    rest of the page is MLflow's own (at a phone's width its menus cover most of it), and nobody here can mend it.
    """
    registry = Registry(mlflow_server, "looked-at")
    bundle = make_bundle(tmp_path / "bundle", "looked-at")
    report, device = tmp_path / "report.html", tmp_path / "device.onnx"
    write_report(make_judgement(), report)
    device.write_bytes(b"onnx")
    run_id = registry.publish(bundle, judged(bundle), report=report, extra_files=[device]).run_id
    written = _Text(report.read_text(encoding="utf-8"))
    assert written.pictures >= 1

    found = browser(
        LOOK,
        url=mlflow_server,
        model=registry.name,
        widths=[390, 1280],
        axe=axe_path(),
        patience_ms=60_000,
        timeout_s=300,
    )
    assert [one["width"] for one in found] == [390, 1280]
    for one in found:
        ours, shown = one["ours"], one["shown"]
        assert "passed the gate: retention .97 is at least .95" in ours["text"]
        assert [name for name, _ in ours["links"]] == ["run", "report", "device.onnx"]
        assert all(run_id in address for _, address in ours["links"])
        assert ours["right"] <= one["width"]
        assert one["axe"] == []
        assert one["device"].endswith(f"{run_id}/artifacts/files/device.onnx")
        assert words(shown["text"]) == words("".join(written.pieces))
        assert shown["pictures"] == written.pictures
        assert shown["outside"] <= 0
        assert shown["axe"] == []
