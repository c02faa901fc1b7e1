"""The device file against the recommender on the same requests, and its refusal of anything that was changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from recdistill.bundle import Bundle
from recdistill.device import Device, export_device
from recdistill.device.file import seal
from recdistill.errors import BundleError, RequestError
from recdistill.records import Impression
from recdistill.serve import Recommender, Request
from references.students import Student, make_requests, make_student


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student(200, scale=0.3)


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return student.export(tmp_path_factory.mktemp("bundles") / "one", golden_requests=make_requests(student, 3))


@pytest.fixture(scope="module")
def file(bundle: Bundle) -> Path:
    path = bundle.path.parent / "device.onnx"
    figures = export_device(bundle, path)
    assert figures == {
        "size": path.stat().st_size,
        "items": len(bundle.items),
        "dim": 8,
        "content_hash": bundle.content_hash,
    }
    return path


def ask(device: Device, request: Impression, **options: Any) -> tuple[list[str], list[float]]:
    return device.recommend(
        [e.item for e in request.history],
        actions=[e.action for e in request.history],
        times_us=[e.time_us for e in request.history],
        time_us=request.time_us,
        context=request.context,
        **options,
    )


def test_the_device_agrees_with_the_recommender(student: Student, bundle: Bundle, file: Path) -> None:
    device, recommender = Device.open(file, expect=bundle.content_hash), Recommender(bundle)
    assert (device.items, device.content_hash) == (len(bundle.items), bundle.content_hash)
    requests = [r for r in make_requests(student, 200) if r.context]
    overlaps, errors = [], []
    for request, scores in zip(requests, recommender.score_all(requests), strict=True):
        items, found = ask(device, request, k=10, exclude=["item-1", "nobody"])
        assert "item-1" not in items
        by_id = dict(zip(recommender.ids, scores, strict=True))
        errors.append(np.abs(np.array(found) - [by_id[item] for item in items]).max() / np.abs(scores).max())
        asked = Request(request.history, request.context, ("item-1",), request.time_us)
        overlaps.append(len(set(items) & set(recommender.recommend([asked], 10)[0].items)) / 10)
    assert np.mean(overlaps) >= 0.97
    assert max(errors) < 0.03


def test_arguments_may_be_left_out(file: Path, bundle: Bundle) -> None:
    device = Device.open(file)
    items, scores = device.recommend()
    assert len(items) == 10
    assert scores == sorted(scores, reverse=True)
    known = {item.id for item in bundle.items}
    assert set(device.recommend(["item-1", "gone", "item-1"], k=10**9)[0]) == known
    assert device.recommend(["item-1"], exclude=sorted(known), k=3) == ([], [])
    whole = device.recommend(["item-1"], context={"device": ["phone", "phone", ""], "hour": 3, "elsewhere": "x"})
    assert whole == device.recommend(["item-1"], context={"device": "phone", "hour": 3.0})


@pytest.mark.parametrize("value", [3e38, -3e38, 1e20])
def test_absurd_context_still_gets_an_answer(file: Path, value: float) -> None:
    items, scores = Device.open(file).recommend(["item-1"], context={"place": [value, -value]})
    assert len(items) == 10
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"history": "item-1"}, r"^history: must be a list of texts"),
        ({"history": [1]}, r"^history: must be a list of texts"),
        ({"history": ["item-1"], "actions": []}, r"^actions: must be one for each of the 1 events, not 0"),
        ({"history": ["item-1"], "times_us": [1, 2]}, r"^times_us: must be one for each"),
        ({"history": ["item-1"], "times_us": [-1]}, r"^times_us: must be microseconds"),
        ({"time_us": 2**70}, r"^time_us: must be microseconds"),
        ({"k": 0}, r"^k: must be at least 1"),
        ({"exclude": [None]}, r"^exclude: must be a list of texts"),
        ({"context": {"hour": "noon"}}, r"^context.hour: must be finite numbers"),
        ({"context": {"hour": [1.0]}}, r"^context.hour: must be one number"),
        ({"context": {"hour": float("nan")}}, r"^context.hour: must be finite"),
        ({"context": {"hour": 10**400}}, r"^context.hour: must be finite"),
        ({"context": {"place": [1, 10**400]}}, r"^context.place: must be finite"),
        ({"context": {"device": 10**400}}, r"^context.device: must be finite"),
        ({"context": {"device": ["phone", float("inf")]}}, r"^context.device: must be finite"),
        ({"context": {"device": "\ud800"}}, r"^context.device: holds half a surrogate pair"),
        ({"history": ["item-1", "\udc00"]}, r"^history: holds half a surrogate pair"),
        ({"context": {"place": [1.0]}}, r"^context.place: must be a list of 2 numbers, not of 1"),
    ],
)
def test_wrong_arguments_are_named(file: Path, arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        Device.open(file).recommend(**arguments)


def test_any_changed_byte_is_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for at in np.linspace(0, len(whole) - 1, 60).astype(int):
        broken = bytearray(whole)
        broken[at] ^= 4
        with pytest.raises(BundleError, match="was changed after the export"):
            Device(bytes(broken), source="d.onnx")
    for other in (b"", b"x" * 10, whole[:-1], whole + b"\n"):
        with pytest.raises(BundleError, match="is not a whole device file"):
            Device(other, source="d.onnx")


def test_files_of_other_kinds_are_refused(bundle: Bundle, file: Path) -> None:
    with pytest.raises(BundleError, match="onnxruntime cannot load it"):
        Device(seal(b"no model", {}), source="d.onnx")
    with pytest.raises(BundleError, match="has device format none, this version reads 1"):
        Device(seal(bundle.user_tower, {}), source="d.onnx")
    with pytest.raises(BundleError, match="has device format 2"):
        Device(seal(bundle.user_tower, {"recdistill.format": "2"}), source="d.onnx")
    with pytest.raises(BundleError, match="does not say what it was made of"):
        Device(seal(bundle.user_tower, {"recdistill.format": "1"}), source="d.onnx")
    with pytest.raises(BundleError, match="comes from bundle"):
        Device.open(file, expect="0" * 64)


ODD: list[Any] = [None, [], {}, "", "x", "number", 0, -1, 3, 1.5, True, [None], [{}], {"kind": None}, {"kind": []}]
NO_OBJECT = ["null", "[]", "3", '"context"', "true", '["context"]', '{"context": null}', '{"context": [1]}', "{}", ""]
TOO_MUCH = ["[" * 100_000, '{"context": ' * 50_000, "9" * 5_000, '{"context": {"a": ' + "9" * 5_000 + "}}", "\0"]


def refused(model: bytes) -> str:
    """The sentence with which a model is refused. Empty: it is taken, and answers."""
    try:
        device = Device(model, source="d.onnx")
    except BundleError as error:
        says = str(error)
    else:
        for place in ([1.0, 2.0], [1.0, 2.0, 3.0], [1.0]):
            with contextlib.suppress(RequestError):  # the size that it states
                device.recommend(["item-1"], context={"place": place, "device": "phone", "hour": 3})
        return ""
    assert says.startswith("d.onnx: ")
    assert says.endswith("; export it again")
    assert says.isprintable()
    assert len(says) < 300
    return says


def parts_of(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each value in an object."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield (*path, key)
        yield from parts_of(value, (*path, key))


@pytest.fixture(scope="module")
def parts(file: Path) -> tuple[bytes, dict[str, str]]:
    """A model without metadata, and its metadata. `seal` gives them a right digest, so that all of them are read."""
    graph = onnx.load_model_from_string(file.read_bytes())
    entries = {entry.key: entry.value for entry in graph.metadata_props}
    del entries["recdistill.sha256"], graph.metadata_props[:]
    return graph.SerializeToString(), entries


def test_metadata_that_are_no_object_are_refused_in_one_sentence(parts: tuple[bytes, dict[str, str]]) -> None:
    plain, entries = parts
    assert not refused(seal(plain, entries))
    for text in (*NO_OBJECT, *TOO_MUCH):
        says = refused(seal(plain, {**entries, "recdistill.features": text}))
        assert "does not say what it was made of" in says, text[:40]


def test_every_other_entry_is_refused_in_one_sentence(parts: tuple[bytes, dict[str, str]]) -> None:
    plain, entries = parts
    for text in ("null", "[]", "", "-1", "1.5", "1_0", "many\x1b[31m", "9" * 30, "9" * 5_000):
        for key in ("recdistill.items", "recdistill.content_hash", "recdistill.format"):
            assert refused(seal(plain, {**entries, key: text})), (key, text)
    for key in ("recdistill.items", "recdistill.content_hash"):
        body, old = seal(plain, entries)[:-64], entries[key].encode()
        at = body.index(old, body.index(key.encode()))
        body = body[:at] + b"\xff" * len(old) + body[at + len(old) :]
        assert "UTF-8" in refused(body + hashlib.sha256(body).hexdigest().encode()), key


@pytest.mark.slow
def test_a_specification_of_any_form_is_taken_or_refused_in_one_sentence(parts: tuple[bytes, dict[str, str]]) -> None:
    plain, entries = parts
    features = json.loads(entries["recdistill.features"])
    context = [path for path in parts_of(features) if path[0] == "context"]
    assert ("context", "place", "size") in context
    for path in context:
        for odd in (*ODD, "left out"):
            changed = json.loads(json.dumps(features))
            node = changed
            for step in path[:-1]:
                node = node[step]
            same = node[path[-1]] == odd
            if odd == "left out":
                del node[path[-1]]
            else:
                node[path[-1]] = odd
            says = refused(seal(plain, {**entries, "recdistill.features": json.dumps(changed)}))
            needed = len(path) < 3 or path[2] == "kind" or (path == ("context", "place", "size") and odd != 3)
            assert bool(says) == (needed and not same), (path, odd, says)


def test_a_device_needs_onnxruntime_and_numpy_alone(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from recdistill.device import Device, file\n"
        "assert Device.open(Path(sys.argv[1])).recommend(['item-1'])[0]\n"
        "bad = {'torch', 'onnx', 'faiss', 'msgspec', 'google.protobuf', 'recdistill.features', 'recdistill.bundle'}\n"
        "bad &= set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
