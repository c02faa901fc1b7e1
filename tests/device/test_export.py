"""Export of bundles from outside, through the command line: no file of this machine gets into a device file."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from recdistill.bundle import Bundle
from recdistill.bundle.manifest import Content, make_manifest, write_manifest
from recdistill.cli import main
from recdistill.device import export_device
from recdistill.errors import BundleError
from recdistill.sealed import entry_of
from references.students import make_student


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_student(20).export(tmp_path / "bundle")


def with_tower(bundle: Bundle, tower: bytes) -> None:
    """Puts another user tower into a bundle, under a manifest whose digests are true: what a forger could make."""
    (bundle.path / "user_tower.onnx").write_bytes(tower)
    tree = json.loads((bundle.path / "manifest.json").read_text())
    tree["content"]["files"]["user_tower.onnx"] = msgspec.to_builtins(entry_of(tower))
    made = make_manifest(msgspec.convert(tree["content"], Content), tree["provenance"])
    (bundle.path / "manifest.json").write_bytes(write_manifest(made))


def test_a_weight_in_another_file_is_not_read(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load_model_from_string(bundle.user_tower)
    weight = next(i for i in model.graph.initializer if i.name == "weight/user.b2")
    secret = np.full(weight.dims[0], 42.25, np.float32).tobytes()
    (tmp_path / "secret.env").write_bytes(secret)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "secret.env"), ("offset", "0"), ("length", str(len(secret)))):
        weight.external_data.add(key=key, value=value)
    with_tower(bundle, model.SerializeToString())
    monkeypatch.chdir(tmp_path)  # a relative name is looked for where the command runs
    assert main(["export", str(bundle.path), "--out", "device.onnx"]) == 6
    error = capsys.readouterr().err
    assert "user_tower.onnx: weight 'weight/user.b2' lies outside of the graph, in another file" in error
    assert not Path("device.onnx").exists()


@pytest.mark.parametrize("tower", [b"garbage", b"\x3a\xff\xff\xff\xff", b""])
def test_a_tower_that_is_no_graph_is_one_sentence(
    bundle: Bundle, tower: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_tower(bundle, tower)
    assert main(["export", str(bundle.path), "--out", str(tmp_path / "device.onnx")]) in (3, 6)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "should have explained" not in error
    assert not (tmp_path / "device.onnx").exists()


def test_an_export_that_fails_leaves_the_file_that_was_there(bundle: Bundle, tmp_path: Path) -> None:
    """A disk that is full in the middle, made with a limit on the size of a file."""
    out = tmp_path / "my shop.onnx"
    export_device(bundle, out)
    before = out.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(BundleError, match="cannot be written"):
            export_device(bundle, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bundle", "my shop.onnx"]
    link = tmp_path / "link.onnx"
    link.symlink_to(out.name)
    export_device(bundle, link)
    assert link.is_symlink()
    assert out.read_bytes() == before
