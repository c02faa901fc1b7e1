"""The device file of a bundle answers golden requests in a browser as it does in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recdistill.demo.live.page import Page
from recdistill.device import Device, export_device
from recdistill.trial.device import check_device
from recdistill.trial.towers import invented
from references.students import make_requests, make_student
from tools.browser import HOME

TOLERANCE = 1e-5
"""A score in the browser may be so far, as a share of its size (at least 1), from that of onnxruntime on this machine.

Both compute in float32. Their kernels add in different orders.
"""

ANSWERS = """
await page.goto(args.url);
done(await page.evaluate(async (asked) => {
  const ort = await import(new URL("ort/ort.wasm.min.mjs", location.href).href);
  ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const bytes = new Uint8Array(await (await fetch("device.onnx")).arrayBuffer());
  const device = await ort.InferenceSession.create(bytes);
  const made = {
    string: (values) => values.map(String),
    int64: (values) => BigInt64Array.from(values, BigInt),
    float32: (values) => Float32Array.from(values),
    float64: (values) => Float64Array.from(values),
  };
  const answers = [];
  for (const one of asked) {
    const feeds = {};
    for (const { name, type } of device.inputMetadata)
      feeds[name] = new ort.Tensor(type, made[type](one[name]), [one[name].length]);
    const { items, scores } = await device.run(feeds);
    answers.push([Array.from(items.data), Array.from(scores.data)]);
  }
  return answers;
}, args.asked));
"""


def fed(one: Any, k: int, context: dict[str, str]) -> dict[str, list[Any]]:
    """A request as the page of the device file says that it is fed: names and lists."""
    feeds: dict[str, list[Any]] = {
        "history": [event.item for event in one.history],
        "actions": [event.action for event in one.history],
        "times": [str(event.time_us) for event in one.history],
        "time": [str(one.time_us)],
        "exclude": [],
        "k": [str(k)],
    }
    for name in context:
        value = dict(one.context).get(name)
        feeds[f"context.{name}"] = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    return feeds


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_gives_the_answers_of_onnxruntime(tmp_path: Path, browser: Callable[..., Any]) -> None:
    student = make_student(300)
    bundle = student.export(tmp_path / "bundle", golden_requests=make_requests(student, 30))
    file = tmp_path / "device.onnx"
    export_device(bundle, file)
    check_device(bundle, file)
    asked = [*bundle.golden, *invented(bundle)[:10]]
    fields = {name: field.kind for name, field in bundle.spec.context.items()}
    page = Page(0, device=file.read_bytes, runtime=HOME / "node_modules" / "onnxruntime-web" / "dist")
    try:
        found = browser(ANSWERS, url=page.url, asked=[fed(one, 10, fields) for one in asked], timeout_s=150)
    finally:
        page.close()
    device = Device.open(file)
    assert len(found) == len(asked) >= 15
    differ = []
    for one, (items, scores) in zip(asked, found, strict=True):
        wanted, expected = device.recommend(
            [event.item for event in one.history],
            actions=[event.action for event in one.history],
            times_us=[event.time_us for event in one.history],
            time_us=one.time_us,
            context=dict(one.context),
            k=10,
        )
        assert items == wanted
        differ.append(np.max(np.abs(np.array(scores) - expected) / np.maximum(1.0, np.abs(expected))))
    assert max(differ) <= TOLERANCE
    assert len({tuple(items) for items, _ in found}) > 5, "the answers depend on the requests"
