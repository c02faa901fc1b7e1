"""Verbs that take a bundle: from a folder, or from the registry by a version's number or its alias."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from support.judgements import make_judgement
from support.registries import make_bundle
from support.small_shop import IN_THE_FOLDER, Shop, prepare

from recdistill.judge import to_json
from recdistill.ledger import attach
from tools.mlflow_server import new_file

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


@pytest.fixture(name="shop")
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    uri = new_file(tmp_path / "mlflow.sqlite")
    monkeypatch.setenv("RECDISTILL__REGISTRY__URI", uri)
    prepare(tmp_path, monkeypatch, IN_THE_FOLDER)
    shop = Shop(tmp_path, capsys)
    shop("topics create")
    make_bundle(shop.folder / "one", "one")
    content = json.loads((shop.folder / "one" / "manifest.json").read_text())["content_hash"]
    judgement = msgspec.structs.replace(make_judgement(), content_hash=content)
    Path("judgement.json").write_bytes(attach("judgement", to_json(judgement), None))
    shop("publish one --judgement judgement.json")
    return shop


def test_a_version_is_taken_from_the_registry_where_no_folder_has_its_name(shop: Shop) -> None:
    shop("export one --out folder.onnx")
    for name in ("1", "candidate", "@candidate"):
        shop(f"export {name} --out version.onnx")
        assert Path("version.onnx").read_bytes() == Path("folder.onnx").read_bytes(), name
    shop("export 9 --out none.onnx", code=7)
    assert "has no version '9'; see `recdistill versions`" in shop.errors
    shop("evaluate one --beside champion", code=7)
    assert "has no version 'champion'" in shop.errors
    make_bundle(shop.folder / "1", "a folder comes first")
    shop("export 1 --out version.onnx")
    assert Path("version.onnx").read_bytes() != Path("folder.onnx").read_bytes()
    shop("export oen", code=6)
    assert "oen: there is no bundle here" in shop.errors


def test_many_versions_are_shown_from_the_newest_on(shop: Shop) -> None:
    assert "older" not in shop("versions")
    for name in ("two", "three"):
        make_bundle(shop.folder / name, name)
        content = json.loads((shop.folder / name / "manifest.json").read_text())["content_hash"]
        judgement = msgspec.structs.replace(make_judgement(), content_hash=content)
        Path("judgement.json").write_bytes(attach("judgement", to_json(judgement), None))
        shop(f"publish {name} --judgement judgement.json")
    said = shop("versions -n 1").splitlines()
    assert said[0].split()[0] == "3"
    assert said[-1] == "and 2 older ones: -n 3 shows all"
    assert [one["number"] for one in shop.json("versions")["versions"]] == ["3", "2", "1"]
    assert [one["number"] for one in shop.json("versions -n 2")["versions"]] == ["3", "2"]
