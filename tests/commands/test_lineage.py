"""`lineage` and `replay`, as they are typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.small_shop import Shop, open_shop

from recdistill import installed
from recdistill.cli import main
from references.students import make_student
from tools.mlflow_server import new_file


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    shop = open_shop(tmp_path, monkeypatch, capsys)
    shop.write(lists=80)
    shop("score --drain")
    shop("join --drain")
    shop("distil --drain")
    return shop


def folder(shop: Shop) -> str:
    return str(max((shop.folder / "student" / "bundles").iterdir()))


@pytest.mark.slow
def test_lineage_and_replay_of_a_folder(shop: Shop) -> None:
    path = folder(shop)
    bundle = shop.learnt("student")
    text = shop(f"lineage {path}")
    for said in (
        bundle.content_hash,
        bundle.manifest.content.features_hash,
        "examples up to",
        "recipe.seed",
        "by_hash",
    ):
        assert said in text or said == "by_hash"
    told = shop.json(f"lineage {path}")
    assert told["bundle"] == bundle.content_hash
    assert told["commit"] == installed.commit()
    assert re.fullmatch(r"[0-9a-f]{40}|", told["commit"])
    assert told["teachers"]
    assert told["positions"]["lanes"]["offsets"]
    assert len(told["runs"]) == 1

    same = shop.json(f"replay {path}")
    assert (same["same"], same["replayed"]) == (True, bundle.content_hash)
    assert same["steps"] == bundle.manifest.provenance["step"]
    assert "the same content came out" in shop(f"replay {path} --keep again")
    assert (shop.folder / "again" / "bundles").is_dir()
    shop(f"replay {path} --keep again", code=3)
    assert "is there already" in shop.errors

    (shop.folder / "log.sqlite").rename(shop.folder / "elsewhere.sqlite")
    shop(f"replay {path}", code=3)
    assert "its log is gone" in shop.errors


@pytest.mark.slow
@pytest.mark.mlflow
def test_lineage_of_the_headers_of_an_answer(shop: Shop) -> None:
    """A version's number, the content hash, its beginning, and an alias are the same bundle."""
    from support.registries import judged

    from recdistill.registry import Registry

    bundle = shop.learnt("student")
    uri = new_file(shop.folder / "mlflow.sqlite")
    registry = Registry(uri, "shop")
    registry.publish(bundle, judged(bundle))
    settings = f"--set registry.uri={uri} --set registry.name=shop"
    found = [
        json.loads(shop(f"lineage {what} --json {settings}"))
        for what in ("1", bundle.content_hash, bundle.content_hash[:12], "candidate")
    ]
    assert {(one["bundle"], one["version"]) for one in found} == {(bundle.content_hash, "1")}
    assert shop.json(f"replay 1 {settings}")["same"]
    shop(f"lineage {'e' * 12} {settings}", code=6)
    assert "no version begins with 'eeeeeeeeeeee'" in shop.errors


@pytest.mark.parametrize(
    "said",
    [
        {"teachers": {"t": "many"}},
        {"recipe": "mine"},
        {"positions": [1]},
        {"positions": {"lanes": [1]}},
        {"restarts": ["yesterday"]},
    ],
)
def test_a_strange_provenance_is_one_sentence_and_json_shows_it(
    said: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others may have written it."""
    bundle = make_student().export(tmp_path / "b", provenance={"trigger": "\x1b[2J", **said})
    assert main(["lineage", str(bundle.path)]) == 6
    err = capsys.readouterr().err
    assert err.endswith("is not as recdistill writes it; --json shows all of it\n")
    assert main(["lineage", str(bundle.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trigger"] == "\x1b[2J"
    other = make_student().export(tmp_path / "c", provenance={"trigger": "\x1b[2J", "course": "long"})
    assert main(["lineage", str(other.path)]) == 0
    assert "\x1b" not in capsys.readouterr().out
