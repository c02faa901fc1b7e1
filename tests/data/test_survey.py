"""The counts of a survey, beside counts by hand."""

from __future__ import annotations

from pathlib import Path

from support import tables

from recdistill.data.events import import_interactions
from recdistill.data.mapping import TableMapping
from recdistill.data.ready import ready_text
from recdistill.data.survey import Bound, members, survey
from recdistill.records import Item

EVENTS = TableMapping(kind="interactions", columns={"user": "user_id", "item": "item_id"})


def test_it_counts_the_lists_that_the_import_makes(tmp_path: Path) -> None:
    _, events = tables.purchases(tmp_path)
    for least in (0, 3, 9):
        made = import_interactions(events, EVENTS, min_history=least)
        found = survey([Bound(events, "interactions", EVENTS)], min_history=least)
        assert found.made == len(made.impressions)
        assert {"too early": found.early, "repeated": found.repeated} == made.left_out
        assert found.users == len({one.user for one in import_interactions(events, EVENTS, min_history=0).impressions})


def test_lists_that_tell_their_clicks(tmp_path: Path) -> None:
    _, behaviors = tables.news(tmp_path)
    rows = [line.split("\t") for line in behaviors.read_text().splitlines()]
    shown = [cell.rsplit("-", 1)[0] for row in rows for cell in row[4].split()]
    past = [name for row in rows for name in row[3].split()]
    found = survey(
        [Bound(behaviors, "impressions", TableMapping.parse(ready_text("mind-behaviors"), "m"))], min_history=3
    )
    assert (found.lists, found.candidates) == (240, len(shown))
    assert found.ids_named == len({*shown, *past})
    assert found.rows == {str(behaviors): 240}, "a click inside a list is no row"
    assert found.feedback == sum(cell.endswith("-1") for row in rows for cell in row[4].split())
    assert found.times_us == sorted(found.times_us)
    assert found.delays_us == [], "the lists do not say when they were clicked"


def test_an_attribute_can_be_forgotten(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("id,attributes.a,attributes.b\nx,1,2\nx,3,4\ny,5,6\n")
    found = survey([Bound(tmp_path / "i.csv", "items")], min_history=3)
    assert found.twice == 1
    found.forget("a")
    assert {name: set(item.attributes) for name, item in found.items.items()} == {"x": {"b"}, "y": {"b"}}


def test_members_of_lists() -> None:
    items = [Item("a", attributes={"tags": ["x", "y"]}), Item("b", attributes={"tags": [1.0, 2.5]}), Item("c")]
    assert members(items, "tags") == ["x", "y", "1", "2.5"]
