r"""Where this package was installed from, and so the one line that adds an extra to it.

pip notes the origin beside an installed package (`direct_url.json`, PEP 610): a folder, a wheel, a commit. A package
that comes from an index has no note. A line that names the wrong origin would fail, or install somebody else's package.

It knows nothing of the rest of the package but how to clean a text of credentials.

Example:
    >>> line("train", '{"url": "file:///home/me/my%20clone", "dir_info": {"editable": true}}')
    "pip install -e '/home/me/my clone[train]'"
    >>> line("serve", '{"url": "https://example.org/recdistill-0.1.0-py3-none-any.whl", "archive_info": {}}')
    "pip install 'recdistill[serve] @ https://example.org/recdistill-0.1.0-py3-none-any.whl'"
    >>> line("serve", None)
    "pip install 'recdistill[serve]'"
"""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from typing import Any
from urllib.parse import unquote, urlsplit

from recdistill.text import without_credentials

NAME = "recdistill"


def how_to_install(extra: str) -> str:
    """The line that adds an extra to this installation."""
    return line(extra, _origin())


def line(extra: str, origin: str | None) -> str:
    """The line that adds an extra to an installation with this origin.

    Args:
        extra: Name of an extra of pyproject.toml.
        origin: Text of `direct_url.json`; None if there is none.
    """
    found: dict[str, Any] = {}
    try:
        found = json.loads(origin or "{}")
        url = str(found.get("url", ""))
        folder = unquote(urlsplit(url).path) if url.startswith("file:") and "dir_info" in found else ""
    except (ValueError, AttributeError):
        url = folder = ""
    if folder:
        editable = "-e " if (found.get("dir_info") or {}).get("editable") else ""
        return f"pip install {editable}{_quoted(f'{folder}[{extra}]')}"
    if not url:
        return f"pip install '{NAME}[{extra}]'"
    at = found.get("vcs_info") or {}
    if at:
        url = f"{at.get('vcs', 'git')}+{url}@{at.get('commit_id', '')}".rstrip("@")
    return f"pip install {_quoted(f'{NAME}[{extra}] @ {without_credentials(url)}')}"


def _quoted(text: str) -> str:
    return shlex.quote(text)


def _origin() -> str | None:
    # A clone may hold metadata of its own, left by a build. It has no note, so the first one that has a note counts.
    notes = (found.read_text("direct_url.json") for found in importlib.metadata.distributions(name=NAME))
    return next((note for note in notes if note), None)
