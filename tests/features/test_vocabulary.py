"""Rows against a plain model of the rules."""

import json
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import DataError
from recdistill.features import FeatureSpec, Field, IdSpec, Vocabulary

SPEC = FeatureSpec(
    id=IdSpec(capacity=5, hashed=3),
    item={"genres": Field("category", capacity=2, hashed=0), "year": Field("number")},
    context={"device": Field("category", capacity=2)},
)
words = st.sampled_from([f"w{index}" for index in range(12)] + ["ä", "日本"])


@given(st.lists(st.tuples(words, st.booleans()), max_size=40))
def test_rows_follow_the_rules(steps: list[tuple[str, bool]]) -> None:
    vocabulary = Vocabulary(SPEC)
    admitted: list[str] = []
    for word, admit in steps:
        if admit and word not in admitted and len(admitted) < 5:
            admitted.append(word)
        hashed = 1 + zlib.crc32(word.encode(), zlib.crc32(b"id")) % 3
        expected = 4 + admitted.index(word) if word in admitted else hashed
        assert vocabulary.rows("id", [word], admit=admit).tolist() == [expected]
        assert vocabulary.size("id") == 4 + len(admitted) <= SPEC.rows("id")
    assert vocabulary.admitted("id") == admitted


def test_without_hashed_rows_unknown_and_overflow_are_row_0() -> None:
    vocabulary = Vocabulary(SPEC)
    assert vocabulary.rows("context.device", ["a", "a", "b", "c"], admit=True).tolist() == [1, 1, 2, 0]
    assert vocabulary.rows("context.device", ["b", "z"]).tolist() == [2, 0]
    assert vocabulary.rows("context.device", []).shape == (0,)


def test_only_categories_and_ids_have_a_vocabulary() -> None:
    with pytest.raises(DataError, match=r"no key 'item\.year'; it has id, item\.genres, context\.device"):
        Vocabulary(SPEC).rows("item.year", ["a"])


@given(st.lists(words, max_size=20))
def test_a_snapshot_comes_back_through_json(ids: list[str]) -> None:
    vocabulary = Vocabulary(SPEC)
    for key in ("id", "item.genres", "context.device"):
        vocabulary.rows(key, ids, admit=True)
    again = Vocabulary.restore(SPEC, json.loads(json.dumps(vocabulary.snapshot())))
    assert again.hash == vocabulary.hash
    for key in ("id", "item.genres", "context.device"):
        assert again.rows(key, ids).tolist() == vocabulary.rows(key, ids).tolist()


def test_the_hash_knows_order_values_and_layout() -> None:
    def of(spec: FeatureSpec, ids: list[str]) -> str:
        vocabulary = Vocabulary(spec)
        vocabulary.rows("id", ids, admit=True)
        return vocabulary.hash

    wider = FeatureSpec(id=IdSpec(capacity=5, hashed=4))
    hashes = [of(FeatureSpec(id=IdSpec(5, 3)), ids) for ids in (["a", "b"], ["b", "a"], ["a"], [])] + [of(wider, [])]
    assert len(set(hashes)) == len(hashes)


def test_rows_and_hash_are_the_same_in_another_process() -> None:
    code = (
        "from recdistill.features import *\n"
        "v = Vocabulary(FeatureSpec(id=IdSpec(2, 1000)))\n"
        "print(v.rows('id', ['a', 'ä', 'x' * 99]).tolist(), v.hash)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
    vocabulary = Vocabulary(FeatureSpec(id=IdSpec(2, 1000)))
    assert runs == {f"{vocabulary.rows('id', ['a', 'ä', 'x' * 99]).tolist()} {vocabulary.hash}\n"}


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        ({"id": []}, r"differ in context\.device, item\.genres"),
        ({"id": ["a", "a"], "item.genres": [], "context.device": []}, "id: a value is there twice"),
        ({"id": ["a"] * 6, "item.genres": [], "context.device": []}, "id: 6 values do not fit its 9 rows"),
        ({"id": [1], "item.genres": [], "context.device": []}, "id: is not a list of texts"),
        ({"id": "abc", "item.genres": [], "context.device": []}, "id: is not a list of texts"),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(snapshot: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        Vocabulary.restore(SPEC, snapshot)
