"""The protocol of shown lists on a real bundle of a random student, against plain loops over every list."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from recdistill.errors import DataError, TeacherError
from recdistill.judge import evaluate
from recdistill.judge.baselines import baselines
from recdistill.judge.contenders import BundleContender, DeviceContender
from recdistill.judge.judgement import from_json, to_json
from recdistill.records import Candidate, Example, Ranking
from recdistill.serve import Recommender, Request
from recdistill.teachers import Scores
from references.students import make_requests, make_student


def taste(item):
    return int(item.split("-")[1]) * 37 % 11 / 3.0  # many ties


class LikedFirst:
    """A teacher that often puts first what was liked. It fails on one list, and leaves a score out of another."""

    id, version, scale = "liked-first", "1", "unbounded"

    def __init__(self, examples):
        self.labels = {
            e.ranking.impression.id: dict(zip([c.item for c in e.ranking.impression.candidates], e.labels, strict=True))
            for e in examples
        }

    def apply_items(self, items):
        pass

    def of(self, impression, item):
        return taste(item) + 2.5 * (self.labels[impression.id][item] > 0)

    def score(self, impressions, *, deadline_s=None):
        out = []
        for shown in impressions:
            values = np.array([self.of(shown, c.item) for c in shown.candidates], np.float32)
            scored = np.ones(len(values), np.bool_)
            scored[0] = shown.id != "r8"
            out.append(TeacherError("too hard") if shown.id == "r5" else Scores(values, scored))
        return out


def make_lists(requests, items, *, seed, stranger=0):
    """Lists of 2 to 12 candidates with random likes; some have none, some nothing else."""
    random = np.random.default_rng(seed)
    made = []
    for n, request in enumerate(requests):
        chosen = [items[c] for c in random.choice(len(items), int(random.integers(2, 13)), replace=False)]
        if stranger and n % stranger == 0:
            chosen[-1] = f"stranger-{n}"
        labels = [float(v) for v in (random.random(len(chosen)) < 0.25) * random.integers(1, 3, len(chosen))]
        if n == 3:
            labels = [1.0] * len(chosen)
        impression = msgspec.structs.replace(
            request, id=f"r{n}", user=f"u{n % 9}", candidates=tuple(Candidate(item=i) for i in chosen),
            history=tuple(e for e in request.history if e.item in items), time_us=10_000_000_000 + (n * 7919) % 97,
        )  # fmt: skip
        ranking = Ranking(
            impression, "liked-first", "1", "unbounded",
            scores=tuple(0.0 if i.startswith("stranger") else taste(i) for i in chosen), scored=(True,) * len(chosen),
        )  # fmt: skip
        made.append(Example(ranking=ranking, labels=tuple(labels), label_state="closed"))
    return made


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    student = make_student(seed=0)
    bundle = student.export(
        folder / "bundle", golden_requests=make_requests(student, 5, seed=3), popular=[("item-1", 1.0)]
    )
    from recdistill.device import export_device

    export_device(bundle, folder / "device.onnx")
    items = [item.id for item in bundle.items]
    train = make_lists(make_requests(student, 60, seed=1), items[:40], seed=1)
    held = make_lists(make_requests(student, 80, seed=2), items, seed=2)
    rivals = [
        BundleContender(bundle, "beside"),
        DeviceContender(folder / "device.onnx"),
        *baselines(train, live=set(items)),
    ]
    found = evaluate(
        bundle, held, teacher=LikedFirst(held), rivals=rivals, train_examples=train, protocol="shown", draws=200
    )
    return bundle, items, train, held, rivals, found


def usable(held, *, failed=("r5",)):
    return [
        e for e in held
        if 0 < sum(v > 0 for v in e.labels) < len(e.labels) and e.ranking.impression.id not in failed
    ]  # fmt: skip


def by_hand(scores, labels):
    """NDCG@10, NDCG@5, MIND's reciprocal rank and AUC; a tie gives the mean over its places."""

    def mean_over_places(score, value):
        first = sum(other > score for other in scores)
        last = first + sum(other == score for other in scores)
        return sum(map(value, range(first, last))) / (last - first)

    def gained(k):
        found = sum(
            t * mean_over_places(s, lambda r: (r < k) / math.log2(r + 2)) for s, t in zip(scores, labels, strict=True)
        )
        return found / sum(t / math.log2(r + 2) for r, t in enumerate(sorted(labels, reverse=True)[:k]))

    liked = [s for s, t in zip(scores, labels, strict=True) if t > 0]
    others = [s for s, t in zip(scores, labels, strict=True) if t <= 0]
    rank = sum(mean_over_places(s, lambda r: 1 / (r + 1)) for s in liked) / len(liked)
    pairs = sum((a > b) + (a == b) / 2 for a in liked for b in others)
    return gained(10), gained(5), rank, pairs / (len(liked) * len(others))


def expected_scores(world):
    """Each contender's scores of each usable list, made the slow way. −inf: it does not know the candidate."""
    bundle, _items, train, held, _, _ = world
    student, teacher = Recommender(bundle), LikedFirst(held)
    out = {name: [] for name in ("student", "teacher", "chance", "logged", "popularity")}
    newest = {}  # of each user and item: a click has the time of its list
    for example in train:
        shown = example.ranking.impression
        for event in shown.history:
            pair = (shown.user, event.item)
            newest[pair] = max(event.time_us, newest.get(pair, 0))
        newest |= {
            (shown.user, c.item): shown.time_us for c, v in zip(shown.candidates, example.labels, strict=True) if v > 0
        }
    for example in usable(held):
        shown = example.ranking.impression
        names = [c.item for c in shown.candidates]
        answer = student.rank(Request(history=shown.history, context=shown.context, time_us=shown.time_us), names)
        given = dict(zip(answer.items, answer.scores, strict=True))
        out["student"].append([given.get(i, -math.inf) for i in names])
        out["teacher"].append(
            [-math.inf if (shown.id, n) == ("r8", 0) else np.float32(teacher.of(shown, i)) for n, i in enumerate(names)]
        )
        out["chance"].append([0] * len(names))
        out["logged"].append([-n for n in range(len(names))])
        before = [item for (_, item), at in newest.items() if at < shown.time_us]
        for other in usable(held):
            if (earlier := other.ranking.impression).time_us < shown.time_us:
                before += [c.item for c, v in zip(earlier.candidates, other.labels, strict=True) if v > 0]
        out["popularity"].append([before.count(i) for i in names])
    return out


def test_every_mean_is_that_of_plain_loops_over_the_lists(world):
    held, found = world[3], world[5]
    lists, scores = usable(held), expected_scores(world)
    assert (found.protocol, found.protocol_why, found.lists) == ("shown", "the settings ask for it", len(lists))
    for name, of in scores.items():
        expected = np.mean([by_hand(s, e.labels) for s, e in zip(of, lists, strict=True)], axis=0)
        measured = found.quality(name).metrics
        assert list(measured) == ["ndcg@10", "ndcg@5", "mrr", "auc"]
        np.testing.assert_allclose([measured[m].mean for m in measured], expected, atol=1e-9, err_msg=name)
    assert found.quality("chance").metrics["auc"].mean == 0.5
    assert {q.name for q in found.contenders} == {*scores, "popularity_recent", "itemknn", "ease", "beside", "device"}


def test_the_same_student_by_other_ways_has_the_same_figures(world):
    found = world[5]
    for name in ("beside", "device"):
        for metric, interval in found.quality("student").metrics.items():
            assert found.quality(name).metrics[metric].mean == pytest.approx(interval.mean, abs=0.02), (name, metric)
    assert found.quality("beside").metrics == found.quality("student").metrics


def test_retention_is_counted_above_chance(world):
    found = world[5]
    student, teacher, chance = (found.quality(n).metrics["ndcg@10"].mean for n in ("student", "teacher", "chance"))
    assert teacher > chance + 0.1
    assert found.retention.mean == pytest.approx((student - chance) / (teacher - chance))
    assert (found.retention_on, found.above_chance) == ("shown lists", True)
    assert student / teacher > found.retention.mean + 0.2, (
        "chance is most of what a student of noise gets on short lists"
    )


def test_ease_and_itemknn_score_what_they_score_in_the_catalogue(world):
    _bundle, _items, _, held, rivals, _ = world
    for rival in (r for r in rivals if r.name in ("ease", "itemknn")):
        for example in usable(held)[:20]:
            shown = example.ranking.impression
            seen = {e.item for e in shown.history} | set(shown.exclude)
            (scores,) = rival.scores([shown])
            given = {c.item: s for c, s in zip(shown.candidates, scores, strict=True) if c.item not in seen and s == s}
            order = [i for i in rival.top([shown], 1000)[0] if i in given]
            assert sorted(given) == sorted(order)
            assert [given[i] for i in order] == sorted(given.values(), reverse=True)


def test_what_is_left_out_is_counted(world):
    held, found = world[3], world[5]
    silent = sum(not any(e.labels) for e in held)
    full = sum(all(v > 0 for v in e.labels) for e in held)
    assert found.skipped["teacher failed"] == 1
    assert found.skipped["without a label"] == silent > 0
    assert found.skipped["every candidate was liked"] == full > 0
    assert found.lists == len(held) - silent - full - 1


def test_slices_are_their_lists(world):
    held, found = world[3], world[5]
    lists, scores = usable(held), expected_scores(world)
    slices = {s.name: s for s in found.slices}
    new = [n for n, e in enumerate(lists) if len(e.ranking.impression.history) <= 5]
    assert slices["new users"].n == len(new) > 0
    expected = np.mean([by_hand(scores["student"][n], lists[n].labels)[0] for n in new])
    assert slices["new users"].metrics["student"]["ndcg@10"].mean == pytest.approx(expected)
    # Of a slice of items, liked candidates of other kinds are no candidates at all.
    known = set(read_ids(world[2]))
    values = []
    for n, e in enumerate(lists):
        items = [c.item for c in e.ranking.impression.candidates]
        kept = [k for k, i in enumerate(items) if e.labels[k] <= 0 or i not in known]
        if any(e.labels[k] > 0 for k in kept):
            values.append(by_hand([scores["student"][n][k] for k in kept], [e.labels[k] for k in kept]))
    assert slices["new items"].n == len(values) > 0
    of = slices["new items"].metrics["student"]
    np.testing.assert_allclose([of[m].mean for m in of], np.mean(values, axis=0), atol=1e-9)


def read_ids(train):
    from recdistill.linear import read_interactions

    return read_interactions(train).ids


def test_without_a_teacher_that_answers_its_logged_scores_stand_for_it(world):
    bundle, _items, train, held, _, _ = world
    knows = LikedFirst(held)
    partly = []
    for n, e in enumerate(held):
        shown = e.ranking.impression
        scored = tuple((n + k) % 4 > 0 for k in range(len(e.labels)))
        scores = tuple(knows.of(shown, c.item) if s else 0.0 for c, s in zip(shown.candidates, scored, strict=True))
        partly.append(
            msgspec.structs.replace(e, ranking=msgspec.structs.replace(e.ranking, scores=scores, scored=scored))
        )
    found = evaluate(bundle, partly, teacher=None, rivals=[], train_examples=train, protocol="shown", draws=100)
    values = []
    for e in partly:
        pairs = [(s, t) for s, t, known in zip(e.ranking.scores, e.labels, e.ranking.scored, strict=True) if known]
        if 0 < sum(t > 0 for _, t in pairs) < len(pairs):
            values.append(by_hand(*zip(*pairs, strict=True)))
    assert found.lists == len(values)
    measured = found.quality("teacher").metrics
    np.testing.assert_allclose([measured[m].mean for m in measured], np.mean(values, axis=0), atol=1e-9)
    assert found.skipped["candidates without the teacher's score"] > 0
    assert found.skipped["too few candidates with the teacher's score"] > 0
    bare = [
        msgspec.structs.replace(e, ranking=msgspec.structs.replace(e.ranking, scored=(False,) * len(e.labels)))
        for e in held
    ]
    found = evaluate(bundle, bare, teacher=None, rivals=[], train_examples=train, protocol="shown", draws=100)
    assert found.quality("teacher") is None
    assert found.lists == len(usable(held, failed=()))
    assert "there is no teacher to compare with" in found.retention_why


def test_candidates_that_the_bundle_does_not_hold_come_last_and_are_counted(world):
    bundle, items, train, _, _, _ = world
    student = make_student(seed=0)
    held = make_lists(make_requests(student, 60, seed=4), items, seed=5, stranger=10)
    found = evaluate(bundle, held, teacher=None, rivals=[], train_examples=train, protocol="shown", draws=50)
    strangers = sum(
        c.item.startswith("stranger") for e in usable(held, failed=()) for c in e.ranking.impression.candidates
    )
    assert found.skipped["candidates that the bundle does not hold (the student puts them last)"] == strangers > 0
    assert found.notes == []
    many = make_lists(make_requests(student, 60, seed=4), items, seed=5, stranger=1)
    (note,) = evaluate(bundle, many, teacher=None, rivals=[], train_examples=train, protocol="shown", draws=50).notes
    assert "of the candidates are not in the bundle, and the student puts them last" in note


def test_json_holds_all_of_it_and_the_same_seed_gives_the_same(world):
    bundle, _, train, held, rivals, found = world
    again = evaluate(
        bundle, held, teacher=LikedFirst(held), rivals=rivals, train_examples=train, protocol="shown", draws=200
    )
    assert (again.differences, again.slices, again.retention) == (found.differences, found.slices, found.retention)
    assert from_json(to_json(found)) == found
    assert found.disagreements[0].tau <= found.disagreements[-1].tau


def test_lists_without_a_choice_cannot_be_judged_so(world):
    bundle, _, train, held, _, _ = world
    drawn = [msgspec.structs.replace(e, labels=tuple(1.0 for _ in e.labels)) for e in held]
    with pytest.raises(
        DataError, match="80 every candidate was liked; judge over the whole catalogue instead: --set judge"
    ):
        evaluate(bundle, drawn, teacher=None, rivals=[], train_examples=train, protocol="shown")
