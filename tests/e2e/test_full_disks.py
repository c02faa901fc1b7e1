"""The disk is full under a translator, a prober or a promoter: one sentence says what, where and what to do.

Then there is space again, and the next start goes on as if nothing had been. The other stages: `test_hard_days.py`.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import small_shop, world
from support.full_disk import full_after
from support.small_shop import Shop, open_shop

from recdistill.config import LogSettings
from recdistill.records import Impression, decode
from recdistill.registry.artifacts import Artifacts
from recdistill.stream import open_log
from recdistill.stream.embedded import tables
from tools.mlflow_server import new_file

pytestmark = pytest.mark.e2e

FREE = "free some disk space and start again; nothing was lost"


def full_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log's file may not grow."""
    monkeypatch.setattr(tables, "connect", full_after(0))


def refuse(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, name: str) -> None:
    """A method that writes files finds no space for a file of this name; any other name goes through."""
    real = getattr(owner, method)

    def full(self: Any, first: Any, *more: Any, **options: Any) -> Any:
        path = str(self if owner is Path else first)
        if name in path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return real(self, first, *more, **options)

    monkeypatch.setattr(owner, method, full)


def test_a_translator_writes_each_message_once_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = open_shop(tmp_path, monkeypatch, capsys)
    Path("views.map.toml").write_text(
        'kind = "impressions"\n[columns]\nid = "request"\ntime = "ts"\ncandidates = "slots.sku"\n'
    )
    with closing(shop.log()) as theirs:
        theirs.create_topics({"web.views": 1})
        with closing(theirs.stage("web")) as stage, stage.transaction() as transaction:
            for n in range(300):
                slots = [{"sku": f"item-{k}"} for k in range(20)]
                said = {"request": f"r{n}", "ts": 1_767_600_000 + n, "slots": slots}
                transaction.send("web.views", json.dumps(said).encode())
    monkeypatch.setenv("RECDISTILL__LOG__PREFIX", "shop.")
    shop("topics create")
    typed = "translate --drain --topic web.views --mapping views.map.toml"
    with monkeypatch.context() as patched:
        full_log(patched)
        code, _, err = shop.type(*typed.split())
    assert code == 4
    [line] = [one for one in err.splitlines() if one.startswith("error:")]
    assert line.endswith(f"log.sqlite: database or disk is full; {FREE}")
    shop(typed)
    ours = Shop(tmp_path, capsys, LogSettings(path=str(tmp_path / "log.sqlite"), prefix="shop."))
    lists = [decode(Impression, one.value).id for one in ours.read("impressions")]
    assert sorted(lists) == sorted(f"r{n}" for n in range(300))
    assert ours.read("dead-letters") == []


@pytest.mark.slow
def test_a_promoter_gives_no_bundle_up_and_a_prober_asks_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever the space ends: in what is fetched, in the device file, in what is sent."""
    settings = small_shop.SETTINGS + small_shop.EASY_GATE + "[trial]\non = false\n"
    small_shop.prepare(tmp_path, monkeypatch, settings, small_shop.FEATURES)
    shop = Shop(tmp_path, capsys, LogSettings(path=str(tmp_path / "recdistill-data" / "log.sqlite")))
    shop("topics create")
    new_file(tmp_path / "recdistill-data" / "mlflow.sqlite")
    shop.take_in("items", "items", world.items())
    lists = list(world.impressions(120))
    shop.arrive("all", lists, world.feedback(lists))
    shop(f"distil --until @{lists[80].time_us // 1_000_000}")
    promoted = "promote --loop --drain --set judge.lists=behind --set gate.min_lists=5"
    for owner, method, name in (
        (Artifacts, "take", "blobs"),
        (Path, "write_bytes", "device.onnx"),
        (Path, "write_bytes", "evidence.json"),
    ):
        with monkeypatch.context() as patched:
            refuse(patched, owner, method, name)
            code, _, err = shop.type(*promoted.split())
        assert code == 7, (method, name, err)
        [line] = [one for one in err.splitlines() if one.startswith("error:")]
        assert line.endswith(f"there is no space left on the disk; {FREE}"), line
        assert "Traceback" not in err
    assert not any(one["aliases"] for one in shop.json("versions")["versions"])
    assert shop.json(promoted)["promoted"] == 1
    [version] = shop.json("versions")["versions"]
    assert version["content_hash"] == shop.learnt().content_hash

    probes = "probe --drain --set probe.share=1 --set probe.per_s=100000"
    with monkeypatch.context() as patched:
        refuse(patched, Artifacts, "take", "blobs")
        code, _, err = shop.type(*probes.split())
    assert code == 7
    assert err.strip().splitlines()[-1].endswith(f"there is no space left on the disk; {FREE}")
    with monkeypatch.context() as patched:
        full_log(patched)
        code, _, err = shop.type(*probes.split())
    assert code == 4
    assert err.strip().splitlines()[-1].endswith(f"database or disk is full; {FREE}")
    assert shop.json(probes)["impressions"] == 120
    found = [decode(Impression, one.value) for one in shop.read("impressions")]
    asked = [one.id for one in found if one.origin == "student"]
    assert len(asked) == len(set(asked)) > 60
    with closing(open_log(shop.settings)) as log:
        assert log.topics()["bundles"] == 1
