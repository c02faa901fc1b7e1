"""The built-in teacher: learns planted rules, scores what it should and nothing else, and refuses strange files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from recdistill.config import TeacherSettings
from recdistill.errors import TeacherError
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.loops.teachers import open_teacher
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.teachers import Scores
from recdistill.teachers.builtin import Training
from recdistill.teachers.builtin import teacher as builtin
from recdistill.teachers.builtin.teacher import BuiltinTeacher, train_teacher

COUNT = 12
NAMES = [f"item{n}" for n in range(COUNT)]
COLOURS = ["red", "green", "blue"]
SPEC = FeatureSpec(
    history=HistorySpec(length=6, actions=("click",)),
    id=IdSpec(capacity=64, hashed=4),
    item={
        "colour": Field("category", capacity=8, hashed=2),
        "title": Field("text", capacity=16, max_values=3),
        "price": Field("number", mean=5.0, std=3.0),
        "look": Field("vector", size=2),
    },
    context={"mood": Field("category", capacity=4, hashed=0), "hour": Field("number", mean=12.0, std=6.0)},
)
SMALL = Training(
    dim=16,
    layers=2,
    heads=2,
    pooled_dim=16,
    dropout=0.0,
    epochs=16,
    batch=32,
    learning_rate=1e-2,
    table_learning_rate=0.1,
    seed=3,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def item(n: int, colour: str | None = None) -> Item:
    colour = COLOURS[n % 3] if colour is None else colour
    return Item(
        f"item{n}", attributes={"colour": colour, "title": f"a {colour} thing", "price": n, "look": [n % 2, 1.0]}
    )


ITEMS = [item(n) for n in range(COUNT)]


def example(impression: Impression, taken: str) -> Example:
    count = len(impression.candidates)
    labels = tuple(float(candidate.item == taken) for candidate in impression.candidates)
    return Example(Ranking(impression, "x", "", "rank", (0.0,) * count, (False,) * count), labels, "closed")


def asked(
    number: int, history: list[str], mood: str = "calm", *, user: str | None = None, candidates: Any = NAMES
) -> Impression:
    start = 1_000_000_000 + number * 100_000_000
    return Impression(
        f"i{number}",
        start + 60_000_000,
        user=user,
        history=tuple(Event(name, start + place * 1_000_000, "click") for place, name in enumerate(history)),
        context={"mood": mood, "hour": float(number % 24)},
        candidates=tuple(Candidate(name) for name in candidates),
    )


def rule_lists(count: int = 500, seed: int = 0) -> list[Example]:
    """The next item is the one after the newest in history, or, in a bold mood, the one before it."""
    random = np.random.default_rng(seed)
    lists = []
    for number in range(count):
        newest = int(random.integers(COUNT))
        others = random.choice([n for n in range(COUNT) if n not in (newest, (newest + 1) % COUNT, newest - 1)], 2)
        bold = bool(random.integers(2))
        taken = (newest - 1 if bold else newest + 1) % COUNT
        history = [f"item{n}" for n in (*others, newest)]
        lists.append(example(asked(number, history, "bold" if bold else "calm"), f"item{taken}"))
    return lists


@pytest.fixture(scope="module", params=["towers", "attention"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that has gone once over a few lists: there is something to load, to score with and to damage."""
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    settings = msgspec.structs.replace(SMALL, kind=request.param, epochs=1)
    train_teacher(rule_lists(64), ITEMS, SPEC, settings, out)
    return out


@pytest.fixture(scope="module", params=["towers", "attention"])
def learnt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    told: list[tuple[int, int]] = []
    settings = msgspec.structs.replace(SMALL, kind=request.param)
    figures = train_teacher(rule_lists(), ITEMS, SPEC, settings, out, progress=lambda *at: told.append(at))
    assert figures["lists"] == 500
    assert figures["items"] == COUNT
    assert figures["bytes"] == sum(file.stat().st_size for file in out.iterdir())
    assert figures["seconds"] > 0
    assert told == sorted(set(told))
    assert told[-1] == (1000, 1000)
    return out


@pytest.fixture
def teacher(folder: Path) -> BuiltinTeacher:
    return BuiltinTeacher.load(folder)


def values(answer: Scores | TeacherError) -> np.ndarray:
    assert isinstance(answer, Scores)
    return answer.values_L


@pytest.mark.parametrize("kind", ["towers", "attention"])
def test_the_folder_says_which_versions_can_read_it(kind: str, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SMALL, kind=kind, epochs=1)
    train_teacher(rule_lists(20), ITEMS, SPEC, settings, tmp_path / "t")
    described = json.loads((tmp_path / "t" / "teacher.json").read_bytes())
    assert described["format"] == {"towers": 1, "attention": 2}[kind]
    assert ("transformers" in described) == (kind == "attention"), "earlier versions know no such key"


@pytest.mark.slow
def test_it_learns_the_rule_that_order_and_context_decide(learnt: Path) -> None:
    fresh = rule_lists(100, seed=1)
    answers = BuiltinTeacher.load(learnt).score([one.ranking.impression for one in fresh])
    hits = [int(values(a).argmax()) == one.labels.index(1.0) for one, a in zip(fresh, answers, strict=True)]
    assert np.mean(hits) > 0.9  # without order it would be a third, without the mood a half


@pytest.mark.slow
def test_the_contract(teacher: BuiltinTeacher, folder: Path) -> None:
    opened = open_teacher(TeacherSettings(kind="builtin", path=str(folder)))
    assert (opened.id, opened.scale) == ("builtin", "logit")
    assert opened.version == teacher.version
    assert len(opened.version) == 12
    assert teacher.score([]) == []


def test_a_loaded_teacher_scores_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    for file in folder.iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    lists = [one.ranking.impression for one in rule_lists(40, seed=2)]
    one, two = BuiltinTeacher.load(folder), BuiltinTeacher.load(again)
    two.apply_items(ITEMS)  # told once more of what it knows
    for a, b in zip(one.score(lists), two.score(lists), strict=True):
        assert values(a).tobytes() == values(b).tobytes()


@pytest.mark.slow
def test_a_catalogue_too_large_for_the_whole_softmax_is_learnt_by_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "fit", partial(builtin.fit, full=4, drawn=4))
    settings = msgspec.structs.replace(SMALL, layers=1, pooled_dim=0)
    train_teacher(rule_lists(), ITEMS, SPEC, settings, tmp_path / "t")
    fresh = rule_lists(100, seed=1)
    answers = BuiltinTeacher.load(tmp_path / "t").score([one.ranking.impression for one in fresh])
    hits = [int(values(a).argmax()) == one.labels.index(1.0) for one, a in zip(fresh, answers, strict=True)]
    assert np.mean(hits) > 0.8


@pytest.mark.parametrize("threads", [1, 2])
def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path, threads: int) -> None:
    settings = msgspec.structs.replace(SMALL, epochs=1, dropout=0.2)
    torch.set_num_threads(threads)
    try:
        versions = [
            train_teacher(rule_lists(60), ITEMS, SPEC, msgspec.structs.replace(settings, seed=seed), tmp_path / name)[
                "version"
            ]
            for seed, name in ((1, "a"), (1, "b"), (2, "c"))
        ]
    finally:
        torch.set_num_threads(1)
    assert versions[0] == versions[1] != versions[2]


def test_a_list_in_any_company_gets_its_own_scores(teacher: BuiltinTeacher) -> None:
    random = np.random.default_rng(5)
    lists = []
    for number in range(9):
        history = [f"item{n}" for n in random.choice(COUNT, number % 6, replace=False)]
        names = [f"item{n}" for n in random.permutation(COUNT)[: 1 + number]]
        lists.append(asked(number, history, candidates=names))
    alone = [values(teacher.score([one])[0]) for one in lists]
    for a, b in zip(alone, teacher.score(lists), strict=True):
        np.testing.assert_allclose(a, values(b), atol=1e-5)


def test_one_shared_list_scores_like_lists_of_their_own(teacher: BuiltinTeacher) -> None:
    shared = tuple(Candidate(name) for name in ["item3", "nobody", *NAMES])
    lists = [asked(number, [f"item{number}"]) for number in range(6)]
    many = teacher.score([msgspec.structs.replace(one, candidates=shared) for one in lists])
    for one, answer in zip(lists, many, strict=True):
        own = tuple(Candidate(candidate.item) for candidate in shared)
        [expected] = teacher.score([msgspec.structs.replace(one, candidates=own)])
        assert isinstance(answer, Scores)
        assert isinstance(expected, Scores)
        assert answer.scored_L.tolist() == expected.scored_L.tolist() == [True, False] + [True] * COUNT
        np.testing.assert_allclose(answer.values_L, expected.values_L, atol=1e-5)


def test_a_large_catalogue_scores_by_list_and_alike(teacher: BuiltinTeacher) -> None:
    few = asked(1, ["item2"], candidates=["item5", "item1"])
    before = values(teacher.score([few])[0])
    teacher.apply_items([item(n) for n in range(COUNT, COUNT + 200)])  # more than 32 times the list
    np.testing.assert_allclose(values(teacher.score([few])[0]), before, atol=1e-5)


def test_what_it_was_never_told_of_is_masked(teacher: BuiltinTeacher) -> None:
    [answer] = teacher.score([asked(1, ["item1"], candidates=["nobody", "item2", "noone"])])
    assert isinstance(answer, Scores)
    assert answer.scored_L.tolist() == [False, True, False]
    assert answer.values_L[[0, 2]].tolist() == [0.0, 0.0]
    [none] = teacher.score([asked(1, [], candidates=["nobody"])])
    assert isinstance(none, Scores)
    assert not none.scored_L.any()
    [empty] = teacher.score([asked(1, ["item1"], candidates=[])])
    assert isinstance(empty, Scores)
    assert empty.values_L.shape == (0,)


def test_nothing_known_of_the_asker_is_still_an_answer(teacher: BuiltinTeacher) -> None:
    [answer] = teacher.score([Impression("i", 5, candidates=(Candidate("item1"), Candidate("item2")))])
    assert np.isfinite(values(answer)).all()


def test_events_of_the_future_and_of_unknown_items_change_nothing(teacher: BuiltinTeacher) -> None:
    plain = asked(1, ["item1", "item4"])
    noisy = msgspec.structs.replace(
        plain, history=(Event("nobody", 1), *plain.history, Event("item7", plain.time_us), Event("item8", 2**50))
    )
    first, second = teacher.score([plain, noisy])
    np.testing.assert_array_equal(values(first), values(second))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["towers", "attention"])
def test_a_new_item_is_scored_by_its_attributes(kind: str, tmp_path: Path) -> None:
    """Users take one colour; a new item of that colour must come before new items of the others."""
    random = np.random.default_rng(0)
    lists = []
    for number in range(300):
        colour = number % 3
        same = [n for n in range(COUNT) if n % 3 == colour]
        picked = [f"item{n}" for n in random.permutation(same)]
        lists.append(example(asked(number, picked[:3]), picked[3]))
    train_teacher(lists, ITEMS, SPEC, msgspec.structs.replace(SMALL, kind=kind, epochs=10), tmp_path / "t")
    teacher = BuiltinTeacher.load(tmp_path / "t")
    names = [f"item{20 + n}" for n in range(3)]
    question = [asked(number, [f"item{number % 3}", f"item{number % 3 + 3}"], candidates=names) for number in range(3)]
    [before] = teacher.score(question[:1])
    assert isinstance(before, Scores)
    assert not before.scored_L.any()
    teacher.apply_items([item(20 + n, COLOURS[n]) for n in range(3)])
    for colour, answer in enumerate(teacher.score(question)):
        assert isinstance(answer, Scores)
        assert answer.scored_L.all()
        assert int(answer.values_L.argmax()) == colour
    teacher.apply_items([msgspec.structs.replace(item(20, "blue"), version=1), item(21), item(22)])
    assert int(values(teacher.score(question)[2]).argmax()) in (0, 2)  # the blue ones now


def test_the_whole_catalogue_scores_as_a_list_of_all_would(
    teacher: BuiltinTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "_BLOCK", 3)
    teacher.apply_items([item(COUNT), Item("item1", withdrawn=True, version=1)])
    assert teacher.item_ids == [*NAMES, f"item{COUNT}"]
    lists = [asked(n, [f"item{k}" for k in range(n % 5)], candidates=teacher.item_ids) for n in range(7)]
    scores_BN = teacher.catalogue_scores(lists)
    assert (scores_BN.shape, scores_BN.dtype) == ((7, COUNT + 1), np.float32)
    for scores_N, answer in zip(scores_BN, teacher.score(lists), strict=True):
        np.testing.assert_allclose(scores_N, values(answer), atol=1e-5)
    assert teacher.catalogue_scores([]).shape == (0, COUNT + 1)
    with pytest.raises(TeacherError, match=r"impression bad: context\.hour"):
        teacher.catalogue_scores([lists[0], msgspec.structs.replace(lists[1], id="bad", context={"hour": "noon"})])


def test_a_poisonous_record_spoils_only_itself(teacher: BuiltinTeacher) -> None:
    good = asked(1, ["item1"])
    bad = msgspec.structs.replace(good, id="bad", context={"hour": "noon"})
    answers = teacher.score([good, bad, good])
    assert isinstance(answers[1], TeacherError)
    assert "bad" in str(answers[1])
    assert "context.hour" in str(answers[1])
    np.testing.assert_array_equal(values(answers[0]), values(answers[2]))
    teacher.apply_items([Item("odd", attributes={"price": "dear"}), item(13)])
    [scores] = teacher.score([asked(1, ["item1"], candidates=["odd", "item13"])])
    assert isinstance(scores, Scores)
    assert scores.scored_L.tolist() == [False, True]


def test_a_passed_deadline_is_an_error_of_each_list(teacher: BuiltinTeacher) -> None:
    answers = teacher.score([asked(1, ["item1"])] * 3, deadline_s=-1.0)
    assert [type(answer) for answer in answers] == [TeacherError] * 3
    assert "deadline" in str(answers[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heads": 3}, "does not divide"),
        ({}, "positive label"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path: Path, change: dict[str, int], says: str) -> None:
    lists = [example(asked(1, ["item1"]), "nothing")] if not change else rule_lists(5)
    with pytest.raises(TeacherError, match=says):
        train_teacher(lists, ITEMS, SPEC, msgspec.structs.replace(SMALL, **change), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_folder_that_is_there_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(TeacherError, match="exists already"):
        train_teacher(rule_lists(5), ITEMS, SPEC, SMALL, folder)


def test_every_changed_byte_is_refused(folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("teacher.json", "weights.safetensors"):
        content = (folder / name).read_bytes()
        for place in [0, len(content) - 1, *random.integers(len(content), size=25).tolist()]:
            broken = _copy(folder, tmp_path / f"{name}-{place}")
            changed = bytearray(content)
            changed[place] ^= 1 << int(random.integers(7))
            (broken / name).write_bytes(changed)
            _refused(broken)
        broken = _copy(folder, tmp_path / f"{name}-cut")
        (broken / name).write_bytes(content[: len(content) // 2])
        _refused(broken)
        (broken / name).unlink()
        _refused(broken)


def _weights(change: Any) -> Any:
    def forge(folder: Path) -> None:
        arrays = dict(load((folder / "weights.safetensors").read_bytes()))
        change(arrays)
        _seal(folder, weights=save(arrays))

    return forge


def _described(change: Any) -> Any:
    def forge(folder: Path) -> None:
        described = json.loads((folder / "teacher.json").read_bytes())
        change(described)
        _seal(folder, described=described)

    return forge


def _towers(described: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = described.get("transformers") or described["towers"]
    return found


def _drop(arrays: dict[str, np.ndarray]) -> None:
    del arrays["0.dense.gap"]


def _extra(arrays: dict[str, np.ndarray]) -> None:
    arrays["0.dense.backdoor"] = np.zeros(3, np.float32)


def _shape(arrays: dict[str, np.ndarray]) -> None:
    arrays["0.table.id"] = arrays["0.table.id"][:-1].copy()


def _kind(arrays: dict[str, np.ndarray]) -> None:
    arrays["0.dense.gap"] = arrays["0.dense.gap"].astype(np.float64)


def _nan(arrays: dict[str, np.ndarray]) -> None:
    arrays["0.table.id"] = np.full_like(arrays["0.table.id"], np.nan)


def _rows(arrays: dict[str, np.ndarray]) -> None:
    arrays["catalogue.id_rows"] = arrays["catalogue.id_rows"] + 10_000


def _no_items(arrays: dict[str, np.ndarray]) -> None:
    arrays["catalogue.items"] = arrays["catalogue.items"][:-3].copy()


@pytest.mark.parametrize(
    "forge",
    [
        *map(_weights, [_drop, _extra, _shape, _kind, _nan, _rows, _no_items]),
        _described(lambda d: d.update(format=3)),
        _described(lambda d: _towers(d).clear()),
        _described(lambda d: _towers(d)[0].update(dim=2**40)),
        _described(lambda d: _towers(d)[0].update(layers=10**6)),
        _described(lambda d: _towers(d)[0].update(heads=0)),
        _described(lambda d: _towers(d)[0].update(hidden=-1)),
        _described(lambda d: _towers(d)[-1].update(context_dim=10**12)),
        _described(lambda d: _towers(d).pop()),
        _described(lambda d: d["vocabulary"]["id"].append("item1")),
        _described(lambda d: d["vocabulary"].pop("id")),
        _described(lambda d: d["spec"]["item"]["title"].update(capacity=1 << 26)),
        _described(lambda d: d["spec"]["history"].update(length=10_000)),
        _described(lambda d: d["spec"]["item"]["look"].update(size=4_096)),
        _described(lambda d: d["spec"].update(surprise=1)),
        _described(lambda d: d.update(surprise=1)),
        lambda folder: _seal(folder, weights=b""),
        lambda folder: _seal(folder, weights=b"\xff" * 64),
        lambda folder: _seal(folder, weights=(1 << 62).to_bytes(8, "little") + b"{}" * 4000),
        lambda folder: (folder / "teacher.json").write_bytes(b"[" * 100_000),
        lambda folder: (folder / "teacher.json").write_bytes(b"\xff\xfe"),
    ],
)
def test_forged_files_with_right_hashes_are_refused(folder: Path, tmp_path: Path, forge: Any) -> None:
    forged = _copy(folder, tmp_path / "forged")
    forge(forged)
    _refused(forged)


def _copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def _refused(folder: Path) -> None:
    with pytest.raises(TeacherError) as caught:
        BuiltinTeacher.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def _seal(folder: Path, *, weights: bytes | None = None, described: dict[str, Any] | None = None) -> None:
    """Makes the hashes right again, as a forger would, by the documented recipe."""
    if weights is not None:
        (folder / "weights.safetensors").write_bytes(weights)
    described = json.loads((folder / "teacher.json").read_bytes()) if described is None else described
    described["weights_sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    try:
        spec_hash = FeatureSpec.from_dict(described["spec"]).hash
    except Exception:  # noqa: BLE001 - a specification that is refused anyhow
        spec_hash = ""
    content = [described["format"], described["weights_sha256"], spec_hash]
    content += [described["vocabulary"], described["towers"]]
    content += [described["transformers"]] if described.get("transformers") else []
    described["version"] = hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:12]
    (folder / "teacher.json").write_bytes(json.dumps(described).encode())


def test_a_forger_who_changes_nothing_is_let_in(folder: Path, tmp_path: Path) -> None:
    """Otherwise the test of forged files would pass for the wrong reason."""
    forged = _copy(folder, tmp_path / "forged")
    _seal(forged)
    assert BuiltinTeacher.load(forged).version == BuiltinTeacher.load(folder).version


def test_the_front_door_opens_without_torch() -> None:
    code = "import sys, recdistill.teachers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["towers", "attention"])
def test_events_older_than_the_records_of_their_items_teach(kind: str, tmp_path: Path) -> None:
    """A catalogue is often loaded once, and histories reach back before it. What the lists say teaches nothing here."""
    spec = FeatureSpec(history=HistorySpec(length=6), id=IdSpec(capacity=COUNT + 1, hashed=1))
    loaded_us = 1_000
    examples = []
    for user in range(120):
        events = tuple(Event(NAMES[(user + step) % COUNT], 10 + step) for step in range(6))
        asked = Impression(f"u{user}", 2 * loaded_us, user=f"u{user}", history=events, candidates=(Candidate("other"),))
        examples.append(Example(Ranking(asked, "", "", "rank", (0.0,), (False,)), (1.0,), "closed"))
    items = [Item(name, time_us=loaded_us) for name in [*NAMES, "other"]]
    plan = {"kind": kind, "epochs": 12, "dim": 16, "layers": 1, "pooled_dim": 16, "held_out": 0}
    settings = msgspec.convert({**msgspec.structs.asdict(SMALL), **plan}, Training)
    train_teacher(examples, items, spec, settings, tmp_path / "teacher")
    teacher = BuiltinTeacher.load(tmp_path / "teacher")
    asked_B = [
        Impression(f"a{n}", 2 * loaded_us, history=(Event(NAMES[n - 1], 20), Event(NAMES[n], 21))) for n in range(COUNT)
    ]
    scores_BN = teacher.catalogue_scores(asked_B)
    for n in range(COUNT):  # what the user had is never offered, so nothing is learnt about it
        scores_BN[n, [teacher.item_ids.index(name) for name in (NAMES[n - 1], NAMES[n], "other")]] = -np.inf
    following = [teacher.item_ids[place] for place in scores_BN.argmax(1)]
    assert sum(found == NAMES[(n + 1) % COUNT] for n, found in enumerate(following)) >= COUNT - 1
