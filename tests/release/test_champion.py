"""Changes of champion: one wins, the alias follows, and every state leads on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.registries import judged, make_bundle

from recdistill.bundle import Bundle
from recdistill.config import LogSettings
from recdistill.errors import Refused, RegistryError
from recdistill.ledger import NO_KEYS, Ledger, verify
from recdistill.registry import CHAMPION, PREVIOUS, Registry
from recdistill.release import HEAD, as_writer, bring_over, champion, change, rollback, watch
from recdistill.stream import Log, open_log
from tools.mlflow_server import new_file

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


@pytest.fixture(name="uri", scope="module")
def _uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return new_file(tmp_path_factory.mktemp("registry") / "mlflow.sqlite")


@pytest.fixture(name="registry")
def _registry(uri: str, request: pytest.FixtureRequest) -> Registry:
    return Registry(uri, f"r.{re.sub('[^a-z0-9]', '-', request.node.name.lower())}")


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Iterator[Log]:
    with closing(open_log(LogSettings(path=str(tmp_path / "log.sqlite")))) as log:
        yield log


@pytest.fixture(name="ledger")
def _ledger(log: Log, registry: Registry) -> Iterator[Ledger]:
    with closing(Ledger(log, registry.name, NO_KEYS)) as ledger:
        yield ledger


Shop = dict[str, str]
"""Content hash of each version, by its number."""


@pytest.fixture(name="bundles", scope="module")
def _bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    place = tmp_path_factory.mktemp("bundles")
    return [make_bundle(place / name, name) for name in ("one", "two", "three")]


@pytest.fixture(name="three")
def _three(registry: Registry, bundles: list[Bundle]) -> Shop:
    return {registry.publish(b, judged(b)).number: b.content_hash for b in bundles}


@pytest.fixture(name="to")
def _to(registry: Registry, ledger: Ledger, three: Shop) -> Callable[[str, str | None], Any]:
    """Promotes a version over another one."""

    def promote(number: str, expect: str | None) -> Any:
        return change(registry, ledger, number, three[number], expect=expect, who="ada", why="-")

    return promote


def back(registry: Registry, ledger: Ledger, expect: str | None, **more: Any) -> Any:
    return rollback(registry, ledger, expect=expect, who="bert", why="clicks fell", **more)


def by_hand(registry: Registry, alias: str, number: str) -> None:
    registry._connection.client.set_registered_model_alias(registry.name, alias, number)


def kinds(ledger: Ledger) -> list[tuple[str, str | None, str | None]]:
    return [(one.kind, one.before, one.after) for one in ledger.look().changes]


def test_expect_is_compared(registry: Registry, ledger: Ledger, three: Shop, to: Any) -> None:
    with pytest.raises(Refused, match="the champion is none, not version 2 as expected"):
        to("1", "2")
    assert to("1", None).step == 1
    with pytest.raises(Refused, match="the champion is version 1, not none as expected"):
        to("2", None)
    with pytest.raises(Refused, match="is the champion already"):
        to("1", "1")
    to("2", "1")
    assert registry.aliases() == {"candidate": "3", CHAMPION: "2", PREVIOUS: "1"}
    assert kinds(ledger) == [("promote", None, "1"), ("promote", "1", "2")]
    assert "promoted by ada" in registry.versions()[1].reason
    assert verify(ledger, registry.tags(HEAD).items()).troubles == []
    assert len(registry.tags(HEAD)) == 2


def test_a_rollback_leads_back_and_never_to_what_was_left(
    registry: Registry, ledger: Ledger, three: Shop, to: Any
) -> None:
    with pytest.raises(Refused, match="no previous champion"):
        back(registry, ledger, None)
    for number, before in (("1", None), ("2", "1"), ("3", "2")):
        to(number, before)
    done = back(registry, ledger, "3")
    assert (done.kind, done.before, done.after) == ("rollback", "3", "2")
    assert registry.aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    assert "by bert" in registry.tags("rolled_back")["3"]
    # The second of two people who both wanted to leave 3.
    with pytest.raises(Refused, match=r"the champion is version 2, not version 3 as expected"):
        back(registry, ledger, "3", named=True)
    with pytest.raises(Refused, match=r"version 3 was rolled back to 2 already, by bert at .*: --from 2"):
        back(registry, ledger, "2")
    assert registry.aliases()[CHAMPION] == "2"
    assert back(registry, ledger, "2", named=True).after == "1"
    with pytest.raises(Refused, match="no previous champion"):
        back(registry, ledger, "1", named=True)
    assert to("3", "1").after == "3"  # a person may decide anew


def test_what_a_dead_promoter_left_is_finished_by_the_next(
    registry: Registry, ledger: Ledger, three: Shop, to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "crown", dies)
    with pytest.raises(KeyboardInterrupt):
        to("1", None)
    monkeypatch.undo()
    assert registry.find(CHAMPION) is None
    assert watch(registry, ledger, who="promoter") == []  # its maker may be at it
    with pytest.raises(Refused, match="the champion is version 1, not none"):
        to("2", None)
    assert registry.aliases()[CHAMPION] == "1"
    monkeypatch.setattr(registry, "crown", dies)
    with pytest.raises(KeyboardInterrupt):
        to("2", "1")
    monkeypatch.undo()
    monkeypatch.setattr(champion, "AT_WORK_S", 0.0)
    assert "whose maker ended" in watch(registry, ledger, who="promoter")[0]
    assert registry.aliases()[CHAMPION] == "2"
    assert watch(registry, ledger, who="promoter") == []
    assert kinds(ledger) == [("promote", None, "1"), ("promote", "1", "2")]


def test_a_clock_that_went_back_does_not_hide_what_a_dead_promoter_left(
    registry: Registry, ledger: Ledger, three: Shop, to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entry is of an hour from now. Nobody waits for that hour."""

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "crown", dies)
    with pytest.raises(KeyboardInterrupt):
        to("1", None)
    monkeypatch.undo()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    assert "whose maker ended" in watch(registry, ledger, who="promoter")[0]
    assert registry.aliases()[CHAMPION] == "1"


def test_a_slow_promoter_does_not_leave_its_alias_over_a_later_one(
    uri: str, log: Log, registry: Registry, ledger: Ledger, three: Shop, to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    crown = registry.crown

    def overtaken(number: str, **more: Any) -> None:
        # While this one sleeps between its entry and the alias, another finishes that and promotes another version.
        monkeypatch.undo()
        with closing(Ledger(log, registry.name, NO_KEYS)) as fast:
            change(Registry(uri, registry.name), fast, "2", three["2"], expect="1", who="bob", why="-")
        crown(number, **more)

    monkeypatch.setattr(registry, "crown", overtaken)
    assert to("1", None).after == "1"
    assert registry.aliases()[CHAMPION] == "2"
    assert kinds(ledger) == [("promote", None, "1"), ("promote", "1", "2")]
    assert verify(ledger, registry.tags(HEAD).items()).troubles == []


def test_an_alias_that_was_moved_by_hand_gets_an_entry_and_is_followed(
    registry: Registry, ledger: Ledger, three: Shop, to: Any
) -> None:
    to("1", None)
    to("2", "1")
    by_hand(registry, CHAMPION, "3")
    (said,) = watch(registry, ledger, who="promoter")
    assert "the alias says version 3, the ledger said version 2" in said
    assert watch(registry, ledger, who="promoter") == []
    assert registry.aliases()[CHAMPION] == "3"
    assert kinds(ledger)[-1] == ("by hand", "2", "3")
    assert back(registry, ledger, "3").after == "2"


def test_or_it_is_set_back(registry: Registry, ledger: Ledger, three: Shop, to: Any) -> None:
    to("1", None)
    to("2", "1")
    by_hand(registry, CHAMPION, "3")
    assert len(watch(registry, ledger, who="promoter", by_hand="keep")) == 2
    assert registry.aliases()[CHAMPION] == "2"
    assert kinds(ledger)[-2:] == [("by hand", "2", "3"), ("return", "3", "2")]
    assert watch(registry, ledger, who="promoter", by_hand="keep") == []


def break_it(registry: Registry, how: str) -> None:
    client = registry._connection.client
    match how:
        case "no aliases":
            for alias in registry.aliases():
                client.delete_registered_model_alias(registry.name, alias)
        case "champion deleted":
            client.delete_model_version(registry.name, "2")
        case "previous deleted":
            client.delete_model_version(registry.name, "1")
        case "alias on a stranger":
            run = client.create_run("0")
            made = client.create_model_version(registry.name, f"runs:/{run.info.run_id}/m", run_id=run.info.run_id)
            by_hand(registry, CHAMPION, str(made.version))
        case "alias on the candidate":
            by_hand(registry, CHAMPION, "3")
        case "tags changed":
            for number in ("1", "2"):
                client.set_model_version_tag(registry.name, number, HEAD, "99:nonsense")
                client.set_model_version_tag(registry.name, number, "evidence", "{")
        case "content hash taken away":
            client.delete_model_version_tag(registry.name, "2", "content_hash")


@pytest.mark.parametrize("then", ["promote", "rollback"])
@pytest.mark.parametrize(
    "how",
    [
        "no aliases",
        "champion deleted",
        "previous deleted",
        "alias on a stranger",
        "alias on the candidate",
        "tags changed",
        "content hash taken away",
    ],
)
def test_every_state_that_a_person_can_make_leads_on(
    registry: Registry, ledger: Ledger, three: Shop, to: Any, how: str, then: str, tmp_path: Path
) -> None:
    to("1", None)
    to("2", "1")
    break_it(registry, how)
    watch(registry, ledger, who="promoter")
    expect = registry.aliases().get(CHAMPION)
    number = "3" if how != "alias on the candidate" else "2"
    if then == "promote":
        assert to(number, expect).after == number
    elif how == "previous deleted":
        with pytest.raises(Refused, match="no previous champion"):  # there is none that could serve
            back(registry, ledger, expect)
        number = "2"
    else:
        number = back(registry, ledger, expect).after
    assert registry.aliases()[CHAMPION] == number == ledger.look().champion
    assert registry.has_bundle(number)
    assert ledger.troubles == []


def test_a_lost_log_and_a_cut_one_get_an_entry(
    registry: Registry, ledger: Ledger, three: Shop, to: Any, tmp_path: Path
) -> None:
    to("1", None)
    to("2", "1")
    with (
        closing(open_log(LogSettings(path=str(tmp_path / "new.sqlite")))) as log,
        closing(Ledger(log, registry.name, NO_KEYS)) as new,
    ):
        (said,) = watch(registry, new, who="promoter")
        assert "or the ledger begins here" in said
        assert len(new.state.lost) == 2
        wrong = verify(new, registry.tags(HEAD).items()).troubles
        assert wrong
        assert back(registry, new, "2").after == "1"  # MLflow's `previous` is what is left
        assert len(new.state.lost) == 2


def former(registry: Registry, step: int, text: str) -> None:
    registry._connection.client.create_registered_model(f"{registry.name}.ledger.{step}", tags={"entry": text})


def test_the_ledger_of_an_older_version_is_brought_over_once(
    registry: Registry, ledger: Ledger, three: Shop, to: Any
) -> None:
    entry = {"content_hash": three["1"], "who": "ada", "why": "good", "at": "2025-01-02T03:04:05+00:00", "token": "t"}
    planted = [("promote", None, "1"), ("promote", "1", "2"), ("rollback", "2", "1")]
    for n, (kind, before, after) in enumerate(planted, 1):
        text = msgspec.json.encode({**entry, "step": n, "kind": kind, "before": before, "after": after}).decode()
        former(registry, n, text if n != 2 else "garbage")
    by_hand(registry, CHAMPION, "1")
    by_hand(registry, PREVIOUS, "2")
    brought, troubles = bring_over(registry, ledger, who="promoter")
    assert brought == 2
    assert [re.sub(r".*\.ledger", "", one).split(" (")[0] for one in troubles] == [".2 is not a ledger entry"]
    assert bring_over(registry, ledger, who="promoter")[0] == 0
    assert watch(registry, ledger, who="promoter") == []  # alias and ledger agree
    assert kinds(ledger) == [("promote", None, "1"), ("rollback", "2", "1")]
    assert ledger.state.changes[0].at == "2025-01-02T03:04:05+00:00"
    assert list(ledger.state.withdrawn) == ["2"]
    with pytest.raises(Refused, match="no previous champion"):
        back(registry, ledger, "1", named=True)


def test_without_bringing_it_over_an_older_installation_goes_on(
    registry: Registry, ledger: Ledger, three: Shop, to: Any
) -> None:
    by_hand(registry, CHAMPION, "2")
    by_hand(registry, PREVIOUS, "1")
    assert back(registry, ledger, "2").after == "1"
    assert kinds(ledger) == [("by hand", None, "2"), ("rollback", "2", "1")]


def test_a_registry_that_goes_away_after_the_entry_is_followed_up(
    registry: Registry, ledger: Ledger, three: Shop, to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise RegistryError("http://mlflow: does not answer")

    monkeypatch.setattr(registry, "crown", away)
    with pytest.raises(RegistryError, match="does not answer"):
        to("1", None)
    monkeypatch.undo()
    monkeypatch.setattr(champion, "AT_WORK_S", 0.0)
    watch(registry, ledger, who="promoter")
    assert registry.aliases()[CHAMPION] == "1"


def test_what_was_appended_and_said_to_be_fenced_counts_once(
    registry: Registry, ledger: Ledger, three: Shop, to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker may take an entry, and its answer be lost while another writer takes over."""
    from recdistill.errors import Fenced
    from recdistill.ledger import Writer

    append, lies = Writer.append, [True]

    def lying(self: Writer, kind: str, **said: Any) -> Any:
        found = append(self, kind, **said)
        if kind == "promoted" and lies:
            lies.clear()
            raise Fenced("a newer process has taken over")
        return found

    monkeypatch.setattr(Writer, "append", lying)
    assert to("1", None).after == "1"
    assert kinds(ledger) == [("promote", None, "1")]
    assert registry.aliases()[CHAMPION] == "1"
    assert ledger.state.open is None
    as_writer(ledger, lambda writer: writer.append("settled", who="x"))


def test_an_entry_whose_time_cannot_be_read_is_finished(
    registry: Registry, log: Log, ledger: Ledger, three: Shop
) -> None:
    """Without keys, anybody who can write to the log can write one."""
    with closing(Ledger(log, registry.name, NO_KEYS, clock=lambda: "soon")) as strange, strange.writing() as writer:
        writer.append("promoted", who="eve", version="2", content_hash=three["2"])
    assert watch(registry, ledger, who="promoter") == ["the alias follows entry 1 of the ledger, whose maker ended"]
    assert registry.aliases()[CHAMPION] == "2"
