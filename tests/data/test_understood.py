"""A table is understood, by a mapping, a ready one or a guess; whatever is in it, there is a kind or a sentence."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from support import tables
from support.tries import tries

from recdistill.data.mapping import TableMapping
from recdistill.data.survey import survey
from recdistill.data.understood import understand
from recdistill.errors import RecdistillError

_CELL = st.one_of(
    st.sampled_from(
        ["", "a|b", "1,2", "N1-0 N2-1", "[1, 2]", '"', "978300760", "4.5", "2020-01-01", "x\ty", "http://a/b", "{}"]
    ),
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8),
)
_NAME = st.sampled_from(
    [
        "user",
        "item_id",
        "time",
        "rating",
        "id",
        "candidates",
        "history",
        "clicked",
        "request",
        "action",
        "x y",
        "",
        "7",
        "é",
    ]
)


def _try(path: Path) -> str:
    """Understands a table and reads it. Returns the sentence of the one kind of error that there may be."""
    try:
        found = understand(path)
        assert bool(found.kind) != bool(found.why)
        if found.text:
            assert TableMapping.parse(found.text, found.file) == found.mapping, "what is written is what is used"
        if found.kind:
            survey([found.bound()], min_history=1)
    except RecdistillError as e:
        return str(e)
    return ""


@tries(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(_NAME, min_size=1, max_size=5),
    rows=st.lists(st.lists(_CELL, min_size=5, max_size=5), max_size=6),
    delimiter=st.sampled_from([",", "\t", "::"]),
    header=st.booleans(),
)
def test_any_table_has_a_kind_or_a_sentence(
    tmp_path: Path, names: list[str], rows: list[list[str]], delimiter: str, header: bool
) -> None:
    path = tmp_path / "t.csv"
    lines = [delimiter.join(names)] if header else []
    lines += [delimiter.join(row[: len(names)]) for row in rows]
    path.write_bytes("\n".join(lines).encode())
    assert "\n" not in _try(path)


@tries(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), ending=st.sampled_from(["csv", "tsv", "jsonl", "parquet", "dat", "csv.gz"]))
def test_any_bytes_have_a_kind_or_a_sentence(tmp_path: Path, data: bytes, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    path.write_bytes(data)
    assert "\n" not in _try(path)


def test_what_a_person_says_is_not_guessed(tmp_path: Path) -> None:
    items, _ = tables.purchases(tmp_path)
    mapped = TableMapping(kind="items", columns={"id": "item_id"})
    assert understand(items, mapping=mapped).mapping is mapped
    found = understand(items, kind="feedback")
    assert (found.kind, found.mapping, found.text) == ("feedback", None, "")


def test_names_of_mapping_files(tmp_path: Path) -> None:
    _, events = tables.purchases(tmp_path)
    for name in ("log.csv.gz.csv", "log"):
        (tmp_path / name).write_bytes(events.read_bytes())
        assert understand(tmp_path / name).file == "log.map.toml"
