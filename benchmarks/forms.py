"""The two forms of a benchmark: the long one, whose figures the pages show, and a short one, which `make bench` runs.

A benchmark makes its `Options` in a function `options()`, so that a test can check every command of the pages. There it
also says what is smaller in the short form. When a benchmark does not find what it needs, it ends with one sentence and
the exit status `ABSENT`. Then `make bench` goes on to the next one.

It knows nothing of what is measured.

Example:
    >>> some = Options("How long is a step?", steps=3)
    >>> _ = some.add_argument("--steps", type=int, default=100)
    >>> [some.parse_args(words).steps for words in ([], ["--short"], ["--short", "--steps", "7"])]
    [100, 3, 7]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

ABSENT = 77
"""Exit status: nothing failed, but what is asked for cannot be measured here."""


class Options(argparse.ArgumentParser):
    """Options of one benchmark.

    Args:
        text: The benchmark's own description.
        short: Other defaults for `--short`, by the names of the options.
    """

    def __init__(self, text: str | None, **short: object) -> None:
        super().__init__(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.short = short
        self.add_argument("--short", action="store_true", help="a small measurement, in a minute or two")

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """As argparse does, with the short form's defaults where `--short` is given."""
        words = sys.argv[1:] if args is None else list(args)
        if "--short" in words:
            self.set_defaults(**self.short)
        return super().parse_known_args(words, namespace)


def absent(why: str) -> NoReturn:
    """Ends a benchmark that lacks something, with one sentence."""
    print(f"not measured: {why}", file=sys.stderr)
    raise SystemExit(ABSENT)
