"""The committed wire code is what the schema says."""

from pathlib import Path

from tools import generate_proto

ROOT = Path(__file__).resolve().parents[2]


def test_generated_code_has_not_drifted() -> None:
    for name, text in generate_proto.generate().items():
        assert (ROOT / name).read_text() == text, f"run tools/generate_proto.py: {name} is out of date"
