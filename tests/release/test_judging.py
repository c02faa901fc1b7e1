"""Judging through the command line: lists that were shown, out of a catalogue that nobody saw whole."""

from __future__ import annotations

import json
import random
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import world
from support.judgements import make_judgement
from support.registries import judged, ledger_at
from support.small_shop import Shop, open_stocked

from recdistill import release
from recdistill.bundle import Bundle
from recdistill.features import Field
from recdistill.judge import Asked, Judgement, gate
from recdistill.judge.judgement import from_json
from recdistill.records import Candidate, Event, Feedback, Impression, Item
from recdistill.registry import Evidence, Version
from references.students import make_student, rich_spec

ITEMS = 900


def shown_lists(count: int) -> tuple[list[Impression], list[Feedback]]:
    """Lists of 4 to 12 of 900 items. Mostly what `world.by_hash`, the teacher, likes best is clicked; sometimes two."""
    draw = random.Random(0)
    lists, clicks = [], []
    for n in range(count):
        time_us = (n + 1) * world.SECOND
        chosen = draw.sample(range(ITEMS), draw.randrange(4, 13))
        history = tuple(Event(item=f"item-{draw.randrange(ITEMS)}", time_us=1, action="click") for _ in range(n % 4))
        shown = Impression(
            id=f"imp-{n}", time_us=time_us, user=f"user-{n % 9}", history=history, context={},
            candidates=tuple(Candidate(item=f"item-{i}") for i in chosen),
        )  # fmt: skip
        (scores,) = world.by_hash([shown])
        best = sorted(range(len(chosen)), key=lambda place: -scores[place])
        for k in range(1 + (n % 5 == 0)):
            place = best[k] if draw.random() < 0.7 else draw.randrange(len(chosen))
            clicks.append(
                Feedback(
                    id=f"f-{n}-{k}",
                    impression_id=shown.id,
                    item=shown.candidates[place].item,
                    action="click",
                    time_us=time_us + world.SECOND,
                )
            )
        lists.append(shown)
    return lists, clicks


@pytest.fixture(name="shop")
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    shop = open_stocked(tmp_path, monkeypatch, capsys, world.items(ITEMS))
    shop.arrive("all", *shown_lists(260))
    shop("distil --until @160")
    return shop


@pytest.mark.slow
def test_shown_lists_are_judged_in_the_order_of_what_was_shown(shop: Shop) -> None:
    text = shop("evaluate --report report.html --set judge.ease=true")
    said = r"protocol: each orders what was shown, because half of the lists have [89][.5]* candidates or fewer, of 900"
    assert re.search(said, text), text
    assert "the other way: judge.protocol = catalogue" in text
    for name in ("student", "teacher", "chance", "logged", "popularity", "popularity_recent", "itemknn", "ease"):
        assert f"\n{name} " in text
    assert "held-out lists were judged in the order of what was shown" in text
    assert "NDCG@10 of the order of what was shown" in (shop.folder / "report.html").read_text()

    shop("evaluate --set judge.protocol=both", code=2)
    assert "judge.protocol" in shop.errors
    found = shop.json("evaluate")
    figures = {each["name"]: {m: i["mean"] for m, i in each["metrics"].items()} for each in found["contenders"]}
    assert set(figures["student"]) == {"ndcg@10", "ndcg@5", "mrr", "auc"}
    assert figures["chance"]["auc"] == 0.5
    assert figures["teacher"]["auc"] > 0.8
    read = from_json(json.dumps(found).encode())
    assert (read.protocol, read.above_chance, read.format) == ("shown", True, 3)
    assert read.part is not None
    assert read.part.begins == read.part.learnt
    # The same lists over the whole catalogue say almost nothing: chance and student are both near 0.
    whole = shop.json("evaluate --set judge.protocol=catalogue")
    assert whole["protocol"] == "catalogue"
    student = next(each for each in whole["contenders"] if each["name"] == "student")
    assert student["metrics"]["ndcg@10"]["mean"] < 0.05


@pytest.mark.slow
def test_a_student_that_has_learnt_almost_nothing_keeps_almost_nothing(shop: Shop) -> None:
    """A random order of eight gets half of the teacher's NDCG. It is no merit of the student."""
    found = shop.json("evaluate")
    mean = {each["name"]: each["metrics"]["ndcg@10"]["mean"] for each in found["contenders"]}
    assert mean["student"] / mean["teacher"] > 0.5
    kept = found["retention"]
    assert kept["mean"] == pytest.approx((mean["student"] - mean["chance"]) / (mean["teacher"] - mean["chance"]))
    assert kept["low"] < kept["mean"] < kept["high"] < 0.5
    shop("evaluate --gate --set gate.retention=0.5", code=7)
    assert "of the teacher's NDCG@10 above chance on the shown lists" in shop.errors


@pytest.mark.slow
def test_a_teacher_that_knows_nothing_gives_a_sentence(shop: Shop) -> None:
    shop("evaluate --gate --set teacher.function=support.world:all_alike --set gate.retention=0.1", code=7)
    assert "retention: the teacher is not above chance: its lead is +0.0000 NDCG@10" in shop.errors
    assert "so there is nothing to keep a share of" in shop.errors


@pytest.mark.slow
def test_items_that_came_after_the_bundle_are_ranked_as_while_it_serves(shop: Shop) -> None:
    before = shop.json("evaluate")
    shop.take_in("late", "items", [*world.items(ITEMS + 30)[ITEMS:], Item("gone", 1), Item("gone", 2, withdrawn=True)])
    lists, clicks = shown_lists(300)
    lists = [
        msgspec.structs.replace(one, candidates=(*one.candidates, Candidate(f"item-{ITEMS + n % 30}")))
        for n, one in enumerate(lists)
    ]
    shop.arrive("more", lists[260:], [click for click in clicks if int(click.impression_id[4:]) >= 260])
    after = shop.json("evaluate")
    assert (before["catalogue"], after["catalogue"]) == (ITEMS, ITEMS + 30)
    assert not any("came after the bundle" in note for note in before["notes"])
    assert any(note.startswith("30 items came after the bundle") for note in after["notes"])
    assert not any("that the bundle does not hold" in reason for reason in after["skipped"])


@pytest.mark.slow
def test_a_policy_in_the_settings_refuses_what_it_names(shop: Shop) -> None:
    """Stale data, a blocked item, a rule by attribute and a missing slice, as a person sets them."""
    found = shop.json("evaluate --set judge.protocol=catalogue")
    assert found["age_s"] > 30
    [genre] = {str(item.attributes["genre"]) for item in world.items(1)}
    policy = f"""
[judge]
protocol = "catalogue"
slices = ["time"]
[gate]
retention = 0
beats_popularity = false
min_lists = 20
device = 0
fresh_s = 30
blocked = {json.dumps([f"item-{n}" for n in range(ITEMS)])}
rules = [{{attribute = "genre", value = {json.dumps(genre)}, most = 0.0}}]
slices = ["new users", "students"]
"""
    settings = (shop.folder / "shop.toml").read_text()
    (shop.folder / "shop.toml").write_text(settings.partition("[gate]")[0] + policy)
    shop("evaluate --gate --report report.html", code=7)
    for said in (
        r"fresh: the newest event that the student learnt from is \d+ s older than the newest judged list",
        r"blocked: items that gate.blocked names are in the first ten, of \d+ answers: item-\d+ in \d+",
        rf"rule genre={genre}: a share of 0\.\d+ of the first ten items has it, over \d+ answers; from 0.000 to 0.000",
        r"slice students: the policy asks for it, and it was not judged; there are: new users, .*time 00-06",
    ):
        assert re.search(said, shop.errors), shop.errors
    assert "slice new users" not in shop.errors  # there is no champion to compare with
    page = (shop.folder / "report.html").read_text()
    assert "Did not pass the gate" in page
    assert "not enough evidence" in page


class Taken:
    """A registry that keeps what is published."""

    name = "shop"

    def __init__(self) -> None:
        self.files: list[str] = []
        self.parameters: dict[str, Any] = {}

    def check(self, *_: Any) -> None:
        pass

    def versions(self) -> list[Version]:
        return []

    def judged(self) -> list[Evidence]:
        return []

    def publish(self, bundle: Bundle, _: Any, *, extra_files: list[Path], parameters: dict[str, Any], **__: Any) -> Any:
        self.files, self.parameters = [path.name for path in extra_files], parameters
        return Version(
            number="1", content_hash=bundle.content_hash, aliases=[], reason="", created_at="", run_id="", passed=True
        )

    def say(self, *_: Any) -> None:
        pass


def taken(tmp_path: Path, bundle: Bundle) -> tuple[Taken, list[dict[str, Any]]]:
    registry, tried = Taken(), list[dict[str, Any]]()
    judgement = msgspec.structs.replace(make_judgement(), content_hash=bundle.content_hash)
    release.publish(
        registry,  # type: ignore[arg-type]
        ledger_at(tmp_path, "shop"),
        bundle,
        judgement,
        judged(bundle),
        try_it=lambda _, **more: tried.append(more),
    )
    return registry, tried


def test_a_bundle_with_text_in_its_context_is_registered_without_a_device_file(tmp_path: Path) -> None:
    """A device file cannot hash text. A ranker can, and gate.device = 0 asks for no device file."""
    spec = rich_spec()
    spec = msgspec.structs.replace(spec, context={**spec.context, "query": Field("text", capacity=16, max_values=4)})
    registry, tried = taken(tmp_path, make_student(spec=spec).export(tmp_path / "bundle"))
    assert (registry.files, tried) == ([], [{}])
    registry, tried = taken(tmp_path, make_student().export(tmp_path / "other"))
    assert registry.files == ["device.onnx"]
    assert [list(each) for each in tried] == [["device"]]


@pytest.mark.parametrize("recipe", ["mine", None, [1]])
def test_a_recipe_in_a_strange_form_is_no_parameter(tmp_path: Path, recipe: object) -> None:
    bundle = make_student().export(tmp_path / "bundle", provenance={"recipe": recipe})
    assert taken(tmp_path, bundle)[0].parameters == {}


def judges_at_once(tmp_path: Path, bundles: list[Bundle]) -> list[Evidence]:
    """Several judges: each has its verdict, and stops before the ledger until the next judge has finished.

    Returns:
        What each of them wrote, as the ledger has it. The judge that was stopped first wrote last.
    """
    asked = Asked(error_a_year=0.05, tries_a_year=1)

    def judge(waiting: list[Bundle]) -> None:
        bundle, *others = waiting
        registry: Any = Taken()
        judgement = msgspec.structs.replace(make_judgement(), content_hash=bundle.content_hash)
        with closing(ledger_at(tmp_path, "shop")) as ledger:

            def verdict(judgement: Judgement) -> Evidence:
                return gate(judgement, asked, release.tries_so_far(registry, ledger))

            _, said = release.publish(
                registry,
                ledger,
                bundle,
                judgement,
                verdict(judgement),
                try_it=lambda _: judge(others) if others else None,
                gate=verdict,
            )
            last = ledger.look().judged[-1]
            assert (said.allotted, said.looks) == (last.allotted, last.looks)  # what it returns is what it wrote

    judge(bundles)
    with closing(ledger_at(tmp_path, "shop")) as ledger:
        found = [ledger.read(one.offset) for one in ledger.look().judged]
    return [msgspec.convert(one.entry.facts["evidence"], Evidence) for one in found if one and one.entry]


def without_device(tmp_path: Path, seed: int) -> Bundle:
    spec = rich_spec()
    spec = msgspec.structs.replace(spec, context={**spec.context, "query": Field("text", capacity=16, max_values=4)})
    return make_student(12, seed=seed, spec=spec).export(tmp_path / str(seed))


@pytest.mark.slow
def test_judges_at_once_together_spend_no_more_than_a_year_allows(tmp_path: Path) -> None:
    """Each of twenty verdicts was made when nothing was spent. Alone, each may spend a thirteenth of the error."""
    found = judges_at_once(tmp_path, [without_device(tmp_path, n) for n in range(20)])
    assert len(found) == 20
    assert found[0].allotted == pytest.approx(0.05 / 13)
    assert sum(one.allotted for one in found) < 0.05
    spent = 0.0
    for tries, one in enumerate(found):  # the rule of docs/promotion.md, worked by hand
        assert one.allotted == pytest.approx((0.05 - spent) / (13 * (1 + tries)))
        spent += one.allotted


def test_two_judges_of_one_bundle_use_its_first_and_its_second_look(tmp_path: Path) -> None:
    """The looks of a candidate get a half, a quarter and so on of its part: two first looks would be all of it."""
    bundle = without_device(tmp_path, 0)
    one, two = judges_at_once(tmp_path, [bundle, bundle])
    assert (one.looks, two.looks, one.allotted) == (1, 2, two.allotted)
