"""`recdistill VERB`: finds the verb, runs it, and turns every error into one sentence. Each verb is one step.

Exit codes: 0 done; 1 something unexpected; 2 the command line or the settings; 3 data; 4 the log; 5 the teacher;
6 a checkpoint, bundle or device file; 7 the registry or the gate; 8 nothing was made; 130 interrupted. errors.py has
all errors.

It knows the names and groups of the verbs, but not what they do.

Example:
    >>> main(["--version"])
    recdistill 0.1.0
    0
"""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from recdistill import __version__
from recdistill.commands import (
    answer,
    begin,
    canary,
    completion,
    demo,
    doctor,
    evaluate,
    forget,
    imports,
    learn,
    ledger,
    letters,
    lineage,
    look,
    recipes,
    release,
    settings,
    status,
    streams,
    translate,
)
from recdistill.commands.verb import EXIT_INTERRUPTED, KNOWN, Verb
from recdistill.errors import OutputError, RecdistillError, UsageError
from recdistill.text import did_you_mean, printable, without_credentials

GROUPS: dict[str, tuple[str, ...]] = {
    "begin": ("demo", "doctor", "init", "settings", "completion"),
    "the stream": ("topics", "simulate", "import", "translate", "inspect", "dead-letters"),
    "from stream to student": ("teach", "score", "probe", "join", "recipes", "distil"),
    "from student to champion": (
        "evaluate",
        "export",
        "publish",
        "promote",
        "canary",
        "rollback",
        "versions",
        "ledger",
        "keys",
    ),
    "answers": ("serve", "recommend"),
    "watching": ("status", "lineage", "replay", "checkpoints", "forget"),
}
VERBS: dict[str, Verb] = {
    verb.name: verb
    for module in (
        demo,
        doctor,
        begin,
        settings,
        completion,
        streams,
        imports,
        translate,
        look,
        letters,
        recipes,
        learn,
        evaluate,
        release,
        canary,
        ledger,
        answer,
        status,
        forget,
        lineage,
    )
    for verb in module.VERBS
}
KNOWN.update(VERBS)
WORDS = {
    "log": "where all records are: a file, or Kafka. A topic is one kind of record in it.",
    "impression": "one list of items that a person was shown, or would be shown, with what the person did before.",
    "ranking": "an impression with the teacher's score of each item.",
    "example": "a ranking with labels: which items the person took. The student learns from examples.",
    "stage": "a process that reads topics and writes topics: translator, scorer, joiner, distiller.",
    "bundle": "a folder with one student and all that it needs to answer.",
    "gate": "the tests that a bundle must pass before it may serve.",
    "version": "a bundle that is registered, with a number. The registry keeps them.",
    "champion": "the version that serves now. The candidate is the version that was registered last.",
    "ledger": "the list of who changed the champion, when and why. `ledger verify` finds what was changed in it.",
    "ranker": "a process that serves the champion over HTTP.",
}
"""Words that the purposes of the verbs use. The longer list is docs/glossary.md."""

ALSO = {"distill": "distil"}
"""Other spellings of a verb."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: Arguments without the program's name. None: those of the process.

    Returns:
        The exit code.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    closed, stream = _open_what_is_closed(), sys.stdout
    _print_anything()
    sys.stdout = _Output(stream)
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
        if closed and not code:
            raise OutputError(f"standard output is closed{_UNPRINTED}")
        return code
    except RecdistillError as e:
        return _fail(str(e), e.exit_code, debug)
    except ModuleNotFoundError as e:
        package = (e.name or "").split(".")[0]
        if (line := doctor.how_to_get(package)) is None:
            return _fail(_unexplained(e), 1, debug)
        return _fail(f"this needs {package}, which is not installed; {line}", 1, debug)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED, debug)
    except BrokenPipeError:
        # The reader of our output is gone, as with `| head`. Nothing more can be printed there, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as e:  # noqa: BLE001 - a person gets a sentence; --debug shows the traceback
        return _fail(_unexplained(e), 1, debug)
    finally:
        sys.stdout = stream


_UNPRINTED = ", so the result could not be printed; what the verb did is done"


def _open_what_is_closed() -> bool:
    """Opens /dev/null for each standard stream that is closed (`>&-`). Returns whether that was the output.

    Otherwise the next file that is opened would get the stream's number, and what is printed would go into it.
    """
    closed = sys.stdout is None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as above
    return closed


class _Output:
    """Standard output whose errors are ours, so that they are not taken for those of a file that a verb writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes as the stream does."""
        with self._explained():
            return self._stream.write(text)

    def flush(self) -> None:
        """Flushes as the stream does."""
        with self._explained():
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as e:
            # What is left in the buffer must not fail again when the process ends.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise OutputError(f"standard output cannot be written ({e.strerror}){_UNPRINTED}") from e


def _print_anything() -> None:
    r"""Lets a terminal that lacks a character show `\u0417` instead: that is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        if len(argv) > 1 and argv[0] == "help":
            return _dispatch([argv[1], "--help"])
        print(overview(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"recdistill {__version__}")
        return 0
    verb = _find(argv[0])
    try:
        args = verb.parser().read(argv[1:])
    except SystemExit as e:  # argparse exits by itself after --help
        return int(e.code or 0)
    with _logs(quiet=args.quiet, verbose=args.verbose):
        return verb.run(args)


@contextmanager
def _logs(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Logs to stderr: warnings and errors of recdistill. Logs of libraries come only with `--verbose`."""
    levels = {
        "recdistill": logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING,
        "": logging.INFO if verbose else logging.CRITICAL,
        # torch has its own log handler. At every start it warns about a call of torchrec, which says nothing to a user.
        "torch.fx._symbolic_trace": logging.INFO if verbose else logging.ERROR,
    }
    root = logging.getLogger()
    root.addFilter(_from_a_library_s_root)
    logging.basicConfig(handlers=[_handler()])
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        root.removeFilter(_from_a_library_s_root)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _from_a_library_s_root(record: logging.LogRecord) -> bool:
    """Lets through what a library warns of by the root logger itself. fbgemm writes 20 other lines there."""
    return record.levelno >= logging.WARNING


class _Lines(logging.Formatter):
    """Lines for people. Libraries may log an address with its password, so each line is cleaned."""

    def format(self, record: logging.LogRecord) -> str:
        return without_credentials(super().format(record))


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(levelname)s %(name)s: %(message)s"))
    return handler


def _find(name: str) -> Verb:
    known = ALSO.get(name, name)
    if known in VERBS:
        return VERBS[known]
    if name.startswith("-"):
        raise UsageError(f"unknown option {name}; options come after the verb, see `recdistill --help`")
    hint = did_you_mean(name, VERBS, otherwise="see `recdistill --help` for all")
    raise UsageError(f"there is no verb {name!r}; {hint}")


def overview() -> str:
    """The text of `recdistill --help`."""
    lines = [
        "usage: recdistill VERB [options]       recdistill VERB --help",
        "",
        "recdistill makes a small, quick ranking model (the student) from a large one (the teacher).",
        "The student goes on learning from new lists, and answers over HTTP, on phones and in browsers.",
    ]
    for group, names in GROUPS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {name:12} {VERBS[name].purpose}" for name in names if name in VERBS]
    lines += ["", "words:"]
    lines += [f"  {word:12} {meaning}" for word, meaning in WORDS.items()]
    lines += [
        "",
        "Start with `recdistill demo`. `recdistill doctor` says what this machine lacks.",
        "Settings are in the file of --config. An environment variable RECDISTILL__SECTION__KEY changes one of them.",
        "--set SECTION.KEY=VALUE changes one for this call. --set wins over the environment, the environment over the",
        "file.",
    ]
    return "\n".join(lines)


def _fail(sentence: str, code: int, debug: bool) -> int:
    """Prints one sentence on stderr. Characters that control a terminal are removed."""
    with suppress(OSError):  # where the sentence cannot be written either, the exit code says it
        if debug:
            traceback.print_exc()
        print("error: " + printable(without_credentials(" ".join(sentence.split()))), file=sys.stderr)
    return code


def _unexplained(error: Exception) -> str:
    return f"{type(error).__name__}: {error}; recdistill should have explained this: run it again with --debug"


if __name__ == "__main__":
    sys.exit(main())
