"""What `recdistill evaluate` prints of a judgement."""

from __future__ import annotations

import msgspec
from support.judgements import make_judgement

from recdistill.commands.evaluate import _table
from recdistill.judge import Asked, gate
from recdistill.judge.judgement import Difference, Interval


def test_a_refusal_says_where_to_read_on() -> None:
    judgement, policy = make_judgement(), Asked()
    passed = gate(judgement, policy)
    refused = msgspec.structs.replace(passed, passed=False, verdict="refused", reasons=["retention: too little"])
    assert "what to do then" not in _table(judgement, passed)
    assert _table(judgement, refused).endswith('what to do then: docs/promotion.md, "When the gate refuses"')


def test_what_stands_beside_it_is_compared_in_one_line() -> None:
    judgement = make_judgement()
    apart = Difference(
        a="student", b="beside abc", metric="ndcg@10", interval=Interval(mean=-0.002, low=-0.01, high=0.006)
    )
    other = msgspec.structs.replace(apart, metric="mrr")
    told = _table(msgspec.structs.replace(judgement, differences=[apart, other]), gate(judgement, Asked()))
    assert told.count("less abc") == 1
    assert "student less abc, on the same lists: -0.0020 ndcg@10 (95% interval -0.0100 to +0.0060)" in told
