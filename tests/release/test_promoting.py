"""What is compared with a candidate: a champion whose files are damaged is nobody's fault but its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.errors import RegistryError
from recdistill.registry import Registry
from recdistill.release import take_champion
from references.students import make_student
from tools.mlflow_server import new_file


def test_a_champion_with_damaged_files_gives_no_candidate_up(tmp_path: Path) -> None:
    registry = Registry(new_file(tmp_path / "mlflow.sqlite"), "students")
    bundle = make_student().export(tmp_path / "bundle", base_position=0)
    number = registry.publish(bundle, None).number
    registry.crown(number)
    (tmp_path / "whole").mkdir()
    taken = take_champion(registry, tmp_path / "whole", but="f" * 64)
    assert taken is not None
    assert taken.content_hash == bundle.content_hash

    tower = bundle.manifest.files["user_tower.onnx"].sha256
    [blob] = [path for path in tmp_path.rglob("blobs/*/*") if path.name == tower]
    blob.write_bytes(bytes(blob.stat().st_size))
    (tmp_path / "cut").mkdir()
    again = Registry(f"sqlite:///{tmp_path}/mlflow.sqlite", "students")
    said = f"the champion, version {number}, whose files in the store are damaged: .*rollback"
    with pytest.raises(RegistryError, match=said):
        take_champion(again, tmp_path / "cut", but="f" * 64)
    registry.publish(bundle, None)
    assert take_champion(again, tmp_path / "cut", but="f" * 64) is not None, "what the sentence says helps"
