"""The line that adds an extra: against the origins that PEP 610 lists, and what pip itself noted about this package."""

from __future__ import annotations

import importlib.metadata
import json
import shlex

import pytest
from packaging.requirements import Requirement

from recdistill.installed import how_to_install, line


@pytest.mark.parametrize(
    ("origin", "arguments"),
    [
        ({"url": "file:///a/clone", "dir_info": {"editable": True}}, ["-e", "/a/clone[x]"]),
        ({"url": "file:///a%20b/clone", "dir_info": {}}, ["/a b/clone[x]"]),
        (
            {"url": "https://u:secret@h/r-1-py3-none-any.whl", "archive_info": {}},
            ["recdistill[x] @ https://h/r-1-py3-none-any.whl"],
        ),
        (
            {"url": "https://h/r.git", "vcs_info": {"vcs": "git", "commit_id": "ab12", "requested_revision": "main"}},
            ["recdistill[x] @ git+https://h/r.git@ab12"],
        ),
        ({}, ["recdistill[x]"]),
        ([], ["recdistill[x]"]),
        ("not an object", ["recdistill[x]"]),
    ],
)
def test_the_line_names_the_origin(origin: object, arguments: list[str]) -> None:
    words = shlex.split(line("x", json.dumps(origin)))
    assert words == ["pip", "install", *arguments]
    if "@" in arguments[-1]:
        assert Requirement(words[-1]).extras == {"x"}


def test_damaged_notes_do_not_matter() -> None:
    assert line("x", "{") == line("x", None) == "pip install 'recdistill[x]'"


def test_this_installation_is_named() -> None:
    notes = [found.read_text("direct_url.json") for found in importlib.metadata.distributions(name="recdistill")]
    assert how_to_install("train") == line("train", next(filter(None, notes), None))
