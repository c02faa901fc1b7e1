"""What tables mean: the kinds, the fields, and what is left out, for shapes that people have."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.data.meaning import Meaning, meaning_of, related
from recdistill.data.shape import guess


def _meaning(folder: Path, name: str, text: str) -> Meaning:
    (folder / name).write_text(text)
    return meaning_of(name, guess(folder / name))


def _fields(found: Meaning) -> dict[str, str]:
    return {name: said.column for name, said in found.columns.items()}


@pytest.mark.parametrize(
    ("name", "text", "kind", "fields"),
    [
        (
            "ml.inter",
            ("user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            "1\t5\t4\t978300760\n2\t6\t3\t978300761\n1\t7\t3\t978300762\n"),
            "interactions",
            {"user": "user_id", "item": "item_id", "value": "rating", "time": "timestamp"},
        ),
        (
            "reviews.csv",
            "reviewerID,asin,overall,unixReviewTime\nA,B0,5,1400000000\nB,B1,4,1400000001\nA,B1,3,1400000002\n",
            "interactions",
            {"user": "reviewerID", "item": "asin", "value": "overall", "time": "unixReviewTime"},
        ),
        (
            "events.csv",
            ("timestamp,visitorid,event,itemid\n1433221332117,1,view,5\n1433221332118,2,addtocart,6\n"
            "1433221332119,1,view,7\n1433221332120,2,view,8\n"),
            "interactions",
            {"time": "timestamp", "user": "visitorid", "action": "event", "item": "itemid"},
        ),
        (
            "ratings.dat",
            "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978301968\n",
            "interactions",
            {"user": "1", "item": "2", "value": "3", "time": "4"},
        ),
        (
            "requests.csv",
            "request,at,user,seen,shown,scores\nr1,1000000000,u,a|b,c|d,0.5|1.5\nr2,1000000060,v,a|c,b|d,0.1|0.2\n",
            "impressions",
            {"id": "request", "time": "at", "user": "user", "history": "seen", "candidates": "shown",
             "logged_scores": "scores"},
        ),
        (
            "clicks.csv",
            "request,sku,what,at\nr1,c,click,1000000001\nr2,b,buy,1000000062\nr1,d,click,1000000003\n",
            "feedback",
            {"impression_id": "request", "item": "sku", "action": "what", "time": "at"},
        ),
        ("items.csv", "sku,name\na,first\nb,second\n", "items", {"id": "sku"}),
        ("order.csv", "user,item,t\nu,a,1\nu,b,2\n", "interactions", {"user": "user", "item": "item", "time": "t"}),
    ],
)  # fmt: skip
def test_shapes_that_people_have(tmp_path: Path, name: str, text: str, kind: str, fields: dict[str, str]) -> None:
    found = _meaning(tmp_path, name, text)
    assert (found.kind, found.why) == (kind, "")
    assert _fields(found) == fields


def test_labels_behind_the_candidates(tmp_path: Path) -> None:
    rows = "".join(
        f"{n}\tU{n % 3}\t11/{10 + n % 9}/2019 9:05:5{n % 10} AM\tN{n} N{n + 1} N{n + 2} N{n + 3}\t"
        f"N{n + 9}-0 N{n + 8}-1 N{n + 7}-0 N{n + 6}-0\n"
        for n in range(12)
    )
    found = _meaning(tmp_path, "lists.tsv", rows)
    assert found.kind == "impressions"
    assert _fields(found) == {"candidates": "5", "time": "3", "id": "1", "history": "4", "user": "2"}
    assert found.columns["candidates"].labels == "-"
    assert found.constants == {"action": "click", "history_actions": "click"}


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    rows = "".join(
        f'{n},code {n % 3},http://x/{n},"{{""a"": {n}}}",same,,2020-01-0{n + 1},{n % 2}.5\n' for n in range(6)
    )
    found = _meaning(tmp_path, "items.csv", f"id,Kind of thing,url,extra,one,none,added,price\n{rows}")
    assert {name: said.type for name, said in found.values.items()} == {"Kind_of_thing": "text", "price": "number"}
    assert found.left == {
        "url": "it holds addresses",
        "extra": "it holds JSON",
        "one": "it is the same in the rows that were looked at",
        "none": "it is empty in the rows that were looked at",
        "added": "a time is no feature",
    }


def test_a_code_is_no_number(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n % 3},{1990 + n}\n" for n in range(9))
    found = _meaning(tmp_path, "items.csv", f"id,category_id,year\n{rows}")
    assert {name: said.type for name, said in found.values.items()} == {"category_id": "text", "year": "number"}


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("users.dat", "1::F::1::10::48067\n2::M::56::16::70072\n", "it describes users"),
        ("people.csv", "user_id,age\n1,30\n2,40\n", "it describes users"),
        ("pairs.tsv", "user_id\titem_id\n1\ta\n2\tb\n", "but not when"),
        ("lists.csv", "id,candidates\n1,a|b\n2,a|c\n", "its lists have no time"),
        ("text.csv", "word,other\na,1\na,1\n", "it has no column of ids"),
    ],
)
def test_tables_of_no_use(tmp_path: Path, name: str, text: str, why: str) -> None:
    found = _meaning(tmp_path, name, text)
    assert found.kind == ""
    assert why in found.why


def test_records_of_our_own_form(tmp_path: Path) -> None:
    line = '{"id": "r", "time_us": 5, "candidates": [{"item": "a"}]}\n'
    assert _meaning(tmp_path, "t.jsonl", line * 2) == Meaning("impressions", own=True)


def test_lists_of_other_items() -> None:
    assert related(["a", "b", "x"], {"a", "b", "c"})
    assert not related(["a", "x", "y"], {"a", "b", "c"})
    assert not related([], {"a"})
