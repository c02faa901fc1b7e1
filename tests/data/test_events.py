"""Tables of events become lists in the order of time; several tables are one; nothing is left out without a word."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from recdistill.data.events import import_interactions
from recdistill.data.mapping import TableMapping
from recdistill.errors import RecdistillError
from recdistill.records import Item

HEADER = "user,item,time\n"


def _events(count: int, seed: int = 0) -> list[str]:
    """Rows of events in the order of time, with repeats, as text."""
    chance = random.Random(seed)
    return [f"u{chance.randrange(5)},i{chance.randrange(30)},{1000 + 10 * n}\n" for n in range(count)]


def test_interactions_become_lists_in_the_order_of_time(tmp_path: Path) -> None:
    text = "who,what,ts\n" + "".join(f"u{n % 2},i{n * 7 % 23},{1000 - n // 3}\n" for n in range(40))
    (tmp_path / "log.csv").write_text(text)
    mapped = TableMapping(columns={"user": "who", "item": "what", "time": "ts"})
    data = import_interactions(tmp_path / "log.csv", mapped, min_history=2, history=5)
    rows = [line.split(",") for line in text.splitlines()[1:]]
    order = sorted(range(40), key=lambda n: (int(rows[n][2]), n))
    past: dict[str, list[str]] = {"u0": [], "u1": []}
    lists = iter(data.impressions)
    for n in order:
        user, item, _ = rows[n]
        had = past[user]
        if len(had) >= 2 and item not in had:  # what was had is not offered again
            one = next(lists)
            assert one.user == user
            assert [event.item for event in one.history] == had[-5:]
            assert set(one.exclude) == set(had[:-5]) - set(had[-5:])
            assert item in {candidate.item for candidate in one.candidates}
            assert {candidate.item for candidate in one.candidates}.isdisjoint(had)
        had.append(item)
    assert next(lists, None) is None
    assert data.labels == {"choose": 1.0}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("user,item,time\n", "holds no interaction"),
        ("user,item,time\nu,a,1\n", "1 events are among the first 3 of their user"),
        ("user,item,time\nu,z,1\n", "line 2, column 'item': 'z' is not in the catalogue"),
        ("user,time\nu,1\n", "has no column 'item', which interactions need"),
    ],
)
def test_wrong_interactions_get_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(RecdistillError) as caught:
        import_interactions(tmp_path / "t.csv", items=[Item("a")])
    assert sentence in str(caught.value)


def test_what_became_of_each_event_is_counted(tmp_path: Path) -> None:
    rows = _events(200)
    (tmp_path / "log.csv").write_text(HEADER + "".join(rows))
    data = import_interactions(tmp_path / "log.csv")
    past: dict[str, list[str]] = {}
    early = repeated = 0
    for row in rows:
        user, item, _ = row.split(",")
        had = past.setdefault(user, [])
        early += len(had) < 3
        repeated += len(had) >= 3 and item in had
        had.append(item)
    assert data.left_out == {"too early": early, "repeated": repeated}
    assert len(data.impressions) == 200 - early - repeated > 0
    assert repeated > 0


def test_several_files_are_one_table(tmp_path: Path) -> None:
    """Also when their rows are mixed in time: histories, lists and candidates are those of the whole."""
    rows = _events(120)
    (tmp_path / "log.csv").write_text(HEADER + "".join(rows))
    (tmp_path / "b.csv").write_text(HEADER + "".join(rows[1::2]))
    (tmp_path / "a.csv").write_text(HEADER + "".join(rows[::2]))
    whole = import_interactions(tmp_path / "log.csv")
    parts = import_interactions([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert [(one.user, one.history, one.exclude, one.time_us) for one in parts.impressions] == [
        (one.user, one.history, one.exclude, one.time_us) for one in whole.impressions
    ]
    assert parts.left_out == whole.left_out


def test_a_second_file_goes_on_with_the_histories_of_the_first(tmp_path: Path) -> None:
    rows = _events(120)
    (tmp_path / "log.csv").write_text(HEADER + "".join(rows))
    (tmp_path / "first.csv").write_text(HEADER + "".join(rows[:70]))
    (tmp_path / "second.csv").write_text(HEADER + "".join(rows[70:]))
    whole = import_interactions(tmp_path / "log.csv")
    first = import_interactions(tmp_path / "first.csv")
    second = import_interactions(tmp_path / "second.csv", earlier=[tmp_path / "first.csv"])
    wanted = [(one.user, one.history, one.time_us) for one in whole.impressions]
    got = [(one.user, one.history, one.time_us) for one in [*first.impressions, *second.impressions]]
    assert got == wanted
    names = [one.id for one in [*first.impressions, *second.impressions]]
    assert len(set(names)) == len(names)


def test_known_items_are_not_written_again(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEADER + "".join(_events(60)))
    one, other, *rest = (item.id for item in import_interactions(tmp_path / "log.csv").items)
    known = [Item(one, version=2, attributes={"genre": ["war"]}), Item(other, withdrawn=True)]
    data = import_interactions(tmp_path / "log.csv", known=known)
    assert [item.id for item in data.items] == rest
    assert data.spec.item["genre"].kind == "category"


def test_a_list_has_the_length_that_is_asked_for(tmp_path: Path) -> None:
    from recdistill.data.retrieval import Mix

    (tmp_path / "log.csv").write_text(HEADER + "".join(_events(60)))
    data = import_interactions(tmp_path / "log.csv", mix=Mix(length=7, popular=2, covisited=2))
    assert {len(one.candidates) for one in data.impressions} == {7}
