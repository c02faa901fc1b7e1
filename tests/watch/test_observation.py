"""What is cut out of a batch for one teacher, and the statistics that hang on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from support.teacher_streams import L, Stream

from recdistill.watch import Observation, Watch
from recdistill.watch.figures import Figure


@pytest.fixture
def batch() -> Observation:
    return Stream(0, name=lambda at: "ab"[at % 2]).batch(40)


def test_a_teacher_sees_its_own_lists_with_their_place_in_the_stream(batch: Observation) -> None:
    seen = batch.of("b", 100)
    assert seen is not None
    assert seen.at_B.tolist() == list(range(101, 140, 2))
    assert (seen.scores_BL == np.asarray(batch.scores_BL)[1::2]).all()
    assert (seen.units_BL == seen.scores_BL).all()
    assert batch.of("c", 100) is None


def test_lists_with_fewer_than_two_scores_are_left_out(batch: Observation) -> None:
    scored = batch.scored_BL.copy()
    scored[1] = np.arange(L) == 3
    cut = replace(batch, scored_BL=scored)
    seen = cut.of("b", 0)
    assert seen is not None
    assert seen.at_B.tolist() == list(range(3, 40, 2))
    assert cut.judged.tolist() == [n != 1 for n in range(40)]
    assert replace(batch, scored_BL=np.zeros_like(scored)).of("b", 0) is None


def test_a_label_counts_where_there_is_a_score_and_a_student_that_is_no_number_nowhere(batch: Observation) -> None:
    student = np.array(batch.student_BL)
    student[3, 0] = np.nan
    odd = replace(batch, student_BL=student, labelled_BL=batch.labelled_BL & (np.arange(L) % 2 == 0))
    seen = odd.of("b", 0)
    assert seen is not None
    assert (seen.witnessed_BL == (batch.scored_BL & (np.arange(L) % 2 == 0))[1::2]).all()
    assert np.isnan(seen.order[1])
    for row in (0, 2, 3):
        real = seen.scored_BL[row]
        expected = stats.spearmanr(seen.scores_BL[row, real], seen.student_BL[row, real]).statistic
        assert seen.order[row] == pytest.approx(expected)


def test_a_list_whose_labels_come_later_is_counted_once(batch: Observation) -> None:
    """A watch that sees scores first and labels later knows the same as one that sees both at once."""
    apart, at_once = Watch(spread=0.0), Watch(spread=0.0)
    unknown, none = np.zeros_like(batch.labelled_BL), np.zeros(40, bool)
    for number in range(12):
        whole = Stream(number, name=lambda at: "a@1").batch(40)
        at_once.weigh(whole)
        apart.weigh(replace(whole, labelled_BL=unknown))
        apart.weigh(replace(whole, first_B=none, student_BL=np.asarray(whole.student_BL)[:, ::-1]))
    mine, theirs = (one.now.known["a@1"].detectors for one in (apart, at_once))

    def known(figure: Figure) -> tuple[float, ...]:
        return figure.weight, figure.total, figure.squares, figure.low, figure.low_run, figure.high, figure.high_run

    assert known(mine.order.reference) == known(theirs.order.reference)
    assert known(mine.scale.spread) == known(theirs.scale.spread)
    assert known(mine.labels.reference) == known(theirs.labels.reference)
    assert (mine.chance.proven, mine.chance.lists) == (theirs.chance.proven, theirs.chance.lists)
    assert apart.now.known["a@1"].calibration == at_once.now.known["a@1"].calibration
    assert mine.labels.reference.weight > 100
