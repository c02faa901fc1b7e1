"""The files that init writes are read back as what was meant, whatever the names are, and say what they are."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from recdistill.config import parse_settings
from recdistill.data.mapping import Column, TableMapping
from recdistill.data.meaning import Meaning, Said
from recdistill.data.written import Chosen, mapping_text, settings_text, specification_text
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec


def test_a_mapping_is_read_back() -> None:
    meaning = Meaning(
        "impressions",
        columns={
            "id": Said("1"),
            "candidates": Said("5", separator=" ", labels="-"),
            "time": Said("3", unit="%d.%m.%Y"),
        },
        constants={"action": "click"},
        values={"device": Said("Device type", type="text")},
        left={"url\nx": "it holds addresses"},
    )
    text = mapping_text("t.tsv", "t.map.toml", meaning, {"delimiter": "\t", "header": False}, add_items=True)
    assert TableMapping.parse(text, "t") == TableMapping(
        kind="impressions",
        delimiter="\t",
        header=False,
        add_items=True,
        columns={
            "id": "1",
            "candidates": Column(column="5", separator=" ", labels="-"),
            "time": Column(column="3", unit="%d.%m.%Y"),
        },
        constants={"action": "click"},
        context={"device": Column(column="Device type", type="text")},
    )
    assert "#   url\\nx: it holds addresses" in text


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_names_of_tables_and_columns(name: str) -> None:
    meaning = Meaning("items", columns={"id": Said(name)}, values={"a": Said(name)}, left={name: "it is empty"})
    found = TableMapping.parse(mapping_text(name, name, meaning, {}), "t")
    assert (found.columns, found.attributes) == ({"id": name}, {"a": name})


def test_a_specification_is_read_back() -> None:
    spec = FeatureSpec(
        history=HistorySpec(length=20, actions=("click", 'a "b"')),
        id=IdSpec(capacity=77, hashed=5),
        item={
            "genre": Field("category", capacity=9, max_values=3),
            "title": Field("text", capacity=64),
            "price": Field("number", mean=1 / 3, std=2.5),
            "vector": Field("vector", size=4),
        },
        context={"hour": Field("category", capacity=24, hashed=0, max_values=1), "age": Field("number")},
    )
    assert FeatureSpec.from_dict(tomllib.loads(specification_text(spec))) == spec


def test_settings_are_read_back() -> None:
    chosen = Chosen(
        tables=["a.csv"], features="f.toml", logged=True, labels={"buy": 3.0, "add to cart": 1.0}, window_s=2400.0,
        lists=40_000, shown=True,
    )  # fmt: skip
    found = parse_settings(settings_text(chosen), env={})
    assert found.teacher.kind == "logged"
    assert found.join.labels == {"click": 1.0, "buy": 3.0, "add to cart": 1.0}
    assert (found.join.window_s, found.distil.passes, found.features.file) == (2400.0, 10, "f.toml")
