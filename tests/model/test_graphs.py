"""The graphs against the student's formulas, written out here with loops, one request and one item at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from recdistill.errors import DataError
from recdistill.features import FeatureSpec, HistorySpec, encode_requests
from recdistill.model import forward, graphs, quantise
from recdistill.model.run import ItemTower, UserTower
from recdistill.records import Event, Impression
from references.students import Student, make_requests, make_student, rich_spec


def item_by_hand(student: Student, slot: int) -> list[float]:
    """Sum of the id row and, a field, the mean of its rows (or numbers times table); then softplus of the last."""
    w, encoded = student.weights, student.catalogue.encoded([slot])
    total = [float(v) for v in w["id"][encoded.id_rows_N[0]]]
    for name, field in student.spec.item.items():
        values = encoded.fields[name][0]
        if field.kind in ("category", "text"):
            rows = [r for r in values if r >= 0]
            add = [sum(float(w[f"item.{name}"][r][j]) for r in rows) / max(1, len(rows)) for j in range(len(total))]
        else:
            add = [
                sum(float(v) * float(w[f"item.{name}"][i][j]) for i, v in enumerate(values)) for j in range(len(total))
            ]
        total = [a + b for a, b in zip(total, add, strict=True)]
    total[-1] = math.log(1 + math.exp(total[-1] + math.log(math.e - 1)))
    return total


def user_by_hand(student: Student, request: Impression, item_of: dict[str, list[float]]) -> list[float]:
    """Straight from records: the newest known events before the request, two pools, one hidden layer, a skip."""
    w, spec = student.weights, student.spec
    dim = len(w["user.b2"])
    events = [
        e
        for e in reversed(request.history)
        if e.item in item_of and not (e.time_us and request.time_us and e.time_us >= request.time_us)
    ][: spec.history.length]
    weighted, shared, logits = [0.0] * dim, [0.0] * dim, []
    for position, e in enumerate(events):
        action = 1 + spec.history.actions.index(e.action) if e.action in spec.history.actions else 0
        bucket = 0
        if e.time_us and request.time_us:
            bucket = 1 + min(30, math.floor(math.log2(1 + (request.time_us - e.time_us) // 1_000_000)))
        logits.append(float(w["user.position"][position] + w["user.age"][bucket] + w["user.action_logit"][action]))
        factor = item_of[e.item][-1] * float(w["user.action"][action]) / math.sqrt(len(events))
        weighted = [s + factor * v for s, v in zip(weighted, item_of[e.item][:dim], strict=True)]
    if events:
        top = max(logits)
        total = sum(math.exp(x - top) for x in logits)
        for e, x in zip(events, logits, strict=True):
            shared = [s + math.exp(x - top) / total * v for s, v in zip(shared, item_of[e.item][:dim], strict=True)]
    features = weighted + shared
    for name, field in spec.context.items():
        value, table = request.context.get(name), w[f"context.{name}"]
        if field.kind == "category":
            texts = value if isinstance(value, list) else [] if value is None else [value]
            kept = list(dict.fromkeys(t for t in texts if t))[: field.max_values]
            rows = [student.vocabulary.row(f"context.{name}", t) for t in kept]
            features += [sum(float(table[r][j]) for r in rows) / max(1, len(rows)) for j in range(table.shape[1])]
        elif field.kind == "number":
            pair = (0.0, 0.0) if value is None else (min(5.0, max(-5.0, (value - field.mean) / field.std)), 1.0)
            features += [float(pair[0] * table[0][j] + pair[1] * table[1][j]) for j in range(table.shape[1])]
        else:
            numbers = value or [0.0] * field.size
            features += [sum(n * float(table[i][j]) for i, n in enumerate(numbers)) for j in range(table.shape[1])]
    x = np.array(features)
    hidden = np.maximum(x @ w["user.w1"].astype(float) + w["user.b1"], 0)
    out = hidden @ w["user.w2"].astype(float) + w["user.b2"]
    skip = w["user.skip"].astype(float)
    return list(out + skip[0] * np.array(weighted) + skip[1] * np.array(shared))


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student()


def device_session(student: Student) -> tuple[ort.InferenceSession, bytes]:
    vectors_NW = forward.items(student.weights, student.spec, student.catalogue.encoded())
    quantised, scales = quantise(vectors_NW[:, :-2])
    names = [n for n, f in student.spec.context.items() if f.kind == "category"]
    values = {
        f"context.{n}": [
            (v, student.vocabulary.row(f"context.{n}", v)) for v in student.vocabulary.admitted(f"context.{n}")
        ]
        for n in names
    }
    model = graphs.device(
        student.weights,
        student.spec,
        ids=student.catalogue.ids,
        values=values,
        quantised_ND=quantised,
        scales_N=scales,
        biases_N=vectors_NW[:, -2],
        item_weights_N=vectors_NW[:, -1],
    )
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]), model


def feeds(student: Student, request: Impression, k: int, exclude: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    def texts(values: list[str]) -> np.ndarray:
        return np.array(values, dtype=object)

    made = {
        "history": texts([e.item for e in request.history]),
        "actions": texts([e.action for e in request.history]),
        "times": np.array([e.time_us for e in request.history], np.int64),
        "time": np.array([request.time_us], np.int64),
        "exclude": texts(list(exclude)),
        "k": np.array([k], np.int64),
    }
    for name, field in student.spec.context.items():
        value = request.context.get(name)
        members = value if isinstance(value, list) else [] if value is None else [value]
        if field.kind == "category":
            made[f"context.{name}"] = texts(members)
        else:
            made[f"context.{name}"] = np.array(members, np.float64 if field.kind == "number" else np.float32)
    return made


def test_item_tower_is_the_formula(student: Student) -> None:
    tower = ItemTower(graphs.item_tower(student.weights, student.spec), source="item tower")
    by_hand = [item_by_hand(student, slot) for slot in range(len(student.catalogue))]
    np.testing.assert_allclose(tower(student.catalogue.encoded()), by_hand, atol=1e-5)
    np.testing.assert_allclose(
        forward.items(student.weights, student.spec, student.catalogue.encoded()), by_hand, atol=1e-5
    )
    assert tower(student.catalogue.encoded([])).shape == (0, 10)


def test_user_tower_is_the_formula(student: Student) -> None:
    requests = make_requests(student, 60)
    by_hand = [item_by_hand(student, slot) for slot in range(len(student.catalogue))]
    item_of = dict(zip(student.catalogue.ids, by_hand, strict=True))
    expected = np.array([user_by_hand(student, request, item_of) for request in requests])
    vectors_NW = np.array(by_hand, np.float32)
    encoded = encode_requests(student.spec, student.vocabulary, student.catalogue, requests)
    assert encoded.unknown_B.sum() > 0
    tower = UserTower(graphs.user_tower(student.weights, student.spec), source="user tower")
    np.testing.assert_allclose(tower(encoded, vectors_NW[encoded.history_slots_BH]), expected, atol=1e-4)
    np.testing.assert_allclose(forward.users(student.weights, student.spec, vectors_NW, encoded), expected, atol=1e-4)
    one = encode_requests(student.spec, student.vocabulary, student.catalogue, requests[7:8])
    np.testing.assert_allclose(tower(one, vectors_NW[one.history_slots_BH])[0], expected[7], atol=1e-4)


def test_device_is_the_formula_on_int8_vectors(student: Student) -> None:
    session, _ = device_session(student)
    by_hand = np.array([item_by_hand(student, slot) for slot in range(len(student.catalogue))])
    quantised, scales = quantise(by_hand[:, :-2].astype(np.float32))
    coarse = by_hand.copy()
    coarse[:, :-2] = quantised * scales.astype(float)[:, None]
    item_of = {item: list(row) for item, row in zip(student.catalogue.ids, coarse, strict=True)}
    for request in make_requests(student, 60):
        scores = coarse[:, :-2] @ user_by_hand(student, request, item_of) + coarse[:, -2]
        items, found = session.run(["items", "scores"], feeds(student, request, 10))
        assert len(items) == 10
        np.testing.assert_allclose(found, np.sort(scores)[::-1][:10], atol=3e-3 * np.abs(scores).max())
        np.testing.assert_allclose(
            [scores[student.catalogue.slot(i)] for i in items], found, atol=3e-3 * np.abs(scores).max()
        )


def test_device_excludes_and_clips_k(student: Student) -> None:
    session, _ = device_session(student)
    request = make_requests(student, 5)[4]
    everything = session.run(["items"], feeds(student, request, 10_000))[0]
    assert sorted(everything) == sorted(student.catalogue.ids)
    banned = (*everything[:7], everything[0], "nobody")
    assert list(session.run(["items"], feeds(student, request, 5, banned))[0]) == list(everything[7:12])
    assert len(session.run(["items"], feeds(student, request, 10_000, tuple(everything)))[0]) == 0
    assert len(session.run(["items"], feeds(student, request, 0))[0]) == 0


def test_device_without_actions_or_context() -> None:
    student = make_student(20, spec=FeatureSpec(history=HistorySpec(3)))
    session, _ = device_session(student)
    for length in (0, 1, 3, 9):
        history = tuple(Event("item-3") for _ in range(length))
        items, scores = session.run(None, feeds(student, Impression("r", 0, history=history), 4))
        assert len(items) == 4
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("age_s", [1, 2, 3, 6, 7, 2**20 - 2, 2**20 - 1, 2**31, 2**33])
def test_age_buckets_at_their_borders(age_s: int) -> None:
    """With all weights 0 but the age's, two events share attention as the softmax of their buckets says."""
    student = make_student(20, spec=FeatureSpec(history=HistorySpec(2)))
    weights = {n: np.zeros_like(w) if n.startswith("user.") else w for n, w in student.weights.items()}
    weights["user.age"] = np.arange(32, dtype=np.float32) / 8
    weights["user.skip"] = np.array([0, 1], np.float32)
    session, _ = device_session(student._replace(weights=weights))
    now = 2**34 * 1_000_000
    request = Impression("r", now, history=(Event("item-1"), Event("item-2", now - age_s * 1_000_000)))
    items, scores = session.run(None, feeds(student, request, 1))
    bucket = 1 + min(30, int(math.log2(1 + age_s)))
    share = math.exp(bucket / 8) / (1 + math.exp(bucket / 8))
    vectors = np.array([item_by_hand(student, slot) for slot in range(20)])
    user = (1 - share) * vectors[1, :-2] + share * vectors[2, :-2]
    best = vectors[:, :-2] @ user + vectors[:, -2]
    assert scores[0] == pytest.approx(best[student.catalogue.slot(items[0])], abs=0.02 * np.abs(best).max())
    assert scores[0] == pytest.approx(best.max(), abs=0.02 * np.abs(best).max())


def test_graphs_are_standard_and_repeat(student: Student) -> None:
    for build in (graphs.user_tower, graphs.item_tower):
        first = build(student.weights, student.spec)
        shuffled = dict(sorted(student.weights.items(), reverse=True))
        assert build(shuffled, rich_spec()) == first
        model = onnx.load_model_from_string(first)
        onnx.checker.check_model(model, full_check=True)
        assert {o.domain: o.version for o in model.opset_import} == {"": 17}
        assert all((graphs.tower_weights(first)[n] == student.weights[n]).all() for n in graphs.tower_weights(first))
    _, device = device_session(student)
    assert device == device_session(student)[1]
    model = onnx.load_model_from_string(device)
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain: o.version for o in model.opset_import} == {"": 17, "ai.onnx.ml": 3}
    assert not model.metadata_props  # `device.file` seals it
    stored = [i for i in model.graph.initializer if len(i.dims) == 2 and max(i.dims) >= len(student.catalogue)]
    assert [i.name for i in stored] == ["item_vectors"]  # each vector once


def test_weights_that_do_not_fit_are_named(student: Student) -> None:
    with pytest.raises(DataError, match=r"'user.w1' has shape None"):
        graphs.user_tower({n: w for n, w in student.weights.items() if n != "user.w1"}, student.spec)
    with pytest.raises(DataError, match=r"'user.age' has shape \(31,\), this feature specification needs 32"):
        graphs.user_tower(student.weights | {"user.age": np.zeros(31, np.float32)}, student.spec)
    broken = student.weights["id"].copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError, match="'id' is not finite"):
        graphs.item_tower(student.weights | {"id": broken}, student.spec)


@pytest.mark.parametrize(
    "odd",
    [
        {"data_type": 1, "dims": [10], "raw_data": b"1234"},
        {"data_type": 1, "dims": [2**62, 2**62], "raw_data": b"1234"},
        {"data_type": 99, "dims": [1], "raw_data": b"1234"},
        {"data_type": 0},
        {"data_type": 8, "dims": [1], "string_data": [b"\xff"]},
    ],
    ids=["short", "endless", "no type", "nothing", "no text"],
)
def test_a_weight_that_is_not_what_it_says_is_refused(odd: dict[str, Any]) -> None:
    """A bundle may come from anybody."""
    tensor = onnx.TensorProto(name="weight/id", **odd)
    tower = onnx.helper.make_model(onnx.helper.make_graph([], "tower", [], [], [tensor])).SerializeToString()
    with pytest.raises(DataError, match="weight 'weight/id' does not hold the numbers"):
        graphs.tower_weights(tower)
