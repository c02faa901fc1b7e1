"""What is told: gauges for Prometheus, and one line for a person."""

from __future__ import annotations

from recdistill.loops.prequential.figures import Figure
from recdistill.loops.prequential.text import in_words, lines_of
from recdistill.loops.prequential.windows import Row


def test_gauges_have_their_help_and_one_value_for_each_line() -> None:
    few = Figure(n=1, groups=1, mean=0.25)
    row = Row(begin_us=0, end_us=1, lists=3, ndcg={"weights": few}, agreement={"champion": few})
    told = list(lines_of(row))
    assert 'recdistill_prequential_ndcg10{line="weights",lists="learnt"} 0.250000' in told
    assert 'recdistill_prequential_agreement{line="champion",lists="learnt"} 0.250000' in told
    assert 'recdistill_prequential_ndcg10_lists{line="weights",lists="learnt"} 1' in told
    assert not [line for line in told if "_low" in line]  # one list has no interval
    names = [line.split()[2] for line in told if line.startswith("# TYPE")]
    assert names == list(dict.fromkeys(line.split("{")[0] for line in told if not line.startswith("#")))
    assert list(lines_of(None)) == []


def test_what_another_version_wrote_is_left_out() -> None:
    assert in_words({}) == ""
    assert in_words({"ndcg": "much", "agreement": None}) == ""
