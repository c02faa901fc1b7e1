"""The parts that all verbs share: help, parser, settings, progress bar and stop signal.

It knows no verb by name.

Example:
    >>> import argparse
    >>> between(1, 9)("3")
    3
    >>> one_of("simulated", "ml-100k")("simulatd")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: must be simulated or ml-100k, not 'simulatd'; did you mean 'simulated'?
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from recdistill.errors import UsageError
from recdistill.stopping import Stop
from recdistill.text import did_you_mean, near

if TYPE_CHECKING:
    from recdistill.bundle import Hold
    from recdistill.config import Settings
    from recdistill.stream import Place

EXIT_INTERRUPTED = 130

MOST_OF_A_REASON = 600
"""Characters of a reason in a list of many: two refused checks are whole, a verdict of all checks is cut."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence. For an unknown option it names what is like it."""

    def error(self, message: str) -> NoReturn:
        """Raises the message that argparse would print.

        Raises:
            UsageError: Always.
        """
        message = message.removeprefix("argument ")
        raise UsageError(f"{message}; see `{self.prog} --help`")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parses all arguments.

        Raises:
            UsageError: An argument is not known or does not fit.
        """
        args, unknown = self.parse_known_args(argv)
        if unknown:
            self._refuse(unknown[0])
        return args

    def _refuse(self, argument: str) -> NoReturn:
        if not argument.startswith("-"):
            self.error(f"unexpected argument {argument!r}")
        name = argument.partition("=")[0]
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        # Without the dashes: all names share them, and would be alike.
        meant = {option.lstrip("-"): option for action in shown for option in action.option_strings}
        plain = {str(action.metavar or action.dest).lower(): action for action in shown if not action.option_strings}
        found = near(name.lstrip("-"), [*meant, *plain])
        if found in meant:
            raise UsageError(f"unknown option {name}; did you mean {meant[found]}?")
        if found in plain:
            self.error(f"unknown option {name}; {found.upper()} is written without an option before it")
        self.error(f"unknown option {name}")


@dataclass(frozen=True)
class Verb:
    """One step of the product on the command line.

    Attributes:
        name: The word that is typed.
        purpose: One sentence that says what it does.
        when: When a person needs it, and what it makes.
        examples: Command lines, without the `recdistill`.
        options: Adds the options that only this verb has.
        run: Runs the verb and returns the exit code.
        settings: Whether it takes `--config` and `--set`.
        machine: Whether it takes `--json`.
    """

    name: str
    purpose: str
    when: str
    examples: tuple[str, ...]
    options: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]
    settings: bool = True
    machine: bool = True

    def parser(self) -> Parser:
        """Its parser, with the options that all verbs have."""
        lines = "\n".join(f"  recdistill {example}" for example in self.examples)
        parser = Parser(
            prog=f"recdistill {self.name}",
            description=f"{self.purpose}\n\n{textwrap.fill(self.when, 100)}",
            epilog=f"examples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.options(parser)
        common = parser.add_argument_group("everywhere")
        if self.settings:
            common.add_argument(
                "--config",
                type=Path,
                metavar="FILE",
                help="file with settings, in TOML (default: the file that the environment variable RECDISTILL_CONFIG "
                "names; without it, the built-in settings)",
            )
            common.add_argument(
                "--set",
                dest="changes",
                action="append",
                default=[],
                metavar="SECTION.KEY=VALUE",
                help="change one setting for this call only. May be given several times",
            )
        if self.machine:
            common.add_argument("--json", action="store_true", help="print the result as JSON, for other programs")
        common.add_argument("--quiet", action="store_true", help="show no progress bars and no warnings")
        common.add_argument("--verbose", action="store_true", help="print more about what happens")
        common.add_argument("--debug", action="store_true", help="print where in the code an error happened")
        return parser


KNOWN: dict[str, Verb] = {}
"""Every verb by its name. The command line fills it."""


# Types of options


@contextmanager
def telling(args: argparse.Namespace, begins: str = "", *, of: str = "recdistill.loops") -> Iterator[None]:
    """Lets a loop say what it does while it runs: which version serves, what was judged, which bundle was made.

    Args:
        args: The arguments of the call; with `--quiet` nothing is said.
        begins: What to say at the start.
        of: Whose log is told.
    """
    logger = logging.getLogger(of)
    before = logger.level
    if not args.quiet:
        logger.setLevel(logging.INFO)
        if begins:
            print(begins, file=sys.stderr, flush=True)
    try:
        yield
    finally:
        logger.setLevel(before)


def between(low: int, high: int | None = None) -> Callable[[str], int]:
    """The type of a whole number within bounds."""
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"

    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}, not {text[:100]!r}")
        return value

    return whole


def share(text: str) -> float:
    """The type of a share above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share above 0 and at most 1, not {text[:100]!r}")
    return value


def one_of(*values: str) -> Callable[[str], str]:
    """The type of a word that must be one of a few."""

    def word(text: str) -> str:
        if text not in values:
            hint = did_you_mean(text, values)
            allowed = ", ".join(values[:-1]) + f" or {values[-1]}"
            raise argparse.ArgumentTypeError("; ".join(filter(None, [f"must be {allowed}, not {text[:100]!r}", hint])))
        return text

    return word


PLACES = (
    "a time (2026-01-31T12:00:00Z, or @SECONDS since 1970) or a position (examples/0:1200, or only 1200 where there is "
    "one partition)"
)
"""What `place` takes, for the help of an option."""


def place(text: str) -> Place:
    """The type of a time or a position in the log."""
    from recdistill.stream import read_place

    return read_place(text)


# Helpers for running verbs


def settings_of(args: argparse.Namespace, *, makes: str = "") -> Settings:
    """The settings of a call: file, environment, then `--set`.

    Args:
        args: The call.
        makes: A file that the verb will write. It may be missing when `RECDISTILL_CONFIG` names it: a shell often has
            that from an earlier folder.

    Raises:
        ConfigError: Something in them does not fit.
        UsageError: A `--set` is not SECTION.KEY=VALUE.
    """
    from recdistill.config import PREFIX, load_settings

    env = dict(os.environ)
    if makes and env.get("RECDISTILL_CONFIG") == makes and not Path(makes).exists():
        del env["RECDISTILL_CONFIG"]
    for change in args.changes:
        path, equals, value = change.partition("=")
        parts = path.strip().split(".")
        if not equals or len(parts) < 2 or not all(parts):
            raise UsageError(f"--set {change!r}: must be SECTION.KEY=VALUE, as in --set student.dim=32")
        if path != path.lower():
            raise UsageError(f"--set {change!r}: a key with capital letters can only be set in the --config file")
        env[PREFIX + "__".join(parts).upper()] = value
    return load_settings(args.config, env)


class Bar:
    """A progress bar on stderr. Loops report their progress by calling it. It is silent if stderr is no terminal.

    Args:
        title: What is being done.
        args: The call: `--quiet` turns the bar off.
    """

    def __init__(self, title: str, args: argparse.Namespace) -> None:
        self._title = title
        self._figures: dict[str, str] = {}
        self._shown = sys.stderr.isatty() and not args.quiet
        self._bar: Any = None

    def __call__(self, done: int, total: int | None) -> None:
        """Shows `done` of `total`. None: there is no end."""
        if not self._shown:
            return
        if self._bar is None or self._bar.total != total:
            from tqdm import tqdm

            self.close()
            self._bar = tqdm(total=total, desc=self._title, file=sys.stderr, leave=False)
            self._bar.set_postfix(self._figures, refresh=False)
        self._bar.update(done - self._bar.n)

    def tell(self, figures: Mapping[str, float]) -> None:
        """Shows figures beside the count, from the next call on: the loss, and how good it is where that is known."""
        self._figures = {name: f"{value:.3g}" for name, value in figures.items()}
        if self._bar is not None:
            self._bar.set_postfix(self._figures, refresh=False)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """A stop signal. SIGTERM and the first Ctrl-C set it; the second Ctrl-C interrupts at once."""
    stop = Stop()

    def on_signal(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            # os.write, because a signal handler may run in the middle of a print.
            os.write(2, b"\nstopping when the present work is done; Ctrl-C again stops at once\n")
        stop.ask()

    if threading.current_thread() is not threading.main_thread():
        yield stop  # Only the main thread may handle signals.
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show(args: argparse.Namespace, result: Mapping[str, Any], text: str) -> None:
    """Prints a result: as JSON with `--json`, otherwise as text."""
    print(json.dumps(result, indent=2, default=str) if args.json else text)


def counted(counts: Mapping[str, int], nothing: str) -> str:
    """Counts, written for people."""
    return ", ".join(f"{value:,} {name}" for name, value in counts.items() if value) or nothing


_HELD: list[Hold] = []
"""Bundles that this process uses until it ends. A running distiller must not prune them."""


def newest_bundle(directory: str) -> Path:
    """The distiller's newest bundle.

    Raises:
        BundleError: There is none yet.
    """
    from recdistill.bundle import Hold, made
    from recdistill.errors import BundleError

    bundles = Path(directory) / "bundles"
    found = made(bundles)
    if not found:
        raise BundleError(f"{bundles}: holds no bundle yet; `recdistill distil --drain` makes one, or name a folder")
    _HELD.append(Hold(found[-1]))
    return found[-1]
