"""Runs the two towers of a bundle in onnxruntime, on encoded numpy batches. No other module does this.

It knows the names of the graphs' inputs. It does not know records, vocabulary or indexes.

Example:
    >>> UserTower(b"no model", source="user_tower.onnx")
    Traceback (most recent call last):
    recdistill.errors.BundleError: user_tower.onnx: onnxruntime cannot load it; export the bundle again
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.errors import BundleError
from recdistill.features import EncodedItems, Requests
from recdistill.model import layout

Floats = npt.NDArray[np.float32]


class UserTower:
    """The user tower. Threads may share it.

    Args:
        model: Bytes of `user_tower.onnx`.
        source: Its name, for errors.
        threads: Threads of one inference.

    Raises:
        BundleError: onnxruntime cannot load it.
    """

    def __init__(self, model: bytes, *, source: str, threads: int = 1) -> None:
        self._session = open_session(model, source=source, threads=threads)
        self._source = source

    def __call__(self, requests: Requests, history_BHW: Floats) -> Floats:
        """User vectors of B requests, float32 `[B, D]`.

        Args:
            requests: Encoded requests.
            history_BHW: Vector, bias and history weight of the items in their histories, `[B, H, D+2]`. Where there is
                no item, any numbers.

        Raises:
            BundleError: The graph does not take these inputs.
        """
        feeds: dict[str, np.ndarray] = {
            "history_vectors": np.ascontiguousarray(history_BHW[..., layout.VECTOR], np.float32),
            "history_weights": np.ascontiguousarray(history_BHW[..., layout.WEIGHT], np.float32),
            "history_actions": requests.history_actions_BH,
            "history_ages": requests.history_ages_BH,
            "history_mask": (requests.history_slots_BH >= 0).astype(np.float32),
        }
        feeds |= {f"context.{name}": values for name, values in requests.context.items()}
        return run(self._session, feeds, source=self._source)


class ItemTower:
    """The item tower. Threads may share it. Arguments and errors as UserTower's."""

    def __init__(self, model: bytes, *, source: str, threads: int = 1) -> None:
        self._session = open_session(model, source=source, threads=threads)
        self._source = source

    def __call__(self, items: EncodedItems) -> Floats:
        """Vector, bias and history weight of N items, float32 `[N, D+2]`.

        Raises:
            BundleError: The graph does not take these inputs.
        """
        feeds = {"id_rows": items.id_rows_N} | {f"item.{name}": values for name, values in items.fields.items()}
        return run(self._session, feeds, source=self._source)


def open_session(model: bytes, *, source: str, threads: int) -> Any:
    """An onnxruntime session on the CPU. It has no memory arena, so memory does not grow when sessions come and go.

    Raises:
        BundleError: onnxruntime cannot load the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # its exceptions share no base class of their own
        raise BundleError(f"{source}: onnxruntime cannot load it; export the bundle again") from e


def run(session: Any, feeds: dict[str, np.ndarray], *, source: str, outputs: Sequence[str] | None = None) -> Floats:
    """The first output.

    Raises:
        BundleError: The graph does not take these inputs.
    """
    try:
        result: Floats = session.run(outputs, feeds)[0]
    except Exception as e:  # its exceptions share no base class of their own
        raise BundleError(f"{source}: does not take what this version feeds it ({str(e).splitlines()[0][:200]})") from e
    return result
