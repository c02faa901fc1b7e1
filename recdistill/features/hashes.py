"""64-bit hashes of many texts at once: the same on every machine, in every process and in every version.

A text is its bytes in UTF-8. They are taken eight at a time, as little-endian numbers (the last one filled up with
zeros). Each number is mixed into the state, and at the end so is the length. The mixing is the finaliser of SplitMix64
(Steele, Lea, Flood, OOPSLA 2014). It is fast and spreads well. With a seed that everybody knows it is no defence
against somebody who looks for two texts with one hash. So whoever must tell texts apart takes a secret seed.

It knows nothing of rows or tables.

Example:
    >>> of = hash_texts(["a", "b", "a"])
    >>> bool(of[0] == of[2]), bool(of[0] == of[1])
    (True, False)
    >>> hash_spans(b"xaby", np.array([1, 2]), np.array([1, 1])).tolist() == of[:2].tolist()
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.integer[Any]]

Buffer = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

_START: Final = np.uint64(0xD6E8FEB86659FD93)
_WORD: Final = 8
# By number of bytes: a mask that keeps so many, the first ones of a little-endian number.
_KEEP: Final = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], dtype=np.uint64)


def hash_texts(texts: Sequence[str], *, seed: int = 0) -> Hashes:
    """Hashes of N texts, uint64 `[N]`; another seed gives other hashes."""
    return hash_spans(*spans_of(texts), seed=seed)


def spans_of(texts: Sequence[str]) -> tuple[bytes, Integers, Integers]:
    """The bytes of N texts one behind the other; where each begins, and its length in bytes, int64 `[N]`."""
    joined = "".join(texts)
    if joined.isascii():
        data, lengths = joined.encode(), [len(text) for text in texts]
    else:
        each = [text.encode("utf-8", "surrogatepass") for text in texts]
        data, lengths = b"".join(each), [len(one) for one in each]
    starts = np.fromiter(accumulate(lengths, initial=0), np.int64, len(lengths) + 1)[:-1]
    return data, starts, np.array(lengths, np.int64)


def hash_spans(data: Buffer, starts_N: Integers, lengths_N: Integers, *, seed: int = 0) -> Hashes:
    """Hashes of N pieces of one buffer, uint64 `[N]`. Each piece is a text in UTF-8.

    Args:
        data: The buffer.
        starts_N: Where each piece begins.
        lengths_N: Its length in bytes.
        seed: See `hash_texts`.
    """
    return several_hashes(data, starts_N, lengths_N, (seed,))[0]


def several_hashes(data: Buffer, starts_N: Integers, lengths_N: Integers, seeds: Sequence[int]) -> list[Hashes]:
    """As `hash_spans`, for several seeds: the buffer is read once."""
    states = [np.full(len(starts_N), np.uint64(seed) ^ _START, np.uint64) for seed in seeds]
    lengths_N = lengths_N.astype(np.int64, copy=False)
    buffer = np.concatenate([np.frombuffer(data, np.uint8), np.zeros(_WORD, np.uint8)])
    # The number that begins at each byte.
    words: npt.NDArray[np.uint64] = np.ndarray((len(buffer) - _WORD + 1,), "<u8", buffer.data, strides=(1,))
    left_N, at_N = lengths_N, starts_N.astype(np.int64, copy=False)
    chosen: Any = slice(None)  # the pieces that have bytes left
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2^64
        while len(left_N):
            if left_N.min() <= 0:
                more = np.flatnonzero(left_N > 0)
                chosen = more if isinstance(chosen, slice) else chosen[more]
                left_N, at_N = left_N[more], at_N[more]
                continue
            word_N = words[at_N] & _KEEP[np.minimum(left_N, _WORD)]
            for state_N in states:
                # The whole finaliser each time: after one multiplication, a change of the top bit would be undone by
                # a known change of the next number, whatever the seed.
                state_N[chosen] = mixed_of(state_N[chosen] ^ word_N)
            left_N, at_N = left_N - _WORD, at_N + _WORD
    return [mixed_of(state_N ^ lengths_N.astype(np.uint64)) for state_N in states]


def mixed_of(states_N: Hashes) -> Hashes:
    """The finaliser of SplitMix64: each bit of a state moves half of the bits of the result."""
    with np.errstate(over="ignore"):
        z = states_N + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)
