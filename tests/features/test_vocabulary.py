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


@pytest.mark.slow
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


@given(st.lists(st.tuples(words, st.sampled_from(["look", "admit", "release", "restore"])), max_size=60))
def test_rows_that_were_given_back_follow_the_rules(steps: list[tuple[str, str]]) -> None:
    vocabulary = Vocabulary(SPEC)
    held: dict[int, str] = {}  # by row
    for word, what in steps:
        own = {value: row for row, value in held.items()}
        if what == "release":
            if word not in own:
                with pytest.raises(DataError, match="has no row of its own"):
                    vocabulary.release("id", word)
                continue
            assert vocabulary.release("id", word) == own[word]
            del held[own[word]]
        elif what == "restore":
            hash_before = vocabulary.hash
            vocabulary = Vocabulary.restore(SPEC, json.loads(json.dumps(vocabulary.snapshot())))
            assert vocabulary.hash == hash_before
        elif what == "admit" and word not in own and (free := sorted(set(range(4, 9)) - set(held))):
            held[free[0]] = word
        own = {value: row for row, value in held.items()}
        shared = 1 + zlib.crc32(word.encode(), zlib.crc32(b"id")) % 3
        assert vocabulary.row("id", word, admit=what == "admit") == own.get(word, shared)
        assert vocabulary.has("id", word) == (word in own)
        assert vocabulary.admitted("id") == [held[row] for row in sorted(held)]
        assert vocabulary.values("id", sorted(held)) == vocabulary.admitted("id")


def test_a_hole_is_said_as_null_and_changes_the_hash() -> None:
    vocabulary, plain = Vocabulary(SPEC), Vocabulary(SPEC)
    vocabulary.rows("id", ["a", "b", "c"], admit=True)
    plain.rows("id", ["a", "c"], admit=True)
    vocabulary.release("id", "b")
    assert vocabulary.snapshot()["id"] == ["a", None, "c"]
    assert vocabulary.holes
    assert vocabulary.hash != plain.hash  # row 6 is not row 5
    assert vocabulary.rows("id", ["d"], admit=True).tolist() == [5]
    assert not vocabulary.holes
    for key in ("never", "item.year"):
        with pytest.raises(DataError, match="the vocabulary has no key"):
            vocabulary.release(key, "a")
    vocabulary.release("id", "c")
    with pytest.raises(DataError, match="vocabulary id: row 6 has no value"):
        vocabulary.values("id", [4, 6])


def test_what_was_written_before_rows_could_be_given_back_has_its_hash() -> None:
    """Worked out with the code of the version before."""
    old = {"id": ["a", "ä"], "item.genres": ["war"], "context.device": []}
    assert Vocabulary.restore(SPEC, old).hash == "3e491cd6c7977cc84e07edea749e1c5f265972e687f9f439d0141b6298dc2669"
    assert Vocabulary.restore(SPEC, old).snapshot() == old
