"""The manifest's JSON Schema is the one in schemas/, and holds for what is written."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from recdistill.bundle.manifest import Content, FileEntry, IndexInfo, make_manifest, schema, write_manifest

SCHEMA = Path(__file__).parents[2] / "schemas" / "manifest.schema.json"


@pytest.fixture
def tree() -> dict[str, Any]:
    content = Content(
        format=1,
        items=3,
        dim=4,
        features_hash="0" * 64,
        vocab_hash="1" * 64,
        base_position=7,
        index=IndexInfo("exact"),
        int8_max_abs_error=0.5,
        popular=0,
        golden=0,
        opsets={"ai.onnx": 17},
        files={"items.bin": FileEntry(1, "2" * 64)},
    )
    made: dict[str, Any] = json.loads(write_manifest(make_manifest(content, {"run": 5})))
    return made


def test_the_schema_in_the_tree_is_current() -> None:
    assert json.loads(SCHEMA.read_text()) == schema(), f"write {SCHEMA} again: json.dumps(manifest.schema(), indent=2)"
    jsonschema.Draft202012Validator.check_schema(schema())


def test_what_is_written_satisfies_the_schema(tree: dict[str, Any]) -> None:
    jsonschema.validate(tree, schema())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("content", "format"), 2),
        (("content", "items"), 0),
        (("content", "files"), {"../x.npy": {"size": 1, "sha256": "2" * 64}}),
        (("content", "files", "items.bin", "size"), -1),
        (("content", "files", "items.bin", "sha256"), "zz"),
        (("content", "index", "kind"), "magic"),
        (("content", "extra"), 1),
        (("content_hash",), "short"),
        (("provenance",), []),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    broken = copy.deepcopy(tree)
    node = broken
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema())
