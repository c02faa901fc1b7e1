"""Each other form of the student against `forward`, which `test_graphs.py` holds against formulas written out.

The torch student is held against it in `tests/train/test_student.py`.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from recdistill.features import encode_requests
from recdistill.model import forward, graphs, layout, quantise
from recdistill.model.run import ItemTower, UserTower
from references.students import Student, make_requests, make_student


@pytest.fixture(scope="module", params=[0.3, 2.0], ids=["small weights", "large weights"])
def student(request: pytest.FixtureRequest) -> Student:
    return make_student(80, scale=request.param)


def test_the_towers_are_forward(student: Student) -> None:
    requests = make_requests(student, 40)
    encoded = student.catalogue.encoded()
    asked = encode_requests(student.spec, student.vocabulary, student.catalogue, requests)
    vectors_NW = forward.items(student.weights, student.spec, encoded)
    users_BD = forward.users(student.weights, student.spec, vectors_NW, asked)
    theirs_NW = ItemTower(graphs.item_tower(student.weights, student.spec), source="item tower")(encoded)
    tower = UserTower(graphs.user_tower(student.weights, student.spec), source="user tower")
    theirs_BD = tower(asked, theirs_NW[asked.history_slots_BH])
    scores_BN = forward.scores(users_BD, vectors_NW)
    largest = max(1.0, float(np.abs(scores_BN).max()))
    assert np.abs(theirs_NW - vectors_NW).max() <= 1e-5 * max(1.0, float(np.abs(vectors_NW).max()))
    assert np.abs(forward.scores(theirs_BD, theirs_NW) - scores_BN).max() <= 1e-4 * largest


def test_scores_are_the_product_plus_the_bias() -> None:
    users_BD = np.array([[1, 2], [0, -1]], np.float32)
    vectors_NW = np.array([[3, 4, 0.5, 9], [1, 0, -1, 9], [0, 0, 0, 9]], np.float32)
    assert forward.scores(users_BD, vectors_NW).tolist() == [[11.5, 0.0, 0.0], [-3.5, -1.0, 0.0]]


def test_the_device_graph_is_forward_on_int8_vectors(student: Student) -> None:
    vectors_NW = forward.items(student.weights, student.spec, student.catalogue.encoded())
    quantised_ND, scales_N = quantise(vectors_NW[:, layout.VECTOR])
    coarse_NW = vectors_NW.copy()
    coarse_NW[:, layout.VECTOR] = quantised_ND * scales_N.astype(np.float32)[:, None]
    categories = [f"context.{n}" for n, field in student.spec.context.items() if field.kind == "category"]
    vocabulary = student.vocabulary
    device = graphs.device(
        student.weights,
        student.spec,
        ids=student.catalogue.ids,
        values={key: [(v, vocabulary.row(key, v)) for v in vocabulary.admitted(key)] for key in categories},
        quantised_ND=quantised_ND,
        scales_N=scales_N,
        biases_N=vectors_NW[:, layout.BIAS],
        item_weights_N=vectors_NW[:, layout.WEIGHT],
    )
    session = ort.InferenceSession(device, providers=["CPUExecutionProvider"])
    requests = make_requests(student, 40)
    asked = encode_requests(student.spec, vocabulary, student.catalogue, requests)
    expected_BN = forward.scores(forward.users(student.weights, student.spec, coarse_NW, asked), coarse_NW)
    for request, expected_N in zip(requests, expected_BN, strict=True):
        feeds = {
            "history": np.array([e.item for e in request.history], object),
            "actions": np.array([e.action for e in request.history], object),
            "times": np.array([e.time_us for e in request.history], np.int64),
            "time": np.array([request.time_us], np.int64),
            "exclude": np.array([], object),
            "k": np.array([len(expected_N)], np.int64),
        }
        for name, field in student.spec.context.items():
            value = request.context.get(name)
            members = value if isinstance(value, list) else [] if value is None else [value]
            kind = {"category": object, "number": np.float64}.get(field.kind, np.float32)
            feeds[f"context.{name}"] = np.array(members, kind)
        items, scores_N = session.run(["items", "scores"], feeds)
        assert sorted(items) == sorted(student.catalogue.ids)
        found_N = scores_N[np.argsort(student.catalogue.slots(list(items)))]
        assert np.abs(found_N - expected_N).max() <= 3e-3 * np.abs(expected_N).max()
