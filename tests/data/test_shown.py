"""Lists that tell their own clicks: the items, the feedback, the order of time, and items that nobody described."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.data.mapping import Column, TableMapping
from recdistill.data.shown import clicked_of, split_labels
from recdistill.data.tables import import_table
from recdistill.errors import DataError
from recdistill.records import Candidate, Event, Feedback, Impression

MIND = TableMapping(
    kind="impressions",
    columns={
        "id": "id",
        "time": "time",
        "history": "past",
        "candidates": Column("shown", labels="-"),
    },
    constants={"history_actions": "click"},
    list_separator=" ",
)


def _table(folder: Path, shown: str, header: str = "id,time,past,shown") -> Path:
    path = folder / "t.csv"
    path.write_text(f"{header}\n1,100,N1 N9,{shown}\n")
    return path


def test_a_row_becomes_a_list_and_its_clicks(tmp_path: Path) -> None:
    got = list(import_table(_table(tmp_path, "N2-0 N-3-1 N4-1"), None, MIND))
    assert got == [
        Impression(
            "1",
            100_000_000,
            history=(Event("N1", 0, "click"), Event("N9", 0, "click")),
            candidates=(Candidate("N2"), Candidate("N-3"), Candidate("N4")),
        ),
        Feedback("1/N-3/click", "1", "N-3", "click", 1.0, 100_000_001),
        Feedback("1/N4/click", "1", "N4", "click", 1.0, 100_000_001),
    ]


@pytest.mark.parametrize(("cell", "clicked"), [("b", ["b"]), ("0|1|1", ["b", "c"]), ("c|b|c", ["c", "b"]), ("", [])])
def test_clicks_in_a_column_of_their_own(tmp_path: Path, cell: str, clicked: list[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,time,candidates,clicked,action\n1,100,a|b|c,{cell},buy\n")
    shown, *feedback = import_table(path, "impressions")
    assert isinstance(shown, Impression)
    assert [(one.item, one.action) for one in feedback if isinstance(one, Feedback)] == [(n, "buy") for n in clicked]


def test_items_that_look_like_flags() -> None:
    """Entries that all are candidates are items, also when they could be flags."""
    assert clicked_of(["1"], ["0", "1", "2"]) == ["1"]
    assert clicked_of(["1", "0"], ["0", "1"]) == ["1", "0"]
    assert clicked_of(["1", "0"], ["7", "8"]) == ["7"]


@pytest.mark.parametrize("shown", ["N1", "N1-2", "N1-0 N2"])
def test_a_candidate_without_its_label(tmp_path: Path, shown: str) -> None:
    with pytest.raises(DataError, match=r"line 2, column 'shown' \(candidates\): must be items with -0 or -1"):
        list(import_table(_table(tmp_path, shown), None, MIND))


def test_a_click_on_what_was_not_offered(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,time,candidates,clicked\n1,100,a|b,z\n")
    with pytest.raises(DataError, match="column 'clicked': must be candidates of the list, or 0 or 1"):
        list(import_table(path, "impressions"))


def test_labels_are_split_at_the_last_separator() -> None:
    assert split_labels(["a::b::1", "c::0"], "::") == (["a::b", "c"], ["a::b"])


def test_feedback_on_long_ids_gets_an_id_that_fits(tmp_path: Path) -> None:
    """Each part may have 512 characters; two different ones get two ids, and the same row the same one."""
    names = ["r" * 512, "i" * 511 + "a", "i" * 511 + "b"]
    (tmp_path / "t.csv").write_text(
        "impression_id,item,action,time\n" + "".join(f"{names[0]},{item},click,1\n" for item in names[1:])
    )
    mapping = TableMapping()
    found, again = (list(import_table(tmp_path / "t.csv", "feedback", mapping)) for _ in range(2))
    assert found == again
    assert len({one.id for one in found if isinstance(one, Feedback)}) == 2
    (tmp_path / "shown.csv").write_text(f"id,time,past,shown\n{names[0]},100,N1 N9,{names[1]}-1 {names[2]}-0\n")
    shown, click = import_table(tmp_path / "shown.csv", "impressions", MIND)
    assert isinstance(shown, Impression)
    assert isinstance(click, Feedback)
    assert (click.item, len(click.id)) == (names[1], 64)
