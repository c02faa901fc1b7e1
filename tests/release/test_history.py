"""What the report tells of versions that were judged before comes from the ledger, with what became of them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from support.judgements import make_judgement
from support.registries import ledger_at

from recdistill.judge import Asked, Spread, gate
from recdistill.release import as_writer, history_of, policy_of
from recdistill.release.evidence import note_judged
from recdistill.release.history import figures_of


def judgement(name: str, *, lists: int = 9_900):
    return msgspec.structs.replace(make_judgement(), content_hash=name * 32, lists=lists)


def test_versions_are_told_with_intervals_and_with_what_became_of_them(tmp_path: Path) -> None:
    asked = Asked(champion=0)
    with closing(ledger_at(tmp_path, "shop")) as ledger:

        def note(name: str, lists: int = 9_900) -> None:
            one = judgement(name, lists=lists)
            as_writer(
                ledger,
                lambda writer: note_judged(writer, ledger, one, gate(one, asked), policy=policy_of(asked), who="judge"),
            )

        for name in ("aa", "bb", "cc"):
            note(name)
        note("dd", lists=20)
        note("bb")  # a second look comes last
        for number, name in (("1", "aa"), ("2", "bb"), ("3", "cc")):
            as_writer(
                ledger,
                lambda writer, number=number, name=name: writer.append(
                    "promoted",
                    who="ada",
                    version=number,
                    content_hash=name * 32,
                    before=str(int(number) - 1).strip("0"),
                ),
            )
        as_writer(
            ledger,
            lambda writer: writer.append("rolled-back", who="ada", version="2", content_hash="bb" * 32, before="3"),
        )
        new = judgement("ee")
        past = history_of(ledger.look(), {"dd" * 32: "9"}, (new, gate(new, asked)))
    assert [one.content_hash[:2] for one in past] == ["aa", "cc", "dd", "bb", "ee"]
    assert [one.number for one in past] == ["1", "3", "9", "2", ""]
    assert [one.became for one in past] == ["served", "withdrawn", "", "serves", ""]
    assert [one.verdict for one in past] == ["passed", "passed", "not enough evidence", "passed", "passed"]
    assert [one.this for one in past] == [False] * 4 + [True]
    kept = new.retention
    assert kept is not None
    assert all(one.figures["kept"] == pytest.approx(Spread(kept.mean, kept.low, kept.high)) for one in past)
    assert "champion" not in past[0].figures
    assert set(figures_of(new)) == {"kept", "control", "ndcg@10"}


def test_a_judgement_of_an_older_version_has_one_figure_without_an_interval(tmp_path: Path) -> None:
    with closing(ledger_at(tmp_path, "shop")) as ledger:
        for evidence, figures in (
            ({"metrics": {"retention": 0.9}}, None),
            ({"metrics": {"retention": "much"}}, None),
            ({"metrics": []}, {"kept": [1.0, 2.0], "champion": [0.1, 0.0, 0.2], "x": "y"}),
        ):
            facts = {"passed": False, "evidence": evidence} | ({} if figures is None else {"figures": figures})
            as_writer(
                ledger,
                lambda writer, facts=facts: writer.append("judged", who="judge", content_hash=str(facts), facts=facts),
            )
        past = history_of(ledger.look(), {})
    assert [one.verdict for one in past] == ["refused"] * 3
    assert [one.figures for one in past] == [{"kept": Spread(0.9)}, {}, {"champion": Spread(0.1, 0.0, 0.2)}]
