"""The ledger on an embedded log: one writer, and everything that was changed is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recdistill.config import LogSettings
from recdistill.errors import Fenced
from recdistill.ledger import NO_KEYS, Chain, Keys, Ledger, Link, make_key, newest_head, open_keys, verify
from recdistill.stream import LEDGER, Log, open_log


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Iterator[Log]:
    with closing(open_log(LogSettings(path=str(tmp_path / "log.sqlite")))) as log:
        yield log


@pytest.fixture(name="keys", params=["unsigned", "signed"])
def _keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    if request.param == "unsigned":
        return NO_KEYS
    make_key(tmp_path / "keys", "judge")
    return open_keys(tmp_path / "keys")


def plant(log: Log, keys: Keys, entries: int = 5) -> list[bytes]:
    """A small ledger; the bytes of its entries."""
    ledger = Ledger(log, "shop", keys, clock=lambda: "2026-01-02T03:04:05.000+00:00")
    for n in range(entries):
        with ledger.writing() as writer:
            writer.append("promoted", who="ada", why=f"better {n}", version=str(n + 1), before=str(n or ""))
    ledger.close()
    with closing(log.source([LEDGER])) as source:
        return [message.value or b"" for message in source.read(1000)]


def troubles(values: list[bytes], keys: Keys, head: str) -> list[str]:
    """What is wrong with these entries, and with a head that was noted of them."""
    from recdistill.ledger import check_head

    chain = Chain(keys)
    links = [chain.take(offset, value) for offset, value in enumerate(values)]
    found = [link.trouble for link in links if link.trouble]
    wrong = check_head("version 1", head, n=chain.n, digests=chain.digests)
    return [*found, wrong] if wrong else found


@pytest.mark.slow
def test_each_flipped_byte_of_each_entry_is_found_also_in_the_last(log: Log, keys: Keys) -> None:
    values = plant(log, keys)
    chain = Chain(keys)
    for offset, value in enumerate(values):
        chain.take(offset, value)
    head = chain.noted()
    assert troubles(values, keys, head) == []
    for n, value in enumerate(values):
        for place in range(len(value)):
            bad = bytearray(value)
            bad[place] ^= 1
            planted = [*values[:n], bytes(bad), *values[n + 1 :]]
            assert troubles(planted, keys, ""), (n, place)  # also without a head that somebody noted


def test_each_dropped_entry_the_cut_tail_and_another_order_are_found(log: Log, keys: Keys) -> None:
    values = plant(log, keys)
    chain = Chain(keys)
    for offset, value in enumerate(values):
        chain.take(offset, value)
    head = chain.noted()
    for n in range(len(values)):
        assert troubles([*values[:n], *values[n + 1 :]], keys, head), n
        if n:
            found = troubles(values[:n], keys, head)
            assert len(found) == 1
            assert f"version 1 notes entry 5, and the ledger ends at entry {n}: entries were cut off" in found[0]
    for n in range(len(values) - 1):
        swapped = [*values[:n], values[n + 1], values[n], *values[n + 2 :]]
        assert any("out of its order" in one for one in troubles(swapped, keys, head)), n
    again = [*values, values[2]]
    assert any("put there again" in one for one in troubles(again, keys, head))


def test_who_writes_the_whole_chain_anew_is_found_by_the_head_or_by_the_key(
    log: Log, keys: Keys, tmp_path: Path
) -> None:
    values = plant(log, keys)
    chain = Chain(keys)
    for offset, value in enumerate(values):
        chain.take(offset, value)
    head = chain.noted()
    with closing(open_log(LogSettings(path=str(tmp_path / "other.sqlite")))) as other:
        ledger = Ledger(other, "shop", NO_KEYS)
        for _ in range(5):
            with ledger.writing() as writer:
                writer.append("promoted", who="eve", why="mine", version="9")
        ledger.close()
        with closing(other.source([LEDGER])) as source:
            forged = [message.value or b"" for message in source.read(1000)]
    assert any("notes another entry 5" in one for one in troubles(forged, keys, head))
    if keys.demanded:
        assert any("has no signature" in one for one in troubles([*values[:3], *forged[3:]], keys, ""))


def test_a_forged_entry_is_not_believed_and_work_goes_on(log: Log, tmp_path: Path) -> None:
    make_key(tmp_path / "keys", "ada")
    keys = open_keys(tmp_path / "keys")
    ledger = Ledger(log, "shop", keys)
    with ledger.writing() as writer:
        writer.append("promoted", who="ada", version="1")
    with Ledger(log, "shop", NO_KEYS).writing() as writer:  # somebody without a key
        writer.append("promoted", who="ada", version="666", before="1")
    with closing(log.stage("junk")) as stage, stage.transaction() as transaction:
        transaction.send(LEDGER.topic, b"\x00garbage", partition=0)
        transaction.send(LEDGER.topic, None, key=b"tombstone", partition=0)
    assert ledger.look().champion == "1"
    with ledger.writing() as writer:
        entry = writer.append("promoted", who="ada", version="2", before="1")
    assert (entry.n, ledger.state.champion, len(ledger.troubles)) == (2, "2", 3)
    found = verify(ledger, [("version 2", ledger.head())])
    assert [one.split(": ")[0] for one in found.troubles] == [
        "ledger/0 offset 2",
        "ledger/0 offset 4",
        "ledger/0 offset 5",
    ]
    assert newest_head(log, keys) == ledger.head()
    ledger.close()


def test_a_slower_writer_cannot_append(log: Log) -> None:
    slow, fast = Ledger(log, "shop", NO_KEYS), Ledger(log, "shop", NO_KEYS)
    with slow.writing() as first:
        with fast.writing() as second:
            second.append("promoted", who="bert", version="2")
        with pytest.raises(Fenced):
            first.append("promoted", who="ada", version="1")
        assert slow.tried() is None
    assert (slow.look().champion, slow.chain.n) == ("2", 1)
    slow.close()
    fast.close()


def test_models_of_one_log_share_a_chain_and_not_a_state(log: Log) -> None:
    shop, news = Ledger(log, "shop", NO_KEYS), Ledger(log, "news", NO_KEYS)
    with shop.writing() as writer:
        writer.append("promoted", who="ada", version="1")
    with news.writing() as writer:
        assert writer.append("promoted", who="bert", version="7").n == 2
    assert (shop.look().champion, news.look().champion) == ("1", "7")
    assert verify(shop, []).troubles == []
    assert "no key is trusted here" in verify(shop, []).open[0]
    shop.close()
    news.close()


def test_heads_are_read_from_the_end(log: Log) -> None:
    assert newest_head(log, NO_KEYS) == ""
    ledger = Ledger(log, "shop", NO_KEYS)
    with ledger.writing() as writer:
        for n in range(70):
            writer.append("judged", who="judge", content_hash="ab" * 32, facts={"passed": n % 2 == 0})
    with closing(log.stage("junk")) as stage:
        for _ in range(100):
            with stage.transaction() as transaction:
                transaction.send(LEDGER.topic, b"junk", partition=0)
    ledger.look()
    assert newest_head(log, NO_KEYS) == ledger.head() == f"70:{ledger.chain.digests[70]}"
    assert ledger.state.tries() == ledger.state.tries(content_hash="ab" * 32) == 70
    assert ledger.state.tries("9999") == 0
    ledger.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_on_kafka_a_slower_writer_cannot_append_either(kafka_brokers: str) -> None:
    settings = LogSettings(kind="kafka", brokers=kafka_brokers, prefix="ledger-test-")
    with closing(open_log(settings)) as log, closing(open_log(settings)) as other:
        slow, fast = Ledger(log, "shop", NO_KEYS), Ledger(other, "shop", NO_KEYS)
        with slow.writing() as first:
            with fast.writing() as second:
                second.append("promoted", who="bert", version="2")
            with pytest.raises(Fenced):
                first.append("promoted", who="ada", version="1")
        with slow.writing() as first:
            assert first.append("promoted", who="ada", version="3", before="2").n == 2
        assert (fast.look().champion, fast.troubles, log.dangers()) == ("3", [], [])
        assert newest_head(other, NO_KEYS) == fast.head()
        slow.close()
        fast.close()


class Late:
    """A source whose first read finds nothing yet, as a broker's whose answer takes longer than the wait."""

    def __init__(self, source: Any) -> None:
        self._source, self._asked = source, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, *args: Any) -> Any:
        asked, self._asked = self._asked, True
        return self._source.read(*args) if asked else []


def test_an_entry_is_read_also_where_the_log_takes_its_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(log, NO_KEYS)
    links: list[Link] = []
    with closing(Ledger(log, "shop", NO_KEYS, heard=links.append)) as ledger:
        ledger.look()
        source = log.source
        monkeypatch.setattr(log, "source", lambda *args: Late(source(*args)))
        found = ledger.read(links[3].offset)
    assert found is not None
    assert found.entry == links[3].entry
