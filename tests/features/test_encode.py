"""Batches against a slow, literal encoder."""

import math
import time
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.features import (
    AGE_BUCKETS,
    Catalogue,
    FeatureError,
    FeatureSpec,
    Field,
    HistorySpec,
    IdSpec,
    Vocabulary,
    age_buckets,
    encode_examples,
    encode_requests,
)
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking, Value

SPEC = FeatureSpec(
    history=HistorySpec(length=4, actions=("view", "buy")),
    id=IdSpec(capacity=100),
    context={
        "device": Field("category", capacity=3, max_values=1),
        "hour": Field("number", mean=12.0, std=6.0),
        "query": Field("text", capacity=20, max_values=3),
        "taste": Field("vector", size=2),
    },
)


@dataclass
class OtherRequest:
    """Anything of the shape of a request."""

    history: list[Event] = field(default_factory=list)
    context: dict[str, Value] = field(default_factory=dict)
    time_us: int = 0


def world(count: int = 6) -> tuple[FeatureSpec, Vocabulary, Catalogue]:
    vocabulary = Vocabulary(SPEC)
    catalogue = Catalogue(SPEC, vocabulary)
    for index in range(count):
        catalogue.apply(Item(f"i{index}", withdrawn=index == 2), admit=True)
    return SPEC, vocabulary, catalogue


events = st.builds(
    Event,
    st.sampled_from([f"i{index}" for index in range(8)]),  # i6 and i7 are not in the catalogue
    st.sampled_from([0, 1, 999_999, 1_000_000, 50_000_000, 70_000_000]),
    st.sampled_from(["", "view", "buy", "other"]),
)
requests_ = st.builds(
    OtherRequest,
    st.lists(events, max_size=9),
    st.fixed_dictionaries(
        {}, optional={"device": st.sampled_from(["phone", "tv"]), "hour": st.just(15.0), "more": st.just("x")}
    ),
    st.sampled_from([0, 1_000_000, 60_000_000]),
)


def bucket(age_us: int) -> int:
    if age_us <= 0:
        return 0
    whole = (age_us + 1_000_000) // 1_000_000  # floor of 1 + seconds: floor(log2) sees nothing of the fraction
    return 1 + min(30, whole.bit_length() - 1)


@tries(200)
@given(st.lists(requests_, max_size=5))
def test_histories_follow_their_definition(requests: list[OtherRequest]) -> None:
    spec, vocabulary, catalogue = world()
    out = encode_requests(spec, vocabulary, catalogue, requests)
    for row, request in enumerate(requests):
        expected: list[tuple[int, int, int]] = []
        unknown = 0
        for event in request.history[::-1]:
            if len(expected) == 4:
                break
            if request.time_us and event.time_us and event.time_us >= request.time_us:
                continue
            if event.item in ("i6", "i7"):
                unknown += 1
                continue
            age = request.time_us - event.time_us if request.time_us and event.time_us else 0
            expected.append((int(event.item[1]), {"view": 1, "buy": 2}.get(event.action, 0), bucket(age)))
        expected += [(-1, 0, 0)] * (4 - len(expected))
        columns = (out.history_slots_BH[row], out.history_actions_BH[row], out.history_ages_BH[row])
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
        assert out.unknown_B[row] == unknown
    assert out.history_slots_BH.shape == (len(requests), 4)
    assert all(array.dtype == np.int32 for array in (out.history_slots_BH, out.history_actions_BH, out.history_ages_BH))


def test_ages_have_exact_borders() -> None:
    ages = [0, 1, 999_999, 1_000_000, 2_999_999, 3_000_000, 2**62]
    ages += [(2**power - 1) * 1_000_000 + step for power in range(1, 31) for step in (-1, 0, 1)]
    assert age_buckets(np.array(ages)).tolist() == [bucket(age) for age in ages]
    assert age_buckets(np.array([-5])).tolist() == [0]
    assert max(age_buckets(np.array(ages))) == AGE_BUCKETS - 1
    for age in (3.5, 100.0, 86_400.0 * 40):  # the formula as it stands in the header
        assert age_buckets(np.array([int(age * 1e6)]))[0] == 1 + min(30, math.floor(math.log2(1 + age)))


def test_anything_of_the_shape_of_a_request_gives_the_same() -> None:
    spec, vocabulary, catalogue = world()
    history = (Event("i1", 5, "view"), Event("i6", 7), Event("i3", 9, "buy"))
    context: dict[str, Value] = {"device": "phone", "hour": 9.0, "query": "red shoes", "taste": [1.0, 2.0]}
    impression = Impression("r", 1_000_000, history=history, context=context)
    one = encode_requests(spec, vocabulary, catalogue, [impression])
    other = encode_requests(spec, vocabulary, catalogue, [OtherRequest(list(history), context, 1_000_000)])
    for name in ("history_slots_BH", "history_actions_BH", "history_ages_BH", "unknown_B"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in one.context:
        np.testing.assert_array_equal(one.context[name], other.context[name])


def test_context_is_encoded_by_field_and_admitted_in_order() -> None:
    spec, vocabulary, catalogue = world()
    requests = [OtherRequest(context={"device": name}) for name in ("tv", "phone", "tv", "watch", "car")]
    assert encode_requests(spec, vocabulary, catalogue, requests).context["device"].tolist() == [[0]] * 5
    admitted = encode_requests(spec, vocabulary, catalogue, requests, admit=True).context["device"]
    assert admitted.tolist() == [[1], [2], [1], [3], [0]]
    out = encode_requests(
        spec, vocabulary, catalogue, [OtherRequest(context={"hour": 18.0, "unknown": [1.0]}), OtherRequest()]
    )
    assert out.context["hour"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert out.context["device"].tolist() == [[-1], [-1]]
    assert out.context["query"].shape == (2, 3)
    assert out.context["taste"].shape == (2, 2)
    assert set(out.context) == {"device", "hour", "query", "taste"}


def test_a_wrong_context_value_is_named_or_set_aside() -> None:
    spec, vocabulary, catalogue = world()
    requests = [OtherRequest(context={"hour": 3.0}), OtherRequest(context={"hour": [3.0]}), OtherRequest()]
    with pytest.raises(FeatureError, match=r"request 1: context\.hour: must be a number or a flag") as caught:
        encode_requests(spec, vocabulary, catalogue, requests)
    assert (caught.value.field, caught.value.row) == ("context.hour", 1)
    errors: list[FeatureError] = []
    out = encode_requests(spec, vocabulary, catalogue, requests, errors=errors)
    assert [error.row for error in errors] == [1]
    assert out.context["hour"][:, 1].tolist() == [1, 0, 0]


def example(items: list[str], scored: list[bool], state: str = "closed") -> Example:
    impression = Impression("r", 5, candidates=tuple(Candidate(item) for item in items))
    scores = tuple(float(index + 1) for index in range(len(items)))
    ranking = Ranking(impression, "t", "1", "logit", scores, tuple(scored))
    return msgspec.convert({"ranking": ranking, "labels": scores, "label_state": state}, Example)


def test_lists_are_padded_and_masked() -> None:
    spec, vocabulary, catalogue = world()
    batch = [
        example(["i3", "zz", "i2"], [True, True, False]),
        example(["i0"], [True], "none"),
        example([], [], "labels"),
    ]
    lists = encode_examples(spec, vocabulary, catalogue, batch)
    assert lists.candidate_slots_BL.tolist() == [[3, -1, 2], [0, -1, -1], [-1, -1, -1]]
    assert lists.where_BL.tolist() == [[True, False, True], [True, False, False], [False] * 3]
    assert lists.scored_BL.tolist() == [[True, False, False], [True, False, False], [False] * 3]
    assert lists.teacher_scores_BL.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert lists.labels_BL.tolist() == [[1, 0, 3], [1, 0, 0], [0, 0, 0]]
    assert lists.label_known_B.tolist() == [True, False, True]
    assert lists.soft_B.tolist() == [True, True, False]
    assert lists.requests.history_slots_BH.shape == (3, 4)
    types = (np.int32, np.bool_, np.float32, np.bool_, np.float32)
    arrays = (lists.candidate_slots_BL, lists.where_BL, lists.teacher_scores_BL, lists.scored_BL, lists.labels_BL)
    assert [array.dtype for array in arrays] == list(types)


def test_a_list_and_a_candidate_weigh_what_they_stand_for() -> None:
    spec, vocabulary, catalogue = world()
    whole, part, none = (
        example(["i3", "i2"], [True, True]),
        example(["i0", "i1"], [True, False]),
        example(["i0"], [False]),
    )
    assert encode_examples(spec, vocabulary, catalogue, [whole]).offsets_BL is None
    replace = msgspec.structs.replace
    part = replace(part, ranking=replace(part.ranking, candidates_sampled=(0.5, 0.125)))
    none = replace(none, ranking=replace(none.ranking, sampled=0.25))
    lists = encode_examples(spec, vocabulary, catalogue, [whole, part, none])
    assert lists.weights_B.tolist() == [1, 1, 4]
    assert lists.offsets_BL is not None
    assert np.exp(lists.offsets_BL) == pytest.approx(np.array([[1, 1], [2, 8], [1, 1]]))
    assert lists.labels_BL[2].tolist() == [1, 0]  # what was not put to the teacher still has its labels


def test_empty_batches_have_their_shapes() -> None:
    spec, vocabulary, catalogue = world()
    assert encode_examples(spec, vocabulary, catalogue, []).candidate_slots_BL.shape == (0, 1)
    assert encode_requests(spec, vocabulary, catalogue, []).context["taste"].shape == (0, 2)


def test_a_full_batch_is_quick() -> None:
    """512 lists of 128 candidates, 50 events each; the bound leaves room for a busy machine."""
    spec = FeatureSpec(context={"hour": Field("number")})
    vocabulary = Vocabulary(spec)
    catalogue = Catalogue(spec, vocabulary)
    for index in range(2_000):
        catalogue.apply(Item(f"item{index}"), admit=True)
    history = tuple(Event(f"item{index * 31 % 2000}", 1_000 + index) for index in range(50))
    candidates = tuple(Candidate(f"item{index * 7}") for index in range(128))
    impression = Impression("r", 10_000, history=history, context={"hour": 3.0}, candidates=candidates)
    one = Example(Ranking(impression, "t", "1", "logit", (0.5,) * 128, (True,) * 128), (0.0,) * 128)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        lists = encode_examples(spec, vocabulary, catalogue, [one] * 512)
        best = min(best, time.perf_counter() - start)
    assert lists.where_BL.all()
    assert best < 0.2
