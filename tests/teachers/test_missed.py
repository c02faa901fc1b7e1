"""Why scores are missing, and what nobody has: told through the command line, with figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands.test_nothing import Logged
from onnx import TensorProto, helper
from support import world
from teachers.tensors.test_onnx import write

from recdistill.records import Candidate, Impression, Item
from recdistill.teachers.missed import Missed

S, INT, F = TensorProto.STRING, TensorProto.INT64, TensorProto.FLOAT
LISTS = world.impressions(60)


@pytest.fixture
def terminal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Logged:
    monkeypatch.chdir(tmp_path)
    made = Logged(capsys, caplog)
    made("topics create")
    return made


def by_price(path: Path) -> Path:
    """The score of a candidate is what is fed as its price."""
    return write(
        path,
        [helper.make_node("Identity", ["price"], ["scores"])],
        {"price": (F, ["B", "L"])},
        {"scores": (F, ["B", "L"])},
    )


def by_row(path: Path) -> Path:
    """The score of a candidate is its row."""
    return write(
        path,
        [helper.make_node("Cast", ["ids"], ["scores"], to=F)],
        {"ids": (INT, ["B", "L"])},
        {"scores": (F, ["B", "L"])},
    )


def settings(model: Path, inputs: dict[str, str], **more: Any) -> str:
    lines = ["[teacher]", 'kind = "onnx"', "[teacher.onnx]", f'path = "{model}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    lines += ["[teacher.onnx.inputs]", *(f'{key} = "{value}"' for key, value in inputs.items())]
    Path("shop.toml").write_text("\n".join(lines) + "\n")
    return "--config shop.toml"


def told(terminal: Logged, items: Sequence[Item], lists: Sequence[Impression] = LISTS) -> None:
    terminal.write("items", items)
    terminal.write("impressions", lists)


def test_a_number_that_every_item_has_as_text_stops_the_scorer(terminal: Logged, tmp_path: Path) -> None:
    told(terminal, [Item(f"item-{n}", attributes={"price": f"some {n}.50"}) for n in range(20)])
    chosen = settings(by_price(tmp_path / "m.onnx"), {"price": "item.price"})
    terminal(f"score --drain {chosen}", code=2)
    assert "teacher.onnx.inputs.price: none of 360 candidates has a number in its attribute 'price' (it is '" in (
        terminal.errors
    )
    assert "say in teacher.onnx.missing.price what is fed instead" in terminal.errors
    assert "Traceback" not in terminal.errors
    assert json.loads(terminal("topics list --json"))["topics"][-1]["end"] == 0  # rankings: nothing was written


def test_an_attribute_that_nobody_has_stops_the_scorer_unless_it_is_meant(terminal: Logged, tmp_path: Path) -> None:
    told(terminal, world.items())
    model = by_price(tmp_path / "m.onnx")
    terminal(f"score --drain {settings(model, {'price': 'item.price'})}", code=2)
    assert "(no item has it)" in terminal.errors
    chosen = settings(model, {"price": "item.price"})
    Path("shop.toml").write_text(Path("shop.toml").read_text() + "[teacher.onnx.missing]\nprice = 0.5\n")
    out = json.loads(terminal(f"score --drain --json {chosen}"))
    assert (out["rankings"], out["missing"]) == (60, 0)


def test_an_attribute_that_some_have_is_enough(terminal: Logged, tmp_path: Path) -> None:
    items = [Item(f"item-{n}", attributes={"price": float(n)} if n == 3 else {}) for n in range(20)]
    told(terminal, items)
    terminal(
        f"score --drain {settings(by_price(tmp_path / 'm.onnx'), {'price': 'item.price'})} --set score.most_missing=1"
    )


def test_a_vocabulary_that_is_too_short_is_told_with_figures(terminal: Logged, tmp_path: Path) -> None:
    told(terminal, world.items())
    Path("ids.txt").write_text("".join(f"item-{n}\n" for n in range(16)))
    chosen = settings(by_row(tmp_path / "m.onnx"), {"ids": "candidates"}, vocabulary="ids.txt")
    out = json.loads(terminal(f"score --drain --json {chosen}"))
    masked = sum(int(c.item.split("-")[1]) >= 16 for one in LISTS for c in one.candidates)
    assert out["missing"] == masked
    assert (
        f"gave no score for {masked} of 360 candidates ({masked / 360:.1%}): {masked} candidates are not among the 16 "
        in (terminal.errors)
    )
    assert "lines of ids.txt, for instance 'item-1" in terminal.errors


def test_a_vocabulary_that_is_for_other_ids_stops_the_scorer(terminal: Logged, tmp_path: Path) -> None:
    told(terminal, world.items())
    Path("ids.txt").write_text("item-0\nother\n")
    chosen = settings(by_row(tmp_path / "m.onnx"), {"ids": "candidates"}, vocabulary="ids.txt", batch=1)
    lists = [one for one in LISTS if any(c.item == "item-0" for c in one.candidates)]
    terminal(f"score --drain {chosen} --set score.most_missing=0.5", code=5)
    asked = 6 * len(lists)
    assert f"gave no score for {asked - len(lists)} of {asked} candidates" in terminal.errors
    assert "more than score.most_missing = 0.5" in terminal.errors


def test_numeric_ids_without_a_vocabulary_are_warned_of(terminal: Logged, tmp_path: Path) -> None:
    lists = [
        Impression(f"i{n}", n + 1, candidates=tuple(Candidate(str(9 * n % 40 + k)) for k in range(5)))
        for n in range(40)
    ]
    told(terminal, [Item(str(n)) for n in range(50)], lists)
    chosen = settings(by_row(tmp_path / "m.onnx"), {"ids": "candidates"})
    terminal(f"score --drain {chosen}")
    assert "item ids such as '0' are fed as the integers that they are" in terminal.errors
    assert "teacher.onnx.vocabulary names no file" in terminal.errors
    terminal("topics list")
    again = [one.__class__(f"j{n}", 100 + n, candidates=one.candidates) for n, one in enumerate(lists)]
    terminal.write("impressions", again)
    terminal(f"score --drain {chosen} --set teacher.onnx.integer_ids=true")
    assert "integers that they are" not in terminal.errors


def test_the_most_frequent_reason_is_given_with_an_example() -> None:
    missed = Missed()
    missed.unknown([Candidate("a"), Candidate("b"), Candidate("c")], np.array([True, False, False]), "are unknown")
    missed.add("have no text", "z")
    assert missed.why() == "2 are unknown, for instance 'b'"
    missed.unknown([Candidate("a")], np.array([True]), "are unknown")
    assert missed.why() == ""
