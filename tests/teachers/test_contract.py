"""Every kind of teacher keeps the contract: one answer for each list, in order, of the list's length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.teacher_server import teacher_server

from recdistill.errors import TeacherError
from recdistill.features import FeatureSpec
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.teachers import Scores, Teacher
from recdistill.teachers.builtin import Training
from recdistill.teachers.ensemble import EnsembleTeacher
from recdistill.teachers.function import FunctionTeacher
from recdistill.teachers.http.server import ModelServer
from recdistill.teachers.linear import Blend
from recdistill.teachers.logged import LoggedTeacher
from recdistill.teachers.tensors import OnnxModel

ITEMS = [Item("a"), Item("b"), Item("c")]
LISTS = [
    Impression(
        f"i{n}",
        9_000_000 + n,
        history=(Event("a", 5),) * (n % 2),
        candidates=tuple(Candidate(name, 0.5 * n) for name in "bca"[: 1 + n % 3]),
    )
    for n in range(7)
]


def _builtin(folder: Path) -> Teacher:
    from recdistill.teachers.builtin.teacher import BuiltinTeacher, train_teacher

    examples = [
        Example(
            Ranking(one, "", "", "rank", (0.0,) * len(one.candidates), (False,) * len(one.candidates)),
            (1.0,) + (0.0,) * (len(one.candidates) - 1),
            "closed",
        )
        for one in LISTS
    ]
    settings = Training(dim=4, heads=1, layers=1, pooled_dim=4, epochs=1)
    train_teacher(examples, ITEMS, FeatureSpec(), settings, folder / "teacher")
    return BuiltinTeacher.load(folder / "teacher")


def _onnx(folder: Path) -> Teacher:
    from onnx import TensorProto, helper

    from recdistill.teachers.tensors.onnx import OnnxTeacher

    graph = helper.make_graph(
        [helper.make_node("Neg", ["logged"], ["scores"])],
        "graph",
        [helper.make_tensor_value_info("logged", TensorProto.FLOAT, ["B", "L"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", "L"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    settings = OnnxModel(path=str(folder / "m.onnx"), inputs={"logged": "candidates.logged_score"})
    return OnnxTeacher.open(settings, teacher_id="o", version="", scale="unbounded")


def _linear(folder: Path) -> Teacher:
    from recdistill.teachers.linear.teacher import LinearTeacher, train_linear_teacher

    examples = [
        Example(
            Ranking(one, "", "", "rank", (0.0,) * len(one.candidates), (False,) * len(one.candidates)),
            (1.0,) + (0.0,) * (len(one.candidates) - 1),
            "closed",
        )
        for one in LISTS
    ]
    train_linear_teacher(examples, Blend(l2=1.0), folder / "teacher")
    return LinearTeacher.load(folder / "teacher")


MAKERS: dict[str, Callable[[Path], Teacher]] = {
    "builtin": _builtin,
    "linear": _linear,
    "onnx": _onnx,
    "ensemble": lambda folder: EnsembleTeacher("e", [(_linear(folder), 0.5), (MAKERS["callable"](folder), 1.0)]),
    "logged": lambda _: LoggedTeacher("l", "1", "unbounded"),
    "callable": lambda _: FunctionTeacher(
        lambda lists: [[1.0] * len(one.candidates) for one in lists], "f", "1", "probability"
    ),
}


@pytest.fixture(params=[*MAKERS, "http"])
def teacher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Teacher]:
    if request.param != "http":
        yield MAKERS[request.param](tmp_path)
        return
    from recdistill.teachers.http.teacher import HttpTeacher

    with teacher_server() as server:
        settings = ModelServer(url=server.address, model="m", inputs={"items": "candidates"})
        yield HttpTeacher(settings, teacher_id="h", version="", scale="logit")


def test_names_are_texts_and_the_scale_is_known(teacher: Teacher) -> None:
    assert teacher.id
    assert teacher.version
    assert teacher.scale in ("unbounded", "logit", "probability", "rank")


def test_one_answer_for_each_list_in_order(teacher: Teacher) -> None:
    teacher.apply_items([])
    teacher.apply_items(ITEMS)
    for some in ([], LISTS[:1], LISTS, LISTS[::-1]):
        answers = teacher.score(some)
        assert len(answers) == len(some)
        for one, answer in zip(some, answers, strict=True):
            if isinstance(answer, TeacherError):
                assert one.id in str(answer)
                continue
            assert answer.values_L.shape == answer.scored_L.shape == (len(one.candidates),)
            assert answer.values_L.dtype == np.float32
            assert answer.scored_L.dtype == np.bool_
            assert np.isfinite(answer.values_L[answer.scored_L]).all()


def test_asking_twice_gives_the_same_answer(teacher: Teacher) -> None:
    teacher.apply_items(ITEMS)
    for first, second in zip(teacher.score(LISTS), teacher.score(LISTS), strict=True):
        assert isinstance(first, Scores)
        assert isinstance(second, Scores)
        np.testing.assert_array_equal(first.values_L, second.values_L)
        np.testing.assert_array_equal(first.scored_L, second.scored_L)
