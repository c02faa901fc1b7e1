"""The student as ONNX, written node by node from its weights: user tower, item tower and the device file's graph.

It uses standard operators only (`ai.onnx`, and LabelEncoder of `ai.onnx.ml`), no exporter and no torch. So the same
weights give the same bytes on every machine. The arithmetic is that of `forward.py`, and tests compare every
graph with it.

In the device graph every item vector is stored once, as one column of an int8 matrix `[D, N]`, with a scale for each
item. The history and the scores use the same matrix. The user vector is split in two parts of seven bits, for two
reasons. With eight bits, the 16-bit sums of common CPUs would overflow. With fourteen bits in total, the items' int8 is
the only error that matters.

It knows nothing of bundles, files or records.

Example:
    >>> from recdistill.features import FeatureSpec
    >>> graph = item_tower({"id": np.zeros((3, 6), np.float32)}, FeatureSpec())
    >>> tower_weights(graph)["id"].shape
    (3, 6)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from recdistill.errors import DataError
from recdistill.features import AGE_BUCKETS, CLIP, FeatureSpec, Field
from recdistill.model import layout

IR_VERSION: Final = 8
OPSETS: Final = {"ai.onnx": 17, "ai.onnx.ml": 3}

_WEIGHT: Final = "weight/"  # put before the name of a weight's initializer; inputs have plain names
_LOWEST: Final = float(np.finfo(np.float32).min)
_HALF: Final = 63  # the parts of the user vector are integers in ±63, stored as 64 ± 63: two products fit 16 bits


class _Graph:
    """Nodes and initializers in the order in which they were added. Their names are the same in every run."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def const(self, value: Any, dtype: type | None = None, *, name: str = "") -> str:
        array = np.ascontiguousarray(value, dtype)
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array.reshape(np.shape(value)), name))  # 0-d stays 0-d
        return name

    def weight(self, weights: Mapping[str, np.ndarray], name: str) -> str:
        return self.const(weights[name], np.float32, name=_WEIGHT + name)

    def strings(self, values: Sequence[str], *, name: str) -> str:
        self.initializers.append(
            helper.make_tensor(name, TensorProto.STRING, [len(values)], [v.encode() for v in values])
        )
        return name

    def add(self, op: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], domain=domain, **attributes))
        return name

    def model(self, title: str, outputs: Sequence[tuple[str, int, Sequence[int | str]]]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            title,
            self.inputs,
            [helper.make_tensor_value_info(name, kind, list(shape)) for name, kind, shape in outputs],
            self.initializers,
        )
        domains = {"" if domain == "ai.onnx" else domain: version for domain, version in OPSETS.items()}
        if not any(node.domain for node in self.nodes):
            domains.pop("ai.onnx.ml")
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="recdistill")


def user_tower(weights: Mapping[str, np.ndarray], spec: FeatureSpec) -> bytes:
    """Graph of the user tower.

    Inputs, B requests with H ≤ `spec.history.length` events each, newest first: `history_vectors` f32 [B, H, D],
    `history_weights` f32 [B, H], `history_actions` and `history_ages` i32 [B, H], `history_mask` f32 [B, H] (1 where
    there is an event), and `context.<field>` for each context field, as `features.encode_requests` makes it. Output:
    `user_vector` f32 [B, D].

    Raises:
        DataError: A weight is missing, or its shape does not fit the specification.
    """
    check_weights(weights, spec)
    dim = weights["user.b2"].shape[0]
    g = _Graph()
    vectors = g.input("history_vectors", TensorProto.FLOAT, ["B", "H", dim])
    item_weights = g.input("history_weights", TensorProto.FLOAT, ["B", "H"])
    actions = g.input("history_actions", TensorProto.INT32, ["B", "H"])
    ages = g.input("history_ages", TensorProto.INT32, ["B", "H"])
    mask = g.input("history_mask", TensorProto.FLOAT, ["B", "H"])
    context = []
    for name, field in spec.context.items():
        entry = _field_input(g, f"context.{name}", field, batch="B")
        context.append(_field_output(g, f"context.{name}", field, entry, weights))
    _user(g, weights, vectors, item_weights, actions, ages, mask, context)
    return _bytes(g.model("user_tower", [("user_vector", TensorProto.FLOAT, ["B", dim])]))


def item_tower(weights: Mapping[str, np.ndarray], spec: FeatureSpec) -> bytes:
    """Graph of the item tower.

    Inputs: `id_rows` i32 [N] and `item.<field>` for each attribute, as `Catalogue.encoded` makes them. Output:
    `item_output` f32 [N, D+2]: vector, bias, weight in a history (positive).

    Raises:
        DataError: A weight is missing, or its shape does not fit the specification.
    """
    check_weights(weights, spec, sides=("id", "item"))
    width = weights["id"].shape[1]
    g = _Graph()
    total = g.add("Gather", g.weight(weights, "id"), g.input("id_rows", TensorProto.INT32, ["N"]))
    for name, field in spec.item.items():
        entry = _field_input(g, f"item.{name}", field, batch="N")
        total = g.add("Add", total, _field_output(g, f"item.{name}", field, entry, weights))
    first, last, end, axis = (g.const([at], np.int64) for at in (0, width - 1, width, 1))
    head, tail = g.add("Slice", total, first, last, axis), g.add("Slice", total, last, end, axis)
    tail = g.add("Softplus", g.add("Add", tail, g.const(layout.UNIT_WEIGHT, np.float32)))
    g.add("Concat", head, tail, axis=1, name="item_output")
    return _bytes(g.model("item_tower", [("item_output", TensorProto.FLOAT, ["N", width])]))


def tower_weights(tower: bytes) -> dict[str, np.ndarray]:
    """The weights of a tower graph by their contract names, as `user_tower` or `item_tower` got them.

    Raises:
        DataError: It is no ONNX graph, keeps a weight in another file, or holds another number of values than it says.
    """
    try:
        initializers = onnx.load_model_from_string(tower).graph.initializer
    except Exception as e:  # protobuf's own error, a class that only the wire code may know
        raise DataError("is not an ONNX graph; export the bundle again") from e
    # `to_array` would open the file that such a tensor names, on this machine, and put its bytes into what we write.
    if outside := [i.name for i in initializers if i.data_location == TensorProto.EXTERNAL or i.external_data]:
        raise DataError(
            f"weight {outside[0]!r} lies outside of the graph, in another file; a tower holds all its weights"
        )
    return {i.name[len(_WEIGHT) :]: _array(i) for i in initializers if i.name.startswith(_WEIGHT)}


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    try:
        array: np.ndarray = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as e:  # ValueError also for texts that are none
        raise DataError(f"weight {tensor.name!r} does not hold the numbers that its shape and type name") from e
    return array


def device(
    weights: Mapping[str, np.ndarray],
    spec: FeatureSpec,
    *,
    ids: Sequence[str],
    values: Mapping[str, Sequence[tuple[str, int]]],
    quantised_ND: np.ndarray,
    scales_N: np.ndarray,
    biases_N: np.ndarray,
    item_weights_N: np.ndarray,
) -> bytes:
    """The graph of a device file: strings in, item ids and scores out. `device.file` seals it.

    Inputs: `history` string [H] oldest first, `actions` string [H], `times` i64 [H] (µs, 0 unknown), `time` i64 [1] (of
    the request, 0 unknown); for each context field `context.<field>`: string [M] for a category, f64 [0 or 1] for a
    number, f32 [0 or S] for a vector; `exclude` string [E]; `k` i64 [1]. Outputs, best first, at most k: `items` string
    [K], `scores` f32 [K].

    Args:
        weights: Weights of the user tower.
        spec: The feature specification.
        ids: The N items.
        values: For each category field of the context (`context.<field>`), its admitted values and their rows.
        quantised_ND: Item vectors, int8 in ±127.
        scales_N: float16; a vector is its int8 form times its scale.
        biases_N: Item biases.
        item_weights_N: Weights of the items in a history.

    Raises:
        DataError: The specification asks for something that standard operators cannot do (hashed text in the context).
    """
    check_weights(weights, spec, sides=("user", "context"))
    if texts := [name for name, field in spec.context.items() if field.kind == "text"]:
        raise DataError(
            f"context field {texts[0]!r} is text, which a device file cannot hash; make it a category or leave it out"
        )
    g = _Graph()
    zero = g.const([0], np.int64)
    matrix = g.const(quantised_ND.T, np.int8, name="item_vectors")
    scales = g.add("Cast", g.const(scales_N, np.float16, name="item_scales"), to=TensorProto.FLOAT)
    item_weights = g.add("Cast", g.const(item_weights_N, np.float16, name="item_weights"), to=TensorProto.FLOAT)

    # The history: known items that come before the request, newest first, at most `length`. One masked entry is added
    # at the end, so that no operator gets an empty axis.
    history = g.input("history", TensorProto.STRING, ["H"])
    actions = g.input("actions", TensorProto.STRING, ["H"])
    times = g.input("times", TensorProto.INT64, ["H"])
    now = g.input("time", TensorProto.INT64, [1])
    exclude = g.input("exclude", TensorProto.STRING, ["E"])
    length, end = g.add("Shape", history), g.const([np.iinfo(np.int64).max], np.int64)
    # One lookup for history and exclude, so that the file holds the ids fewer times.
    both = _lookup(g, g.add("Concat", history, exclude, axis=0), [(item, i) for i, item in enumerate(ids)], default=-1)
    slots, excluded = g.add("Slice", both, zero, length), g.add("Slice", both, length, end)
    # An event counts if its item is known and it is not later than the request. Unknown times (0) are never late.
    timed = g.add("And", g.add("Greater", times, zero), g.add("Greater", now, zero))
    late = g.add("And", timed, g.add("GreaterOrEqual", times, now))
    usable = g.add("And", g.add("GreaterOrEqual", slots, zero), g.add("Not", late))
    # Places of the events that count, oldest first; then the last `length` of them in reverse order.
    kept = _flat(g, g.add("NonZero", usable))
    far = g.const([-1 - spec.history.length], np.int64)
    kept = g.add("Slice", kept, g.const([-1], np.int64), far, zero, g.const([-1], np.int64))
    rows_of_actions = _lookup(g, actions, [(a, 1 + i) for i, a in enumerate(spec.history.actions)], default=0)
    ages = _age_buckets(g, g.add("Sub", now, times), timed)

    def padded(source: str) -> str:  # [1, n + 1]
        return g.add("Unsqueeze", g.add("Concat", g.add("Gather", source, kept), zero, axis=0), zero)

    slots_1H = padded(slots)
    ones = g.add("ConstantOfShape", g.add("Shape", kept), value=numpy_helper.from_array(np.ones(1, np.float32)))
    mask = g.add("Unsqueeze", g.add("Concat", ones, g.const([0], np.float32), axis=0), zero)
    # Vectors of the history: columns of the int8 matrix times their scales, as [1, n + 1, D].
    flat_slots = _flat(g, slots_1H)
    columns = g.add("Cast", g.add("Gather", matrix, flat_slots, axis=1), to=TensorProto.FLOAT)
    columns = g.add("Mul", columns, g.add("Gather", scales, flat_slots))
    vectors = g.add("Unsqueeze", g.add("Transpose", columns, perm=[1, 0]), zero)
    context = [
        _device_field(g, f"context.{n}", f, weights, values.get(f"context.{n}", ())) for n, f in spec.context.items()
    ]
    at_history = g.add("Gather", item_weights, slots_1H)
    _user(g, weights, vectors, at_history, padded(rows_of_actions), padded(ages), mask, context)

    scores = _device_scores(g, matrix, scales, g.const(biases_N, np.float32, name="item_biases"))
    # Excluded items get the lowest score; then the top k, without those that have the lowest score.
    banned = g.add("Compress", excluded, g.add("GreaterOrEqual", excluded, zero), axis=0)
    floor = g.add(
        "ConstantOfShape", g.add("Shape", banned), value=numpy_helper.from_array(np.array([_LOWEST], np.float32))
    )
    scores = g.add("ScatterElements", scores, banned, floor, axis=0)
    k = g.input("k", TensorProto.INT64, [1])
    k = g.add("Max", g.add("Min", k, g.const([len(ids)], np.int64)), zero)
    g.nodes.append(helper.make_node("TopK", [scores, k], ["top_scores", "top_slots"], axis=0))
    shown = g.add("Greater", "top_scores", g.const(_LOWEST, np.float32))
    g.add("Compress", "top_scores", shown, name="scores", axis=0)
    g.add("Gather", g.strings(ids, name="item_ids"), g.add("Compress", "top_slots", shown, axis=0), name="items")
    model = g.model("device", [("items", TensorProto.STRING, ["K"]), ("scores", TensorProto.FLOAT, ["K"])])
    return _bytes(model)


def check_weights(
    weights: Mapping[str, np.ndarray], spec: FeatureSpec, sides: Sequence[str] = ("user", "context")
) -> None:
    """Checks that the weights are there, are finite, and have the shapes that follow from the specification.

    Raises:
        DataError: Names the weight, its shape and the shape that was expected.
    """
    expected: dict[str, tuple[int | None, ...]] = {}
    if "id" in sides:
        expected["id"] = (None, None)
    if "item" in sides:
        width = _shape(weights, "id")[1]
        expected |= {f"item.{n}": (_height(f), width) for n, f in spec.item.items()}
    if "user" in sides:
        hidden, dim = _shape(weights, "user.w2")
        wide = 2 * dim + sum(_shape(weights, f"context.{n}")[1] for n in spec.context)
        actions = 1 + len(spec.history.actions)
        expected |= {
            "user.action": (actions,),
            "user.action_logit": (actions,),
            "user.age": (AGE_BUCKETS,),
            "user.skip": (2,),
        }
        expected |= {
            "user.position": (spec.history.length,),
            "user.w1": (wide, hidden),
            "user.b1": (hidden,),
            "user.b2": (dim,),
        }
        expected |= {"user.w2": (hidden, dim)}
    if "context" in sides:
        expected |= {f"context.{n}": (_height(f), None) for n, f in spec.context.items()}
    for name, shape in expected.items():
        found = weights[name].shape if name in weights else None
        if (
            found is None
            or len(found) != len(shape)
            or any(s not in (None, f) for s, f in zip(shape, found, strict=True))
        ):
            wanted = " × ".join("any" if s is None else str(s) for s in shape)
            raise DataError(f"weight {name!r} has shape {found}, this feature specification needs {wanted}")
        if not np.isfinite(weights[name]).all():
            raise DataError(f"weight {name!r} is not finite: training has diverged; lower the learning rate")


def _height(field: Field) -> int | None:
    return {"number": 2, "vector": field.size}.get(field.kind)


def _shape(weights: Mapping[str, np.ndarray], name: str) -> tuple[int, int]:
    found = weights[name].shape if name in weights else ()
    if len(found) != 2:
        raise DataError(f"weight {name!r} has shape {found or None}, expected two dimensions")
    return found[0], found[1]


def _field_input(g: _Graph, key: str, field: Field, *, batch: str) -> str:
    if field.kind in ("category", "text"):
        return g.input(key, TensorProto.INT32, [batch, f"M.{key}"])
    return g.input(key, TensorProto.FLOAT, [batch, field.size if field.kind == "vector" else 2])


def _field_output(g: _Graph, key: str, field: Field, entry: str, weights: Mapping[str, np.ndarray]) -> str:
    """What one field adds: the mean of its rows, or its numbers times its table. `[batch, width]`."""
    table = g.weight(weights, key)
    if field.kind not in ("category", "text"):
        return g.add("MatMul", entry, table)
    zero = g.const(0, np.int32)
    real = g.add("Cast", g.add("GreaterOrEqual", entry, zero), to=TensorProto.FLOAT)
    rows = g.add("Gather", table, g.add("Max", entry, zero))
    axis = g.const([1], np.int64)
    total = g.add("ReduceSum", g.add("Mul", rows, g.add("Unsqueeze", real, g.const([2], np.int64))), axis, keepdims=0)
    count = g.add("Max", g.add("ReduceSum", real, axis, keepdims=1), g.const(1.0, np.float32))
    return g.add("Div", total, count)


def _user(
    g: _Graph,
    weights: Mapping[str, np.ndarray],
    vectors_BHD: str,
    weights_BH: str,
    actions_BH: str,
    ages_BH: str,
    mask_BH: str,
    context: Sequence[str],
) -> None:
    """The arithmetic of the user tower: adds nodes up to the node `user_vector`."""

    def table(name: str) -> str:
        return g.weight(weights, name)

    last = g.const([1], np.int64)
    # One more position than the history's length, for the masked entry of the device graph.
    positions = g.add("Concat", table("user.position"), g.const([0], np.float32), axis=0)
    length = g.add("Gather", g.add("Shape", mask_BH), last)
    position_H = g.add("Slice", positions, g.const([0], np.int64), length, g.const([0], np.int64))
    weighted = g.add("Mul", weights_BH, g.add("Gather", table("user.action"), actions_BH))
    count = g.add("Max", g.add("ReduceSum", mask_BH, last, keepdims=1), g.const(1.0, np.float32))
    weighted = g.add("Div", g.add("Mul", weighted, mask_BH), g.add("Sqrt", count))
    by_age, by_action = (
        g.add("Gather", table("user.age"), ages_BH),
        g.add("Gather", table("user.action_logit"), actions_BH),
    )
    logits = g.add("Add", g.add("Add", by_age, by_action), position_H)
    real = g.add("Greater", mask_BH, g.const(0.0, np.float32))
    attention = g.add("Softmax", g.add("Where", real, logits, g.const(_LOWEST, np.float32)), axis=1)
    attention = g.add("Mul", attention, mask_BH)
    both = [g.add("Unsqueeze", part, last) for part in (weighted, attention)]
    pools_B2D = g.add("MatMul", g.add("Concat", *both, axis=1), vectors_BHD)
    flat = g.add("Flatten", pools_B2D, axis=1)
    features = g.add("Concat", flat, *context, axis=1) if context else flat
    hidden = g.add("Relu", g.add("Gemm", features, table("user.w1"), table("user.b1")))
    deep = g.add("Gemm", hidden, table("user.w2"), table("user.b2"))
    skip = g.add("Unsqueeze", table("user.skip"), last)
    skip = g.add("ReduceSum", g.add("Mul", pools_B2D, skip), last, keepdims=0)
    g.add("Add", deep, skip, name="user_vector")


def _lookup(g: _Graph, strings: str, rows: Sequence[tuple[str, int]], *, default: int) -> str:
    """Row of each string, i64; `default` where it is unknown."""
    if not rows:
        nothing = numpy_helper.from_array(np.array([default], np.int64))
        return g.add("ConstantOfShape", g.add("Shape", strings), value=nothing)
    keys, values = zip(*rows, strict=True)
    attributes: dict[str, Any] = {
        "keys_strings": [k.encode() for k in keys],
        "values_int64s": list(values),
        "default_int64": default,
    }
    return g.add("LabelEncoder", strings, domain="ai.onnx.ml", **attributes)


def _flat(g: _Graph, source: str) -> str:
    return g.add("Reshape", source, g.const([-1], np.int64))


def _age_buckets(g: _Graph, age_us: str, known: str) -> str:
    """Buckets as in `features`, in integers: 1 + the number of j ≥ 1 with age ≥ 2^j − 1 seconds; 0 if unknown."""
    steps = np.array([(2**j - 1) * 1_000_000 for j in range(1, AGE_BUCKETS - 1)], np.int64)
    reached = g.add("GreaterOrEqual", g.add("Unsqueeze", age_us, g.const([1], np.int64)), g.const(steps))
    count = g.add("ReduceSum", g.add("Cast", reached, to=TensorProto.INT64), g.const([1], np.int64), keepdims=0)
    bucket = g.add("Add", count, g.const([1], np.int64))
    return g.add("Mul", bucket, g.add("Cast", known, to=TensorProto.INT64))


def _device_field(
    g: _Graph, key: str, field: Field, weights: Mapping[str, np.ndarray], rows: Sequence[tuple[str, int]]
) -> str:
    """One context field from the values that a device has: strings, numbers, or none. `[1, C]`."""
    zero = g.const([0], np.int64)
    if field.kind == "category":
        values = g.input(key, TensorProto.STRING, [f"M.{key}"])
        # As in `features`: a value that comes twice counts once, and an empty one not at all. Then
        # the first `max_values`.
        found = _lookup(g, g.add("Unique", values, sorted=0), [("", -1), *rows], default=0)
        found = g.add("Compress", found, g.add("GreaterOrEqual", found, zero), axis=0)
        found = g.add("Slice", found, zero, g.const([field.max_values], np.int64))
        # The entry of -1 makes sure that the axis is not empty. It adds nothing.
        entry = g.add("Cast", g.add("Concat", found, g.const([-1], np.int64), axis=0), to=TensorProto.INT32)
        return _field_output(g, key, field, g.add("Unsqueeze", entry, zero), weights)
    if field.kind == "number":
        numbers = g.input(key, TensorProto.DOUBLE, [f"M.{key}"])
        scaled = g.add("Div", g.add("Sub", numbers, g.const(field.mean, np.float64)), g.const(field.std, np.float64))
        clipped = g.add("Clip", scaled, g.const(-CLIP, np.float64), g.const(CLIP, np.float64))
        total = g.add("ReduceSum", g.add("Concat", clipped, g.const([0], np.float64), axis=0))
        pair = g.add("Concat", total, g.add("Cast", g.add("Shape", numbers), to=TensorProto.DOUBLE), axis=0)
        entry = g.add("Cast", g.add("Unsqueeze", pair, zero), to=TensorProto.FLOAT)
        return _field_output(g, key, field, entry, weights)
    numbers = g.input(key, TensorProto.FLOAT, [f"M.{key}"])
    # An absent vector is zeros. What came is the whole vector or nothing: pad it to the size.
    missing = g.add("Sub", g.const([field.size], np.int64), g.add("Shape", numbers))
    full = g.add("Pad", numbers, g.add("Concat", zero, missing, axis=0))
    return _field_output(g, key, field, g.add("Unsqueeze", full, zero), weights)


def _device_scores(g: _Graph, matrix_DN: str, scales_N: str, biases_N: str) -> str:
    """Scores of all items, `[N]`: two integer parts of the user vector × int8 matrix, scaled back, plus bias."""
    tiny = g.const(1e-30, np.float32)
    # As in the recommender: huge components of a user vector count as 0, so that scores stay numbers.
    sane = g.add("Less", g.add("Abs", "user_vector"), g.const(layout.USER_LIMIT, np.float32))
    user = g.add("Where", sane, "user_vector", g.const(0.0, np.float32))
    # user ≈ unit · (coarse + fine / 126): `coarse` is rounded to ±63, and `fine` is what rounding left, also in ±63.
    largest = g.add("Max", g.add("ReduceMax", g.add("Abs", user), axes=[1], keepdims=1), tiny)
    unit = g.add("Div", largest, g.const(float(_HALF), np.float32))
    exact = g.add("Div", user, unit)
    coarse = g.add("Round", exact)
    fine = g.add("Round", g.add("Mul", g.add("Sub", exact, coarse), g.const(2.0 * _HALF, np.float32)))
    parts = g.add("Add", g.add("Concat", coarse, fine, axis=0), g.const(64.0, np.float32))
    parts = g.add("Cast", parts, to=TensorProto.UINT8)
    product = g.add("MatMulInteger", parts, matrix_DN, g.const(64, np.uint8))
    mix = g.add("Mul", unit, g.const([[1.0, 1.0 / (2 * _HALF)]], np.float32))
    mixed = _flat(g, g.add("MatMul", mix, g.add("Cast", product, to=TensorProto.FLOAT)))
    return g.add("Add", g.add("Mul", mixed, scales_N), biases_N)


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))
