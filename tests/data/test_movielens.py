"""MovieLens: held against a recomputation from the raw files, and the two layouts against each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.data import Dataset, movielens
from recdistill.data.retrieval import Mix
from recdistill.errors import DataError
from recdistill.records import encode

ATOMIC = {
    "t.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t10\t5\t100\n1\t11\t4\t100\n2\t10\t3\t150\n1\t12\t2\t100\n1\t13\t1\t90\n2\t13\t4\t150\n",
    "t.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "10\tÉté à Paris\t1995\tDrama War\n11\tB (1994)\tV\tunknown\n12\tC\tunknown\tSci-Fi\n13\tD\t1990\tComedy\n",
    "t.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\twriter\t1\n2\t56\tF\tother\t2\n",
}
_FLAGS = {"10": ("Drama", "War"), "11": ("unknown",), "12": ("Sci-Fi",), "13": ("Comedy",)}
_TITLES = {"10": "Été à Paris (1995)|01-Jan-1995", "11": "B (1994)|", "12": "C|", "13": "D (1990)|01-Jan-1990"}


def classic() -> dict[str, str]:
    rows = [line.split("\t") for line in ATOMIC["t.inter"].splitlines()[1:]]
    items = [
        f"{name}|{_TITLES[name]}||http://x|" + "|".join(str(int(genre in flags)) for genre in movielens.GENRES)
        for name, flags in _FLAGS.items()
    ]
    return {
        "u.data": "".join("\t".join(row) + "\n" for row in rows),
        "u.item": "\n".join(items) + "\n",
        "u.user": "1|24|M|writer|1\n2|56|F|other|2\n",
    }


def write(folder: Path, files: dict[str, str], encoding: str = "utf-8") -> Path:
    for name, text in files.items():
        folder.joinpath(name).write_bytes(text.encode(encoding))
    return folder


def test_both_layouts_give_the_same_records(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "c").mkdir()
    atomic = movielens.load(write(tmp_path / "a", ATOMIC), min_history=1)
    old = movielens.load(write(tmp_path / "c", classic(), "iso-8859-1"), min_history=1)
    assert list(atomic.impressions) == list(old.impressions)
    assert atomic.items == old.items
    assert atomic.feedback == old.feedback
    assert [item.attributes for item in atomic.items] == [
        {"title": "Été à Paris", "genres": ["Drama", "War"], "year": 1995.0},
        {"title": "B", "year": 1994.0},
        {"title": "C", "genres": ["Sci-Fi"]},
        {"title": "D", "genres": ["Comedy"], "year": 1990.0},
    ]


def test_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    data = movielens.load(write(tmp_path, ATOMIC), min_history=1)
    last = next(one for one in data.impressions if one.user == "1" and len(one.history) == 3)
    assert [event.item for event in last.history] == ["13", "10", "11"]
    assert [event.time_us for event in last.history] == [90_000_000, 100_000_000, 100_000_001]
    assert last.time_us == 100_000_002
    assert last.context == {
        "hour": "00", "weekday": "thu", "age_group": "18-24", "gender": "M", "occupation": "writer"
    }  # fmt: skip
    answer = next(one for one in data.feedback if one.impression_id == last.id)
    assert (answer.item, answer.action, answer.value, answer.time_us) == ("12", "rate", 2.0, last.time_us + 1)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("t.inter", None, "holds neither u.data nor a file *.inter"),
        ("t.item", None, "must hold one file *.item, not 0"),
        ("t.inter", "user_id:token\titem_id:token\n", "t.inter, line 1: the header lacks rating, timestamp"),
        ("t.inter", ATOMIC["t.inter"] + "1\t12\n", "t.inter, line 8: has 2 columns where the header has 4"),
        ("t.inter", ATOMIC["t.inter"] + "1\t12\tgood\t7\n", "line 8: rating and timestamp must be numbers, not 'good'"),
        ("t.inter", ATOMIC["t.inter"] + "1\t12\tnan\t7\n", "line 8: rating 'nan' or timestamp '7'"),
        ("t.inter", ATOMIC["t.inter"] + "1\t12\t1\t-7\n", "timestamp '-7' (unix seconds) is out of range"),
        ("t.inter", ATOMIC["t.inter"] + "1\t99\t1\t7\n", "names item '99', which the item file does not hold"),
        ("t.inter", ATOMIC["t.inter"] + "9\t10\t1\t7\n", "names user '9', whom the user file does not hold"),
        ("t.inter", ATOMIC["t.inter"].splitlines()[0] + "\n", "holds no rating"),
        ("t.user", ATOMIC["t.user"].replace("24", "old"), "t.user, line 2: age must be a number, not 'old'"),
        ("t.item", "\xff\xfe", "is not utf-8 text"),
    ],
)
def test_wrong_files_get_one_sentence(tmp_path: Path, name: str, text: str | None, sentence: str) -> None:
    write(tmp_path, ATOMIC)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(text.encode("latin-1" if "\xff" in text else "utf-8"))
    with pytest.raises(DataError) as caught:
        movielens.load(tmp_path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_genre_flag_is_named(tmp_path: Path) -> None:
    files = classic()
    files["u.item"] = files["u.item"].replace("|1", "|2", 1)
    with pytest.raises(DataError, match=r"u.item, line \d+: the 19 genre flags must be 0 or 1"):
        movielens.load(write(tmp_path, files, "iso-8859-1"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder; download"):
        movielens.load(tmp_path / "nothing")


@pytest.fixture(scope="module")
def data(shared_data: Path) -> Dataset:
    return movielens.load(shared_data / "ml-100k", seed=3)


def _raw(shared_data: Path) -> list[tuple[str, str, int]]:
    lines = (shared_data / "ml-100k" / "ml-100k.inter").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    order = sorted(range(len(rows)), key=lambda n: (int(rows[n][3]), n))
    return [(rows[n][0], rows[n][1], int(rows[n][3])) for n in order]


@pytest.mark.slow
def test_histories_are_those_of_the_raw_log(shared_data: Path, data: Dataset) -> None:
    """Walks the raw log with dictionaries and meets every impression on the way."""
    past: dict[str, list[tuple[str, int]]] = {}
    lists, answers = iter(data.impressions), iter(data.feedback)
    now_us = 0
    for user, item, at in _raw(shared_data):
        now_us = max(at * 1_000_000, now_us + 1)
        mine = past.setdefault(user, [])
        if len(mine) >= 3:
            one, answer = next(lists), next(answers)
            assert (one.user, one.time_us) == (user, now_us)
            assert [(event.item, event.time_us) for event in one.history] == mine[-50:]
            assert list(one.exclude) == [name for name, _ in mine[:-50]]
            assert one.history[-1].time_us < one.time_us
            offered = [candidate.item for candidate in one.candidates]
            assert offered.count(item) == 1
            assert len(set(offered)) == len(offered) == Mix().length
            assert set(offered).isdisjoint(name for name, _ in mine)
            assert (answer.impression_id, answer.item, answer.time_us) == (one.id, item, now_us + 1)
        mine.append((item, now_us))
    assert next(lists, None) is None
    assert next(answers, None) is None
    assert len(data.impressions) == 97_171


@pytest.mark.slow
def test_the_cut_is_at_80_and_90_percent_of_events(shared_data: Path, data: Dataset) -> None:
    raw = _raw(shared_data)
    parts = data.parts()
    assert [cut // 1_000_000 for cut in data.cut_us] == [raw[80_000][2], raw[90_000][2]]
    assert sum(map(len, parts)) == 97_171
    assert len(parts.test) == 9_770  # 10,000 events, less those with a shorter past
    assert parts.train[-1].time_us < data.cut_us[0] <= parts.valid[0].time_us
    assert parts.valid[-1].time_us < data.cut_us[1] <= parts.test[0].time_us


@pytest.mark.slow
def test_records_are_valid_and_fit_the_specification(data: Dataset) -> None:
    for record in (*data.items, *data.impressions[::500], *data.feedback[::500]):
        encode(record)
    assert len(data.items) == 1682
    assert set(data.spec.context) == set(data.impressions[0].context)
    assert {name for item in data.items for name in item.attributes} == set(data.spec.item)


@pytest.mark.slow
def test_candidates_depend_on_the_seed_alone(shared_data: Path, tmp_path: Path) -> None:
    for kind in ("item", "user"):
        (tmp_path / f"t.{kind}").write_bytes((shared_data / "ml-100k" / f"ml-100k.{kind}").read_bytes())
    lines = (shared_data / "ml-100k" / "ml-100k.inter").read_text().splitlines()
    (tmp_path / "t.inter").write_text("\n".join(lines[:4001]) + "\n")
    one = movielens.load(tmp_path, seed=3)
    assert list(movielens.load(tmp_path, seed=3).impressions) == list(one.impressions)
    other = movielens.load(tmp_path, seed=4, candidates=20)
    for a, b in zip(one.impressions, other.impressions, strict=True):
        assert (a.id, a.history, a.context, a.exclude) == (b.id, b.history, b.context, b.exclude)
        assert len(b.candidates) == 20
    assert other.feedback == one.feedback
