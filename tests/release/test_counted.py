"""A bundle is judged by what was counted while it learnt; the log of what it learnt from is not read."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import spoilt
from support.distilling import copied, more, run, settings, write_log
from support.small_shop import Shop, open_shop

from recdistill import release
from recdistill.bundle import Bundle, open_bundle
from recdistill.errors import BundleError
from recdistill.judge import Judgement
from recdistill.linear import TALLY, Tally
from recdistill.records import Example, decode, encode
from recdistill.release.counted import tally_of, whole
from recdistill.sealed import entry_of
from recdistill.stream import Log


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("written") / "log.sqlite")


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Iterator[Log]:
    yield from copied(written, tmp_path)


def bundle_of(folder: Path) -> Bundle:
    return open_bundle(sorted((folder / "bundles").iterdir())[-1])


def without_counts(bundle: Bundle, out: Path) -> Bundle:
    """The bundle as an older version made it."""
    return spoilt.resealed(bundle, out, {})


def with_counts(bundle: Bundle, out: Path, data: bytes) -> Bundle:
    """The bundle with other counts beside it."""
    from recdistill.bundle.manifest import write_manifest

    shutil.copytree(bundle.path, out)
    (out / TALLY).write_bytes(data)
    made = msgspec.structs.replace(bundle.manifest, beside={TALLY: entry_of(data)})
    (out / "manifest.json").write_bytes(write_manifest(made))
    return open_bundle(out)


def held_out(log: Log, count: int = 60) -> list[Example]:
    """Copies of labelled examples become held-out lists; their values."""
    values = [message.value for message in log.source(["examples"]).read(10_000, 1.0) if message.value]
    found = [one for one in (decode(Example, value) for value in values) if any(one.labels)][:count]
    with closing(log.stage("joiner")) as stage, stage.transaction() as transaction:
        for one in found:
            transaction.send("held-out", encode(one), key=one.ranking.impression.id.encode())
    return found


class Read:
    """A log that counts the messages which are read from it, by topic."""

    def __init__(self, log: Log) -> None:
        self._log, self.seen = log, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def source(self, *args: Any) -> Any:
        source, seen = self._log.source(*args), self.seen

        class Counts:
            def __getattr__(self, name: str) -> Any:
                found = getattr(source, name)
                if name not in ("read", "read_from"):
                    return found

                def read(*args: Any) -> Any:
                    messages = found(*args)
                    seen.update(message.tp.topic for message in messages)
                    return messages

                return read

        return Counts()


def judged(log: Any, bundle: Bundle, **more: Any) -> Judgement:
    return release.judge(log, bundle, 100, teacher=None, protocol="catalogue", **more)


def lines(found: Judgement) -> dict[str, float]:
    return {one.name: one.metrics["ndcg@10"].mean for one in found.contenders}


def by_brute_force(learnt: list[Example], held: list[Example], live: set[str]) -> dict[str, float]:
    """NDCG@10 of popularity and ItemKNN by their definitions, item after item, over the examples that were learnt."""
    lists = []
    for one in learnt:
        shown = one.ranking.impression
        liked = {c.item for c, label in zip(shown.candidates, one.labels, strict=True) if label > 0}
        if liked:
            lists.append(({event.item for event in shown.history[-50:]}, liked))
    n, a, c = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for history, liked in lists:
        n.update(liked)
        a.update(history)
        c.update((event, item) for event in history for item in liked if event != item)
    order: dict[str, int] = {}
    for one in learnt:  # equal counts: what came first, in histories or likes
        shown = one.ranking.impression
        liked = [x.item for x, label in zip(shown.candidates, one.labels, strict=True) if label > 0]
        for item in [*(event.item for event in shown.history[-50:]), *liked] if liked else []:
            order.setdefault(item, len(order))
    found: dict[str, list[float]] = {"popularity": [], "itemknn": []}
    for one in held:
        shown = one.ranking.impression
        barred = {event.item for event in shown.history} | set(shown.exclude)
        labels = zip(shown.candidates, one.labels, strict=True)
        relevant = {x.item: label for x, label in labels if label > 0 and x.item not in barred}
        if not relevant:
            continue
        free = [item for item in n if item in live and item not in barred]
        near = {
            item: sum(
                c[event.item, item] / (math.sqrt(a[event.item] * n[item]) + 5.0)
                for event in {event.item: event for event in shown.history[-50:]}.values()
            )
            for item in free
        }
        popular = sorted(free, key=lambda item: (-n[item], order[item]))
        for name, ranked in (
            ("popularity", popular),
            ("itemknn", sorted(popular, key={item: -round(value, 7) for item, value in near.items()}.__getitem__)),
        ):
            best = ranked[:10]
            gain = sum(relevant.get(item, 0.0) / math.log2(place + 2) for place, item in enumerate(best))
            ideal = sum(
                label / math.log2(place + 2) for place, label in enumerate(sorted(relevant.values(), reverse=True)[:10])
            )
            found[name].append(gain / ideal)
    return {name: sum(values) / len(values) for name, values in found.items()}


@pytest.mark.slow
def test_the_lines_are_those_of_brute_force_and_no_example_is_read(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    bundle = bundle_of(tmp_path / "s")
    learnt = list(release.learnt_from(log, bundle))
    held = held_out(log)
    counting = Read(log)
    found = judged(counting, bundle)
    assert found.part is not None
    assert found.part.lists == "held-out"
    assert counting.seen["held-out"] == len(held)
    assert counting.seen["examples"] == 0
    assert [one.name for one in found.contenders if one.name in ("itemknn", "ease", "popularity")] == [
        "popularity", "itemknn",
    ]  # fmt: skip
    expected = by_brute_force(learnt, held, {item.id for item in bundle.items})
    assert 0 < expected["itemknn"] < 1
    assert {name: lines(found)[name] for name in expected} == pytest.approx(expected)
    # The log grows to three times its length, and the student learns on. Still nothing is read.
    more(log, 300, seed=5)
    run(log, settings(tmp_path / "s"))
    older = bundle_of(tmp_path / "s")
    assert older.content_hash != bundle.content_hash
    counting.seen.clear()
    expected = by_brute_force(list(release.learnt_from(log, older)), held, {item.id for item in older.items})
    assert {name: lines(judged(counting, older))[name] for name in expected} == pytest.approx(expected)
    assert counting.seen["examples"] == 0


@pytest.mark.slow
def test_a_bundle_without_counts_is_judged_from_the_log_and_says_so(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    bundle = bundle_of(tmp_path / "s")
    held_out(log)
    old = without_counts(bundle, tmp_path / "old")
    assert old.content_hash == bundle.content_hash
    counting = Read(log)
    found = judged(counting, old)
    assert counting.seen["examples"] >= 150
    assert {"popularity", "popularity_recent", "itemknn", "ease"} <= lines(found).keys()
    [note] = [one for one in found.notes if "counts" in one]
    assert note == (
        "the bundle has no counts beside it (an older version made it), so popularity and ItemKNN were made from the "
        "newest examples of the log"
    )
    # EASE where it is asked for: then the log is read for it, and the other lines stay those of the counts.
    plain, asked = judged(log, bundle), judged(counting, bundle, ease=True)
    assert lines(asked).keys() - lines(plain).keys() == {"ease"}
    assert {name: lines(asked)[name] for name in lines(plain)} == lines(plain)
    assert lines(asked)["ease"] == lines(found)["ease"]


@pytest.mark.slow
def test_counts_that_began_late_or_hold_nothing_are_not_believed(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    bundle = bundle_of(tmp_path / "s")
    held_out(log)
    tally = tally_of(bundle)
    assert tally is not None
    assert whole(tally)
    late = Tally(1_000)
    late.learn([(["item-1"], ["item-2"])])
    for name, data, said in (
        ("late", late.data(), "the bundle's counts began after 1,000 examples, and hold 1 lists so far, so"),
        ("empty", Tally().data(), "nothing was liked yet in the lists that the bundle learnt from, so"),
    ):
        found = judged(log, with_counts(bundle, tmp_path / name, data))
        assert any(note.startswith(said) for note in found.notes), found.notes
        assert "ease" in lines(found)
    late.lists = 100_000  # by then what is missing has faded
    assert whole(late)
    with pytest.raises(BundleError, match=r"tally\.msgpack: the counts .* cannot be read: .*; fetch or export"):
        judged(log, with_counts(bundle, tmp_path / "bad", b"nothing"))


@pytest.mark.slow
def test_the_verb_and_a_policy_that_asks_for_ease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop: Shop = open_shop(tmp_path, monkeypatch, capsys)
    shop.write(lists=160)
    for line in ("score --drain", "join --drain --flush", "distil --until 100"):
        shop(line)
    names = {one["name"] for one in shop.json("evaluate")["contenders"]}
    assert {"popularity", "popularity_recent", "itemknn"} <= names
    assert "ease" not in names
    for policy in ("judge.ease=true", 'gate.beats=["ease"]'):
        assert "ease" in {one["name"] for one in shop.json(f"evaluate --set {policy}")["contenders"]}
