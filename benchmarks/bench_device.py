"""How quick and how large is a device file, beside the bare int8 product that any such file must compute?

The baseline is one MatMulInteger over the same matrix in onnxruntime. Both run in the same process and take turns. The
baseline looks up no ids, pools no history, and does not scale, exclude or sort. There is one thread; each figure is a
median.

    python -m benchmarks.bench_device                  # 100,000 items of 64 dimensions
    python -m benchmarks.bench_device --items 1000000
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.forms import Options
from recdistill.device import file
from recdistill.features import AGE_BUCKETS, FeatureSpec, HistorySpec
from recdistill.model import graphs, quantise

HIDDEN = 64


def session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def device_file(items: int, dim: int, length: int, random: np.random.Generator) -> tuple[bytes, list[str], np.ndarray]:
    """A device file with random weights, its item ids (seven characters each), and its int8 matrix."""
    spec = FeatureSpec(history=HistorySpec(length, ("click", "buy")))

    def fresh(*shape: int) -> np.ndarray:
        return random.normal(scale=0.1, size=shape).astype(np.float32)

    weights = {
        "user.action": fresh(3),
        "user.action_logit": fresh(3),
        "user.position": fresh(length),
        "user.age": fresh(AGE_BUCKETS),
        "user.skip": fresh(2),
        "user.w1": fresh(2 * dim, HIDDEN),
        "user.b1": fresh(HIDDEN),
        "user.w2": fresh(HIDDEN, dim),
        "user.b2": fresh(dim),
    }
    quantised_ND, scales_N = quantise(fresh(items, dim))
    ids = [f"{i:07d}" for i in range(items)]
    model = graphs.device(
        weights,
        spec,
        ids=ids,
        values={},
        quantised_ND=quantised_ND,
        scales_N=scales_N,
        biases_N=fresh(items),
        item_weights_N=np.ones(items, np.float32),
    )
    return file.seal(model, {}), ids, quantised_ND


def bare_product(quantised_ND: np.ndarray) -> bytes:
    items, dim = quantised_ND.shape
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["user", "items", "zero"], ["scores"])],
        "bare",
        [helper.make_tensor_value_info("user", TensorProto.UINT8, [1, dim])],
        [helper.make_tensor_value_info("scores", TensorProto.INT32, [1, items])],
        [
            numpy_helper.from_array(np.ascontiguousarray(quantised_ND.T), "items"),
            numpy_helper.from_array(np.array(64, np.uint8), "zero"),
        ],
    )
    opset = [helper.make_opsetid("", graphs.OPSETS["ai.onnx"])]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=graphs.IR_VERSION).SerializeToString())


def texts(values: list[str]) -> np.ndarray:
    out = np.empty(len(values), object)
    out[:] = values
    return out


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, items=10_000, requests=100)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--requests", type=int, default=300)
    return parser


def main() -> None:
    told = options().parse_args()
    random = np.random.default_rng(0)
    model, ids, quantised_ND = device_file(told.items, told.dim, 50, random)
    started = time.perf_counter()
    device = session(model)
    load_s = time.perf_counter() - started
    bare = session(bare_product(quantised_ND))
    user = random.integers(0, 128, (1, told.dim)).astype(np.uint8)

    def ask(events: int) -> dict[str, np.ndarray]:
        chosen = [ids[i] for i in random.integers(0, len(ids), events)]
        return {
            "history": texts(chosen),
            "actions": texts(["click"] * events),
            "times": np.full(events, 10**15, np.int64),
            "time": np.array([2 * 10**15]),
            "exclude": texts(chosen),
            "k": np.array([10]),
        }

    asked = {events: [ask(events) for _ in range(20)] for events in (0, 10, 50)}
    times: dict[str, list[float]] = {"bare": []} | {str(events): [] for events in asked}
    for turn in range(told.requests):
        for name, spent in times.items():
            started = time.perf_counter()
            if name == "bare":
                bare.run(None, {"user": user})
            else:
                device.run(None, asked[int(name)][turn % 20])
            spent.append(time.perf_counter() - started)
    base = statistics.median(times["bare"])
    print(
        f"{told.items} items × {told.dim}: {len(model) / 1e6:.2f} MB "
        f"({len(model) / quantised_ND.size:.2f} × the int8 matrix), loads in {load_s:.2f} s"
    )
    print(f"{'':24}{'ratio':>8}{'ms':>9}")
    print(f"{'bare int8 product':24}{1:8.2f}{base * 1e3:9.3f}")
    for events in asked:
        spent = statistics.median(times[str(events)])
        print(f"{f'device, {events} events':24}{spent / base:8.2f}{spent * 1e3:9.3f}")


if __name__ == "__main__":
    main()
