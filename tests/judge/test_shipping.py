"""What ships: the device file beside the bundle, and what answers hold. Faults are planted in the files themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.judgements import make_judgement

from recdistill.bundle import Bundle
from recdistill.bundle.index import build_index
from recdistill.device import export_device
from recdistill.judge.contenders import BundleContender, DeviceContender
from recdistill.judge.gates import gate
from recdistill.judge.judgement import Shipped
from recdistill.judge.policy import Asked, Rule
from recdistill.judge.shipping import answers, shipped
from recdistill.records import Impression
from references.students import make_requests, make_student


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, list[Impression], Path]:
    folder = tmp_path_factory.mktemp("shipping")
    student = make_student(400)
    bundle = student.export(folder / "bundle")
    requests = make_requests(student, 60, seed=2)
    export_device(bundle, folder / "device.onnx")
    return bundle, requests, folder


def verdict(found: Shipped) -> tuple[str, list[str]]:
    evidence = gate(msgspec.structs.replace(make_judgement(), shipped=found), Asked())
    return evidence.verdict, evidence.reasons


def test_the_overlap_is_that_of_both_answers_counted_by_hand(made: tuple[Bundle, list[Impression], Path]) -> None:
    bundle, requests, folder = made
    student, file = BundleContender(bundle, "student"), DeviceContender(folder / "device.onnx")
    found = shipped(student, folder / "device.onnx", requests, seed=0, draws=100)
    ids = {item.id for item in bundle.items}
    known = [request for request in requests if any(event.item in ids for event in request.history)]
    assert len(known) < 60  # others get popular items from an endpoint, and the device file has no such list
    shares = [
        len(set(mine) & set(theirs)) / 10
        for mine, theirs in zip(student.top(known, 10), file.top(known, 10), strict=True)
    ]
    assert found.overlap.mean == pytest.approx(np.mean(shares))
    assert (found.lists, found.finite, found.bytes) == (len(known), True, (folder / "device.onnx").stat().st_size)
    assert found.kept.low > 0.95
    assert verdict(found)[0] == "passed"


def test_one_int8_layer_gone_wrong(made: tuple[Bundle, list[Impression], Path], tmp_path: Path) -> None:
    """The scales of the item vectors have lost their order, as after a wrong copy. The float bundle is right."""
    bundle, requests, _ = made
    broken = replace(
        bundle, scales_N=bundle.scales_N[::-1].copy(), quantised_ND=np.roll(bundle.quantised_ND, 1, axis=1)
    )
    export_device(broken, tmp_path / "device.onnx")
    found, why = verdict(
        shipped(BundleContender(bundle, "student"), tmp_path / "device.onnx", requests, seed=0, draws=100)
    )
    assert found == "refused"
    assert [reason.partition(":")[0] for reason in why] == ["device"]


def test_an_index_of_another_versions_vectors(
    made: tuple[Bundle, list[Impression], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is whole and fits in size, but it was made from other vectors. The device file has none, and tells."""
    monkeypatch.setattr("recdistill.serve.index.SCAN_BELOW", 10)  # this catalogue is small, and would be scanned
    bundle, requests, folder = made
    other = np.random.default_rng(5).normal(size=bundle.vectors_NW.shape).astype(np.float32)
    users = np.random.default_rng(6).normal(size=(64, bundle.vectors_NW.shape[1] - 2)).astype(np.float32)
    for vectors, expected in ((bundle.vectors_NW, "passed"), (other, "refused")):
        data, info = build_index(vectors, users, exact_below=10)
        assert data is not None
        content = msgspec.structs.replace(bundle.manifest.content, index=info)
        manifest = msgspec.structs.replace(bundle.manifest, content=content)
        indexed = replace(bundle, index=data, manifest=manifest)
        student = BundleContender(indexed, "student")
        found, _ = verdict(shipped(student, folder / "device.onnx", requests, seed=0, draws=100))
        assert found == expected


def test_blocked_items_and_attributes_are_counted_in_first_tens(made: tuple[Bundle, list[Impression], Path]) -> None:
    bundle, requests, _ = made
    student = BundleContender(bundle, "student")
    tops = student.top(requests, 10)
    (most, count), *_ = Counter(item for top in tops for item in top).most_common()
    absent = next(item.id for item in bundle.items if all(item.id not in top for top in tops))
    found = answers(student, requests, bundle.items, blocked=[most, absent], rules=[("genres", "g3")])
    assert found.blocked == {most: count}
    having = {item.id for item in bundle.items if "g3" in item.attributes.get("genres", [])}
    [rule] = found.rules
    assert rule.share == pytest.approx(sum(item in having for top in tops for item in top) / sum(map(len, tops)))
    judgement = msgspec.structs.replace(make_judgement(), answers=found)
    refused = gate(judgement, Asked(blocked=[most, absent]))
    assert refused.reasons == [
        f"blocked: items that gate.blocked names are in the first ten, of 60 answers: {most} in {count}"
    ]
    assert gate(judgement, Asked(blocked=[absent])).passed
    assert gate(judgement, Asked(rules=[Rule(attribute="genres", value="g3", most=rule.share)])).passed
    assert not gate(judgement, Asked(rules=[Rule(attribute="genres", value="g3", most=rule.share - 0.01)])).passed
    assert gate(judgement, Asked(rules=[Rule(attribute="genres", value="g4")])).verdict == "not enough evidence"
