"""A specification is guessed from values: each sort of value gets the field that can hold it."""

from __future__ import annotations

import pytest

from recdistill.data.infer import fields_of, infer_specification
from recdistill.features import FeatureSpec
from recdistill.records import Item


def test_a_specification_is_inferred_from_attributes() -> None:
    items = [
        Item(f"i{n}", attributes={"title": f"name {n}", "kind": "ab"[n % 2], "tags": ["x", "y"], "price": float(n),
                                  "vector": [0.5, 1.0], "new": n > 2})
        for n in range(6)
    ]  # fmt: skip
    spec = infer_specification(items, actions=["buy"])
    kinds = {name: field.kind for name, field in spec.item.items()}
    assert {name for name, kind in kinds.items() if kind == "category"} == {"kind", "tags", "new"}
    assert (kinds["title"], kinds["price"], kinds["vector"]) == ("text", "number", "vector")
    assert (spec.item["price"].mean, spec.item["vector"].size) == (2.5, 2)
    assert spec.history.actions == ("buy",)


def test_values_of_no_one_sort_are_left_out() -> None:
    fields = fields_of([{"mixed": "a", "vector": [1.0, 2.0]}, {"mixed": 1.0, "vector": [1.0]}, {"empty": []}])
    assert fields == {}


def test_a_text_of_a_request_is_a_category() -> None:
    """A device file cannot hash words."""
    fields = fields_of([{"place": f"town {n}"} for n in range(9)], context=True)
    assert (fields["place"].kind, fields["place"].hashed) == ("category", 0)


@pytest.mark.parametrize("count", [3, 7, 100])
def test_equal_numbers_have_no_spread_though_their_mean_is_rounded(count: int) -> None:
    price = fields_of([{"price": 0.1}] * count)["price"]
    assert price.std == 1.0, "else another price would be millions of deviations away"
    assert price.mean == pytest.approx(0.1)


def test_numbers_whose_squares_are_infinite_have_a_spread_that_a_specification_takes() -> None:
    rows = [{"price": value} for value in (1.7e308, 0.0)]
    price = fields_of(rows)["price"]
    assert (price.mean, price.std) == (pytest.approx(0.85e308), pytest.approx(0.85e308))
    assert FeatureSpec(item={"price": price}).item["price"] == price
