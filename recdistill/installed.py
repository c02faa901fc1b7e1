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
import os
import shlex
from pathlib import Path
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


def commit() -> str:
    """The commit of the sources that run; empty where nobody noted it.

    An image says it in `RECDISTILL_COMMIT`. pip notes it for a package that came from a repository. A clone knows it.
    """
    if said := os.environ.get("RECDISTILL_COMMIT", ""):
        return said[:64]
    try:
        noted = json.loads(_origin() or "{}").get("vcs_info") or {}
    except (ValueError, AttributeError):
        noted = {}
    return str(noted.get("commit_id") or _head(Path(__file__).resolve().parents[1] / ".git"))


def _head(git: Path) -> str:
    """The commit that a clone, or a working tree of one, stands at. Git itself may not be installed."""
    try:
        if git.is_file():  # of a working tree: `gitdir: PATH`
            git = Path(git.read_text(encoding="utf-8").partition("gitdir: ")[2].strip())
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head
        common = git / "commondir"
        home = (git / common.read_text(encoding="utf-8").strip()) if common.is_file() else git
        if (home / name).is_file():
            return (home / name).read_text(encoding="utf-8").strip()
        lines = (home / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((line.split()[0] for line in lines if line.endswith(f" {name}")), "")
    except (OSError, UnicodeError):
        return ""


def _quoted(text: str) -> str:
    return shlex.quote(text)


def _origin() -> str | None:
    # A clone may hold metadata of its own, left by a build. It has no note, so the first one that has a note counts.
    notes = (found.read_text("direct_url.json") for found in importlib.metadata.distributions(name=NAME))
    return next((note for note in notes if note), None)
