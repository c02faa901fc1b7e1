"""Entries and canonical JSON against hashlib and json."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import BundleError, DataError
from recdistill.sealed import FileEntry, FileName, canonical, digest, entry_of

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(TREES)
def test_canonical_json_is_what_json_says_with_sorted_keys(tree: Any) -> None:
    data = canonical(tree)
    assert json.loads(data) == tree
    if isinstance(tree, dict):
        assert canonical(dict(reversed(tree.items()))) == data
    assert digest(tree) == hashlib.sha256(data).hexdigest()


def test_what_has_no_json_form_is_refused_in_the_words_of_the_room() -> None:
    with pytest.raises(DataError, match="cannot be written as JSON"):
        canonical({"a": object()})
    with pytest.raises(BundleError, match="cannot be written as JSON"):
        digest({1j: 1}, error=BundleError)


@given(st.binary(max_size=200))
def test_an_entry_is_size_and_digest(data: bytes) -> None:
    assert entry_of(data) == FileEntry(len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    "name", ["", "a", ".a.bin", "../a.bin", "a/b.bin", "a..bin", "A.bin", "a.bin/", "-a.bin", "a.\0"]
)
def test_a_name_cannot_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({name: 1}, dict[FileName, int])
