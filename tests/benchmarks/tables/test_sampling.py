"""What is drawn: exact by brute force where nothing is random, by counts against the law where it is."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries
from torch import Tensor

from benchmarks.tables import sampling
from recdistill.errors import UsageError

DRAWS = 20_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fits(counts: Counter[tuple[int, ...]], law: dict[tuple[int, ...], float]) -> None:
    """Every outcome's share is within five standard errors of its probability, and there is no other."""
    draws = sum(counts.values())
    assert set(counts) <= {key for key, p in law.items() if p > 0}
    for key, p in law.items():
        assert abs(counts[key] / draws - p) < 5 * math.sqrt(p * (1 - p) / draws) + 1e-12, (key, counts[key] / draws, p)


def outcomes(drawn: Tensor) -> Counter[tuple[int, ...]]:
    return Counter(map(tuple, drawn.reshape(len(drawn), -1).tolist()))


def without_replacement(weights: dict[int, float], k: int) -> dict[tuple[int, ...], float]:
    """Probability of each set of k, as an ascending tuple, by all orders in which it may be drawn."""
    law: dict[tuple[int, ...], float] = {}
    for order in permutations(weights, k):
        p, left = 1.0, sum(weights.values())
        for item in order:
            p, left = p * weights[item] / left, left - weights[item]
        key = tuple(sorted(order))
        law[key] = law.get(key, 0.0) + p
    return law


def test_drawing_is_by_weight_and_without_replacement() -> None:
    weights = {0: 1.0, 1: 4.0, 3: 2.0, 4: 0.5}
    log_weights = torch.tensor([1.0, 4.0, 0.0, 2.0, 0.5]).log().expand(DRAWS, 5)
    fits(outcomes(sampling.draw(log_weights, 2, generator=seeded())), without_replacement(weights, 2))


def test_a_draw_is_the_generators_alone_and_short_of_weight_it_is_filled() -> None:
    log_weights = torch.randn(7, 20, generator=seeded())
    assert torch.equal(
        sampling.draw(log_weights, 5, generator=seeded(3)), sampling.draw(log_weights, 5, generator=seeded(3))
    )
    nothing = torch.full((1, 3), -torch.inf)
    assert sampling.draw(nothing, 2, generator=seeded()).tolist() == [[-1, -1]]
    assert sampling.draw(torch.zeros(1, 3), 5, generator=seeded()).tolist() == [[0, 1, 2, -1, -1]]


@tries(30)
@given(seed=st.integers(0, 2**31), k=st.integers(1, 12))
def test_the_top_is_a_sort(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    scores, hidden = random.permutation(40).reshape(4, 10).astype(np.float32), random.random((4, 10)) < 0.4
    got = sampling.top(torch.from_numpy(scores), k, hidden=torch.from_numpy(hidden)).tolist()
    for b in range(4):
        best = [j for j in sorted(range(10), key=lambda j: -scores[b, j]) if not hidden[b, j]][:k]
        assert got[b] == best + [-1] * (k - len(best))


def test_by_rank_follows_its_law_and_keeps_the_order() -> None:
    ranked = torch.tensor([[9, 4, 7, 2, -1]]).expand(DRAWS, 5)
    drawn = sampling.by_rank(ranked, 2, temperature=1.5, generator=seeded())
    place_of = {9: 0, 4: 1, 7: 2, 2: 3}
    weights = {place: math.exp(-(place + 1) / 1.5) for place in place_of.values()}
    counts = Counter(tuple(place_of[item] for item in pair) for pair in drawn.tolist())
    fits(counts, without_replacement(weights, 2))
    alike = sampling.by_rank(ranked, 2, temperature=math.inf, generator=seeded())
    counts = Counter(tuple(place_of[item] for item in pair) for pair in alike.tolist())
    fits(counts, without_replacement(dict.fromkeys(range(4), 1.0), 2))


def test_disagreement_follows_its_law() -> None:
    places = torch.tensor([[10, 11, 12, 13, -1]]).expand(DRAWS, 5)
    teacher, student = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[9, 2, 8, 1, 99]])
    under, over = sampling.by_disagreement(places, student, teacher, 1, temperature=4.0, floor=0.0, generator=seeded())
    w = [math.tanh(8 / 4), math.tanh(5 / 4)]
    fits(outcomes(under), {(10,): w[0] / sum(w), (12,): w[1] / sum(w)})
    fits(outcomes(over), {(13,): 1.0})
    two_under, two_over = sampling.by_disagreement(places, student, teacher, 3, floor=0.0, generator=seeded())
    assert set(outcomes(two_under)) == {(10, 12, -1)}
    assert set(outcomes(two_over)) == {(13, -1, -1)}


def test_a_floor_fills_what_disagreement_leaves() -> None:
    places, ranks = torch.arange(6).expand(50, 6), torch.arange(1, 7).expand(50, 6)
    under, over = sampling.by_disagreement(places, ranks, ranks, 4, generator=seeded())
    assert (under >= 0).all()
    assert (over >= 0).all()
    # One that is wrong is 10,000 times as likely as one that is right.
    wrong = ranks.clone()
    wrong[:, 2] = 400
    under, _ = sampling.by_disagreement(places, wrong, ranks, 4, generator=seeded())
    assert (under == 2).any(1).all()


def test_closure_follows_its_law() -> None:
    ranked, teacher_top = torch.tensor([[5, 6, 7, 8, -1]]).expand(DRAWS, 5), torch.tensor([[7, 6, 99]]).expand(DRAWS, 3)
    drawn = sampling.by_closure(ranked, teacher_top, 1, temperature=2.0, generator=seeded())
    below = {5: 2, 6: 2, 7: 1, 8: 0}
    mass = {item: math.exp((c + 1) / 2.0) for item, c in below.items()}
    fits(outcomes(drawn), {(item,): m / sum(mass.values()) for item, m in mass.items()})
    capped = sampling.by_closure(ranked, teacher_top, 1, temperature=2.0, cap=0, generator=seeded())
    fits(outcomes(capped), {(item,): 0.25 for item in below})


def test_hard_negatives_are_the_best_unseen_alike() -> None:
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0]]).expand(DRAWS, 5)
    seen = torch.tensor([[True, False, False, False, False]]).expand(DRAWS, 5)
    drawn = sampling.hard_negatives(scores, 2, seen_BN=seen, pool=3, generator=seeded())
    fits(outcomes(drawn), dict.fromkeys([(1, 2), (1, 3), (2, 3)], 1 / 3))


def test_unseen_is_uniform_over_what_is_left() -> None:
    seen = torch.zeros(2, 6, dtype=torch.bool)
    seen[0, [0, 2, 3]] = True
    seen[1] = True
    drawn = sampling.unseen(seen, DRAWS, generator=seeded())
    fits(Counter((item,) for item in drawn[0].tolist()), {(1,): 1 / 3, (4,): 1 / 3, (5,): 1 / 3})
    assert set(drawn[1].tolist()) == {-1}


@tries(30)
@given(seed=st.integers(0, 2**31), density=st.sampled_from([0.0, 0.3, 0.9, 1.0]))
def test_unseen_by_matrix_and_by_sorted_rows_agree(seed: int, density: float) -> None:
    random = seeded(seed)
    seen = torch.rand(7, 30, generator=random) < density
    rows = torch.tensor([3, 0, 3, 6])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), seen.sum(1).cumsum(0)])
    items = seen.nonzero()[:, 1]
    by_rows = sampling.unseen_sorted(rows, offsets, items, 30, 50, generator=seeded(1))
    assert torch.equal(by_rows, sampling.unseen(seen[rows], 50, generator=seeded(1)))
    for b, row in enumerate(rows.tolist()):
        free = set((~seen[row]).nonzero()[:, 0].tolist())
        assert set(by_rows[b].tolist()) <= (free or {-1})
        if len(free) > 0:
            assert by_rows[b].min() >= 0


def test_groups_have_about_equal_mass() -> None:
    counts = torch.from_numpy(np.random.default_rng(0).zipf(1.6, 3000).clip(max=300))
    groups = sampling.popularity_groups(counts, 4)
    mass = [int(counts[groups == g].sum()) for g in range(4)]
    assert max(mass) - min(mass) <= 2 * int(counts.max())
    # The more popular is never in a later group.
    order = counts.argsort(descending=True, stable=True)
    assert (groups[order].diff() >= 0).all()
    assert sampling.popularity_groups(torch.zeros(3, dtype=torch.int64), 2).max() < 2


def test_the_top_of_each_group_is_a_sort() -> None:
    scores, groups = torch.rand(3, 20, generator=seeded()), torch.randint(0, 3, (20,), generator=seeded(1))
    hidden = torch.rand(3, 20, generator=seeded(2)) < 0.3
    got = sampling.top_by_group(scores, groups, 4, hidden=hidden)
    assert got.shape == (3, 3, 4)
    for b in range(3):
        for g in range(3):
            mine = [j for j in range(20) if groups[j] == g and not hidden[b, j]]
            best = sorted(mine, key=lambda j: -float(scores[b, j]))[:4]
            assert got[b, g].tolist() == best + [-1] * (4 - len(best))
    empty = sampling.top_by_group(scores, groups * 2, 1)
    assert empty[:, 1].tolist() == [[-1]] * 3


def test_pairs_follow_their_law() -> None:
    """Two draws by rank, given that they differ: w_a w_b of both orders, over 1 − Σ w²."""
    ranked = torch.tensor([[[3, 8, 5, -1], [7, 1, -1, -1]]]).expand(DRAWS, 2, 4)
    drawn = sampling.pairs_by_group(ranked, 2, temperature=1.2, generator=seeded())
    w = {item: math.exp(-r / 1.2) for r, item in enumerate([3, 8, 5])}
    w = {item: x / sum(w.values()) for item, x in w.items()}
    differ = 1 - sum(x * x for x in w.values())
    law = {(a, b): 2 * w[a] * w[b] / differ for a, b in [(3, 8), (3, 5), (8, 5)]}
    fits(outcomes(drawn[:, 0]), law)
    fits(outcomes(drawn[:, 1]), {(7, 1): 1.0})


def test_pairs_are_shared_out_among_the_groups() -> None:
    ranked = torch.arange(24).view(1, 3, 8)
    groups_of = sampling.pairs_by_group(ranked, 10, generator=seeded())[0, :, 0] // 8
    assert groups_of.tolist() == [0] * 4 + [1] * 3 + [2] * 3
    shares = torch.tensor([0.5, 0.0, 0.5])
    drawn = sampling.pairs_by_group(ranked, 5, shares_G=shares, generator=seeded())
    assert (drawn[0, :, 0] // 8).tolist() == [0] * 3 + [2] * 2
    assert (drawn[..., 0] < drawn[..., 1]).all()  # the teacher's better one first
    lonely = torch.tensor([[[4, -1], [-1, -1]]])
    assert (sampling.pairs_by_group(lonely, 4, generator=seeded()) == -1).all()
    with pytest.raises(UsageError, match="k of 2"):
        sampling.pairs_by_group(torch.zeros(1, 1, 1, dtype=torch.int64), 4, generator=seeded())


@tries(30)
@given(seed=st.integers(0, 2**31))
def test_ranks_count_who_is_above(seed: int) -> None:
    scores = torch.randint(0, 6, (3, 12), generator=seeded(seed)).float()
    places = torch.randint(-1, 12, (3, 5), generator=seeded(seed + 1))
    got = sampling.ranks_of(scores, places)
    for b in range(3):
        for p in range(5):
            j = int(places[b, p])
            expected = 0 if j < 0 else 1 + sum(float(x) > float(scores[b, j]) for x in scores[b])
            assert got[b, p] == expected


def test_estimated_ranks_are_the_ranks_of_a_large_sample() -> None:
    scores = torch.randn(1, 1001, generator=seeded())
    places = torch.tensor([[0, 10, 500, 1000]])
    whole = sampling.estimated_ranks(scores.gather(1, places), scores, 1001)
    assert torch.equal(whole, 1000 * (sampling.ranks_of(scores, places) - 1) // 1001 + 1)
    sample = scores[:, torch.randperm(1001, generator=seeded(1))[:200]]
    some = sampling.estimated_ranks(scores.gather(1, places), sample, 1001)
    assert ((some - whole).abs() < 5 * 1001 * 0.5 / math.sqrt(200)).all()


@tries(30)
@given(seed=st.integers(0, 2**31))
def test_a_merged_list_is_distinct_and_knows_its_sources(seed: int) -> None:
    first, second, third = (torch.randint(-1, 8, (2, k), generator=seeded(seed + k)) for k in (4, 5, 2))
    merged, masks = sampling.merge(first, second, third)
    assert merged.shape == (2, 11)
    for b in range(2):
        real = [x for x in merged[b].tolist() if x >= 0]
        parts = [set(part[b].tolist()) - {-1} for part in (first, second, third)]
        assert sorted(real) == sorted(parts[0] | parts[1] | parts[2])
        for mask, part in zip(masks, parts, strict=True):
            assert {x for x, held in zip(merged[b].tolist(), mask[b].tolist(), strict=True) if held} == part
