"""The server of the page: few addresses, acts that no foreign page can ask for, and a port that is given back."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.registries import make_bundle

from recdistill.demo import ask_live
from recdistill.demo.live.page import ACT_HEADER, RUNTIME, Page
from recdistill.device import Device, export_device
from recdistill.errors import UsageError
from recdistill.loops.standing import Backlog, HopAt, ProcessAt, Releases, Standing, StudentAt, plain
from tools.browser import HOME


def test_it_serves_the_page_and_the_newest_figures() -> None:
    page = Page(0)
    with urllib.request.urlopen(page.url) as answer:
        html = answer.read().decode()
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "<svg" in html
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    for count in (1, 2):
        page.show({"lists": count})
        with urllib.request.urlopen(page.url + "live.json") as answer:
            assert answer.read() == b'{"lists":%d}' % count
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(page.url + "etc/passwd")
    port = int(page.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(UsageError, match=f"--port {port}: cannot be used .*; choose another port"):
        Page(port)
    page.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


OFFLINE = """
await page.goto(args.url);
await page.click("#device-load");
const long = { timeout: 60000 };
await page.waitForFunction(() => !document.getElementById("device-ask").disabled, undefined, long);
await page.context().setOffline(true);
await page.click("#device-ask");
await page.waitForFunction(() => document.querySelectorAll("#device-answer li").length > 0, undefined, long);
const state = await page.locator("#device-state").textContent();
done({ state, items: await page.locator("#device-answer li").allTextContents() });
"""


class Asked:
    """What a page was asked for, and what it gives."""

    def __init__(self, runtime: Path) -> None:
        self.acts: list[str] = []
        self.device: bytes | None = None
        self.page = Page(0, act=self.act, device=lambda: self.device, runtime=runtime)
        self.port = int(self.page.url.rstrip("/").rpartition(":")[2])

    def act(self, name: str) -> bool:
        self.acts.append(name)
        return name == "kill"

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self._send(urllib.request.Request(self.page.url + path, headers=headers))

    def post(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self._send(urllib.request.Request(self.page.url + path, b"", headers, method="POST"))

    @staticmethod
    def _send(request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read()


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    for name in RUNTIME:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "secret.txt").write_bytes(b"secret")
    one = Asked(tmp_path)
    yield one
    one.page.close()


def test_an_act_needs_its_header_and_this_machine(asked: Asked) -> None:
    assert asked.post("act")[0] == 403  # as a form on a foreign page would send it
    assert asked.post("act", **{ACT_HEADER: "kill", "Host": "evil.example:80"})[0] == 403  # a name that points here
    assert asked.get("live.json", Host="evil.example:80")[0] == 403
    assert asked.post("kill", **{ACT_HEADER: "kill"})[0] == 404
    assert asked.acts == []
    assert asked.post("act", **{ACT_HEADER: "kill"}) == (202, b"it will be done\n")
    assert asked.post("act", **{ACT_HEADER: "dance"})[0] == 409
    assert asked.acts == ["kill", "dance"]


def test_the_command_asks_for_an_act(asked: Asked) -> None:
    ask_live(asked.port, "kill")
    assert asked.acts == ["kill"]
    with pytest.raises(UsageError, match="--act back: the demo says: there is no such act, or too many wait"):
        ask_live(asked.port, "back")
    asked.page.close()
    with pytest.raises(UsageError, match=f"--act kill: no demo answers on port {asked.port}; start one with"):
        ask_live(asked.port, "kill")
    asked.page = Page(0)


def test_the_device_file_and_its_runtime(asked: Asked) -> None:
    assert asked.get("device.onnx") == (404, b"nothing serves yet\n")
    asked.device = b"a model"
    assert asked.get("device.onnx") == (200, b"a model")
    assert asked.get("ort/ort.wasm.min.mjs") == (200, b"ort.wasm.min.mjs")
    for path in ("ort/secret.txt", "ort/../secret.txt", "ort/", "ort/%2e%2e/secret.txt"):
        assert asked.get(path)[0] == 404


@pytest.mark.browser
@pytest.mark.slow
def test_the_device_file_answers_in_the_page_with_the_network_off(tmp_path: Path, browser: Callable[..., Any]) -> None:
    bundle, file = make_bundle(tmp_path / "bundle", "shop"), tmp_path / "device.onnx"
    export_device(bundle, file)
    history = [item.id for item in bundle.items[:3]]
    page = Page(0, device=file.read_bytes, runtime=HOME / "node_modules" / "onnxruntime-web" / "dist")
    page.show({"asked": {"history": history, "times_us": [5, 6, 7], "time_us": 9, "context": {}}})
    seen = browser(OFFLINE, url=page.url, timeout_s=150)
    page.close()
    device = Device.open(file)
    items, scores = device.recommend(history, times_us=[5, 6, 7], time_us=9, k=5, exclude=history)
    assert seen["items"] == [f"{item}  {score:.3f}" for item, score in zip(items, scores, strict=True)]
    assert "with the network off" in seen["state"]


STATUS = """
const found = [], troubles = [];
page.on("pageerror", (error) => troubles.push(String(error)));
page.on("dialog", () => troubles.push("dialog"));
for (const width of [360, 1280]) for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize({ width, height: 740 });
  await page.goto(args.url);
  await page.waitForFunction(() => document.getElementById("state").textContent.includes("read at"));
  found.push(await page.evaluate(() => ({
    width: document.scrollingElement.scrollWidth,
    outside: [...document.querySelectorAll("main *")].filter(
      (e) => e.getBoundingClientRect().right > innerWidth + .5).length,
    background: getComputedStyle(document.body).backgroundColor,
    text: document.querySelector("main").innerText,
    ids: [...document.querySelectorAll("dl div")].map((e) => e.id),
    lines: [...document.querySelectorAll("#ahead polyline")].map((e) => [e.getAttribute("class"), e.points.length]),
  })));
}
done({ found, troubles });
"""


def _figure(mean: float) -> dict[str, Any]:
    return {"n": 1234, "groups": 99, "mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def _standing() -> Standing:
    """A loop in which everything stands somewhere, with what others wrote in it."""
    hour_us, hostile = 3_600_000_000, '<img src=x onerror="alert(1)"> ' + "W" * 300
    rows = [
        {
            "begin_us": 480_000 * hour_us + at * hour_us,
            "ndcg": {"champion": _figure(0.3 + at / 100), "teacher": _figure(0.5)},
        }
        for at in range(12)
    ]
    del rows[6]["ndcg"]["champion"]  # a gap
    return Standing(
        now_us=480_020 * hour_us,
        log=hostile,
        backlog=[
            Backlog(stage="score", topic="impressions", behind=12_345, waits_since_us=480_019 * hour_us),
            Backlog(stage="join", topic="feedback", behind=0, began=False),
        ],
        hops=[HopAt(hop="scored", event_us=480_000 * hour_us, at_us=480_000 * hour_us + 2_500_000)],
        student=StudentAt(
            directory="student",
            works=True,
            owner="process 7",
            step=400,
            saved_us=480_019 * hour_us,
            examples=9_876,
            prequential={"rows": rows, "now": {"ndcg": {"champion": _figure(0.412), "weights": _figure(0.423)}}},
        ),
        next_exports=["after 1,600 more steps (distil.export_every)"],
        releases=Releases(champion="3", since="2026-01-02", refused="4", refused_reasons=[hostile], refused_since=True),
        processes=[ProcessAt(name="scorer", address="scorer:8081", says="does not answer")],
        absent=["there is no registry yet"],
    )


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_of_status_fits_both_widths_and_shows_everything(browser: Callable[..., Any]) -> None:
    page = Page(0, name="status")
    page.show(plain(_standing()))
    seen = browser(STATUS, url=page.url, timeout_s=150)
    page.close()
    assert seen["troubles"] == []
    assert [one["width"] for one in seen["found"]] == [360, 360, 1280, 1280]
    assert [one["outside"] for one in seen["found"]] == [0, 0, 0, 0]
    assert len({one["background"] for one in seen["found"]}) == 2
    for one in seen["found"]:
        assert one["ids"] == [
            "backlog-score-impressions",
            "backlog-join-feedback",
            "hop-scored",
            "ahead-champion",
            "ahead-weights",
        ]
        for words in (
            "12,345",
            "the oldest waits 60.0 min",
            "has not begun",
            "2.5 s",
            "process 7 works on it",
            "9,876 examples in 400 steps",
            "0.412",
            "0.413 to 0.433, 1,234 lists",
            "Version 3 serves since 2026-01-02",
            "Version 4 was refused",
            '<img src=x onerror="alert(1)">',
            "scorer at scorer:8081: does not answer",
            "there is no registry yet",
        ):
            assert words in one["text"], words
        assert one["lines"] == [["teacher", 12], ["champion", 6], ["champion", 5]]
