"""A model in an ONNX file: what it is fed, what it is held against, and what of it comes back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recdistill.config import OnnxTeacherSettings, TeacherSettings
from recdistill.errors import ConfigError, RecdistillError, TeacherError
from recdistill.loops.teachers import open_teacher
from recdistill.records import Candidate, Event, Impression, Item
from recdistill.teachers import Scores
from recdistill.teachers.tensors import OnnxModel
from recdistill.teachers.tensors.onnx import OnnxTeacher
from recdistill.teachers.tensors.onnx_file import inspect_model

S, INT, F, B = TensorProto.STRING, TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL


def write(
    path: Path,
    nodes: Sequence[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    tensors: dict[str, Any] | None = None,
    opsets: Sequence[tuple[str, int]] = (("", 17), ("ai.onnx.ml", 3)),
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (tensors or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*one) for one in opsets], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def opened(path: Path, **settings: Any) -> OnnxTeacher:
    chosen = OnnxModel(path=str(path), **settings)
    return OnnxTeacher.open(chosen, teacher_id="t", version="", scale="logit")


def impression(name: str, candidates: str, history: str = "", **more: Any) -> Impression:
    events = tuple(Event(item, 1_000_000 * (at + 1), "click") for at, item in enumerate(history))
    return Impression(name, 100_000_000, history=events, candidates=tuple(map(Candidate, candidates)), **more)


def summed(path: Path) -> Path:
    """Score of a candidate: its row's number plus the sum of the history's, with ids as texts and a label encoder."""
    encode = {"keys_strings": list("abcdef"), "values_floats": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "default_float": 0.0}
    return write(
        path,
        [
            helper.make_node("LabelEncoder", ["items"], ["own"], domain="ai.onnx.ml", **encode),
            helper.make_node("LabelEncoder", ["history"], ["seen"], domain="ai.onnx.ml", **encode),
            helper.make_node("ReduceSum", ["seen", "axis"], ["taste"], keepdims=1),
            helper.make_node("Add", ["own", "taste"], ["scores"]),
        ],
        {"items": (S, ["B", "L"]), "history": (S, ["B", "H"])},
        {"scores": (F, ["B", "L"])},
        {"axis": np.array([1], np.int64)},
    )


FED = {"items": "candidates", "history": "history"}
VALUE = {name: float(at) for at, name in enumerate("abcdef", 1)}


def by_hand(one: Impression) -> list[float]:
    return [VALUE[c.item] + sum(VALUE[event.item] for event in one.history) for c in one.candidates]


def test_lists_of_every_length_are_scored_and_come_back_in_order(tmp_path: Path) -> None:
    teacher = opened(summed(tmp_path / "m.onnx"), inputs=FED, batch=3)
    lists = [impression(f"i{n}", "abcdef"[: 1 + n % 5], "fedcba"[: n % 4]) for n in range(23)]
    answers = teacher.score(lists, deadline_s=30.0)
    for one, answer in zip(lists, answers, strict=True):
        assert isinstance(answer, Scores)
        assert answer.values_L.dtype == np.float32
        assert answer.values_L.tolist() == by_hand(one)
        assert answer.scored_L.all()
    assert teacher.score([]) == []


def test_the_digest_is_the_version_unless_the_settings_say_one(tmp_path: Path) -> None:
    path = summed(tmp_path / "m.onnx")
    fed = OnnxTeacherSettings(path=str(path), inputs=FED)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    teacher = open_teacher(TeacherSettings(kind="onnx", id="r", scale="probability", onnx=fed))
    assert (teacher.id, teacher.version, teacher.scale) == ("r", digest[:12], "probability")
    assert open_teacher(TeacherSettings(kind="onnx", version="8", onnx=fed)).version == "8"


def test_integer_ids_by_a_vocabulary_with_padding_on_the_left(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("a\nb\nc\n")
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("Gather", ["table", "items"], ["own"]),
            helper.make_node("Gather", ["history", "last"], ["newest"], axis=1),
            helper.make_node("Cast", ["newest"], ["weight"], to=F),
            helper.make_node("Mul", ["own", "weight"], ["product"]),
            helper.make_node("Cast", ["mask"], ["there"], to=F),
            helper.make_node("Mul", ["product", "there"], ["scores"]),
        ],
        {"items": (INT, ["B", "L"]), "history": (INT, ["B", 4]), "mask": (B, ["B", "L"])},
        {"scores": (F, ["B", "L"])},
        {"table": np.array([0, 10, 20, 30], np.float32), "last": np.array([3], np.int64)},
    )
    teacher = opened(
        path,
        inputs={"items": "candidates", "history": "history", "mask": "candidates.mask"},
        vocabulary=str(tmp_path / "items.txt"),
        history_side="left",
    )
    one, two = teacher.score([impression("1", "cxb", "abzc"), impression("2", "a", "b")])
    assert isinstance(one, Scores)
    assert isinstance(two, Scores)
    # x is not in the vocabulary: masked as a candidate; z is passed over in the history.
    assert one.values_L.tolist() == [90.0, 0.0, 60.0]
    assert one.scored_L.tolist() == [True, False, True]
    assert two.values_L.tolist() == [20.0]
    [none] = teacher.score([impression("3", "xyz", "a")])
    assert isinstance(none, TeacherError)
    assert "impression 3: no candidate can be fed to the model; 'x' has nothing that fits the input 'items'" in str(
        none
    )


def features(path: Path, width: int | str = 3) -> Path:
    """One row a candidate: 100 x price + 10 x hour + logged score, as a tree library would take it; [N, 2] out."""
    return write(
        path,
        [
            helper.make_node("MatMul", ["x", "weights"], ["logit"]),
            helper.make_node("Neg", ["logit"], ["other"]),
            helper.make_node("Concat", ["other", "logit"], ["probabilities"], axis=1),
        ],
        {"x": (F, ["N", width])},
        {"probabilities": (F, ["N", 2])},
        {"weights": np.array([[100.0], [10.0], [1.0]], np.float32)},
    )


def test_features_side_by_side_one_row_a_candidate(tmp_path: Path) -> None:
    teacher = opened(
        features(tmp_path / "m.onnx"),
        inputs={"x": ["item.price", "context.hour", "candidates.logged_score"]},
        layout="pairs",
        column=1,
    )
    teacher.apply_items([Item("a", attributes={"price": 2.0}), Item("b", attributes={"price": 3}), Item("c")])
    teacher.apply_items([Item("a", version=2, attributes={"price": 4.0}), Item("a", version=1)])
    lists = [
        Impression(
            "1", 1, context={"hour": 7.0}, candidates=(*(Candidate(name, 0.5) for name in "bc"), Candidate("z"))
        ),
        Impression("2", 1, context={"hour": 1.0}, candidates=(Candidate("a", 0.0), Candidate("a"))),
    ]
    one, two = teacher.score(lists)
    assert isinstance(one, Scores)
    assert isinstance(two, Scores)
    # c has no price, the second a no logged score: fed as NaN, which the model hands on. z was never heard of.
    assert one.scored_L.tolist() == [True, False, False]
    assert one.values_L.tolist() == [370.5, 0.0, 0.0]
    assert two.values_L.tolist() == [410.0, 0.0]
    assert two.scored_L.tolist() == [True, False]
    filled = opened(
        features(tmp_path / "m.onnx"),
        inputs={"x": ["item.price", "context.hour", "candidates.logged_score"]},
        layout="pairs",
        column=1,
        missing={"x": 0.0},
    )
    filled.apply_items([Item("b", attributes={"price": 3})])
    [answer] = filled.score([Impression("3", 1, candidates=(Candidate("b"), Candidate("z", 0.25)))])
    assert isinstance(answer, Scores)
    assert answer.values_L.tolist() == [300.0, 0.25]


def test_a_text_that_is_a_number_is_fed_and_another_one_is_masked(tmp_path: Path) -> None:
    """A table of text has 3.50 as text. Were it fed as NaN, a tree would give each candidate the same score."""
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Mul", ["x", "hundred"], ["scores"])],
        {"x": (F, ["N"])},
        {"scores": (F, ["N"])},
        {"hundred": np.array(100.0, np.float32)},
    )
    teacher = opened(path, inputs={"x": "item.price"}, layout="pairs")
    prices = {"a": "3.50", "b": " 4 ", "c": "cheap", "d": "nan", "e": "1_000"}
    teacher.apply_items([Item(name, attributes={"price": price}) for name, price in prices.items()])
    [answer] = teacher.score([Impression("1", 1, candidates=tuple(Candidate(name) for name in prices))])
    assert isinstance(answer, Scores)
    assert answer.values_L.tolist() == [350.0, 400.0, 0.0, 0.0, 0.0]
    assert answer.scored_L.tolist() == [True, True, False, False, False]


def test_ages_actions_lengths_and_vectors(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("ReduceSum", ["vector", "two"], ["own"], keepdims=0),
            helper.make_node("ReduceMax", ["ages"], ["oldest"], axes=[1], keepdims=1),
            helper.make_node("Cast", ["length"], ["count"], to=F),
            helper.make_node("Unsqueeze", ["count", "one"], ["counts"]),
            helper.make_node("Add", ["own", "oldest"], ["some"]),
            helper.make_node("Add", ["some", "counts"], ["sum"]),
            helper.make_node("Reshape", ["sum", "flat"], ["scores"]),
        ],
        {"vector": (F, ["B", "L", 2]), "ages": (F, ["B", "H"]), "length": (INT, ["B"])},
        {"scores": (F, ["N"])},
        {"two": np.array([2], np.int64), "one": np.array([1], np.int64), "flat": np.array([-1], np.int64)},
    )
    teacher = opened(
        path, inputs={"vector": "item.v", "ages": "history.age_s", "length": "history.length"}, max_history=2
    )
    teacher.apply_items([Item("a", attributes={"v": [1.0, 2.0]}), Item("b", attributes={"v": [0.5, 0.0]})])
    teacher.apply_items([Item("c", attributes={"v": [1.0]})])
    one, two = teacher.score([impression("1", "abc", "aab"), impression("2", "b")])
    assert isinstance(one, Scores)
    assert isinstance(two, Scores)
    # the two newest events are 98 and 97 s old
    assert one.values_L.tolist() == [3.0 + 98.0 + 2.0, 0.5 + 98.0 + 2.0, 0.0]
    assert one.scored_L.tolist() == [True, True, False]
    assert two.values_L.tolist() == [0.5]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_a_line_end_begins_another_row_of_a_vocabulary(tmp_path: Path, end: str) -> None:
    """An id may hold a character at which Python's `splitlines` cuts; all later items would get another's row."""
    odd = ["b\u2028c", "d\x85", "e\x0b"]
    (tmp_path / "items.txt").write_bytes(end.join(["a", *odd, "z", ""]).encode())
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Gather", ["table", "items"], ["scores"])],
        {"items": (INT, ["B", "L"])},
        {"scores": (F, ["B", "L"])},
        {"table": np.arange(0, 110, 10, dtype=np.float32)},
    )
    teacher = opened(path, inputs={"items": "candidates"}, vocabulary=str(tmp_path / "items.txt"))
    asked = Impression("1", 1, candidates=tuple(map(Candidate, ["z", *odd, "a"])))
    [found] = teacher.score([asked])
    assert isinstance(found, Scores)
    assert found.values_L.tolist() == [50.0, 20.0, 30.0, 40.0, 10.0]


def test_a_list_that_the_model_fails_on_does_not_spoil_its_batch(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("a\nb\nfar\n")
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Gather", ["table", "items"], ["scores"])],
        {"items": (INT, ["B", "L"])},
        {"scores": (F, ["B", "L"])},
        {"table": np.array([0, 10, 20], np.float32)},
    )
    teacher = opened(path, inputs={"items": "candidates"}, vocabulary=str(tmp_path / "items.txt"))
    far = Impression("2", 1, candidates=(Candidate("far"), Candidate("a")))
    lists = [impression("1", "ab"), far, impression("3", "ba")]
    one, two, three = teacher.score(lists)
    assert isinstance(one, Scores)
    assert isinstance(three, Scores)
    assert (one.values_L.tolist(), three.values_L.tolist()) == ([10.0, 20.0], [20.0, 10.0])
    assert isinstance(two, TeacherError)
    assert "impression 2: onnxruntime failed" in str(two)


def test_an_output_of_another_shape_is_an_error_of_each_list(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Cast", ["length"], ["scores"], to=F), helper.make_node("Identity", ["items"], ["same"])],
        {"length": (INT, ["B"]), "items": (S, ["B", "L"])},
        {"scores": (F, ["B"]), "same": (S, ["B", "L"])},
    )
    teacher = opened(path, inputs={"length": "history.length", "items": "candidates"}, output="scores")
    for answer in teacher.score([impression("1", "abc"), impression("2", "abd")]):
        assert isinstance(answer, TeacherError)
        assert "the output has shape [1] where [1, 3] scores were asked for" in str(answer)


def test_a_run_beyond_the_deadline_is_ended(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", INT, []),
            helper.make_tensor_value_info("going", B, []),
            helper.make_tensor_value_info("before", F, ["B", "L"]),
        ],
        [helper.make_tensor_value_info("still", B, []), helper.make_tensor_value_info("after", F, ["B", "L"])],
    )
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Loop", ["turns", "yes", "price"], ["scores"], body=body)],
        {"price": (F, ["B", "L"])},
        {"scores": (F, ["B", "L"])},
        {"turns": np.array(2**40, np.int64), "yes": np.array(True)},
    )
    teacher = opened(path, inputs={"price": "item.price"}, missing={"price": 1.0})
    with pytest.raises(TeacherError, match=r"did not score the batch within 0\.3 s; lower score\.batch"):
        teacher.score([impression("1", "abc")], deadline_s=0.3)


def dynamic(path: Path, **inputs: tuple[int, list[Any]]) -> Path:
    """A model that takes anything and scores nothing, to be held against settings."""
    first = next(iter(inputs))
    nodes = [helper.make_node("Shape", [first], ["n"]), helper.make_node("Cast", ["n"], ["scores"], to=F)]
    return write(path, nodes, inputs, {"scores": (F, [None])})


IDS: dict[str, tuple[int, list[Any]]] = {"ids": (S, ["B", "L"])}
WRONG: list[tuple[dict[str, tuple[int, list[Any]]], dict[str, Any], str]] = [
    (IDS, {}, "inputs: does not name the model's input 'ids' (string [?, ?])"),
    (IDS, {"inputs": {"ids": "candidates", "x": "user"}}, "inputs.x: the model has no such input; its inputs: 'ids'"),
    (IDS, {"inputs": {"ids": "candidate"}}, "inputs.ids: 'candidate' cannot be fed; use candidates,"),
    (IDS, {"inputs": {"ids": []}}, "inputs.ids: is an empty list"),
    (IDS, {"inputs": {"ids": "candidates.logged_score"}}, "cannot feed the input 'ids' (string [?, ?]); it feeds"),
    (IDS, {"inputs": {"ids": "history"}}, "feeds no input from the candidates"),
    (IDS, {"inputs": {"ids": ["item.a"]}}, "cannot feed the input"),
    (IDS, {"inputs": {"ids": "user"}}, "layout 'lists' feeds 'user' as [B], but the input is 'ids' (string [?, ?])"),
    (IDS, {"inputs": {"ids": "candidates"}, "layout": "pairs"}, "layout 'pairs' feeds 'candidates' as [N], but"),
    (IDS, {"inputs": {"ids": "candidates"}, "output": "s"}, "output: the model has no output 's'; its outputs:"),
    (IDS, {"inputs": {"ids": "candidates"}, "missing": {"x": 1}}, "missing.x: the model has no such input"),
    (
        IDS,
        {"inputs": {"ids": "candidates"}, "vocabulary": "no.txt"},
        "vocabulary: no.txt: cannot be read (No such file",
    ),
    (
        {"ids": (INT, ["B", "L"])},
        {"inputs": {"ids": "candidates"}, "missing": {"ids": "x"}},
        "missing.ids: does not fit",
    ),
    ({"ids": (INT, [8, "L"])}, {"inputs": {"ids": "candidates"}}, "the first axis of 'ids' (int64 [8, ?]) has a"),
    ({"x": (F, ["N", 4])}, {"inputs": {"x": ["item.a"]}, "layout": "pairs"}, "names 1 values, but the last axis"),
    ({"x": (F, ["N", 4])}, {"inputs": {"x": ["history.age_s"]}}, "'history.age_s' cannot stand in a list"),
    ({"x": (TensorProto.UINT8, ["B", "L"])}, {"inputs": {"x": "item.a"}}, "has a type that cannot be fed; use string"),
    (
        IDS | {"x": (F, ["B", 3]), "y": (F, ["B", 4])},
        {"inputs": {"ids": "candidates", "x": "item.a", "y": "item.b"}},
        "the model wants lists of both",
    ),
]


@pytest.mark.parametrize(("inputs", "settings", "says"), WRONG, ids=[says[:40] for _, _, says in WRONG])
def test_what_does_not_fit_the_model_is_one_sentence(
    tmp_path: Path, inputs: dict[str, tuple[int, list[Any]]], settings: dict[str, Any], says: str
) -> None:
    path = dynamic(tmp_path / "m.onnx", **inputs)
    with pytest.raises(ConfigError) as caught:
        opened(path, **settings)
    assert says in str(caught.value)
    assert str(caught.value).startswith("teacher.onnx.")
    assert "\n" not in str(caught.value)


def test_several_outputs_must_be_told_apart_and_be_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["ids"], ["same"]), helper.make_node("Shape", ["ids"], ["size"])],
        IDS,
        {"same": (S, ["B", "L"]), "size": (INT, [2])},
    )
    fed = {"ids": "candidates"}
    with pytest.raises(ConfigError, match="has several outputs, name the scores' one of 'same'"):
        opened(path, inputs=fed)
    with pytest.raises(ConfigError, match="'same' .* is not of a floating-point type"):
        opened(path, inputs=fed, output="same")


def test_a_fixed_list_length_is_padded_to_and_never_beyond(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Cast", ["ids"], ["scores"], to=F)],
        {"ids": (INT, [1, 3])},
        {"scores": (F, [1, 3])},
    )
    teacher = opened(path, inputs={"ids": "candidates"})
    lists = [impression("1", "5"), impression("2", "789"), impression("3", "1234")]
    one, two, three = teacher.score(lists)
    assert isinstance(one, Scores)
    assert isinstance(two, Scores)
    assert (one.values_L.tolist(), two.values_L.tolist()) == ([5.0], [7.0, 8.0, 9.0])
    assert isinstance(three, TeacherError)
    assert "impression 3: has 4 candidates, but the model takes lists of 3" in str(three)


def custom(path: Path) -> Path:
    node = helper.make_node("Magic", ["ids"], ["scores"], domain="com.example")
    opsets = [("", 17), ("com.example", 1)]
    return write(path, [node], {"ids": (INT, ["B", "L"])}, {"scores": (F, ["B", "L"])}, opsets=opsets)


def hidden_custom(path: Path) -> Path:
    inner = helper.make_graph(
        [helper.make_node("Magic", ["ids"], ["out"], domain="com.example")],
        "branch",
        [],
        [helper.make_tensor_value_info("out", F, ["B", "L"])],
    )
    node = helper.make_node("If", ["yes"], ["scores"], then_branch=inner, else_branch=inner)
    tensors = {"yes": np.array(True)}
    opsets = [("", 17), ("com.example", 1)]
    return write(path, [node], {"ids": (INT, ["B", "L"])}, {"scores": (F, ["B", "L"])}, tensors, opsets)


def external(path: Path) -> Path:
    model = onnx.load(summed(path))
    onnx.save_model(model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (custom, "has custom operators, of 'com.example'"),
        (hidden_custom, "has custom operators, of 'com.example'"),
        (external, "keeps tensors in other files"),
        (lambda path: path.write_bytes(b"not a model at all"), "is not an ONNX file"),
        (lambda path: path.write_bytes(b""), "is not an ONNX file"),
        (lambda path: path.write_bytes(summed(path).read_bytes()[:-40]), "is not an ONNX file"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_a_file_that_cannot_be_a_teacher(tmp_path: Path, make: Any, says: str) -> None:
    make(tmp_path / "m.onnx")
    with pytest.raises(TeacherError) as caught:
        opened(tmp_path / "m.onnx", inputs=FED)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"teacher\.onnx\.path: names no file"):
        OnnxTeacher.open(OnnxModel(), teacher_id="t", version="", scale="logit")


def test_functions_of_the_file_itself_are_no_custom_operators(tmp_path: Path) -> None:
    twice = helper.make_function(
        "own", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    graph = helper.make_graph(
        [helper.make_node("Twice", ["price"], ["scores"], domain="own")],
        "graph",
        [helper.make_tensor_value_info("price", F, ["B", "L"])],
        [helper.make_tensor_value_info("scores", F, ["B", "L"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, functions=[twice], opset_imports=opsets, ir_version=9)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert inspect_model(model.SerializeToString()).domains == {"", "own"} - {"own"}
    teacher = opened(tmp_path / "m.onnx", inputs={"price": "item.price"})
    teacher.apply_items([Item("a", attributes={"price": 4})])
    [answer] = teacher.score([impression("1", "a")])
    assert isinstance(answer, Scores)
    assert answer.values_L.tolist() == [8.0]


def test_bytes_from_anywhere_are_a_model_or_an_error(tmp_path: Path) -> None:
    whole = summed(tmp_path / "m.onnx").read_bytes()
    chance = np.random.default_rng(3)
    for _ in range(300):
        spoilt = bytearray(whole)
        for at in chance.integers(0, len(spoilt), 3):
            spoilt[at] = chance.integers(256)
        (tmp_path / "m.onnx").write_bytes(spoilt)
        try:
            opened(tmp_path / "m.onnx", inputs=FED).score([impression("1", "ab", "c")], deadline_s=5.0)
        except RecdistillError as e:
            assert "\n" not in str(e)  # noqa: PT017


def test_where_the_time_of_a_request_is_not_known_no_age_is(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("ReduceMax", ["ages"], ["oldest"], axes=[1], keepdims=1),
            helper.make_node("Add", ["own", "oldest"], ["scores"]),
        ],
        {"own": (F, ["B", "L"]), "ages": (F, ["B", "H"])},
        {"scores": (F, ["B", "L"])},
    )
    teacher = opened(path, inputs={"own": "item.x", "ages": "history.age_s"})
    teacher.apply_items([Item("a", attributes={"x": 0.0})])
    known = Impression("1", 9_000_000, history=(Event("a", 2_000_000),), candidates=(Candidate("a"),))
    no_clock, no_event = (msgspec.structs.replace(known, **one) for one in ({"time_us": 0}, {"history": (Event("a"),)}))
    found = teacher.score([known, no_clock, no_event])
    assert [one.values_L.tolist() for one in found if isinstance(one, Scores)] == [[7.0], [-1.0], [-1.0]]
