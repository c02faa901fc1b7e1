"""Records that are joined in blocks beside a plain join of all of them."""

import random

import numpy as np
import pytest

from recdistill.features.written import BLOCK, Written, framed


@pytest.mark.parametrize("seed", range(4))
def test_the_bytes_are_those_of_a_plain_join_whatever_was_changed_in_between(seed: int) -> None:
    chance = random.Random(seed)
    written, plain = Written(), list[bytes]()
    made: list[int] = []

    def make(slot: int) -> bytes:
        made.append(slot)
        return plain[slot]

    for changes in (2500, 0, 3, 700, 1, 2000, 40):
        for _ in range(changes):
            slot = chance.choice([len(plain), chance.randrange(len(plain) + 1)])
            record = framed(chance.randbytes(chance.randrange(30)))
            plain[slot : slot + 1] = [record]
            written.put(slot, chance.choice([record, None]))
        joined = written.joined(make)
        assert joined.tobytes() == b"".join(plain)
        assert joined.dtype == np.uint8
        before = len(made)
        assert written.joined(make).tobytes() == joined.tobytes()
        assert len(made) == before, "what was made is kept"
    assert len(plain) > 2 * BLOCK


def test_a_copy_does_not_change_with_what_comes_later() -> None:
    written = Written()
    written.put(0, framed(b"old"))
    joined = written.joined(lambda _: b"")
    written.put(0, framed(b"new"))
    assert joined.tobytes().endswith(b"old")
    assert written.joined(lambda _: b"").tobytes().endswith(b"new")
    assert Written().joined(lambda _: b"").tobytes() == b""
