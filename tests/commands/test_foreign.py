"""Bundles that a person names: a tower that never ends hangs no verb."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import spoilt
from support.small_shop import Shop, open_shop

from recdistill.bundle import open_bundle
from recdistill.commands import foreign
from recdistill.config import Settings, TrialSettings

pytestmark = pytest.mark.slow

BOUND = "--set trial.cpu_s=3"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    shop = open_shop(tmp_path, monkeypatch, capsys)
    shop.write(lists=120)
    for line in ("score --drain", "join --drain --flush", "distil --until 60"):
        shop(line)
    return shop


def test_a_bundle_whose_tower_never_ends_is_a_sentence(shop: Shop) -> None:
    [good] = (shop.folder / "student" / "bundles").iterdir()
    bundle = open_bundle(good)
    graph = spoilt.tower(bundle.user_tower, spoilt.without_end)
    spoilt.resealed(bundle, shop.folder / "endless", {"user_tower.onnx": graph})
    said = "was tried in a separate process: it did not end within 3 s of processor time (trial.cpu_s)"
    assert shop(f"recommend item-1 --bundle {good}")  # it is tried here, with enough time
    for line in (
        "recommend item-1 --bundle endless",
        "evaluate endless",
        f"evaluate {good} --beside endless",
    ):
        shop(f"{line} {BOUND}", code=6)
        assert said in " ".join(shop.errors.split()), line


def test_content_is_tried_once_and_not_at_all_where_the_settings_say_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recdistill.loops import opened

    tried: list[str] = []
    monkeypatch.setattr(opened, "trial_of", lambda settings: lambda bundle, **_: tried.append(bundle.content_hash))
    monkeypatch.setattr(foreign, "_TRIED", set())
    [good] = (shop.folder / "student" / "bundles").iterdir()
    bundle = open_bundle(good)
    foreign.try_first(Settings(trial=TrialSettings(on=False)), bundle)
    assert tried == []
    foreign.try_first(Settings(), bundle, bundle)
    foreign.try_first(Settings(), bundle)
    assert tried == [bundle.content_hash]
