"""Small tables in the shapes of public data sets, made here: news that were shown, purchases, ratings, JSON lines.

Users have a taste, so there is something to learn. Nothing in them comes from the data sets.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path

TOPICS = ("sports", "finance", "health", "travel")
START = 1_573_257_600  # 2019-11-09


def news(folder: Path, *, lists: int = 240, users: int = 20, described: int = 40, known: int = 60) -> tuple[Path, Path]:
    """`news.tsv` and `behaviors.tsv` as MIND writes them: no header, labels behind the candidates, no order of time.

    A third of the news that the lists name is described nowhere, and one title begins with a quote.
    """
    chance = random.Random(5)
    topic = {f"N{n}": TOPICS[n % 4] for n in range(known)}
    with (folder / "news.tsv").open("w", encoding="utf-8") as file:
        for n in range(described):
            name = f"N{n}"
            title = f'"Only {topic[name]} say' if n == 3 else f"The {topic[name]} of day {n}"
            cells = [name, topic[name], f"{topic[name]}-{n % 3}", title, f"Words on {topic[name]}, number {n}."]
            entity = '[{"Label": "X", "Type": "G"}]' if n % 2 else "[]"
            print("\t".join([*cells, f"https://example.com/{n}.html", entity, "[]"]), file=file)
    rows, past = [], {f"U{n}": [f"N{n % known}", f"N{(n + 4) % known}"] for n in range(users)}
    for n in range(lists):
        user = chance.choice(list(past))
        taste = TOPICS[int(user[1:]) % 4]
        at = datetime.fromtimestamp(START + 900 * n, UTC)
        shown = chance.sample([name for name in topic if name not in past[user]], chance.randrange(5, 12))
        clicked = [name for name in shown if topic[name] == taste][:1] or shown[:1]
        # Windows writes months and hours without a zero in front, and so does MIND.
        hour = f"{at.hour % 12 or 12}:{at:%M:%S} {'PM' if at.hour >= 12 else 'AM'}"
        time = f"{at.month}/{at.day}/{at.year} {hour}"
        labels = " ".join(f"{name}-{int(name in clicked)}" for name in shown)
        rows.append("\t".join([str(n + 1), user, time, " ".join(past[user]), labels]))
        past[user] = [*past[user], *clicked][-8:]
    chance.shuffle(rows)
    (folder / "behaviors.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "news.tsv", folder / "behaviors.tsv"


def purchases(folder: Path, *, events: int = 500, users: int = 25) -> tuple[Path, Path]:
    """`item_meta.csv` and `purchases.csv` with tabs in spite of their ending: whole days, codes, lists in brackets."""
    chance = random.Random(6)
    category = {str(n): n % 5 for n in range(1, 81)}
    with (folder / "item_meta.csv").open("w", encoding="utf-8") as file:
        print("item_id\ti_category\tr_complement", file=file)
        for name, number in category.items():
            along = [other for other in category if category[other] == number and other != name][:3]
            print(f"{name}\t{number}\t[{', '.join(along if int(name) % 3 else [])}]", file=file)
    with (folder / "purchases.csv").open("w", encoding="utf-8") as file:
        print("user_id\titem_id\ttime", file=file)
        for n in range(events):
            user = chance.randrange(users)
            liked = [name for name, number in category.items() if number == user % 5]
            item = chance.choice(liked) if chance.random() < 0.8 else chance.choice(list(category))
            print(f"{user}\t{item}\t{965_779_200 + 86_400 * (n // 4)}", file=file)
    return folder / "item_meta.csv", folder / "purchases.csv"


def ratings(folder: Path, *, events: int = 400, users: int = 20) -> tuple[Path, Path, Path]:
    """`movies.dat`, `users.dat` and `ratings.dat` with `::` between the cells and without a header."""
    chance = random.Random(7)
    genres = ("Crime", "Comedy", "Drama")
    (folder / "movies.dat").write_text(
        "".join(f"{n}::Film {n} ({1950 + n})::{genres[n % 3]}|{genres[n % 2]}\n" for n in range(1, 61)), "latin-1"
    )
    (folder / "users.dat").write_text("".join(f"{n}::F::{18 + n}::{n % 5}::12345\n" for n in range(1, users + 1)))
    lines = []
    for n in range(events):
        user = chance.randrange(1, users + 1)
        film = chance.choice([n for n in range(1, 61) if n % 3 == user % 3 or chance.random() < 0.2])
        lines.append(f"{user}::{film}::{chance.randrange(1, 6)}::{978_300_760 + 3600 * n}\n")
    (folder / "ratings.dat").write_text("".join(lines))
    return folder / "movies.dat", folder / "users.dat", folder / "ratings.dat"


def json_lines(folder: Path, *, lists: int = 240, users: int = 15) -> tuple[Path, Path, Path]:
    """`products.jsonl`, `requests.jsonl` and `clicks.jsonl`, with names of a shop's own."""
    chance = random.Random(8)
    colours = ("red", "green", "blue")
    products = [
        {"sku": f"s{n}", "name": f"thing {n}", "colour": colours[n % 3], "price": 2.5 + n % 7} for n in range(45)
    ]
    requests, clicks = [], []
    past: dict[int, list[int]] = {n: [] for n in range(users)}
    for n in range(lists):
        user, at = chance.randrange(users), 1_700_000_000_000 + 60_000 * n
        shown = chance.sample([i for i in range(45) if i not in past[user]], 6)
        device = chance.choice(["phone", "tv"])
        names = [f"s{i}" for i in shown]
        requests.append({
            "request_id": f"q{n}", "ts": at, "user_id": f"u{user}", "history": [f"s{i}" for i in past[user]],
            "shown": names, "device": device,
        })  # fmt: skip
        liked = [i for i in shown if i % 3 == user % 3]
        if liked:
            clicks.append({"request_id": f"q{n}", "sku": f"s{liked[0]}", "action": "click", "ts": at + 20_000})
            past[user] = [*past[user], liked[0]][-6:]
    for name, rows in (("products", products), ("requests", requests), ("clicks", clicks)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "products.jsonl", folder / "requests.jsonl", folder / "clicks.jsonl"
