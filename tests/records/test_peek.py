"""Whether a few bytes of an example say the same of its labels as the whole record does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from recdistill.records import Candidate, Event, Example, Impression, Ranking, decode, encode, may_have_label, to_json


def example(labels: list[float], events: int) -> Example:
    history = tuple(Event(f"seen-{n}", n + 1, "click") for n in range(events))
    candidates = tuple(Candidate(f"item-{n}") for n in range(len(labels)))
    impression = Impression("i" * (1 + events), 1000, "u", history, {"hour": "3"}, candidates)
    ranking = Ranking(impression, "t", "1", "logit", (0.5,) * len(labels), (True,) * len(labels))
    return Example(ranking, tuple(labels), "closed")


@given(some.lists(some.sampled_from([0.0, 0.0, 0.0, 1.0, 0.25]), min_size=1, max_size=300), some.integers(0, 40))
def test_it_says_what_the_whole_record_says(labels: list[float], events: int) -> None:
    value = encode(example(labels, events))
    assert may_have_label(value) == any(label > 0 for label in decode(Example, value).labels)


@given(some.integers(0, 400))
def test_of_bytes_that_are_cut_short_it_says_nothing(length: int) -> None:
    assert may_have_label(encode(example([0.0, 1.0], 3))[:length])


def test_other_forms_have_to_be_decoded() -> None:
    assert may_have_label(None)
    assert may_have_label(b"")
    assert may_have_label(to_json(example([0.0], 0)))
    assert may_have_label(b"\x00\x00\x00\x00\x07" + encode(example([0.0], 0))[5:])


def test_labels_in_two_parts_have_to_be_decoded() -> None:
    """Protobuf lets a writer cut a list of numbers into parts. The second part may hold the label."""
    value, none = encode(example([0.0, 1.0], 2)), encode(example([0.0, 0.0], 2))
    whole = b"\x12\x08" + np.array([0.0, 1.0], "<f4").tobytes()
    parts = b"\x12\x04" + bytes(4) + b"\x12\x04" + np.array([1.0], "<f4").tobytes()
    assert value.count(whole) == 1
    cut = value.replace(whole, parts)
    assert decode(Example, cut) == decode(Example, value)
    assert may_have_label(cut)
    assert not may_have_label(none)
