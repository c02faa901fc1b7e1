"""Scores in common units: against scipy, brute force and the definitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from recdistill import losses
from recdistill.features import Lists, Requests
from recdistill.watch import comparable_scores, standardised, variances
from recdistill.watch.units import MOST_WEIGHT, candidate_offsets, list_weights, teacher_logits


def lists_of(scores_BL: np.ndarray, scored_BL: np.ndarray, offsets_BL: np.ndarray | None = None) -> Lists:
    count = len(scores_BL)
    nothing = np.zeros((count, 0), np.int32)
    requests = Requests(nothing, nothing, nothing, {}, np.zeros(count, np.int32))
    scores = np.where(scored_BL, scores_BL, 0).astype(np.float32)
    known, ones = np.ones(count, bool), np.ones(count, np.float32)
    slots = np.zeros(scores.shape, np.int32)
    return Lists(
        requests, slots, scored_BL | True, scores, scored_BL, scores * 0, known, ones, offsets_BL, known | True
    )


def listed(scores_BL: list[list[float]], scored_BL: list[list[bool]]) -> Lists:
    return lists_of(np.array(scores_BL), np.array(scored_BL))


def ragged(seed: int, count: int = 60, length: int = 12) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, length)) * 3 + 5, random.random((count, length)) < random.random((count, 1))


def test_each_list_has_mean_0_and_standard_deviation_1() -> None:
    scores, scored = ragged(0)
    found = standardised(scores, scored)
    for row, real, out in zip(scores, scored, found, strict=True):
        if real.sum() >= 2:
            assert out[real] == pytest.approx(stats.zscore(row[real]))
        assert (out[~real] == 0).all()
        assert real.sum() != 1 or out[real].tolist() == [0]


@pytest.mark.parametrize("value", [3.0, 0.1, 1e30, -7e-20])
def test_equal_scores_have_no_order_to_tell(value: float) -> None:
    """Rounding in the mean must not be blown up to a spread of 1."""
    assert not standardised(np.full((1, 7), value), np.ones((1, 7), bool)).any()


def test_short_lists_take_their_teachers_spread() -> None:
    random = np.random.default_rng(1)
    long = random.normal(size=(50, 40)) * 4.0
    pairs = np.zeros((2, 40))
    pairs[:, :2] = [[1.0, 0.0], [0.001, 0.0]]
    scored = np.ones((52, 40), bool)
    scored[50:, 2:] = False
    scores = np.vstack([long, pairs])
    alone = standardised(scores, scored)
    assert alone[50, :2] == pytest.approx(alone[51, :2])  # without a teacher's spread each pair is as sure as another
    found = standardised(scores, scored, teachers=["t"] * 52)
    common = np.median(np.append(long.var(1, ddof=1), [0.5, 0.5e-6]))
    for row, gap in ((50, 1.0), (51, 0.001)):
        expected = gap / np.sqrt((8 * common + gap**2 / 2) / 9)
        assert found[row, 0] - found[row, 1] == pytest.approx(expected)
    # A teacher of its own is its own measure.
    apart = standardised(scores, scored, teachers=["t"] * 50 + ["u"] * 2)
    assert apart[50, 0] - apart[50, 1] > 3 * (found[50, 0] - found[50, 1])
    assert apart[:50] == pytest.approx(standardised(long, scored[:50], teachers=["t"] * 50))


@pytest.mark.parametrize("method", ["standard", "rank"])
@pytest.mark.parametrize(("factor", "offset"), [(100.0, -3.0), (0.003, 40.0), (1.0, 1000.0)])
def test_a_positive_affine_map_changes_nothing(method: str, factor: float, offset: float) -> None:
    scores, scored = ragged(2)
    names = ["t", "u"] * 30
    mine = np.array([name == "t" for name in names])[:, None]
    changed = np.where(mine, factor * scores + offset, scores)
    before = comparable_scores(lists_of(scores, scored), ["logit"] * 60, names, method)
    after = comparable_scores(lists_of(changed, scored), ["logit"] * 60, names, method)
    # Where the offset is large beside the spread, float32 scores have lost digits before they came here.
    assert after == pytest.approx(before, abs=1e-4 + 2e-7 * abs(offset) / factor)
    assert before.dtype == np.float32
    as_they_are = comparable_scores(lists_of(changed, scored), ["logit"] * 60, names, "scale")
    assert as_they_are == pytest.approx(np.where(scored, changed, 0), rel=1e-6)


def test_where_a_scale_changes_within_a_batch_long_lists_go_by_themselves() -> None:
    random = np.random.default_rng(4)
    scores, scored = random.normal(size=(64, 20)), np.ones((64, 20), bool)
    changed = scores * np.where(np.arange(64) < 20, 1.0, 1000.0)[:, None]
    found = standardised(changed, scored, teachers=["t"] * 64)
    assert found[:20].std(1) == pytest.approx(1)
    assert found == pytest.approx(standardised(scores, scored, teachers=["t"] * 64), rel=0.25)


def test_ranks_care_for_the_order_alone() -> None:
    scores, scored = ragged(3)
    names, scales = ["t"] * 60, ["logit"] * 60
    before = comparable_scores(lists_of(scores, scored), scales, names, "rank")
    assert comparable_scores(lists_of(np.exp(scores), scored), scales, names, "rank") == pytest.approx(before)
    assert comparable_scores(lists_of(np.exp(scores), scored), scales, names, "standard") != pytest.approx(
        before, abs=0.5
    )


def test_the_unit_of_ranks_cares_for_the_order_alone() -> None:
    """Scores whose order is right but whose values mean nothing may be times in seconds, or counts of millions."""
    scores, scored = ragged(3)
    seconds = 1.7e9 + 1e4 * np.round(100 * scores)  # so far apart that 32 bits keep their order
    names, scales = ["t"] * 60, ["rank"] * 60
    small, large = (lists_of(one, scored) for one in ((seconds - 1.7e9) / 1e7, seconds))
    units = [comparable_scores(one, scales, names, "teacher") for one in (small, large)]
    assert np.array_equal(units[0], units[1])
    spreads = [variances(one, unit) for one, unit in zip((small, large), units, strict=True)]
    assert np.array_equal(spreads[0], spreads[1])
    assert (spreads[1][scored.sum(1) >= 2] > 0.05).all()


@pytest.mark.parametrize("value", [3.0, 0.1, 1e12, -7e-20])
def test_equal_scores_are_0_in_their_teachers_unit(value: float) -> None:
    lists = lists_of(np.full((1, 7), value), np.ones((1, 7), bool))
    units = comparable_scores(lists, ["logit"], ["t"], "teacher")
    assert not units.any()
    assert not variances(lists, units).any()


def test_a_part_is_measured_as_the_whole_that_it_stands_for() -> None:
    whole = np.array([[3.0, 1.0, 1.0, 1.0, -2.0]])
    part, chances = np.array([[3.0, 1.0, -2.0]]), np.array([[1.0, 1 / 3, 1.0]])
    offsets = -np.log(chances).astype(np.float32)
    for method in ("standard", "rank"):
        got = comparable_scores(lists_of(part, part < 9, offsets), ["logit"], ["t"], method)
        if method == "standard":
            expected = standardised(whole, whole < 9)[0, [0, 1, 4]]
            # The prior counts candidates that were really scored: of three, not of five.
            assert got[0] / np.linalg.norm(got) == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
        assert np.average(got[0], weights=1 / chances[0]) == pytest.approx(0, abs=1e-6)


def test_a_list_with_one_score_is_all_zero() -> None:
    scored = np.array([[True, False, False], [False] * 3])
    for method in ("standard", "rank"):
        assert not comparable_scores(lists_of(np.full((2, 3), 4.0), scored), ["logit"] * 2, ["t"] * 2, method).any()


def test_scales() -> None:
    rows = [[0.5, 0.25, 0.0, 0.125]] * 4
    scored = [[True, True, False, True]] * 4
    logits = teacher_logits(listed(rows, scored), ["logit", "probability", "rank", "unbounded"])
    assert logits.dtype == np.float32
    assert logits[0].tolist() == rows[0]
    assert logits[1] == pytest.approx([np.log(0.5), np.log(0.25), 0.0, np.log(0.125)])
    assert logits[2] == pytest.approx([0.0, -np.log(2), 0.0, -np.log(3)])
    real = logits[3][[0, 1, 3]]
    assert (real.mean(), real.std()) == pytest.approx((0, 2), abs=1e-6)
    assert logits[3][2] == 0
    scaled = teacher_logits(listed([[50 * x + 7 for x in rows[0]]], scored[:1]), ["unbounded"])
    assert scaled[0] == pytest.approx(logits[3], abs=1e-5)
    same = teacher_logits(listed([[3.0, 3.0]], [[True, True]]), ["unbounded"])
    assert same.tolist() == [[0.0, 0.0]]
    # A probability of 0 is far down, not infinitely so.
    assert np.isfinite(teacher_logits(listed([[0.0, 1.0]], [[True, True]]), ["probability"])).all()


def test_weights_are_capped_and_depend_on_their_list_alone() -> None:
    lists = listed([[1.0, 0.0]] * 40, [[True, True]] * 39 + [[False, False]])
    weights_B = np.ones(40, np.float32)
    weights_B[0], weights_B[1], weights_B[39] = 1e6, 4.0, 1e9  # the last has no scores: its weight means nothing
    known_B = np.arange(40) != 2
    found_B = list_weights(dataclasses.replace(lists, weights_B=weights_B, soft_B=known_B))
    assert found_B.tolist() == [MOST_WEIGHT, 4.0, 0.0] + [1.0] * 36 + [0.0]
    assert list_weights(lists).tolist() == [1.0] * 39 + [0.0]
    assert candidate_offsets(lists).tolist() == [[0.0]]


def test_a_candidate_that_stands_for_three_moves_the_student_as_three_would() -> None:
    """The gradient at a candidate of probability 1/3 is the sum of those at three equal candidates."""
    student = torch.tensor([[0.3, -1.0, 0.5]], requires_grad=True)
    copied = torch.tensor([[0.3, -1.0, 0.5, 0.5, 0.5]], requires_grad=True)
    teacher = torch.tensor([[2.0, 1.0, -0.5]])
    chances = np.array([[1.0, 1.0, 1 / 3]])
    lists = dataclasses.replace(listed(teacher.tolist(), [[True] * 3]), offsets_BL=-np.log(chances).astype(np.float32))
    shift = 2.0 * torch.from_numpy(candidate_offsets(lists))
    where = torch.ones(1, 3, dtype=torch.bool)
    losses.softmax_distillation(student + shift, teacher + shift, where=where, temperature=2.0).backward()
    teacher_5 = torch.cat([teacher, teacher[:, 2:], teacher[:, 2:]], 1)
    where_5 = torch.ones(1, 5, dtype=torch.bool)
    losses.softmax_distillation(copied, teacher_5, where=where_5, temperature=2.0).backward()
    assert student.grad is not None
    assert copied.grad is not None
    expected = [*copied.grad[0, :2].tolist(), copied.grad[0, 2:].sum().item()]
    assert student.grad[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_scales_of_a_part_are_those_of_the_whole_that_it_stands_for() -> None:
    part = listed([[0.9, 0.1, 0.5]] * 2, [[True] * 3] * 2)
    part = dataclasses.replace(part, offsets_BL=-np.log(np.array([[1.0, 1 / 3, 1.0]] * 2)).astype(np.float32))
    whole = listed([[0.9, 0.1, 0.5, 0.1, 0.1]], [[True] * 5])
    assert teacher_logits(part, ["unbounded"] * 2)[0] == pytest.approx(
        teacher_logits(whole, ["unbounded"])[0, :3], abs=1e-5
    )
    order = dataclasses.replace(part, teacher_scores_BL=np.array([[0.1, 0.5, 0.9]] * 2, np.float32))
    # The best one; one that stands for three behind it; then four are better.
    assert teacher_logits(order, ["rank"] * 2)[0] == pytest.approx([-np.log(5), -np.log(2), 0.0], abs=1e-6)
