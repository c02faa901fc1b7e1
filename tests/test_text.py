"""Text from outside: against what a terminal may print, and against msgspec's own words."""

from __future__ import annotations

import sys
import unicodedata
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.text import cut, did_you_mean, escaped, misfit, near, printable, without_credentials


def test_a_near_name_is_found_and_a_far_one_is_not() -> None:
    assert near("capcity", ["hashed", "capacity"]) == "capacity"
    assert near("zzz", iter(["hashed", "capacity"])) == ""
    assert did_you_mean("capcity", ["capacity"], otherwise="no") == "did you mean 'capacity'?"
    assert did_you_mean("zzz", ["capacity"], otherwise="there is capacity") == "there is capacity"
    assert did_you_mean("zzz", ["capacity"]) == ""


@given(st.text(st.characters(), max_size=20))
def test_nothing_in_a_printable_text_steers_a_terminal(text: str) -> None:
    for made in (printable(text), printable(text, ""), printable(text, " "), escaped(text)):
        assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in made)
    assert len(printable(text)) == len(text)
    assert printable(text, "") == "".join(one for one in text if one in made_of_print(text))


def made_of_print(text: str) -> set[str]:
    """Python's own rule, letter by letter: what `repr` shows as it stands."""
    return {one for one in text if repr(one)[1:-1] == one or one in "\\'"}


def test_an_escape_says_which_character_it_was() -> None:
    assert escaped("a\nb\x1b[0m\ud800é") == "a\\nb\\x1b[0m\\ud800é"


@given(st.text(max_size=12), st.integers(1, 12))
def test_a_cut_text_is_at_most_so_long_and_says_that_it_was_cut(text: str, most: int) -> None:
    made = cut(text, most)
    assert len(made) <= most
    assert made == text or (made[-1] == "…" and text.startswith(made[:-1]) and len(text) > most)


class _Inner(msgspec.Struct, forbid_unknown_fields=True):
    size: Annotated[int, msgspec.Meta(ge=1)]


class _Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: _Inner | None = None
    many: tuple[_Inner, ...] = ()
    named: dict[str, _Inner] = {}
    numbered: dict[int, int] = {}


@pytest.mark.parametrize(
    ("data", "path", "unknown", "missing"),
    [
        ({"innr": {}}, "", "innr", ""),
        ({"a `b` c": 1}, "", "a `b` c", ""),
        ({"two\nlines": 1}, "", "two\nlines", ""),
        ({"inner": {}}, "inner", "", "size"),
        ({"inner": {"size": 0}}, "inner.size", "", ""),
        ({"many": [{"size": 1}, {"size": 1, "sise": 2}]}, "many[1]", "sise", ""),
        ({"named": {"x": {"size": "1"}}}, "named[...].size", "", ""),
        ({"numbered": {"x": 1}}, "numbered", "", ""),
        (3, "", "", ""),
    ],
)
def test_a_message_of_msgspec_is_taken_apart(data: object, path: str, unknown: str, missing: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(data, _Outer, str_keys=True)
    found = misfit(caught.value)
    assert (found.path, found.unknown, found.missing) == (path, unknown, missing)
    assert str(caught.value).startswith(found.problem)
    assert "$" not in found.problem
    assert "`$" not in found.path


def test_difflib_is_loaded_only_for_a_wrong_name() -> None:
    import subprocess

    code = "import sys, recdistill.text; print('difflib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://bob:pa:ss@host:5000/x failed", "http://host:5000/x failed"),
        ("'https://token@host' and sqlite:////a@b.sqlite", "'https://host' and sqlite:////a@b.sqlite"),
        ("http://bob:p@ss@host/x", "http://host/x"),
        ("GET /a?K=1&X-Amz-Signature=abc&b=2", "GET /a?K=1&X-Amz-Signature=…&b=2"),
        ("mail bob@host.org, see http://host/a@b", "mail bob@host.org, see http://host/a@b"),
        ("(Caused by ConnectTo('http://u:p@h:1'))", "(Caused by ConnectTo('http://h:1'))"),
    ],
)
def test_addresses_lose_their_credentials(text: str, clean: str) -> None:
    assert without_credentials(text) == clean


@given(st.from_regex(r"[a-zA-Z0-9%:!$&*+,;=._~@-]{1,20}", fullmatch=True))
def test_no_password_survives(password: str) -> None:
    assert (
        without_credentials(f"cannot open http://user:{password}@host:1/path: no")
        == "cannot open http://host:1/path: no"
    )
