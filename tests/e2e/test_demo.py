"""The demo as a person starts it, on a world so small that its student may well be refused."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
from support.demo import DemoRun

from recdistill.bundle import open_bundle
from recdistill.device import Device

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"teacher", "student", "student_no_kd", "popularity", "itemknn", "ease", "chance"}
REFUSED = 7


def test_it_tells_the_whole_story_and_writes_what_it_found(finished_demo: DemoRun) -> None:
    out, done = finished_demo.folder, finished_demo.process
    assert done.returncode in (0, REFUSED), done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    summary = json.loads((out / "summary.json").read_text())

    assert set(summary["metrics"]) >= NAMES
    for figures in summary["metrics"].values():
        assert 0 <= figures["ndcg@10"] <= 1
        assert 0 <= figures["recall@10"] <= 1
    difference = summary["student_minus_no_kd"]
    assert difference["low"] <= difference["mean"] <= difference["high"]
    student, other = (summary["metrics"][name]["ndcg@10"] for name in ("student", "student_no_kd"))
    assert math.isclose(difference["mean"], student - other, abs_tol=1e-9)
    teacher, chance = (summary["metrics"][name]["ndcg@10"] for name in ("teacher", "chance"))
    assert math.isclose(summary["retention"], (student - chance) / (teacher - chance), rel_tol=1e-6)
    assert summary["parity_max_abs"] < 1e-4
    assert summary["device_overlap@10"] > 0.9
    records = summary["records"]
    assert records["impressions"] == records["rankings"] == records["examples"] == 2500
    assert records["dead-letters"] == 0
    assert summary["size_bytes"]["student"] * 10 <= summary["size_bytes"]["teacher"]

    [bundle] = (out / "student" / "bundles").iterdir()
    assert open_bundle(bundle).content_hash == summary["content_hash"]
    assert Device.open(out / "device.onnx").content_hash == summary["content_hash"]
    assert "<html" in (out / "report.html").read_text()
    served = bool(summary["latency_ms"])
    assert served == (done.returncode == 0)
    if not served:
        assert "did not pass the gate" in done.stderr


def test_what_no_demo_made_is_not_written_over(finished_demo: DemoRun, tmp_path: Path) -> None:
    shutil.copytree(finished_demo.folder, tmp_path / "other")
    (tmp_path / "other" / "recdistill-demo.json").unlink()
    command = [*finished_demo.command, "--output", str(tmp_path / "other")]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert refused.returncode == 2
    assert "was not made by a demo" in refused.stderr
