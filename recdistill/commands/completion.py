"""The verb `completion`: prints a script with which a shell completes verbs, options and settings.

It knows no verb by name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recdistill.commands.verb import KNOWN, Parser, Verb, one_of


def _options(parser: Parser) -> None:
    parser.add_argument("shell", type=one_of("bash", "zsh", "tcsh"), metavar="bash|zsh|tcsh", help="your shell")


def _completion(args: argparse.Namespace) -> int:
    import shtab

    keys = " ".join(f"{key}=" for key in _keys())
    settings = {"bash": "_recdistill_settings", "zsh": f"({keys})", "tcsh": f"({keys})"}
    whole = Parser(prog="recdistill", description="Makes a small ranking model from a large one.")
    verbs = whole.add_subparsers(dest="verb")
    for verb in KNOWN.values():
        parser = verbs.add_parser(verb.name, help=verb.purpose, parents=[verb.parser()], add_help=False)
        for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
            if action.dest == "changes":
                action.complete = settings  # type: ignore[attr-defined]
            elif action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    preamble: Any = {"bash": f'_recdistill_settings() {{ compgen -W "{keys}" -- "$1"; }}'}
    print(shtab.complete(whole, args.shell, preamble=preamble))
    return 0


def _keys() -> list[str]:
    """Every setting, as `--set` takes it."""
    import msgspec

    from recdistill.commands.settings import flat
    from recdistill.config import Settings

    return list(flat(msgspec.to_builtins(Settings())))


VERBS = (
    Verb(
        name="completion",
        purpose="Print a script for your shell: the Tab key then completes verbs, options and settings.",
        when="Write the script into the file where your shell looks for it. In bash: "
        "~/.local/share/bash-completion/completions/recdistill. In zsh: the file _recdistill in a folder of $fpath. "
        "Do it again after an update of recdistill.",
        examples=("completion bash > recdistill.bash", "completion zsh > _recdistill"),
        options=_options,
        run=_completion,
        settings=False,
        machine=False,
    ),
)
