"""Each kind of value against its definition, written out."""

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import DataError
from recdistill.features import FeatureError, FeatureSpec, Field, Vocabulary, encode_column
from recdistill.records import Value

FIELDS = {
    "cat": Field("category", capacity=10, hashed=0, max_values=3),
    "num": Field("number", mean=10.0, std=4.0),
    "txt": Field("text", capacity=97, max_values=6, ngrams=(1, 2)),
    "vec": Field("vector", size=2),
}
SPEC = FeatureSpec(item=FIELDS)


def column(
    name: str, values: list[Value | None], vocabulary: Vocabulary | None = None, **options: object
) -> np.ndarray:
    return encode_column(f"item.{name}", SPEC.item[name], values, vocabulary or Vocabulary(SPEC), **options)


def bucket(run: str) -> int:
    return 1 + zlib.crc32(run.encode(), zlib.crc32(b"item.txt")) % 97


def test_categories_are_rows_without_repeats_and_cut() -> None:
    rows = column("cat", ["a", ["b", "a", "b"], None, "", [], ["c", "d", "e", "f"]], admit=True)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[1, -1, -1], [2, 1, -1], [-1, -1, -1], [-1, -1, -1], [-1, -1, -1], [3, 4, 5]]
    assert column("cat", ["zz"]).tolist() == [[0, -1, -1]]


def test_categories_take_numbers_and_flags_as_texts() -> None:
    vocabulary = Vocabulary(SPEC)
    column("cat", ["1994", "0.5", "true", "-3"], vocabulary, admit=True)
    assert column("cat", [1994.0, 0.5, True, -3], vocabulary)[:, 0].tolist() == [1, 2, 3, 4]
    assert column("cat", [[1994.0, 0.5]], vocabulary).tolist() == [[1, 2, -1]]


def test_numbers_are_standardised_clipped_and_marked() -> None:
    values: list[Value | None] = [12.0, None, 1e300, -1e300, True, 3]
    clipped = [min(5.0, max(-5.0, (number - 10.0) / 4.0)) for number in (12.0, 1e300, -1e300, 1.0, 3.0)]
    out = column("num", values)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[[0, 2, 3, 4, 5], 0], np.array(clipped, np.float32))
    assert out[:, 1].tolist() == [1, 0, 1, 1, 1, 1]
    assert out[1].tolist() == [0, 0]


def test_texts_are_hashed_runs_of_words() -> None:
    rows = column("txt", ["The  Red-House!", ["The", "red house"], "", " -- "])
    words, pairs = ["the", "red", "house"], ["the red", "red house"]
    assert rows[0].tolist() == [*map(bucket, words), *map(bucket, pairs), -1]
    assert rows[1].tolist() == [*map(bucket, words), bucket("red house"), -1, -1]  # no run spans two texts
    assert rows[2].tolist() == rows[3].tolist() == [-1] * 6


@given(st.text())
def test_texts_stay_in_the_table(text: str) -> None:
    rows = column("txt", [text])[0]
    used = rows[rows >= 0]
    assert (used >= 1).all()
    assert (used < SPEC.rows("item.txt")).all()
    assert len(set(used.tolist())) == len(used)
    assert (rows[len(used) :] == -1).all()


def test_vectors_are_copied() -> None:
    out = column("vec", [[0.5, -1.0], None, []])
    assert out.dtype == np.float32
    assert out.tolist() == [[0.5, -1.0], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("num", [1.0], r"item\.num: must be a number or a flag, not a list of numbers"),
        ("num", "3", r"item\.num: must be a number or a flag, not a text"),
        ("txt", 3.0, r"item\.txt: must be a text or a list of texts, not a number"),
        ("txt", [3.0], r"item\.txt: .* not a list of numbers"),
        ("vec", [1.0], r"item\.vec: must be a list of 2 numbers, not of 1"),
        ("vec", ["a", "b"], r"item\.vec: must be a list of 2 numbers, not a list of texts"),
        ("vec", 1.0, r"item\.vec: must be a list of 2 numbers, not a number"),
        ("num", math.nan, r"item\.num: must be finite, not nan"),
        ("vec", [1.0, math.inf], r"item\.vec: must be finite, not inf"),
        ("vec", [1.0, -1e39], r"item\.vec: must have numbers between -1,000,000,000 and"),
        ("cat", -math.inf, r"item\.cat: must be finite"),
        ("cat", {"a": 1}, r"item\.cat: must be a text, number, flag or a list of them, not dict"),
    ],
)
def test_a_wrong_kind_is_an_error_that_names_the_field(name: str, value: Value, reason: str) -> None:
    with pytest.raises(FeatureError, match=reason) as caught:
        column(name, [None, value])
    assert isinstance(caught.value, DataError)
    assert (caught.value.field, caught.value.row) == (f"item.{name}", 1)
    errors: list[FeatureError] = []
    spoiled = column(name, [None, value], errors=errors)
    assert [error.row for error in errors] == [1]
    np.testing.assert_array_equal(spoiled, column(name, [None, None]))


def test_a_value_that_comes_again_is_what_it_was_the_first_time() -> None:
    spec = FeatureSpec(
        context={
            "genre": Field("category", capacity=2),
            "title": Field("text", capacity=50, max_values=4),
            "age": Field("number"),
        }
    )
    values: dict[str, list[Value | None]] = {
        "genre": ["war", None, "1", 1.0, "war", "noir", ["war", "1"], "noir", True, "true", ""],
        "title": ["a war", None, "a war", ["a war"], "", "", "b"],
        "age": [1.0, "1", 1.0, None, "1"],
    }
    for name, column in values.items():
        one, other = Vocabulary(spec), Vocabulary(spec)
        errors: list[FeatureError] = []
        whole = encode_column(f"context.{name}", spec.context[name], column, one, admit=True, errors=errors)
        singly = [
            encode_column(f"context.{name}", spec.context[name], [value], other, admit=True, errors=[])
            for value in column
        ]
        assert whole.tolist() == np.concatenate(singly).tolist()
        assert one.snapshot() == other.snapshot()
        assert [error.row for error in errors] == [
            row for row, value in enumerate(column) if name == "age" and value == "1"
        ]
