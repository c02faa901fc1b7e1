"""The recommender against brute force over the same vectors, and its overlay against a bundle made anew."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recdistill.bundle import Bundle, build_index
from recdistill.errors import RequestError
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.model import forward
from recdistill.records import Event, Impression, Item
from recdistill.serve import Answer, Filters, Recommender, Request
from references.students import NOW_US, Student, make_item, make_requests, make_student

ITEMS = 9_000


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return student.export(
        tmp_path_factory.mktemp("bundles") / "one",
        golden_requests=make_requests(student, 20),
        popular=[(f"item-{i}", 60.0 - i) for i in range(6)],
    )


@pytest.fixture
def recommender(bundle: Bundle) -> Recommender:
    return Recommender(bundle)


def ask(impression: Impression, exclude: tuple[str, ...] = ()) -> Request:
    return Request(impression.history, impression.context, exclude, impression.time_us)


def brute(student: Student, items: list[Item], impressions: list[Impression]) -> list[dict[str, float]]:
    """Score by item id, for each request, over exactly these items: numpy only, no bundle."""
    from recdistill.features import Catalogue, encode_requests

    catalogue = Catalogue(student.spec, student.vocabulary)
    for item in items:
        catalogue.apply(item, admit=False)
    vectors = forward.items(student.weights, student.spec, catalogue.encoded())
    requests = encode_requests(student.spec, student.vocabulary, catalogue, impressions)
    users = forward.users(student.weights, student.spec, vectors, requests)
    table = users @ vectors[:, :-2].T + vectors[:, -2]
    return [dict(zip(catalogue.ids, row.tolist(), strict=True)) for row in table]


def check(answer: Answer, scores: dict[str, float], k: int) -> None:
    """The best k of these scores, each with its score; neighbours that are equal may change places."""
    best = sorted(scores.values(), reverse=True)[:k]
    assert answer.scores == pytest.approx(best, abs=1e-4)
    assert [scores[item] for item in answer.items] == pytest.approx(best, abs=1e-4)
    assert len(set(answer.items)) == len(answer.items)


def test_best_items_are_those_of_brute_force(student: Student, bundle: Bundle, recommender: Recommender) -> None:
    impressions = [i for i in make_requests(student, 60) if i.context]
    expected = brute(student, bundle.items, impressions)
    for k in (1, 10, 1000):
        for answer, scores in zip(recommender.recommend([ask(i) for i in impressions], k), expected, strict=True):
            assert answer.source == "personal"
            assert (answer.bundle, answer.overlay) == (bundle.content_hash, len(student.catalogue))
            check(answer, scores, k)
    for row, scores in zip(recommender.score_all(impressions), expected, strict=True):
        assert dict(zip(recommender.ids, row.tolist(), strict=True)) == pytest.approx(scores, abs=1e-4)


def test_filters_refill_to_k(student: Student, bundle: Bundle, recommender: Recommender) -> None:
    impression = make_requests(student, 12)[10]
    (scores,) = brute(student, bundle.items, [impression])
    order = sorted(scores, key=lambda item: -scores[item])
    attributes = {item.id: item.attributes for item in bundle.items}

    def left(filters: Filters, exclude: tuple[str, ...] = ()) -> None:
        passing = {
            item: score
            for item, score in scores.items()
            if item not in exclude
            and item not in filters.exclude
            and (filters.allow is None or item in filters.allow)
            and all(
                {*(w if isinstance(w, list) else [w])}
                & {*(v if isinstance(v := attributes[item].get(field), list) else [v])}
                for field, w in filters.where.items()
            )
        }
        assert passing
        (answer,) = recommender.recommend([ask(impression, exclude)], 10, filters)
        assert len(answer.items) == min(10, len(passing))
        check(answer, passing, 10)

    left(Filters(), tuple(order[:15]))
    left(Filters(exclude=frozenset(order[3:30])), tuple(order[:3]))
    left(Filters(allow=frozenset([*order[20:25], "nobody"])))
    left(Filters(where={"genres": "g1"}))
    left(Filters(where={"genres": ["g1", "g7"]}, exclude=frozenset(order[:5])))
    year = next(a["year"] for a in attributes.values() if "year" in a)
    left(Filters(where={"year": year}))
    with pytest.raises(RequestError, match="where.year: items have numbers there"):  # a flag is not a number
        recommender.recommend([ask(impression)], 3, Filters(where={"year": True}))
    (nothing,) = recommender.recommend([ask(impression)], 3, Filters(where={"year": -1}))
    assert nothing.items == []
    mixed = recommender.recommend([ask(impression)] * 2, 2, [None, Filters(exclude=frozenset(order[:1]))])
    assert mixed[0].items[1] == mixed[1].items[0]


def test_nothing_known_gets_popular_items(student: Student, bundle: Bundle, recommender: Recommender) -> None:
    popular = [item for item, _ in bundle.popular]
    assert popular == ["item-0", "item-1", "item-2", "item-3", "item-5"]  # item-4 is withdrawn
    stranger = Request(history=(Event("nobody"),), context={"device": "fridge"})
    (answer,) = recommender.recommend([stranger], 3)
    assert (answer.items, answer.source, answer.unknown_history) == (popular[:3], "popular", 1)
    (answer,) = recommender.recommend([stranger], 8, Filters(exclude=frozenset(["item-1"])))
    assert answer.source == "mixed"
    assert answer.items[:4] == ["item-0", "item-2", "item-3", "item-5"]
    assert len(set(answer.items)) == 8
    (scores,) = brute(student, bundle.items, [Impression("r", 0, context=stranger.context)])
    assert answer.scores == pytest.approx([scores[item] for item in answer.items], abs=1e-4)
    (all_,) = recommender.recommend([stranger], 500)
    assert sorted(all_.items) == sorted(item.id for item in bundle.items)
    # Where no popular item may be in the answer, the model's order for anybody is left. It is for nobody in person.
    unpopular = sorted(set(scores) - set(popular), key=lambda item: -scores[item])
    (general,) = recommender.recommend([stranger], 5, Filters(exclude=frozenset(popular)))
    assert (general.items, general.source) == (unpopular[:5], "general")
    given = recommender.rank(stranger, unpopular[4::-1])
    assert (given.items, given.source) == (unpopular[:5], "general")
    (nothing,) = recommender.recommend([stranger], 5, Filters(allow=frozenset(["nobody"])))
    assert (nothing.items, nothing.source) == ([], "general")
    assert recommender.rank(Request(context={"device": "phone"}), unpopular[:2]).source == "personal"
    (known,) = recommender.recommend([Request(context={"device": "phone"})], 3)
    assert known.source == "personal"


def test_rank_orders_what_it_is_given(student: Student, bundle: Bundle, recommender: Recommender) -> None:
    impression = make_requests(student, 12)[11]
    (scores,) = brute(student, bundle.items, [impression])
    given = ["item-7", "nobody", "item-3", "item-4", "item-30", "item-3"]  # item-4 is withdrawn
    answer = recommender.rank(ask(impression), given)
    check(answer, {item: scores[item] for item in ("item-7", "item-3", "item-30")}, 10)
    assert answer.unknown == ["nobody", "item-4"]
    assert recommender.rank(ask(impression), []).items == []


def test_many_requests_are_ranked_as_each_alone(recommender: Recommender, student: Student) -> None:
    asked = [ask(impression) for impression in make_requests(student, 12)]
    given = [[f"item-{n}" for n in range(at, at + 8)] + ["nobody"] for at in range(12)]
    together = recommender.rank_each(asked, given)
    for one, request, items in zip(together, asked, given, strict=True):
        alone = recommender.rank(request, items)
        assert one.items == alone.items
        assert one.scores == pytest.approx(alone.scores, abs=1e-5)
        assert one.unknown == alone.unknown
        assert "nobody" in one.unknown
    assert recommender.rank_each([], []) == []


def test_similar_items(bundle: Bundle, recommender: Recommender) -> None:
    vectors = {item.id: row[:-2] for item, row in zip(bundle.items, bundle.vectors_NW.astype(float), strict=True)}
    one = vectors["item-7"]
    cosines = {
        i: float(v @ one / math.sqrt((v @ v) * (one @ one)))
        for i, v in vectors.items()
        if i not in ("item-7", "item-9")
    }
    check(recommender.similar("item-7", 12, Filters(exclude=frozenset(["item-9"]))), cosines, 12)
    with pytest.raises(RequestError, match=r"^item: 'nobody' is not in the catalogue"):
        recommender.similar("nobody", 3)


def test_overlay_answers_as_a_bundle_made_anew(student: Student, bundle: Bundle, recommender: Recommender) -> None:
    """New, changed, withdrawn and returning items, in several batches with older versions between them."""
    rng = np.random.default_rng(5)
    now = {item.id: item for item in bundle.items}
    impressions = [i for i in make_requests(student, 40) if i.context]
    position = recommender.position
    for batch in range(8):
        records = []
        for _ in range(12):
            i = int(rng.integers(0, 75))
            version = int(rng.integers(1, 4 + batch))
            record = msgspec.structs.replace(make_item(i, rng), version=version, withdrawn=bool(rng.random() < 0.3))
            if record.withdrawn and rng.random() < 0.5:
                record = msgspec.structs.replace(record, attributes={})
            if rng.random() < 0.2 and record.id in now:
                record = now[record.id]
            records.append(record)
            before = now.get(record.id)
            if before is not None and record.version < before.version:
                continue
            if record.withdrawn and not record.attributes and before is not None:
                record = msgspec.structs.replace(record, attributes=before.attributes)
            now[record.id] = record
        position += len(records)
        counts = recommender.apply_items(records, position)
        assert sum(counts.values()) == len(records)
        live = {item.id for item in now.values() if not item.withdrawn}
        assert recommender.live == len(live)
        # A withdrawn item that never had a vector stays unknown in histories; what counts is who can be asked for.
        known = [
            item for item in now.values() if not item.withdrawn or recommender._state.slot_of.get(item.id) is not None
        ]
        every = brute(student, [msgspec.structs.replace(item, withdrawn=False) for item in known], impressions)
        answers = recommender.recommend([ask(i) for i in impressions], 15)
        for answer, scores in zip(answers, every, strict=True):
            assert answer.overlay == position
            check(answer, {item: score for item, score in scores.items() if item in live}, 15)
    assert len(recommender.ids) > len(bundle.items)
    recommender.check_golden()  # asks the bundle as it was, whatever the overlay says


def test_overlay_edges(
    student: Student, bundle: Bundle, recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    counts = recommender.apply_items(bundle.items, 100)  # the topic read again from an earlier position
    assert counts == {"changed": 0, "withdrawn": 0, "ignored": len(bundle.items), "refused": 0}
    assert recommender.ids == [item.id for item in bundle.items]
    counts = recommender.apply_items([Item("new", attributes={"image": [1.0]}), Item("fine")], 102)
    assert counts["refused"] == 1
    assert "image" in caplog.text
    assert recommender.rank(Request(), ["new", "fine"]).items == ["fine"]
    gone = [Item(item, version=99, withdrawn=True) for item in [*recommender.ids, "never"]]
    assert recommender.apply_items(gone, 200)["withdrawn"] == len(bundle.items) + 1
    assert recommender.recommend([Request()], 5)[0].items == []
    both = [Item("flicker", version=1), Item("flicker", version=2, withdrawn=True), Item("item-3", version=100)]
    assert recommender.apply_items(both, 203) == {"changed": 2, "withdrawn": 1, "ignored": 0, "refused": 0}
    (answer,) = recommender.recommend([Request(history=(Event("flicker"), Event("item-5")))], 5)
    assert answer.items == ["item-3"]
    assert answer.unknown_history == 0  # withdrawn items still mean something in a history


def test_a_withdrawal_holds_even_where_its_attributes_do_not_fit(recommender: Recommender) -> None:
    """The item is gone. In histories it keeps the attributes that it had, so the answers of others stay as they are."""
    request = Request(history=(Event("item-3"), Event("item-5")))
    only = Filters(allow=frozenset(["item-1", "item-2"]))
    [before] = recommender.recommend([request], 2, only)
    wrong = {"image": [1.0]}
    counts = recommender.apply_items([Item("item-3", 9, withdrawn=True, attributes=wrong)], 1)
    assert counts == {"changed": 0, "withdrawn": 1, "ignored": 0, "refused": 0}
    assert recommender.rank(Request(), ["item-3"]).items == []
    assert recommender.recommend([request], 2, only)[0].scores == before.scores
    both = [Item("fresh", 1), Item("fresh", 2, withdrawn=True, attributes=wrong), Item("item-3", 8)]
    assert recommender.apply_items(both, 4) == {"changed": 1, "withdrawn": 1, "ignored": 1, "refused": 0}
    assert recommender.rank(Request(), ["fresh", "item-3"]).items == []


def test_answers_are_whole_while_the_overlay_changes(bundle: Bundle, recommender: Recommender) -> None:
    """Two items are never live together: each batch swaps them. No answer shows both, or neither."""
    a, b = "item-1", "item-2"
    request = Request(history=(Event("item-3"),))
    recommender.apply_items([Item(b, version=2, withdrawn=True)], 1)
    problems: list[object] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                (answer,) = recommender.recommend([request], 5, Filters(allow=frozenset([a, b])))
                expected = [a] if answer.overlay % 2 else [b]
                if answer.items != expected:
                    problems.append(answer)
        except Exception as e:  # noqa: BLE001 - whatever it is, the test must see it
            problems.append(e)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for position in range(2, 150):
        show, hide = (a, b) if position % 2 else (b, a)
        shown = Item(show, version=position + 1, attributes={"year": float(position)})
        recommender.apply_items([Item(hide, version=position + 1, withdrawn=True), shown], position)
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []


def test_bad_requests_name_their_field(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match=r"^context.hour: must be a number"):
        recommender.recommend([Request(context={"hour": "noon"})], 3)
    with pytest.raises(RequestError, match=r"^requests\[1\].context.hour: must be a number"):
        recommender.recommend([Request(), Request(context={"hour": "noon"})], 3)
    with pytest.raises(RequestError, match=r"^k: must be at least 1, not 0"):
        recommender.recommend([Request()], 0)
    with pytest.raises(RequestError, match=r"^filters: must be one for all"):
        recommender.recommend([Request()], 1, [None, None])
    assert recommender.recommend([], 3) == []


@pytest.mark.parametrize("value", [3e38, -3e38, 1e20])
def test_a_vector_beyond_all_bounds_is_refused(recommender: Recommender, value: float) -> None:
    request = Request(history=(Event("item-1"),), context={"place": [value, -value]})
    with pytest.raises(RequestError, match=r"context.place: must have numbers between -1,000,000,000 and"):
        recommender.recommend([request], 10)


@pytest.mark.parametrize("value", [1e9, -1e9, 1e-38])
def test_absurd_context_still_gets_an_answer(recommender: Recommender, value: float) -> None:
    request = Request(history=(Event("item-1"),), context={"place": [value, -value]})
    (answer,) = recommender.recommend([request], 10)
    assert len(answer.items) == 10
    assert np.isfinite(answer.scores).all()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Student, Bundle]]:
    """Enough items for an index (whose threshold is lowered here), with structure that it can use: 40 centres."""
    spec = FeatureSpec(
        history=HistorySpec(6), id=IdSpec(capacity=ITEMS, hashed=4), item={"band": Field("category", capacity=50)}
    )
    student = make_student(0, spec=spec, dim=12)
    for i in range(ITEMS):
        student.catalogue.apply(
            Item(f"i{i}", attributes={"band": f"b{i % 40}", "rare": i % (ITEMS // 10) == 0}), admit=True
        )
    weights = dict(student.weights)
    rng = np.random.default_rng(2)
    size = student.vocabulary.size("id")
    weights["id"] = rng.normal(scale=0.35, size=(size, 14)).astype(np.float32)
    weights["item.band"] = rng.normal(scale=0.7, size=(student.vocabulary.size("item.band"), 14)).astype(np.float32)
    student = student._replace(weights=weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recdistill.bundle.build.build_index", partial(build_index, exact_below=ITEMS))
        patch.setattr("recdistill.serve.index.SCAN_BELOW", 1000)
        yield student, student.export(tmp_path_factory.mktemp("large") / "bundle")


@pytest.mark.slow
def test_index_of_a_large_catalogue(large: tuple[Student, Bundle], tmp_path: Path) -> None:
    student, bundle = large
    info = bundle.manifest.content.index
    assert info.kind == "ivf_sq8"
    assert info.recall >= 0.95
    assert 1 <= info.probes < info.lists
    assert student.export(tmp_path / "again").content_hash == bundle.content_hash
    recommender = Recommender(bundle)
    recommender.check_golden()
    rng = np.random.default_rng(9)
    requests = [
        Request(history=tuple(Event(f"i{i}") for i in rng.integers(0, ITEMS, size=1 + b % 6))) for b in range(60)
    ]
    scores_BN = recommender.score_all([Impression("r", 0, history=r.history) for r in requests])
    recalls = []
    for answer, scores in zip(recommender.recommend(requests, 100), scores_BN, strict=True):
        best = {recommender.ids[slot] for slot in np.argsort(-scores)[:100]}
        recalls.append(len(best & set(answer.items)) / 100)
        assert answer.scores == sorted(answer.scores, reverse=True)
        assert answer.scores == pytest.approx([scores[int(i[1:])] for i in answer.items], abs=1e-4)
    assert np.mean(recalls) >= 0.93  # of users whom the index was not measured with


def test_filters_and_overlay_on_a_large_catalogue(large: tuple[Student, Bundle]) -> None:
    recommender = Recommender(large[1])
    request = Request(history=(Event("i1"), Event("i2")))
    scores = recommender.score_all([Impression("r", 0, history=request.history)])[0]
    rare = sorted(range(0, ITEMS, ITEMS // 10), key=lambda i: -scores[i])
    (answer,) = recommender.recommend([request], 10, Filters(where={"rare": True}))
    assert answer.items == [f"i{i}" for i in rare]
    half = frozenset(f"i{i}" for i in np.argsort(-scores)[ITEMS // 2 :])  # the worse half: whole cells are closed
    (answer,) = recommender.recommend([request], 50, Filters(allow=half))
    assert len(answer.items) == 50
    assert set(answer.items) <= half
    top = recommender.recommend([request], 20)[0].items
    recommender.apply_items([Item(item, version=2, withdrawn=True) for item in top[:10]], 1)
    later = recommender.recommend([request], 10)[0].items
    assert not set(later) & set(top[:10])
    assert len(set(later) & set(top[10:])) >= 8
    recommender.apply_items([Item("fresh", attributes={"band": large[1].items[int(top[0][1:])].attributes["band"]})], 2)
    assert "fresh" in recommender.recommend([request], ITEMS)[0].items


def test_serving_needs_no_torch(bundle: Bundle) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from recdistill.bundle import open_bundle\n"
        "from recdistill.serve import Recommender, Request\n"
        "r = Recommender(open_bundle(Path(sys.argv[1]))); r.check_golden()\n"
        "assert r.recommend([Request()], 3)[0].items\n"
        "bad = {'torch', 'torchrec', 'onnx', 'mlflow', 'recdistill.train', 'recdistill.teachers'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_time_decides_ages(student: Student, recommender: Recommender) -> None:
    history = (Event("item-1", NOW_US - 10_000_000), Event("item-2", NOW_US - 5_000_000))
    early, late, never = recommender.recommend(
        [Request(history, time_us=NOW_US), Request(history, time_us=NOW_US + 60_000_000), Request(history)], 5
    )
    assert len({early.scores[0], late.scores[0], never.scores[0]}) == 2  # equal ages share alike, as unknown ones do
