"""All exceptions. Every failure that a person can repair is one of these. It says what is wrong, where, and what to do.

    RecdistillError                 exit 1
    ├── OutputError                 exit 1   a result that could not be printed
    ├── UsageError                  exit 2   a wrong command line or call
    ├── ConfigError                 exit 2   settings, recipes or feature specifications that do not fit
    ├── DataError                   exit 3   a file or table from outside that cannot be used
    │   ├── DecodeError             exit 3   bytes that are not the record they should be
    │   ├── TooManyBad              exit 3   a stage that halts, because too many of the last records cannot be used
    │   └── AheadOfTime             exit 3   a record whose time is too far ahead of the others, or of the log
    ├── RequestError                exit 3   a request that the endpoint or the recommender refuses; names the field
    ├── StreamError                 exit 4   a log that cannot be read or written
    │   ├── PositionError           exit 4   a position that cannot be used; the caller says how it can go on
    │   │   ├── OutOfRange          exit 4   a saved position that the log no longer (or not yet) holds
    │   │   ├── WrongLog            exit 4   another cluster, topic or partition count than the one saved
    │   │   │   └── LogChanged      exit 4   a log or a topic that became another one while it was used
    │   │   └── LostPosition        exit 4   a stage that ran before, and whose position the log does not hold
    │   ├── Unwritable              exit 4   messages that the log does not take; it takes the others
    │   ├── Damaged                 exit 4   a message whose bytes have changed since it was written
    │   ├── SchemaAway              exit 4   a schema registry that does not answer; it is asked again
    │   └── Fenced                  exit 4   a newer process has taken over this stage
    ├── Interrupted                 exit 130 work that a signal stopped before its end
    ├── TeacherError                exit 5   a teacher that cannot be loaded, or that failed on a list
    │   └── TeacherAway             exit 5   a teacher's server that does not answer; it is asked again
    ├── CheckpointError             exit 6   no checkpoint that verifies, or one of another shape
    ├── BundleError                 exit 6   a bundle or device file that does not verify
    ├── RegistryError               exit 7   a registry that does not answer
    │   ├── NoRoom                  exit 7   a full disk, where bundles are fetched, judged and registered
    │   ├── LedgerError             exit 7   a ledger that is not as it was written
    │   └── Refused                 exit 7   a promotion that the gate or the fence did not let through
    └── NothingMade                 exit 8   a run that ended in order, and made nothing of what it read

It knows nothing of the rest of the package.

Example:
    >>> str(RequestError("k", "must be between 1 and 1000, not 0"))
    'k: must be between 1 and 1000, not 0'
"""

from __future__ import annotations


class RecdistillError(Exception):
    """Base of all errors that a person can repair. `exit_code` is the exit code of the command line."""

    exit_code = 1


class OutputError(RecdistillError):
    """A result that could not be printed: standard output is closed or full."""


class UsageError(RecdistillError):
    """A wrong command line or a wrong call."""

    exit_code = 2


class ConfigError(RecdistillError):
    """Settings, a recipe or a feature specification that does not fit."""

    exit_code = 2


class DataError(RecdistillError):
    """A file or a table from outside that cannot be used."""

    exit_code = 3


class DecodeError(DataError):
    """Bytes that are not the record they should be."""


class AheadOfTime(DataError):
    """A record whose time is too far ahead of the records around it, or of the time when the log took it."""


class TooManyBad(DataError):
    """Too many of the last records cannot be used, so the stage halts before it writes their dead letters."""


class RequestError(RecdistillError):
    """A request that is refused.

    Args:
        field: Path of the field that is wrong, as the caller wrote it (`history[3].item`).
        problem: What is wrong with it, and what is right.
    """

    exit_code = 3

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class StreamError(RecdistillError):
    """A log that cannot be read or written."""

    exit_code = 4


class PositionError(StreamError):
    """A position that cannot be used.

    Args:
        facts: What is wrong.
        ways: What can safely be done. A stage that knows it better says its own. Empty: `facts` says it already.
    """

    def __init__(self, facts: str, ways: str = "") -> None:
        super().__init__(f"{facts}; {ways}" if ways else facts)
        self.facts, self.ways = facts, ways


class OutOfRange(PositionError):
    """A saved position that the log does not hold. It is before the beginning (retention) or after the end."""


class WrongLog(PositionError):
    """Another cluster, topic or partition count than the one that was saved."""


class LogChanged(WrongLog):
    """A log or a topic that was removed, made again or given more partitions while this process used it."""


class LostPosition(PositionError):
    """A stage that ran before, and whose position the log does not hold any more."""


class Unwritable(StreamError):
    """Messages of a transaction that the log does not take. Without them the transaction can be written.

    Args:
        sentence: Why.
        places: Their numbers in the order of `send`, from 0; empty where one call of `send` was refused.
        untimely: Whether it is their time that is not taken; with another time they may be.
    """

    def __init__(self, sentence: str, places: tuple[int, ...] = (), *, untimely: bool = False) -> None:
        super().__init__(sentence)
        self.places, self.untimely = places, untimely


class Damaged(StreamError):
    """A message whose bytes have changed since it was written."""


class SchemaAway(StreamError):
    """A schema registry that does not answer, or not now. Asking again may help."""


class Fenced(StreamError):
    """A newer process has taken over this stage; this one must stop."""


class Interrupted(RecdistillError):
    """Work that a signal stopped before its end. The sentence says how far it came, and how to go on."""

    exit_code = 130


class TeacherError(RecdistillError):
    """A teacher that cannot be loaded, or that failed on a list."""

    exit_code = 5


class TeacherAway(TeacherError):
    """A teacher's server that does not answer, or not yet. Asking again may help."""


class CheckpointError(RecdistillError):
    """No checkpoint that verifies, or one of another shape."""

    exit_code = 6


class BundleError(RecdistillError):
    """A bundle or a device file that does not verify."""

    exit_code = 6


class RegistryError(RecdistillError):
    """A registry that does not answer or does not hold what was asked for."""

    exit_code = 7


class NoRoom(RegistryError):
    """A full disk, where bundles are fetched, judged and registered. It is not waited for: somebody has to free space.

    Args:
        where: The folder or registry that has no room.
        doing: What was going on, as the end of "cannot …".
    """

    def __init__(self, where: str, doing: str) -> None:
        super().__init__(
            f"{where}: cannot {doing}: there is no space left on the disk; free some disk space and start again; "
            "nothing was lost"
        )


class LedgerError(RegistryError):
    """A ledger that is not as it was written: an entry was changed, taken out, moved, forged or cut off."""


class Refused(RegistryError):
    """A promotion that the gate or the fence did not let through.

    Args:
        reasons: One sentence for each reason.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("promotion refused: " + "; ".join(reasons))
        self.reasons = reasons


class NothingMade(RecdistillError):
    """A run that ended in order, and made nothing of what it read: nothing was scored, joined or learnt."""

    exit_code = 8
