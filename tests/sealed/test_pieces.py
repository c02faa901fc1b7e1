"""Content in pieces has the bytes that the libraries give in one piece."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.sealed import pieces

DTYPES = [
    np.uint64, np.int64, np.float64, np.float32, np.uint32, np.int32, np.float16, np.uint16, np.int16, np.int8,
    np.uint8, np.bool_,
]  # fmt: skip


def test_arrays_are_those_of_the_library() -> None:
    chance = np.random.default_rng(0)
    shapes = [(), (5,), (3, 4), (0, 7), (2, 0), (1, 1, 3)]
    tensors: dict[str, np.ndarray] = {}
    for n, dtype in enumerate(DTYPES * 3):
        name = f'{"weights/" * (n % 2)}x{int(chance.integers(10**6))} \u00e9"'
        tensors[name] = np.asarray(chance.integers(0, 2, shapes[n % 6])).astype(dtype)
    wide = chance.normal(size=(40, 8)).astype(np.float32)
    tensors |= {"part": wide[3:30, :5], "column": wide[:, 2], "turned": wide.T, "last": wide[::-1]}
    whole = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    assert b"".join(pieces.arrays(tensors)) == safetensors.numpy.save(whole)
    assert b"".join(pieces.arrays({})) == safetensors.numpy.save({})


def test_a_large_array_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_BYTES", 100)
    tensors = {"w": np.arange(700, dtype=np.float32).reshape(70, 10)[:, :9], "v": np.arange(90, dtype=np.int64)}
    found = list(pieces.arrays(tensors))
    assert max(map(len, found[1:])) <= 100
    assert len(found) > 30
    assert b"".join(found) == safetensors.numpy.save({name: value.copy() for name, value in tensors.items()})


def test_a_type_without_a_name_here_is_written_by_the_library() -> None:
    turned = {"w": np.arange(3, dtype=">f4")}
    assert safetensors.numpy.load(b"".join(pieces.arrays(turned)))["w"].tolist() == [0.0, 1.0, 2.0]


texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(values)
def test_text_is_that_of_the_library(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_ENTRIES", 2)
        found = b"".join(pieces.text(value))
    assert found == json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True).encode()


@pytest.mark.parametrize("value", [float("nan"), {"a": [1] * 20_000 + [float("inf")]}, {"a": object()}, {"a": b"x"}])
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        b"".join(pieces.text(value))
