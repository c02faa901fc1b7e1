"""The judge on real bundles of random students, against plain loops over full rankings."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from recdistill.errors import DataError, TeacherError
from recdistill.judge import judgement as j
from recdistill.judge import whole
from recdistill.judge.baselines import baselines
from recdistill.judge.contenders import BundleContender, DeviceContender, as_request
from recdistill.judge.suite import evaluate
from recdistill.records import Candidate, Example, Ranking
from recdistill.serve import Recommender
from recdistill.teachers import Scores
from references.students import make_requests, make_student

LIVE_FAILS = "r13"


def taste(item):
    """A made-up teacher's score of an item: a fixed shuffle of the ids."""
    return (int(item.split("-")[1]) * 37 % 101) / 10.0


class ShuffleTeacher:
    id, version, scale = "shuffle", "1", "unbounded"

    def apply_items(self, items):
        pass

    def score(self, impressions, *, deadline_s=None):
        return [
            TeacherError("this one is too hard")
            if i.id == LIVE_FAILS
            else Scores(
                np.array([taste(c.item) for c in i.candidates], np.float32), np.ones(len(i.candidates), np.bool_)
            )
            for i in impressions
        ]


def make_examples(requests, items, *, seed, users=9):
    """A list of 12 candidates for each request, liked at random, scored by the teacher; some lists without a like.

    Only `items` occur, also in the histories.
    """
    random = np.random.default_rng(seed)
    made = []
    for n, request in enumerate(requests):
        chosen = [items[c] for c in random.choice(len(items), 12, replace=False)]
        labels = tuple(float(v) for v in (random.random(12) < 0.15) * random.integers(1, 3, 12))
        impression = msgspec.structs.replace(
            request,
            id=f"r{n}",
            user=f"u{n % users}",
            history=tuple(e for e in request.history if e.item in items),
            candidates=tuple(Candidate(item=i) for i in chosen),
        )
        ranking = Ranking(
            impression=impression,
            teacher_id="shuffle",
            teacher_version="1",
            scale="unbounded",
            scores=tuple(taste(i) for i in chosen),
            scored=(True,) * 11 + (False,),
        )
        made.append(Example(ranking=ranking, labels=labels, label_state="closed"))
    return made


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    student, other = make_student(seed=0), make_student(seed=5)
    golden = make_requests(student, 7, seed=3)
    bundle = student.export(folder / "bundle", golden_requests=golden, popular=[("item-1", 3.0), ("item-2", 2.0)])
    beside = other.export(folder / "other")
    from recdistill.device import export_device

    export_device(bundle, folder / "device.onnx")
    items = [item.id for item in bundle.items]
    train = make_examples(make_requests(student, 60, seed=1), items[:40], seed=1)
    held = make_examples(make_requests(student, 90, seed=2), items, seed=2)
    rivals = [
        BundleContender(beside, "student_no_kd"),
        DeviceContender(folder / "device.onnx"),
        *baselines(train, live=set(items)),
    ]
    seen = []
    found = evaluate(
        bundle,
        held,
        teacher=ShuffleTeacher(),
        rivals=rivals,
        train_examples=train,
        sizes={"teacher": 10_000_000},
        draws=200,
        progress=lambda *step: seen.append(step),
    )
    return bundle, items, train, held, rivals, found, seen


def candidates_of(example):
    return example.ranking.impression.candidates


def with_scores(example, scores):
    return msgspec.structs.replace(example, ranking=msgspec.structs.replace(example.ranking, scores=tuple(scores)))


def usable(held):
    out = []
    for example in held:
        impression = example.ranking.impression
        barred = {e.item for e in impression.history} | set(impression.exclude)
        liked = {c.item: v for c, v in zip(impression.candidates, example.labels, strict=True) if v > 0}
        left = {i: v for i, v in liked.items() if i not in barred}
        if left:
            out.append((impression, barred, left))
    return out


def brute(ranked, liked):
    """NDCG@10, recall@10, hit rate@10 and reciprocal rank within 100 of one ranking."""
    dcg = sum(liked.get(i, 0) / math.log2(r + 2) for r, i in enumerate(ranked[:10]))
    best = sum(v / math.log2(r + 2) for r, v in enumerate(sorted(liked.values(), reverse=True)[:10]))
    hits = [r for r, i in enumerate(ranked[:100]) if i in liked]
    return (
        dcg / best,
        sum(r < 10 for r in hits) / len(liked),
        float(bool(hits) and hits[0] < 10),
        1 / (hits[0] + 1) if hits else 0,
    )


def full_rankings(world):
    """Each contender's whole ranking for each usable list, made the slow way."""
    bundle, items, _, held, rivals, _, _ = world
    student = Recommender(bundle)
    lists = usable(held)
    rankings = {"student": [], "teacher": []}
    for impression, barred, _ in lists:
        rankings["student"].append(student.recommend([as_request(impression)], 1000)[0].items)
        order = sorted((i for i in items if i not in barred), key=lambda i: (-taste(i), items.index(i)))
        rankings["teacher"].append([] if impression.id == LIVE_FAILS else order)
    for rival in rivals:
        rankings[rival.name] = [rival.top([impression], 1000)[0] for impression, _, _ in lists]
    return lists, rankings


def test_every_mean_is_that_of_plain_loops_over_full_rankings(world):
    found = world[5]
    lists, rankings = full_rankings(world)
    assert found.lists == len(lists)
    assert {q.name for q in found.contenders} == {*rankings, "chance"}
    assert found.protocol == "catalogue"
    for name, of in rankings.items():
        expected = np.mean([brute(r, liked) for r, (_, _, liked) in zip(of, lists, strict=True)], axis=0)
        quality = found.quality(name)
        means = [quality.metrics[m].mean for m in ("ndcg@10", "recall@10", "hit_rate@10", "mrr@100")]
        np.testing.assert_allclose(means, expected, atol=1e-12, err_msg=name)
        shown = [i for r in of for i in r[:10]]
        assert quality.coverage == pytest.approx(len(set(shown)) / found.catalogue)


def test_no_contender_shows_what_was_seen(world):
    lists, rankings = full_rankings(world)
    for of in rankings.values():
        assert all(barred.isdisjoint(r) for r, (_, barred, _) in zip(of, lists, strict=True))


def test_differences_ratio_and_overlap_are_those_of_the_lists(world):
    found = world[5]
    lists, rankings = full_rankings(world)
    ndcg = {
        n: np.array([brute(r, liked)[0] for r, (_, _, liked) in zip(of, lists, strict=True)])
        for n, of in rankings.items()
    }
    for name in set(rankings) - {"student"}:
        interval = found.difference("student", name)
        assert interval.mean == pytest.approx((ndcg["student"] - ndcg[name]).mean(), abs=1e-12)
        assert interval.low <= interval.mean <= interval.high
    # A made-up teacher knows nothing of random likes: there is nothing of which a share could be kept.
    assert found.retention is None
    assert "the teacher is not above chance: its lead is " in found.retention_why
    assert found.retention_on == "whole catalogue"
    shared = [
        len(set(a[:10]) & set(b[:10])) / max(1, len(b[:10]))
        for a, b in zip(rankings["student"], rankings["teacher"], strict=True)
    ]
    assert found.agreement.overlap.mean == pytest.approx(np.mean(shared))
    worst = found.disagreements[0]
    assert worst.overlap == min(shared)
    assert len(found.disagreements) == 6


class KnowingTeacher(ShuffleTeacher):
    """A teacher that puts first what was liked, mostly."""

    def __init__(self, held):
        self.liked = {
            e.ranking.impression.id: dict(zip([c.item for c in candidates_of(e)], e.labels, strict=True)) for e in held
        }

    def score(self, impressions, *, deadline_s=None):
        return [
            Scores(
                np.array([taste(c.item) + 9 * self.liked[i.id].get(c.item, 0) for c in i.candidates], np.float32),
                np.ones(len(i.candidates), np.bool_),
            )
            for i in impressions
        ]


def test_retention_is_the_share_of_the_lead_over_chance(world):
    bundle, _, train, held, _, _, _ = world
    found = evaluate(bundle, held, teacher=KnowingTeacher(held), rivals=[], train_examples=train, draws=200)
    student, teacher, chance = (found.quality(n).metrics["ndcg@10"].mean for n in ("student", "teacher", "chance"))
    assert found.retention.mean == pytest.approx((student - chance) / (teacher - chance))
    assert found.retention.low < found.retention.mean < found.retention.high
    assert found.above_chance
    assert found.retention_on == "whole catalogue"
    assert found.difference("teacher", "chance").mean == pytest.approx(teacher - chance)


def test_slices_are_their_lists_and_items(world):
    _, _, train, _, _, found, _ = world
    lists, rankings = full_rankings(world)
    liked_in_train = {}
    for example in train:
        impression = example.ranking.impression
        for item in [e.item for e in impression.history] + [
            c.item for c, v in zip(impression.candidates, example.labels, strict=True) if v > 0
        ]:
            liked_in_train.setdefault(item, set()).add(impression.user)
    slices = {s.name: s for s in found.slices}
    new_users = [n for n, (impression, _, _) in enumerate(lists) if len(impression.history) <= 5]
    assert slices["new users"].n == len(new_users)
    assert slices["heavy users"].n == 0
    assert slices["heavy users"].metrics == {}
    expected = np.mean([brute(rankings["ease"][n], lists[n][2])[0] for n in new_users])
    assert slices["new users"].metrics["ease"]["ndcg@10"].mean == pytest.approx(expected)
    only_new = [{i: v for i, v in liked.items() if i not in liked_in_train} for _, _, liked in lists]
    rows = [n for n, left in enumerate(only_new) if left]
    assert slices["new items"].n == len(rows) > 0
    expected = np.mean([brute(rankings["student"][n], only_new[n])[0] for n in rows])
    assert slices["new items"].metrics["student"]["ndcg@10"].mean == pytest.approx(expected)
    total = sum(map(len, liked_in_train.values()))
    head, running = set(), 0
    for item in sorted(liked_in_train, key=lambda i: -len(liked_in_train[i])):
        if running < total / 2:
            head.add(item)
        running += len(liked_in_train[item])
    # Items of equal counts may stand on either side of the cut, so the number of lists is within their reach.
    assert sum(slices[f"{kind} items"].n for kind in ("popular", "torso", "rare", "new")) >= len(lists)
    assert abs(slices["popular items"].n - sum(any(i in head for i in liked) for _, _, liked in lists)) <= 6


def test_agreement_on_logged_lists_is_that_of_the_given_scores(world):
    from scipy.stats import kendalltau

    bundle, _, _, held, _, found, _ = world
    student = Recommender(bundle)
    taus = []
    for example in held:
        impression = example.ranking.impression
        barred = {e.item for e in impression.history} | set(impression.exclude)
        if not any(v > 0 and c.item not in barred for c, v in zip(impression.candidates, example.labels, strict=True)):
            continue
        given = [c.item for c, known in zip(impression.candidates, example.ranking.scored, strict=True) if known]
        answer = student.rank(as_request(impression), given)
        scores = dict(zip(answer.items, answer.scores, strict=True))
        taus.append(kendalltau([scores[i] for i in given], [taste(i) for i in given]).statistic)
    assert found.agreement.tau.mean == pytest.approx(np.mean(taus))
    assert set(found.agreement.on_lists) == {"student", "teacher", "chance"}


def test_the_rest_is_there_and_makes_sense(world):
    bundle, _, _, held, _, found, seen = world
    assert found.content_hash == bundle.content_hash
    assert found.skipped["teacher failed"] == 1
    assert sum(found.skipped.values()) - 1 == len(held) - found.lists
    assert found.parity["golden answers"] < 1e-4
    assert found.parity["towers at export"] == bundle.manifest.provenance["measured"]["parity_max_abs"]
    assert found.sizes["teacher"] == 10_000_000
    assert 0 < found.sizes["student_int8"] < found.sizes["student"] < found.sizes["bundle"]
    assert found.sizes["device"] > 0
    assert 0 < found.latency.p50_ms <= found.latency.p99_ms
    assert [s[1:] for s in seen] == [(n + 1, 8) for n in range(8)]
    popularity = found.quality("popularity")
    assert popularity.popularity > found.quality("student").popularity
    assert 0 < found.relevant_popularity < 1


def test_the_same_seed_gives_the_same_judgement_and_json_holds_all_of_it(world):
    bundle, _, train, held, rivals, found, _ = world
    again = evaluate(
        bundle,
        held,
        teacher=ShuffleTeacher(),
        rivals=rivals,
        train_examples=train,
        sizes={"teacher": 10_000_000},
        draws=200,
    )
    assert again.differences == found.differences
    assert again.slices == found.slices
    assert j.from_json(j.to_json(found)) == found
    with pytest.raises(DataError, match="not a judgement"):
        j.from_json(b'{"content_hash": 1}')


def test_every_logged_list_counts_for_what_is_kept_and_its_intervals_know_the_users(world, monkeypatch):
    """However many are laid side by side at a time. Only Kendall's tau is that of the newest ones."""
    bundle, _, train, held, _, _, _ = world
    knowing = [
        with_scores(e, [4.0 * (v > 0) + taste(c.item) / 10 for c, v in zip(candidates_of(e), e.labels, strict=True)])
        for e in held
    ]
    # Two lists for each user: whole users are drawn again.
    knowing = [
        msgspec.structs.replace(
            e,
            ranking=msgspec.structs.replace(
                e.ranking, impression=msgspec.structs.replace(e.ranking.impression, user=f"u{n // 2}")
            ),
        )
        for n, e in enumerate(knowing)
    ]
    at_once = evaluate(bundle, knowing, teacher=None, rivals=[], train_examples=train, draws=100)
    monkeypatch.setattr(whole, "_LISTS_COMPARED", 7)
    parts = evaluate(bundle, knowing, teacher=None, rivals=[], train_examples=train, draws=100)
    for found in (at_once, parts):
        assert found.leads["teacher"].lists == found.lists > 14
        on = found.agreement.on_lists["student"]
        assert on.n == found.lists
        assert on.users == found.leads["teacher"].users < found.lists
    assert parts.retention == at_once.retention
    assert parts.agreement.on_lists == at_once.agreement.on_lists
    assert (at_once.agreement.tau.n, parts.agreement.tau.n) == (at_once.lists, 7)


def test_without_a_teacher_that_scores_the_logged_lists_stand_for_it(world):
    bundle, _, train, held, _, _, _ = world
    found = evaluate(bundle, held, teacher=None, rivals=[], train_examples=train, draws=100)
    assert found.retention_on == "logged lists"
    # A made-up teacher knows nothing of the random likes, so there is nothing to keep a share of.
    assert found.retention is None
    assert "the teacher is not above chance: its lead is " in found.retention_why
    assert set(found.agreement.on_lists) == {"student", "teacher", "chance"}
    knowing = [
        with_scores(e, [4.0 * (v > 0) + taste(c.item) / 10 for c, v in zip(candidates_of(e), e.labels, strict=True)])
        for e in held
    ]
    found = evaluate(bundle, knowing, teacher=None, rivals=[], train_examples=train, draws=100)
    mean = {name: interval.mean for name, interval in found.agreement.on_lists.items()}
    share = (mean["student"] - mean["chance"]) / (mean["teacher"] - mean["chance"])
    assert found.retention.mean == pytest.approx(share)
    assert found.retention_why == ""
    assert found.agreement.overlap is None
    assert found.disagreements == []
    bare = [msgspec.structs.replace(e, ranking=msgspec.structs.replace(e.ranking, scored=(False,) * 12)) for e in held]
    found = evaluate(bundle, bare, teacher=None, rivals=[], train_examples=train, draws=100)
    assert found.retention is None
    assert "there is no teacher to compare with" in found.retention_why


def test_what_cannot_be_judged_is_a_clear_error(world):
    bundle, _, train, held, rivals, _, _ = world
    unlabelled = [msgspec.structs.replace(e, labels=(0.0,) * 12) for e in held]
    with pytest.raises(DataError, match="none of the 90 held-out examples has a label"):
        evaluate(bundle, unlabelled, teacher=None, rivals=[], train_examples=train)
    with pytest.raises(DataError, match="two contenders have one name"):
        evaluate(bundle, held, teacher=None, rivals=[rivals[-1], rivals[-1]], train_examples=train)


def test_a_request_that_the_endpoint_would_refuse_does_not_take_the_others_with_it(world):
    bundle, _, train, held, _, found, _ = world
    broken = msgspec.structs.replace(held[0].ranking.impression, context={"hour": "noon"})
    spoilt = msgspec.structs.replace(held[0], ranking=msgspec.structs.replace(held[0].ranking, impression=broken))
    again = evaluate(bundle, [spoilt, *held], teacher=None, rivals=[], train_examples=train, draws=100)
    assert again.skipped["context does not fit"] == 1
    assert again.lists == found.lists
    with pytest.raises(DataError, match="1 context does not fit"):
        evaluate(bundle, [spoilt], teacher=None, rivals=[], train_examples=train)


class CountingTeacher(ShuffleTeacher):
    """Counts what it is asked for."""

    def __init__(self):
        self.asked = 0

    def score(self, impressions, *, deadline_s=None):
        self.asked += sum(len(i.candidates) for i in impressions)
        return super().score(impressions, deadline_s=deadline_s)


@pytest.mark.parametrize("budget", [200, 2500])
def test_a_teacher_that_cannot_score_the_whole_catalogue_is_asked_about_pools(world, budget):
    bundle, _, train, held, *_ = world
    teacher = CountingTeacher()
    options = {"train_examples": train, "draws": 100}
    found = evaluate(bundle, held, teacher=teacher, rivals=[], teacher_scores=budget, **options)
    assert 0 < teacher.asked <= budget
    assert found.quality("teacher") is None
    assert found.retention_on.startswith("pools of ")
    assert found.leads["teacher"].lists <= teacher.asked / 10
    if budget == 2500:  # pools of all lists hold nearly the whole small catalogue: nearly the same is found
        whole = evaluate(bundle, held, teacher=ShuffleTeacher(), rivals=[], **options)
        assert found.leads["teacher"].student == pytest.approx(whole.leads["teacher"].student, abs=0.06)
        assert found.leads["teacher"].other == pytest.approx(whole.leads["teacher"].other, abs=0.06)
    free = CountingTeacher()
    evaluate(bundle, held, teacher=free, rivals=[], teacher_scores=10**6, **options)
    assert free.asked > 2500


class FailingTeacher(KnowingTeacher):
    """It fails on every third list, as one behind HTTP that is overloaded."""

    def score(self, impressions, *, deadline_s=None):
        answers = super().score(impressions)
        return [
            TeacherError("too slow") if int(i.id[1:]) % 3 == 0 else answer
            for i, answer in zip(impressions, answers, strict=True)
        ]


def test_lists_on_which_a_teacher_failed_make_the_share_that_is_kept_no_larger(world):
    bundle, _, train, held, rivals, _, _ = world
    options = {"rivals": [r for r in rivals if r.name == "student_no_kd"], "train_examples": train, "draws": 100}
    found = evaluate(bundle, held, teacher=FailingTeacher(held), **options)
    answered = [e for e in held if int(e.ranking.impression.id[1:]) % 3]
    alone = evaluate(bundle, answered, teacher=KnowingTeacher(held), **options)
    one, other = (msgspec.to_builtins(each.leads["teacher"]) for each in (found, alone))
    assert one == pytest.approx(other)
    assert found.retention.mean == pytest.approx(alone.retention.mean)
    assert found.control.kept.mean == pytest.approx(alone.control.kept.mean)
    assert any("the teacher failed on" in note for note in found.notes)
    assert not any("the teacher failed on" in note for note in alone.notes)

    class NeverTeacher(ShuffleTeacher):
        def score(self, impressions, *, deadline_s=None):
            return [TeacherError("too slow") for _ in impressions]

    with pytest.raises(DataError, match="the teacher failed on all"):
        evaluate(bundle, held, teacher=NeverTeacher(), **options)
