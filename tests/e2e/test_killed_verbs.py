"""A verb that is killed anywhere is finished by the same verb, or says in one sentence how it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import world
from support.registries import judged as evidence_of
from support.registries import ledger_at, make_bundle
from support.small_shop import FEATURES, HOUR, IN_THE_FOLDER

from recdistill.config import LogSettings
from recdistill.loops.feed import feed
from recdistill.records import to_json
from recdistill.registry import Registry
from recdistill.release import change
from recdistill.stream import STANDARD_CONFIGS, open_log, standard_topics
from tools.mlflow_server import new_file

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
VERBS = ["recdistill.cli", "recdistill.commands.learn", "recdistill.commands.imports", "recdistill.commands.evaluate"]
VERBS += ["recdistill.commands.release"]
LINEAR = [*VERBS, "recdistill.loops.teach", "recdistill.teachers.linear"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "base"
    made.mkdir()
    registry = '[registry]\nuri = "sqlite:///mlflow.sqlite"\nname = "shop"\n'
    (made / "shop.toml").write_text(IN_THE_FOLDER + registry)
    (made / "features.toml").write_text(FEATURES + HOUR)
    with closing(open_log(LogSettings(path=str(made / "log.sqlite")))) as log:
        log.create_topics(standard_topics(), configs=STANDARD_CONFIGS)
        feed(log, world.items(20))
    return made


def killed(
    folder: Path, verb: str, *, shows: Sequence[str] = (), modules: Sequence[str] = VERBS
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the verb did that was not killed, and what followed at each of twenty places at which it was."""
    job = {
        "folder": str(folder),
        "modules": list(modules),
        "verb": verb.split("|"),
        "shows": [one.split() for one in shows],
        "places": 12,
        "last": 9,
    }
    env = os.environ | {
        "RECDISTILL_CONFIG": "shop.toml",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "e2e.killed_verb"],
        input=json.dumps(job),
        env=env,
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    whole, *places = [json.loads(line) for line in done.stdout.splitlines()]
    assert whole["first"]["code"] == 0, whole["first"]["err"]
    assert len(places) >= 20
    assert all(one["killed"]["code"] == -9 for one in places)
    for one in places:
        assert "Traceback" not in one["again"]["err"]
        assert one["again"]["code"] == 0 or one["again"]["err"].count("error: ") == 1, one["again"]
    return whole, places


def files(folder: Path) -> dict[str, bytes]:
    """The files that are not hidden, by their paths."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_import(folder: Path) -> None:
    lists = world.impressions(60)
    (folder / "lists.jsonl").write_bytes(b"".join(to_json(one) + b"\n" for one in lists))
    whole, places = killed(folder, "import|lists.jsonl|--kind|impressions", shows=["inspect impressions --json -n 999"])
    [shown] = whole["shows"]
    assert [json.loads(line)["record"]["id"] for line in shown["out"].splitlines()] == [one.id for one in lists]
    for one in places:
        assert one["again"]["code"] == 0, one["again"]["err"]
        ids = [json.loads(line)["record"]["id"] for line in one["shows"][0]["out"].splitlines()]
        assert ids == [one.id for one in lists], "each record once"


@pytest.mark.parametrize("replace", [False, True])
def test_teach(folder: Path, replace: bool) -> None:
    lists = world.impressions(60)
    with closing(open_log(LogSettings(path=str(folder / "log.sqlite")))) as log:
        feed(log, [*lists, *world.feedback(lists)])
    verb = "teach|--kind|linear|--set|teacher.path=t"
    if replace:
        (folder / "t").mkdir()
        (folder / "t" / "teacher.json").write_text("{}")
        (folder / "t.taught.json").write_text(json.dumps({"latest_list": "1970-01-01T00:00:09Z"}))
        verb += "|--replace"
    whole, places = killed(folder, verb, modules=LINEAR)
    expected = files(Path(whole["folder"]) / "t")
    assert "teacher.json" in expected
    for one in places:
        place = Path(one["folder"])
        if one["again"]["code"]:
            assert not replace
            assert "t: holds a teacher already; add --replace" in one["again"]["err"]
        assert files(place / "t") == expected, "the teacher is whole, whoever finished it"
        # The judge leaves out the lists that the teacher has seen, so this note must never be missing.
        assert json.loads((place / "t.taught.json").read_text()) == {"latest_list": "1970-01-01T00:01:00Z"}
        assert not [path.name for path in place.iterdir() if path.name.startswith(("t.former", "t.training"))]


def test_export(folder: Path) -> None:
    make_bundle(folder / "bundle", "one")
    whole, places = killed(folder, "export|bundle|--out|shop.onnx", modules=[*VERBS, "recdistill.device"])
    for one in places:
        assert one["again"]["code"] == 0, one["again"]["err"]
        assert files(Path(one["folder"]))["shop.onnx"] == files(Path(whole["folder"]))["shop.onnx"]


@pytest.mark.mlflow
def test_rollback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    registry = Registry(new_file(folder / "mlflow.sqlite").replace(str(folder) + "/", ""), "shop")
    before = None
    with closing(ledger_at(folder, "shop")) as ledger:
        for name in ("one", "two"):
            bundle = make_bundle(folder.parent / name, name)
            number = registry.publish(bundle, evidence_of(bundle)).number
            change(registry, ledger, number, bundle.content_hash, expect=before, who="ada", why="-")
            before = number
    stores = [f"mlflow.store.{one}.sqlalchemy_store" for one in ("tracking", "model_registry")]
    modules = [*VERBS, "recdistill.release", "recdistill.loops.opened", "mlflow", "mlflow.tracking", *stores]
    _, places = killed(
        folder, "rollback|--why|complaints", shows=["versions --json", "ledger verify --json"], modules=modules
    )
    for one in places:
        versions, verified = (json.loads(shown["out"]) for shown in one["shows"])
        assert {alias: v["number"] for v in versions["versions"] for alias in v["aliases"]}["champion"] == "1"
        kinds = [entry["kind"] for entry in versions["ledger"]]
        assert kinds == ["promote", "promote", "rollback"], "it is rolled back once, and never twice"
        assert (verified["troubles"], verified["differs"]) == ([], "")
        if one["again"]["code"]:
            assert "version 2 was rolled back to 1 already" in one["again"]["err"]
