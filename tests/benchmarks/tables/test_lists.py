"""What a term of a table is asked about: brute force over small tables."""

import numpy as np
import pytest
import torch
from scipy import sparse

from benchmarks.tables.lists import Rankings, draw, standardised, temperature_for
from benchmarks.tables.recipes import Pick

U, N = 12, 40
RANDOM = np.random.default_rng(0)
TABLE = sparse.csr_matrix((RANDOM.random((U, N)) < 0.2).astype(np.float32))
TABLE.sort_indices()
SEEN = TABLE.toarray() > 0
TEACHER = RANDOM.normal(size=(U, N)).astype(np.float32)
STUDENT = RANDOM.normal(size=(U, N)).astype(np.float32)


def teacher(users: np.ndarray) -> np.ndarray:
    return TEACHER[users]


def student(users: np.ndarray) -> np.ndarray:
    return STUDENT[users].copy()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def best(scores: np.ndarray, k: int) -> list[list[int]]:
    """The k best unseen items of each user, by plain sorting."""
    order = np.argsort(-np.where(SEEN, -np.inf, scores), axis=1, kind="stable")
    return [row[:k].tolist() for row in order]


RANKINGS = Rankings.of(teacher, TABLE, pool=20)


def test_rankings_are_the_best_unseen() -> None:
    assert RANKINGS.places_UP.tolist() == best(TEACHER, 20)
    np.testing.assert_array_equal(RANKINGS.scores_UP, np.take_along_axis(TEACHER, RANKINGS.places_UP.numpy(), 1))


def test_a_pool_larger_than_what_is_unseen_ends_in_none() -> None:
    rankings = Rankings.of(teacher, TABLE, pool=N + 5)
    for row, seen in zip(rankings.places_UP, SEEN, strict=True):
        assert (row >= 0).sum() == (~seen).sum()
        assert (row[(~seen).sum() :] == -1).all()


def test_standard_scores_are_those_of_the_unseen_alone() -> None:
    rankings = Rankings.of(lambda users: 5 * TEACHER[users] + 100, TABLE, pool=20, standard=True)
    for user in range(U):
        free = TEACHER[user][~SEEN[user]].astype(np.float64)
        expected = (TEACHER[user] - free.mean()) / free.std()
        places = rankings.places_UP[user].numpy()
        np.testing.assert_allclose(rankings.scores_UP[user], expected[places], rtol=1e-3, atol=1e-4)


def test_the_item_side_is_the_table_transposed() -> None:
    found = RANKINGS.transposed(teacher, 5)
    order = np.argsort(-np.where(SEEN, -np.inf, TEACHER).T, axis=1, kind="stable")
    assert found.places_UP.tolist() == order[:, :5].tolist()


def test_ranked_has_the_best_above_unseen_others() -> None:
    lists = draw(Pick("ranked", count=6, others=4), RANKINGS, None, generator=generator())
    for user in range(U):
        places, ranked = lists.places_UL[user], lists.marks["ranked"][user]
        assert places[ranked].tolist() == best(TEACHER, 6)[user]
        others = places[~ranked & (places >= 0)].tolist()
        assert not SEEN[user, others].any()
        real = places >= 0
        inside = np.isin(places[real].numpy(), RANKINGS.places_UP[user].numpy())
        lowest = RANKINGS.scores_UP[user].min()
        expected = np.where(inside, TEACHER[user][places[real].numpy()], lowest)
        np.testing.assert_array_equal(lists.scores_UL[user][real], expected)


def test_ranked_with_a_temperature_favours_the_top() -> None:
    counts = np.zeros(20)
    random = generator()
    for _ in range(300):
        lists = draw(Pick("ranked", count=3, others=0, temperature=2.0), RANKINGS, None, generator=random)
        counts += (RANKINGS.places_UP[0][:, None] == lists.places_UL[0]).any(1).numpy()
    assert counts[0] > 2 * counts[4] > 4 * counts[12]


def test_by_the_student_is_drawn_from_its_own_best() -> None:
    lists = draw(Pick("student", count=5, pool=8), RANKINGS, student, generator=generator())
    assert lists.places_UL.tolist() == best(STUDENT, 5)


def test_disagreement_lifts_what_the_student_ranks_too_low() -> None:
    pick = Pick("disagreement", count=4, pool=20, temperature=1e-3)
    lists = draw(pick, RANKINGS, student, generator=generator())
    for user in range(U):
        rank = {place: r for r, place in enumerate(best(STUDENT, N)[user])}
        places, under = lists.places_UL[user], lists.marks["ranked"][user]
        for place in places[under].tolist():
            assert rank[place] > best(TEACHER, 20)[user].index(place)


def test_hard_rivals_are_what_the_student_ranks_high_beside_the_teachers_best() -> None:
    lists = draw(Pick("hard", count=4, others=5, pool=5), RANKINGS, student, generator=generator())
    for user in range(U):
        above = best(TEACHER, 4)[user]
        below = [place for place in best(STUDENT, N)[user] if place not in above][:5]
        assert lists.places_UL[user].tolist() == above + below
        assert lists.marks["ranked"][user].tolist() == [True] * 4 + [False] * 5
    drawn = draw(Pick("hard", count=4, others=5, pool=15), RANKINGS, student, generator=generator())
    for user in range(U):
        best_of_all = [place for place in best(STUDENT, N)[user] if place not in best(TEACHER, 4)[user]][:15]
        assert set(drawn.places_UL[user, 4:].tolist()) <= set(best_of_all)
    assert (drawn.places_UL != lists.places_UL).any()


def test_hard_rivals_are_none_that_the_teacher_said_nothing_of() -> None:
    hole = TEACHER.copy()
    hole[:, ::2] = np.nan
    rankings = Rankings.of(lambda users: hole[users], TABLE, pool=N)
    places_UL = draw(Pick("hard", count=4, others=5, pool=10), rankings, student, generator=generator()).places_UL
    assert (places_UL[places_UL >= 0] % 2 == 1).all()
    assert (places_UL[:, 4:] >= 0).any(1).all()


def test_a_user_with_nothing_left_has_no_hard_rival() -> None:
    table = sparse.csr_matrix(np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32))
    rankings = Rankings.of(lambda users: TEACHER[users, :4], table, pool=2)
    lists = draw(
        Pick("hard", count=2, others=2, pool=9), rankings, lambda users: STUDENT[users, :4], generator=generator()
    )
    assert lists.places_UL[0].tolist() == [3, -1, -1, -1]
    assert (lists.places_UL[1] >= 0).all()


def test_tops_are_both_tops_and_a_sample() -> None:
    lists = draw(Pick("tops", count=4, others=3, pool=10), RANKINGS, student, generator=generator())
    for user in range(U):
        places = lists.places_UL[user]
        by_mark = {name: set(places[mark[user]].tolist()) for name, mark in lists.marks.items()}
        assert by_mark["student_top"] == set(best(STUDENT, 4)[user])
        assert by_mark["teacher_top"] == set(best(TEACHER, 4)[user])
        assert by_mark["sampled"] <= set(best(STUDENT, 10)[user])


def test_positives_stand_above_the_teachers_best() -> None:
    lists = draw(Pick("positives", count=4, others=5), RANKINGS, None, generator=generator())
    for user in range(U):
        places, ranked = lists.places_UL[user], lists.marks["ranked"][user]
        assert set(places[ranked].tolist()) == set(np.flatnonzero(SEEN[user]).tolist()) | set(best(TEACHER, 4)[user])
        scores = dict(zip(places.tolist(), lists.scores_UL[user].tolist(), strict=True))
        if SEEN[user].any():
            assert min(scores[i] for i in np.flatnonzero(SEEN[user]).tolist()) > max(
                scores[i] for i in best(TEACHER, 4)[user]
            )


def test_pairs_are_of_one_group_and_in_the_teachers_order() -> None:
    groups = torch.arange(N) % 3
    lists = draw(Pick("groups", count=9, pool=20, groups=3), RANKINGS, None, generator=generator(), groups_N=groups)
    assert lists.places_UL.shape == (U, 9, 2)
    pairs = [(user, pair) for user in range(U) for pair in lists.places_UL[user].tolist() if pair[0] >= 0]
    assert len(pairs) > 50
    for user, (first, second) in pairs:
        assert groups[first] == groups[second]
        assert TEACHER[user, first] > TEACHER[user, second]
    assert (lists.scores_UL[..., 0] > lists.scores_UL[..., 1]).all()


def test_the_temperature_gives_the_median_list_its_perplexity() -> None:
    scores = torch.from_numpy(7.0 * TEACHER[:11])
    where = torch.from_numpy(~SEEN[:11])
    for wanted in (1.5, 4.0, 20.0):
        temperature = temperature_for(scores, wanted, where=where)
        found = []
        for row, real in zip(scores.numpy(), where.numpy(), strict=True):
            p = np.exp(row[real] / temperature - (row[real] / temperature).max())
            p /= p.sum()
            found.append(np.exp(-(p * np.log(p)).sum()))
        assert np.median(found) == pytest.approx(wanted, rel=1e-3)
    # A teacher on another scale has another temperature and the same shares.
    assert temperature_for(scores * 3 + 5, 4.0, where=where) == pytest.approx(
        3 * temperature_for(scores, 4.0, where=where), rel=1e-6
    )


@pytest.mark.parametrize("pick", [Pick("student"), Pick("hard"), Pick("groups")])
def test_what_is_missing_is_said(pick: Pick) -> None:
    with pytest.raises(ValueError, match="needs"):
        draw(pick, RANKINGS, None, generator=generator())


def test_what_a_teacher_was_not_asked_about_is_left_out() -> None:
    table = sparse.csr_matrix(np.array([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 1.0]], np.float32))
    scores = np.array([[9.0, 4.0, np.nan, 1.0, 7.0], [np.nan, np.nan, np.nan, 2.0, 3.0]], np.float32)
    rankings = Rankings.of(lambda users: scores[users], table, pool=4, standard=True)
    assert rankings.places_UP.tolist() == [[4, 1, 3, -1], [3, -1, -1, -1]]
    asked = np.array([7.0, 4.0, 1.0])
    assert rankings.scores_UP[0, :3].numpy() == pytest.approx((asked - asked.mean()) / asked.std(), rel=1e-5)
    assert rankings.scores_UP[1].tolist() == [0.0] * 4  # one alone has no spread


def test_compared_says_where_the_student_ranks_the_teachers_best() -> None:
    lists = draw(Pick("compared", count=5, pool=20), RANKINGS, student, generator=generator())
    assert lists.places_UL.tolist() == best(TEACHER, 5)
    for user in range(U):
        order = best(STUDENT, int((~SEEN[user]).sum()))[user]
        assert lists.marks["student_ranks"][user].tolist() == [
            1 + order.index(place) for place in lists.places_UL[user].tolist()
        ]
    estimated = draw(Pick("compared", count=5, others=4000, pool=20), RANKINGS, student, generator=generator())
    assert estimated.places_UL.tolist() == lists.places_UL.tolist()
    gap = (estimated.marks["student_ranks"] - lists.marks["student_ranks"]).abs()
    assert gap.max() <= 3  # of 40, from 4,000 drawn


def test_what_the_teacher_was_not_asked_about_is_known() -> None:
    hole = TEACHER.copy()
    hole[RANDOM.random((U, N)) < 0.4] = np.nan
    rankings = Rankings.of(lambda users: hole[users], TABLE, pool=N)
    users = torch.tensor([3, 0, 7])
    unasked = rankings.unasked(users)
    assert unasked is not None
    np.testing.assert_array_equal(unasked.numpy(), np.isnan(hole[[3, 0, 7]]))
    assert RANKINGS.unasked(users) is None


def test_the_item_side_may_compare_users_by_standard_scores() -> None:
    scales = np.linspace(0.1, 10, U, dtype=np.float32)[:, None]
    found = RANKINGS.transposed(lambda users: (scales * TEACHER)[users] + 5 * scales[users], 3, standard=True)
    standard = np.empty_like(TEACHER)
    for user in range(U):
        free = TEACHER[user][~SEEN[user]]
        standard[user] = (TEACHER[user] - free.mean()) / free.std()
    order = np.argsort(-np.where(SEEN, -np.inf, standard).T, axis=1, kind="stable")
    assert found.places_UP.tolist() == order[:, :3].tolist()


def test_a_row_of_equal_scores_is_0_though_their_mean_is_rounded() -> None:
    scores_BN = torch.tensor([[0.1] * 7, [0.0] * 7, [1.0, 2.0, 3.0, 0.1, 0.1, 0.1, 0.1]])
    found_BN = standardised(scores_BN, torch.zeros(3, 7, dtype=torch.bool))
    assert found_BN[:2].tolist() == [[0.0] * 7] * 2
    assert torch.allclose(found_BN[2], (scores_BN[2] - scores_BN[2].mean()) / scores_BN[2].std(correction=0))
