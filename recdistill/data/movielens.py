"""MovieLens ratings -> a data set in time order. It reads RecBole's atomic files and the classic layout.

| layout | files in the folder | what they look like |
| --- | --- | --- |
| atomic | one each of `*.inter`, `*.item`, `*.user` | UTF-8, tabs, a header of `name:type` |
| classic | `u.data`, `u.item`, `u.user` | ISO-8859-1; tabs in `u.data`, bars in the others, no header |

No data comes with it. A rating means that the film was chosen; the rating itself is the feedback's value. The request's
context is the hour and weekday (UTC), and the user's age group, gender and occupation: a product knows these of every
user. The user's id is only for joins. Times are whole seconds, and many are equal; `recdistill.data.interactions.untie`
puts them into the order of the log.

Example:
    >>> title_and_year("Toy Story (1995)")
    ('Toy Story', 1995.0)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress
from pathlib import Path

import msgspec
import numpy as np

from recdistill.data import Dataset
from recdistill.data.files import explained
from recdistill.data.interactions import Interactions, clock, cut_in_time, impressions_of, untie
from recdistill.data.retrieval import Mix
from recdistill.errors import DataError
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.records import Item, Value

_LONGEST = 1 << 20  # characters of a line
HOW_TO_GET = "download ml-100k from grouplens.org/datasets/movielens/100k and give the folder that holds u.data"

# u.item has a flag for each genre, in this order; u.genre, if there, has the same list.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip

_YEAR_AT_END = re.compile(r"\s*\((\d{4})\)\s*$")


@dataclass(frozen=True)
class _Tables:
    ratings: list[tuple[str, str, float, int]]  # user, item, rating, seconds
    items: list[Item]
    users: dict[str, dict[str, Value]]


def load(
    folder: Path | str,
    *,
    candidates: int | None = None,
    mix: Mix | None = None,
    seed: int = 0,
    history: int = 50,
    min_history: int = 3,
) -> Dataset:
    """Loads MovieLens as lists in time order, cut 80/10/10 by events.

    Args:
        folder: Where the files are.
        candidates: Length of a list, with its target; None takes the length of the mix.
        mix: How candidates are found (`recdistill.data.retrieval`).
        seed: Seed of the candidates. Nothing else is random.
        history: Most events in a history.
        min_history: Fewest earlier events that a user must have for an impression.

    Raises:
        DataError: The files are missing, or not as described above. The message names file and line.
    """
    folder = Path(folder)
    tables = _read(folder)
    mix = Mix() if mix is None else mix
    if candidates is not None:
        mix = _resized(mix, candidates)
    ratings = sorted(tables.ratings, key=lambda rating: rating[3])  # stable: ties stay in the order of the file
    item_names = [item.id for item in tables.items]
    row_of = {name: row for row, name in enumerate(item_names)}
    user_names = list(tables.users)
    user_row = {name: row for row, name in enumerate(user_names)}
    log = Interactions(
        user_E=np.array([user_row[user] for user, _, _, _ in ratings], np.int64),
        item_E=np.array([row_of[item] for _, item, _, _ in ratings], np.int64),
        time_us_E=untie(np.array([seconds for _, _, _, seconds in ratings], np.int64) * 1_000_000),
        actions="rate",
        value_E=np.array([rating for _, _, rating, _ in ratings], np.float64),
    )
    people = list(tables.users.values())
    made = impressions_of(
        log,
        prefix="ml-",
        users=user_names,
        items=item_names,
        context=lambda user, time_us: {**clock(time_us), **people[user]},
        mix=mix,
        history=history,
        min_history=min_history,
        seed=seed,
    )
    return Dataset(
        name=folder.resolve().name,
        items=tables.items,
        impressions=made.impressions,
        feedback=made.feedback,
        spec=specification(tables.items, history=history),
        cut_us=cut_in_time(log.time_us_E),
        labels={"rate": 1.0},
        left_out={"too early": made.early, "repeated": made.repeats},
    )


def specification(items: Sequence[Item], *, history: int = 50) -> FeatureSpec:
    """What a model may see of MovieLens: item id, genres, year and title; the user's group and the time of day."""
    years = np.array([item.attributes["year"] for item in items if "year" in item.attributes], np.float64)
    return FeatureSpec(
        history=HistorySpec(length=history, actions=("rate",)),
        id=IdSpec(capacity=max(1024, 2 * len(items)), hashed=16),
        item={
            "genres": Field(kind="category", capacity=32, hashed=4, max_values=6),
            "year": Field(
                kind="number",
                mean=round(float(years.mean()), 3) if len(years) else 0.0,
                std=round(max(float(years.std()), 1.0), 3) if len(years) else 1.0,
            ),
            "title": Field(kind="text", capacity=2048, max_values=12),
        },
        context={
            "age_group": Field(kind="category", capacity=8, hashed=0, max_values=1),
            "gender": Field(kind="category", capacity=4, hashed=0, max_values=1),
            "occupation": Field(kind="category", capacity=32, hashed=0, max_values=1),
            "hour": Field(kind="category", capacity=24, hashed=0, max_values=1),
            "weekday": Field(kind="category", capacity=7, hashed=0, max_values=1),
        },
    )


def title_and_year(text: str) -> tuple[str, float | None]:
    """Splits the year off a title."""
    match = _YEAR_AT_END.search(text)
    return (text[: match.start()], float(match[1])) if match else (text.strip(), None)


def _resized(mix: Mix, length: int) -> Mix:
    if length < 1:
        raise DataError(f"candidates: must be at least 1, not {length}")
    shrink = min(1.0, length / mix.length)
    return msgspec.structs.replace(
        mix, length=length, popular=int(mix.popular * shrink), covisited=int(mix.covisited * shrink)
    )


def _read(folder: Path) -> _Tables:
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder; {HOW_TO_GET}")
    if (folder / "u.data").is_file():
        tables = _classic(folder)
    elif any(folder.glob("*.inter")):
        tables = _atomic(folder)
    else:
        raise DataError(f"{folder}: holds neither u.data nor a file *.inter; {HOW_TO_GET}")
    if not tables.ratings:
        raise DataError(f"{folder}: holds no rating")
    known = {item.id for item in tables.items}
    for user, item, _, _ in tables.ratings:
        if item not in known:
            raise DataError(f"{folder}: a rating names item {item!r}, which the item file does not hold")
        if user not in tables.users:
            raise DataError(f"{folder}: a rating names user {user!r}, whom the user file does not hold")
    return tables


def _atomic(folder: Path) -> _Tables:
    inter, item, user = (_only(folder, f"*.{kind}") for kind in ("inter", "item", "user"))
    ratings = [
        _rating(where, row["user_id"], row["item_id"], row["rating"], row["timestamp"])
        for where, row in _rows(inter, ("user_id", "item_id", "rating", "timestamp"))
    ]
    items = [
        _item(row["item_id"], row["movie_title"], row["release_year"], row["class"].split())
        for _, row in _rows(item, ("item_id", "movie_title", "release_year", "class"))
    ]
    users = {
        row["user_id"]: _person(where, row["age"], row["gender"], row["occupation"])
        for where, row in _rows(user, ("user_id", "age", "gender", "occupation"))
    }
    return _Tables(ratings, items, users)


def _classic(folder: Path) -> _Tables:
    ratings = [_rating(where, *cells[:4]) for where, cells in _cells(folder / "u.data", "\t", 4)]
    items = []
    for where, cells in _cells(folder / "u.item", "|", 5 + len(GENRES)):
        flags = cells[5 : 5 + len(GENRES)]
        if set(flags) - {"0", "1"}:
            raise DataError(f"{where}: the {len(GENRES)} genre flags must be 0 or 1, not {'|'.join(flags)!r}")
        items.append(_item(cells[0], cells[1], cells[2][-4:], list(compress(GENRES, map(int, flags)))))
    users = {cells[0]: _person(where, *cells[1:4]) for where, cells in _cells(folder / "u.user", "|", 4)}
    return _Tables(ratings, items, users)


def _item(name: str, title: str, year: str, genres: list[str]) -> Item:
    title, year_in_title = title_and_year(title)
    attributes: dict[str, Value] = {"title": title}
    known = [genre for genre in genres if genre != "unknown"]
    if known:
        attributes["genres"] = known
    number = float(year) if re.fullmatch(r"\d{4}", year) else year_in_title
    if number is not None:
        attributes["year"] = number
    return Item(id=name, attributes=attributes)


def _rating(where: str, user: str, item: str, rating: str, seconds: str) -> tuple[str, str, float, int]:
    try:
        value, at = float(rating), int(float(seconds))
    except (ValueError, OverflowError):
        raise DataError(f"{where}: rating and timestamp must be numbers, not {rating!r} and {seconds!r}") from None
    if not (np.isfinite(value) and 0 <= at < 2**42):
        raise DataError(f"{where}: rating {rating!r} or timestamp {seconds!r} (unix seconds) is out of range")
    return user, item, value, at


def _person(where: str, age: str, gender: str, occupation: str) -> dict[str, Value]:
    try:
        years = int(float(age))
    except (ValueError, OverflowError):
        raise DataError(f"{where}: age must be a number, not {age!r}") from None
    return {"age_group": _age_group(years), "gender": gender, "occupation": occupation}


@cache
def _age_group(years: int) -> str:
    """The groups of MovieLens-1M."""
    bounds = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (50, "45-49"), (56, "50-55"))
    return next((name for bound, name in bounds if years < bound), "56+")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DataError(f"{folder}: must hold one file {pattern}, not {len(found)}; {HOW_TO_GET}")
    return found[0]


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Rows of an atomic file by column name, each with its place for messages."""
    lines = _lines(path, "utf-8")
    header = [cell.partition(":")[0] for cell in next(lines, (1, ""))[1].split("\t")]
    absent = [name for name in needed if name not in header]
    if absent:
        raise DataError(f"{path.name}, line 1: the header lacks {', '.join(absent)}; it names {', '.join(header)}")
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != len(header):
            raise DataError(f"{path.name}, line {number}: has {len(cells)} columns where the header has {len(header)}")
        yield f"{path.name}, line {number}", dict(zip(header, cells, strict=True))


def _cells(path: Path, separator: str, least: int) -> Iterator[tuple[str, list[str]]]:
    """Cells of a classic file, each row with its place for messages."""
    for number, line in _lines(path, "iso-8859-1"):
        cells = line.split(separator)
        if len(cells) < least:
            raise DataError(f"{path.name}, line {number}: has {len(cells)} columns; at least {least} are needed")
        yield f"{path.name}, line {number}", cells


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, numbered from 1."""
    if not path.exists():
        raise DataError(f"{path}: is missing; {HOW_TO_GET}")
    try:
        with explained(path), path.open(encoding=encoding, newline="") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), ""), start=1):
                if len(line) > _LONGEST:  # a file without line ends may be larger than memory
                    raise DataError(f"{path}, line {number}: is longer than {_LONGEST:,} characters; {HOW_TO_GET}")
                line = line.rstrip("\r\n")
                if line:
                    yield number, line
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: is not {encoding} text ({e.reason} at byte {e.start})") from e
