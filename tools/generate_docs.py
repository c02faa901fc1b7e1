"""Writes the files that are made from the code: pages of docs/ and JSON Schemas. `--check` only compares.

Example:
    python tools/generate_docs.py --check
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from recdistill import config
from recdistill.serve.http import openapi

ROOT = Path(__file__).resolve().parents[1]
PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": config.reference,
    "schemas/http.schema.json": lambda: json.dumps(openapi.schema(), indent=2) + "\n",
}


def main(argv: list[str] | None = None) -> int:
    """Returns 1 if `--check` found a page that is not up to date, otherwise 0."""
    parser = argparse.ArgumentParser(description="Write the pages of docs/ that are made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not up to date")
    check = parser.parse_args(argv).check
    stale = 0
    for name, make in PAGES.items():
        page, text = ROOT / name, make()
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{name} is not up to date; type: make docs", file=sys.stderr)
            stale += 1
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main())
