"""Parity, where a golden answer has no number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from support.judgements import make_judgement

from recdistill.judge.artefact import parity
from recdistill.judge.gates import checks
from recdistill.judge.judgement import from_json, to_json
from recdistill.judge.policy import Asked


def recommender(items: list[str], scores: list[float]) -> Any:
    """A recommender with one golden answer, of items a and b with scores 1 and 2."""
    golden = SimpleNamespace(history=(), context={}, time_us=0, items=("a", "b"), scores=(1.0, 2.0))
    bundle = SimpleNamespace(manifest=SimpleNamespace(provenance={}), golden=[golden])
    return SimpleNamespace(bundle=bundle, rank=lambda *_: SimpleNamespace(items=items, scores=scores))


@pytest.mark.parametrize(
    ("items", "scores"), [(["a", "b"], [1.0, np.nan]), (["a", "b"], [np.nan, 2.0]), (["a"], [1.0])]
)
def test_a_score_that_is_no_number_or_missing_is_the_largest_difference(items: list[str], scores: list[float]) -> None:
    found = parity(recommender(items, scores))
    judgement = msgspec.structs.replace(make_judgement(), parity=found)
    [check] = [one for one in checks(judgement, Asked()) if one.name == "parity"]
    assert check.verdict == "refused"
    assert from_json(to_json(judgement)) == judgement
    assert parity(recommender(["b", "a"], [2.0, 1.5]))["golden answers"] == 0.5
