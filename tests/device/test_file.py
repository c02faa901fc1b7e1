"""The format of a device file, against what the onnx package writes and reads."""

from __future__ import annotations

import hashlib

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.device import file
from recdistill.errors import BundleError

texts = st.text(max_size=40) | st.integers(0, 40_000).map(lambda n: "ä" * n)


def by_onnx(entries: dict[str, str]) -> bytes:
    props = [onnx.StringStringEntryProto(key=key, value=value) for key, value in sorted(entries.items())]
    return bytes(onnx.ModelProto(metadata_props=props).SerializeToString(deterministic=True))


@settings(deadline=None)
@given(st.dictionaries(texts, texts, max_size=4))
def test_entries_are_those_that_protobuf_writes(entries: dict[str, str]) -> None:
    sealed = file.seal(b"", entries)
    body = sealed[:-64]
    digest = hashlib.sha256(body).hexdigest()
    assert sealed == by_onnx(entries) + by_onnx({"recdistill.sha256": digest})
    assert file.is_whole(sealed)


def test_the_metadata_of_a_sealed_model_is_read_by_onnx() -> None:
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    model = onnx.helper.make_model(graph, producer_name="somebody")
    made = file.Made("ab" * 32, '{"context": {}}', 1234)
    read = onnx.load_model_from_string(file.seal(model.SerializeToString(), made.entries()))
    assert read.graph == model.graph
    found = {entry.key: entry.value for entry in read.metadata_props}
    assert found.pop("recdistill.sha256")
    assert found == {
        "recdistill.format": "1",
        "recdistill.content_hash": "ab" * 32,
        "recdistill.features": '{"context": {}}',
        "recdistill.items": "1234",
    }
    assert file.Made.read(found, source="d.onnx") == made


@settings(deadline=None)
@given(st.binary(max_size=200), st.data())
def test_a_changed_byte_is_seen(model: bytes, data: st.DataObject) -> None:
    sealed = bytearray(file.seal(model, {"a": "1"}))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    assert not file.is_whole(bytes(sealed))


@pytest.mark.parametrize("size", [0, 1, 63, 64])
def test_what_is_too_short_is_not_whole(size: int) -> None:
    assert not file.is_whole(b"0" * size)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recdistill.format": "2"}, "d.onnx: has device format 2, this version reads 1"),
        ({"recdistill.format": None}, "d.onnx: has device format none"),
        ({"recdistill.items": "many"}, "d.onnx: does not say what it was made of"),
        ({"recdistill.content_hash": None}, "d.onnx: does not say what it was made of"),
        ({"recdistill.features": None}, "d.onnx: does not say what it was made of"),
    ],
)
def test_what_a_file_does_not_state_is_named(change: dict[str, str | None], says: str) -> None:
    entries = file.Made("0" * 64, "{}", 1).entries() | change
    with pytest.raises(BundleError, match=says):
        file.Made.read({key: value for key, value in entries.items() if value is not None}, source="d.onnx")
