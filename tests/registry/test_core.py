"""The registry on a SQLite file and on a real MLflow server: publish, crown, resolve, fetch; and what is refused."""

from __future__ import annotations

import json

import pytest
from support.registries import judged, make_bundle

from recdistill.errors import RegistryError
from recdistill.registry import Registry

pytestmark = pytest.mark.mlflow


def test_publish_crown_resolve_fetch(registry, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", "first")
    report, device = tmp_path / "some report.html", tmp_path / "device.onnx"
    report.write_text("<h1>fine</h1>")
    device.write_bytes(b"onnx")
    assert registry.find("champion") is None
    version = registry.publish(
        bundle,
        judged(bundle),
        report=report,
        extra_files=[device],
        parameters={"student.dim": 16, "loss": {"soft": 0.7}},
        metrics={"recall@10": 0.5},
    )
    assert (version.number, version.aliases, version.passed) == ("1", ["candidate"], True)
    assert version.reason == "passed the gate: retention .97 is at least .95"

    registry.crown("1")
    registry.say("1", "promoted by ada: better on new users", {"ledger_head": "1:ab"})
    (only,) = registry.versions()
    assert only.aliases == ["champion"]
    assert only.reason == "promoted by ada: better on new users"
    assert registry.tags("ledger_head") == {"1": "1:ab"}
    assert registry.tag("1", "ledger_head") == "1:ab"
    # MLflow's page of the version leads to the report and to the device file, also after the next decision.
    shown = registry._connection.client.get_model_version(registry.name, "1").description
    base = f"(#/experiments/{registry._connection.client.get_run(only.run_id).info.experiment_id}/runs/{only.run_id}"
    assert shown == (
        f"promoted by ada: better on new users\n\n[run]{base}) · [report]{base}/artifacts/report.html) · "
        f"[device.onnx]{base}/artifacts/files/device.onnx)"
    )

    ref = registry.resolve("champion")
    assert (ref, ref) == (registry.resolve("@champion"), registry.resolve("1"))
    fetched = registry.fetch(ref, tmp_path / "cache")
    assert fetched.path == tmp_path / "cache" / ref.content_hash
    assert (fetched.content_hash, fetched.user_tower) == (bundle.content_hash, bundle.user_tower)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [ref.content_hash]

    run = registry._connection.client.get_run(only.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"student.dim": "16", "loss": "{'soft': 0.7}"}
    assert run.data.metrics == {"recall_at_10": 0.5, "ndcg_at_10": 0.25}
    assert {f.path for f in registry._connection.client.list_artifacts(only.run_id)} == {
        "bundle",
        "files",
        "report.html",
        "evidence.json",
    }


def test_what_is_missing_is_said(registry, tmp_path):
    for asked in ("champion", "7", "@candidate"):
        assert registry.find(asked) is None
        with pytest.raises(RegistryError, match="has no version"):
            registry.resolve(asked)
    assert not registry.has_bundle("9")
    assert registry.tag("9", "evidence") is None
    registry.say("9", "nothing is written of what is gone")
    with pytest.raises(RegistryError, match="neither a version number nor an alias"):
        registry.resolve("../x")
    with pytest.raises(RegistryError, match="no such file to publish"):
        registry.publish(make_bundle(tmp_path / "a", "a"), None, report=tmp_path / "none.html")
    assert registry.versions() == []


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "é", "x" * 201, ".x", "a.ledger.1", "a'b"])
def test_what_cannot_be_a_name_is_refused(name, tmp_path):
    with pytest.raises(RegistryError, match="not a model name"):
        Registry(f"sqlite:///{tmp_path}/r.sqlite", name)


def test_hostile_tags_are_clear_errors(registry, tmp_path):
    bundle = make_bundle(tmp_path / "a", "a")
    number = registry.publish(bundle, judged(bundle)).number
    registry._connection.client.set_model_version_tag(registry.name, number, "evidence", json.dumps({"passed": "yes"}))
    with pytest.raises(RegistryError, match="its evidence cannot be read"):
        registry.evidence(number)
    registry._connection.client.create_registered_model(f"{registry.name}.ledger.1", tags={"entry": "{}"})
    found, troubles = registry.former()
    assert found == []
    assert [one.split(" (")[0] for one in troubles] == [f"{registry.name}.ledger.1 is not a ledger entry"]
