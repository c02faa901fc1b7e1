"""The committed wire code is what the schema says."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_generated_code_has_not_drifted() -> None:
    if not (Path(sys.executable).parent / "protoc").exists() and shutil.which("protoc") is None:
        pytest.skip("protoc is missing: install the development extra")
    spec = importlib.util.spec_from_file_location("generate_proto", ROOT / "tools" / "generate_proto.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.generate().items():
        assert (ROOT / name).read_text() == text, f"run tools/generate_proto.py: {name} is out of date"
