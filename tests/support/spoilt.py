"""Bundles with one fault each, whole by their manifest: what somebody who may write to the registry could put there.

It knows nothing of who refuses them.

Example:
    >>> turned({"id": ["a", "b", "c"]}, "id", "a", "c")
    {'id': ['c', 'b', 'a']}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import onnx
from onnx import TensorProto, helper

from recdistill.bundle import Bundle, open_bundle
from recdistill.bundle.manifest import make_manifest, write_manifest
from recdistill.features import Vocabulary
from recdistill.sealed import entry_of

Nodes = Callable[[str, str], list[onnx.NodeProto]]
"""From the name of the tower's output, and the name that the output must have, to the nodes between them."""


def resealed(bundle: Bundle, out: Path, files: Mapping[str, bytes], **content: Any) -> Bundle:
    """The bundle with other files, and a manifest that fits them."""
    out.mkdir(parents=True)
    entries = dict(bundle.manifest.content.files)
    for name in entries:
        data = files.get(name) or (bundle.path / name).read_bytes()
        (out / name).write_bytes(data)
        entries[name] = entry_of(data)
    made = msgspec.structs.replace(bundle.manifest.content, files=entries, **content)
    (out / "manifest.json").write_bytes(write_manifest(make_manifest(made, bundle.manifest.provenance)))
    return open_bundle(out)


def with_rows(bundle: Bundle, out: Path, key: str, one: str, other: str) -> Bundle:
    """The bundle whose vocabulary gives two values each other's row."""
    snapshot = turned(bundle.vocabulary.snapshot(), key, one, other)
    vocabulary = Vocabulary.restore(bundle.spec, snapshot)
    return resealed(
        bundle, out, {"vocabulary.json": msgspec.json.encode(snapshot, order="sorted")}, vocab_hash=vocabulary.hash
    )


def turned(snapshot: dict[str, list[Any]], key: str, one: str, other: str) -> dict[str, list[Any]]:
    """A snapshot in which two values have changed places."""
    values = list(snapshot[key])
    here, there = values.index(one), values.index(other)
    values[here], values[there] = values[there], values[here]
    return {**snapshot, key: values}


def tower(model: bytes, nodes: Nodes) -> bytes:
    """A tower with more nodes behind its output."""
    found = onnx.load_model_from_string(model)
    out = found.graph.output[0].name
    for node in found.graph.node:
        for place, name in enumerate(node.output):
            if name == out:
                node.output[place] = "inner"
    found.graph.node.extend(nodes("inner", out))
    return bytes(found.SerializeToString())


def not_a_number(inner: str, out: str) -> list[onnx.NodeProto]:
    """Every output is NaN."""
    zero = helper.make_node("Sub", [inner, inner], ["zero"])
    return [zero, helper.make_node("Div", ["zero", "zero"], [out])]


def wider(inner: str, out: str) -> list[onnx.NodeProto]:
    """The output is twice as wide."""
    return [helper.make_node("Concat", [inner, inner], [out], axis=-1)]


def without_end(inner: str, out: str) -> list[onnx.NodeProto]:
    """A loop that never ends."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["value"], ["same"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, None),
        ],
    )
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    return [
        helper.make_node("Constant", [], ["yes"], value=true),
        helper.make_node("Loop", ["", "yes", inner], [out], body=body),
    ]


def greedy(inner: str, out: str) -> list[onnx.NodeProto]:
    """It takes some ten gigabytes for a moment."""
    size = helper.make_tensor("size", TensorProto.INT64, [2], [50_000, 50_000])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return [
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("ConstantOfShape", ["size"], ["huge"], value=zero),
        helper.make_node("ReduceMax", ["huge"], ["nothing"], keepdims=0),
        helper.make_node("Add", [inner, "nothing"], [out]),
    ]
