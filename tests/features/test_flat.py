"""Columns encoded beside the same examples encoded one by one."""

import random
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from recdistill.features import (
    Catalogue,
    FeatureError,
    FeatureSpec,
    Field,
    HistorySpec,
    IdSpec,
    Lists,
    Requests,
    Vocabulary,
    encode_columns,
    encode_examples,
)
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking, decode, encode, read_columns

SPEC = FeatureSpec(
    history=HistorySpec(length=4, actions=("view", "buy")),
    id=IdSpec(capacity=100),
    context={
        "device": Field("category", capacity=3, max_values=2),
        "hour": Field("number", mean=12.0, std=6.0),
        "query": Field("text", capacity=20, max_values=3),
    },
)


def world() -> tuple[Vocabulary, Catalogue]:
    vocabulary = Vocabulary(SPEC)
    catalogue = Catalogue(SPEC, vocabulary)
    for index in range(30):
        catalogue.apply(Item(f"i{index}", withdrawn=index == 2), admit=True)
    return vocabulary, catalogue


def example(chance: random.Random) -> Example:
    now = chance.choice([0, 50, 1000])
    known = sorted(chance.randrange(1, now + 1 if now else 2000) for _ in range(chance.randrange(9)))
    times = [0 if chance.random() < 0.2 else time for time in known]
    # i30 to i35 are in no catalogue
    history = [Event(f"i{chance.randrange(36)}", time, chance.choice(["", "view", "buy", "like"])) for time in times]
    listed = chance.sample([f"i{index}" for index in range(36)], chance.randrange(8))
    scored = tuple(chance.random() < 0.8 for _ in listed)
    context: dict[str, Any] = {}
    for name, values in {
        "device": ["phone", "tv", ["watch", "car"], 3.0],
        "hour": [3.0, True, [1.0]],  # a list is of the wrong kind
        "query": ["red shoes", "blue", ["a", "b"]],
        "other": ["x"],
    }.items():
        if chance.random() < 0.5:
            context[name] = chance.choice(values)
    ranking = Ranking(
        Impression(
            "r",
            now,
            history=tuple(history),
            context=context,
            candidates=tuple(Candidate(one, None, chance.choice([None, 1.0, 0.25, 0.01])) for one in listed),
            origin=chance.choice(["product", "served"]),
        ),
        "t",
        "1",
        "logit",
        tuple(chance.gauss(0, 1) for _ in listed),
        scored,
        sampled=chance.choice([1.0, 0.3, 0.01]),
        candidates_sampled=tuple(chance.random() for _ in listed) if chance.random() < 0.3 else (),
    )
    labels = tuple(float(chance.random() < 0.2) for _ in listed)
    return Example(ranking, labels, chance.choice(["none", "closed"]))


def same(found: Lists | Requests, expected: Lists | Requests) -> None:
    for field in fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, Requests):
            same(one, other)
        elif isinstance(other, dict):
            assert list(one) == list(other)
            for name in other:
                assert (one[name].dtype, one[name].tobytes()) == (other[name].dtype, other[name].tobytes()), name
        elif other is None:
            assert one is None
        else:
            assert (one.dtype, one.shape) == (other.dtype, other.shape), field.name
            assert one.tobytes() == other.tobytes(), field.name


@pytest.mark.parametrize("length", [1, 4, 50])
def test_columns_give_the_bytes_that_examples_give(length: int) -> None:
    """And the vocabulary is the same, also where values of the wrong kind stand between."""
    chance = random.Random(length)
    history = HistorySpec(length=length, actions=SPEC.history.actions)
    spec = FeatureSpec(history=history, id=SPEC.id, context=SPEC.context)
    (vocabulary, catalogue), (other_vocabulary, other_catalogue) = world(), world()
    admitted: set[str] = set()
    for _ in range(40):
        values = [encode(example(chance)) for _ in range(chance.randrange(1, 9))]
        columns, refused = read_columns(Example, values)
        assert not refused
        examples = [decode(Example, value) for value in values]
        errors: list[FeatureError] = []
        other_errors: list[FeatureError] = []
        found = encode_columns(spec, vocabulary, catalogue, columns, admit=True, errors=errors)
        expected = encode_examples(spec, other_vocabulary, other_catalogue, examples, admit=True, errors=other_errors)
        same(found, expected)
        assert list(map(str, errors)) == list(map(str, other_errors))
        admitted.update(vocabulary.admitted("context.device"))
    assert vocabulary.hash == other_vocabulary.hash
    assert len(admitted) == 3


def test_a_wrong_context_value_is_named_where_nobody_collects_errors() -> None:
    vocabulary, catalogue = world()
    asked = Impression("r", 9, context={"hour": [3.0]})
    columns, _ = read_columns(Example, [encode(Example(Ranking(asked, "t", "1", "logit", (), ()), ()))])
    with pytest.raises(FeatureError, match=r"request 0: context\.hour: must be a number or a flag"):
        encode_columns(SPEC, vocabulary, catalogue, columns)


def test_no_lists_have_the_shapes_of_none() -> None:
    vocabulary, catalogue = world()
    same(
        encode_columns(SPEC, vocabulary, catalogue, read_columns(Example, [])[0]),
        encode_examples(SPEC, vocabulary, catalogue, []),
    )


def test_an_item_that_was_released_or_came_is_followed() -> None:
    vocabulary, catalogue = world()
    asked = Impression("r", 9, candidates=(Candidate("i3"), Candidate("new")))
    ranking = Ranking(asked, "t", "1", "logit", (1.0, 2.0), (True, True))
    columns, _ = read_columns(Example, [encode(Example(ranking, (0.0, 0.0)))])
    assert encode_columns(SPEC, vocabulary, catalogue, columns).candidate_slots_BL.tolist() == [[3, -1]]
    catalogue.release("i3")
    assert encode_columns(SPEC, vocabulary, catalogue, columns).candidate_slots_BL.tolist() == [[-1, -1]]
    catalogue.apply(Item("new"), admit=True)
    assert encode_columns(SPEC, vocabulary, catalogue, columns).candidate_slots_BL.tolist() == [[-1, 3]]
    assert np.array_equal(encode_columns(SPEC, vocabulary, catalogue, columns).where_BL, [[False, True]])
