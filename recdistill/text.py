r"""Text from outside, made ready for our sentences: hints for wrong names, safe text for terminals, msgspec's errors.

Everything here takes text and gives text.

It knows nothing of the rest of the package.

Example:
    >>> did_you_mean("stduent", ["student", "teacher"], otherwise="there are two")
    "did you mean 'student'?"
    >>> printable("red \x1b[31m text")
    'red �[31m text'
    >>> cut("a long sentence", 8)
    'a long …'
    >>> without_credentials("cannot reach http://bob:secret@mlflow:5000/api")
    'cannot reach http://mlflow:5000/api'
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_MOST_COMPARED: Final = 100  # characters of a name; the time of the search grows with its square


def near(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`; empty if none is like it."""
    import difflib

    found = difflib.get_close_matches(name[:_MOST_COMPARED], list(known), n=1)
    return found[0] if found else ""


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """A hint for an unknown name.

    Args:
        name: What was written.
        known: What may be written.
        otherwise: The hint when no known name is like it.
    """
    found = near(name, known)
    return f"did you mean {found!r}?" if found else otherwise


def printable(text: str, instead: str = REPLACEMENT) -> str:
    """The text with `instead` for each character that does not print: controls, line ends, lone surrogates."""
    return text if text.isprintable() else "".join(one if one.isprintable() else instead for one in text)


def escaped(text: str) -> str:
    r"""The text with an escape such as `\n` or `\x1b` for each character that does not print."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def cut(text: str, most: int) -> str:
    """The text with at most `most` characters. If it is cut, the last one is an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


_USER: Final = re.compile(r"(?<=://)[^/\s\"'<>]*@")
_SECRET: Final = re.compile(
    r"([?&][^=&\s]*(?:password|passwd|token|secret|api_?key|signature)[^=&\s]*=)[^&\s\"'<>]+", re.I
)


def without_credentials(text: str) -> str:
    """The text without user and password of the addresses in it, and without values of secret query parameters.

    Messages of other libraries often hold the whole address that they called.

    Example:
        >>> without_credentials("GET http://host/x?k=3&api_key=abc failed")
        'GET http://host/x?k=3&api_key=… failed'
    """
    return _SECRET.sub(r"\1…", _USER.sub("", text))


class Misfit(NamedTuple):
    """The parts of what msgspec says about data that does not fit a Struct.

    Args:
        path: Where it is, as in `items[3].id`; empty for the whole. `[...]` is a key of a table that msgspec
            does not name.
        problem: What is wrong there, in msgspec's words.
        unknown: Name of the field, if the problem is that it is unknown.
        missing: Name of the field, if the problem is that it is missing.
    """

    path: str
    problem: str
    unknown: str = ""
    missing: str = ""


def misfit(error: Exception | str) -> Misfit:
    """Splits a `msgspec.ValidationError`, or its text, into its parts.

    Example:
        >>> misfit("Object contains unknown field `kk` - at `$.requests[2]`")
        Misfit(path='requests[2]', problem='Object contains unknown field `kk`', unknown='kk', missing='')
    """
    problem, _, path = str(error).partition(" - at ")
    path = path.removeprefix("`key` in ").strip("`").removeprefix("$").removeprefix(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", problem, re.DOTALL)
    missing = re.fullmatch(r"Object missing required field `(.*)`", problem, re.DOTALL)
    return Misfit(path, problem, unknown[1] if unknown else "", missing[1] if missing else "")
