"""A real student, made in one pass by the settings of the service, passes the default gate.

All of it goes through the command line. The settings are those of the file that compose reads, without the places of
its machines. The gate is the default one.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.small_shop import Terminal

from recdistill.config import to_toml
from recdistill.config.settings import GateSettings

ROOT = Path(__file__).resolve().parents[2]
SERVICES = (ROOT / "deploy" / "config" / "settings.toml", ROOT / "k8s" / "base" / "settings.toml")
PLACES = ("log", "topics", "features", "registry")
"""Sections that say where something lies, and nothing of how a student learns."""


def of_the_service(path: Path) -> dict[str, Any]:
    """What a file of the service says of learning."""
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    learning = {name: values for name, values in told.items() if name not in PLACES}
    for values in learning.values():
        values.pop("directory", None)
        values.pop("path", None)
    return learning


def test_compose_and_kubernetes_learn_alike() -> None:
    compose, kubernetes = (of_the_service(path) for path in SERVICES)
    assert compose["student"] == kubernetes["student"]
    assert compose["loss"] == kubernetes["loss"]
    assert compose["distil"]["batch"] == kubernetes["distil"]["batch"]
    assert "gate" not in compose
    assert "gate" not in kubernetes


@pytest.mark.slow
def test_a_student_of_the_service_passes_the_default_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = of_the_service(SERVICES[0])
    settings["teacher"] = {"kind": "linear"}
    # One bundle is made, at the end, and it is not published.
    settings["distil"] |= {"threads": 1, "publish": False, "export_every_examples": 0, "checkpoint_every": 500}
    Path("recdistill.toml").write_text(to_toml(settings), encoding="utf-8")
    monkeypatch.setenv("RECDISTILL_CONFIG", str(tmp_path / "recdistill.toml"))
    terminal = Terminal(capsys)
    terminal("topics create")
    terminal("simulate --impressions 6000 --items 800 --users 1500 --labelled 0.95 --days 60 --seed 5 --quiet")
    terminal("teach --until 2026-02-23T00:00:00Z --quiet")
    terminal("score --drain --quiet")
    terminal("join --flush --quiet")
    learnt = terminal.json("distil --drain --until 2026-02-23T00:00:00Z")
    assert learnt["bundles"] == 1
    judged = terminal.json("evaluate --gate")
    assert judged["lists"] >= GateSettings().min_lists
