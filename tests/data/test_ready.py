"""Ready mappings: each reads the table that it is for, and is found by the table's shape."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import tables

from recdistill.data.mapping import TableMapping
from recdistill.data.ready import ready_for, ready_names, ready_text
from recdistill.data.shape import guess
from recdistill.data.tables import import_table
from recdistill.errors import ConfigError
from recdistill.records import Feedback, Impression, Item

FILMS = 'movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n2,"Net, The (1995)",Crime\n'
RATINGS = "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,2,3.5,964981247\n"


@pytest.mark.parametrize("name", ready_names())
def test_each_is_a_mapping(name: str) -> None:
    assert TableMapping.parse(ready_text(name), name).kind is not None


def test_they_are_found_by_the_shape(tmp_path: Path) -> None:
    news, behaviors = tables.news(tmp_path)
    (tmp_path / "movies.csv").write_text(FILMS)
    (tmp_path / "ratings.csv").write_text(RATINGS)
    items, events = tables.purchases(tmp_path)
    found = {
        path.name: ready_for(guess(path))
        for path in (news, behaviors, tmp_path / "movies.csv", tmp_path / "ratings.csv", items, events)
    }
    assert found == {
        "news.tsv": "mind-news",
        "behaviors.tsv": "mind-behaviors",
        "movies.csv": "movielens-movies",
        "ratings.csv": "movielens-ratings",
        "item_meta.csv": "",
        "purchases.csv": "",
    }


def test_what_they_read(tmp_path: Path) -> None:
    (tmp_path / "behaviors.tsv").write_text("7\tU1\t11/9/2019 2:04:06 PM\tN1 N2\tN3-0 N4-1\n")
    got = list(import_table(tmp_path / "behaviors.tsv", None, TableMapping.parse(ready_text("mind-behaviors"), "m")))
    assert isinstance(got[0], Impression)
    assert got[0].time_us == 1_573_308_246_000_000
    assert [event.action for event in got[0].history] == ["click", "click"]
    assert got[1] == Feedback("7/N4/click", "7", "N4", "click", 1.0, 1_573_308_246_000_001)
    (tmp_path / "movies.csv").write_text(FILMS)
    assert list(
        import_table(tmp_path / "movies.csv", None, TableMapping.parse(ready_text("movielens-movies"), "m"))
    ) == [
        Item("1", attributes={"title": "Toy Story (1995)", "genres": ["Adventure", "Animation"]}),
        Item("2", attributes={"title": "Net, The (1995)", "genres": ["Crime"]}),
    ]


def test_an_unknown_name_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"no ready mapping of that name; did you mean 'mind-news'\?"):
        ready_text("mind-new")
