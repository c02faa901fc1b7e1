"""Rows of many keys at once against the dict of `Rows`, while keys come and go."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.features import Catalogue, FeatureSpec, Field, IdSpec, Lookup, Rows, Vocabulary
from recdistill.features.hashes import spans_of
from recdistill.records import Item

KEYS = [f"k{n}" for n in range(60)] + ["", "ä", "日本語の品目", "x" * 50]
steps = st.lists(
    st.tuples(st.sampled_from(["take", "take", "release"]), st.sampled_from(KEYS)) | st.just(("ask", "")), max_size=200
)


@tries(150)
@given(steps)
def test_it_says_what_the_dict_says(log: list[tuple[str, str]]) -> None:
    rows = Rows(first=3, capacity=40)
    early, late = Lookup(rows), None
    for what, key in log:
        if what == "take":
            rows.take(key)
        elif what == "release" and key in rows.row_of:
            rows.release(key)
        elif what == "ask":
            late = late or Lookup(rows)
            assert early.rows_of(KEYS).tolist() == [rows.row_of.get(one, -1) for one in KEYS]
    for lookup in (early, late or Lookup(rows)):
        assert lookup.rows_of(KEYS).tolist() == [rows.row_of.get(one, -1) for one in KEYS]
        assert lookup.rows_of([]).shape == (0,)


def test_a_table_through_which_many_keys_pass_stays_small() -> None:
    rows = Rows(capacity=1000)
    lookup = Lookup(rows)
    window: list[str] = []
    for number in range(30_000):
        rows.take(key := f"item-{number}")
        window.append(key)
        if len(window) == 1000:
            for gone in window[:500]:
                rows.release(gone)
            assert lookup.rows_of(window).tolist() == [rows.row_of.get(one, -1) for one in window]
            del window[:500]
    assert lookup.nbytes <= 1000 * (64 + 16)


def test_catalogue_and_vocabulary_answer_for_pieces_of_a_buffer() -> None:
    spec = FeatureSpec(id=IdSpec(capacity=4, hashed=3), context={"device": Field("category", capacity=2)})
    vocabulary = Vocabulary(spec)
    catalogue = Catalogue(spec, vocabulary)
    for name in ("a", "b", "ä", "d", "e"):
        catalogue.apply(Item(name), admit=True)
    names = ["e", "ä", "never", "a", "日本"]
    assert catalogue.slots_in(*spans_of(names)).tolist() == catalogue.slots(names).tolist() == [4, 2, -1, 0, -1]
    assert vocabulary.rows_in("id", *spans_of(names)).tolist() == vocabulary.rows("id", names).tolist()
    vocabulary.rows("context.device", ["web"], admit=True)
    assert vocabulary.rows_in("context.device", *spans_of(["app", "web"])).tolist() == [0, 1]
    catalogue.release("a")
    again = Catalogue.restore(spec, Vocabulary.restore(spec, vocabulary.snapshot()), catalogue.snapshot())
    for one in (catalogue, again):
        assert one.slots_in(b"ab", np.array([0, 1]), np.array([1, 1])).tolist() == [-1, 1]
