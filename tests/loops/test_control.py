"""The control learns beside the student, is never a candidate, and is a line of every report."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from support import small_shop, world
from support.small_shop import Shop

from recdistill.bundle import open_bundle
from recdistill.config import JudgeSettings, LogSettings, RegistrySettings, Settings, load_settings
from recdistill.errors import ConfigError
from recdistill.loops.control import as_control, controls_of
from recdistill.stream import BUNDLES, made_bundles


def test_it_is_the_same_student_without_the_teacher() -> None:
    settings = Settings()
    made = as_control(settings)
    assert (made.student, made.features, made.log) == (settings.student, settings.features, settings.log)
    assert made.distil.batch == settings.distil.batch
    assert (made.loss.soft, made.loss.label, made.prequential.share) == (0.0, 1.0, 0.0)
    assert made.registry.uri == settings.registry.uri
    assert made.registry.name != settings.registry.name
    with pytest.raises(ConfigError, match="judge.control is empty"):
        as_control(Settings(judge=JudgeSettings(control="")))
    assert controls_of(Settings(judge=JudgeSettings(control=""))) is None


@pytest.mark.slow
def test_one_command_makes_it_and_every_report_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command line: the student, its report without a control, the control, and a promoter's version."""
    small_shop.prepare(
        tmp_path, monkeypatch, small_shop.SETTINGS + small_shop.EASY_GATE + "[trial]\non = false\n", small_shop.FEATURES
    )
    shop = Shop(tmp_path, capsys, LogSettings(path=str(tmp_path / "recdistill-data" / "log.sqlite")))
    shop("topics create")
    shop.take_in("items", "items", world.items())
    lists = list(world.impressions(120))
    shop.arrive("all", lists, world.feedback(lists))
    until = f"--until @{lists[80].time_us // 1_000_000}"
    shop(f"distil {until}")

    found = shop.json("evaluate --report report.html")
    assert "student_no_kd" not in {one["name"] for one in found["contenders"]}
    why = "this command makes one beside the student: recdistill distil --control"
    assert why in found["control"]["why"]
    page = (tmp_path / "report.html").read_text()
    assert why in page
    assert "Control: labels only" not in page

    shop(f"distil --control {until}")
    control = open_bundle(max((tmp_path / "recdistill-data" / "student-control" / "bundles").iterdir()))
    student = shop.learnt()
    assert control.content_hash != student.content_hash
    recipe = control.manifest.provenance["recipe"]
    assert (recipe["loss"]["soft"], recipe["loss"]["label"]) == (0.0, 1.0)
    with closing(shop.log()) as log, closing(log.source([BUNDLES])) as source:
        made, _ = made_bundles(source)
    assert [one.content_hash for one in made] == [student.content_hash], "nobody announces the control"

    found = shop.json("evaluate --report report.html")
    mean = {one["name"]: one["metrics"]["ndcg@10"]["mean"] for one in found["contenders"]}
    assert found["control"]["content_hash"] == control.content_hash
    kept = found["control"].get("kept")
    if kept is not None:
        share = (mean["student"] - mean["student_no_kd"]) / (mean["teacher"] - mean["student_no_kd"])
        assert kept["mean"] == pytest.approx(share)
    else:
        assert "the teacher is not above the control" in found["control"]["why"]
    assert "Control: labels only" in (tmp_path / "report.html").read_text()

    counts = shop.json("promote --loop --drain --set judge.lists=behind --set gate.min_lists=5")
    assert counts["registered"] == 1, "the control is no candidate"
    versions = shop.json("versions")["versions"]
    assert [one["content_hash"] for one in versions] == [student.content_hash]
    (report,) = (tmp_path / "recdistill-data" / "artifacts").rglob("report.html")
    assert "Control: labels only" in report.read_text()
    assert "1 judged" in report.read_text()
    assert json.loads(shop("ledger list --json"))["entries"][1]["facts"]["figures"]["control"]


@pytest.mark.slow
def test_looking_for_a_control_makes_nothing(tmp_path: Path) -> None:
    """Where nobody made one, the registry has nothing of it afterwards."""
    settings = Settings(registry=RegistrySettings(uri=f"sqlite:///{tmp_path}/mlflow.sqlite"))
    controls = controls_of(settings)
    assert controls is not None
    bundle, why = controls.newest(tmp_path)
    assert bundle is None
    assert why.endswith("recdistill distil --control")
    assert controls.give_back(grace_s=0) == 0
    assert not list(tmp_path.rglob("bundles"))


@pytest.mark.slow
def test_a_control_without_a_bundle_is_known_to_whoever_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody announces a control. Its distiller makes its store at once, so the promoter knows of it."""
    small_shop.prepare(tmp_path, monkeypatch, small_shop.SETTINGS, small_shop.FEATURES)
    shop = Shop(tmp_path, capsys, LogSettings(path=str(tmp_path / "recdistill-data" / "log.sqlite")))
    shop("topics create")
    controls = controls_of(load_settings())
    assert controls is not None
    assert not controls.known()
    assert "nothing was learnt" in shop("distil --control --drain", code=8) + shop.errors
    assert controls.known()
    assert controls.empty_since() is not None
