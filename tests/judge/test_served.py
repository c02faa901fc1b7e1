"""Served lists beside the orders of bundles: what a judgement and its report say of them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from recdistill.bundle import Bundle
from recdistill.judge import BundleContender, Contender
from recdistill.judge.served import beside, served_value
from recdistill.records import Candidate, Example, Impression, Ranking
from recdistill.serve import Explore, shown
from references.students import NOW_US, Student, make_requests, make_student


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return student.export(tmp_path_factory.mktemp("bundles") / "one", golden_requests=make_requests(student, 20))


def served(contender: BundleContender, requests: list[Impression], explore: Explore, k: int = 6) -> list[Example]:
    """Lists as the endpoint serves them; every user takes what stands at place 5, and nothing else."""
    made = []
    requests = [msgspec.structs.replace(one, time_us=NOW_US) for one in requests]
    tops = contender.top(requests, k + explore.pool)
    for n, (asked, top) in enumerate(zip(requests, tops, strict=True)):
        order, chances = shown(explore, f"r{n}", found=len(top), k=k)
        candidates = tuple(Candidate(top[item], None, chance) for item, chance in zip(order, chances, strict=True))
        one = Impression(
            f"r{n}", NOW_US, f"u{n % 50}", asked.history, asked.context, candidates, origin="served", served_by="x"
        )
        count = len(candidates)
        labels = tuple(float(place == 4) for place in range(count))
        made.append(Example(Ranking(one, "t", "1", "logit", (0.0,) * count, (True,) * count), labels, "closed"))
    return made


def test_the_own_order_is_worth_what_was_served_and_a_strange_one_is_refused(student: Student, bundle: Bundle) -> None:
    same: Contender = BundleContender(bundle, "champion")
    asked = [one for one in make_requests(student, 40) if one.history]
    requests = [asked[n % len(asked)] for n in range(3000)]
    lists = served(same, requests, Explore(0.3, 3, 4))

    class Reversed(BundleContender):
        """It likes best what the bundle likes least."""

        def top(self, requests: list[Impression], k: int) -> list[list[str]]:
            return [list(reversed(one)) for one in super().top(requests, 1000)]

    found = served_value(lists, [same, Reversed(bundle, "worst")])
    assert found is not None
    own, worst = found.orders
    assert (found.lists, found.value.mean) == (3000, 1.0)
    assert 500 < found.explored < 1000
    assert own.snips is not None
    assert own.snips.mean == 1.0, "place 5 is always taken"
    assert own.ips is not None
    assert own.ips.low < 1 < own.ips.high
    assert np.isfinite(own.ips.high)
    assert (worst.snips, worst.ips) == (None, None)
    assert worst.why.startswith("no overlap")


def test_other_lists_are_no_part_of_it(student: Student, bundle: Bundle) -> None:
    assert served_value([], []) is None
    shown_once = Impression("r", NOW_US, candidates=(Candidate("a"), Candidate("b")))
    one = Example(Ranking(shown_once, "t", "1", "logit", (0.0, 0.0), (True, True)), (0.0, 1.0), "closed")
    assert served_value([one], []) is None


def test_lists_share_a_cluster_where_they_share_a_user_and_nowhere_else() -> None:
    """Each pair of lists, by the rule itself. Ids and users have the same names here."""
    who = [("a", None), ("b", "a"), ("c", "a"), ("d", "b"), ("e", None), ("f", "e"), ("g", ""), ("h", None)]
    lists = []
    for name, user in who:
        asked = Impression(name, NOW_US, user, candidates=(Candidate("x", None, 1.0),), origin="served")
        lists.append(Example(Ranking(asked, "t", "1", "logit", (0.0,), (True,)), (0.0,), "closed"))
    clusters_N = beside(lists, [["x", "y"]] * len(lists)).clusters_N
    for one, (_, user) in enumerate(who):
        for other, (_, whose) in enumerate(who):
            same = one == other or (user is not None and user == whose)
            assert (clusters_N[one] == clusters_N[other]) == same, (who[one], who[other])


def test_contexts_that_do_not_fit_a_bundle_are_a_sentence(student: Student, bundle: Bundle) -> None:
    """Served lists may be older than the feature specification of the bundle that is judged."""
    contender = BundleContender(bundle, "student")
    lists = served(contender, make_requests(student, 4), Explore(0.3, 3, 4))
    odd = msgspec.structs.replace(lists[0].ranking.impression, context={"hour": "noon"})
    ranking = msgspec.structs.replace(lists[0].ranking, impression=odd)
    found = served_value([msgspec.structs.replace(lists[0], ranking=ranking), *lists[1:]], [contender])
    assert found is not None
    assert found.lists == 4
    [order] = found.orders
    assert order.ips is None
    assert order.why == "the contexts of 1 served lists do not fit it, so its order cannot be put beside them"


def test_lists_of_one_user_are_written_and_read_back(student: Student, bundle: Bundle) -> None:
    """One user says nothing of how sure a mean is, and JSON knows no infinity."""
    lists = served(BundleContender(bundle, "student"), make_requests(student, 8), Explore(0.3, 3, 4))
    alone = []
    for one in lists:
        shown_once = msgspec.structs.replace(one.ranking.impression, user="u")
        alone.append(msgspec.structs.replace(one, ranking=msgspec.structs.replace(one.ranking, impression=shown_once)))
    found = served_value(alone, [])
    assert found is not None
    assert found.value.users == 1
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
