"""Limits agree with each other: what may be imported can become a ranking and an example, and no number overflows."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recdistill import limits, records
from recdistill.cli import main
from recdistill.errors import DataError, DecodeError
from recdistill.records import (
    Candidate,
    Example,
    Feedback,
    Impression,
    Ranking,
    decode,
    encode,
    encode_around,
    key_of,
)

ROOT = Path(__file__).resolve().parents[1]
WIDE = "\U0001f600"  # four bytes in UTF-8


def _largest(count: int) -> Impression:
    """An impression of so many candidates that takes all the room it may have: items to exclude fill it."""
    candidates = tuple(Candidate(f"{n:07}") for n in range(count))
    excluded = tuple(f"x{n:09}" for n in range((limits.room_of(count) - count * 11) // 12))  # 12 bytes in the record
    made = Impression("r" * limits.MAX_ID, 5, candidates=candidates, exclude=excluded)
    while True:
        try:
            encode(made)
        except DataError:
            made = msgspec.structs.replace(made, exclude=made.exclude[:-10])
        else:
            return made


@pytest.mark.parametrize("count", [27_000, 33_000, 38_000])
def test_the_largest_impression_has_room_for_the_longest_scores_and_labels(count: int) -> None:
    impression = _largest(count)
    value = encode(impression)
    assert len(value) > limits.room_of(count) - 600, "it is the largest one"
    ranking = Ranking(
        impression,
        WIDE * limits.MAX_ID,
        WIDE * limits.MAX_ID,
        "rank",
        scores=(1.5,) * count,
        scored=(True,) * count,
        scored_at_us=limits.MAX_TIME_US,
        catalogue_as_of=(1 << 63) - 1,
        sampled=0.5,
        candidates_sampled=(0.25,) * count,
    )
    scored = encode_around(ranking, value)
    example = Example(ranking, labels=(1.0,) * count, label_state="closed")
    joined = encode_around(example, scored)
    assert decode(Example, joined) == example
    assert len(joined) + len(key_of(example)) <= limits.MAX_BYTES


def test_a_ranking_from_outside_has_room_for_its_labels_or_is_refused() -> None:
    count = 50_000
    small = Impression("r", 5, candidates=tuple(Candidate(f"{n:05}") for n in range(count)))
    with pytest.raises(
        DataError, match=r"cannot write this impression: 4\d\d,\d\d\d bytes with its key, more than 342,000"
    ):
        encode(small)
    ranking = Ranking(small, "t", "1", "logit", scores=(1.5,) * count, scored=(True,) * count)
    assert len(encode(ranking)) < limits.room_of_ranking(count)
    longer = msgspec.structs.replace(
        ranking, impression=msgspec.structs.replace(small, exclude=tuple(f"x{n:09}" for n in range(18_000)))
    )
    with pytest.raises(DataError, match=r"this ranking: .* the scores and labels of 50,000 candidates need the rest"):
        encode(longer)


def test_bounds_are_the_same_before_and_after_the_wire() -> None:
    """A 32-bit float is rounded. What may be written may also be read."""
    for value in (limits.MAX_VALUE, -limits.MAX_VALUE):
        assert decode(Feedback, encode(Feedback("f", "r", "a", "buy", value, 1))).value == value
    asked = Impression("r", 5, candidates=(Candidate("a", limits.MAX_SCORE, limits.MIN_CHANCE),))
    assert decode(Impression, encode(asked)).candidates[0].propensity == limits.MIN_CHANCE
    least = float(np.float32(limits.MIN_CHANCE))
    ranking = Ranking(
        asked, "t", "1", "logit", (-limits.MAX_SCORE,), (True,), sampled=least, candidates_sampled=(least,)
    )
    example = Example(ranking, labels=(limits.MAX_LABEL,), label_state="closed")
    assert decode(Example, encode(example)).ranking.sampled == limits.MIN_CHANCE
    assert np.isfinite(np.float32(limits.MAX_SCORE) ** 2 * limits.MAX_CANDIDATES)
    assert np.isfinite(np.float32(1) / np.float32(limits.MIN_CHANCE) * np.float32(limits.MAX_LABEL))


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (Feedback, '{"id": "f", "impression_id": "r", "item": "a", "action": "buy", "value": 3e38}', "value is 3e+38"),
        (Impression, '{"id": "r", "time_us": 5, "candidates": [{"item": "a", "propensity": 1e-40}]}', "too small"),
        (
            Impression,
            '{"id": "r", "time_us": 5, "candidates": [{"item": "a", "logged_score": 1e13}]}',
            "a number between",
        ),
        (records.Item, '{"id": "a", "attributes": {"v": [1e300]}}', "attributes.v[0] is 1e+300, not a finite 32-bit"),
    ],
)
def test_a_number_that_would_overflow_later_is_refused_at_once(kind: type, text: str, problem: str) -> None:
    with pytest.raises(DecodeError) as refused:
        decode(kind, text.encode())
    assert problem in str(refused.value)


def test_a_weight_that_is_not_finite_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for setting, said in (("join.labels.buy=1e30", "<= 1000"), ("score.budget=1e-40", ">= 1e-06")):
        assert main(["join", "--drain", "--set", f"log.path={tmp_path}/log.sqlite", "--set", setting]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_what_an_import_refuses_says_how_much_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the way in, and not at the scorer or the joiner, one sentence with the numbers; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert main(["topics", "create"]) == 0
    for count in (44_000, 60_000):
        listed = [f"item-{n:06}" for n in range(count)]
        natural = {"id": "r-1", "time_us": 5, "candidates": [{"item": item} for item in listed]}
        Path("lists.jsonl").write_text(json.dumps(natural) + "\n")
        Path("lists.csv").write_text("id,time,candidates\nr-1,5," + "|".join(listed[:9_000]) + "\n")
        capsys.readouterr()
        assert main(["import", "lists.jsonl", "--kind", "impressions"]) == 3
        said = capsys.readouterr().err
        assert said.startswith("error: lists.jsonl")
        assert said.count("\n") == 1
        assert ("send fewer candidates" if count < limits.MAX_CANDIDATES else "more than 50000") in said
    assert main(["inspect", "impressions"]) == 0
    assert capsys.readouterr().out == "impressions holds nothing yet\n"
    assert main(["import", "lists.csv", "--kind", "impressions"]) == 0


def test_the_page_has_the_limits() -> None:
    page = (ROOT / "docs/records.md").read_text()
    for limit in (
        limits.MAX_BYTES,
        limits.MAX_CANDIDATES,
        limits.MAX_EXCLUDE,
        limits.MAX_HISTORY,
        limits.MAX_TEXT,
        limits.MAX_VALUES,
        limits.MAX_FIELDS,
        limits.MAX_ID,
    ):
        assert f"{limit:,}" in page
