"""The student's arithmetic in numpy, float32. It defines what a student computes.

The torch student (`train/student.py`), the ONNX towers and the device graph (`graphs.py`) are other forms of it. Tests
compare each of them with it. Change the arithmetic here first. The export computes item vectors and golden answers with
it, so a bundle's graphs are compared with code that did not make them.

It knows nothing of records, vocabulary or files.

Example:
    >>> from recdistill.features import EncodedItems, FeatureSpec
    >>> encoded = EncodedItems(np.zeros(2, np.int32), {})
    >>> items({"id": np.zeros((1, 6), np.float32)}, FeatureSpec(), encoded).round(6).tolist()[0]
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from recdistill.features import EncodedItems, FeatureSpec, Field, Requests
from recdistill.model import layout

Floats = npt.NDArray[np.float32]


def items(weights: Mapping[str, np.ndarray], spec: FeatureSpec, encoded: EncodedItems) -> Floats:
    """The item tower: vector, bias and (positive) weight in a history of N items, float32 `[N, D+2]`."""
    output_NW = weights["id"][encoded.id_rows_N].astype(np.float32)
    for name, field in spec.item.items():
        output_NW += _field(weights[f"item.{name}"], field, encoded.fields[name])
    raw_N = output_NW[:, layout.WEIGHT] + np.float32(layout.UNIT_WEIGHT)
    output_NW[:, layout.WEIGHT] = np.logaddexp(np.float32(0), raw_N)  # softplus
    return output_NW


def users(weights: Mapping[str, np.ndarray], spec: FeatureSpec, vectors_NW: Floats, requests: Requests) -> Floats:
    """The user tower: user vectors of B requests, float32 `[B, D]`.

    Args:
        weights: Weights by contract name.
        spec: The feature specification.
        vectors_NW: The output of `items`, by the slots that the requests use.
        requests: B encoded requests.
    """
    dim = layout.dim(vectors_NW.shape[1])
    mask_BH = requests.history_slots_BH >= 0
    slots_BH = np.maximum(requests.history_slots_BH, 0)
    length = slots_BH.shape[1]
    # First pool: a weighted sum over the history, divided by √(number of events).
    weights_BH = vectors_NW[slots_BH, layout.WEIGHT] * weights["user.action"][requests.history_actions_BH] * mask_BH
    weights_BH = weights_BH / np.sqrt(np.maximum(mask_BH.sum(1, keepdims=True), 1))
    # Second pool: a softmax over the history, by hand, so that padding has weight 0 and an empty history gives zeros.
    logits_BH = (
        weights["user.age"][requests.history_ages_BH] + weights["user.action_logit"][requests.history_actions_BH]
    )
    logits_BH = np.where(mask_BH, logits_BH + weights["user.position"][:length], np.finfo(np.float32).min)
    attention_BH = np.exp(logits_BH - logits_BH.max(1, keepdims=True)) * mask_BH
    attention_BH = attention_BH / np.maximum(attention_BH.sum(1, keepdims=True), np.finfo(np.float32).tiny)
    # Both pools at once; then one hidden layer over pools and context; then both pools are added again.
    pools_B2D = np.stack([weights_BH, attention_BH], 1).astype(np.float32) @ vectors_NW[slots_BH, layout.VECTOR]
    parts = [pools_B2D.reshape(len(pools_B2D), 2 * dim)]
    parts += [_field(weights[f"context.{n}"], field, requests.context[n]) for n, field in spec.context.items()]
    hidden = np.maximum(np.concatenate(parts, 1) @ weights["user.w1"] + weights["user.b1"], 0)
    skip_BD = (pools_B2D * weights["user.skip"][:, None]).sum(1)
    user_BD: Floats = (hidden @ weights["user.w2"] + weights["user.b2"] + skip_BD).astype(np.float32)
    return user_BD


def scores(users_BD: Floats, vectors_NW: Floats) -> Floats:
    """Score of each of N items for each of B users, float32 `[B, N]`: the product of the vectors plus the bias."""
    scores_BN: Floats = users_BD @ vectors_NW[:, layout.VECTOR].T + vectors_NW[:, layout.BIAS]
    return scores_BN


def _field(table: np.ndarray, field: Field, values: np.ndarray) -> Floats:
    """Mean of the rows that are not −1; for numbers and vectors, the values times the table."""
    if field.kind not in ("category", "text"):
        return np.asarray(values @ table, np.float32)
    real_NM = values >= 0
    total = (table[np.maximum(values, 0)] * real_NM[..., None]).sum(1)
    return np.asarray(total / np.maximum(real_NM.sum(1, keepdims=True), 1), np.float32)
