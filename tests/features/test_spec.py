"""The specification file: what it reads, what it refuses, and that equal ones have equal hashes."""

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from recdistill.errors import ConfigError
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec, VocabularySpec

TOML = """
format = 1
history = { length = 20, actions = ["view", "buy"] }
id = { capacity = 500, hashed = 4 }
[item.genres]
kind = "category"
capacity = 30
hashed = 2
max_values = 6
[item.title]
kind = "text"
capacity = 256
ngrams = [1, 3]
[item.year]
kind = "number"
mean = 1980
std = 15
[item.vector]
kind = "vector"
size = 3
[context.device]
kind = "category"
capacity = 10
"""


def load(tmp_path: Path, text: str) -> FeatureSpec:
    path = tmp_path / "features.toml"
    path.write_text(text)
    return FeatureSpec.load(path)


def test_a_file_becomes_a_specification(tmp_path: Path) -> None:
    spec = load(tmp_path, TOML)
    assert spec.history == HistorySpec(20, ("view", "buy"))
    assert spec.id == IdSpec(500, 4)
    assert spec.item["year"] == Field("number", mean=1980.0, std=15.0)
    heights = {key: spec.rows(key) for key in ("id", "item.genres", "item.title", "item.year", "item.vector")}
    assert heights == {
        "id": 1 + 4 + 500,
        "item.genres": 1 + 2 + 30,
        "item.title": 1 + 256,
        "item.year": 2,
        "item.vector": 3,
    }
    assert spec.rows("context.device") == 1 + 10
    assert spec.vocabulary_keys() == ("id", "item.genres", "context.device")
    with pytest.raises(ConfigError, match=r"no field 'item\.size'"):
        spec.rows("item.size")


def test_hash_is_of_canonical_json_and_does_not_depend_on_order() -> None:
    one = FeatureSpec(item={"b": Field("number", mean=1), "a": Field("text")})
    other = FeatureSpec(item={"a": Field("text"), "b": Field("number", mean=1.0)})
    assert list(one.item) == ["a", "b"]
    assert one.hash == other.hash == hashlib.sha256(one.to_json()).hexdigest()
    assert one.hash != FeatureSpec(item={"a": Field("text")}).hash
    assert FeatureSpec.from_json(one.to_json()) == one
    assert json.loads(one.to_json())["item"]["b"]["mean"] == 1.0


def test_context_categories_have_no_hashed_rows() -> None:
    assert FeatureSpec(context={"hour": Field("category", capacity=24)}).rows("context.hour") == 25


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[item.a]\nkind = 'category'\ncapcity = 3", r"item\.a\.capcity: is not a known key; did you mean 'capacity'"),
        ("[hstory]\nlength = 3", "hstory: is not a known key; did you mean 'history'"),
        ("history = { actons = [] }", r"history\.actons: .* 'actions'"),
        ("id = { zzz = 1 }", r"id\.zzz: is not a known key; known keys: capacity, hashed"),
        ("format = 2", "format: 2 is not known"),
        ("[item.a]\nkind = 'colour'", r"item\[\.\.\.\]\.kind: Invalid enum value 'colour'"),
        ("[item.a]\ncapacity = 3", "missing required field `kind`"),
        ("[item.a]\nkind = 'category'\ncapacity = 'many'", r"capacity: Expected `int`, got `str`"),
        ("[item.a]\nkind = 'category'\ncapacity = 0", r"item\.a\.capacity: must be 1 to"),
        ("[item.a]\nkind = 'category'\nhashed = -1", r"item\.a\.hashed: must be 0 to"),
        ("[item.a]\nkind = 'category'\nmax_values = 0", r"item\.a\.max_values"),
        ("[item.a]\nkind = 'number'\nstd = 0", r"item\.a\.std: must be finite and above 0"),
        ("[item.a]\nkind = 'number'\nmean = nan", r"item\.a\.mean: must be finite"),
        ("[item.a]\nkind = 'number'\nsize = 3", r"item\.a\.size: belongs to a vector"),
        ("[item.a]\nkind = 'vector'", r"item\.a\.size: must be 1 to"),
        ("[item.a]\nkind = 'text'\nngrams = [2, 1]", r"item\.a\.ngrams"),
        ("[item.a]\nkind = 'text'\nngrams = [1]", "ngrams"),
        ("[item.'a b']\nkind = 'text'", "letters, digits"),
        ("[context.a]\nkind = 'category'\nhashed = 8", r"context\.a\.hashed: must be 0"),
        ("[context.a]\nkind = 'category'\nhashed = 3", r"context\.a\.hashed: must be 0"),
        ("history = { length = 0 }", r"history\.length: must be 1 to"),
        ("history = { actions = ['a', 'a'] }", r"history\.actions: each action"),
        ("id = { capacity = 0 }", r"id\.capacity"),
        ("id = 3", "id: Expected `object`"),
        ("item = 3", "item: Expected `object`"),
        ("format = ", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load(tmp_path, line)
    assert "features.toml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        FeatureSpec.load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        FeatureSpec.load(tmp_path / "latin.toml")
    for text in (b"{", b"[]", b"\xff", b'{"format": 1, "more": 2}'):
        with pytest.raises(ConfigError):
            FeatureSpec.from_json(text)


def test_a_specification_made_in_code_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"context\.a\.hashed"):
        FeatureSpec(context={"a": Field("category", hashed=3)})
    with pytest.raises(ConfigError, match=r"id\.capacity"):
        FeatureSpec(id=IdSpec(capacity=0))


def test_keys_that_nobody_chose_are_not_in_the_json_form() -> None:
    """Specifications of versions that did not know these keys keep their hash. This one was worked out with one."""
    fields = {"capacity": 4, "hashed": 1}
    old = FeatureSpec(id=IdSpec(**fields), item={"genre": Field("category", **fields)})
    said = FeatureSpec(
        id=IdSpec(**fields, min_seen=1),
        item={"genre": Field("category", **fields, min_seen=1)},
        vocabulary=VocabularySpec(),
    )
    assert said == old
    assert said.hash == old.hash == "070981be681c8cde02c340b0cad3ad17e271a8060339bdeb34ed386ee1ff63cb"
    assert b"min_seen" not in old.to_json()
    assert b"vocabulary" not in old.to_json()
    chosen = FeatureSpec(id=IdSpec(**fields, min_seen=3), vocabulary=VocabularySpec(evict=False))
    assert FeatureSpec.from_json(chosen.to_json()) == chosen
    assert (chosen.min_seen("id"), chosen.losing.evict, old.min_seen("id"), old.losing.evict) == (3, False, 1, True)
    assert chosen.hash != old.hash


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"id": {"min_seen": 0}}, "id.min_seen: must be 1 to"),
        ({"item": {"a": {"kind": "category", "min_seen": 0}}}, "item.a.min_seen: must be 1 to"),
        ({"item": {"a": {"kind": "text", "min_seen": 2}}}, "item.a.min_seen: belongs to a category, this is a text"),
        ({"vocabulary": {"half_life": 0}}, "vocabulary.half_life: must be 1 to"),
        ({"vocabulary": {"keep_withdrawn": 0}}, "vocabulary.keep_withdrawn: must be 1 to"),
        ({"vocabulary": {"halflife": 9}}, "vocabulary.halflife: is not a known key; did you mean 'half_life'"),
    ],
)
def test_a_wrong_way_to_give_and_lose_rows_is_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        FeatureSpec.from_dict(table)


def test_the_page_shows_the_keys_and_their_defaults() -> None:
    page = (Path(__file__).parents[2] / "docs" / "running.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```toml\n(\[id\]\ncapacity = 1_000_000.*?)^```", page, re.MULTILINE | re.DOTALL)
    spec = FeatureSpec.from_dict(tomllib.loads(block))
    assert (spec.losing, spec.min_seen("id"), spec.id.hashed) == (VocabularySpec(), 1, IdSpec().hashed)
    assert spec.min_seen("context.device") == 3
