"""The students that the demo asks itself: the first champion, the newest bundle of the control, and the device file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.registries import judged, make_bundle

from recdistill.bundle import Bundle, path_of
from recdistill.demo.live.students import Control, Frozen, OnDevice
from recdistill.device import Device
from recdistill.judge import BundleContender
from recdistill.records import Candidate, Impression
from recdistill.registry import Registry
from tools.mlflow_server import new_file

pytestmark = pytest.mark.slow


def asked(bundle: Bundle) -> Impression:
    return Impression("i", 5, candidates=tuple(Candidate(item.id) for item in bundle.items))


def test_the_control_is_asked_with_its_newest_bundle(tmp_path: Path) -> None:
    control = Control(tmp_path)
    control.look()
    first = make_bundle(path_of(tmp_path / "bundles", 9), "first")
    assert control(asked(first)) is None
    control.look()
    np.testing.assert_array_equal(control(asked(first)), BundleContender(first, "x").scores([asked(first)])[0])
    second = make_bundle(path_of(tmp_path / "bundles", 10), "second")
    control.look()
    found = control(asked(second))
    np.testing.assert_array_equal(found, BundleContender(second, "x").scores([asked(second)])[0])
    broken = path_of(tmp_path / "bundles", 11)
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    control.look()  # it is passed over
    np.testing.assert_array_equal(control(asked(second)), found)


@pytest.mark.mlflow
def test_the_first_champion_is_frozen_and_the_newest_is_on_the_device(tmp_path: Path) -> None:
    uri = new_file(tmp_path / "mlflow.sqlite")
    registry = Registry(uri, "shop")
    device, frozen = OnDevice(uri, "shop", tmp_path / "device"), Frozen(tmp_path / "frozen")
    assert device() is None
    frozen.look(registry)
    made = [make_bundle(tmp_path / name, name) for name in ("first", "second")]
    assert frozen(asked(made[0])) is None
    for count, bundle in enumerate(made):
        registry.put(bundle)
        version = registry.publish(bundle, judged(bundle))
        registry.crown(version.number, previous=str(count) if count else None)
        frozen.look(registry)
        expected = BundleContender(made[0], "x").scores([asked(made[0])])[0]
        np.testing.assert_array_equal(frozen(asked(made[0])), expected)
        file = device()
        assert file is not None
        assert Device(file, source="the page").content_hash == bundle.content_hash
        assert device() is file  # made once for each champion
