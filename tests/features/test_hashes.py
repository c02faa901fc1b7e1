"""Hashes against the same formula worked with Python's whole numbers, one text at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recdistill.features.hashes import hash_spans, hash_texts, several_hashes, spans_of

MASK = 2**64 - 1


def plain(text: str, seed: int = 0) -> int:
    data, state = text.encode("utf-8", "surrogatepass"), seed ^ 0xD6E8FEB86659FD93
    for at in range(0, len(data), 8):
        state = mixed(state ^ int.from_bytes(data[at : at + 8], "little"))
    return mixed(state ^ len(data))


def mixed(state: int) -> int:
    z = state + 0x9E3779B97F4A7C15 & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def test_a_change_that_would_undo_another_one_needs_the_seed() -> None:
    # A change of the top bit goes through any multiplication as it is. Whatever shift of it comes behind, the next
    # number could take it back, for every seed at once, if a number were mixed by one multiplication alone.
    first = int.from_bytes(b"item-one", "little")
    for shift in range(1, 64):
        changes = (1 << 63, 1 << 63 | 1 << 63 - shift)
        pair = [
            (first ^ change).to_bytes(8, "little") + (first ^ undone).to_bytes(8, "little")
            for change, undone in ((0, 0), changes)
        ]
        for seed in (0, 1, 2**63 + 5):
            one, other = hash_spans(b"".join(pair), np.array([0, 16]), np.array([16, 16]), seed=seed).tolist()
            assert one != other


@given(st.lists(st.text(max_size=40), max_size=20), st.integers(0, 2**32))
def test_many_at_once_are_as_one_at_a_time(texts: list[str], seed: int) -> None:
    assert hash_texts(texts, seed=seed).tolist() == [plain(text, seed) for text in texts]


def test_pieces_of_a_buffer_are_found_where_they_are_and_the_buffer_stays_as_it_is() -> None:
    buffer = bytearray("..ä1...long-identifier-0123456789.x".encode())
    before = bytes(buffer)
    starts, lengths = np.array([2, 8, len(buffer) - 1, 5]), np.array([3, 26, 1, 0])
    found = hash_spans(buffer, starts, lengths).tolist()
    assert found == [plain("ä1"), plain("long-identifier-0123456789"), plain("x"), plain("")]
    assert bytes(buffer) == before
    assert [one.tolist() for one in several_hashes(buffer, starts, lengths, (0, 7))] == [
        found,
        hash_spans(buffer, starts, lengths, seed=7).tolist(),
    ]


def test_similar_texts_spread_evenly() -> None:
    """Chi-square of the low and of the high byte over 256 cells, 255 degrees of freedom: below 370 with p = .999996."""
    hashes = hash_texts([f"item-{number:09d}" for number in range(50_000)])
    assert len(np.unique(hashes)) == len(hashes)
    for shift in (0, 56):
        seen = np.bincount((hashes >> np.uint64(shift)).astype(np.int64) & 255, minlength=256)
        expected = len(hashes) / 256
        assert ((seen - expected) ** 2 / expected).sum() < 370


def test_the_spans_of_texts_are_their_bytes() -> None:
    for texts in (["a", "", "bcd"], ["ä", "日本", "a"], []):
        data, starts, lengths = spans_of(texts)
        cut = [data[s : s + n].decode() for s, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
        assert cut == texts
